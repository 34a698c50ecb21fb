//! On what a run was made.

use std::fs;

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Kernel, processor, cores, memory, load.
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, key: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(key)?.split_once(':').map(|(_, value)| value.trim().to_owned())
            })
            .unwrap_or_else(|| "unknown".to_owned())
    };
    let memory = read("/proc/meminfo");
    let kib: u64 =
        line(&memory, "MemTotal").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let release = read("/proc/sys/kernel/osrelease");
    let version: Vec<&str> = release.trim().split(['.', '-']).take(2).collect();
    let processor = read("/proc/cpuinfo");
    let is_virtual = line(&processor, "flags").split(' ').any(|flag| flag == "hypervisor");
    let load = read("/proc/loadavg");
    format!(
        "Linux {}{}, {} cores ({}), {} GiB of memory, load average at the end {}",
        version.join("."),
        if is_virtual { " in a virtual machine" } else { "" },
        cores(),
        line(&processor, "model name"),
        kib >> 20,
        load.split(' ').next().unwrap_or_default()
    )
}
