//! Another version of the program over what this one, or an earlier one, left.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Sandbox, User, until, users};
use crate::lifetimes::{WEB, free_port, get};

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "not-for-the-disk-4711";

fn application(user: User, name: &str) -> Sandbox {
    let sandbox = Sandbox::new(user, name);
    sandbox.write("web.py", WEB);
    let compose = format!(
        "services:
  web:
    command: [python3, web.py]
    deploy: {{ replicas: 2 }}
    environment: {{ PASSWORD: {SECRET} }}
    configs: [settings]
    secrets: [token]
    x-sinew: {{ health: {{ http: {{ port: 8000, path: / }} }}, protocol: {{ 8000: http }} }}
configs: {{ settings: {{ content: '{SECRET}' }} }}
secrets: {{ token: {{ environment: TOKEN }} }}
"
    );
    sandbox.write("compose.yaml", &compose);
    sandbox
}

fn up(sandbox: &Sandbox) -> crate::harness::Done {
    let mut command = sandbox.command(&["up", "-d"]);
    let done = command.env("TOKEN", SECRET).output().expect("run up");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    crate::harness::Done {
        code: done.status.code().unwrap_or(-1),
        stdout: text(done.stdout),
        stderr: text(done.stderr),
    }
}

fn instances(sandbox: &Sandbox) -> Vec<Value> {
    let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
    status["services"][0]["instances"].as_array().expect("instances").clone()
}

fn kill_launcher(sandbox: &Sandbox) {
    let lock = fs::read_to_string(run(sandbox).join("lock")).expect("the launcher's pid");
    kill(Pid::from_raw(lock.trim().parse().expect("a pid")), Signal::SIGKILL).expect("kill the launcher");
}

fn run(sandbox: &Sandbox) -> PathBuf {
    sandbox.run().join(sandbox.folder.file_name().expect("a name"))
}

fn state(sandbox: &Sandbox) -> PathBuf {
    sandbox.state().join(sandbox.folder.file_name().expect("a name"))
}

fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("read a folder").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            found.extend(files_with(&path, text));
        } else if kind.is_file() {
            let bytes = fs::read(&path).expect("read a file");
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn values_of_the_environment_are_not_on_the_disk() {
    for user in users() {
        let sandbox = application(user, "values");
        up(&sandbox).ok();
        assert_eq!(files_with(&state(&sandbox), SECRET), Vec::<PathBuf>::new(), "as {user:?}");
        // The run folder, in memory where it is by default, holds what adoption needs, and no secret of `secrets:`.
        let mut names: Vec<String> = files_with(&run(&sandbox), SECRET)
            .iter()
            .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names, ["application.json", "instance.json"]);
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
        assert_eq!(files_with(&state(&sandbox), SECRET), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_state_of_version_0_is_brought_up_to_date() {
    const OLD: &[u8] = include_bytes!("../../src/state/fixtures/version-0/store.redb");
    let sandbox = application(User::Own, "old");
    let state = state(&sandbox);
    fs::create_dir(&state).expect("make the state folder");
    fs::write(state.join("store.redb"), OLD).expect("write the old store");
    assert!(!files_with(&state, "plain-value-of-version-0").is_empty(), "the fixture is what it should be");
    up(&sandbox).ok();
    assert_eq!(files_with(&state, "plain-value-of-version-0"), Vec::<PathBuf>::new());
    let stamp: Value =
        serde_json::from_slice(&fs::read(state.join("version.json")).expect("a stamp")).expect("JSON");
    assert_eq!(stamp["version"], 1);
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn a_later_state_is_refused_and_what_runs_goes_on() {
    let sandbox = application(User::Own, "later");
    up(&sandbox).ok();
    let before = instances(&sandbox);
    kill_launcher(&sandbox);
    let stamp = state(&sandbox).join("version.json");
    let present = fs::read(&stamp).expect("a stamp");
    fs::write(&stamp, r#"{"version":42,"program":"9.9.9"}"#).expect("write a later stamp");
    let refused = up(&sandbox);
    assert_eq!(refused.code, 2, "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stderr.contains("was written by sinew 9.9.9 (state version 42)"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: run the newer sinew again"), "{}", refused.stderr);
    // Nothing was touched: the one that can read it takes over what runs.
    fs::write(&stamp, present).expect("the later version is back");
    up(&sandbox).ok();
    let pids = |found: &[Value]| -> Vec<Value> { found.iter().map(|i| i["service_pid"].clone()).collect() };
    assert_eq!(pids(&instances(&sandbox)), pids(&before));
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

/// Asks without a pause until told to stop; what went wrong.
fn ask_all_the_time(port: u16, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<(u32, Vec<String>)> {
    std::thread::spawn(move || {
        let (mut asked, mut failed) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            asked += 1;
            failed.extend(get(port).err().map(|error| error.to_string()));
        }
        (asked, failed)
    })
}

#[test]
fn a_file_that_changed_while_no_launcher_ran_is_taken_without_a_lost_request() {
    for user in users() {
        let sandbox = application(user, "changed");
        let port = free_port();
        let with = |mark: &str| {
            format!(
                "services:
  web:
    command: [python3, web.py]
    deploy: {{ replicas: 2 }}
    ports: ['{port}:8000']
    environment: {{ MARK: '{mark}' }}
    x-sinew: {{ health: {{ http: {{ port: 8000, path: / }} }}, protocol: {{ 8000: http }} }}
"
            )
        };
        sandbox.write("compose.yaml", &with("0"));
        up(&sandbox).ok();
        let stop = Arc::new(AtomicBool::new(false));
        let asking = ask_all_the_time(port, stop.clone());
        for round in ["1", "2", "3"] {
            let before: Vec<i64> =
                instances(&sandbox).iter().map(|i| i["init_pid"].as_i64().expect("a pid")).collect();
            kill_launcher(&sandbox);
            sandbox.write("compose.yaml", &with(round));
            up(&sandbox).ok();
            until("all are replaced", PATIENCE, || {
                let now = instances(&sandbox);
                let old = now.iter().filter(|i| before.iter().any(|pid| i["init_pid"] == *pid)).count();
                (old == 0 && now.len() == 2 && now.iter().all(|i| i["health"] == "healthy")).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
        let (asked, failed) = asking.join().expect("the one who asks does not panic");
        assert!(failed.is_empty(), "{} of {asked} as {user:?}: {failed:?}", failed.len());
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

/// Says of every instance that a launcher with another protocol started it.
fn make_strangers(sandbox: &Sandbox) {
    for entry in fs::read_dir(run(sandbox).join("i")).expect("instances").flatten() {
        let path = entry.path().join("instance.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&path).expect("a record")).expect("JSON");
        record["protocol"] = 1_000.into();
        fs::write(&path, record.to_string()).expect("write the record");
    }
}

#[test]
fn instances_of_another_protocol_are_replaced_one_by_one() {
    for user in users() {
        let sandbox = application(user, "strangers");
        up(&sandbox).ok();
        let before: Vec<i64> =
            instances(&sandbox).iter().map(|i| i["init_pid"].as_i64().expect("a pid")).collect();
        assert_eq!(before.len(), 2);
        kill_launcher(&sandbox);
        make_strangers(&sandbox);

        let alive = || before.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).count();
        let mut child = sandbox.command(&["up", "-d"]).env("TOKEN", SECRET).spawn().expect("run up");
        // While both are being replaced: never fewer than wanted, old ones and healthy new ones together.
        let client = || sandbox.sinew(&["status", "-o", "json"]);
        until("both are replaced", PATIENCE, || {
            let old_before = alive();
            let status = client();
            if status.code == 0 {
                let status = status.json();
                let new = status["services"][0]["instances"].as_array().map_or(0, |instances| {
                    instances.iter().filter(|i| i["health"] == "healthy" && i["state"] == "running").count()
                });
                assert!(old_before + new >= 2, "{old_before} old ones, {new} new ones: {status}");
            }
            (alive() == 0).then_some(())
        });
        assert!(child.wait().expect("wait for up").success());
        let after = instances(&sandbox);
        assert_eq!(after.len(), 2, "{after:?}");
        assert!(after.iter().all(|i| i["health"] == "healthy"), "{after:?}");
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new(), "as {user:?}");
    }
}
