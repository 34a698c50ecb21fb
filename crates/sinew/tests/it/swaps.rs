//! Configurations change ten times a second under a load that nobody may repeat, and nothing is lost.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sinew_ca::Authority;
use sinew_spec::name::TrustDomain;
use sinew_testkit::load::{Load, Options};

use crate::clients::tls::certify;
use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;

const EVERY: Duration = Duration::from_millis(100);

/// Answers requests with its name, on as many connections as come.
pub fn backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream, name));
        }
    });
    address
}

fn serve(stream: TcpStream, name: &str) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
    }
}

pub struct Proxy(pub Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn swaps_under_load(name: &str, swaps: u64, workers: usize) {
    let sandbox = Sandbox::new(User::Own, name);
    let domain = TrustDomain::new("test.sinew");
    let authority =
        Authority::open(&sandbox.folder.join("ca"), &domain, SystemTime::now()).expect("a new authority");
    sandbox.write("root.pem", authority.bundle_pem());
    certify(&sandbox.folder, &authority, "edge");
    let (port, backends) = (free_port(), [backend("one"), backend("two")]);
    // One endpoint, the other one, both; and limits that differ each time.
    let configure = |revision: u64| {
        let endpoints: String = (0..2)
            .filter(|number| revision % 3 != *number)
            .map(|number| {
                format!(
                    "      - {{instance: web-{number}, hop: {{plain: '{}'}}}}\n",
                    backends[number as usize]
                )
            })
            .collect();
        let text = format!(
            "revision: {revision}\ntrust_domain: test.sinew\nnamespace: shop\nservice: edge\ninstance: edge-1\n\
             destinations:\n  - service: web\n    address: 198.18.0.7\n    protocols: {{}}\n    endpoints:\n{endpoints}\
             egress: []\npublished: [{{listen: '127.0.0.1:{port}', service: web, port: 80, protocol: http}}]\n\
             limits: {{request_timeout_ms: {}, workers: {workers}}}\n",
            60_000 + revision
        );
        let next = sandbox.write("next.yaml", &text);
        fs::rename(next, sandbox.folder.join("proxy.yaml")).expect("replace the file");
    };
    configure(1);
    let child = sandbox
        .command(&["proxy", "--config", "proxy.yaml", "--chain", "edge.pem", "--key", "edge.key"])
        .args(["--bundle", "root.pem", "--admin", "admin.sock"])
        .spawn()
        .expect("start the binary under test");
    let proxy = Proxy(child);
    until("the port is published", Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", port)).ok());
    let load = Load::start(Options {
        address: ([127, 0, 0, 1], port).into(),
        host: "web".into(),
        path: "/".into(),
        body: Some("a reading that must not be written twice".into()),
        requests_per_second: 300,
        connections: 16,
        answer_timeout: Duration::from_secs(20),
        time_max: Duration::from_secs(1800),
    });
    load.pass(100);
    let began = Instant::now();
    let pid = Pid::from_raw(proxy.0.id() as i32);
    for number in 1..=swaps {
        let due = began + EVERY * number as u32;
        while let Some(rest) = due.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            std::thread::park_timeout(rest);
        }
        configure(1 + number);
        kill(pid, Signal::SIGHUP).expect("tell the proxy");
    }
    let last = format!("\nsinew_config_revision {}\n", 1 + swaps);
    until("the last one is served", Duration::from_secs(20), || {
        metrics(&sandbox).contains(&last).then_some(())
    });
    load.pass(100);
    let report = load.finish();
    println!(
        "{swaps} swaps, {} sent, {} failed, p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms, by {:?}",
        report.sent,
        report.failed.len(),
        report.quantile_ms(0.5),
        report.quantile_ms(0.99),
        report.quantile_ms(1.0),
        report.served_by
    );
    assert_eq!(report.failed, []);
    assert_eq!(report.served_by.len(), 2);
    let open = format!("\nsinew_worker_connections_open{{worker=\"{workers}\"}} ");
    assert!(metrics(&sandbox).contains(&open), "there are {workers} workers");
}

fn metrics(sandbox: &Sandbox) -> String {
    let mut stream =
        std::os::unix::net::UnixStream::connect(sandbox.folder.join("admin.sock")).expect("the admin API");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("ask");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn ten_configurations_a_second_lose_nothing() {
    swaps_under_load("swaps", 30, 1);
}

#[test]
fn nor_do_they_with_two_workers() {
    swaps_under_load("swapstwo", 30, 2);
}

#[test]
#[ignore = "takes minutes: cargo xtask upgrades"]
fn ten_configurations_a_second_lose_nothing_for_minutes() {
    swaps_under_load("swapslong", 1800, 1);
}
