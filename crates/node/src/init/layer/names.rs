//! Which names of a tree are not the host's to fill.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(OsString, Name)>", into = "Vec<(OsString, Name)>")]
pub struct Names(BTreeMap<OsString, Name>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Name {
    Hidden,
    Kept,
    /// A folder with such names in it.
    Way(Names),
}

/// What the entry of a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role<'a> {
    /// The host's.
    Plain,
    /// Never the host's.
    Hidden,
    /// Something of the seal's own: neither filled nor cleared.
    Kept,
    /// A folder that is shown entry by entry too, when it is one.
    Way(&'a Names),
}

impl Names {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn hide(&mut self, path: &Path) {
        self.mark(&parts(path), Name::Hidden);
    }

    /// The first part of `path` that is not itself shown entry by entry is kept.
    pub fn keep(&mut self, path: &Path) {
        let parts = parts(path);
        let Some((first, rest)) = parts.split_first() else { return };
        match self.0.get_mut(*first) {
            Some(Name::Way(below)) if !rest.is_empty() => {
                below.keep(&rest.iter().collect::<std::path::PathBuf>())
            }
            _ => {
                self.0.insert((*first).to_owned(), Name::Kept);
            }
        }
    }

    fn mark(&mut self, parts: &[&OsStr], as_name: Name) {
        match parts {
            [] => {}
            [last] => {
                self.0.insert((*last).to_owned(), as_name);
            }
            [first, rest @ ..] => {
                match self.0.entry((*first).to_owned()).or_insert_with(|| Name::Way(Self::default())) {
                    Name::Way(below) => below.mark(rest, as_name),
                    // All of it is.
                    Name::Hidden | Name::Kept => {}
                }
            }
        }
    }

    pub fn role(&self, name: &OsStr) -> Role<'_> {
        match self.0.get(name) {
            Some(Name::Hidden) => Role::Hidden,
            Some(Name::Kept) => Role::Kept,
            Some(Name::Way(below)) => Role::Way(below),
            None if self.is_draft(name) => Role::Hidden,
            None => Role::Plain,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, Role<'_>)> {
        self.0.keys().map(|name| (name.as_os_str(), self.role(name)))
    }

    /// What editors put beside a file while it is edited, and leave there: `key~`, `.key.swp`, `#key#`, `.#key`.
    fn is_draft(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        let hidden = |original: &[u8]| matches!(self.0.get(OsStr::from_bytes(original)), Some(Name::Hidden));
        let swap = || {
            let (original, end) = name.strip_prefix(b".")?.split_at_checked(name.len().checked_sub(5)?)?;
            (end.starts_with(b".sw")).then_some(original)
        };
        name.strip_suffix(b"~")
            .is_some_and(|rest| hidden(rest) || rest.strip_prefix(b".").is_some_and(hidden))
            || name.strip_prefix(b".#").is_some_and(hidden)
            || name.strip_prefix(b"#").and_then(|rest| rest.strip_suffix(b"#")).is_some_and(hidden)
            || swap().is_some_and(hidden)
    }
}

// A map whose keys need not be text does not travel.
impl From<Vec<(OsString, Name)>> for Names {
    fn from(list: Vec<(OsString, Name)>) -> Self {
        Self(list.into_iter().collect())
    }
}

impl From<Names> for Vec<(OsString, Name)> {
    fn from(names: Names) -> Self {
        names.0.into_iter().collect()
    }
}

fn parts(path: &Path) -> Vec<&OsStr> {
    let normal = |part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    };
    path.components().filter_map(normal).collect()
}
