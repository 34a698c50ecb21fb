//! `history.json` in the state folder: what became of images, oldest first, bounded.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{Flock, FlockArg};
use sinew_spec::update::HistoryEntry;

use crate::folders::{Folders, write_durably};

#[cfg(test)]
mod tests;

/// The oldest ones go.
pub const ENTRIES_MAX: usize = 500;
/// Words of an engine or a service may be long.
const REASON_CHARACTERS_MAX: usize = 1_000;

/// Several may write: the launcher of an update, a command whose pull failed.
pub fn append(folders: &Folders, new: Vec<HistoryEntry>) -> io::Result<()> {
    fs::create_dir_all(&folders.state)?;
    let lock = folders.state.join("history.lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock)?;
    let _held = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))?;
    let mut entries = read(folders)?;
    entries.extend(new.into_iter().map(shortened));
    entries.drain(..entries.len().saturating_sub(ENTRIES_MAX));
    let text = serde_json::to_vec_pretty(&entries).map_err(io::Error::other)?;
    write_durably(&folders.history(), &text, 0o600)
}

/// Oldest first. None when there is no file.
pub fn read(folders: &Folders) -> io::Result<Vec<HistoryEntry>> {
    match fs::read(folders.history()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        text => serde_json::from_slice(&text?).map_err(io::Error::other),
    }
}

fn shortened(mut entry: HistoryEntry) -> HistoryEntry {
    if let Some(reason) = &mut entry.reason
        && let Some((end, _)) = reason.char_indices().nth(REASON_CHARACTERS_MAX)
    {
        reason.truncate(end);
        reason.push('…');
    }
    entry
}
