//! Without a seal: plain processes that find the mesh by their environment, and what is refused because of that.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Sandbox, User, until, users, wait};
use crate::lifetimes::{free_port, get};

/// Listens where it is told. `/` of a service that may call `orders` is what `orders` answers. A child in a session of its
/// own, whose parent has gone, is what a careless service leaves behind.
const SERVICE: &str = r#"
import os, subprocess, sys, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if "stray" in sys.argv:
    code = "import os, sys, time; os.fork() and os._exit(0); os.setsid(); time.sleep(1000)"
    subprocess.run([sys.executable, "-c", code, sys.argv[1]])

def answer():
    if sys.argv[2] == "web":
        return urllib.request.urlopen(os.environ["ORDERS_URL"], timeout=5).read()
    return "{} {}".format(os.environ["HOSTNAME"], os.environ["PORT"]).encode()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        try:
            status, body = 200, answer()
        except OSError as error:
            status, body = 502, repr(error).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// The argument by which [`Sandbox::processes`] knows what belongs to it: no run folder is in the environment here.
fn application(user: User, name: &str) -> (Sandbox, u16) {
    let sandbox = Sandbox::new(user, name);
    let (mark, port) = (sandbox.run().display().to_string(), free_port());
    sandbox.write("service.py", SERVICE);
    sandbox.write(
        "compose.yaml",
        &format!(
            r#"
services:
  orders:
    command: [python3, service.py, "{mark}/mark", orders, stray]
    expose: [8000]
    deploy: {{ replicas: 2 }}
    networks: [shop]
    x-sinew: {{ health: {{ http: {{ port: 8000, path: / }} }} }}
  web:
    command: [python3, service.py, "{mark}/mark", web]
    ports: ["{port}:8000"]
    environment: {{ ORDERS_URL: "http://orders:8000", PORT: "8000" }}
    depends_on: [orders]
    networks: [shop]
  stranger:
    command: [python3, service.py, "{mark}/mark", stranger]
    expose: [8000]
    networks: [elsewhere]
networks: {{ shop: {{}}, elsewhere: {{}} }}
"#
        ),
    );
    (sandbox, port)
}

fn service<'a>(status: &'a Value, name: &str) -> &'a Value {
    let services = status["services"].as_array().expect("services");
    services.iter().find(|service| service["name"] == name).expect("the service is shown")
}

fn answers(port: u16, count: usize) -> BTreeSet<String> {
    (0..count).map(|_| get(port).expect("an answer")).collect()
}

#[test]
fn services_find_each_other_by_their_environment() {
    for user in users() {
        let (sandbox, port) = application(user, "plain");
        let up = sandbox.sinew(&["up", "-d", "--posture", "explicit"]).ok();
        assert!(up.stderr.contains("nothing seals the services"), "{}", up.stderr);
        // Both instances, each on a port of its own; through the gateway and three sidecars.
        let both = answers(port, 40);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both.iter().any(|answer| answer.starts_with("orders-1 ")), "{both:?}");

        let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
        assert_eq!(status["posture"], "explicit");
        assert!(service(&status, "orders")["traffic"]["requests"].as_u64() > Some(0), "{status}");
        assert!(sandbox.sinew(&["status"]).ok().stdout.contains("nothing seals the services"));
        for instance in service(&status, "orders")["instances"].as_array().expect("instances") {
            assert_eq!(instance["health"], "healthy", "{instance}");
            assert!(instance["service_pid"].is_i64(), "{instance}");
        }

        let environment = |name: &str| {
            let done = sandbox.sinew(&["exec", name, "--", "env"]).ok();
            done.stdout.lines().map(str::to_owned).collect::<BTreeSet<String>>()
        };
        let (web, stranger) = (environment("web"), environment("stranger"));
        for variable in
            ["ORDERS_URL=http://127.0.0.1:", "ORDERS_HOST=127.0.0.1", "ORDERS_PORT=", "PORT_8000="]
        {
            assert!(web.iter().any(|line| line.starts_with(variable)), "{variable}: {web:?}");
        }
        assert!(!stranger.iter().any(|line| line.starts_with("ORDERS_")), "{stranger:?}");

        sandbox.sinew(&["scale", "orders=3"]).ok();
        until("the third instance is called", Duration::from_secs(20), || {
            get(port).is_ok_and(|answer| answer.starts_with("orders-3 ")).then_some(())
        });
        sandbox.sinew(&["scale", "orders=1"]).ok();
        assert!(answers(port, 20).iter().all(|answer| answer.starts_with("orders-1 ")));

        let other = sandbox.sinew(&["up", "-d", "--posture", "sealed"]);
        assert_eq!(other.code, 2, "{}", other.stderr);
        assert!(
            other.stderr.contains("explicit posture") && other.stderr.contains("hint"),
            "{}",
            other.stderr
        );
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new(), "as {user:?}");
    }
}

