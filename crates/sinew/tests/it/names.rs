//! Names that clients choose, one after the other: what a proxy knows about requests does not grow with them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use sinew_ca::Authority;
use sinew_spec::name::TrustDomain;

use crate::clients::tls::certify;
use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;
use crate::memory::memory;
use crate::swaps::{Proxy, backend};

const PATIENCE: Duration = Duration::from_secs(20);
/// Until buffers, pools and the heap have the size that they keep.
const FIRST: u32 = 2_000;
const MANY: u32 = 20_000;
/// Written at once: answers to so many fit into the kernel's buffers.
const AT_ONCE: usize = 100;
const GROWTH_MIB_MAX: f64 = 1.0;

#[test]
fn names_that_clients_choose_leave_nothing_behind() {
    let sandbox = Sandbox::new(User::Own, "names");
    let authority =
        Authority::open(&sandbox.folder.join("ca"), &TrustDomain::new("test.sinew"), SystemTime::now());
    let authority = authority.expect("a new authority");
    sandbox.write("root.pem", authority.bundle_pem());
    certify(&sandbox.folder, &authority, "edge");
    let (port, address) = (free_port(), backend("one"));
    sandbox.write(
        "proxy.yaml",
        &format!(
            "revision: 1\ntrust_domain: test.sinew\nnamespace: shop\nservice: edge\ninstance: edge-1\n\
             destinations:\n  - service: web\n    address: 198.18.0.7\n    protocols: {{}}\n    endpoints:\n      \
             - {{instance: web-1, hop: {{plain: '{address}'}}}}\n\
             egress: []\npublished: [{{listen: '127.0.0.1:{port}', service: web, port: 80, protocol: http}}]\n"
        ),
    );
    let child = sandbox
        .command(&["proxy", "--config", "proxy.yaml", "--chain", "edge.pem", "--key", "edge.key"])
        .args(["--bundle", "root.pem", "--admin", "admin.sock"])
        .spawn()
        .expect("start the binary under test");
    let proxy = Proxy(child);
    let pid = i32::try_from(proxy.0.id()).expect("a pid");
    let stream = until("the port is published", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).ok());
    let mut client = BufReader::new(stream);
    ask(&mut client, 0..FIRST);
    let before = (series(&sandbox.folder.join("admin.sock")), memory(pid).1);
    ask(&mut client, FIRST..FIRST + MANY);
    let after = (series(&sandbox.folder.join("admin.sock")), memory(pid).1);
    println!("{} series, {:.2} MiB private before, {:.2} after", before.0, before.1, after.1);
    assert_eq!(after.0, before.0);
    assert!(after.1 - before.1 <= GROWTH_MIB_MAX, "{:.2} MiB, then {:.2}", before.1, after.1);
}

/// Each with a host, a path, a query and an id of its own.
fn ask(client: &mut BufReader<TcpStream>, mut names: Range<u32>) {
    client.get_ref().set_read_timeout(Some(PATIENCE)).expect("set a timeout");
    loop {
        let part: Vec<u32> = names.by_ref().take(AT_ONCE).collect();
        let request = |n: &u32| {
            format!(
                "GET /p{n}?q={n} HTTP/1.1\r\nHost: h{n}.example\r\nX-Request-Id: r{n}\r\nUser-Agent: u{n}\r\n\r\n"
            )
        };
        if part.is_empty() {
            return;
        }
        let text: String = part.iter().map(request).collect();
        client.get_mut().write_all(text.as_bytes()).expect("ask");
        for _ in part {
            read_answer(client);
        }
    }
}

fn read_answer(client: &mut BufReader<TcpStream>) {
    let (mut line, mut first, mut length) = (String::new(), None, 0);
    while line != "\r\n" {
        line.clear();
        assert!(client.read_line(&mut line).expect("an answer") > 0, "it ended");
        first.get_or_insert_with(|| line.clone());
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    assert!(first.is_some_and(|first| first.starts_with("HTTP/1.1 200 ")), "{line}");
    client.read_exact(&mut vec![0; length]).expect("a body");
}

/// How many lines `/metrics` has, but those of times, which come as they are met.
fn series(admin: &Path) -> usize {
    let mut stream = UnixStream::connect(admin).expect("the admin API");
    let ask = b"GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).expect("ask");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("metrics");
    let lines = text.lines().filter(|line| line.starts_with("sinew_") && !line.contains("_bucket")).count();
    assert!(lines > 10, "{text}");
    lines
}
