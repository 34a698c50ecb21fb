//! What hostile services and hostile users of the same host try on a running application, from the outside of a seal:
//! its sources, its bounds, its folders. What is tried inside one seal alone is in `seal::probe`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use crate::harness::{Done, Sandbox, until, users};

const PRIVATE: &str = "nobody gave this to a service";

fn python(sandbox: &Sandbox, program: &str) -> Done {
    sandbox.sinew(&["exec", "evil", "--", "python3", "-c", program])
}

/// A folder beside the project that no service was given.
fn private(sandbox: &Sandbox) -> String {
    let folder = sandbox.home().join("private");
    fs::create_dir(&folder).expect("make a folder");
    fs::write(folder.join("key"), PRIVATE).expect("write a key");
    sandbox.own(&folder);
    folder.display().to_string()
}

#[test]
fn links_that_a_service_makes_are_not_followed_at_its_next_start() {
    for user in users() {
        let sandbox = Sandbox::new(user, "links");
        let private = private(&sandbox);
        sandbox.write("data/sub/file", "given");
        sandbox.write("vault/keys/key", "given");
        sandbox.own(&sandbox.folder.join("data"));
        sandbox.own(&sandbox.folder.join("vault"));
        sandbox.write(
            "compose.yaml",
            "services:\n  evil:\n    command: sleep 1000\n    volumes: ['./data:/data', './data/sub:/sub', './vault:/vault']\n    \
             secrets: [key]\nsecrets:\n  key: {file: ./vault/keys/key}\n",
        );
        sandbox.sinew(&["up", "-d"]).ok();
        let change = |program: &str| python(&sandbox, &format!("import os\n{program}")).ok();
        change(&format!("os.rename('/data/sub', '/data/was')\nos.symlink({private:?}, '/data/sub')"));
        sandbox.sinew(&["restart", "evil"]);
        for path in ["/sub/key", "/data/sub/key"] {
            let read = python(&sandbox, &format!("print(open({path:?}).read())"));
            assert!(!read.stdout.contains(PRIVATE), "{user:?}: {path}");
        }
        sandbox.sinew(&["down"]).ok();
        let refused = sandbox.sinew(&["up", "-d"]);
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains("links there are not followed"), "{}", refused.stderr);
        sandbox.sinew(&["down"]);

        // On the way to a secret it cannot make any.
        fs::remove_file(sandbox.folder.join("data/sub")).expect("the link");
        fs::rename(sandbox.folder.join("data/was"), sandbox.folder.join("data/sub")).expect("as before");
        sandbox.sinew(&["up", "-d"]).ok();
        for place in ["/vault/keys", "/vault/keys/key"] {
            let tried = python(
                &sandbox,
                &format!("import os\nos.rename({place:?}, '/vault/was')\nos.symlink({private:?}, {place:?})"),
            );
            assert_ne!(tried.code, 0, "{user:?}: {place}");
        }
        sandbox.sinew(&["restart", "evil"]).ok();
        // `restart` does not wait until the new one runs.
        let read = until("the restarted service", Duration::from_secs(20), || {
            let read = python(&sandbox, "print(open('/run/secrets/key').read())");
            (read.code == 0).then_some(read.stdout)
        });
        assert_eq!(read, "given\n", "{user:?}");
        sandbox.sinew(&["down"]).ok();
    }
}

/// Exchanges a folder and a link to another one, until `/tmp/stop` is there.
const SWAPPER: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None)
os.symlink({private:?}, "/data/link")
while not os.path.exists("/tmp/stop"):
    assert libc.renameat2(-100, b"/data/sub", -100, b"/data/link", 2) == 0
"#;

