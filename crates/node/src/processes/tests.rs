use super::*;

#[test]
fn what_is_not_said_is_bounded_too() {
    let check = |limits: Limits, of_launcher: u64, expected: Option<u64>| {
        assert_eq!(bound(&limits, of_launcher), expected, "{limits:?} under {of_launcher}");
    };
    let stated = Limits { pids: Some(3000), ..Limits::default() };
    check(Limits::default(), u64::MAX, Some(2048));
    check(Limits::default(), 1000, Some(500));
    check(stated, 1000, Some(3000));
    check(Limits { pids_unlimited: true, ..Limits::default() }, 1000, None);
}

#[test]
fn releases_of_kernels_are_read() {
    for (release, expected) in
        [("6.1.0-rpi8-v8", (6, 1)), ("5.14-rc1", (5, 14)), ("5.4.0", (5, 4)), ("", (0, 0)), ("new", (0, 0))]
    {
        assert_eq!(version(release), expected, "{release}");
    }
}

#[test]
fn a_stated_number_needs_a_cgroup_only_where_nothing_else_holds() {
    let nowhere = Cgroups::nowhere();
    let stated = Limits { pids: Some(8), ..Limits::default() };
    let check = |limits: &Limits, posture, uid| check(limits, &nowhere, posture, uid).is_ok();
    assert!(check(&stated, ServicePosture::Sealed, 1000));
    assert!(!check(&stated, ServicePosture::Sealed, 0), "root is not held by its own limit");
    assert!(!check(&stated, ServicePosture::Explicit, 1000), "no user namespace");
    assert!(check(&Limits::default(), ServicePosture::Explicit, 0), "nobody asked");
    let memory = Limits { memory_bytes: Some(1 << 20), ..stated };
    assert!(!check(&memory, ServicePosture::Sealed, 1000));
}
