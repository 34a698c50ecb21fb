//! A frozen sidecar says nothing about itself: its callers find it, leave it out, and take it back when it answers.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;

const PATIENCE: Duration = Duration::from_secs(30);
/// As many as it takes that several are on their way to each instance.
const CLIENTS: usize = 16;
/// Clients that give up soon, like most.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);
/// Calls that are enough to see that none is lost.
const MANY: usize = 300;
/// Of a lease: whatever is frozen is out of use after this at the latest.
const GRACE: Duration = Duration::from_secs(10);

const WEB: &str = r#"
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = os.environ["HOSTNAME"].encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Answer).serve_forever()
"#;

struct Answer {
    began: Instant,
    /// Who answered.
    instance: Option<String>,
}

/// Clients that call without a pause, each request on a connection of its own.
struct Load {
    answers: Arc<Mutex<Vec<Answer>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(port: u16) -> Self {
        let (answers, stop) = (Arc::<Mutex<Vec<Answer>>>::default(), Arc::<AtomicBool>::default());
        let client = || {
            let (answers, stop) = (answers.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let instance = call(port);
                    let answer = Answer { began, instance };
                    answers.lock().expect("no client panics").push(answer);
                    // A machine that has other work to do as well.
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            })
        };
        let threads = (0..CLIENTS).map(|_| client()).collect();
        Self { answers, stop, threads }
    }

    /// Requests that began after `since`, and are over.
    fn since<T>(&self, since: Instant, look: impl FnOnce(&[&Answer]) -> T) -> T {
        let answers = self.answers.lock().expect("no client panics");
        look(&answers.iter().filter(|answer| answer.began >= since).collect::<Vec<_>>())
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no client panics"));
    }
}

fn call(port: u16) -> Option<String> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), CLIENT_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(CLIENT_TIMEOUT)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

fn web(status: &Value) -> Value {
    status["services"].as_array().expect("services").iter().find(|s| s["name"] == "web").expect("web").clone()
}

#[test]
fn a_frozen_sidecar_is_left_out_and_taken_back() {
    let sandbox = Sandbox::new(User::Own, "frozen");
    let port = free_port();
    sandbox.write("web.py", WEB);
    sandbox.write(
        "compose.yaml",
        &format!(
            "services:
  web:
    command: [python3, web.py]
    deploy: {{ replicas: 3 }}
    ports: ['{port}:8000']
    x-sinew: {{ health: {{ tcp: 8000 }} }}
"
        ),
    );
    sandbox.sinew(&["up", "-d"]).ok();
    let load = Load::on(port);
    let begin = Instant::now();
    let answering = |load: &Load, since: Instant| -> BTreeSet<String> {
        load.since(since, |answers| answers.iter().filter_map(|answer| answer.instance.clone()).collect())
    };
    until("all three answer", PATIENCE, || (answering(&load, begin).len() == 3).then_some(()));

    let status = web(&sandbox.sinew(&["status", "-o", "json"]).ok().json());
    let instance = status["instances"].as_array().expect("instances").iter().find(|i| i["name"] == "web-2");
    let sidecar = instance.and_then(|i| i["sidecar_pid"].as_i64()).expect("a sidecar") as i32;
    kill(Pid::from_raw(sidecar), Signal::SIGSTOP).expect("freeze it");
    let frozen = Instant::now();
    // Its callers leave it out, or the control plane does: whoever is faster.
    until("many calls in a row are answered", PATIENCE, || {
        let are_answered = |answers: &[&Answer]| {
            let last = answers.iter().rev().take(MANY);
            answers.len() >= MANY && last.clone().all(|answer| answer.instance.is_some())
        };
        (frozen.elapsed() > 2 * CLIENT_TIMEOUT && load.since(frozen, are_answered)).then_some(())
    });
    let lost: Vec<Duration> = load.since(frozen, |answers| {
        let lost = answers.iter().filter(|answer| answer.instance.is_none());
        lost.map(|answer| answer.began - frozen).collect()
    });
    let last = lost.iter().max().copied().unwrap_or_default();
    println!("{} lost, the last of them begun after {last:?}", lost.len());
    assert!(last <= GRACE, "a call was lost that began {last:?} after it froze");
    until("status names it", PATIENCE, || {
        let shown = sandbox.sinew(&["status"]).ok().stdout;
        shown.contains("! the control plane hears nothing of the sidecar of web-2").then_some(())
    });
    let known = Instant::now();
    until("many calls later", PATIENCE, || load.since(known, |answers| answers.len() >= MANY).then_some(()));
    assert_eq!(load.since(known, |answers| answers.iter().filter(|a| a.instance.is_none()).count()), 0);
    assert_eq!(answering(&load, known).len(), 2);

    kill(Pid::from_raw(sidecar), Signal::SIGCONT).expect("thaw it");
    let thawed = Instant::now();
    until("it is taken back", PATIENCE, || answering(&load, thawed).contains("web-2").then_some(()));
    until("and nobody leaves it out", PATIENCE, || {
        let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
        let is_silent = status["silent"].as_array().is_some_and(|silent| !silent.is_empty());
        (!is_silent && web(&status)["left_out"] == 0).then_some(())
    });
    println!("taken back after {:?}", thawed.elapsed());
    load.end();
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
