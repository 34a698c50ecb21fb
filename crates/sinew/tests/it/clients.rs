//! Clients that others wrote, against the real binary: Node.js (gRPC, WebSocket), curl, nghttp and h2load, openssl and
//! testssl. Python's grpcio is in `grpc`.

mod balancer;
mod interop;
pub mod rules;
mod smuggling;
pub mod tls;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::grpc::{SERVER as GRPC_SERVER, give_grpcio};
use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;

/// Every kind of call, without generated code; says "all is well" at the end.
const GRPC_CALLS: &str = r#"
const assert = require('assert');
const grpc = require('@grpc/grpc-js');
const channel = new grpc.Client('server:8000', grpc.credentials.createInsecure(),
  { 'grpc.max_receive_message_length': -1, 'grpc.enable_retries': 0 });
const same = bytes => bytes;
const path = '/test.Test/';
const unary = (method, message, options = {}) => new Promise((done, fail) => {
  const call = channel.makeUnaryRequest(path + method, same, same, Buffer.from(message), new grpc.Metadata(), options,
    (error, answer) => error ? fail(error) : done(answer));
  if (options.cancelled_after) setTimeout(() => call.cancel(), options.cancelled_after);
});
const ended = stream => new Promise((done, fail) => {
  const all = [];
  stream.on('data', data => all.push(data)).on('end', () => done(all)).on('error', fail);
});
const code_of = promise => promise.then(() => assert.fail('no error'), error => [error.code, error.details]);

(async () => {
  assert((await unary('Unary', 'hello')).toString().startsWith('hello from '));

  const sum = await new Promise((done, fail) => {
    const call = channel.makeClientStreamRequest(path + 'ClientStream', same, same,
      (error, answer) => error ? fail(error) : done(answer));
    for (const part of ['12', '345']) call.write(Buffer.from(part));
    call.end();
  });
  assert.equal(sum.toString(), '5');

  const numbers = await ended(channel.makeServerStreamRequest(path + 'ServerStream', same, same, Buffer.from('1000')));
  assert.deepEqual(numbers.map(Number), [...Array(1000).keys()]);

  // Each word is said when the answer to the one before has come.
  const words = ['one', 'two', 'three'], answers = [];
  const both = channel.makeBidiStreamRequest(path + 'Both', same, same);
  await new Promise((done, fail) => {
    both.on('data', answer => {
      answers.push(answer.toString());
      words.length ? both.write(Buffer.from(words.shift())) : both.end();
    }).on('end', done).on('error', fail);
    both.write(Buffer.from(words.shift()));
  });
  assert.deepEqual(answers, ['ONE', 'TWO', 'THREE']);

  assert.equal((await code_of(unary('Slow', '', { deadline: Date.now() + 500 })))[0], grpc.status.DEADLINE_EXCEEDED);
  assert.equal((await code_of(unary('Slow', '', { cancelled_after: 300 })))[0], grpc.status.CANCELLED);
  assert.deepEqual(await code_of(unary('Fail', '')), [grpc.status.NOT_FOUND, 'there is no such thing']);
  assert.equal((await code_of(unary('Nothing', '')))[0], grpc.status.UNIMPLEMENTED);

  const message = Buffer.alloc(16 << 20, 'sixteen mebibytes');
  assert((await unary('Large', message)).equals(message));

  const nobody = new grpc.Client('idle:8000', grpc.credentials.createInsecure());
  const [code, details] = await code_of(new Promise((done, fail) => nobody.makeUnaryRequest(path + 'Unary', same, same,
    Buffer.from(''), (error, answer) => error ? fail(error) : done(answer))));
  assert.equal(code, grpc.status.UNAVAILABLE);
  assert(details.includes('accepts connections'), details);
  console.log('all is well');
  process.exit(0);
})().catch(error => { console.log(error); process.exit(1); });
"#;

/// Answers with what it is sent, over HTTP/1.1 and as a WebSocket.
const ECHO: &str = r#"
const http = require('http');
const { WebSocketServer } = require('ws');
const server = http.createServer((request, response) => {
  if (request.url === '/trailers') {
    response.writeHead(200, { trailer: 'x-sum' });
    request.on('data', () => {}).on('end', () => { response.write('body'); response.addTrailers({ 'x-sum': '4' }); response.end(); });
    return;
  }
  response.writeHead(200, { 'x-seen': `${request.method} ${request.url} ${request.headers.host}` });
  request.pipe(response);
});
const sockets = new WebSocketServer({ server, perMessageDeflate: true, maxPayload: 64 << 20,
  handleProtocols: offered => offered.has('echo') ? 'echo' : false });
