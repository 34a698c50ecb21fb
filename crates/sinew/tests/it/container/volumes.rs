//! What containers are given of the host's files and of their images'.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::harness::{Done, users};

const PRIVATE: &str = "nobody gave this to a service";

const BELOW: &str = r#"
services:
  app:
    command: [sleep, "1000"]
    volumes: ["./web:/web"]
  files:
    image: localhost/busy
    command: [sh, -c, "cat /static/page; exec sleep 1000"]
    stop_signal: SIGKILL
    volumes:
      - ./web/static:/static:ro
      - ./web/deep/conf.txt:/etc/conf.txt
      - ./web/up:/up
      - data:/up/inner
      - ./web/static/more:/up/inner/more
      - ./web/new/one:/new
volumes: { data: }
"#;

fn inside(sandbox: &Sandbox, service: &str, script: &str) -> String {
    let done = sandbox.sinew(&["exec", service, "--", "sh", "-c", script]);
    format!("{}{}", done.stdout, done.stderr).trim_end().to_owned()
}

#[test]
fn a_bind_below_a_folder_that_another_service_writes_is_as_in_docker() {
    for user in users() {
        let podman = Podman::start_as(user);
        podman.image("busy", &[]);
        let sandbox = sandbox_of(&podman, user, "below");
        sandbox.write("compose.yaml", BELOW);
        sandbox.write("web/static/page", "first\n");
        sandbox.write("web/static/more/note", "deep\n");
        sandbox.write("web/deep/conf.txt", "conf\n");
        sandbox.own(&sandbox.folder.join("web"));
        sandbox.sinew(&["up", "-d"]).ok();
        let files = |script: &str| inside(&sandbox, "files", script);
        assert_eq!(files("cat /static/page /etc/conf.txt /up/inner/more/note"), "first\nconf\ndeep");
        assert!(files("echo x > /static/x").contains("Read-only file system"));
        assert_eq!(
            files(
                "echo up > /up/file; echo vol > /up/inner/file; echo n > /new/file; echo c > /etc/conf.txt"
            ),
            ""
        );
        assert_eq!(fs::read_to_string(sandbox.folder.join("web/up/file")).expect("written"), "up\n");
        assert_eq!(fs::read_to_string(sandbox.folder.join("web/deep/conf.txt")).expect("written"), "c\n");
        assert!(!sandbox.folder.join("web/up/inner/file").exists(), "it lies in the volume");
        // Who shows the upper folder sees what others mount in it, and works with it.
        assert_eq!(
            inside(&sandbox, "app", "cat /web/static/page /web/new/one/file; echo second > /web/static/page"),
            "first\nn"
        );
        assert_eq!(files("cat /static/page"), "second");
        // The same seal, another life of the container.
        sandbox.sinew(&["restart", "files"]).ok();
        until("the container runs again", PATIENCE, || (files("cat /up/inner/file") == "vol").then_some(()));
        let options = files("grep ' /up ' /proc/self/mountinfo");
        assert!(options.contains("nosuid") && options.contains("nodev"), "{options}");
        sandbox.sinew(&["down", "-v"]).ok();
        assert_eq!(podman.containers(), Vec::<String>::new());
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
        assert_eq!(
            fs::read_to_string(sandbox.folder.join("web/static/page")).expect("it is there"),
            "second\n"
        );
    }
}

const SWAPPED: &str = r#"
services:
  evil:
    command: [sleep, "1000"]
    volumes: ["./web:/web"]
  files:
    image: localhost/busy
    command: [sh, -c, "cat /static/key; exec sleep 1000"]
    stop_signal: SIGKILL
    volumes: ["./web/static:/static"]
"#;

/// Exchanges the folder and a link, until `/tmp/stop` is there.
const SWAPPER: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None)
os.symlink(sys.argv[1], "/web/link")
while not os.path.exists("/tmp/stop"):
    assert libc.renameat2(-100, b"/web/static", -100, b"/web/link", 2) == 0
if os.path.islink("/web/static"):
    libc.renameat2(-100, b"/web/static", -100, b"/web/link", 2)
"#;

fn python(sandbox: &Sandbox, program: &str, argument: &str) -> Done {
    sandbox.sinew(&["exec", "evil", "--", "python3", "-c", program, argument])
}

