//! Nothing is lost while instances come and go: 500 requests/s through the gateway to a service with three replicas.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sinew_testkit::load::{Load, Options, Report};

use crate::harness::{Sandbox, User, until};
use crate::lifetimes::{WEB, free_port};

const RATE: u32 = 500;

fn application(name: &str, body: Option<&str>) -> (Sandbox, Load) {
    let sandbox = Sandbox::new(User::Own, name);
    let port = free_port();
    sandbox.write("web.py", WEB);
    sandbox.write(
        "compose.yaml",
        &format!(
            r#"
services:
  web:
    command: [python3, web.py]
    ports: ["{port}:8000"]
    stop_grace_period: 5s
    deploy: {{ replicas: 3 }}
    x-sinew: {{ health: {{ http: {{ port: 8000, path: / }} }}, protocol: {{ 8000: http }} }}
"#
        ),
    );
    sandbox.sinew(&["up", "-d"]).ok();
    let load = Load::start(Options {
        address: ([127, 0, 0, 1], port).into(),
        host: "web".into(),
        path: "/".into(),
        body: body.map(str::to_owned),
        requests_per_second: RATE,
        connections: 32,
        answer_timeout: Duration::from_secs(5),
        time_max: Duration::from_secs(120),
    });
    load.pass(500);
    (sandbox, load)
}

fn finish(sandbox: &Sandbox, load: Load) -> Report {
    let report = load.finish();
    println!(
        "{} sent, {} failed, p50 {:.1} ms, p99 {:.1} ms, served by {:?}",
        report.sent,
        report.failed.len(),
        report.quantile_ms(0.5),
        report.quantile_ms(0.99),
        report.served_by
    );
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
    report
}

fn instances(sandbox: &Sandbox) -> Vec<Value> {
    let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
    status["services"][0]["instances"].as_array().expect("instances").clone()
}

fn pid(instance: &Value, of: &str) -> Pid {
    Pid::from_raw(instance[of].as_i64().unwrap_or_else(|| panic!("no {of} in {instance}")) as i32)
}

#[test]
fn scale_restart_and_stop_lose_nothing() {
    let (sandbox, load) = application("scaled", Some("a reading that must not be written twice"));
    for count in [6, 2] {
        sandbox.sinew(&["scale", &format!("web={count}")]).ok();
        until("the wanted number runs", Duration::from_secs(30), || {
            let running = instances(&sandbox)
                .iter()
                .filter(|i| i["health"] == "healthy" && i["state"] == "running")
                .count();
            (running == count).then_some(())
        });
        load.pass(1000);
    }
    sandbox.sinew(&["restart", "web"]).ok();
    load.pass(1000);
    let first = instances(&sandbox)[0]["name"].as_str().expect("a name").to_owned();
    sandbox.sinew(&["stop", &first]).ok();
    load.pass(500);
    sandbox.sinew(&["start", &first]).ok();
    load.pass(500);
    let report = finish(&sandbox, load);
    assert_eq!(report.failed, []);
    assert!(report.served_by.len() >= 6, "{:?}", report.served_by);
}

#[test]
fn a_killed_instance_costs_what_it_had_in_flight() {
    let (sandbox, load) = application("shot", None);
    let victim = instances(&sandbox)[0].clone();
    let at = Instant::now();
    kill(pid(&victim, "service_pid"), Signal::SIGKILL).expect("kill a service");
    load.pass(1500);
    let elapsed_ms = at.elapsed().as_millis();
    let report = finish(&sandbox, load);
    // 32 connections: at most that many requests were in flight, a third of them on the victim, and a margin.
    assert!(
        report.failed.len() <= 16,
        "{} failed in {elapsed_ms} ms: {:?}",
        report.failed.len(),
        report.failed
    );
    if let (Some(first), Some(last)) = (report.failed.first(), report.failed.last()) {
        assert!(last.0 - first.0 <= 1000, "callers chose a dead instance for {} ms", last.0 - first.0);
    }
}

#[test]
fn a_killed_sidecar_is_replaced_while_connections_wait() {
    let (sandbox, load) = application("bereft", None);
    let victim = instances(&sandbox)[0].clone();
    let name = victim["name"].as_str().expect("a name").to_owned();
    let old = pid(&victim, "sidecar_pid");
    let at = Instant::now();
    kill(old, Signal::SIGKILL).expect("kill a sidecar");
    until("a new sidecar", Duration::from_secs(5), || {
        let now = instances(&sandbox).into_iter().find(|i| i["name"] == *name)?;
        now["sidecar_pid"].as_i64().filter(|pid| *pid != i64::from(old.as_raw()))
    });
    let replaced = at.elapsed();
    load.pass(1500);
    let report = finish(&sandbox, load);
    assert!(replaced < Duration::from_secs(1), "replaced after {replaced:?}");
    assert!(report.failed.len() <= 16, "{:?}", report.failed);
    if let (Some(first), Some(last)) = (report.failed.first(), report.failed.last()) {
        assert!(last.0 - first.0 <= 1000, "{:?}", report.failed);
    }
}
