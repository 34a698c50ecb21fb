//! What the launcher keeps up, brings back, replaces and refuses.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Sandbox, User, until, users};
use crate::lifetimes::WEB;

mod granted;
mod killed;

const HEALTH: &str = "x-sinew: { health: { http: { port: 8000, path: / } }, protocol: { 8000: http } }";
const PATIENCE: Duration = Duration::from_secs(10);

fn application(user: User, name: &str, compose: &str) -> Sandbox {
    let sandbox = Sandbox::new(user, name);
    sandbox.write("web.py", WEB);
    sandbox.write("compose.yaml", compose);
    sandbox
}

fn instances(sandbox: &Sandbox, service: &str) -> Vec<Value> {
    let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
    let services = status["services"].as_array().expect("services");
    let found =
        services.iter().find(|s| s["name"] == service).unwrap_or_else(|| panic!("no {service}: {status}"));
    found["instances"].as_array().expect("instances").clone()
}

/// Waits until the instances of a service are as `wanted` says: `name state/health`.
#[track_caller]
fn becomes(sandbox: &Sandbox, service: &str, wanted: &[&str]) {
    until(&format!("{service} is {wanted:?}"), PATIENCE, || {
        let found: Vec<String> = instances(sandbox, service)
            .iter()
            .map(|i| format!("{} {}/{}", text(i, "name"), text(i, "state"), text(i, "health")))
            .collect();
        (found == wanted).then_some(())
    });
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn pid(instance: &Value, key: &str) -> Pid {
    Pid::from_raw(instance[key].as_i64().unwrap_or_else(|| panic!("no {key} in {instance}")) as i32)
}

#[track_caller]
fn down(sandbox: &Sandbox) {
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

fn kill_launcher(sandbox: &Sandbox) {
    let launcher = sandbox.processes().into_iter().find(|(_, line)| line.contains("__daemon"));
    let launcher = Pid::from_raw(launcher.expect("a launcher").0);
    kill(launcher, Signal::SIGKILL).expect("kill it");
    until("it is dead", PATIENCE, || {
        let command = std::fs::read(format!("/proc/{launcher}/cmdline")).unwrap_or_default();
        command.is_empty().then_some(())
    });
}

/// The lines of `GET /v1/events` from now on.
fn events(sandbox: &Sandbox) -> impl Iterator<Item = String> + use<> {
    use std::io::{BufRead, BufReader, Write};
    let mut stream =
        std::os::unix::net::UnixStream::connect(sandbox.run().join("phoenix/admin.sock")).expect("admin");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: sinew\r\n\r\n").expect("ask");
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    // What was before: from here on nothing is missed.
    lines.find(|line| line.contains("\"status\"")).expect("the first event");
    lines
}

#[test]
fn whatever_dies_comes_back() {
    let compose =
        format!("services:\n  web:\n    command: [python3, web.py]\n    restart: always\n    {HEALTH}\n");
    for user in users() {
        let sandbox = application(user, "phoenix", &compose);
        sandbox.sinew(&["up", "-d"]).ok();
        for (restarts, victim) in ["service_pid", "init_pid"].iter().enumerate() {
            let before = instances(&sandbox, "web").remove(0);
            kill(pid(&before, victim), Signal::SIGKILL).expect("kill it");
            until("it is back", PATIENCE, || {
                let now = instances(&sandbox, "web").remove(0);
                let back = now["health"] == "healthy" && now[victim] != before[victim];
                (back && now["restarts"] == restarts + 1).then_some(())
            });
        }
        let mut events = events(&sandbox);
        let before = instances(&sandbox, "web").remove(0);
        kill(pid(&before, "sidecar_pid"), Signal::SIGKILL).expect("kill it");
        until("its sidecar is back", Duration::from_secs(1), || {
            let now = instances(&sandbox, "web").remove(0);
            (now["sidecar_pid"].is_i64() && now["sidecar_pid"] != before["sidecar_pid"]).then_some(now)
        });
        const HOW: &str = "was killed by signal 9, perhaps by the kernel for memory";
        let event = events.find(|line| line.contains("\"proxy_lost\"")).expect("an event");
        assert!(event.contains(HOW) && event.contains("\"web-1\""), "{event}");
        let log = std::fs::read_to_string(sandbox.run().join("phoenix/daemon.log")).expect("the log");
        let told = format!(" web-1: proxy {} {HOW}; another one is started\n", before["sidecar_pid"]);
        assert!(log.contains(&told), "{log}");
        let shown = sandbox.sinew(&["status"]).ok().stdout;
        assert!(shown.contains(&format!("! the proxy of web-1 {HOW}, ")), "{shown}");
        down(&sandbox);
    }
}

#[test]
fn restarts_follow_the_policy() {
    let compose = "services:
  never:
    command: [sh, -c, 'exit 3']
  twice:
    command: [sh, -c, 'exit 4']
    restart: on-failure:2
  done:
    command: [sh, -c, 'exit 0']
    restart: on-failure
";
    let sandbox = application(User::Own, "policy", compose);
    let up = sandbox.sinew(&["up", "-d"]);
    assert_eq!(up.code, 1, "{}{}", up.stdout, up.stderr);
    for (service, restarts, code) in [("never", 0, 3), ("twice", 2, 4), ("done", 0, 0)] {
        let exited = until(&format!("{service} has ended for good"), PATIENCE, || {
            let instance = instances(&sandbox, service).remove(0);
            (instance["state"] == "exited").then_some(instance)
        });
        assert_eq!((&exited["restarts"], &exited["exit_code"]), (&restarts.into(), &code.into()), "{exited}");
    }
    down(&sandbox);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let sandbox = application(User::Own, "absent", "services:\n  web:\n    command: [no-such-program]\n");
    let up = sandbox.sinew(&["up", "-d"]);
    assert_eq!(up.code, 1, "{}", up.stdout);
    assert!(
        up.stderr.contains("no-such-program") || up.stdout.contains("no-such-program"),
        "{}{}",
        up.stdout,
        up.stderr
    );
    down(&sandbox);
}

#[test]
fn dependents_wait_for_completion_and_are_not_started_after_a_failure() {
    let compose = |code: u8| {
        format!(
            "services:
  prepare:
    command: [sh, -c, 'exit {code}']
  web:
    command: [python3, web.py]
    depends_on: {{ prepare: {{ condition: service_completed_successfully }} }}
    {HEALTH}
"
        )
    };
    let sandbox = application(User::Own, "ordered", &compose(0));
    sandbox.sinew(&["up", "-d"]).ok();
    becomes(&sandbox, "web", &["web-1 running/healthy"]);
    down(&sandbox);

    sandbox.write("compose.yaml", &compose(5));
    let up = sandbox.sinew(&["up", "-d"]);
    assert_eq!(up.code, 1, "{}", up.stdout);
    assert!(up.stderr.contains("prepare-1") && up.stderr.contains("code 5"), "{}", up.stderr);
    becomes(&sandbox, "web", &["web-1 waiting/none"]);
    down(&sandbox);
}

#[test]
fn a_changed_file_replaces_what_changed_only() {
    let compose = |name: &str, more: &str| {
        format!(
            "services:
  web:
    command: [python3, web.py]
    environment: {{ NAME: {name} }}
    {HEALTH}
  other:
    command: [python3, web.py]
    {HEALTH}
{more}"
        )
    };
    let sandbox = application(User::Own, "applied", &compose("one", ""));
    sandbox.sinew(&["up", "-d"]).ok();
    let (web, other) = (instances(&sandbox, "web").remove(0), instances(&sandbox, "other").remove(0));
    let more = format!("  third:\n    command: [python3, web.py]\n    {HEALTH}\n");
    sandbox.write("compose.yaml", &compose("two", &more));
    sandbox.sinew(&["up", "-d"]).ok();
    until("web is replaced", PATIENCE, || {
        let now = instances(&sandbox, "web");
        (now.len() == 1 && now[0]["health"] == "healthy" && now[0]["service_pid"] != web["service_pid"])
            .then_some(())
    });
    assert_eq!(instances(&sandbox, "other")[0]["service_pid"], other["service_pid"]);
    // The one that went on knows the name of the one that came.
    let hosts = sandbox.sinew(&["exec", "other", "--", "cat", "/etc/hosts"]).ok().stdout;
    assert!(hosts.contains("\tthird\n"), "{hosts}");

    sandbox.write("compose.yaml", &compose("two", ""));
    sandbox.sinew(&["up", "-d"]).ok();
    until("the third is gone", PATIENCE, || {
        let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
        (status["services"].as_array().expect("services").len() == 2).then_some(())
    });
    down(&sandbox);
}

#[test]
fn stopped_by_hand_stays_stopped_until_started() {
    let compose = format!(
        "services:\n  web:\n    command: [python3, web.py]\n    restart: always\n    deploy: {{ replicas: 2 }}\n    {HEALTH}\n"
    );
    let sandbox = application(User::Own, "held", &compose);
    sandbox.sinew(&["up", "-d"]).ok();
    sandbox.sinew(&["stop", "web-1"]).ok();
    becomes(&sandbox, "web", &["web-1 stopped/none", "web-2 running/healthy"]);
    sandbox.sinew(&["start", "web-1"]).ok();
    becomes(&sandbox, "web", &["web-1 running/healthy", "web-2 running/healthy"]);
    sandbox.sinew(&["stop", "web"]).ok();
    becomes(&sandbox, "web", &[]);
    sandbox.sinew(&["start", "web"]).ok();
    becomes(&sandbox, "web", &["web-1 running/healthy", "web-2 running/healthy"]);
    // One instance only, and its number is free again after that.
    let before = instances(&sandbox, "web");
    sandbox.sinew(&["restart", "web-1"]).ok();
    becomes(&sandbox, "web", &["web-2 running/healthy", "web-3 running/healthy"]);
    assert_eq!(instances(&sandbox, "web")[0]["service_pid"], before[1]["service_pid"]);
    down(&sandbox);
}

#[test]
fn limits_hold_or_are_refused() {
    let compose = "services:
  box:
    command: [sleep, '1000']
    deploy: { resources: { limits: { pids: 8, memory: 64M } } }
";
    for user in users() {
        let sandbox = application(user, "narrow", compose);
        let up = sandbox.sinew(&["up", "-d"]);
        if user == User::Own && nix::unistd::geteuid().is_root() {
            up.ok();
            let many = "for i in $(seq 20); do sleep 5 & done; wait";
            let forked = sandbox.sinew(&["exec", "box", "--", "sh", "-c", many]);
            assert_ne!(forked.code, 0, "twenty processes where eight are allowed");
            let large = "x = bytearray(200 << 20)";
            let grown = sandbox.sinew(&["exec", "box", "--", "python3", "-c", large]);
            assert_ne!(grown.code, 0, "200 MiB where 64 are allowed");
            down(&sandbox);
        } else if up.code != 0 {
            // Where nothing is delegated to the user.
            assert_eq!(up.code, 2, "{}", up.stderr);
            assert!(up.stderr.contains("box: ") && up.stderr.contains("run as root"), "{}", up.stderr);
            assert_eq!(sandbox.left_over(), Vec::<String>::new());
        }
    }
}

#[test]
fn another_user_is_refused_to_an_ordinary_one() {
    let compose = "services:\n  box:\n    command: [id, -u]\n    user: '12345'\n";
    for user in users() {
        let sandbox = application(user, "other", compose);
        let up = sandbox.sinew(&["up", "-d"]);
        if user == User::Own && nix::unistd::geteuid().is_root() {
            up.ok();
            until("it has said who it is", PATIENCE, || {
                let logs = sandbox.sinew(&["logs", "box"]).ok().stdout;
                logs.contains("12345").then_some(())
            });
            down(&sandbox);
        } else {
            assert_eq!(up.code, 2, "{}", up.stderr);
            assert!(up.stderr.contains("user: 12345"), "{}", up.stderr);
            assert_eq!(sandbox.left_over(), Vec::<String>::new());
        }
    }
}

#[test]
fn whoever_is_unhealthy_is_not_called() {
    let compose = "services:
  web:
    command: [python3, web.py]
    deploy: { replicas: 2 }
    healthcheck: { test: [CMD, test, '!', -e, /tmp/sick], interval: 100ms, timeout: 5s, retries: 2 }
    expose: [8000]
  caller:
    command: [sleep, '1000']
    depends_on: { web: { condition: service_healthy } }
";
    for user in users() {
        let sandbox = application(user, "sick", compose);
        sandbox.sinew(&["up", "-d"]).ok();
        sandbox.sinew(&["exec", "web-1", "--", "touch", "/tmp/sick"]).ok();
        becomes(&sandbox, "web", &["web-1 running/unhealthy", "web-2 running/healthy"]);
        let ask = "import urllib.request as u
print({u.urlopen('http://web:8000/').read().decode() for _ in range(10)})";
        let called =
            |sandbox: &Sandbox| sandbox.sinew(&["exec", "caller", "--", "python3", "-c", ask]).ok().stdout;
        assert_eq!(called(&sandbox).trim(), "{'web-2'}");
        sandbox.sinew(&["exec", "web-1", "--", "rm", "/tmp/sick"]).ok();
        becomes(&sandbox, "web", &["web-1 running/healthy", "web-2 running/healthy"]);
        until("both are called", PATIENCE, || {
            let called = called(&sandbox);
            (called.contains("web-1") && called.contains("web-2")).then_some(())
        });
        down(&sandbox);
    }
}

#[test]
fn a_port_that_somebody_else_took_is_told() {
    let compose = format!(
        "services:\n  web:\n    command: [python3, web.py]\n    ports: ['8000']\n    {HEALTH}\n  box:\n    command: [sleep, '1000']\n"
    );
    let sandbox = application(User::Own, "taken", &compose);
    sandbox.sinew(&["up", "-d"]).ok();
    let published = || sandbox.sinew(&["status", "-o", "json"]).ok().json()["published"][0].clone();
    let listen = text(&published(), "listen").to_owned();
    // Whoever comes after the check: the next launcher trusts that its gateway still has the port.
    kill_launcher(&sandbox);
    let gateway = sandbox.processes().into_iter().find(|(_, line)| line.contains("_gateway-1"));
    kill(Pid::from_raw(gateway.expect("a gateway").0), Signal::SIGKILL).expect("kill it");
    let taken = until("the port is free", PATIENCE, || std::net::TcpListener::bind(&listen).ok());

    let up = sandbox.sinew(&["up", "-d"]);
    assert_eq!(up.code, 1, "{}", up.stdout);
    let reason = format!("port {listen} of service web cannot be published: Address");
    assert!(up.stderr.contains(&reason), "{}", up.stderr);
    until("it is told", PATIENCE, || published()["message"].as_str()?.contains(&reason).then_some(()));
    for command in ["status", "ps"] {
        let shown = sandbox.sinew(&[command]).ok().stdout;
        assert!(shown.contains(&reason), "{command}:\n{shown}");
    }
    drop(taken);
    until("it is served", PATIENCE, || published()["message"].is_null().then_some(()));
    sandbox.sinew(&["up", "-d"]).ok();
    down(&sandbox);
}

#[test]
fn exec_of_what_cannot_be_run_exits_like_a_shell() {
    let sandbox = application(User::Own, "codes", "services:\n  box:\n    command: [sleep, '1000']\n");
    sandbox.sinew(&["up", "-d"]).ok();
    for (command, code, words) in [
        (
            "no-such-program",
            127,
            "not found inside the seal in /usr/local/bin, /usr/bin, /bin and 2 more folders of PATH",
        ),
        ("/no/such/program", 127, "No such file or directory"),
        ("/etc/passwd", 126, "Permission denied"),
        ("./web.py", 126, "Permission denied"),
        ("/etc", 126, "Permission denied"),
    ] {
        let done = sandbox.sinew(&["exec", "box", "--", command]);
        assert_eq!(done.code, code, "{command}: {}", done.stderr);
        assert!(done.stderr.contains(command) && done.stderr.contains(words), "{}", done.stderr);
    }
    assert_eq!(sandbox.sinew(&["exec", "box", "--", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(sandbox.sinew(&["exec", "box", "--", "sh", "-c", "kill -9 $$"]).code, 137);
    let outside = sandbox.sinew(&["exec", "-w", "/no/folder", "box", "--", "true"]);
    assert!(outside.code == 126 && outside.stderr.contains("enter /no/folder"), "{}", outside.stderr);
    down(&sandbox);
}
