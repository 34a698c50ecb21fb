//! HAProxy in front of a published port.

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
