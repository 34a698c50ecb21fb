//! No service takes the machine: the number of its processes is bounded, whoever runs Sinew, and others go on.

use std::time::Duration;

use crate::harness::{Sandbox, until, users};

const PATIENCE: Duration = Duration::from_secs(30);

/// Forks until it is stopped, or until there are too many, and keeps what it has.
const BOMB: &str = r#"
import os, signal
made = 0
try:
    while made < 5000:
        if os.fork() == 0:
            signal.pause()
        made += 1
    print("nobody stopped it", flush=True)
except BlockingIOError:
    print("stopped after", made, "children", flush=True)
while True: signal.pause()
"#;

const WEB: &str = r#"
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Answer).serve_forever()
"#;

/// How many it could have besides itself.
const COUNT: &str = r#"
import os, signal
children = []
try:
    while len(children) < 100:
        child = os.fork()
        if child == 0: signal.pause()
        children.append(child)
except BlockingIOError: pass
print(len(children))
for child in children: os.kill(child, 9)
"#;

const CALL: &str =
    "import urllib.request as u; print(u.urlopen('http://web:8000/', timeout=10).read().decode())";

#[test]
fn a_fork_bomb_is_stopped_and_others_go_on() {
    for user in users() {
        let sandbox = Sandbox::new(user, "forks");
        sandbox.write("bomb.py", BOMB);
        sandbox.write("web.py", WEB);
        sandbox.write("count.py", COUNT);
        sandbox.write(
            "compose.yaml",
            "
services:
  bomb: { command: [python3, bomb.py] }
  web: { command: [python3, web.py], expose: [8000], x-sinew: { health: { tcp: 8000 } } }
  caller: { command: [sleep, infinity] }
  few: { command: [sleep, infinity], pids_limit: 20 }
  free: { command: [sleep, infinity], deploy: { resources: { limits: { pids: -1 } } } }
",
        );
        sandbox.sinew(&["up", "-d"]).ok();
        let said = until("the bomb is stopped", PATIENCE, || {
            let logs = sandbox.sinew(&["logs", "bomb"]).ok().stdout;
            logs.lines().find(|line| line.contains("stopped")).map(str::to_owned)
        });
        // The bound is 2048; the init and the bomb itself are among them.
        let words: Vec<&str> = said.split(' ').collect();
        let children: usize = words[words.len() - 2].parse().unwrap_or(usize::MAX);
        println!("{user:?}: {said}");
        assert!((2000..2048).contains(&children), "{said}");

        let run = |service: &str, arguments: &[&str]| {
            sandbox.sinew(&[&["exec", service, "--", "python3"], arguments].concat())
        };
        assert_eq!(run("caller", &["-c", CALL]).ok().stdout, "ok\n", "others fork, call and are called");
        // What `exec` starts counts into the seal, and nowhere else.
        let more = run("bomb", &["-c", "import os; os.fork()"]);
        assert_ne!(more.code, 0, "one more where all are taken");
        let of_few: usize = run("few", &["count.py"]).ok().stdout.trim().parse().expect("a number");
        assert!((10..20).contains(&of_few), "{of_few} where 20 are allowed");
        assert_eq!(run("free", &["count.py"]).ok().stdout, "100\n", "-1 is no bound");
        let own = "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC)[0])";
        let free: i64 = run("free", &["-c", own]).ok().stdout.trim().parse().expect("a number");
        assert!(free == -1 || free > 2048, "{free}");

        let shown = sandbox.sinew(&["status"]).ok().stdout;
        assert!(shown.contains("! bomb-1 has all the processes it may have: 2048\n"), "{shown}");
        assert!(!shown.contains("! web-1") && !shown.contains("! few-1"), "{shown}");
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}
