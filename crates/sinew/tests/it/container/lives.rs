//! Who dies with whom, where one of them is a container.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::harness::wait;

const ONE: &str = r#"
services:
  web:
    image: localhost/busy
    command: [sh, -c, "mkdir -p /www; echo $$$$ > /www/index.html; echo began; exec httpd -f -p 8000 -h /www"]
    expose: [8000]
    restart: always
    stop_grace_period: 1s
    volumes: ["data:/data"]
  client: { command: [sleep, "1000"] }
volumes: { data: }
"#;

/// `init_pid` or `service_pid` of `web-1`.
fn pid(sandbox: &Sandbox, which: &str) -> Option<i32> {
    let listed = sandbox.sinew(&["ps", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).ok()?;
    let web = listed.as_array()?.iter().find(|instance| instance["name"] == "web-1")?;
    if web["state"] != "running" {
        return None;
    }
    web[which].as_i64().and_then(|pid| i32::try_from(pid).ok())
}

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it lives");
}

fn serves(sandbox: &Sandbox) {
    until("the container is called", PATIENCE, || {
        let asked = ["exec", "client", "--", "curl", "-s", "-m", "2", "http://web:8000/"];
        (sandbox.sinew(&asked).code == 0).then_some(())
    });
}

#[test]
fn a_killed_foreground_launcher_leaves_no_container() {
    let podman = Podman::start();
    podman.image("busy", &[]);
    let sandbox = sandbox(&podman, "fore");
    sandbox.write("compose.yaml", ONE);
    for _ in 0..2 {
        let mut launcher = sandbox.command(&["up"]);
        let mut launcher = launcher.stdout(std::process::Stdio::null()).spawn().expect("it starts");
        until("the container runs", PATIENCE, || pid(&sandbox, "service_pid"));
        assert_eq!(podman.containers().len(), 1);
        launcher.kill().expect("it lives");
        wait(&mut launcher, Duration::from_secs(10)).expect("it was killed");
        until("nothing is left", PATIENCE, || {
            (podman.containers().is_empty() && sandbox.processes().is_empty()).then_some(())
        });
    }
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn containers_outlive_a_detached_launcher_and_come_back_when_they_die() {
    let podman = Podman::start();
    podman.image("busy", &[]);
    let sandbox = sandbox(&podman, "detach");
    sandbox.write("compose.yaml", ONE);
    sandbox.sinew(&["up", "-d"]).ok();
    let running = |which: &'static str| until("the container runs", PATIENCE, || pid(&sandbox, which));
    let before = (running("init_pid"), running("service_pid"));

    // The launcher is killed: the next one takes over the same processes.
    let launcher = std::fs::read_to_string(sandbox.run().join("detach/lock")).expect("a launcher runs");
    end(launcher.trim().parse().expect("a pid"));
    sandbox.sinew(&["up", "-d"]).ok();
    assert_eq!((running("init_pid"), running("service_pid")), before);
    serves(&sandbox);

    // The container dies.
    end(before.1);
    until("another process of the container runs", PATIENCE, || {
        pid(&sandbox, "service_pid").filter(|pid| *pid != before.1)
    });
    serves(&sandbox);

    // It comes by the engine, a little after it was said; an init that is killed takes along what it has not written.
    let began = |lives: usize| {
        until("each life has said that it began", PATIENCE, || {
            let logs = sandbox.sinew(&["logs", "web"]).ok().stdout;
            (logs.matches("began").count() == lives).then_some(())
        });
    };
    began(2);

    // Its init dies: everything is made anew.
    end(running("init_pid"));
    until("another init runs", PATIENCE, || pid(&sandbox, "init_pid").filter(|pid| *pid != before.0));
    serves(&sandbox);
    assert_eq!(podman.containers().len(), 1, "the old one is gone");
    began(3);

    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
    assert_eq!(podman.containers(), Vec::<String>::new());
}
