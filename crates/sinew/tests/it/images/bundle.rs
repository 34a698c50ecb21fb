//! An application saved on one machine and run on another one that reaches no registry.

use std::fs;
use std::time::Duration;

use super::bench::Bench;
use super::{compose, serves};
use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;

/// A process needs no engine: files alone.
const HELLO: &str = r#"
services:
  hello:
    command: [sh, -c, "cat /hello && cat /run/secrets/token && sleep 1000"]
    configs: [hello]
    secrets: [token]
configs:
  hello: { file: ./hello.txt }
secrets:
  token: { file: ./token.txt }
"#;

fn hello() -> Sandbox {
    let sandbox = Sandbox::new(User::Own, "hello");
    sandbox.write("compose.yaml", HELLO);
    sandbox.write("hello.txt", "good morning\n");
    sandbox.write("token.txt", "a secret\n");
    sandbox.write("extra/more.txt", "more\n");
    sandbox
}

#[test]
fn files_go_from_here_to_there_and_secrets_stay() {
    let sandbox = hello();
    let saved = sandbox.sinew(&["bundle", "save", "hello.bundle", "--include", "extra"]).ok();
    assert!(saved.stdout.contains("not in it: token.txt"), "{}", saved.stdout);
    assert!(
        saved.stderr.contains("hello: run as processes; their programs are not in the bundle"),
        "{}",
        saved.stderr
    );
    // Readable by everybody's tar.
    let listed = std::process::Command::new("tar")
        .args(["-tf", "hello.bundle"])
        .current_dir(&sandbox.folder)
        .output()
        .expect("run tar");
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout),
        "files/compose.yaml\nfiles/extra/more.txt\nfiles/hello.txt\nfiles/sinew.lock\nmanifest.json\nmanifest.sha256\n"
    );
    let loaded = sandbox.sinew(&["bundle", "load", "hello.bundle", "there/hello"]);
    assert_eq!(loaded.code, 1, "the folder `there` is missing: {}", loaded.stdout);
    fs::create_dir(sandbox.folder.join("there")).expect("make a folder");
    let loaded = sandbox.sinew(&["bundle", "load", "hello.bundle", "there/hello"]).ok();
    assert!(loaded.stdout.contains("start it: sinew up -d there/hello\n"), "{}", loaded.stdout);
    let read = |path: &str| fs::read_to_string(sandbox.folder.join(path)).expect("read");
    assert_eq!(read("there/hello/hello.txt"), "good morning\n");
    assert_eq!(read("there/hello/extra/more.txt"), "more\n");
    assert!(!sandbox.folder.join("there/hello/token.txt").exists());
    sandbox.write("there/hello/token.txt", "the site's own\n");
    sandbox.sinew(&["up", "-d", "there/hello"]).ok();
    until("both were read", Duration::from_secs(10), || {
        let logs = sandbox.sinew(&["logs", "-p", "hello"]).ok().stdout;
        (logs.contains("good morning") && logs.contains("the site's own")).then_some(())
    });
    sandbox.sinew(&["down", "-p", "hello"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn what_was_changed_is_not_used() {
    let sandbox = hello();
    sandbox.sinew(&["bundle", "key", "release.pem"]).ok();
    sandbox.sinew(&["bundle", "key", "other.pem"]).ok();
    sandbox.sinew(&["bundle", "save", "hello.bundle", "--sign", "release.pem"]).ok();
    let bytes = fs::read(sandbox.folder.join("hello.bundle")).expect("read");
    let load = |name: &str, bytes: &[u8], verify: Option<&str>| {
        fs::write(sandbox.folder.join(name), bytes).expect("write");
        let mut arguments = vec!["bundle", "load", name, "there"];
        arguments.extend(verify.map(|_| "--verify"));
        arguments.extend(verify);
        let done = sandbox.sinew(&arguments);
        let left: Vec<_> = fs::read_dir(&sandbox.folder)
            .expect("list")
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().contains("there"))
            .collect();
        if done.code != 0 {
            assert!(left.is_empty(), "left behind: {left:?}");
        }
        (done.code, done.stderr.lines().next().unwrap_or_default().to_owned())
    };
    let (code, said) = load("cut", &bytes[..bytes.len() / 2], None);
    assert!(code == 1 && said.starts_with("error: cut: it is cut off: "), "{said}");
    let at = bytes.windows(12).position(|window| window == b"good morning").expect("the file is in it");
    let mut flipped = bytes.clone();
    flipped[at] ^= 1;
    let (code, said) = load("flipped", &flipped, None);
    assert!(code == 1 && said.starts_with("error: flipped: `files/hello.txt` was changed: "), "{said}");
    let (code, said) = load("signed", &bytes, Some("other.pem.pub"));
    assert!(code == 1 && said.starts_with("error: signed: its signature is not of the key "), "{said}");
    let (code, said) = load("text", b"no bundle at all, but long enough to be one block", None);
    assert!(code == 1 && said.starts_with("error: text: it is cut off"), "{said}");
    sandbox.sinew(&["bundle", "save", "unsigned.bundle"]).ok();
    let unsigned = fs::read(sandbox.folder.join("unsigned.bundle")).expect("read");
    let (code, said) = load("unsigned", &unsigned, Some("release.pem.pub"));
    assert_eq!((code, said.as_str()), (1, "error: unsigned: it is not signed"));
    let (code, said) = load("whole", &bytes, Some("release.pem.pub"));
    assert_eq!((code, said.as_str()), (0, ""));
}

#[test]
fn an_application_runs_where_no_registry_is() {
    let mut here = Bench::new("shop");
    let id = here.push("web:1", &[("VERSION", "one")]);
    let port = free_port();
    let built = "  built:\n    build: ./built\n";
    here.sandbox.write("compose.yaml", &compose(&here, port, built));
    here.sandbox.write("built/Dockerfile", "FROM scratch\nCOPY server /server\nCMD [\"/server\"]\n");
    here.copy_server("built/server");
    here.sinew(&["up", "-d"]).ok();
    here.sinew(&["down"]).ok();
    let saved = here.sinew(&["bundle", "save", "shop.bundle"]).ok();
    assert!(saved.stdout.contains(&here.reference("web:1")), "{}", saved.stdout);
    here.stop_registry();

    let mut there = Bench::new("site");
    there.stop_registry();
    let bundle = here.sandbox.folder.join("shop.bundle").display().to_string();
    let loaded = there.sinew(&["bundle", "load", &bundle, "shop"]).ok();
    assert!(loaded.stdout.contains("2 images (2 new)"), "{}", loaded.stdout);
    let files = ["-f", "shop/compose.yaml", "-f", "shop/compose.bundle.yaml"];
    assert!(
        loaded.stdout.ends_with(&format!("start it: sinew up -d {}\n", files.join(" "))),
        "{}",
        loaded.stdout
    );
    there.sinew(&[&["up", "-d"], &files[..]].concat()).ok();
    serves(port, "one");
    assert!(there.podman(&["ps", "--no-trunc", "--format", "{{.ImageID}}"]).contains(&id));
    there.sinew(&["down", "-p", "shop"]).ok();
}
