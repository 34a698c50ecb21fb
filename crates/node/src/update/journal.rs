//! `update.json` in the state folder: how far an update is. On disk before each step is taken.

use std::fs;
use std::io;

use sinew_spec::update::Journal;

use crate::folders::{Folders, write_durably};

pub fn write(folders: &Folders, journal: &Journal) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(journal).map_err(io::Error::other)?;
    write_durably(&folders.update_journal(), &text, 0o600)
}

/// `None`: no update was interrupted; also when what is there is not readable, as nothing could be said of it.
pub fn read(folders: &Folders) -> Option<Journal> {
    serde_json::from_slice(&fs::read(folders.update_journal()).ok()?).ok()
}

pub fn remove(folders: &Folders) -> io::Result<()> {
    match fs::remove_file(folders.update_journal()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
