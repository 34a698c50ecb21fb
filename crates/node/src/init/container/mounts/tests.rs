use super::*;

#[track_caller]
fn check(field: &str, expect: &str) {
    assert_eq!(unescape(field.as_bytes()), Path::new(expect));
}

#[test]
fn fields_of_mountinfo_are_paths() {
    check("/data", "/data");
    check(r"/a\040b\134c", r"/a b\c");
    check(r"/ends\04", r"/ends\04");
    check(r"/no\999", r"/no\999");
}

#[test]
fn places_are_made_beneath_and_links_are_not_followed() {
    let base = std::env::temp_dir().join(format!("sinew-places-{}", std::process::id()));
    fs::create_dir_all(base.join("folder/there")).expect("make folders");
    fs::create_dir_all(base.join("other")).expect("make folders");
    std::os::unix::fs::symlink("../other", base.join("folder/link")).expect("link");
    let folder = OwnedFd::from(File::open(base.join("folder")).expect("open"));
    make_place(&folder, Path::new("there/deep/er"), true).expect("made");
    make_place(&folder, Path::new("there/file"), false).expect("made");
    make_place(&folder, Path::new("there/file"), false).expect("it is there");
    assert!(base.join("folder/there/deep/er").is_dir() && base.join("folder/there/file").is_file());
    make_place(&folder, Path::new("link/new"), true).expect_err("a link");
    assert!(beneath(folder.as_fd(), Path::new("link")).is_err());
    assert!(beneath(folder.as_fd(), Path::new("there/deep")).is_ok());
    assert!(!base.join("other/new").exists());
    fs::remove_dir_all(base).expect("clean");
}
