//! Folders of the host in which something must not be seen, or in which something lies that the host has not. A private
//! folder in memory stands for such a folder. What is not hidden is mounted into it, entry by entry; what is hidden is
//! in no mount at all, so nothing that happens on the host can uncover it. (A mount *over* a hidden file is taken away
//! by the kernel when the file is replaced by rename or removed.)
//!
//! Entries come, go and are replaced on the host: a tree is renewed by comparing both sides, whatever was the reason.
//! When that is late or fails, the service sees what was there before.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use self::entry::make_alike;
pub use self::names::Names;
use self::names::Role;
use super::sys;

mod entry;
mod names;
mod renew;

/// Of one folder; each becomes a mount. A folder that has more when a seal is made is refused; what comes beyond later
/// is not shown.
pub const ENTRIES_MAX: usize = 4 * 1024;
/// Descriptors of a tree that travel from its builder to the init: three folders and the names.
pub const DESCRIPTORS: usize = 4;
/// Names of one tree in the form in which they travel.
const NAMES_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One folder of the host as the service sees it, with the folders below it that have something hidden in them.
#[derive(Debug)]
pub struct Tree {
    /// The host's folder, through a mount at a place that no path leads to.
    original: OwnedFd,
    /// The private folder, through a mount that is attached nowhere: here it can be changed.
    made: OwnedFd,
    /// The private folder where the service sees it, read-only.
    seen: OwnedFd,
    about: About,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct About {
    /// For messages.
    path: OsString,
    names: Names,
    /// Whether Unix sockets that lie in it are shown.
    sockets: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File,
}

/// When what is new on the host is shown.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    AtOnce,
    /// Files only when nothing has been done to them for a moment before this time: the new content of a hidden file is
    /// often written beside it, and then renamed.
    Rested(SystemTime),
}

#[derive(Debug, Default)]
pub struct Renewed {
    /// Something is not shown yet because it is too new.
    pub again: bool,
    /// The first thing that went wrong. What it is about is shown as before, or not at all.
    pub trouble: Option<String>,
}

impl Tree {
    pub fn new(
        path: OsString,
        original: OwnedFd,
        made: OwnedFd,
        seen: OwnedFd,
        names: Names,
        sockets: bool,
    ) -> Self {
        Self { original, made, seen, about: About { path, names, sockets } }
    }

    /// Something of the seal's own comes to a path below the tree: the entry that the path leads through is left alone
    /// from now on. `place`: of what is mounted there. When it is the entry itself, an empty place of
    /// that kind takes its place: a mount on what is the host's would go when that is replaced.
    pub fn keep(&mut self, below: &Path, place: Option<Kind>) -> io::Result<()> {
        let mut names = &self.about.names;
        let (mut made, mut seen) = (self.made.try_clone()?, self.seen.try_clone()?);
        let mut parts = below.iter();
        while let Some(name) = parts.next() {
            match names.role(name) {
                Role::Way(deeper) if !parts.as_path().as_os_str().is_empty() => {
                    let folders =
                        (entry::open_folder(made.as_fd(), name), entry::open_folder(seen.as_fd(), name));
                    // It is no folder: an entry like others.
                    let (Ok(m), Ok(s)) = folders else { break };
                    (names, made, seen) = (deeper, m, s);
                }
                Role::Plain | Role::Hidden if parts.as_path().as_os_str().is_empty() => {
                    if let Some(kind) = place {
                        entry::clear(made.as_fd(), seen.as_fd(), name)?;
                        match kind {
                            Kind::Folder => entry::make_folder(made.as_fd(), name, 0o755)?,
                            Kind::File => entry::make_file(made.as_fd(), name)?,
                        }
                    }
                    break;
                }
                _ => break,
            }
        }
        self.about.names.keep(below);
        Ok(())
    }

    /// Makes everything in it what the host has now. `watch` gets each folder of the host before it is read.
    pub fn renew(&self, pace: Pace, watch: &mut dyn FnMut(&OwnedFd)) -> Renewed {
        renew::Renewal::of(self, pace, watch)
    }

    /// The private folder where the service sees it.
    pub fn seen(&self) -> &OwnedFd {
        &self.seen
    }

    /// What another process needs to go on: [`DESCRIPTORS`] of them.
    pub fn hand_over(self) -> io::Result<[OwnedFd; DESCRIPTORS]> {
        let about = sys::memory_file(c"names", false)?;
        let text = serde_json::to_vec(&self.about).map_err(io::Error::other)?;
        File::from(about.try_clone()?).write_all(&text)?;
        Ok([self.original, self.made, self.seen, about])
    }

    pub fn take_over([original, made, seen, about]: [OwnedFd; DESCRIPTORS]) -> io::Result<Self> {
        let mut file = File::from(about);
        file.rewind()?;
        let mut text = Vec::new();
        file.take(NAMES_BYTES_MAX).read_to_end(&mut text)?;
        let about = serde_json::from_slice(&text).map_err(io::Error::other)?;
        Ok(Self { original, made, seen, about })
    }
}

/// The root of a mount as a folder that can be read.
pub fn open_root(mount: &OwnedFd) -> io::Result<OwnedFd> {
    entry::open_folder(mount.as_fd(), std::ffi::OsStr::new("."))
}
