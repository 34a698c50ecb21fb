//! Memory as it is paid for: proportional set size, so that pages shared by all sidecars count once.

use std::fs;

/// PSS in bytes; `None`: the process has ended or may not be looked at.
pub fn pss_bytes(pid: i32) -> Option<u64> {
    parse(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

/// Of all that can be read; `None`: of none.
pub fn pss_bytes_of_all(pids: impl IntoIterator<Item = i32>) -> Option<u64> {
    pids.into_iter().filter_map(pss_bytes).fold(None, |sum, bytes| Some(sum.unwrap_or(0) + bytes))
}

fn parse(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pss_only() {
        let rollup = "55d-7ff ---p 00000000 00:00 0 [rollup]\nRss:  10 kB\nPss:    7 kB\nPss_Dirty:  3 kB\n";
        assert_eq!(parse(rollup), Some(7 * 1024));
        assert_eq!(parse("Rss: 1 kB\n"), None);
    }

    #[test]
    fn a_process_can_see_itself() {
        assert!(pss_bytes(std::process::id() as i32).is_some_and(|bytes| bytes > 0));
    }
}
