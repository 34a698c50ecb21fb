//! Tar archives (POSIX ustar, with pax for what is long): read for a file of a container, written for a build.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub(crate) const BLOCK: usize = 512;

/// A regular file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub content: Vec<u8>,
}

/// The first regular file of an archive. `None`: it holds none. One of more than `bytes_max` is an error.
pub fn first_file(mut archive: impl Read, bytes_max: u64) -> io::Result<Option<File>> {
    let mut header = [0; BLOCK];
    loop {
        match archive.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let size = number(&header[124..136])?;
        let is_file = matches!(header[156], b'0' | 0);
        if size > bytes_max {
            return Err(io::Error::other(format!("a file of {size} bytes; {bytes_max} are allowed")));
        }
        if is_file {
            let mut content = vec![0; usize::try_from(size).map_err(io::Error::other)?];
            archive.read_exact(&mut content)?;
            let small = |field: &[u8]| u32::try_from(number(field)?).map_err(io::Error::other);
            let (mode, uid, gid) =
                (small(&header[100..108])?, small(&header[108..116])?, small(&header[116..124])?);
            return Ok(Some(File { uid, gid, mode, content }));
        }
        let padded = size.div_ceil(BLOCK as u64) * BLOCK as u64;
        let skipped = io::copy(&mut archive.by_ref().take(padded), &mut io::sink())?;
        if skipped < padded {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Octal digits; more than fit are refused.
fn number(field: &[u8]) -> io::Result<u64> {
    let text: String = field.iter().map(|byte| char::from(*byte)).filter(char::is_ascii_graphic).collect();
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(&text, 8)
        .map_err(|_| io::Error::other(format!("no number in a tar archive: {text:?}")))
}

/// What is written of one thing before its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative.
    pub path: PathBuf,
    pub kind: Kind,
    pub size: u64,
    pub mode: u32,
    pub modified_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    /// Where it leads.
    Link(PathBuf),
}

impl Entry {
    /// With the blocks that say what is too long for the header itself (pax).
    pub fn header(&self) -> Vec<u8> {
        let mut path = self.path.as_os_str().as_bytes().to_vec();
        let (kind, target) = match &self.kind {
            Kind::File => (b'0', Vec::new()),
            Kind::Folder => {
                path.push(b'/');
                (b'5', Vec::new())
            }
            Kind::Link(target) => (b'2', target.as_os_str().as_bytes().to_vec()),
        };
        let mut records = Vec::new();
        for (name, value) in [("path", &path), ("linkpath", &target)] {
            if value.len() > NAME_BYTES {
                records.extend(record(name, value));
            }
        }
        if self.size > SIZE_MAX {
            records.extend(record("size", self.size.to_string().as_bytes()));
        }
        let mut bytes = Vec::new();
        if !records.is_empty() {
            bytes.extend(block(b"pax", b'x', b"", records.len() as u64, 0o644, self.modified_s));
            bytes.extend(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend(block(&path, kind, &target, self.size, self.mode, self.modified_s));
        bytes
    }
}

const NAME_BYTES: usize = 100;
/// Eleven octal digits.
const SIZE_MAX: u64 = 0o77_777_777_777;

/// `length key=value\n`; the length counts its own digits.
fn record(name: &str, value: &[u8]) -> Vec<u8> {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", name.as_bytes(), b"=", value, b"\n"].concat()
}

fn block(path: &[u8], kind: u8, target: &[u8], size: u64, mode: u32, modified_s: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &path[..path.len().min(NAME_BYTES)]);
    put(100, format!("{mode:07o}").as_bytes());
    // Everything belongs to root in an image.
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", size.min(SIZE_MAX)).as_bytes());
    put(136, format!("{:011o}", modified_s.min(SIZE_MAX)).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &target[..target.len().min(NAME_BYTES)]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}
