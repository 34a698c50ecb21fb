//! What is typed, what is said, and how it ends; nothing runs in these tests.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Done, Sandbox, User, wait};

const GOOD: &str = "\
services:
  orders:
    command: [python3, -m, http.server, '8000']
    environment: { GREETING: hello }
    depends_on: [db]
  db:
    command: [sleep, infinity]
";

const BAD: &str = "\
services:
  orders:
    extends: base
    prots: ['8080:8000']
  db:
    command: [sleep, infinity]
    depends_on: [odrers]
";

fn sandbox() -> Sandbox {
    Sandbox::new(User::Own, "shop")
}

/// Every part stands on standard error, nothing on standard output.
#[track_caller]
fn check_error(done: &Done, code: i32, parts: &[&str]) {
    assert_eq!(done.code, code, "stderr:\n{}", done.stderr);
    assert_eq!(done.stdout, "", "results only on standard output");
    assert!(done.stderr.contains("error: "), "{}", done.stderr);
    for part in parts {
        assert!(done.stderr.contains(part), "{part:?} is missing in:\n{}", done.stderr);
    }
}

#[test]
fn help_is_there_for_everything() {
    let sandbox = sandbox();
    let all = sandbox.sinew(&["--help"]).ok().stdout;
    for command in [
        "up",
        "down",
        "ps",
        "status",
        "logs",
        "scale",
        "restart",
        "stop",
        "start",
        "exec",
        "port-forward",
        "check",
        "config",
        "version",
        "completions",
    ] {
        assert!(all.contains(&format!("\n  {command} ")), "{command} is missing in:\n{all}");
        let help = sandbox.sinew(&[command, "--help"]).ok().stdout;
        assert!(help.contains("Examples:\n  sinew "), "{command}:\n{help}");
        let short = sandbox.sinew(&[command, "-h"]).ok().stdout;
        assert!(short.contains("Usage: sinew "), "{command}:\n{short}");
    }
    for hidden in ["__init", "__daemon", "__names"] {
        assert!(!all.contains(&format!("\n  {hidden} ")), "{hidden} is not for people");
    }
}

#[test]
fn nothing_typed_is_answered_by_help() {
    let done = sandbox().sinew(&[]);
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    assert!(done.stderr.contains("Usage: sinew [OPTIONS] <COMMAND>"));
}

#[test]
fn typing_errors_are_corrected() {
    let sandbox = sandbox();
    for (typed, parts) in [
        (vec!["statsu"], vec!["unrecognized subcommand 'statsu'", "`status`?"]),
        (vec!["portforward", "a:1"], vec!["did you mean `port-forward`?"]),
        (
            vec!["up", "--detatch"],
            vec!["unexpected argument '--detatch'", "did you mean `--detach`?", "`sinew up --help`"],
        ),
        (vec!["scale"], vec!["SERVICE=N", "`sinew scale --help` shows examples"]),
        (vec!["scale", "orders"], vec!["write it like orders=3"]),
        (vec!["scale", "orders=many"], vec!["`many` is not a number of instances"]),
        (vec!["port-forward", "db"], vec!["write it like db:5432"]),
        (vec!["port-forward", "db:70000"], vec!["`70000` is not a port"]),
        (vec!["exec", "orders"], vec!["COMMAND"]),
        (vec!["ps", "-o", "yaml"], vec!["invalid value 'yaml'", "text, json"]),
        (vec!["logs", "--tail", "few"], vec!["a number of lines"]),
        (vec!["up", "--wait-timeout", "soon"], vec!["`soon` is not a span of time"]),
        (vec!["up", "--posture", "open"], vec!["invalid value 'open'", "sealed, explicit"]),
        (vec!["completions", "csh"], vec!["invalid value 'csh'"]),
    ] {
        check_error(&sandbox.sinew(&typed), 2, &parts);
    }
}

