//! How much memory a proxy may use when nobody has said: a part of what the host has, or of the cgroup it is in.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use sinew_proxy::{Memory, Threads};

use crate::{heap, sys};

const BYTES_MIN: u64 = 64 * 1024 * 1024;
const BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// For the thread that will serve.
pub fn of_this_process() -> Memory {
    heap::batch();
    let available = [of_host(), of_cgroup(Path::new("/sys/fs/cgroup"), &own_cgroups())];
    let bytes_max = budget(available.into_iter().flatten().min().unwrap_or(u64::MAX));
    Memory {
        bytes_in_use: Arc::new(heap::bytes_in_use),
        bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
    }
}

/// For the threads of further workers.
pub fn of_threads() -> Threads {
    Threads { prepare: sys::give_heaps, begin: heap::batch, end: heap::settle }
}

/// An eighth, between 64 MiB and 1 GiB, but never more than half.
fn budget(available: u64) -> u64 {
    (available / 8).clamp(BYTES_MIN, BYTES_MAX).min(available / 2)
}

fn of_host() -> Option<u64> {
    memory_total(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// Of a line like `MemTotal:  16384 kB`.
fn memory_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn own_cgroups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// The smallest limit of those that hold for the process, of either version. `groups`: `/proc/self/cgroup`.
fn of_cgroup(root: &Path, groups: &str) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (folder, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let limit = fs::read_to_string(folder.join(group).join(file));
            // `max`, or a number that no host has, is no limit.
            let limit = limit.ok().and_then(|text| text.trim().parse::<u64>().ok());
            least = [least, limit].into_iter().flatten().min();
        }
    }
    least
}

#[cfg(test)]
mod tests;