#[test]
fn killed_processes_leave_nothing() {
    for user in users() {
        let (sandbox, port) = application(user, "killed");
        let mut up = sandbox
            .command(&["up", "--posture", "explicit"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start up");
        until("the page answers", Duration::from_secs(20), || get(port).ok());
        let strays =
            || sandbox.processes().iter().filter(|(_, line)| line.contains("time.sleep(1000)")).count();
        // What forked them may not have ended yet.
        until("each has left one behind", Duration::from_secs(20), || (strays() == 2).then_some(()));

        // The supervisor, then what supervises it: each time the service ends with it and another one comes.
        let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
        let guard = service(&status, "orders")["instances"][0]["init_pid"].as_i64().expect("a pid") as i32;
        let children =
            std::fs::read_to_string(format!("/proc/{guard}/task/{guard}/children")).expect("it lives");
        let init: i32 = children.trim().parse().expect("one child");
        for victim in [init, guard] {
            let before = sandbox.sinew(&["status", "-o", "json"]).ok().json();
            let service_pid = service(&before, "orders")["instances"][0]["service_pid"].clone();
            let victim = if victim == init {
                init
            } else {
                service(&before, "orders")["instances"][0]["init_pid"].as_i64().expect("a pid") as i32
            };
            kill(Pid::from_raw(victim), Signal::SIGKILL).expect("kill");
            until("the service is replaced, with all it left", Duration::from_secs(20), || {
                let now = sandbox.sinew(&["status", "-o", "json"]).ok().json();
                let instance = &service(&now, "orders")["instances"][0];
                let alive =
                    sandbox.processes().iter().any(|(pid, _)| Some(i64::from(*pid)) == service_pid.as_i64());
                let is_new = instance["service_pid"].is_i64() && instance["service_pid"] != service_pid;
                (is_new && !alive && instance["health"] == "healthy" && strays() == 2).then_some(())
            });
        }

        kill(Pid::from_raw(up.id() as i32), Signal::SIGKILL).expect("kill the launcher");
        wait(&mut up, Duration::from_secs(5));
        until("every process ends with its launcher", Duration::from_secs(5), || {
            sandbox.processes().is_empty().then_some(())
        });
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new(), "as {user:?}");
    }
}

#[test]
fn detached_services_are_adopted_in_their_posture() {
    let (sandbox, port) = application(User::Own, "adopt");
    sandbox.sinew(&["up", "-d", "--posture", "explicit"]).ok();
    let before = answers(port, 40);
    let daemon =
        sandbox.processes().into_iter().find(|(_, line)| line.contains("__daemon")).expect("it runs");
    kill(Pid::from_raw(daemon.0), Signal::SIGKILL).expect("kill the launcher");
    get(port).expect("services go on without a launcher");
    sandbox.sinew(&["up", "-d"]).ok();
    let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
    assert_eq!(status["posture"], "explicit");
    assert_eq!(answers(port, 40), before, "the same instances, on the same ports");
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn what_needs_a_seal_is_refused() {
    for user in users() {
        let sandbox = Sandbox::new(user, "refused");
        sandbox.write("token", "x");
        sandbox.write(
            "compose.yaml",
            r#"
services:
  a-b:
    command: [sleep, "1"]
    expose: [1]
    volumes: ["data:/data", "./token:/token"]
    secrets: [token]
    tmpfs: [/scratch]
    read_only: true
    hostname: elsewhere
    x-sinew: { egress: ["10.0.0.0/8:502/tcp", "10.0.0.1:53/udp"] }
  a_b:
    command: [sleep, "1"]
volumes: { data: {} }
secrets: { token: { file: ./token } }
"#,
        );
        let done = sandbox.sinew(&["up", "-d", "--posture", "explicit"]);
        assert_eq!(done.code, 2, "{}{}", done.stdout, done.stderr);
        for words in [
            "volume `data` at /data needs a seal",
            "/token needs a seal",
            "secret `token`",
            "`tmpfs` needs a seal",
            "`read_only` needs a seal",
            "`hostname` needs a seal",
            "egress to a network (port 502)",
            "egress over UDP (port 53)",
            "`A_B_URL`",
        ] {
            assert!(done.stderr.contains(words), "{words}:\n{}", done.stderr);
        }
        let json = sandbox.sinew(&["up", "--posture", "explicit", "-o", "json"]);
        assert_eq!((json.code, &json.json()["error"]["code"]), (2, &"impossible".into()));
        assert_eq!(sandbox.left_over(), Vec::<String>::new(), "as {user:?}");
    }
}
