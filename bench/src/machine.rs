//! On what a run was made.

use std::fs;

/// Of the machine, also when this thread is pinned to one of them.
pub fn cores() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count().max(1)
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
