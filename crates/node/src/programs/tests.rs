use std::os::unix::fs::symlink;

use super::*;

/// A made-up home below /tmp, which a seal hides as well.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sinew-programs-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("make a home");
        Self(fs::canonicalize(path).expect("it is there"))
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("make its folder");
        fs::write(path, text).expect("written");
        self
    }

    fn link(&self, path: &str, target: &Path) -> &Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("make its folder");
        symlink(target, path).expect("linked");
        self
    }

    /// `search` and the answer are relative to the home.
    #[track_caller]
    fn check(&self, search: &[&str], program: &str, expect: &[&str]) {
        self.check_with(&[], search, program, expect);
    }

    /// Services may write in `written`.
    #[track_caller]
    fn check_with(&self, written: &[&str], search: &[&str], program: &str, expect: &[&str]) {
        let written: Vec<PathBuf> = written.iter().map(|folder| self.0.join(folder)).collect();
        let writable = Writable::new(&written);
        let search = std::env::join_paths(search.iter().map(|folder| self.0.join(folder))).expect("a PATH");
        let homes = Homes::new(Some(&self.0));
        let found =
            shown(search.to_str().expect("text"), program, &self.0.join("project"), &homes, &writable);
        let expect: Vec<PathBuf> = expect.iter().map(|path| self.0.join(path)).collect();
        assert_eq!(found, expect);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_installation_is_shown_by_its_prefix() {
    let home = Home::new("prefix");
    home.file(".nvm/versions/node/v20/bin/node", "").file(".pyenv/shims/python3", "#!/bin/sh\n");
    home.check(&[".nvm/versions/node/v20/bin"], "node", &[".nvm/versions/node/v20"]);
    home.check(&[".pyenv/shims"], "python3", &[".pyenv"]);
}

#[test]
fn what_lies_beside_credentials_is_shown_narrowly() {
    let home = Home::new("narrow");
    home.file("bin/mine", "")
        .file(".cargo/bin/rg", "")
        .file(".cargo/credentials.toml", "")
        .file(".rustup/settings.toml", "");
    home.file(".local/bin/tool", "")
        .file(".local/lib/x", "")
        .file(".local/share/keyrings/x", "")
        .file(".config/bin/x", "");
    home.check(&["bin"], "mine", &["bin"]);
    home.check(&[".cargo/bin"], "rg", &[".cargo/bin", ".rustup"]);
    home.check(&[".local/bin"], "tool", &[".local/bin", ".local/lib"]);
    home.check(&[".config/bin"], "x", &[".config/bin"]);
}

#[test]
fn links_are_followed_to_the_installation() {
    let home = Home::new("links");
    home.file("tools/python/bin/python3.11", "");
    home.link("tools/python/bin/python3", Path::new("python3.11"));
    home.link("bin/python", &home.0.join("tools/python/bin/python3"));
    home.link("bin/gone", Path::new("nowhere"));
    home.check(&["bin"], "python", &["bin", "tools/python"]);
}

#[test]
fn a_program_of_the_project_brings_what_it_links_to_and_its_interpreter() {
    let home = Home::new("program");
    home.file("tools/python/bin/python3", "").file("tools/lua/bin/lua", "");
    home.link("project/.venv/bin/python", &home.0.join("tools/python/bin/python3"));
    home.file("project/run", &format!("#!{}/tools/lua/bin/lua -x\n", home.0.display()));
    home.check(&[], ".venv/bin/python", &["tools/python"]);
    home.check(&[], "./run", &["tools/lua"]);
}

#[test]
fn system_folders_are_shown_already() {
    let homes = Homes::new(None);
    let found = shown("/usr/bin:/bin::relative", "sh", Path::new("/"), &homes, &Writable::default());
    assert_eq!(found, Vec::<PathBuf>::new());
}

#[test]
fn what_a_service_may_have_written_shows_nothing() {
    let home = Home::new("planted");
    home.file(".ssh/id_rsa", "").file("tool/bin/tool", "").file("tool/token", "");
    let target = |name: &str| home.0.join(name);
    home.link("project/data/app", &target(".ssh/id_rsa"));
    home.file("project/data/script", &format!("#!{}\n", target("tool/bin/tool").display()));
    home.link("project/data/deep/link", &target("tool"));
    home.link("project/data/bin/tool", &target("tool/bin/tool"));
    // Whoever wrote the file made these.
    home.check(&[], "data/app", &[".ssh"]);
    home.check(&[], "data/script", &["tool"]);
    for program in ["data/app", "data/script", "data/deep/link/bin/tool", "./data/bin/tool"] {
        home.check_with(&["project/data"], &[], program, &[]);
    }
    home.check_with(&["project/data"], &["project/data/deep/link/bin"], "tool", &[]);
    home.check_with(&["project/data"], &["project/data/bin"], "tool", &["project/data"]);
}

#[test]
fn programs_are_looked_at_before_they_are_run() {
    let folder = std::env::temp_dir().join(format!("sinew-look-{}", std::process::id()));
    fs::create_dir_all(folder.join("bin")).expect("a folder of the test");
    let write = |name: &str, text: &str, mode: u32| {
        fs::write(folder.join(name), text).expect("write a program");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).expect("set its mode");
    };
    write("bin/tool", "#!/bin/sh\n", 0o755);
    write("start", "#! /no/such/shell -e\n", 0o755);
    write("plain", "#!/bin/sh\n", 0o644);
    let search = format!("/nonexistent:{}", folder.join("bin").display());
    let check =
        |program: &str, expected: Look| assert_eq!(look(&search, program, &folder), expected, "{program}");
    check("tool", Look::Found);
    check("./bin/tool", Look::Found);
    check("bin", Look::Missing);
    check("./bin", Look::NotExecutable);
    check("toool", Look::Missing);
    check("./nothing", Look::Missing);
    check("./plain", Look::NotExecutable);
    check("./start", Look::NoInterpreter("/no/such/shell".into()));
    fs::remove_dir_all(&folder).expect("it is ours");
}
