//! Making a tree what the host has now. Nothing is remembered between two times: what is shown is asked of the mounts
//! themselves, so a lost event costs nothing but time.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::entry::{self, Entry, Id};
use super::names::{Names, Role};
use super::{ENTRIES_MAX, Pace, Renewed, Tree};

/// One folder on its three sides.
struct Folder<'a> {
    original: OwnedFd,
    made: OwnedFd,
    seen: OwnedFd,
    names: &'a Names,
}

pub struct Renewal<'a> {
    tree: &'a Tree,
    pace: Pace,
    watch: &'a mut dyn FnMut(&OwnedFd),
    /// What lies at hidden names now; not shown under another name (a hard link) either.
    hidden: BTreeSet<Id>,
    done: Renewed,
}

impl<'a> Renewal<'a> {
    pub fn of(tree: &'a Tree, pace: Pace, watch: &'a mut dyn FnMut(&OwnedFd)) -> Renewed {
        let mut renewal = Self { tree, pace, watch, hidden: BTreeSet::new(), done: Renewed::default() };
        let root = || {
            let [original, made, seen] = [&tree.original, &tree.made, &tree.seen].map(OwnedFd::try_clone);
            Ok(Folder { original: original?, made: made?, seen: seen?, names: &tree.about.names })
        };
        match root() {
            Ok(root) => {
                renewal.find_hidden(&root.original, root.names);
                renewal.folder(&root);
            }
            Err(error) => renewal.trouble(OsStr::new(""), &error),
        }
        renewal.done
    }

    fn trouble(&mut self, name: &OsStr, error: &io::Error) {
        let tree = self.tree.about.path.display();
        self.done.trouble.get_or_insert_with(|| format!("show {} of {tree}: {error}", name.display()));
    }

    fn find_hidden(&mut self, original: &OwnedFd, names: &Names) {
        for (name, role) in names.iter() {
            let Ok(Some(entry)) = Entry::look(original.as_fd(), name) else { continue };
            match role {
                Role::Hidden => {
                    self.hidden.insert(entry.id());
                    if entry.is_link()
                        && let Ok(Some(behind)) = Entry::look_behind(original.as_fd(), name)
                        && behind.found.is_file()
                    {
                        self.hidden.insert(behind.id());
                    }
                }
                // By another name (some file systems know no difference between `a` and `A`) it would be shown whole.
                Role::Way(below) if entry.is_folder() => {
                    self.hidden.insert(entry.id());
                    if let Ok(folder) = entry::open_folder(original.as_fd(), name) {
                        self.find_hidden(&folder, below);
                    }
                }
                Role::Way(_) | Role::Kept | Role::Plain => {}
            }
        }
    }

    fn folder(&mut self, folder: &Folder<'_>) {
        // Before it is read: what changes afterwards is told.
        (self.watch)(&folder.original);
        let mut here = BTreeSet::new();
        match entries(&folder.made) {
            Ok(entries) => here.extend(entries.flatten()),
            Err(error) => return self.trouble(OsStr::new("the entries"), &error),
        }
        here.retain(|name| folder.names.role(name) != Role::Plain || self.entry(folder, name));
        for (name, role) in folder.names.iter() {
            match role {
                Role::Hidden => self.hidden_entry(folder, name),
                Role::Way(below) => self.way(folder, name, below),
                Role::Kept | Role::Plain => {}
            }
        }
        let listed = match entries(&folder.original) {
            Ok(listed) => listed,
            Err(error) => return self.trouble(OsStr::new("the entries"), &error),
        };
        for name in listed.flatten() {
            if here.contains(&name) || folder.names.role(&name) != Role::Plain {
                continue;
            }
            if here.len() >= ENTRIES_MAX {
                let reason = io::Error::other(format!(
                    "more than {ENTRIES_MAX} entries in a folder in which something is hidden; move what is hidden, or \
                     the many, to a folder of its own"
                ));
                return self.trouble(&name, &reason);
            }
            if self.entry(folder, &name) {
                here.insert(name);
            }
        }
    }

    /// True: something is shown there now.
    fn entry(&mut self, folder: &Folder<'_>, name: &OsStr) -> bool {
        self.try_entry(folder, name).unwrap_or_else(|error| {
            // The host goes on meanwhile.
            if error.kind() != io::ErrorKind::NotFound {
                self.trouble(name, &error);
            }
            // Whatever is there by now is not what it should be.
            entry::clear(folder.made.as_fd(), folder.seen.as_fd(), name).is_err()
        })
    }

    fn try_entry(&mut self, folder: &Folder<'_>, name: &OsStr) -> io::Result<bool> {
        let host = Entry::look(folder.original.as_fd(), name)?;
        let shown = Entry::look(folder.seen.as_fd(), name)?;
        let may_be_shown = |entry: &Entry| {
            !self.hidden.contains(&entry.id()) && (self.tree.about.sockets || !entry.is_socket())
        };
        let host = host.filter(may_be_shown);
        // What was shown may have become what is hidden: `mv new key`.
        let is_hidden_now = shown.as_ref().is_some_and(|shown| !may_be_shown(shown));
        let Some(host) = host.filter(|_| !is_hidden_now) else {
            entry::clear(folder.made.as_fd(), folder.seen.as_fd(), name)?;
            self.done.again |= is_hidden_now;
            return Ok(false);
        };
        if let Some(shown) = &shown
            && is_same(&host, shown)?
        {
            self.announce(folder, name, &host)?;
            return Ok(true);
        }
        if let Pace::Rested(now) = self.pace
            && !host.is_at_rest(now)
        {
            self.done.again = true;
            return Ok(shown.is_some());
        }
        self.show(folder, name, &host, shown.as_ref())?;
        Ok(true)
    }

