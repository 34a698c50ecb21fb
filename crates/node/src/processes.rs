//! How many processes and threads an instance may have, and what holds it: the pids controller where a cgroup can be
//! made, and `RLIMIT_NPROC` in every seal, which the kernel counts for each user *and user namespace* since Linux 5.14.
//! Nothing outside of a seal counts into its number, and what a seal has never counts against the launcher, a sidecar
//! or another seal. Root of the host is not held by it, also in a seal, where user 0 is the same user: there the
//! controller alone holds.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use sinew_spec::application::{Limits, ServicePosture};

use crate::cgroup::{CgroupError, Cgroups};

#[cfg(test)]
mod tests;

/// From here on the limit is counted by user namespace, not by user.
const COUNTED_BY_NAMESPACE: (u32, u32) = (5, 14);

/// What `limits` state can hold for a service of `uid`.
pub fn check(
    limits: &Limits,
    cgroups: &Cgroups,
    posture: ServicePosture,
    uid: u32,
) -> Result<(), CgroupError> {
    if posture == ServicePosture::Sealed && holds_user(uid) {
        return cgroups.check(&Limits { pids: None, ..*limits });
    }
    cgroups.check(limits)
}

/// Whether a seal's number of processes is bounded without a cgroup when its service runs as `uid`.
pub fn holds_user(uid: u32) -> bool {
    uid != 0 && counts_by_namespace()
}

/// `RLIMIT_NPROC` of everything that is started in a seal. `None`: it is not set.
pub fn limit_of_user(limits: &Limits, launcher_is_root: bool) -> Option<u64> {
    if !counts_by_namespace() {
        return None;
    }
    let (own, _) = getrlimit(Resource::RLIMIT_NPROC).unwrap_or((u64::MAX, u64::MAX));
    bound(limits, if launcher_is_root { u64::MAX } else { own })
}

/// An ordinary user's limit holds for all seals together: by default one takes half of it at the most, so that it
/// cannot keep the launcher from forking.
fn bound(limits: &Limits, of_launcher: u64) -> Option<u64> {
    let most = limits.pids_max()?;
    Some(if limits.pids.is_some() { most } else { most.min(of_launcher / 2) })
}

fn counts_by_namespace() -> bool {
    kernel_version() >= COUNTED_BY_NAMESPACE
}

/// Of the running kernel: (6, 1).
pub fn kernel_version() -> (u32, u32) {
    version(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
