//! Containers of a real engine, rootful: sealed, called and ended like processes. The engine is the test's own, with its
//! storage in a folder that goes with it.

use std::time::Duration;

use crate::harness::{Sandbox, User, until};

mod docker;
mod engine;
mod lives;
mod sealed;
mod servers;
mod volumes;

use engine::{Engine, Podman};

/// Engines take their time on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox whose engine is `podman`.
fn sandbox(podman: &Podman, name: &str) -> Sandbox {
    sandbox_of(podman, User::Own, name)
}

fn sandbox_of(podman: &Podman, user: User, name: &str) -> Sandbox {
    let mut sandbox = Sandbox::new(user, name);
    sandbox.environment.push(("XDG_RUNTIME_DIR", podman.runtime_folder().display().to_string()));
    sandbox.environment.push(("CONTAINER_HOST", format!("unix://{}", podman.socket().display())));
    sandbox
}

const MIXED: &str = r#"
services:
  web:
    image: localhost/busy
    command: [sh, -c, "mkdir -p /www; echo hello $$NAME > /www/index.html; echo serving; exec httpd -f -p 8000 -h /www"]
    environment: { NAME: engine }
    expose: [8000]
    ports: ["8000"]
    stop_grace_period: 1s
    healthcheck: { test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1:8000/index.html"], interval: 5s }
  process:
    command: [python3, -m, http.server, "8000"]
    expose: [8000]
    depends_on: { web: { condition: service_healthy } }
  ask:
    image: localhost/busy
    command: [sh, -c, "wget -q -O - http://web:8000/; wget -q -O - http://process:8000/page.txt; exec sleep 1000"]
    stop_grace_period: 1s
    depends_on:
      web: { condition: service_healthy }
      process: { condition: service_started }
"#;

#[test]
fn containers_and_processes_are_one_mesh() {
    let podman = Podman::start();
    podman.image("busy", &[]);
    let sandbox = sandbox(&podman, "mixed");
    sandbox.write("compose.yaml", MIXED);
    sandbox.write("page.txt", "from a process\n");
    sandbox.sinew(&["up", "-d"]).ok();
    until("a container calls a container and a process", PATIENCE, || {
        let logs = sandbox.sinew(&["logs", "--no-prefix", "ask"]).stdout;
        logs.contains("hello engine\nfrom a process").then_some(())
    });
    let done = |arguments: &[&str]| {
        let done = sandbox.sinew(arguments);
        (done.code, done.stdout.trim_end().to_owned())
    };
    // A process asks a container, through two sidecars.
    assert_eq!(
        done(&["exec", "process", "--", "curl", "-s", "http://web:8000/"]),
        (0, "hello engine".to_owned())
    );
    // Commands in a container: with its environment, with input, with their codes.
    assert_eq!(done(&["exec", "web", "--", "sh", "-c", "echo $NAME; exit 7"]), (7, "engine".to_owned()));
    assert_eq!(done(&["exec", "web", "--", "no-such-program"]).0, 127);
    assert_eq!(
        done(&["exec", "-w", "/www", "-e", "X=y", "web", "--", "sh", "-c", "echo $X; cat index.html"]),
        (0, "y\nhello engine".to_owned())
    );
    let logs = sandbox.sinew(&["logs", "web"]).ok().stdout;
    assert!(logs.contains("web-1 | serving"), "{logs}");
    let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
    let web =
        status["services"].as_array().expect("services").iter().find(|service| service["name"] == "web");
    let instance = &web.expect("web is shown")["instances"][0];
    assert_eq!(instance["health"], "healthy");
    assert!(instance["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{instance}");

    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
    assert_eq!(podman.containers(), Vec::<String>::new());
}

#[test]
fn an_ordinary_user_has_containers_too() {
    if !crate::harness::users().contains(&User::Ordinary) {
        // Not root: the tests above are an ordinary user's already.
        return;
    }
    let podman = Podman::start_as(User::Ordinary);
    podman.image("busy", &[]);
    let sandbox = sandbox_of(&podman, User::Ordinary, "rootless");
    sandbox.write("compose.yaml", MIXED);
    sandbox.write("page.txt", "from a process\n");
    sandbox.sinew(&["up", "-d"]).ok();
    let asked = sandbox.sinew(&["exec", "process", "--", "curl", "-s", "http://web:8000/"]).ok();
    assert_eq!(asked.stdout, "hello engine\n");
    let asked =
        sandbox.sinew(&["exec", "web", "--", "wget", "-q", "-O", "-", "http://process:8000/page.txt"]).ok();
    assert_eq!(asked.stdout, "from a process\n");
    let inside =
        sandbox.sinew(&["exec", "web", "--", "sh", "-c", "ip link add x type dummy || nc -w 2 192.0.2.1 80"]);
    assert_ne!(inside.code, 0, "{}", inside.stdout);
    sandbox.sinew(&["down"]).ok();
    assert_eq!(podman.containers(), Vec::<String>::new());
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn without_an_engine_nothing_is_started() {
    let mut sandbox = Sandbox::new(User::Own, "absent");
    sandbox.write("compose.yaml", "services: {web: {image: localhost/busy}}\n");
    sandbox.environment.push(("CONTAINER_HOST", "unix:///nowhere/podman.sock".to_owned()));
    let done = sandbox.sinew(&["up", "-d"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
    let expected = "the container engine at /nowhere/podman.sock does not answer";
    assert!(done.stderr.contains(expected), "{}", done.stderr);
    assert!(done.stderr.contains("systemctl enable --now podman.socket"), "{}", done.stderr);
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
