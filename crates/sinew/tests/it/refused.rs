//! A seal has one door: the mesh and declared egress go through it, everything else is refused at once and shown.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use crate::harness::{Sandbox, until, users};

/// `probe.py tcp|udp HOST PORT`: says "hi", prints the answer or the error's name, and the milliseconds to the outcome.
const PROBE: &str = r#"
import errno, json, socket, sys, time
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
start = time.monotonic()
try:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(3)
    s.connect((host, port))
    s.send(b"hi")
    answer = s.recv(100).decode()
    outcome = answer or "closed"
except socket.gaierror:
    outcome = "no such name"
except OSError as error:
    outcome = errno.errorcode.get(error.errno, repr(error))
print(json.dumps({"outcome": outcome, "ms": (time.monotonic() - start) * 1000}))
"#;

/// On both families at once, as [::]:8000.
const DUAL: &str = r#"
import socket
s = socket.create_server(("::", 8000), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, _ = s.accept()
    try:
        if c.recv(100): c.sendall(b"dual")
    except OSError: pass
    c.close()
"#;

/// On IPv6 only.
const SIX: &str = r#"
import socket
s = socket.create_server(("::", 8000), family=socket.AF_INET6)
while True:
    c, _ = s.accept()
    try:
        if c.recv(100): c.sendall(b"six")
    except OSError: pass
    c.close()
"#;

fn echo_listeners() -> (u16, u16) {
    let tcp = TcpListener::bind("0.0.0.0:0").expect("listen");
    let udp = UdpSocket::bind("0.0.0.0:0").expect("listen");
    let ports = (tcp.local_addr().expect("bound").port(), udp.local_addr().expect("bound").port());
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let mut stream = stream;
            let mut part = [0; 100];
            if let Ok(count) = stream.read(&mut part) {
                let _ = stream.write_all(&[b"tcp ", &part[..count]].concat());
            }
        }
    });
    std::thread::spawn(move || {
        let mut part = [0; 100];
        while let Ok((count, from)) = udp.recv_from(&mut part) {
            let _ = udp.send_to(&[b"udp ", &part[..count]].concat(), from);
        }
    });
    ports
}

#[test]
fn only_the_mesh_and_declared_egress() {
    let (tcp, udp) = echo_listeners();
    let host = nix::unistd::gethostname().expect("the host has a name").to_string_lossy().into_owned();
    for user in users() {
        let sandbox = Sandbox::new(user, "door");
        sandbox.write("probe.py", PROBE);
        sandbox.write("dual.py", DUAL);
        sandbox.write("six.py", SIX);
        sandbox.write(
            "compose.yaml",
            &format!(
                r#"
services:
  prober:
    command: [sleep, infinity]
    networks: [near]
    x-sinew:
      egress: ["{host}:{tcp}/tcp", "{host}:{udp}/udp"]
  dual:
    command: [python3, dual.py]
    expose: [8000]
    networks: [near]
  six:
    command: [python3, six.py]
    expose: [8000]
    networks: [near]
  stranger:
    command: [python3, dual.py]
    expose: [8000]
    networks: [far]
networks: {{ near: {{}}, far: {{}} }}
"#
            ),
        );
        sandbox.sinew(&["up", "-d"]).ok();
        let probe = |kind: &str, host: &str, port: u16| {
            let arguments = ["exec", "prober", "--", "python3", "probe.py", kind, host, &port.to_string()];
            let done = sandbox.sinew(&arguments).ok();
            let answer = done.json();
            println!("{user:?} {kind} {host}:{port} {answer}");
            (
                answer["outcome"].as_str().expect("an outcome").to_owned(),
                answer["ms"].as_f64().expect("a time"),
            )
        };
        assert_eq!(probe("tcp", "dual", 8000).0, "dual");
        assert_eq!(probe("tcp", "six", 8000).0, "six");
        assert_eq!(probe("tcp", &host, tcp).0, "tcp hi");
        assert_eq!(probe("udp", &host, udp).0, "udp hi");

        let own = own_address();
        let refused = [
            ("tcp", "203.0.113.7", 80),
            ("udp", "203.0.113.7", 53),
            ("tcp", "2001:db8::7", 80),
            ("tcp", own.as_str(), tcp),
            ("tcp", "198.18.77.77", 8000),
            ("tcp", &host, if tcp == 9 { 7 } else { 9 }),
        ];
        for (kind, to, port) in refused {
            let (outcome, ms) = probe(kind, to, port);
            let errors =
                ["ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "EPERM", "EACCES", "closed"];
            assert!(errors.contains(&outcome.as_str()), "{kind} {to}:{port}: {outcome}");
            assert!(ms <= 50.0, "{kind} {to}:{port} took {ms} ms");
        }
        assert_eq!(probe("tcp", "stranger", 8000).0, "no such name");

        until("every refusal is shown", Duration::from_secs(5), || {
            let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
            let service = status["services"].as_array()?.iter().find(|s| s["name"] == "prober")?.clone();
            let shown: Vec<&str> =
                service["refused"].as_array()?.iter().filter_map(|r| r["destination"].as_str()).collect();
            let wanted =
                ["203.0.113.7:80/tcp", "203.0.113.7:53/udp", "[2001:db8::7]:80/tcp", "198.18.77.77:8000/tcp"];
            wanted.iter().all(|destination| shown.contains(destination)).then_some(())
        });
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

/// An address of this host that is not loopback, where it has one; nothing is sent to find out.
fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let found = socket.connect("203.0.113.1:9").and_then(|()| socket.local_addr());
    found.map_or_else(|_| "203.0.113.9".to_owned(), |address| address.ip().to_string())
}
