//! The memory budget of a real process: slow readers press on it, others are told so, and it comes back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, SystemTime};

use sinew_ca::Authority;
use sinew_spec::name::TrustDomain;

use crate::clients::tls::certify;
use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;

const BUDGET_BYTES: u64 = 16 * 1024 * 1024;
/// What the allocator needs beside what is counted, and the kernel for a process.
const SLACK_BYTES: u64 = 32 * 1024 * 1024;
const LARGE_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers `/large` with a megabyte and anything else with two bytes.
fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(stream: TcpStream) -> Option<()> {
    static LARGE: [u8; LARGE_BYTES] = [b'x'; LARGE_BYTES];
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut is_large) = (String::new(), false);
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            is_large |= line.starts_with("GET /large ");
        }
        let body = if is_large { &LARGE[..] } else { b"hi" };
        write!(reader.get_mut(), "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
        reader.get_mut().write_all(body).ok()?;
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Asks for a megabyte on each of so many streams, and takes none of it: its windows are shut.
fn slow_reader(port: u16, streams: u32) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let settings = [frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]), frame(4, 1, 0, &[])].concat();
    let ask = |number: u32| frame(1, 5, 2 * number - 1, b"\x82\x04\x06/large\x86\x01\x03web");
    let asks: Vec<u8> = (1..=streams).flat_map(ask).collect();
    stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &asks].concat()).ok()?;
    Some(stream)
}

/// One answer on a connection that stays, head and body.
fn ask(reader: &mut BufReader<TcpStream>) -> Option<String> {
    reader.get_mut().write_all(b"GET /small HTTP/1.1\r\nHost: web\r\n\r\n").ok()?;
    let (mut answer, mut length) = (String::new(), 0);
    loop {
        let start = answer.len();
        if reader.read_line(&mut answer).ok()? == 0 {
            return None;
        }
        let line = answer[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(answer)
}

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Proxy {
    fn resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
    }
}

fn metric(sandbox: &Sandbox, name: &str) -> u64 {
    let mut stream =
        std::os::unix::net::UnixStream::connect(sandbox.folder.join("admin.sock")).expect("the admin API");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("ask");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name}: {text}")) as u64
}

#[test]
fn slow_readers_make_a_proxy_shed_and_nothing_else() {
    let sandbox = Sandbox::new(User::Own, "budget");
    let domain = TrustDomain::new("test.sinew");
    let authority =
        Authority::open(&sandbox.folder.join("ca"), &domain, SystemTime::now()).expect("a new authority");
    sandbox.write("root.pem", authority.bundle_pem());
    certify(&sandbox.folder, &authority, "edge");
    let (port, address) = (free_port(), application());
    let text = format!(
        "revision: 1\ntrust_domain: test.sinew\nnamespace: shop\nservice: edge\ninstance: edge-1\n\
         destinations:\n  - service: web\n    address: 198.18.0.7\n    protocols: {{80: http1}}\n    endpoints:\n      \
         - {{instance: web-1, hop: {{plain: '{address}'}}}}\n\
         egress: []\npublished: [{{listen: '127.0.0.1:{port}', service: web, port: 80, protocol: http}}]\n\
         limits: {{memory_bytes_max: {BUDGET_BYTES}, upstream_connections_per_endpoint_max: 2000}}\n"
    );
    sandbox.write("proxy.yaml", &text);
    let child = sandbox
        .command(&["proxy", "--config", "proxy.yaml", "--chain", "edge.pem", "--key", "edge.key"])
        .args(["--bundle", "root.pem", "--admin", "admin.sock"])
        .spawn()
        .expect("start the binary under test");
    let proxy = Proxy(child);
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(BufReader::new(stream))
    };
    let mut other = until("the port is published", PATIENCE, connect);
    let first = ask(&mut other).expect("an answer");
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    let resident_max = proxy.resident_bytes() + BUDGET_BYTES + SLACK_BYTES;

    let mut hostile = Vec::new();
    let refused = until("there is no memory for others", PATIENCE, || {
        if hostile.len() < 100 {
            hostile.extend(slow_reader(port, 20));
        }
        let resident = proxy.resident_bytes();
        assert!(resident < resident_max, "{resident} bytes, {} slow readers", hostile.len());
        Some(ask(&mut other).expect("an answer, whichever"))
            .filter(|answer| !answer.starts_with("HTTP/1.1 200"))
    });
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(
        refused.contains("\r\nx-sinew-reason: overload\r\n") && refused.contains("\r\nretry-after: 1\r\n")
    );
    assert!(metric(&sandbox, "sinew_requests_shed_total") > 0);
    // More of them change nothing.
    for _ in 0..50 {
        hostile.extend(slow_reader(port, 20));
        let resident = proxy.resident_bytes();
        assert!(resident < resident_max, "{resident} bytes, {} slow readers", hostile.len());
    }

    drop(hostile);
    until("others are served again", PATIENCE, || {
        let mut next = connect()?;
        ask(&mut next).filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    until("memory is free again", PATIENCE, || {
        (metric(&sandbox, "sinew_memory_bytes") < BUDGET_BYTES / 2).then_some(())
    });
}
