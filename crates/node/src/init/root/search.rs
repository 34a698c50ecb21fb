//! Bounded searches for what must not be seen.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// Entries of a folder that are searched for what must not be seen.
pub const SEARCHED_MAX: usize = 20_000;
pub const DEPTH_MAX: usize = 12;
/// Not searched for sockets: large, and made by tools that leave none.
const UNSEARCHED: &[&str] = &["node_modules", "site-packages", "__pycache__", ".git", "target"];

/// Unix sockets below `folder`: a read-only mount does not keep anybody from connecting to one. False: there are more
/// entries than are searched.
pub fn sockets(folder: &Path, left: &mut usize, depth: usize, found: &mut Vec<PathBuf>) -> bool {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if *left == 0 {
            return false;
        }
        *left -= 1;
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_socket() {
            found.push(entry.path());
        } else if kind.is_dir()
            && depth > 0
            && !UNSEARCHED.iter().any(|name| entry.file_name() == *name)
            && !sockets(&entry.path(), left, depth - 1, found)
        {
            return false;
        }
    }
    true
}

/// What in `folder` others may not read, files and whole folders. False: there are more entries than are searched.
pub fn unreadable(folder: &Path, left: &mut usize, found: &mut BTreeSet<PathBuf>) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return true };
    for entry in entries.flatten() {
        if *left == 0 {
            return false;
        }
        *left -= 1;
        let Ok(metadata) = entry.metadata() else { continue };
        let others = metadata.permissions().mode() & 0o007;
        if metadata.is_dir() && others & 0o5 != 0 {
            if !unreadable(&entry.path(), left, found) {
                return false;
            }
        } else if metadata.is_dir() || !metadata.is_symlink() && others & 0o4 == 0 {
            found.insert(entry.path());
        }
    }
    true
}
