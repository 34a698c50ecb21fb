//! gRPC, as Python's grpcio speaks it: nothing is declared, the sidecars find HTTP/2 by its preface.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Sandbox, User, until, users};
use crate::lifetimes::free_port;

pub const SERVER: &str = r#"
import grpc, os, signal, threading
from concurrent import futures

def note(text):
    print(text, flush=True)

def unary(request, context):
    return request + b" from " + os.uname().nodename.encode()

def client_stream(requests, context):
    return str(sum(len(request) for request in requests)).encode()

def server_stream(request, context):
    for number in range(int(request)):
        yield str(number).encode()

def both(requests, context):
    for request in requests:
        yield request.upper()

def slow(request, context):
    note(f"deadline is known: {context.time_remaining() is not None and context.time_remaining() < 60}")
    over = threading.Event()
    context.add_callback(over.set)
    over.wait()
    note("given up")

def large(request, context):
    return request

def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "there is no such thing")

methods = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Large": grpc.unary_unary_rpc_method_handler(large),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
}
server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", methods)])
server.add_insecure_port("0.0.0.0:8000")
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
server.start()
ended.wait()
server.stop(10).wait()
"#;

/// Every kind of call; says "all is well" at the end.
const CALLS: &str = r#"
import grpc, threading
channel = grpc.insecure_channel("server:8000", options=[("grpc.max_receive_message_length", -1)])
path = "/test.Test/"

assert channel.unary_unary(path + "Unary")(b"hello").startswith(b"hello from ")
assert channel.stream_unary(path + "ClientStream")(iter([b"12", b"345"])) == b"5"
assert [int(n) for n in channel.unary_stream(path + "ServerStream")(b"1000")] == list(range(1000))

# Each word is said when the answer to the one before has come.
said = threading.Semaphore(1)
def words():
    for word in [b"one", b"two", b"three"]:
        said.acquire()
        yield word
answers = []
for answer in channel.stream_stream(path + "Both")(words()):
    answers.append(answer)
    said.release()
assert answers == [b"ONE", b"TWO", b"THREE"], answers

def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("no error")

assert code_of(lambda: channel.unary_unary(path + "Slow")(b"", timeout=0.5))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
assert code_of(lambda: channel.unary_unary(path + "Fail")(b"")) == (grpc.StatusCode.NOT_FOUND, "there is no such thing")
assert code_of(lambda: channel.unary_unary(path + "Nothing")(b""))[0] == grpc.StatusCode.UNIMPLEMENTED

slow = channel.unary_unary(path + "Slow").future(b"")
threading.Timer(0.3, slow.cancel).start()
try:
    slow.result()
    raise AssertionError("not cancelled")
except grpc.FutureCancelledError:
    pass

message = bytes(range(256)) * (16 * 4096)
assert channel.unary_unary(path + "Large")(message) == message

nobody = grpc.insecure_channel("idle:8000")
code, details = code_of(lambda: nobody.unary_unary(path + "Unary")(b""))
assert code == grpc.StatusCode.UNAVAILABLE and "accepts connections" in details, (code, details)
print("all is well", flush=True)
"#;

/// Calls all the time until it is stopped, and says then how many there were.
const LOAD: &str = r#"
import grpc, signal, threading
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
channel = grpc.insecure_channel("server:8000", options=[("grpc.enable_retries", 0)])
served, failed, lock = {}, [], threading.Lock()

def calls():
    call = channel.unary_unary("/test.Test/Unary")
    while not ended.is_set():
        try:
            by = call(b"hello", timeout=20).rsplit(b" ", 1)[1].decode()
            with lock:
                served[by] = served.get(by, 0) + 1
                if sum(served.values()) == 200:
                    print("under way", flush=True)
        except grpc.RpcError as error:
            with lock:
                failed.append(f"{error.code()} {error.details()}")
        ended.wait(0.01)

