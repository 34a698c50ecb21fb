//! The newest state that was accepted, in one file.
//!
//! The private key is part of it: a proxy that starts while its control plane is away could otherwise authenticate to
//! nobody. The file is owner-only in the application's private run folder, which lies in memory for root (`/run`) and
//! in most sessions, and the key is good for one certificate lifetime.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sinew_spec::name::InstanceName;
use sinew_spec::proxy::{FRAME_BYTES_MAX, ProxyConfig};

use super::Identity;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LastGood {
    pub config: Option<ProxyConfig>,
    pub identity: Option<Identity>,
}

/// `None`: there is nothing that can be used (absent, damaged, somebody else's).
pub(super) fn read(path: &Path, instance: &InstanceName) -> Option<LastGood> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(2 * FRAME_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
    let good: LastGood = serde_json::from_slice(&bytes).ok()?;
    let foreign = good.config.as_ref().is_some_and(|config| config.instance != *instance);
    (!foreign).then_some(good)
}

/// Replaces the file as a whole. It is a convenience for the next start: when it cannot be written, this one goes on.
pub(super) fn write(path: &Path, good: &LastGood) {
    let _ = try_write(path, good);
}

/// Not synced: the file need not survive the machine, and a torn one is recognised.
fn try_write(path: &Path, good: &LastGood) -> io::Result<()> {
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&serde_json::to_vec(good)?)?;
    fs::rename(&draft, path)
}
