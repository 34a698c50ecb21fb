//! How much output is kept of an application, and what goes when it is more. Inits keep to what they were born with;
//! the launcher removes what is left over when there are more of them by now than when they were born.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use sinew_spec::application::{Application, Service};
use sinew_spec::log::FILE_OLD;

use crate::folders::Folders;

#[cfg(test)]
mod tests;

/// Of all instances whose service does not say otherwise, together.
pub const KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// One of the two files of an instance.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const FILE_BYTES_MIN: u64 = 64 * 1024;
/// A proxy says little; one that says the same all day is cut.
const PROXY_BYTES_MAX: u64 = 1024 * 1024;
const PROXY: &str = "sidecar.log";

/// Of one of the two files that are kept of an instance.
pub fn file_bytes_max(application: &Application, service: &Service) -> u64 {
    if let Some(kept) = service.log_bytes_max {
        return kept / 2;
    }
    let sharing = application.services.values().filter(|service| service.log_bytes_max.is_none());
    let sharing: u64 = sharing.map(|service| u64::from(service.replicas)).sum();
    (KEPT_BYTES_MAX / 2 / sharing.max(1)).clamp(FILE_BYTES_MIN, FILE_BYTES_MAX)
}

/// What may be kept of all instances.
fn kept_bytes_max(application: &Application) -> u64 {
    let own = application
        .services
        .values()
        .filter_map(|service| Some(service.log_bytes_max?.saturating_mul(u64::from(service.replicas))));
    own.fold(KEPT_BYTES_MAX, u64::saturating_add)
}

/// Removes what is kept beyond the bound: the older half of instances' output, the oldest first.
pub fn prune(folders: &Folders, application: &Application) -> io::Result<()> {
    prune_to(folders, kept_bytes_max(application))
}

fn prune_to(folders: &Folders, bytes_max: u64) -> io::Result<()> {
    let mut total = 0_u64;
    let mut olds: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for folder in folders.instance_folders()? {
        for entry in fs::read_dir(&folder.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.contains("log")) else { continue };
            // It may have been renamed or removed meanwhile.
            let Ok(found) = entry.metadata() else { continue };
            total = total.saturating_add(found.len());
            if name == PROXY && found.len() > PROXY_BYTES_MAX {
                // It is appended to: what comes next stands at the beginning.
                OpenOptions::new().write(true).open(entry.path())?.set_len(0)?;
                total -= found.len();
            } else if name == FILE_OLD {
                olds.push((found.modified()?, found.len(), entry.path()));
            }
        }
    }
    olds.sort();
    for (_, length, path) in olds {
        if total <= bytes_max {
            break;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => total = total.saturating_sub(length),
        }
    }
    Ok(())
}
