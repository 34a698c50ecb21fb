//! `sinew.lock` on disk: beside the compose file, read as a whole, written as a whole or not at all.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sinew_spec::compose::Problems;
use sinew_spec::compose::lock::{self, FILE_NAME, Lock, LockKey, Locked};
use sinew_spec::update::{ServiceUpdate, UpdateRequest};

use crate::folders::write_durably;

#[cfg(test)]
mod tests;

const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum LockFileError {
    #[error("{attempted} {path}: {source}", path = .path.display())]
    Io { attempted: &'static str, path: PathBuf, source: io::Error },
    /// The text is wrong; the problems say where.
    #[error("{0}")]
    Problems(Problems),
}

pub fn path(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

/// `folder`: of the application. `None`: there is no such file.
pub fn read(folder: &Path) -> Result<Option<Lock>, LockFileError> {
    let path = path(folder);
    let failed = |source| LockFileError::Io { attempted: "reading", path: path.clone(), source };
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    lock::read(&path, &text).map(Some).map_err(LockFileError::Problems)
}

/// A text that would not change is not written: flash wears out.
pub fn write(folder: &Path, lock: &Lock) -> Result<(), LockFileError> {
    let path = path(folder);
    let text = lock.render();
    if fs::read(&path).is_ok_and(|before| before == text.as_bytes()) {
        return Ok(());
    }
    write_durably(&path, text.as_bytes(), 0o644).map_err(|source| LockFileError::Io {
        attempted: "writing",
        path,
        source,
    })
}

/// The lock as it will be when the update is kept. What could not be read again is an error.
pub fn updated(folder: &Path, request: &UpdateRequest) -> Result<Lock, LockFileError> {
    let mut lock = read(folder)?.unwrap_or_default();
    for ServiceUpdate { reference, platform, to, .. } in &request.services {
        let key = LockKey { reference: reference.clone(), platform: platform.clone() };
        let (id, digest) = (to.id.clone(), to.digest.clone());
        lock.insert(key, Locked { id, digest, resolved: request.resolved.clone() });
    }
    lock::read(&path(folder), &lock.render()).map_err(LockFileError::Problems)
}