#[test]
fn all_problems_of_a_file_come_together() {
    let sandbox = sandbox();
    sandbox.write("compose.yaml", BAD);
    for command in
        [vec!["check"], vec!["config"], vec!["up"], vec!["up", "-d"], vec!["check", "compose.yaml"]]
    {
        check_error(
            &sandbox.sinew(&command),
            2,
            &[
                "compose.yaml:3:14: this file has no service `base`",
                "compose.yaml:4:5: `prots` is not a key of a service",
                "hint: did you mean `ports`?",
                "compose.yaml:7:",
                "3 problems in ",
                "nothing was started",
            ],
        );
    }
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn errors_are_json_when_json_is_wanted() {
    let sandbox = sandbox();
    sandbox.write("compose.yaml", BAD);
    let done = sandbox.sinew(&["check", "-o", "json"]);
    assert_eq!((done.code, done.stderr.as_str()), (2, ""));
    let error = &done.json()["error"];
    assert_eq!(error["code"], "invalid_file");
    assert_eq!(error["problems"].as_array().map(Vec::len), Some(3));
    let first = &error["problems"][0];
    assert_eq!((&first["line"], &first["column"]), (&3.into(), &14.into()));
    assert_eq!(first["path"], "services.orders.extends");

    for (typed, code, word) in [
        (vec!["-o", "json", "statsu"], 2, "arguments"),
        (vec!["scale", "orders", "--output=json"], 2, "arguments"),
        (vec!["check", "nowhere.yaml", "-o", "json"], 2, "no_such_file"),
        (vec!["ps", "-o", "json"], 1, "not_running"),
    ] {
        let done = sandbox.sinew(&typed);
        assert_eq!((done.code, done.stderr.as_str()), (code, ""), "{typed:?}");
        let error = &done.json()["error"];
        assert_eq!(error["code"], word, "{typed:?}");
        assert!(error["message"].is_string() && error["hint"].is_string(), "{typed:?}: {error}");
    }
}

#[test]
fn files_are_found_as_compose_finds_them() {
    let sandbox = sandbox();
    check_error(
        &sandbox.sinew(&["config"]),
        2,
        &["there is no compose file in", "sinew up path/to/compose.yaml"],
    );
    sandbox.write("compose.yaml", GOOD);
    sandbox.write("compose.override.yaml", "services: { db: { environment: { A: '1' } } }\n");
    sandbox.write(".env", "GREETING=from the folder\n");
    sandbox.write("other.yaml", "name: other\nservices: { one: { command: [\"echo\", \"$GREETING\"] } }\n");
    sandbox.write("deep/er/x", "");
    let config = |arguments: &[&str]| {
        let arguments: Vec<&str> = [&["config", "-o", "json"], arguments].concat();
        sandbox.sinew(&arguments).ok().json()
    };
    let here = config(&[]);
    assert_eq!(here["name"], "shop");
    assert_eq!(here["services"]["db"]["environment"]["A"], "1");
    assert_eq!(config(&["-C", "deep/er"]), here, "a folder above has the file");
    assert_eq!(config(&["compose.yaml"])["services"]["db"]["environment"]["A"], serde_json::Value::Null);
    assert_eq!(config(&["-p", "mine"])["name"], "mine");
    let other = config(&["-f", "other.yaml"]);
    assert_eq!(other["name"], "other");
    assert_eq!(other["services"]["one"]["command"][1], "from the folder");
    let before = sandbox.sinew(&["-f", "other.yaml", "config", "--services"]).ok();
    assert_eq!(before.stdout, "one\n");
    check_error(
        &sandbox.sinew(&["check", "othr.yaml"]),
        2,
        &["there is no file", "did you mean `other.yaml`?"],
    );
    check_error(&sandbox.sinew(&["check", "orders"]), 2, &["services are not named here"]);
    check_error(&sandbox.sinew(&["check", "-f", "other.yaml", "."]), 2, &["use one of the two"]);
}

#[test]
fn a_good_file_is_told_so() {
    let sandbox = sandbox();
    sandbox.write("compose.yaml", GOOD);
    let done = sandbox.sinew(&["check", "compose.yaml"]).ok();
    assert!(done.stdout.contains("application shop, 2 services, 2 instances"), "{}", done.stdout);
    let report = sandbox.sinew(&["check", "compose.yaml", "-o", "json"]).ok().json();
    assert_eq!((&report["file"]["application"], &report["file"]["services"]), (&"shop".into(), &2.into()));
    let shown = sandbox.sinew(&["config"]).ok().stdout;
    assert!(shown.contains("      GREETING: hello\n"), "{shown}");
}

#[test]
fn commands_say_when_nothing_runs() {
    let sandbox = sandbox();
    sandbox.write("compose.yaml", GOOD);
    for command in [
        vec!["ps"],
        vec!["status"],
        vec!["logs"],
        vec!["scale", "orders=2"],
        vec!["restart"],
        vec!["stop"],
        vec!["start"],
        vec!["exec", "orders", "--", "env"],
        vec!["port-forward", "orders:8000"],
    ] {
        check_error(&sandbox.sinew(&command), 1, &["is not running", "start it with `sinew up -d`"]);
        let named: Vec<&str> = [vec!["-p", "shop"], command].concat();
        check_error(&sandbox.sinew(&named), 1, &["application `shop` is not running"]);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = sandbox();
    let mut child = sandbox
        .command(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    assert_eq!(wait(&mut child, Duration::from_secs(10)), Some(0));
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(said, "");
}

#[test]
fn colours_are_there_when_they_are_wanted() {
    let sandbox = sandbox();
    let plain = sandbox.sinew(&["check", "nowhere"]);
    assert!(!plain.stderr.contains('\x1b'), "{}", plain.stderr);
    let colored = sandbox.sinew(&["check", "nowhere", "--color", "always"]);
    assert!(colored.stderr.contains("\x1b[31merror:\x1b[0m"), "{}", colored.stderr);
    let never = sandbox.sinew(&["check", "nowhere", "--color", "never"]);
    assert!(!never.stderr.contains('\x1b'), "{}", never.stderr);
}

#[test]
fn versions_and_completions_are_for_scripts() {
    let sandbox = sandbox();
    let version = env!("CARGO_PKG_VERSION");
    assert!(sandbox.sinew(&["version"]).ok().stdout.starts_with(&format!("sinew {version} (")));
    assert_eq!(sandbox.sinew(&["--version"]).ok().stdout, format!("sinew {version}\n"));
    assert_eq!(sandbox.sinew(&["version", "-o", "json"]).ok().json()["version"], version);
    for (shell, part) in [("bash", "_sinew()"), ("zsh", "#compdef sinew"), ("fish", "complete -c sinew")] {
        let script = sandbox.sinew(&["completions", shell]).ok().stdout;
        assert!(script.contains(part) && script.contains("port-forward"), "{shell}");
    }
}