#[test]
fn a_link_that_comes_and_goes_is_never_followed() {
    for user in users() {
        let sandbox = Sandbox::new(user, "races");
        let private = private(&sandbox);
        sandbox.write("data/sub/key", "given");
        sandbox.own(&sandbox.folder.join("data"));
        sandbox.write(
            "compose.yaml",
            "services:\n  evil:\n    command: sleep 1000\n    volumes: ['./data:/data']\n  \
             reads:\n    command: [sh, -c, 'cat /sub/key; exec sleep 1000']\n    volumes: ['./data/sub:/sub']\n",
        );
        sandbox.sinew(&["up", "-d"]).ok();
        let program = SWAPPER.replace("{private:?}", &format!("{private:?}"));
        std::thread::scope(|scope| {
            let swapping = scope.spawn(|| python(&sandbox, &program));
            for _ in 0..8 {
                sandbox.sinew(&["restart", "reads"]);
                let read = sandbox.sinew(&["exec", "reads", "--", "cat", "/sub/key"]);
                assert!(!read.stdout.contains(PRIVATE), "{user:?}");
            }
            sandbox.sinew(&["exec", "evil", "--", "touch", "/tmp/stop"]).ok();
            swapping.join().expect("it does not panic").ok();
        });
        let logs = sandbox.sinew(&["logs", "--no-prefix", "reads"]).stdout;
        assert!(logs.contains("given") && !logs.contains(PRIVATE), "{user:?}: {logs}");
        sandbox.sinew(&["down"]).ok();
    }
}

#[test]
fn links_of_who_wrote_the_file_are_followed() {
    for user in users() {
        let sandbox = Sandbox::new(user, "meant");
        let private = private(&sandbox);
        symlink(&private, sandbox.folder.join("linked")).expect("link");
        sandbox.write(
            "compose.yaml",
            "services:\n  evil:\n    command: sleep 1000\n    volumes: ['./linked:/data']\n",
        );
        sandbox.sinew(&["up", "-d"]).ok();
        assert!(python(&sandbox, "print(open('/data/key').read())").ok().stdout.contains(PRIVATE));
        sandbox.sinew(&["down"]).ok();
    }
}

#[test]
fn egress_to_everywhere_is_not_the_loopback_of_the_host() {
    for user in users() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a program of the host");
        listener.set_nonblocking(true).expect("looked at without waiting");
        let port = listener.local_addr().expect("bound").port();
        let sandbox = Sandbox::new(user, "wide");
        sandbox.write(
            "compose.yaml",
            &format!(
                "services:\n  evil:\n    command: sleep 1000\n    x-sinew:\n      egress: ['0.0.0.0/0:{port}', '[::/0]:{port}']\n"
            ),
        );
        sandbox.sinew(&["up", "-d"]).ok();
        let program = format!(
            "import socket
for address in '127.0.0.1', '127.0.0.2', '0.0.0.0', '::1', '::ffff:127.0.0.1', '::':
    try:
        socket.create_connection((address, {port}), 5)
        print('CONNECTED', address)
    except ConnectionRefusedError:
        print('refused')
# What is its own is reached by its own.
own = socket.create_server(('127.0.0.1', {port}))
socket.create_connection(('127.0.0.1', {port}), 5)
own.settimeout(5)
own.accept()
"
        );
        let tried = python(&sandbox, &program).ok();
        assert_eq!(tried.stdout, "refused\n".repeat(6), "{user:?}");
        assert!(listener.accept().is_err(), "nobody came to the host's listener");
        sandbox.sinew(&["down"]).ok();
    }
}

#[test]
fn what_a_service_writes_in_memory_is_bounded() {
    for user in users() {
        let sandbox = Sandbox::new(user, "memory");
        sandbox.write("compose.yaml", "services:\n  evil:\n    command: sleep 1000\n    tmpfs: [/cache]\n");
        sandbox.sinew(&["up", "-d"]).ok();
        let program = "import os
host = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
for path in '/tmp', '/run', '/var', '/dev/shm', '/cache':
    found = os.statvfs(path)
    assert found.f_blocks * found.f_frsize <= host / 9, path
    assert found.f_files <= 131072, path
";
        python(&sandbox, program).ok();
        sandbox.sinew(&["down"]).ok();
    }
}

#[test]
fn folders_in_which_everybody_writes_are_not_trusted() {
    for user in users() {
        let sandbox = Sandbox::new(user, "open");
        sandbox.write("compose.yaml", "services:\n  evil:\n    command: sleep 1000\n");
        fs::set_permissions(sandbox.run(), fs::Permissions::from_mode(0o777)).expect("open it");
        for command in [&["up", "-d"][..], &["ps"], &["down"]] {
            let refused = sandbox.sinew(command);
            assert_ne!(refused.code, 0, "{user:?}: {command:?}");
            assert!(refused.stderr.contains("everybody can write in"), "{}", refused.stderr);
        }
        assert!(sandbox.left_over().is_empty());
    }
}
