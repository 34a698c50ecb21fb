use super::*;

const MIB: u64 = 1024 * 1024;

#[test]
fn a_budget_is_an_eighth_within_bounds() {
    for (available, expected) in
        [(64, 32), (128, 64), (512, 64), (1024, 128), (4096, 512), (65_536, 1024), (1 << 40, 1024)]
    {
        assert_eq!(budget(available * MIB), expected * MIB, "{available} MiB");
    }
    assert_eq!(budget(u64::MAX), BYTES_MAX);
}

#[test]
fn a_host_says_how_much_it_has() {
    assert_eq!(memory_total("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 * MIB));
    assert_eq!(memory_total("MemTotal: much\n"), None);
    assert_eq!(memory_total(""), None);
}

#[test]
fn the_smallest_limit_of_a_cgroup_and_those_above_it_counts() {
    let root = std::env::temp_dir().join(format!("sinew-cgroups-{}", std::process::id()));
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("a/b/memory.max", "max\n");
    write("a/memory.max", "1000\n");
    write("memory/c/memory.limit_in_bytes", "500\n");
    write("memory/memory.limit_in_bytes", "9223372036854771712\n");
    let check =
        |groups: &str, expected: Option<u64>| assert_eq!(of_cgroup(&root, groups), expected, "{groups}");
    check("0::/a/b\n", Some(1000));
    check("0::/a\n", Some(1000));
    check("0::/\n", None);
    check("5:cpu,memory:/c\n4:pids:/c\n", Some(500));
    check("5:memory:/c\n0::/a\n", Some(500));
    check("5:memory:/other\n", Some(9_223_372_036_854_771_712));
    check("nonsense\n", None);
    fs::remove_dir_all(&root).unwrap();
}
