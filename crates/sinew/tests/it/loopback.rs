//! What a service binds to loopback is its own: others reach what listens for them, and what the file declares.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use sinew_node::folders::{Bases, Folders};

use crate::harness::{Sandbox, until, users};

/// Answers on each `ADDRESS:PORT` of its arguments with what it listens on, its own address as the client named it, and
/// who the client seems to be. `http=` before it: HTTP.
const SERVER: &str = r#"
import socket, sys, threading
def serve(text):
    http = text.startswith("http=")
    address, port = text.removeprefix("http=").rsplit(":", 1)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, int(port))); s.listen()
    while True:
        c, peer = s.accept()
        try:
            c.recv(1000)
            said = "%s %s" % (address, peer[0])
            if http: said = "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said)
            c.sendall(said.encode()); c.close()
        except OSError: pass
for text in sys.argv[1:-1]: threading.Thread(target=serve, args=(text,), daemon=True).start()
serve(sys.argv[-1])
"#;

/// `call.py HOST PORT [http]`: the answer, or how it ended, and after how many ms.
const CALL: &str = r#"
import socket, sys, time
begun = time.monotonic()
hello = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" if len(sys.argv) > 3 else b"hello"
said = b""
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as s:
        s.settimeout(5)
        s.sendall(hello)
        while True:
            part = s.recv(1000)
            if not part: break
            said += part
except ConnectionError: pass
ms = int((time.monotonic() - begun) * 1000)
text = said.decode().replace("\r\n", "|")
print("refused after %d" % ms if not text else text)
"#;

/// The addresses of a name, as clients ask that want only what they could reach (AI_ADDRCONFIG).
const FIND: &str = r#"
import socket, sys
found = socket.getaddrinfo(sys.argv[1], 80, socket.AF_UNSPEC, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
print(*{address[0] for *_, address in found})
"#;

#[test]
fn loopback_is_for_the_service_alone() {
    for user in users() {
        let sandbox = Sandbox::new(user, "own");
        sandbox.write("server.py", SERVER);
        sandbox.write("call.py", CALL);
        sandbox.write(
            "compose.yaml",
            r#"
services:
  web:
    command: [python3, server.py, "0.0.0.0:7001", "127.0.0.1:7002", "127.0.0.1:7003", "::1:7004", ":::7005",
      "::1:7006", "http=127.0.0.1:7007", "http=0.0.0.0:7008", "web-host:7009", "127.0.0.1:7010", "127.0.0.1:8000"]
    hostname: web-host
    expose: [7003, 7006]
    x-sinew: { health: { tcp: 8000 } }
  caller: { command: [sleep, infinity], depends_on: { web: { condition: service_healthy } } }
"#,
        );
        sandbox.sinew(&["up", "-d"]).ok();
        let call = |from: &str, host: &str, port: u16, kind: &str| {
            let port = port.to_string();
            let mut arguments = vec!["exec", from, "--", "python3", "call.py", host, &port];
            arguments.extend((!kind.is_empty()).then_some(kind));
            let said = sandbox.sinew(&arguments).ok().stdout.trim().to_owned();
            println!("{user:?} {from} -> {host}:{port} {kind}: {said}");
            said
        };
        // Callers never seem to come from loopback, which applications trust.
        for (port, expected) in [
            (7001, "0.0.0.0 198.19.255.254"),
            (7003, "127.0.0.1 198.19.255.254"),
            (7005, ":: fd8b:5e1d:77c2::1"),
            (7006, "::1 fd8b:5e1d:77c2::1"),
            (7009, "web-host 198.19.255.254"),
        ] {
            assert_eq!(call("caller", "web", port, ""), expected, "port {port}");
        }
        let answer = call("caller", "web", 7008, "http");
        assert!(answer.ends_with("||0.0.0.0 198.19.255.254"), "{answer}");

        // A health check's port is the launcher's business: it is not declared for callers.
        for port in [7002, 7004, 7010, 8000] {
            let refused = call("caller", "web", port, "");
            let ms = refused.strip_prefix("refused after ").and_then(|ms| ms.parse::<u64>().ok());
            assert!(ms.is_some_and(|ms| ms < 2000), "port {port}: {refused}");
        }
        let refused = call("caller", "web", 7007, "http");
        assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("listens on loopback"), "{refused}");
        assert_eq!(call("web", "127.0.0.1", 7002, ""), "127.0.0.1 127.0.0.1", "its own is its own");
        // Resolvers leave out a family of which no interface has an address, and Node.js asks them to: names of the mesh
        // are found in IPv4 also where the seal has IPv6.
        let found = sandbox.sinew(&["exec", "caller", "--", "python3", "-c", FIND, "web"]).ok().stdout;
        let address = found.trim().strip_prefix("198.18.").unwrap_or_else(|| panic!("web is at {found}"));
        assert!(!address.contains(' '), "one address: {found}");

        until("status says which and why", Duration::from_secs(10), || {
            let shown = sandbox.sinew(&["status"]).ok().stdout;
            let line = shown.lines().find(|line| line.starts_with("! web listens on loopback only"))?;
            ["port 7002", "port 7004", "port 7007", "port 7010", "port 8000"]
                .iter()
                .all(|port| line.contains(port))
                .then_some(())
        });
        let metrics = metrics(&sandbox, "web-1");
        let counted =
            r#"sinew_request_failures_total{direction="inbound",route="7007",reason="loopback_only"} 1"#;
        assert!(metrics.contains(counted), "{metrics}");
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

/// Of an instance's sidecar.
fn metrics(sandbox: &Sandbox, instance: &str) -> String {
    let bases = Bases { run: sandbox.run(), state: sandbox.state() };
    let admin = Folders::new(&bases, &"own".into()).instance(&instance.into()).admin_socket();
    let mut stream = UnixStream::connect(admin).expect("the sidecar listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("its answer");
    answer
}
