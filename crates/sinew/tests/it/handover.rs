//! Another build of the program takes over what runs, under load, and nobody notices: not those who ask through a
//! published port, not those who ask through two sidecars, not who has a long stream. A build that crashes at start
//! changes nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use sinew_testkit::load::{Load, Options};

use crate::grpc::{SERVER, give_grpcio};
use crate::harness::{Sandbox, User, is_release, until};
use crate::lifetimes::{WEB, free_port};

mod builds;
mod faults;
mod midst;

use builds::{Builds, daemon_log, proxies, up_with, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);
const RATE: u32 = 200;

/// Writes requests that nobody may repeat, through two sidecars, until it is stopped.
const CALLER: &str = r#"
import http.client, signal, threading
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
lock, counts = threading.Lock(), {"asked": 0, "failed": 0}
def calls():
    connection = None
    while not ended.is_set():
        try:
            if connection is None:
                connection = http.client.HTTPConnection("web", 8000, timeout=20)
            connection.request("POST", "/", body=b"a reading that must not be written twice")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise Exception(answer.status)
            with lock:
                counts["asked"] += 1
        except Exception as error:
            with lock:
                counts["failed"] += 1
            print("lost:", repr(error), flush=True)
            connection = None
        ended.wait(0.01)
threads = [threading.Thread(target=calls) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("asked:", counts["asked"], "failed:", counts["failed"], flush=True)
"#;

/// One stream for as long as it lives, on which each word is answered, and calls of their own beside it.
const STREAM: &str = r#"
import grpc, signal, threading
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
channel = grpc.insecure_channel("server:8000", options=[("grpc.enable_retries", 0)])
other = grpc.insecure_channel("server:8000", options=[("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)])
answered = threading.Semaphore(1)
def words():
    number = 0
    while not ended.is_set():
        answered.acquire()
        yield str(number).encode()
        number += 1
        ended.wait(0.05)
calls, failed = 0, []
def unary():
    global calls
    call = other.unary_unary("/test.Test/Unary")
    while not ended.is_set():
        try:
            call(b"hello", timeout=20)
            calls += 1
        except grpc.RpcError as error:
            failed.append(str(error.code()) + " " + error.details())
        ended.wait(0.01)
thread = threading.Thread(target=unary)
thread.start()
count = 0
try:
    for answer in channel.stream_stream("/test.Test/Both")(words()):
        count += 1
        answered.release()
except grpc.RpcError as error:
    failed.append("stream: " + str(error.code()) + " " + error.details())
    ended.wait()
thread.join()
print(f"words: {count} calls: {calls} failed: {len(failed)} {failed[:3]}", flush=True)
"#;

struct Scene {
    sandbox: Sandbox,
    port: u16,
    builds: Builds,
}

/// The gateway's and those of five instances.
const PROXIES: usize = 6;

impl Scene {
    fn new(name: &str) -> Self {
        let sandbox = Sandbox::new(User::Own, name);
        let port = free_port();
        give_grpcio(&sandbox);
        sandbox.write("web.py", WEB);
        sandbox.write("caller.py", CALLER);
        sandbox.write("server.py", SERVER);
        sandbox.write("stream.py", STREAM);
        sandbox.write(
            "compose.yaml",
            &format!(
                r#"
services:
  web:
    command: [python3, web.py]
    ports: ["{port}:8000"]
    deploy: {{ replicas: 2 }}
    x-sinew: {{ health: {{ http: {{ port: 8000, path: / }} }}, protocol: {{ 8000: http }}, workers: 2 }}
  caller:
    command: [python3, caller.py]
    stop_grace_period: 30s
    depends_on: {{ web: {{ condition: service_healthy }} }}
  server:
    command: [python3, server.py]
    environment: {{ PYTHONPATH: ./python }}
    expose: [8000]
    x-sinew: {{ health: {{ tcp: 8000 }} }}
  stream:
    command: [python3, stream.py]
    environment: {{ PYTHONPATH: ./python }}
    stop_grace_period: 30s
    depends_on: {{ server: {{ condition: service_healthy }} }}
x-sinew: {{ gateway: {{ workers: 2 }} }}
"#
            ),
        );
        sandbox.sinew(&["up", "-d"]).ok();
        Self { sandbox, port, builds: Builds::new(name) }
    }

    fn instances(&self) -> Vec<Value> {
        let status = self.sandbox.sinew(&["status", "-o", "json"]).ok().json();
        let services = status["services"].as_array().expect("services").clone();
        services
            .iter()
            .flat_map(|service| service["instances"].as_array().expect("instances").clone())
            .collect()
    }

    /// All have tried a build that crashes, and nothing has changed.
    fn wait_for_refusal(&self, before: &[i64], tries: usize) {
        let log = || daemon_log(&self.sandbox);
        let count = || log().matches("goes on: the new one ended").count();
        until("the new build is given up", PATIENCE, || (count() >= PROXIES * tries).then_some(()));
        assert_eq!(proxies(&self.sandbox), before, "{}", log());
    }
}

/// A connection that was upgraded, through the published port.
struct Tunnel(BufReader<TcpStream>);

impl Tunnel {
    fn open(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        let ask = b"GET /tunnel HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(ask).expect("ask");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        assert!(line.starts_with("HTTP/1.1 101"), "{line}");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).expect("a field");
        }
        Self(reader)
    }

    /// Until the other side ends it.
    fn ends(&mut self) {
        let mut line = String::new();
        assert!(matches!(self.0.read_line(&mut line), Ok(0) | Err(_)), "{line}");
    }

    fn say(&mut self, word: &str) {
        self.0.get_mut().write_all(format!("{word}\n").as_bytes()).expect("say");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("hear");
        assert_eq!(line.trim_end(), word);
    }
}

/// `crashing`: which of the upgrades are with a build that crashes, counted from 0.
fn upgrade_under_load(name: &str, upgrades: usize, crashing: &[usize]) {
    let mut scene = Scene::new(name);
    let load = |body: Option<&str>| {
        Load::start(Options {
            address: ([127, 0, 0, 1], scene.port).into(),
            host: "web".into(),
            path: "/".into(),
            body: body.map(str::to_owned),
            requests_per_second: RATE,
            connections: 16,
            answer_timeout: Duration::from_secs(20),
            time_max: Duration::from_secs(1800),
        })
    };
    let loads = [load(Some("a reading that must not be written twice")), load(None)];
    let mut tunnel = Tunnel::open(scene.port);
    loads.iter().for_each(|load| load.pass(100));
    let services = |scene: &Scene| -> Vec<Value> {
        scene.instances().iter().map(|instance| instance["service_pid"].clone()).collect()
    };
    let before = services(&scene);
    for round in 0..upgrades {
        if crashing.contains(&round) {
            let log = daemon_log(&scene.sandbox);
            let tried = log.matches("goes on: the new one ended").count() / PROXIES;
            let before = proxies(&scene.sandbox);
            let build = scene.builds.crashing();
            up_with(&scene.sandbox, &build);
            scene.wait_for_refusal(&before, tried + 3);
        } else {
            let build = scene.builds.next();
            let said = up_with(&scene.sandbox, &build);
            assert!(said.contains("another build of sinew"), "{said}");
            wait_for(&scene.sandbox, &build, PROXIES);
        }
        tunnel.say(&format!("after upgrade {round}"));
        loads.iter().for_each(|load| load.pass(100));
    }
    assert_eq!(services(&scene), before, "services go on");
    tunnel.say("to the end");
    let mut lost = Vec::new();
    for load in loads {
        let report = load.finish();
        println!(
            "{} sent, {} failed, p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms",
            report.sent,
            report.failed.len(),
            report.quantile_ms(0.5),
            report.quantile_ms(0.99),
            report.quantile_ms(1.0),
        );
        lost.extend(report.failed);
    }
    scene.sandbox.sinew(&["stop", "caller", "stream"]).ok();
    let said = |service: &str, start: &str| {
        until("it says how it went", PATIENCE, || {
            let logs = scene.sandbox.sinew(&["logs", service]).ok().stdout;
            let found = logs.lines().find(|line| line.contains(start)).map(str::to_owned);
            found.map(|line| (line, logs))
        })
    };
    let (caller, all) = said("caller", "asked: ");
    let (stream, _) = said("stream", "words: ");
    println!("{caller}\n{stream}");
    assert_eq!(lost, [], "{}", daemon_log(&scene.sandbox));
    assert!(caller.ends_with("failed: 0"), "{all}{}", daemon_log(&scene.sandbox));
    assert!(stream.contains("failed: 0 "), "{stream}");
    assert!(!stream.contains("words: 0 ") && !stream.contains("calls: 0 "), "{stream}");
    scene.sandbox.sinew(&["down"]).ok();
    assert_eq!(scene.sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn another_build_takes_over_and_nothing_is_lost() {
    let crashing: &[usize] = if is_release() { &[] } else { &[1] };
    upgrade_under_load("takeover", 3, crashing);
}

/// `cargo xtask upgrades`.
#[test]
#[ignore = "takes minutes: cargo xtask upgrades"]
fn twenty_builds_take_over_and_nothing_is_lost() {
    let crashing: &[usize] = if is_release() { &[] } else { &[6, 13] };
    upgrade_under_load("twenty", 20, crashing);
}
