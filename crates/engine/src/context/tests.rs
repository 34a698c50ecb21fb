use std::process::Command;

use super::*;

/// What `tar` finds in the context of a folder that holds `files`, the `.dockerignore` being `ignored`.
fn check(name: &str, ignored: &str, files: &[&str], expected: &[&str]) {
    let folder = std::env::temp_dir().join(format!("sinew-context-{}-{name}", std::process::id()));
    let root = folder.join("context");
    fs::create_dir_all(&root).expect("a folder for tests");
    fs::write(root.join("Dockerfile"), "FROM scratch\n").expect("write");
    fs::write(root.join(".dockerignore"), ignored).expect("write");
    for file in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("it has one")).expect("folders");
        fs::write(&path, format!("content of {file}")).expect("write");
    }
    let mut archive = Vec::new();
    Context::of(&root, Path::new("Dockerfile"))
        .expect("a context")
        .read_to_end(&mut archive)
        .expect("an archive");
    let written = folder.join("x.tar");
    fs::write(&written, &archive).expect("write");
    let unpacked = folder.join("unpacked");
    fs::create_dir_all(&unpacked).expect("a folder");
    let tar = |arguments: &[&str]| {
        let output =
            Command::new("tar").args(arguments).arg("-f").arg(&written).current_dir(&unpacked).output();
        let output = output.expect("tar runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let listed = tar(&["-t"]);
    let listed: Vec<&str> = listed
        .lines()
        .filter(|name| !name.ends_with('/') && !["Dockerfile", ".dockerignore"].contains(name))
        .collect();
    assert_eq!(listed, expected, "{name}");
    tar(&["-x"]);
    for file in expected {
        let content = fs::read_to_string(unpacked.join(file)).expect("it was unpacked");
        assert_eq!(content, format!("content of {file}"), "{name}");
    }
    fs::remove_dir_all(&folder).expect("it is there");
}

#[test]
fn everything_is_in_it_without_a_rule() {
    let long = "a-folder-with-quite-a-long-name/another-one-that-is-just-as-long-as-that/and-the-file-itself-in-the-end.txt";
    check("all", "", &["app", long], &[long, "app"]);
}

#[test]
fn what_is_ignored_is_left_out() {
    let files = ["a.log", "app", "doc/b.log", "doc/keep.md", "target/x/y"];
    check("names", "*.log\ntarget\n", &files, &["app", "doc/b.log", "doc/keep.md"]);
    check("anywhere", "**/*.log\n# a comment\n/target/\n", &files, &["app", "doc/keep.md"]);
    check("kept", "*\n!app\n!doc/*.md\n", &files, &["app", "doc/keep.md"]);
    check("needed", "**\n", &files, &[]);
}
