//! What the service says, in two files of bounded size, in the form that `spec::log` describes.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use sinew_spec::log::{FILE, FILE_OLD, LINE_BYTES_MAX, Stream, prefix};

pub struct Log {
    folder: OwnedFd,
    file: Option<File>,
    size: u64,
    size_max: u64,
    /// Complete lines that are written together.
    pending: Vec<u8>,
}

impl Log {
    pub fn open(folder: OwnedFd, size_max: u64) -> Self {
        let mut log = Self { folder, file: None, size: 0, size_max: size_max.max(4096), pending: Vec::new() };
        log.reopen();
        log
    }

    /// Writes what ends with a line feed (or is too long to wait for one); `begun` keeps the rest.
    pub fn add(&mut self, stream: Stream, begun: &mut Vec<u8>, bytes: &[u8], now_unix_ms: u64) {
        let start = prefix(now_unix_ms, stream);
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            begun.extend(&rest[..end]);
            self.line(begun, &start);
            begun.clear();
            rest = &rest[end + 1..];
        }
        begun.extend(rest);
        if begun.len() >= LINE_BYTES_MAX {
            self.line(begun, &start);
            begun.clear();
        }
        self.flush();
    }

    /// The last line of a stream that ended without a line feed.
    pub fn end(&mut self, stream: Stream, begun: &mut Vec<u8>, now_unix_ms: u64) {
        if !begun.is_empty() {
            self.line(begun, &prefix(now_unix_ms, stream));
            self.flush();
        }
        *begun = Vec::new();
    }

    fn line(&mut self, text: &[u8], start: &str) {
        for part in text.chunks(LINE_BYTES_MAX).chain(text.is_empty().then_some(text)) {
            self.pending.extend(start.as_bytes());
            self.pending.extend(part.strip_suffix(b"\r").unwrap_or(part));
            self.pending.push(b'\n');
        }
    }

    /// A full disk loses lines; the service goes on.
    fn flush(&mut self) {
        if self.size + self.pending.len() as u64 > self.size_max && self.size > 0 {
            self.file = None;
            let _ = renameat(self.folder.as_fd(), FILE, self.folder.as_fd(), FILE_OLD);
            self.reopen();
        }
        if let Some(file) = &mut self.file {
            if file.write_all(&self.pending).is_ok() {
                self.size += self.pending.len() as u64;
            }
        } else {
            self.reopen();
        }
        self.pending.clear();
    }

    fn reopen(&mut self) {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let opened = openat(self.folder.as_fd(), FILE, flags, Mode::from_bits_truncate(0o600));
        self.file = opened.ok().map(File::from);
        self.size = self.file.as_mut().and_then(|file| file.seek(SeekFrom::End(0)).ok()).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests;
