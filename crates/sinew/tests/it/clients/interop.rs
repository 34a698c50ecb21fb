//! What clients of gRPC in all languages are held to among each other, by Python's grpcio and Node's grpc-js, through two sidecars and
//! through a published port. The service closes its connections each second.

use std::process::Command;
use std::time::Duration;

use super::give_node_packages;
use crate::grpc::give_grpcio;
use crate::harness::{Sandbox, User, until};
use crate::lifetimes::free_port;

const FILES: [(&str, &str); 4] = [
    ("server.py", include_str!("interop_server.py")),
    ("interop.py", include_str!("interop.py")),
    ("interop.js", include_str!("interop.js")),
    ("restarts.py", RESTARTS),
];

/// Calls over one channel until there is a file `stop`, and then until one goes well.
const RESTARTS: &str = r#"
import grpc, os
call = grpc.insecure_channel("server:8000", options=[("grpc.enable_retries", 0)]).unary_unary("/interop.Test/Empty")
codes, code, after = {}, None, 0
while not os.path.exists("stop") or (code != "OK" and after < 10000):
    after += os.path.exists("stop")
    try:
        call(b"", timeout=20, wait_for_ready=True)
        code = "OK"
    except grpc.RpcError as error:
        code = error.code().name
    codes[code] = codes.get(code, 0) + 1
    if codes == {"OK": 20}:
        print("under way", flush=True)
print(f"codes: {codes}, at last {code}", flush=True)
"#;

#[test]
fn grpc_of_all_kinds_goes_through() {
    let sandbox = &Sandbox::new(User::Own, "interop");
    give_grpcio(sandbox);
    give_node_packages(sandbox);
    for (name, text) in FILES {
        sandbox.write(name, text);
    }
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
  client:
    command: [sleep, "1000"]
    environment: {{ PYTHONPATH: ./python }}
    depends_on:
      server: {{ condition: service_healthy }}
  restarts:
    command: [sh, -c, "python3 restarts.py; exec sleep 1000"]
    environment: {{ PYTHONPATH: ./python }}
    depends_on:
      server: {{ condition: service_healthy }}
"#
        ),
    );
    sandbox.sinew(&["up", "-d"]).ok();
    let target = format!("127.0.0.1:{port}");
    let ways = [
        (true, ["python3", "interop.py", "server:8000"]),
        (true, ["node", "interop.js", "server:8000"]),
        (false, ["python3", "interop.py", &target]),
        (false, ["node", "interop.js", &target]),
    ];
    let told = std::thread::scope(|scope| {
        let run = |is_inside, way: [&str; 3]| {
            let told = if is_inside { inside(sandbox, &way) } else { outside(sandbox, &way) };
            (way.join(" "), told)
        };
        let runs = ways.map(|(is_inside, way)| scope.spawn(move || run(is_inside, way)));
        runs.map(|run| run.join().expect("it does not panic"))
    });
    for (way, told) in &told {
        println!("{way}: {told}");
    }
    assert!(told.iter().all(|(_, told)| told.contains(" cases, 0 failed\n")), "{told:?}");
    a_channel_outlives_the_service(sandbox);
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

/// While the service is away its callers are told so, in words that they may take for a reason to try again.
fn a_channel_outlives_the_service(sandbox: &Sandbox) {
    let logs = || sandbox.sinew(&["logs", "restarts"]).ok().stdout;
    until("calls are under way", Duration::from_secs(30), || logs().contains("under way").then_some(()));
    sandbox.sinew(&["restart", "server"]).ok();
    sandbox.write("stop", "");
    let said = until("the calls are counted", Duration::from_secs(60), || {
        logs().lines().find(|line| line.contains("codes: ")).map(str::to_owned)
    });
    println!("{said}");
    assert!(said.ends_with("at last OK"), "{said}");
    let codes = said.matches("': ").count();
    let known = usize::from(said.contains("'OK'")) + usize::from(said.contains("'UNAVAILABLE'"));
    assert_eq!(codes, known, "{said}");
}

/// As a service, through its sidecar and the other's.
fn inside(sandbox: &Sandbox, way: &[&str]) -> String {
    let done = sandbox.sinew(&[&["exec", "client", "--"], way].concat());
    done.stdout + &done.stderr
}

/// Through a published port.
fn outside(sandbox: &Sandbox, way: &[&str]) -> String {
    let output = Command::new(way[0])
        .args(&way[1..])
        .current_dir(&sandbox.folder)
        .env("PYTHONPATH", sandbox.folder.join("python"))
        .output()
        .expect("it is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
