//! Clients of one version of HTTP and services of the other, as they are outside of this project.

use std::process::Command;

use crate::harness::{Sandbox, User, users};
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

/// Servers of tunnels, in the version that the first argument names.
const TUNNELS: &str = r#"
const crypto = require('crypto');
if (process.argv[2] === '1') {
  const server = require('http').createServer((request, response) => response.end());
  server.on('upgrade', (request, socket) => {
    const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
    const accept = crypto.createHash('sha1').update(key).digest('base64');
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
    socket.pipe(socket);
  });
  server.listen(8000, '0.0.0.0');
} else {
  const server = require('http2').createServer({ settings: { enableConnectProtocol: true } });
  server.on('stream', (stream, headers) => {
    stream.respond({ ':status': headers[':protocol'] === 'websocket' ? 200 : 400 });
    stream.pipe(stream);
  });
  server.listen(8000, '0.0.0.0');
}
process.on('SIGTERM', () => process.exit(0));
"#;

/// Opens a tunnel over each version to the address in the first argument, and says something into it.
const TUNNELLING: &str = r#"
const assert = require('assert');
const address = process.argv[2];
const heard = (stream, text) => new Promise((done, fail) => {
  let all = '';
  stream.on('data', data => { all += data; if (all === text) done(); });
  stream.on('error', fail);
});
(async () => {
  const session = require('http2').connect(address);
  await new Promise(done => session.once('remoteSettings', done));
  assert(session.remoteSettings.enableConnectProtocol);
  const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', 'sec-websocket-version': '13' });
  const headers = await new Promise((done, fail) => stream.on('response', done).on('error', fail));
  assert.equal(headers[':status'], 200);
  const both = heard(stream, 'hello twice');
  stream.write('hello ');
  stream.write('twice');
  await both;
  const ended = new Promise(done => stream.on('end', done));
  stream.end();
  await ended;
  session.close();

  const key = 'dGhlIHNhbXBsZSBub25jZQ==';
  const request = require('http').request(address + '/chat', { headers: { connection: 'upgrade', upgrade: 'websocket',
    'sec-websocket-key': key, 'sec-websocket-version': '13' } });
  const upgraded = new Promise((done, fail) => request.on('upgrade', (...all) => done(all)).on('error', fail));
  request.end();
  const [response, socket] = await upgraded;
  assert.equal(response.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
  const said = heard(socket, 'over the old one');
  socket.write('over the old one');
  await said;
  socket.destroy();
  console.log('all is well');
})().catch(error => { console.log(error); process.exit(1); });
"#;

#[test]
fn tunnels_open_between_versions() {
    let sandbox = Sandbox::new(User::Own, "tunnels");
    sandbox.write("tunnels.js", TUNNELS);
    let script = sandbox.write("tunnelling.js", TUNNELLING);
    let (old, new) = (free_port(), free_port());
    sandbox.write(
        "compose.yaml",
        &format!(
            r#"
services:
  old:
    command: [node, tunnels.js, "1"]
    ports: ["{old}:8000"]
    x-sinew: {{ health: {{ tcp: 8000 }} }}
  new:
    command: [node, tunnels.js, "2"]
    ports: ["{new}:8000"]
    x-sinew: {{ protocol: http2, health: {{ tcp: 8000 }} }}
"#
        ),
    );
    sandbox.sinew(&["up", "-d"]).ok();
    for port in [old, new] {
        let called = Command::new("node").arg(&script).arg(format!("http://127.0.0.1:{port}")).output();
        let called = called.expect("node is installed");
        let said = String::from_utf8_lossy(&called.stdout);
        assert!(said.contains("all is well"), "{said} {}", String::from_utf8_lossy(&called.stderr));
    }
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