    fn show(
        &mut self,
        folder: &Folder<'_>,
        name: &OsStr,
        host: &Entry,
        shown: Option<&Entry>,
    ) -> io::Result<()> {
        let (made, seen) = (folder.made.as_fd(), folder.seen.as_fd());
        if host.is_link() {
            entry::clear(made, seen, name)?;
            return entry::make_link(&host.target()?, made, name);
        }
        let mount = host.copy()?;
        let is_like = |shown: &Entry| !shown.is_link() && shown.is_folder() == host.is_folder();
        if !(shown.is_some_and(is_like) && Entry::exchange(&mount, seen, name).is_ok()) {
            entry::clear(made, seen, name)?;
            if host.is_folder() {
                entry::make_folder(made, name, 0)?;
            } else {
                entry::make_file(made, name)?;
            }
            Entry::attach_to(&mount, seen, name)?;
        }
        self.announce(folder, name, host)
    }

    fn announce(&self, folder: &Folder<'_>, name: &OsStr, host: &Entry) -> io::Result<()> {
        if !host.found.is_file() {
            return Ok(());
        }
        let place = Entry::look(folder.made.as_fd(), name)?;
        match place {
            Some(place) if place.found.modified()? != host.found.modified()? => {
                entry::announce(folder.made.as_fd(), name, &host.found)
            }
            _ => Ok(()),
        }
    }

    /// Something empty that nobody can read, as long as the host has something there.
    fn hidden_entry(&mut self, folder: &Folder<'_>, name: &OsStr) {
        let made = folder.made.as_fd();
        let cover = || -> io::Result<()> {
            match (Entry::look(folder.original.as_fd(), name)?, Entry::look(made, name)?) {
                (Some(host), None) if host.is_folder() => entry::make_folder(made, name, 0),
                (Some(_), None) => entry::make_file(made, name),
                // It stays when something of the seal's own is mounted there.
                (None, Some(cover)) => entry::remove(made, name, cover.is_folder()).or(Ok(())),
                _ => Ok(()),
            }
        };
        if let Err(error) = cover() {
            self.trouble(name, &error);
        }
    }

    /// A folder that is shown entry by entry too; when it is no folder, it is an entry like others.
    fn way(&mut self, folder: &Folder<'_>, name: &OsStr, below: &Names) {
        let result = match entry::open_folder(folder.original.as_fd(), name) {
            Ok(original) => self.enter(folder, name, original, below),
            Err(_) => {
                if let Ok(Some(nested)) = Nested::of(folder, name) {
                    self.empty(&nested.made, &nested.seen);
                }
                let is_no_folder = Entry::look(folder.original.as_fd(), name)
                    .is_ok_and(|host| host.is_some_and(|host| !host.is_folder()));
                if is_no_folder {
                    self.entry(folder, name);
                } else {
                    let _ = entry::clear(folder.made.as_fd(), folder.seen.as_fd(), name);
                }
                Ok(())
            }
        };
        if let Err(error) = result {
            self.trouble(name, &error);
        }
    }

    fn enter(
        &mut self,
        folder: &Folder<'_>,
        name: &OsStr,
        original: OwnedFd,
        below: &Names,
    ) -> io::Result<()> {
        let nested = match Nested::of(folder, name)? {
            Some(nested) => nested,
            None => {
                let (made, seen) = (folder.made.as_fd(), folder.seen.as_fd());
                entry::clear(made, seen, name)?;
                entry::make_folder(made, name, 0o700)?;
                let found = File::from(original.try_clone()?).metadata()?;
                let made = entry::open_folder(made, name)?;
                entry::make_alike(made.as_fd(), &found)?;
                Nested { made, seen: entry::open_folder(seen, name)? }
            }
        };
        self.folder(&Folder { original, made: nested.made, seen: nested.seen, names: below });
        Ok(())
    }

    /// The host has no such folder any more.
    fn empty(&mut self, made: &OwnedFd, seen: &OwnedFd) {
        let Ok(entries) = entries(made) else { return };
        for name in entries.flatten() {
            let folders = [entry::open_folder(made.as_fd(), &name), entry::open_folder(seen.as_fd(), &name)];
            if let [Ok(made), Ok(seen)] = &folders
                && is_one(made, seen)
            {
                self.empty(made, seen);
            }
            let _ = entry::clear(made.as_fd(), seen.as_fd(), &name);
        }
    }
}

/// A private folder below another one, not a mount.
struct Nested {
    made: OwnedFd,
    seen: OwnedFd,
}

impl Nested {
    fn of(folder: &Folder<'_>, name: &OsStr) -> io::Result<Option<Self>> {
        let made = entry::open_folder(folder.made.as_fd(), name);
        let seen = entry::open_folder(folder.seen.as_fd(), name);
        match (made, seen) {
            (Ok(made), Ok(seen)) if is_one(&made, &seen) => Ok(Some(Self { made, seen })),
            _ => Ok(None),
        }
    }
}

fn is_one(a: &OwnedFd, b: &OwnedFd) -> bool {
    let id = |folder: &OwnedFd| {
        Entry::look(folder.as_fd(), OsStr::new(".")).ok().flatten().map(|entry| entry.id())
    };
    id(a).is_some() && id(a) == id(b)
}

fn is_same(host: &Entry, shown: &Entry) -> io::Result<bool> {
    if host.is_link() && shown.is_link() {
        return Ok(host.target()? == shown.target()?);
    }
    Ok(host.id() == shown.id())
}

fn entries(folder: &OwnedFd) -> io::Result<impl Iterator<Item = io::Result<OsString>>> {
    let listed = fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
    Ok(listed.map(|entry| entry.map(|entry| entry.file_name())))
}
