//! Reads the log files of instances, while they are written: what is there, and what comes. The launcher is not asked:
//! logs can be read when it is dead.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sinew_node::folders::{Folders, InstanceFolder};
use sinew_spec::log::{FILE, FILE_OLD, LINE_BYTES_MAX, NOTE, Stream, parse};
use sinew_spec::name::InstanceName;

/// One line of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub unix_ms: Option<u64>,
    pub instance: InstanceName,
    #[serde(serialize_with = "stream_name")]
    pub stream: Stream,
    pub text: String,
}

/// Which lines of the past are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past {
    /// The last ones of each instance; `None`: all that are kept.
    pub tail: Option<usize>,
    pub since_unix_ms: Option<u64>,
}

/// Reads on in the files of some instances.
#[derive(Debug, Default)]
pub struct Reader {
    sources: BTreeMap<InstanceName, Source>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// The file that is read at present.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    /// The begin of a line whose end is not written yet.
    partial: Vec<u8>,
}

/// Read at once; an instance that writes more than this between two looks is read on at the next.
const READ_BYTES_MAX: usize = 256 * 1024;

impl Reader {
    /// Starts with an instance; what it wrote so far is returned as far as it is wanted. Known ones: nothing happens.
    pub fn add(&mut self, instance: &InstanceName, folder: &InstanceFolder, past: Past) -> Vec<Entry> {
        if self.sources.contains_key(instance) {
            return Vec::new();
        }
        let mut source = Source { path: folder.path.clone(), open: None };
        let mut entries = Vec::new();
        if past.tail == Some(0) {
            source.open = Open::at_end(&source.path.join(FILE)).ok();
        } else {
            if let Ok(mut old) = Open::at_start(&source.path.join(FILE_OLD)) {
                while old.read(instance, &mut entries) {}
            }
            while source.read(instance, &mut entries) {}
        }
        self.sources.insert(instance.clone(), source);
        if let Some(since) = past.since_unix_ms {
            entries.retain(|entry| entry.unix_ms.is_none_or(|unix_ms| unix_ms >= since));
        }
        if let Some(tail) = past.tail {
            entries.drain(..entries.len().saturating_sub(tail));
        }
        entries
    }

    /// What was written since the last look, in order of time.
    pub fn read(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (instance, source) in &mut self.sources {
            source.read(instance, &mut entries);
        }
        in_order(&mut entries);
        entries
    }
}

impl Source {
    /// True: there may be more at once.
    fn read(&mut self, instance: &InstanceName, entries: &mut Vec<Entry>) -> bool {
        let path = self.path.join(FILE);
        if self.open.is_none() {
            self.open = Open::at_start(&path).ok();
        }
        let Some(open) = &mut self.open else { return false };
        if open.read(instance, entries) {
            return true;
        }
        // Read to its end: has it been renamed, and a new one begun?
        let moved = std::fs::metadata(&path).is_ok_and(|now| now.ino() != open.inode);
        if moved {
            // Between the two looks the last lines may have come.
            while open.read(instance, entries) {}
            open.flush(instance, entries);
            self.open = None;
        }
        moved
    }
}

impl Open {
    fn at_start(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode, partial: Vec::new() })
    }

    fn at_end(path: &Path) -> io::Result<Self> {
        let mut open = Self::at_start(path)?;
        open.file.seek(SeekFrom::End(0))?;
        Ok(open)
    }

    /// True: there may be more at once.
    fn read(&mut self, instance: &InstanceName, entries: &mut Vec<Entry>) -> bool {
        let Ok(length) = (&mut self.file).take(READ_BYTES_MAX as u64).read_to_end(&mut self.partial) else {
            return false;
        };
        let mut start = 0;
        while let Some(end) = self.partial[start..].iter().position(|&byte| byte == b'\n') {
            entries.push(entry(instance, &self.partial[start..start + end]));
            start += end + 1;
        }
        self.partial.drain(..start);
        // No line is longer; whatever this is, it does not stay in memory.
        if self.partial.len() > LINE_BYTES_MAX + 64 {
            self.flush(instance, entries);
        }
        length == READ_BYTES_MAX
    }

    fn flush(&mut self, instance: &InstanceName, entries: &mut Vec<Entry>) {
        if !self.partial.is_empty() {
            entries.push(entry(instance, &std::mem::take(&mut self.partial)));
        }
    }
}

/// By time; lines of one instance stay in the order in which they were written.
pub fn in_order(entries: &mut [Entry]) {
    entries.sort_by_key(|entry| entry.unix_ms);
}

/// The last lines of an instance: what explains its end.
pub fn last_lines(folder: &InstanceFolder, instance: &InstanceName, number: usize) -> Vec<Entry> {
    Reader::default().add(instance, folder, Past { tail: Some(number), since_unix_ms: None })
}

/// The last line that the service itself wrote.
pub fn last_word(folder: &InstanceFolder, instance: &InstanceName) -> Option<Entry> {
    const LOOKED_AT: usize = 16;
    let is_ours = |entry: &Entry| entry.stream == Stream::Error && entry.text.starts_with(NOTE);
    last_lines(folder, instance, LOOKED_AT).into_iter().rev().find(|entry| !is_ours(entry))
}

/// Instances with a folder, as far as the folder tells their names.
pub fn instances_on_disk(folders: &Folders) -> Vec<(InstanceName, InstanceFolder)> {
    let known = folders.instance_folders().unwrap_or_default();
    let named = known.into_iter().filter_map(|folder| {
        let name = folder.path.file_name()?.to_str()?;
        Some((InstanceName::from(name), folder))
    });
    named.collect()
}

fn entry(instance: &InstanceName, line: &[u8]) -> Entry {
    let line = parse(line);
    Entry {
        unix_ms: line.unix_ms,
        instance: instance.clone(),
        stream: line.stream,
        text: String::from_utf8_lossy(line.text).trim_end_matches('\r').to_owned(),
    }
}

fn stream_name<S: serde::Serializer>(stream: &Stream, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match stream {
        Stream::Output => "stdout",
        Stream::Error => "stderr",
    })
}

#[cfg(test)]
mod tests;
