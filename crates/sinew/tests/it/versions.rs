//! Clients of one version of HTTP and services of the other, as they are outside of this project.

use std::process::Command;

use crate::harness::{Sandbox, users};
use crate::lifetimes::free_port;

/// Python's own server: HTTP/1.1 alone, no chunks.
const OLD: &str = r#"
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        assert "transfer-encoding" not in self.headers
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        text = f"{self.request_version} {self.command} {self.path} host={self.headers['host']} ".encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"#;

fn curl(arguments: &[&str]) -> String {
    let called = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--write-out", " over %{http_version}"])
        .args(arguments)
        .output()
        .expect("curl is installed");
    assert!(called.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&called.stderr));
    String::from_utf8_lossy(&called.stdout).into_owned()
}

#[test]
fn clients_of_http2_reach_a_service_of_http1() {
    for user in users() {
        let sandbox = Sandbox::new(user, "versions");
        sandbox.write("old.py", OLD);
        let (found, declared) = (free_port(), free_port());
        sandbox.write(
            "compose.yaml",
            &format!(
                r#"
services:
  found:
    command: [python3, old.py]
    ports: ["{found}:8000"]
    x-sinew: {{ health: {{ tcp: 8000 }} }}
  declared:
    command: [python3, old.py]
    ports: ["{declared}:8000"]
    x-sinew: {{ protocol: http1, health: {{ tcp: 8000 }} }}
"#
            ),
        );
        sandbox.sinew(&["up", "-d"]).ok();
        for port in [found, declared] {
            let url = format!("http://127.0.0.1:{port}/a?b=c");
            for _ in 0..2 {
                for (version, over) in [("--http2-prior-knowledge", "2"), ("--http1.1", "1.1")] {
                    let said = curl(&[version, &url]);
                    let expected = format!("HTTP/1.1 GET /a?b=c host=127.0.0.1:{port}  over {over}");
                    assert_eq!(said, expected);
                    let said = curl(&[version, "--data-binary", "some text", &url]);
                    assert!(said.ends_with(&format!(" some text over {over}")), "{said}");
                }
            }
        }
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}
