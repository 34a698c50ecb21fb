//! Which program a process runs.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const COMPARE_BYTES: usize = 64 * 1024;

/// Whether a process runs what is at `path` now: names and versions say little about a build.
pub fn is_run_by(pid: i32, path: &Path) -> io::Result<bool> {
    let (mut running, mut present) = (File::open(format!("/proc/{pid}/exe"))?, File::open(path)?);
    let (one, other) = (running.metadata()?, present.metadata()?);
    if (one.dev(), one.ino()) == (other.dev(), other.ino()) {
        return Ok(true);
    }
    if one.len() != other.len() {
        return Ok(false);
    }
    // The same build, installed once more.
    let (mut left, mut right) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    loop {
        let (count, other_count) = (fill(&mut running, &mut left)?, fill(&mut present, &mut right)?);
        if left[..count] != right[..other_count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// As much as there is.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
