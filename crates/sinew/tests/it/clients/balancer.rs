//! HAProxy in front of a published port.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clients::said;
use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;

/// Answers with the clients that it is told of.
const WEB: &str = r#"
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = ", ".join(self.headers.get_all("x-forwarded-for") or ["nobody"]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"#;

/// HAProxy as the service: it answers with the client that the header names.
#[test]
fn haproxy_is_told_who_called() {
    let sandbox = Sandbox::new(User::Own, "told");
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let [one, two, announced] = ports[..] else { panic!("three ports") };
    let front = |port: u16| {
        format!(
            "frontend f{port}\n  bind 0.0.0.0:{port} accept-proxy\n  http-request return status 200 content-type \
             text/plain lf-string %[src]\n"
        )
    };
    let text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n{}{}{}",
        front(8001),
        front(8002),
        front(8003)
    );
    sandbox.write("haproxy.cfg", &text);
    sandbox.write(
        "compose.yaml",
        &format!(
            r#"
services:
  web:
    command: [/usr/sbin/haproxy, -db, -f, haproxy.cfg]
    ports: ["{one}:8001", "{two}:8002", "{announced}:8003"]
    x-sinew:
      send_proxy: {{ 8001: v1, 8002: v2, 8003: v2 }}
      accept_proxy: {{ 8003: [127.0.0.1] }}
      health: {{ tcp: 8001 }}
  caller:
    command: [sleep, infinity]
"#
        ),
    );
    sandbox.sinew(&["up", "-d"]).ok();
    let ask = |from: &str, port: u16| {
        said("curl", &["-sS", "--max-time", "20", "--interface", from, &format!("http://127.0.0.1:{port}/")])
    };
    until("it is healthy", Duration::from_secs(20), || {
        let curl = Command::new("curl").args(["-sf", &format!("http://127.0.0.1:{one}/")]).output();
        curl.expect("curl").status.success().then_some(())
    });
    assert_eq!(ask("127.0.0.7", one), "127.0.0.7");
    assert_eq!(ask("127.0.0.8", two), "127.0.0.8");
    // What a balancer before us said goes on.
    let mut stream = TcpStream::connect(("127.0.0.1", announced)).expect("connect");
    let request =
        "PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("\r\n\r\n192.0.2.7"), "{answer}");
    // Another service has no address of its own: the sidecar's stands for it.
    let done = sandbox.sinew(&["exec", "caller", "--", "curl", "-sS", "http://web:8002/"]).ok();
    assert!(done.stdout.starts_with("198."), "{}", done.stdout);
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

struct Balancer(Child);

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_is_told_who_called_haproxy() {
    let sandbox = Sandbox::new(User::Own, "balanced");
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let [one, two, plain, published] = ports[..] else { panic!("four ports") };
    sandbox.write("web.py", WEB);
    sandbox.write(
        "compose.yaml",
        &format!(
            "services:\n  web:\n    command: [python3, web.py]\n    ports: ['{published}:8000']\n    \
             x-sinew: {{ accept_proxy: {{ 8000: [127.0.0.1] }}, health: {{ tcp: 8000 }} }}\n"
        ),
    );
    let server = format!("server web 127.0.0.1:{published}");
    let front = |port: u16, how: &str| {
        format!("listen l{port}\n  mode tcp\n  bind 127.0.0.1:{port}\n  {server} source 127.0.0.1 {how}\n")
    };
    let text = format!(
        "defaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n{}{}{}",
        front(one, "send-proxy"),
        front(two, "send-proxy-v2 proxy-v2-options crc32c check inter 100ms"),
        front(plain, "")
    );
    sandbox.write("haproxy.cfg", &text);
    sandbox.sinew(&["up", "-d"]).ok();
    let child = Command::new("haproxy")
        .args(["-db", "-f", "haproxy.cfg"])
        .current_dir(&sandbox.folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("haproxy is installed");
    let balancer = Balancer(child);
    for port in [one, two, plain] {
        until("haproxy listens", Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", port)).ok());
    }
    let ask = |from: &str, port: u16| {
        said("curl", &["-sS", "--max-time", "20", "--interface", from, &format!("http://127.0.0.1:{port}/")])
    };
    assert_eq!(ask("127.0.0.7", one), "127.0.0.7");
    assert_eq!(ask("127.0.0.8", two), "127.0.0.8");
    // Whoever is not believed is who he seems to be; whoever is, and says nothing, is not served.
    assert_eq!(ask("127.0.0.9", published), "127.0.0.9");
    let refused =
        Command::new("curl").args(["-s", &format!("http://127.0.0.1:{plain}/")]).output().expect("curl");
    assert!(!refused.status.success(), "{refused:?}");
    drop(balancer);
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
