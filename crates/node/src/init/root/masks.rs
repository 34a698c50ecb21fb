//! What must not be seen, as paths of the host.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use sinew_spec::seal::SealSpec;

use super::search::{SEARCHED_MAX, unreadable};
use super::{ETC_MASKED, LINKS_MAX};
use crate::beneath::Writable;
use crate::init::layer::Names;

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, Default)]
pub struct Masks {
    /// Without links in them, but for the last part.
    paths: BTreeSet<PathBuf>,
}

impl Masks {
    /// What every seal hides, whatever the file says.
    /// `notes`: what was not searched.
    pub fn of_the_host(spec: &SealSpec, writable: &Writable, notes: &mut Vec<String>) -> Self {
        let etc = Path::new("/etc");
        let mut hidden: BTreeSet<PathBuf> = ETC_MASKED.iter().map(|name| etc.join(name)).collect();
        // Inside, root is the host's root to the file system: what only root may read is hidden.
        if spec.map_all_users {
            for folder in [etc, Path::new("/opt"), Path::new("/usr/local/etc")] {
                if !unreadable(folder, &mut { SEARCHED_MAX }, &mut hidden) {
                    notes.push(format!(
                        "{} has more than {SEARCHED_MAX} entries: what others may not read is hidden only as far as it \
                         was searched; give the service a `user:` that may not read it",
                        folder.display()
                    ));
                }
            }
        }
        Self::default().and(hidden.iter(), writable)
    }

    pub fn and<'a>(&self, paths: impl IntoIterator<Item = &'a PathBuf>, writable: &Writable) -> Self {
        let mut masks = self.clone();
        paths.into_iter().for_each(|path| masks.add(path, writable));
        masks
    }

    /// With every place that has a part in what the path means: a link on the way can be replaced by what it leads to.
    /// It need not exist.
    fn add(&mut self, path: &Path, writable: &Writable) {
        let mut at = PathBuf::from("/");
        let mut rest = parts(path);
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            at.push(&part);
            let Ok(target) = fs::read_link(&at) else { continue };
            let behind: PathBuf = rest.iter().rev().collect();
            // Joined with nothing, a path would end with a slash.
            self.paths.insert(if rest.is_empty() { at.clone() } else { at.join(behind) });
            links += 1;
            // A link that a service may have made says nothing about the rest of the host.
            if links > LINKS_MAX || !writable.follows(&at) {
                return;
            }
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(parts(&target));
        }
        self.paths.insert(at);
    }

    /// As seen from `folder`, a path without links.
    pub fn below(&self, folder: &Path) -> Names {
        let mut names = Names::default();
        for path in self.paths.iter().filter_map(|path| path.strip_prefix(folder).ok()) {
            names.hide(path);
        }
        names
    }

    pub fn paths_below(&self, folder: &Path) -> Vec<PathBuf> {
        let below = self.paths.iter().filter_map(|path| path.strip_prefix(folder).ok());
        below.filter(|below| !below.as_os_str().is_empty()).map(Path::to_path_buf).collect()
    }

    /// Whether `path`, without links, is hidden or lies in what is.
    pub fn hide(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.paths.contains(above))
    }
}

/// The last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    let mut parts: Vec<OsString> = path.components().filter_map(part).collect();
    parts.reverse();
    parts
}