#[test]
fn no_container_follows_a_link_that_a_service_made() {
    for user in users() {
        let podman = Podman::start_as(user);
        podman.image("busy", &[]);
        let sandbox = sandbox_of(&podman, user, "swapped");
        sandbox.write("compose.yaml", SWAPPED);
        sandbox.write("web/static/key", "given\n");
        sandbox.own(&sandbox.folder.join("web"));
        let private: PathBuf = sandbox.home().join("private");
        fs::create_dir(&private).expect("make a folder");
        fs::write(private.join("key"), PRIVATE).expect("write a key");
        sandbox.own(&private);
        let private = private.display().to_string();
        let logs = || sandbox.sinew(&["logs", "--no-prefix", "files"]).stdout;
        sandbox.sinew(&["up", "-d"]).ok();
        until("the container reads what it was given", PATIENCE, || logs().contains("given").then_some(()));

        let link =
            "import os, sys\nos.rename('/web/static', '/web/was')\nos.symlink(sys.argv[1], '/web/static')";
        python(&sandbox, link, "/etc").ok();
        sandbox.sinew(&["restart", "files"]);
        until("the reason is told", PATIENCE, || {
            let status = sandbox.sinew(&["status"]).stdout;
            status.contains("links there are not followed").then_some(())
        });
        assert!(!inside(&sandbox, "files", "ls /static").contains("passwd"));
        python(&sandbox, "import os\nos.unlink('/web/static')\nos.rename('/web/was', '/web/static')", "")
            .ok();

        std::thread::scope(|scope| {
            let swapping = scope.spawn(|| python(&sandbox, SWAPPER, &private));
            for _ in 0..4 {
                sandbox.sinew(&["restart", "files"]);
                let _ = inside(&sandbox, "files", "cat /static/key");
            }
            inside(&sandbox, "evil", "touch /tmp/stop");
            swapping.join().expect("it does not panic").ok();
        });
        let shown = logs();
        assert!(!shown.contains(PRIVATE), "{shown}");
        sandbox.sinew(&["down", "-v"]).ok();
        assert_eq!(podman.containers(), Vec::<String>::new());
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

const NEW: &str = r#"
services:
  web:
    image: localhost/filled
    command: [sleep, "1000"]
    user: app
    read_only: true
    stop_signal: SIGKILL
    volumes:
      - data:/data
      - shown:/shown:ro
      - empty:/data/sub/none:nocopy
      - other:/nothing-there
      - { type: volume, source: plain, target: /shown2, volume: { nocopy: true } }
volumes: { data: , shown: , empty: , other: , plain: }
"#;

const FILLED: &str = "RUN mkdir -p /data/sub /shown /shown2 /anonymous && echo first > /data/file && echo deep > /data/sub/f \\\n \
    && ln -s file /data/link && echo shown > /shown/file && echo no > /shown2/file && echo given > /anonymous/file \\\n \
    && chown -R 1000:1000 /data /anonymous && chown 0:1000 /data/sub/f && chmod 640 /data/sub/f && chmod 710 /data/sub \\\n \
    && chmod 3775 /data\nVOLUME /anonymous /data";

#[test]
fn a_new_volume_has_what_the_image_has_at_its_place() {
    let podman = Podman::start();
    podman.image("busy", &[]);
    podman.image_from("filled", "busy", FILLED);
    let sandbox = sandbox(&podman, "filled");
    sandbox.write("compose.yaml", NEW);
    sandbox.sinew(&["up", "-d"]).ok();
    let web = |script: &str| inside(&sandbox, "web", script);
    assert_eq!(web("cat /data/file /data/link /data/sub/f /shown/file"), "first\nfirst\ndeep\nshown");
    let stat = "stat -c '%u:%g %a %n' /data /data/file /data/sub /data/sub/f";
    let expected =
        "1000:1000 3775 /data\n1000:1000 644 /data/file\n1000:1000 710 /data/sub\n0:1000 640 /data/sub/f";
    assert_eq!(web(stat), expected);
    assert_eq!(web("ls /data/sub/none /nothing-there /shown2 | grep -v :"), "");
    assert!(web("echo x > /shown/x").contains("Read-only file system"));
    // What the file does not mount is an anonymous volume, also where the root cannot be written.
    assert_eq!(web("cat /anonymous/file; echo more > /anonymous/more && cat /anonymous/more"), "given\nmore");
    assert_eq!(podman.run(&["volume", "ls", "-q"]).lines().count(), 1);
    assert_eq!(web("rm /data/link && echo second > /data/file"), "");

    // It is new once.
    sandbox.sinew(&["down"]).ok();
    assert_eq!(podman.run(&["volume", "ls", "-q"]), "");
    sandbox.sinew(&["up", "-d"]).ok();
    assert_eq!(web("cat /data/file; ls /data"), "second\nfile\nsub");
    assert!(web("cat /anonymous/more").contains("No such file"));
    sandbox.sinew(&["down", "-v"]).ok();
    sandbox.sinew(&["up", "-d"]).ok();
    assert_eq!(web("cat /data/file"), "first");
    sandbox.sinew(&["down", "-v"]).ok();
    assert_eq!(podman.run(&["volume", "ls", "-q"]), "");
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
