use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn a_search_that_ends_early_says_so() {
    let folder = std::env::temp_dir().join(format!("sinew-search-{}", std::process::id()));
    fs::create_dir_all(folder.join("deep")).expect("make folders");
    for (name, mode) in [("open", 0o644), ("closed", 0o600), ("deep/closed", 0o640)] {
        fs::write(folder.join(name), "").expect("write");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    symlink("open", folder.join("link")).expect("link");
    let _socket = UnixListener::bind(folder.join("deep/s")).expect("listen");
    // Six entries: open, closed, link, deep, deep/closed, deep/s.
    for (left, whole) in [(6, true), (5, false), (0, false)] {
        let (mut unread, mut found) = (BTreeSet::new(), Vec::new());
        assert_eq!(unreadable(&folder, &mut { left }, &mut unread), whole, "{left}");
        assert_eq!(sockets(&folder, &mut { left }, DEPTH_MAX, &mut found), whole, "{left}");
        if whole {
            assert!(unread.contains(&folder.join("closed")) && unread.contains(&folder.join("deep/closed")));
            assert_eq!(found, [folder.join("deep/s")]);
        }
    }
    fs::remove_dir_all(folder).expect("clean");
}
