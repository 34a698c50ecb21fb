//! The context of a build: a folder of this host as a tar archive, without what its `.dockerignore` leaves out. It is
//! written as it is read, so that no copy of it lies anywhere.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::tar;

/// Of a `.dockerignore`.
const IGNORED_BYTES_MAX: u64 = 1024 * 1024;
const DEPTH_MAX: usize = 128;

/// Reading gives the archive.
pub struct Context {
    root: PathBuf,
    ignored: Vec<Pattern>,
    /// The engine cannot do without them, whatever is ignored.
    needed: [PathBuf; 2],
    /// Below the root, those of one folder in the order of their names.
    left: VecDeque<PathBuf>,
    /// Bytes that are due before the file goes on.
    head: VecDeque<u8>,
    file: Option<(io::Take<File>, u64)>,
    ended: bool,
}

struct Pattern {
    parts: Vec<String>,
    /// `!pattern`: not ignored after all.
    keeps: bool,
}

impl Context {
    /// `dockerfile`: below `root`.
    pub fn of(root: &Path, dockerfile: &Path) -> io::Result<Self> {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        let text = [root.join(own), root.join(".dockerignore")].iter().find_map(|path| {
            let mut text = String::new();
            File::open(path).ok()?.take(IGNORED_BYTES_MAX).read_to_string(&mut text).ok()?;
            Some(text)
        });
        let mut context = Self {
            root: root.to_path_buf(),
            ignored: text.unwrap_or_default().lines().filter_map(Pattern::parse).collect(),
            needed: [dockerfile.to_path_buf(), ".dockerignore".into()],
            left: VecDeque::new(),
            head: VecDeque::new(),
            file: None,
            ended: false,
        };
        context.enter(Path::new(""))?;
        Ok(context)
    }

    fn enter(&mut self, folder: &Path) -> io::Result<()> {
        if folder.components().count() > DEPTH_MAX {
            return Err(io::Error::other(format!("{} is nested too deeply", folder.display())));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(folder))? {
            names.push(folder.join(entry?.file_name()));
        }
        names.sort();
        for name in names.into_iter().rev() {
            self.left.push_front(name);
        }
        Ok(())
    }

    fn is_ignored(&self, path: &Path) -> bool {
        if self.needed.iter().any(|needed| needed.starts_with(path)) {
            return false;
        }
        let parts: Vec<String> =
            path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        // The last pattern that says something about it, or about a folder above it, counts.
        let said = self
            .ignored
            .iter()
            .rev()
            .find(|pattern| (1..=parts.len()).any(|length| matches(&pattern.parts, &parts[..length])));
        said.is_some_and(|pattern| !pattern.keeps)
    }

    /// A folder that is ignored is looked into when something below it may be kept.
    fn may_keep_below(&self) -> bool {
        self.ignored.iter().any(|pattern| pattern.keeps)
    }

    fn next_entry(&mut self) -> io::Result<()> {
        let Some(path) = self.left.pop_front() else {
            self.head.extend([0; 2 * tar::BLOCK]);
            self.ended = true;
            return Ok(());
        };
        let whole = self.root.join(&path);
        let found = fs::symlink_metadata(&whole)?;
        let is_ignored = self.is_ignored(&path);
        if found.is_dir() && (!is_ignored || self.may_keep_below()) {
            self.enter(&path)?;
        }
        if is_ignored {
            return Ok(());
        }
        let entry = |kind, size| tar::Entry {
            path: path.clone(),
            kind,
            size,
            mode: found.permissions().mode() & 0o7777,
            modified_s: u64::try_from(found.mtime()).unwrap_or(0),
        };
        if found.is_dir() {
            self.head.extend(entry(tar::Kind::Folder, 0).header());
        } else if found.is_symlink() {
            self.head.extend(entry(tar::Kind::Link(fs::read_link(&whole)?), 0).header());
        } else if found.is_file() {
            self.head.extend(entry(tar::Kind::File, found.len()).header());
            self.file = Some((File::open(&whole)?.take(found.len()), found.len()));
        }
        // Sockets, pipes and devices belong into no image.
        Ok(())
    }
}

impl Read for Context {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.head.is_empty() {
                return self.head.read(buffer);
            }
            if let Some((file, size)) = &mut self.file {
                let length = file.read(buffer)?;
                if length > 0 {
                    return Ok(length);
                }
                // It became shorter while it was read.
                let missing = usize::try_from(file.limit()).map_err(io::Error::other)?;
                let padding = (tar::BLOCK - (*size % tar::BLOCK as u64) as usize) % tar::BLOCK;
                self.head.extend(std::iter::repeat_n(0, missing + padding));
                self.file = None;
                continue;
            }
            if self.ended {
                return Ok(0);
            }
            self.next_entry()?;
        }
    }
}

impl Pattern {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (keeps, text) = match line.strip_prefix('!') {
            Some(text) => (true, text.trim()),
            None => (false, line),
        };
        let parts: Vec<String> =
            text.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
        (!parts.is_empty()).then_some(Self { parts, keeps })
    }
}

/// Parts of a pattern against parts of a path; `**` stands for any number of them.
fn matches(pattern: &[String], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            (0..=path.len()).any(|skipped| matches(rest, &path[skipped..]))
        }
        (Some((first, rest)), Some((name, below))) => {
            let (first, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            matches_name(&first, &name) && matches(rest, below)
        }
        _ => false,
    }
}

/// `*` any characters, `?` one, `[a-z]` one of these, `\x` x itself.
fn matches_name(pattern: &[char], name: &[char]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some('*'), _) => (0..=name.len()).any(|skipped| matches_name(&pattern[1..], &name[skipped..])),
        (Some('?'), Some(_)) => matches_name(&pattern[1..], &name[1..]),
        (Some('['), Some(first)) => match pattern.iter().position(|c| *c == ']') {
            Some(end) => in_set(&pattern[1..end], *first) && matches_name(&pattern[end + 1..], &name[1..]),
            None => false,
        },
        (Some('\\'), Some(first)) => pattern.get(1) == Some(first) && matches_name(&pattern[2..], &name[1..]),
        (Some(one), Some(first)) => one == first && matches_name(&pattern[1..], &name[1..]),
        _ => false,
    }
}

fn in_set(set: &[char], wanted: char) -> bool {
    let (negated, set) = match set.split_first() {
        Some(('^' | '!', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    let mut rest = set;
    while let Some((first, after)) = rest.split_first() {
        if let ['-', last, after @ ..] = after {
            found |= (*first..=*last).contains(&wanted);
            rest = after;
        } else {
            found |= *first == wanted;
            rest = after;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests;
