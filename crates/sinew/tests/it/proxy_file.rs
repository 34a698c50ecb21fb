//! The file of `sinew proxy --config`: the example of the page serves, and one that cannot be used is told.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sinew_ca::Authority;
use sinew_spec::name::TrustDomain;

use crate::clients::tls::certify;
use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;
use crate::swaps::{Proxy, backend};

const PATIENCE: Duration = Duration::from_secs(20);

/// The status line of an answer.
fn ask(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    (!line.is_empty()).then_some(line)
}

#[test]
fn the_example_of_the_page_serves() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let example =
        page.split("# proxy.yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the example");
    let sandbox = Sandbox::new(User::Own, "proxyfile");
    let domain = TrustDomain::new("test.sinew");
    let authority = Authority::open(&sandbox.folder.join("ca"), &domain, SystemTime::now());
    let authority = authority.expect("a new authority");
    sandbox.write("root.pem", authority.bundle_pem());
    certify(&sandbox.folder, &authority, "edge");
    let (port, address) = (free_port(), backend("web"));
    let good = example
        .replace("shop.sinew", "test.sinew")
        .replace("127.0.0.1:8000", &address.to_string())
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"));
    let bad = good.replace("request_timeout_ms: 10000", "header_timeout_ms: 0");
    assert_ne!(good, bad);
    let line = 1 + bad.lines().position(|line| line.starts_with("limits:")).expect("limits");
    let reason = format!(":{line}:11: limits.header_timeout_ms is 0, which would let nothing through");
    let rest = ["--chain", "edge.pem", "--key", "edge.key", "--bundle", "root.pem"];

    sandbox.write("bad.yaml", &bad);
    let refused = sandbox.sinew(&[["proxy", "--config", "bad.yaml"].as_slice(), &rest].concat());
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("bad.yaml{reason}")), "{}", refused.stderr);

    sandbox.write("proxy.yaml", &good);
    let mut command = sandbox.command(&[["proxy", "--config", "proxy.yaml"].as_slice(), &rest].concat());
    let mut proxy = Proxy(command.stderr(Stdio::piped()).spawn().expect("start the binary under test"));
    let stderr = proxy.0.stderr.take().expect("it is piped");
    assert_eq!(until("it serves", PATIENCE, || ask(port)), "HTTP/1.1 200 OK\r\n");
    sandbox.write("proxy.yaml", &bad);
    kill(Pid::from_raw(proxy.0.id() as i32), Signal::SIGHUP).expect("tell the proxy");
    let mut said = String::new();
    BufReader::new(stderr).read_line(&mut said).expect("it says something");
    let told = format!("proxy.yaml{reason}; the last good configuration goes on");
    assert!(said.contains(&told), "{said}");
    assert_eq!(ask(port).as_deref(), Some("HTTP/1.1 200 OK\r\n"));
}
