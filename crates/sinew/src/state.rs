//! The state folder's version: what an earlier version of this program left is brought up to date, step by step; what a
//! later one left is refused.
//!
//! A step writes files beside the present ones, into [`NEXT`]. When all of them are on the disk, the folder is marked
//! [`COMPLETE`]; from then on they take their places, whatever happens: a power cut before the mark leaves the old state,
//! one after it the new state, as the rest is done at the next start. The caller holds the application's lock.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod steps;
#[cfg(test)]
mod tests;

use steps::{STEPS, Step};

/// Of the state that this program reads and writes.
pub const VERSION: u32 = STEPS.len() as u32;

const VERSION_FILE: &str = "version.json";
const VERSION_BYTES_MAX: u64 = 4096;
/// Where a step leaves the files of the next version.
const NEXT: &str = "next";
/// In [`NEXT`]; holds the version that its files make.
const COMPLETE: &str = "complete";

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(
        "the state in {folder} was written by sinew {program} (state version {found}); this is sinew {own}, which reads up to version {VERSION}; nothing was changed",
        own = env!("CARGO_PKG_VERSION")
    )]
    Newer { folder: PathBuf, program: String, found: u32 },
    #[error(
        "{path} is damaged ({reason}): which version wrote the state cannot be told; nothing was changed"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error("bringing the state in {folder} from version {from} to {to}: {reason}; it is as it was before")]
    Step { folder: PathBuf, from: u32, to: u32, reason: String },
    #[error("{attempted} {path}: {source}")]
    Io { attempted: &'static str, path: PathBuf, source: io::Error },
}

impl StateError {
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Newer { .. } => Some(
                "run the newer sinew again, or restore the copy of the state folder that was made before the upgrade; a new, empty state folder gives new identities and empty volumes",
            ),
            Self::Damaged { .. } => Some("restore the state folder from a backup"),
            Self::Step { .. } => Some("the sinew that wrote it can still run it"),
            Self::Io { .. } => None,
        }
    }

    /// The host is as it should be: what is asked for cannot be done with this program.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Damaged { .. })
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    version: u32,
    /// Of the program that wrote it.
    program: String,
}

impl Stamp {
    fn own(version: u32) -> Self {
        Self { version, program: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// Makes the state in `folder` one of [`VERSION`], or leaves it as it is and says why. The version that it had, when it
/// was another one.
pub fn bring_up_to_date(folder: &Path) -> Result<Option<u32>, StateError> {
    bring_up_to(folder, &STEPS)
}

fn bring_up_to(folder: &Path, steps: &[Step]) -> Result<Option<u32>, StateError> {
    let target = steps.len() as u32;
    finish_what_was_begun(folder)?;
    let found = match read_stamp(folder)? {
        Some(stamp) if stamp.version > target => {
            let (folder, program, found) = (folder.to_owned(), stamp.program, stamp.version);
            return Err(StateError::Newer { folder, program, found });
        }
        Some(stamp) => stamp.version,
        // Version 0 had no stamp.
        None if folder.join("store.redb").exists() => 0,
        None => {
            write_stamp(folder, target)?;
            return Ok(None);
        }
    };
    for (from, step) in (found..target).zip(&steps[found as usize..]) {
        prepare(folder, from, *step)?;
        finish_what_was_begun(folder)?;
    }
    Ok((found < target).then_some(found))
}

/// Runs a step; nothing that is in use is touched.
fn prepare(folder: &Path, from: u32, step: Step) -> Result<(), StateError> {
    let next = folder.join(NEXT);
    DirBuilder::new().mode(0o700).create(&next).map_err(failed("making", &next))?;
    step(folder, &next).map_err(|reason| {
        // What cannot be removed now is removed by the next start.
        let _ = fs::remove_dir_all(&next);
        StateError::Step { folder: folder.to_owned(), from, to: from + 1, reason }
    })?;
    for path in files_in(&next)? {
        sync(&path)?;
    }
    sync(&next)?;
    write_synced(&next.join(COMPLETE), &(from + 1).to_string())?;
    sync(&next)
}

/// Files of a complete step take their places; those of an incomplete one go. Can be cut and done again at any point.
fn finish_what_was_begun(folder: &Path) -> Result<(), StateError> {
    let next = folder.join(NEXT);
    let complete = next.join(COMPLETE);
    let version = match fs::read_to_string(&complete) {
        Ok(text) => text.trim().parse::<u32>().ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(failed("reading", &complete)(source)),
    };
    let Some(version) = version else {
        return match fs::remove_dir_all(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", &next)(error)),
            _ => Ok(()),
        };
    };
    for path in files_in(&next)?.into_iter().filter(|path| *path != complete) {
        let place = folder.join(path.file_name().unwrap_or_default());
        fs::rename(&path, &place).map_err(failed("moving", &path))?;
    }
    sync(folder)?;
    write_stamp(folder, version)?;
    fs::remove_file(&complete).map_err(failed("removing", &complete))?;
    fs::remove_dir(&next).map_err(failed("removing", &next))
}

fn read_stamp(folder: &Path) -> Result<Option<Stamp>, StateError> {
    let path = folder.join(VERSION_FILE);
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(VERSION_BYTES_MAX).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("reading", &path)(source)),
        Ok(_) => {}
    }
    let damaged = |error: serde_json::Error| StateError::Damaged { path, reason: error.to_string() };
    serde_json::from_str(&text).map(Some).map_err(damaged)
}

fn write_stamp(folder: &Path, version: u32) -> Result<(), StateError> {
    let stamp = Stamp::own(version);
    let text = serde_json::to_string(&stamp).expect("numbers and text are JSON");
    let (path, draft) = (folder.join(VERSION_FILE), folder.join("version.new"));
    write_synced(&draft, &text)?;
    fs::rename(&draft, &path).map_err(failed("moving", &draft))?;
    sync(folder)
}

fn write_synced(path: &Path, text: &str) -> Result<(), StateError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(failed("writing", path))
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, StateError> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    read().map_err(failed("reading", folder))
}

fn sync(path: &Path) -> Result<(), StateError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("syncing", path))
}

fn failed(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { attempted, path, source }
}
