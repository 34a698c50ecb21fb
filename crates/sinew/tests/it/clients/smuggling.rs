//! Requests and answers that two readers may take apart differently, through published ports and through two sidecars, before an
//! application that takes each byte it gets apart on its own and tells what it was.

use std::process::Command;
use std::time::Duration;

use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;

const FILES: [(&str, &str); 6] = [
    ("recorder.js", include_str!("recorder.js")),
    ("http2_rules.py", include_str!("http2_rules.py")),
    ("smuggling.py", include_str!("smuggling.py")),
    ("smuggling_base.py", include_str!("smuggling_base.py")),
    ("smuggling_http1.py", include_str!("smuggling_http1.py")),
    ("smuggling_http2.py", include_str!("smuggling_http2.py")),
];

#[test]
fn nothing_is_smuggled() {
    let sandbox = &Sandbox::new(User::Own, "smuggling");
    for (name, text) in FILES {
        sandbox.write(name, text);
    }
    let [one, two] = [free_port(), free_port()];
    sandbox.write(
        "compose.yaml",
        &format!(
            r#"
services:
  one:
    command: [node, recorder.js, "1"]
    ports: ["{one}:8000"]
    x-sinew: {{ protocol: http, health: {{ tcp: 8000 }} }}
  two:
    command: [node, recorder.js, "2"]
    ports: ["{two}:8000"]
    x-sinew: {{ protocol: http2, health: {{ tcp: 8000 }} }}
  client:
    command: [sleep, "1000"]
    depends_on:
      one: {{ condition: service_healthy }}
      two: {{ condition: service_healthy }}
"#
        ),
    );
    sandbox.sinew(&["up", "-d"]).ok();
    for port in [one, two] {
        until("the port is published", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }
    // Who calls, with what, the run's own letters, and where.
    let one = one.to_string();
    let two = two.to_string();
    let ways: [(bool, &[&str]); 7] = [
        (false, &["h1", "ga", "127.0.0.1", &one]),
        (false, &["h1", "gb", "127.0.0.1", &one, "split"]),
        (false, &["bridge", "gc", "127.0.0.1", &two]),
        (false, &["h2", "gd", "127.0.0.1", &one]),
        (true, &["h1", "ma", "one", "8000"]),
        (true, &["bridge", "mb", "two", "8000"]),
        (true, &["h2", "mc", "one", "8000"]),
    ];
    let told = std::thread::scope(|scope| {
        let run =
            |(is_inside, way)| move || if is_inside { inside(sandbox, way) } else { outside(sandbox, way) };
        let runs = ways.map(|way| scope.spawn(run(way)));
        runs.map(|run| run.join().expect("it does not panic"))
    });
    let mut failed = 0;
    for ((_, way), (code, told)) in ways.iter().zip(&told) {
        println!("{way:?}: {told}");
        failed += i32::from(*code != 0 || !told.contains(" cases, 0 failed\n"));
    }
    assert_eq!(failed, 0, "{told:?}");
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

/// As a service, through its sidecar and the other's.
fn inside(sandbox: &Sandbox, way: &[&str]) -> (i32, String) {
    let done = sandbox.sinew(&[&["exec", "client", "--", "python3", "smuggling.py"], way].concat());
    (done.code, done.stdout + &done.stderr)
}

/// Through a published port.
fn outside(sandbox: &Sandbox, way: &[&str]) -> (i32, String) {
    let script = sandbox.folder.join("smuggling.py");
    let output = Command::new("python3").arg(script).args(way).output().expect("python3 is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}
