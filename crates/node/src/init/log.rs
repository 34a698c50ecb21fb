//! What the service says, in two files of bounded size, in the form that `spec::log` describes.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use sinew_spec::log::{FILE, FILE_OLD, LINE_BYTES_MAX, Stream, prefix};

/// A talkative service is written down this often, not line by line: flash wears out with every write.
const WRITE_EVERY: Duration = Duration::from_millis(250);
/// Writes that may follow one another at once after quiet times, so that single lines are there when they are said.
const CREDIT_MAX: u32 = 8;
/// What waits; more than this is written at once.
const PENDING_BYTES_MAX: usize = 32 * 1024;

pub struct Log {
    folder: OwnedFd,
    file: Option<File>,
    size: u64,
    size_max: u64,
    /// Complete lines that are written together. Lost when the init is killed.
    pending: Vec<u8>,
    /// Writes that may be done at once; one more comes with every [`WRITE_EVERY`].
    credit: u32,
    earned: Instant,
}

impl Log {
    pub fn open(folder: OwnedFd, size_max: u64, now: Instant) -> Self {
        let mut log = Self {
            folder,
            file: None,
            size: 0,
            size_max: size_max.max(4096),
            pending: Vec::new(),
            credit: CREDIT_MAX,
            earned: now,
        };
        log.reopen();
        log
    }

    /// Takes what ends with a line feed (or is too long to wait for one); `begun` keeps the rest. It is written now, or
    /// when [`Log::due`] says.
    pub fn add(&mut self, stream: Stream, begun: &mut Vec<u8>, bytes: &[u8], now_unix_ms: u64, now: Instant) {
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
        self.write_when_due(now);
    }

    /// How long what waits may wait; `None`: nothing waits.
    pub fn due(&self, now: Instant) -> Option<Duration> {
        let next = self.earned + WRITE_EVERY;
        (!self.pending.is_empty()).then(|| next.saturating_duration_since(now))
    }

    pub fn write_when_due(&mut self, now: Instant) {
        let periods = now.saturating_duration_since(self.earned).as_millis() / WRITE_EVERY.as_millis();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        self.earned += WRITE_EVERY.saturating_mul(periods);
        self.credit = self.credit.saturating_add(periods).min(CREDIT_MAX);
        if self.pending.is_empty() {
            return;
        }
        // Of a small file, a part: what is written together must fit.
        let waiting_max = PENDING_BYTES_MAX.min(usize::try_from(self.size_max / 4).unwrap_or(usize::MAX));
        if self.credit > 0 || self.pending.len() >= waiting_max {
            self.credit = self.credit.saturating_sub(1);
            self.flush();
        }
    }

    /// Gives back what only busy times need.
    pub fn rest(&mut self) {
        self.flush();
        self.pending = Vec::new();
    }

    /// The last line of a stream that ended without a line feed.
    pub fn end(&mut self, stream: Stream, begun: &mut Vec<u8>, now_unix_ms: u64) {
        if !begun.is_empty() {
            self.line(begun, &prefix(now_unix_ms, stream));
        }
        self.flush();
        *begun = Vec::new();
    }

    fn line(&mut self, text: &[u8], start: &str) {
        for part in text.chunks(LINE_BYTES_MAX).chain(text.is_empty().then_some(text)) {
            self.pending.extend(start.as_bytes());
            self.pending.extend(part.strip_suffix(b"\r").unwrap_or(part));
            self.pending.push(b'\n');
        }
    }

    /// Writes what waits. A full disk loses lines; the service goes on.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
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