sockets.on('connection', (socket, request) => {
  socket.on('message', (data, isBinary) => {
    if (data.toString() === 'close me') socket.close(4321, 'as you wish');
    else socket.send(data, { binary: isBinary });
  });
  socket.on('close', code => console.log(`closed ${code}`));
});
server.listen(8000, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
"#;

/// Talks to the address in its first argument.
const WEBSOCKET: &str = r#"
const assert = require('assert');
const { WebSocket } = require('ws');
const once = (emitter, event) => new Promise((done, fail) => {
  emitter.once(event, (...all) => done(all));
  emitter.once('error', fail);
});
const address = process.argv[2];
(async () => {
  for (const perMessageDeflate of [false, true]) {
    const socket = new WebSocket(address, 'echo', { perMessageDeflate, maxPayload: 64 << 20 });
    await once(socket, 'open');
    assert.equal(socket.protocol, 'echo');
    const asked = async message => { socket.send(message); return (await once(socket, 'message')); };
    assert.equal((await asked('hello'))[0].toString(), 'hello');
    const large = Buffer.alloc(16 << 20, 'sixteen mebibytes');
    const [answer, isBinary] = await asked(large);
    assert(isBinary && answer.equals(large));
    socket.send('in ', { fin: false }); socket.send('pieces', { fin: true });
    assert.equal((await once(socket, 'message'))[0].toString(), 'in pieces');
    const pong = once(socket, 'pong');
    socket.ping('are you there');
    assert.equal((await pong)[0].toString(), 'are you there');
    const closed = once(socket, 'close');
    socket.send('close me');
    const [code, reason] = await closed;
    assert.deepEqual([code, reason.toString()], [4321, 'as you wish']);
  }
  const many = await Promise.all([...Array(50).keys()].map(async n => {
    const socket = new WebSocket(address, 'echo');
    await once(socket, 'open');
    socket.send(`number ${n}`);
    const [answer] = await once(socket, 'message');
    const closed = once(socket, 'close');
    socket.close(1000);
    await closed;
    return answer.toString() === `number ${n}`;
  }));
  assert(many.every(Boolean));
  console.log('all is well');
})().catch(error => { console.log(error); process.exit(1); });
"#;

/// Answers with what it is sent, over HTTP/2 alone.
const ECHO_HTTP2: &str = r#"
const http2 = require('http2');
const server = http2.createServer((request, response) => {
  response.writeHead(200, { 'x-seen': `${request.method} ${request.url} ${request.headers[':authority']}` });
  request.pipe(response);
});
server.listen(8000, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
"#;

/// Installed by `cargo xtask test`.
fn give_node_packages(sandbox: &Sandbox) {
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node/node_modules");
    assert!(installed.is_dir(), "{} is not there: cargo xtask test installs it", installed.display());
    let copied = Command::new("cp").arg("-r").arg(installed).arg(&sandbox.folder).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(&sandbox.folder).status();
    assert!(opened.is_ok_and(|status| status.success()));
}

/// What a client outside says.
#[track_caller]
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("cargo xtask test installs it");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout + &stderr
}

#[test]
fn grpc_of_node_goes_through_two_sidecars() {
    let sandbox = Sandbox::new(User::Own, "grpcjs");
    give_grpcio(&sandbox);
    give_node_packages(&sandbox);
    sandbox.write("server.py", GRPC_SERVER);
    sandbox.write("calls.js", GRPC_CALLS);
    sandbox.write(
        "compose.yaml",
        r#"
services:
  server:
    command: [python3, server.py]
    environment: { PYTHONPATH: ./python }
    expose: [8000]
    x-sinew: { health: { tcp: 8000 } }
  idle:
    command: [sleep, "1000"]
  client:
    command: [sleep, "1000"]
    depends_on:
      server: { condition: service_healthy }
"#,
    );
    sandbox.sinew(&["up", "-d"]).ok();
    let calls = sandbox.sinew(&["exec", "client", "--", "node", "calls.js"]).ok();
    assert!(calls.stdout.contains("all is well"), "{}", calls.stdout);
    until("the server is told that its callers gave up", Duration::from_secs(20), || {
        let logs = sandbox.sinew(&["logs", "server"]).ok().stdout;
        (logs.matches("given up").count() == 2).then_some(())
    });
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn web_sockets_go_through_two_sidecars_and_published_ports() {
    let sandbox = Sandbox::new(User::Own, "websocket");
    give_node_packages(&sandbox);
    sandbox.write("echo.js", ECHO);
    sandbox.write("socket.js", WEBSOCKET);
    let port = free_port();
    sandbox.write(
        "compose.yaml",
        &format!(
            r#"
services:
  echo:
    command: [node, echo.js]
    ports: ["{port}:8000"]
    x-sinew: {{ health: {{ http: {{ port: 8000, path: / }} }} }}
  client:
    command: [sleep, "1000"]
    depends_on:
      echo: {{ condition: service_healthy }}
"#
        ),
    );
    sandbox.sinew(&["up", "-d"]).ok();
    let inside = sandbox.sinew(&["exec", "client", "--", "node", "socket.js", "ws://echo:8000/"]).ok();
    assert!(inside.stdout.contains("all is well"), "{}", inside.stdout);
    let script = sandbox.folder.join("socket.js").display().to_string();
    let outside = said("node", &[&script, &format!("ws://127.0.0.1:{port}/")]);
    assert!(outside.contains("all is well"), "{outside}");
    until("the server saw how all of them ended", Duration::from_secs(20), || {
        let logs = sandbox.sinew(&["logs", "echo"]).ok().stdout;
        (logs.matches("closed 4321").count() == 4 && logs.matches("closed 1000").count() == 100).then_some(())
    });
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn curl_nghttp_and_h2load_are_served_by_published_ports() {
    let sandbox = Sandbox::new(User::Own, "curl");
    give_node_packages(&sandbox);
    sandbox.write("echo.js", ECHO);
    sandbox.write("echo2.js", ECHO_HTTP2);
    let large = sandbox.write("large", &"0123456789abcdef".repeat(1 << 18));
    let (one, two) = (free_port(), free_port());
    sandbox.write(
        "compose.yaml",
        &format!(
            r#"
services:
  one:
    command: [node, echo.js]
    ports: ["{one}:8000"]
    x-sinew: {{ health: {{ http: {{ port: 8000, path: / }} }} }}
  two:
    command: [node, echo2.js]
    ports: ["{two}:8000"]
    x-sinew: {{ health: {{ tcp: 8000 }} }}
"#
        ),
    );
    sandbox.sinew(&["up", "-d"]).ok();
    let address = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");

    let got = said("curl", &["-sS", "--include", "--http1.1", "--max-time", "20", &address(one, "/a?b=c")]);
    assert!(got.contains("HTTP/1.1 200") && got.contains(&format!("GET /a?b=c 127.0.0.1:{one}")), "{got}");
    let got = said(
        "curl",
        &["-sS", "--include", "--raw", "-d", "1", "--max-time", "20", &address(one, "/trailers")],
    );
    assert!(got.to_lowercase().contains("x-sum: 4"), "{got}");
    let got = said("curl", &["-sS", "--head", "--max-time", "20", &address(one, "/")]);
    assert!(got.contains("HTTP/1.1 200") && got.contains("HEAD / "), "{got}");
    let got =
        said("curl", &["-sS", "--http1.0", "--include", "-d", "old", "--max-time", "20", &address(one, "/")]);
    assert!(got.contains(" 200 ") && got.ends_with("old"), "{got}");
    // Sent with `Expect: 100-continue`, as it is large.
    let copied = sandbox.folder.join("copied");
    let upload =
        ["-sS", "--max-time", "60", "--http1.1", "--data-binary", &format!("@{}", large.display()), "-o"];
    for (version, port) in [("--http1.1", one), ("--http2-prior-knowledge", two)] {
        said("curl", &[&upload[..], &[&copied.display().to_string(), version, &address(port, "/")]].concat());
        assert_eq!(std::fs::read(&copied).expect("curl made it"), std::fs::read(&large).expect("it is ours"));
    }

    let got = said("nghttp", &["-v", "-d", &large.display().to_string(), &address(two, "/large")]);
    assert!(
        got.contains(":status: 200") && got.contains(&format!("POST /large 127.0.0.1:{two}")),
        "no answer"
    );
    let got = said("h2load", &["-n", "5000", "-c", "8", "-m", "32", &address(two, "/")]);
    assert!(got.contains("5000 succeeded, 0 failed, 0 errored, 0 timeout"), "{got}");
    let got = said("h2load", &["--h1", "-n", "5000", "-c", "8", &address(one, "/")]);
    assert!(got.contains("5000 succeeded, 0 failed, 0 errored, 0 timeout"), "{got}");
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
