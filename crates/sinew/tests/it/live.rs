//! Every command against a running application, as a user types them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::harness::{Sandbox, User, until, users, wait};

const COMPOSE: &str = "\
services:
  web:
    command: [python3, -u, -m, http.server, '8000']
    depends_on: { db: { condition: service_healthy } }
    environment: { GREETING: hello }
    x-sinew: { health: { http: { port: 8000, path: / } } }
  db:
    command: [python3, -u, -m, http.server, '8000']
    x-sinew: { health: { http: { port: 8000, path: / } } }
  worker:
    command: [sh, -c, 'echo first; echo wrong >&2; exec sleep 1000']
";

fn names(sandbox: &Sandbox, arguments: &[&str]) -> Vec<String> {
    let arguments: Vec<&str> = [&["ps", "-q"], arguments].concat();
    sandbox.sinew(&arguments).ok().stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_day_with_an_application() {
    for user in users() {
        let sandbox = Sandbox::new(user, "shop");
        sandbox.write("compose.yaml", COMPOSE);
        let up = sandbox.sinew(&["up", "-d"]).ok().stdout;
        assert!(up.contains("web: waits for db to be healthy\n"), "{up}");
        assert!(up.contains("3 services (3 instances) up in "), "{up}");

        asks(&sandbox);
        gets_in(&sandbox);
        changes(&sandbox);

        assert_eq!(
            sandbox.sinew(&["down", "-v"]).ok().stdout,
            "shop is down; there were no volumes to delete\n"
        );
        assert_eq!(sandbox.sinew(&["down"]).ok().stdout, "nothing runs here\n");
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

fn asks(sandbox: &Sandbox) {
    assert_eq!(names(sandbox, &[]), ["db-1", "web-1", "worker-1"]);
    let status = sandbox.sinew(&["status"]).ok().stdout;
    assert!(status.starts_with("shop  all 3 services as wanted"), "{status}");
    let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
    assert!(status["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{status}");
    let unknown = sandbox.sinew(&["restart", "wbe"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("did you mean `web`?"), "{}", unknown.stderr);
    let unknown = sandbox.sinew(&["stop", "web-7"]);
    assert!(unknown.stderr.contains("has no instance `web-7`") && unknown.code == 2, "{}", unknown.stderr);

    let logs = || sandbox.sinew(&["logs", "worker", "-o", "json"]).ok().stdout;
    let lines = until("both lines are there", Duration::from_secs(5), || {
        Some(logs()).filter(|l| l.lines().count() == 2)
    });
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    let stream =
        |text: &str| lines.iter().find(|line| line["text"] == text).map(|line| line["stream"].clone());
    assert_eq!((stream("first"), stream("wrong")), (Some("stdout".into()), Some("stderr".into())));
    let tail = sandbox.sinew(&["logs", "--tail", "1", "worker-1"]).ok().stdout;
    assert!(tail.starts_with("worker-1 | ") && tail.lines().count() == 1, "{tail}");

    let names = sandbox.sinew(&["__names"]).ok().stdout;
    assert_eq!(names, "db\nweb\nworker\n");
    let elsewhere = sandbox.sinew(&["-C", "/", "ps"]);
    assert!(elsewhere.stderr.contains("there is no compose file in /"), "{}", elsewhere.stderr);
    let by_name = sandbox.sinew(&["-C", "/", "-p", "shop", "ps", "-q"]).ok();
    assert_eq!(by_name.stdout.lines().count(), 3);
}

fn gets_in(sandbox: &Sandbox) {
    let done = sandbox.sinew(&["exec", "web", "--", "sh", "-c", "echo $GREETING; echo aside >&2; exit 7"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (7, "hello\n", "aside\n"));
    let done = sandbox.sinew(&[
        "exec",
        "-e",
        "GREETING=bye",
        "-w",
        "/tmp",
        "web-1",
        "--",
        "sh",
        "-c",
        "echo $GREETING; pwd",
    ]);
    assert_eq!(done.ok().stdout, "bye\n/tmp\n");
    let done = sandbox.sinew(&["exec", "web", "--", "no-such-program"]);
    assert_eq!(done.code, 127);
    assert!(done.stderr.contains("no-such-program") && done.stderr.contains("hint: "), "{}", done.stderr);

    let mut command = sandbox.command(&["exec", "-i", "worker", "--", "tr", "a-z", "A-Z"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(b"passed on").expect("it reads");
    drop(input);
    let mut output = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut output).expect("text");
    assert_eq!((wait(&mut child, Duration::from_secs(10)), output.as_str()), (Some(0), "PASSED ON"));

    let mut command = sandbox.command(&["port-forward", "db:8000", "0"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let address = line.split(' ').next().expect("an address");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    kill(pid, Signal::SIGINT).expect("it runs");
    assert_eq!(wait(&mut child, Duration::from_secs(10)), Some(0));
}

fn changes(sandbox: &Sandbox) {
    assert_eq!(sandbox.sinew(&["scale", "web=3"]).ok().stdout, "web: 1 -> 3\n");
    until("three are up", Duration::from_secs(10), || {
        let status = sandbox.sinew(&["status", "web"]).ok().stdout;
        status.starts_with("shop  all 1 service as wanted").then_some(())
    });
    assert_eq!(names(sandbox, &["web"]).len(), 3);
    assert_eq!(sandbox.sinew(&["scale", "web=1"]).ok().stdout, "web: 3 -> 1\n");
    assert_eq!(names(sandbox, &["web"]).len(), 1, "scale returns when they have gone");
    assert_eq!(sandbox.sinew(&["scale", "web=1"]).ok().stdout, "web has 1 instance already\n");
    assert_eq!(sandbox.sinew(&["stop", "worker"]).ok().stdout, "worker stopped\n");
    assert_eq!(names(sandbox, &["worker"]), [""; 0]);
    let stopped = sandbox.sinew(&["exec", "worker", "--", "true"]);
    assert!(stopped.stderr.contains("no instance of `worker` runs"), "{}", stopped.stderr);
    assert_eq!(sandbox.sinew(&["start", "worker"]).ok().stdout, "worker started\n");

    let nothing = sandbox.sinew(&["up", "-d"]).ok().stdout;
    assert!(nothing.contains("shop runs already; nothing changed"), "{nothing}");
    sandbox.write("compose.yaml", &COMPOSE.replace("hello", "good evening"));
    let applied = sandbox.sinew(&["up", "-d"]).ok().stdout;
    assert!(applied.contains("  ~ web (environment): its instances are replaced\n"), "{applied}");
    let greeting = sandbox.sinew(&["exec", "web", "--", "printenv", "GREETING"]).ok().stdout;
    assert_eq!(greeting, "good evening\n");
    let bad = sandbox.write("compose.yaml", "services: { web: { comand: [x] } }\n");
    assert_eq!(sandbox.sinew(&["up", "-d"]).code, 2, "{} is wrong", bad.display());
    assert_eq!(names(sandbox, &["db"]), ["db-1"], "what runs goes on");
}

#[test]
fn up_says_why_a_service_does_not_come_up() {
    let sandbox = Sandbox::new(User::Own, "broken");
    sandbox.write(
        "compose.yaml",
        "services:\n  a:\n    command: [python3, -c, \"import sys; print('no database'); sys.exit(3)\"]\n",
    );
    let done = sandbox.sinew(&["up", "-d"]);
    assert_eq!(done.code, 1);
    for part in ["`a-1` does not come up: ended with code 3", "  | no database\n", "hint: `sinew logs a`"] {
        assert!(done.stderr.contains(part), "{part:?} is missing in:\n{}", done.stderr);
    }
    let status = sandbox.sinew(&["status"]).ok().stdout;
    assert!(status.contains("x a-1 ended with exit code 3 and is not restarted"), "{status}");
    assert!(status.contains("last log line: no database"), "{status}");
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn waiting_has_an_end() {
    let sandbox = Sandbox::new(User::Own, "slow");
    sandbox.write(
        "compose.yaml",
        "services:\n  a:\n    command: [sleep, '1000']\n    \
         healthcheck: { test: [CMD, 'false'], start_period: 1h }\n",
    );
    let done = sandbox.sinew(&["up", "-d", "--wait-timeout", "300ms", "-o", "json"]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert_eq!(done.json()["error"]["code"], "timeout");
    sandbox.sinew(&["down", "--kill"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn the_foreground_shows_logs_and_ends_with_an_interrupt() {
    let sandbox = Sandbox::new(User::Own, "front");
    let program = "import signal, sys, time\n\
         def end(*_):\n    print('going', flush=True)\n    sys.exit(0)\n\
         signal.signal(signal.SIGTERM, end)\nprint('here', flush=True)\ntime.sleep(1000)\n";
    sandbox.write("service.py", program);
    sandbox.write("compose.yaml", "services: { a: { command: [python3, service.py] } }\n");
    let mut command = sandbox.command(&["up"]);
    let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "a-1 | here"), "the log follows");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    // As a terminal does it: everything in the process group hears of it.
    killpg(pid, Signal::SIGINT).expect("it runs");
    assert!(lines.any(|line| line == "a-1 | going"), "the log follows to the end");
    assert_eq!(wait(&mut child, Duration::from_secs(20)), Some(0));
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
