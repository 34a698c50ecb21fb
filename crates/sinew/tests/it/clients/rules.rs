//! Published ports against the rules of HTTP/2, one by one, asked by a client with framing of its own.

use std::path::Path;
use std::time::Duration;

use crate::clients::said;
use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;

/// Answers everything with five bytes, and `/large` with a mebibyte. Over HTTP/2 a session of Node.js allows little memory for
/// answers that nobody reads; here that is what some cases are about.
const APPLICATION: &str = r#"
const answer = (request, response) => request.on('data', () => {}).on('end', () => {
  const body = 'x'.repeat(request.url.startsWith('/large') ? 1 << 20 : 5);
  response.setHeader('content-length', body.length);
  response.end(request.method === 'HEAD' ? '' : body);
});
const server = process.argv[2] === '2'
  ? require('http2').createServer({ maxSessionMemory: 1000 }, answer) : require('http').createServer(answer);
server.listen(8000, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
"#;

#[test]
fn http2_is_spoken_by_its_rules() {
    let sandbox = Sandbox::new(User::Own, "rules");
    sandbox.write("application.js", APPLICATION);
    let ports = [free_port(), free_port()];
    sandbox.write(
        "compose.yaml",
        &format!(
            r#"
services:
  one:
    command: [node, application.js, "1"]
    ports: ["{}:8000"]
    x-sinew: {{ health: {{ tcp: 8000 }} }}
  two:
    command: [node, application.js, "2"]
    ports: ["{}:8000"]
    x-sinew: {{ protocol: http2, health: {{ tcp: 8000 }} }}
"#,
            ports[0], ports[1]
        ),
    );
    sandbox.sinew(&["up", "-d"]).ok();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/http2_rules.py");
    for port in ports {
        until("the port is published", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let told = said("python3", &[&rules.display().to_string(), "127.0.0.1", &port.to_string()]);
        assert!(told.ends_with(" cases, 0 failed\n"), "{told}");
    }
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
