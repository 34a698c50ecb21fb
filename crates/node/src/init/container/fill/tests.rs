use std::os::unix::fs::symlink;

use super::*;

#[test]
fn what_is_copied_keeps_its_modes_and_what_is_half_done_is_cleared() {
    let base = std::env::temp_dir().join(format!("sinew-fill-{}", std::process::id()));
    let (from, to) = (base.join("from"), base.join("to"));
    fs::create_dir_all(from.join("deep/er")).expect("make folders");
    fs::create_dir_all(&to).expect("make folders");
    fs::write(from.join("deep/file"), "content").expect("write");
    fs::set_permissions(from.join("deep/file"), Permissions::from_mode(0o4750)).expect("chmod");
    fs::set_permissions(from.join("deep/er"), Permissions::from_mode(0o711)).expect("chmod");
    symlink("../nowhere", from.join("link")).expect("link");
    let opened = |path| File::open(path).expect("open");
    copy_entries(&opened(&from), &opened(&to), 0).expect("copied");
    assert_eq!(fs::read_to_string(to.join("deep/file")).expect("it is there"), "content");
    let mode = |path: &str| fs::symlink_metadata(to.join(path)).expect("it is there").mode() & 0o7777;
    assert_eq!((mode("deep/file"), mode("deep/er")), (0o4750, 0o711));
    assert_eq!(fs::read_link(to.join("link")).expect("a link").as_os_str(), "../nowhere");
    assert!(!is_new(&opened(&to), 0).expect("looked at"));
    clear(&opened(&to)).expect("cleared");
    assert!(names(&opened(&to)).expect("looked at").is_empty());
    fs::create_dir_all(to.join("deep/place")).expect("make folders");
    fs::write(to.join("deep/file"), "").expect("write");
    assert!(is_new(&opened(&to), 0).expect("looked at"), "places are no content");
    copy_entries(&opened(&from), &opened(&to), 0).expect("copied beside them");
    assert_eq!(fs::read_to_string(to.join("deep/file")).expect("it is there"), "content");
    assert!(copy_entries(&opened(&from), &opened(&to), DEPTH_MAX).is_err());
    fs::remove_dir_all(base).expect("clean");
}
