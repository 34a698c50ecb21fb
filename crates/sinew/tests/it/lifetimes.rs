//! Who dies with whom: the launcher killed in the foreground ends everything, killed in the background ends nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Sandbox, User, until, users, wait};

/// Answers every GET and POST with its host name, and echoes lines where an upgrade is asked for. On both families, like
/// `http.server` is not.
pub const WEB: &str = r#"
import socket, sys, signal, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        if self.headers.get("Upgrade"):
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "echo")
            self.end_headers()
            for line in self.rfile:
                self.wfile.write(line)
            self.close_connection = True
            return
        body = socket.gethostname().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
    def log_message(self, *arguments):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

server = Server(("0.0.0.0", 8000), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
"#;

fn compose(port: u16) -> String {
    format!(
        r#"
services:
  web:
    command: [python3, web.py]
    expose: [8000]
    deploy: {{ replicas: 2 }}
    x-sinew: {{ health: {{ http: {{ port: 8000, path: / }} }}, protocol: {{ 8000: http }} }}
  edge:
    command: [python3, web.py]
    ports: ["{port}:8000"]
    depends_on: [web]
"#
    )
}

fn application(user: User, name: &str) -> (Sandbox, u16) {
    let sandbox = Sandbox::new(user, name);
    let port = free_port();
    sandbox.write("compose.yaml", &compose(port));
    sandbox.write("web.py", WEB);
    (sandbox, port)
}

/// A port that was free a moment ago, below the range from which the kernel gives ports to others.
pub fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    loop {
        let port =
            20_000 + (std::process::id() as u16 % 100) * 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub fn get(port: u16) -> std::io::Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.strip_prefix("HTTP/1.1 200") {
        Some(_) => Ok(text.rsplit("\r\n").next().unwrap_or_default().to_owned()),
        None => Err(std::io::Error::other(text)),
    }
}

/// (instance, init, sidecar, service) of everything that runs.
fn pids(status: &Value) -> Vec<(String, Value, Value, Value)> {
    let mut pids: Vec<_> = status["services"]
        .as_array()
        .expect("services")
        .iter()
        .flat_map(|service| service["instances"].as_array().expect("instances"))
        .map(|i| {
            let name = i["name"].as_str().expect("a name").to_owned();
            (name, i["init_pid"].clone(), i["sidecar_pid"].clone(), i["service_pid"].clone())
        })
        .collect();
    pids.sort_by(|a, b| a.0.cmp(&b.0));
    pids
}

#[test]
fn foreground_killed_leaves_nothing() {
    for user in users() {
        let (sandbox, port) = application(user, "killed");
        let rounds = if user == User::Own { 20 } else { 3 };
        for _ in 0..rounds {
            let mut up = sandbox
                .command(&["up"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .expect("start up");
            until("the page answers", Duration::from_secs(20), || get(port).ok());
            kill(Pid::from_raw(up.id() as i32), Signal::SIGKILL).expect("kill the launcher");
            wait(&mut up, Duration::from_secs(5));
            until("every process ends with its launcher", Duration::from_secs(5), || {
                sandbox.processes().is_empty().then_some(())
            });
            assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "the published port is free again");
        }
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new(), "as {user:?}");
    }
}

#[test]
fn detached_survives_its_launcher_and_is_adopted() {
    for user in users() {
        let (sandbox, port) = application(user, "adopted");
        sandbox.sinew(&["up", "-d"]).ok();
        let before = pids(&sandbox.sinew(&["status", "-o", "json"]).ok().json());
        assert!(
            before
                .iter()
                .all(|(_, init, sidecar, service)| [init, sidecar, service].iter().all(|pid| pid.is_i64()))
        );

        let stop = Arc::new(AtomicBool::new(false));
        let load = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut answers = 0;
                while !stop.load(Ordering::Relaxed) {
                    get(port).map_err(|e| format!("after {answers} answers: {e}"))?;
                    answers += 1;
                }
                Ok::<_, String>(answers)
            })
        };
        let daemons: Vec<_> =
            sandbox.processes().into_iter().filter(|(_, line)| line.contains("__daemon")).collect();
        assert_eq!(daemons.len(), 1, "{daemons:?}");
        kill(Pid::from_raw(daemons[0].0), Signal::SIGKILL).expect("kill the launcher");
        until("the launcher is gone", Duration::from_secs(5), || {
            (!sandbox.processes().iter().any(|(pid, _)| *pid == daemons[0].0)).then_some(())
        });
        let unattended = get(port).expect("services go on without a launcher");
        assert!(unattended.starts_with("edge"), "{unattended}");

        let start = Instant::now();
        sandbox.sinew(&["up", "-d"]).ok();
        let adoption = start.elapsed();
        let after = pids(&sandbox.sinew(&["status", "-o", "json"]).ok().json());
        assert_eq!(before, after, "the same processes, as {user:?}");
        assert!(adoption < Duration::from_secs(2), "adopted in {adoption:?}");

        stop.store(true, Ordering::Relaxed);
        let answers = load.join().expect("the load does not panic").expect("no request is lost");
        assert!(answers > 10, "{answers} answers");
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new(), "as {user:?}");
    }
}
