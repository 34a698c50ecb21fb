use std::io::Read;
use std::os::unix::fs::symlink;

use super::*;

struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sinew-beneath-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        for folder in ["data/sub/deep", "private", "other"] {
            fs::create_dir_all(path.join(folder)).expect("make a folder");
        }
        fs::write(path.join("private/key"), "private").expect("write");
        fs::write(path.join("data/sub/key"), "given").expect("write");
        symlink(path.join("data"), path.join("linked")).expect("link");
        symlink(path.join("private"), path.join("data/out")).expect("link");
        symlink(path.join("private/key"), path.join("data/sub/stolen")).expect("link");
        symlink(path.join("private"), path.join("meant")).expect("link");
        Self(path)
    }

    fn writable(&self) -> Writable {
        Writable::new(&[self.0.join("linked"), self.0.join("not/there")])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn links_of_services_lead_nowhere() {
    let host = Host::new("open");
    let writable = host.writable();
    let check = |path: &str, expect: Option<&str>| {
        let read = writable.open_file(&host.0.join(path)).and_then(|mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(read.as_deref().ok(), expect, "{path}: {read:?}");
        assert_eq!(writable.open(&host.0.join(path), PATH).is_ok(), expect.is_some(), "{path}");
    };
    check("data/sub/key", Some("given"));
    check("linked/sub/key", Some("given"));
    check("meant/key", Some("private"));
    check("data/sub/stolen", None);
    check("data/out/key", None);
    check("linked/out/key", None);
    check("data/sub/../../private/key", None);
    check("data/nothing", None);
    assert!(!writable.exists(&host.0.join("data/nothing")).expect("told"));
    assert!(writable.exists(&host.0.join("data/out")).is_err());
}

#[test]
fn folders_are_not_made_behind_links() {
    let host = Host::new("make");
    let writable = host.writable();
    writable.make_folders(&host.0.join("data/sub/deep/er/folder")).expect("made");
    assert!(host.0.join("data/sub/deep/er/folder").is_dir());
    writable.make_folders(&host.0.join("data/out/folder")).expect_err("behind a link");
    assert!(!host.0.join("private/folder").exists());
    writable.make_folders(&host.0.join("meant/folder")).expect("its owner's link");
    assert!(host.0.join("private/folder").exists());
}

#[test]
fn a_pipe_does_not_make_the_reader_wait() {
    let host = Host::new("pipe");
    nix::unistd::mkfifo(&host.0.join("data/pipe"), Mode::S_IRWXU).expect("make a pipe");
    host.writable().open_file(&host.0.join("data/pipe")).expect_err("not a file");
}
