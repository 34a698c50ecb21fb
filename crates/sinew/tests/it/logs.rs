//! What is kept of the output of services: bounded, in few writes, and whole where it matters.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Sandbox, User, until};

const PATIENCE: Duration = Duration::from_secs(20);

fn folder(sandbox: &Sandbox, instance: &str) -> PathBuf {
    sandbox.run().join(sandbox.folder.file_name().expect("a name")).join("i").join(instance)
}

/// Writes 1000 lines a second, `count` of them, then says so in a file and waits.
const TALKER: &str = r#"
import sys, time
count = int(sys.argv[1])
for number in range(count):
    print("line", number, flush=True)
    time.sleep(0.001)
open("/tmp/done", "w").close()
time.sleep(1000)
"#;

fn init_pid(sandbox: &Sandbox, service: &str) -> i64 {
    let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
    let services = status["services"].as_array().expect("services");
    let found = services.iter().find(|s| s["name"] == service).expect("the service");
    found["instances"][0]["init_pid"].as_i64().expect("it runs")
}

fn write_calls(pid: i64) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).expect("what it wrote");
    let line = text.lines().find_map(|line| line.strip_prefix("syscw: ")).expect("a count");
    line.parse().expect("a number")
}

#[test]
fn a_talkative_service_is_written_down_whole_in_few_writes() {
    let sandbox = Sandbox::new(User::Own, "talk");
    sandbox.write("talker.py", TALKER);
    sandbox.write(
        "compose.yaml",
        "services:
  talker:
    command: [python3, talker.py, '2000']
    healthcheck: { test: [CMD, 'true'] }
",
    );
    sandbox.sinew(&["up", "-d"]).ok();
    until("it has said everything", PATIENCE, || {
        (sandbox.sinew(&["exec", "talker", "--", "test", "-e", "/tmp/done"]).code == 0).then_some(())
    });
    let lines = |sandbox: &Sandbox| sandbox.sinew(&["logs", "talker"]).ok().stdout.lines().count();
    until("all lines are there", PATIENCE, || (lines(&sandbox) == 2000).then_some(()));
    // Two seconds and more: four writes of lines a second, with answers to health checks and commands beside.
    let writes = write_calls(init_pid(&sandbox, "talker"));
    assert!(writes < 400, "{writes} writes for 2000 lines");

    // An init that is killed takes what waited with it, and no more: all but a moment's lines were written.
    kill(Pid::from_raw(init_pid(&sandbox, "talker") as i32), Signal::SIGKILL).expect("kill the init");
    assert!(lines(&sandbox) >= 2000);
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn the_last_words_before_an_end_are_kept() {
    let sandbox = Sandbox::new(User::Own, "last");
    let compose = "services:
  brief:
    command: [sh, -c, 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo $$i; done; printf end; exit 3']
    restart: 'no'
";
    sandbox.write("compose.yaml", compose);
    assert_eq!(sandbox.sinew(&["up", "-d"]).code, 1);
    let said = sandbox.sinew(&["logs", "--no-prefix", "brief"]);
    let said = if said.code == 0 { said } else { sandbox.sinew(&["logs", "brief"]).ok() };
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines.len(), 21, "{lines:?}");
    assert!(lines[20].ends_with("end"), "{lines:?}");
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn a_bound_of_the_file_holds() {
    let sandbox = Sandbox::new(User::Own, "bound");
    sandbox.write(
        "compose.yaml",
        "services:
  loud:
    command: [sh, -c, 'head -c 3000000 /dev/zero | tr \"\\\\0\" x | fold -w 100; echo; echo last; touch /tmp/done; sleep 1000']
    logging: { driver: json-file, options: { max-size: 100k, max-file: '2' } }
",
    );
    sandbox.sinew(&["up", "-d"]).ok();
    until("it has said everything", PATIENCE, || {
        (sandbox.sinew(&["exec", "loud", "--", "test", "-e", "/tmp/done"]).code == 0).then_some(())
    });
    until("its last line is there", PATIENCE, || {
        sandbox.sinew(&["logs", "loud"]).ok().stdout.trim_end().ends_with("last").then_some(())
    });
    let sizes = ["log", "log.old"]
        .map(|name| fs::metadata(folder(&sandbox, "loud-1").join(name)).expect("a log").len());
    assert!(sizes.iter().sum::<u64>() <= 200 * 1024, "{sizes:?}");
    assert!(sizes[1] > 50 * 1024, "{sizes:?}");
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
