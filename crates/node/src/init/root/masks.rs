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

/// Without links in them, but for the last part.
#[derive(Clone, Debug, Default)]
pub struct Masks(BTreeSet<PathBuf>);

impl Masks {
    /// What every seal hides, whatever the file says.
    pub fn of_the_host(spec: &SealSpec, writable: &Writable) -> Self {
        let etc = Path::new("/etc");
        let mut hidden: BTreeSet<PathBuf> = ETC_MASKED.iter().map(|name| etc.join(name)).collect();
        // Inside, root is the host's root to the file system: what only root may read is hidden.
        if spec.map_all_users {
            for folder in [etc, Path::new("/opt"), Path::new("/usr/local/etc")] {
                unreadable(folder, &mut { SEARCHED_MAX }, &mut hidden);
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
            self.0.insert(if rest.is_empty() { at.clone() } else { at.join(behind) });
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
        self.0.insert(at);
    }

    /// As seen from `folder`, a path without links.
    pub fn below(&self, folder: &Path) -> Names {
        let mut names = Names::default();
        for path in self.0.iter().filter_map(|path| path.strip_prefix(folder).ok()) {
            names.hide(path);
        }
        names
    }

    /// Whether `path`, without links, is hidden or lies in what is.
    pub fn hide(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.0.contains(above))
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