threads = [threading.Thread(target=calls) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(f"calls: {sum(served.values())} by {len(served)} failed: {len(failed)} {failed[:3]}", flush=True)
"#;

/// Installed by `cargo xtask test`.
pub fn give_grpcio(sandbox: &Sandbox) {
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-grpcio");
    assert!(installed.is_dir(), "{} is not there: cargo xtask test installs it", installed.display());
    let inside = sandbox.write("python/readme.txt", "packages of the test");
    let inside = inside.parent().expect("it is in a folder");
    let copied = Command::new("cp").arg("-r").arg(installed.join("grpc")).arg(inside).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let typing = installed.join("typing_extensions.py");
    std::fs::copy(typing, inside.join("typing_extensions.py")).expect("it is copied");
    let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(inside).status();
    assert!(opened.is_ok_and(|status| status.success()));
}

#[test]
fn all_kinds_of_calls_go_through_two_sidecars() {
    for user in users() {
        let sandbox = Sandbox::new(user, "grpc");
        give_grpcio(&sandbox);
        sandbox.write("server.py", SERVER);
        sandbox.write("calls.py", CALLS);
        let port = free_port();
        sandbox.write(
            "compose.yaml",
            &format!(
                r#"
services:
  server:
    command: [python3, server.py]
    environment: {{ PYTHONPATH: ./python }}
    ports: ["{port}:8000"]
    x-sinew: {{ health: {{ tcp: 8000 }} }}
  idle:
    command: [sleep, "1000"]
  client:
    command: [sleep, "1000"]
    environment: {{ PYTHONPATH: ./python }}
    depends_on:
      server: {{ condition: service_healthy }}
"#
            ),
        );
        sandbox.sinew(&["up", "-d"]).ok();
        let said = sandbox.sinew(&["exec", "client", "--", "python3", "calls.py"]).ok();
        assert!(said.stdout.contains("all is well"), "{}", said.stdout);
        until("the server is told that its callers gave up", Duration::from_secs(20), || {
            let logs = sandbox.sinew(&["logs", "server"]).ok().stdout;
            let is_deadline_known = logs.contains("deadline is known: True");
            (is_deadline_known && logs.matches("given up").count() == 2).then_some(())
        });
        published(&sandbox, port);
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

/// A published port takes HTTP/2 with prior knowledge too.
fn published(sandbox: &Sandbox, port: u16) {
    let message = sandbox.write("message", "\0\0\0\0\u{2}hi");
    let called = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--http2-prior-knowledge", "--include"])
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .arg("--data-binary")
        .arg(format!("@{}", message.display()))
        .arg(format!("http://127.0.0.1:{port}/test.Test/Unary"))
        .output()
        .expect("curl is installed");
    let said = String::from_utf8_lossy(&called.stdout);
    assert!(said.starts_with("HTTP/2 200"), "{said} {}", String::from_utf8_lossy(&called.stderr));
    assert!(said.contains("hi from ") && said.contains("grpc-status: 0"), "{said}");
    over_http1(port);
}

/// Its answer is translated, with its trailers, for a client of HTTP/1.1.
fn over_http1(port: u16) {
    let request = "POST /test.Test/Unary HTTP/1.1\r\nhost: server\r\nconnection: close, te\r\nte: trailers\r\n\
                   content-type: application/grpc\r\ncontent-length: 7\r\n\r\n\0\0\0\0\u{2}hi";
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is published");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("it can be set");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it is answered");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("hi from "), "{answer}");
    assert!(answer.contains("\r\n0\r\n") && answer.contains("\r\ngrpc-status: 0\r\n"), "{answer}");
}

#[test]
fn no_call_is_lost_while_instances_come_and_go() {
    let sandbox = Sandbox::new(User::Own, "grpcload");
    give_grpcio(&sandbox);
    sandbox.write("server.py", SERVER);
    sandbox.write("load.py", LOAD);
    sandbox.write(
        "compose.yaml",
        r#"
services:
  server:
    command: [python3, server.py]
    environment: { PYTHONPATH: ./python }
    expose: [8000]
    deploy: { replicas: 2 }
    stop_grace_period: 10s
    x-sinew: { health: { tcp: 8000 } }
  load:
    command: [python3, load.py]
    environment: { PYTHONPATH: ./python }
    stop_grace_period: 30s
    depends_on:
      server: { condition: service_healthy }
"#,
    );
    sandbox.sinew(&["up", "-d"]).ok();
    let logs = || sandbox.sinew(&["logs", "load"]).ok().stdout;
    until("calls are under way", Duration::from_secs(30), || logs().contains("under way").then_some(()));
    sandbox.sinew(&["scale", "server=3"]).ok();
    sandbox.sinew(&["restart", "server"]).ok();
    sandbox.sinew(&["scale", "server=1"]).ok();
    sandbox.sinew(&["stop", "load"]).ok();
    let said = until("the calls are counted", Duration::from_secs(30), || {
        logs().lines().find(|line| line.contains("calls: ")).map(str::to_owned)
    });
    println!("{said}");
    assert!(said.contains(" failed: 0 "), "{said}");
    assert!(!said.contains(" by 1 "), "calls of one connection are spread: {said}");
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
