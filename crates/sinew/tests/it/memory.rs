//! What a sealed mesh weighs. The limits are those of a release build; a debug build is only reported.

use sinew_testkit::load::{Load, Options};
use std::time::Duration;

use crate::harness::{Sandbox, User, is_release};
use crate::lifetimes::{WEB, free_port};

const MIB: f64 = 1024.0 * 1024.0;

#[test]
fn nine_instances_after_a_thousand_requests() {
    let sandbox = Sandbox::new(User::Own, "weight");
    let port = free_port();
    sandbox.write("web.py", WEB);
    sandbox.write(
        "compose.yaml",
        &format!(
            r#"
services:
  web:
    command: [python3, web.py]
    ports: ["{port}:8000"]
    deploy: {{ replicas: 9 }}
    x-sinew: {{ health: {{ http: {{ port: 8000, path: / }} }}, protocol: {{ 8000: http }} }}
"#
        ),
    );
    sandbox.sinew(&["up", "-d"]).ok();
    let load = Load::start(Options {
        address: ([127, 0, 0, 1], port).into(),
        host: "web".into(),
        path: "/".into(),
        body: None,
        requests_per_second: 400,
        connections: 8,
        answer_timeout: Duration::from_secs(5),
        time_max: Duration::from_secs(60),
    });
    load.pass(9000);
    assert_eq!(load.finish().failed, []);

    let mut worst = [0.0f64; 4];
    for (pid, line) in sandbox.processes() {
        let (pss, private) = memory(pid);
        let role = if line.contains("__init") {
            worst[0] = worst[0].max(pss);
            "init"
        } else if line.contains("proxy") {
            worst[1] = worst[1].max(pss);
            worst[2] = worst[2].max(private);
            "proxy"
        } else {
            worst[3] = worst[3].max(pss);
            "launcher"
        };
        println!("{role:<9} {pss:6.2} MiB PSS {private:6.2} MiB private  {line}");
    }
    sandbox.sinew(&["down"]).ok();
    if is_release() {
        let [init, proxy, private, launcher] = worst;
        assert!(init <= 1.0, "an init has {init:.2} MiB PSS");
        assert!(proxy <= 6.0, "a sidecar has {proxy:.2} MiB PSS");
        assert!(private <= 3.0, "a sidecar has {private:.2} MiB of its own");
        assert!(launcher <= 20.0, "control plane and launcher have {launcher:.2} MiB PSS");
    }
}

/// (PSS, private) in MiB.
/// PSS and private memory, MiB.
pub fn memory(pid: i32) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| -> f64 {
        text.lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .filter_map(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok())
            .sum::<f64>()
            * 1024.0
    };
    let private = field("Private_Dirty") + field("Private_Clean");
    (field("Pss") / MIB, private / MIB)
}
