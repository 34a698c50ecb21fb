use std::os::unix::fs::symlink;

use super::*;

/// The hidden places, without the folder of the test.
fn places(name: &str, prepare: impl Fn(&Path), path: &str, written: &[&str]) -> Vec<String> {
    let folder = PathBuf::from(format!("/tmp/sinew-masks{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("make a folder");
    prepare(&folder);
    let written: Vec<PathBuf> = written.iter().map(|path| folder.join(path)).collect();
    let mut masks = Masks::default();
    masks.add(&folder.join(path), &Writable::new(&written));
    fs::remove_dir_all(&folder).expect("clean");
    let short = |path: &PathBuf| path.strip_prefix(&folder).unwrap_or(path).display().to_string();
    masks.paths.iter().map(short).collect()
}

#[test]
fn a_path_hides_itself_whether_it_is_there_or_not() {
    assert_eq!(places("none", |_| {}, "not/there", &[]), ["not/there"]);
    assert_eq!(places("dots", |_| {}, "a/../b/./c", &[]), ["b/c"]);
}

#[test]
fn every_link_on_the_way_is_a_place_and_so_is_the_end() {
    let prepare = |folder: &Path| {
        fs::create_dir(folder.join("v1")).expect("folder");
        symlink("v1", folder.join("now")).expect("link");
        symlink("now", folder.join("current")).expect("link");
        symlink(folder.join("current/key"), folder.join("key")).expect("link");
    };
    assert_eq!(places("links", prepare, "key", &[]), ["current/key", "key", "now/key", "v1/key"]);
}

#[test]
fn links_that_a_service_may_have_made_are_not_believed() {
    let prepare = |folder: &Path| {
        fs::create_dir(folder.join("shared")).expect("folder");
        symlink("/usr", folder.join("shared/key")).expect("link");
    };
    assert_eq!(places("planted", prepare, "shared/key", &["shared"]), ["shared/key"]);
}

#[test]
fn links_in_a_circle_end() {
    let prepare = |folder: &Path| symlink("a", folder.join("a")).expect("link");
    assert_eq!(places("circle", prepare, "a", &[]), ["a"]);
}

#[test]
fn what_lies_in_something_hidden_is_hidden() {
    let masks = Masks { paths: BTreeSet::from(["/srv/a".into()]) };
    assert!(masks.hide(Path::new("/srv/a")) && masks.hide(Path::new("/srv/a/b/c")));
    assert!(!masks.hide(Path::new("/srv")) && !masks.hide(Path::new("/srv/ab")));
}
