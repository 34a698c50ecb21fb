use std::collections::BTreeMap;

use super::*;

/// A folder of the test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sinew-folders-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("make a folder");
        Self(path)
    }

    fn folders(&self, name: &str) -> Folders {
        let bases = Bases { run: self.0.join("r"), state: self.0.join("s") };
        Folders::new(&bases, &ApplicationName::from(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn check_bases(uid: u32, environment: &[(&str, &str)], expect: Result<(&str, &str), ()>) {
    let variables: BTreeMap<&str, &str> = environment.iter().copied().collect();
    let bases = Bases::from_environment(Uid::from_raw(uid), |name| variables.get(name).map(Into::into));
    let expect = expect.map(|(run, state)| Bases { run: run.into(), state: state.into() });
    assert_eq!(bases.map_err(|_| ()), expect);
}

#[test]
fn bases_follow_user_and_environment() {
    check_bases(0, &[], Ok(("/run/sinew", "/var/lib/sinew")));
    check_bases(0, &[("HOME", "/root")], Ok(("/run/sinew", "/var/lib/sinew")));
    check_bases(0, &[("SINEW_RUN_DIR", "/r"), ("SINEW_STATE_DIR", "/s")], Ok(("/r", "/s")));
    check_bases(65534, &[("HOME", "/h")], Ok(("/tmp/sinew-65534", "/h/.local/state/sinew")));
    check_bases(65534, &[("XDG_STATE_HOME", "/x")], Ok(("/tmp/sinew-65534", "/x/sinew")));
    // Left over from the user who called `su`.
    check_bases(
        65534,
        &[("XDG_RUNTIME_DIR", "/"), ("HOME", "/h")],
        Ok(("/tmp/sinew-65534", "/h/.local/state/sinew")),
    );
    check_bases(65534, &[], Err(()));
    check_bases(65534, &[("HOME", "relative")], Err(()));
}

#[test]
fn long_names_are_cut_and_stay_different() {
    let scratch = Scratch::new("long");
    let (a, b) = ("a".repeat(60) + "1", "a".repeat(60) + "2");
    let (a, b) = (scratch.folders(&a), scratch.folders(&b));
    assert_ne!(a.run, b.run);
    assert!(a.run.file_name().expect("named").len() <= NAME_BYTES_MAX);
    assert!(scratch.folders("shop").run.ends_with("shop"));
}

#[test]
fn folders_are_private_and_their_own() {
    let scratch = Scratch::new("private");
    let folders = scratch.folders("shop");
    fs::create_dir_all(&folders.run).expect("make it too open");
    fs::set_permissions(&folders.run, fs::Permissions::from_mode(0o755)).expect("open it");
    folders.make().expect("made");
    for folder in [&folders.run, &folders.state, &folders.volumes()] {
        let mode = fs::metadata(folder).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
}

#[test]
fn a_link_is_not_taken_for_a_folder() {
    let scratch = Scratch::new("link");
    let folders = scratch.folders("shop");
    fs::create_dir_all(scratch.0.join("r")).expect("make the base");
    std::os::unix::fs::symlink("/tmp", &folders.run).expect("link");
    assert!(matches!(folders.make(), Err(FolderError::Foreign { .. })));
}

#[test]
fn a_base_in_which_others_write_is_not_used() {
    let scratch = Scratch::new("base");
    let folders = scratch.folders("shop");
    let bases = Bases { run: scratch.0.join("r"), state: scratch.0.join("s") };
    bases.check().expect("what is not there is nobody's");
    let check = |mode: u32| {
        fs::create_dir_all(&bases.run).expect("make the base");
        fs::set_permissions(&bases.run, fs::Permissions::from_mode(mode)).expect("open it");
        assert_eq!(folders.make().is_ok(), bases.check().is_ok());
        bases.check()
    };
    assert!(matches!(check(0o777), Err(FolderError::Open { .. })));
    check(0o1777).expect("like /tmp");
    check(0o755).expect("only we write");
    if Uid::effective().is_root() {
        std::os::unix::fs::chown(&bases.run, Some(12345), None).expect("give it away");
        assert!(matches!(check(0o700), Err(FolderError::Foreign { owner: 12345, .. })));
    }
}

#[test]
fn one_launcher_per_application() {
    let scratch = Scratch::new("lock");
    let folders = scratch.folders("shop");
    folders.make().expect("made");
    let held = Lock::take(&folders).expect("free");
    let pid = std::process::id() as i32;
    assert!(matches!(Lock::take(&folders), Err(FolderError::Locked { pid: Some(found) }) if found == pid));
    folders.remove_run().expect("removed");
    drop(held);
    folders.make().expect("made again");
    Lock::take(&folders).expect("free again");
}

#[test]
fn an_instances_folder_keeps_its_logs_only() {
    let scratch = Scratch::new("instance");
    let folders = scratch.folders("shop");
    folders.make().expect("made");
    let folder = folders.instance(&InstanceName::from("orders-1"));
    folder.make().expect("made");
    for file in ["log", "init.sock", "instance.json"] {
        fs::write(folder.path.join(file), "x").expect("written");
    }
    folder.make().expect("made again");
    assert!(folder.path.join("log").exists());
    assert!(!folder.init_socket().exists() && !folder.record().exists());
    assert_eq!(folders.instance_folders().expect("listed"), [folder]);
}

#[test]
fn a_path_too_long_for_a_socket_says_what_to_do() {
    let scratch = Scratch::new("socket");
    let bases = Bases { run: scratch.0.join("r".repeat(80)), state: scratch.0.join("s") };
    let folders = Folders::new(&bases, &ApplicationName::from("shop"));
    folders.make().expect("made");
    let error = folders.instance(&InstanceName::from("orders-1")).make().expect_err("too long");
    assert!(error.to_string().contains("SINEW_RUN_DIR"), "{error}");
}

#[test]
fn applications_of_one_name_have_cgroups_of_their_own() {
    let folders = |run: &str| Folders { run: run.into(), state: "/state/shop".into() };
    assert_eq!(folders("/run/sinew/shop").cgroup(), "shop-4469a5e7");
    assert_ne!(folders("/tmp/other/shop").cgroup(), folders("/run/sinew/shop").cgroup());
}
