//! What people who come from Compose or systemd type, and what they are told.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Done, Sandbox, User, until, users};
use crate::lifetimes::WEB;

const PATIENCE: Duration = Duration::from_secs(20);

fn application(user: User, name: &str, compose: &str) -> Sandbox {
    let sandbox = Sandbox::new(user, name);
    sandbox.write("web.py", WEB);
    sandbox.write("compose.yaml", compose);
    sandbox
}

/// All that was said.
fn said(done: &Done) -> String {
    format!("{}{}", done.stdout, done.stderr)
}

#[track_caller]
fn check_said(done: &Done, code: i32, parts: &[&str]) {
    let said = said(done);
    assert_eq!(done.code, code, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

fn running(sandbox: &Sandbox) -> Vec<(String, Value)> {
    let listed = sandbox.sinew(&["ps", "-o", "json"]).ok().json();
    let instances = listed.as_array().expect("instances").iter();
    instances
        .map(|one| (one["name"].as_str().expect("a name").to_owned(), one["service_pid"].clone()))
        .collect()
}

fn names(sandbox: &Sandbox) -> Vec<String> {
    running(sandbox).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_port_that_nobody_listens_on_is_told_while_waiting() {
    let compose = "services:
  web:
    command: [python3, -u, -c, \"import socket, time; s = socket.create_server(('', 8000)); print('hello'); time.sleep(999)\"]
    ports: ['9000']
  api:
    command: [sleep, '999']
    healthcheck: { test: [CMD, sh, -c, 'echo no database; exit 3'], interval: 1m }
  last:
    command: [sleep, '999']
    depends_on: { api: { condition: service_healthy } }
";
    for user in users() {
        let sandbox = application(user, "patient", compose);
        let up = sandbox.sinew(&["up", "-d", "--wait-timeout", "6s"]);
        check_said(
            &up,
            1,
            &[
                "after 3s not up yet:\n",
                "\n  web: starting: nobody listens on port 9000; it listens on 8000\n",
                "\n    it wrote last: hello\n",
                "\n    `sinew logs web` shows more\n",
                "exit 3` ended with code 3: no database\n",
                "\n  last: waits for api to be healthy\n",
            ],
        );
        let status = sandbox.sinew(&["status"]).ok().stdout;
        assert!(status.contains("0 of 3 services as wanted, 1 published port without service"), "{status}");
        assert!(status.contains(" -> web:9000  nobody listens on port 9000; it listens on 8000"), "{status}");
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

#[test]
fn volumes_are_deleted_also_when_nothing_runs() {
    let compose = "services:
  box:
    command: [sleep, '999']
    volumes: ['data:/data', 'more:/more']
volumes: { data: , more: }
";
    for user in users() {
        let sandbox = application(user, "boxes", compose);
        check_said(
            &sandbox.sinew(&["down", "-v"]),
            0,
            &["nothing runs here; there were no volumes to delete"],
        );
        sandbox.sinew(&["up", "-d"]).ok();
        sandbox.sinew(&["exec", "box", "--", "touch", "/data/file"]).ok();
        let kept = sandbox.state().join("boxes/volumes/data/file");
        check_said(
            &sandbox.sinew(&["down"]),
            0,
            &["boxes is down; stay: the volumes data, more (`down -v` deletes)"],
        );
        assert!(kept.exists());
        check_said(&sandbox.sinew(&["down"]), 0, &["nothing runs here"]);
        check_said(
            &sandbox.sinew(&["down", "-v"]),
            0,
            &["nothing runs here; deleted the volumes: data, more"],
        );
        assert!(!kept.exists());
        sandbox.sinew(&["up", "-d"]).ok();
        check_said(&sandbox.sinew(&["down", "-v"]), 0, &["boxes is down; deleted the volumes: data, more"]);
        sandbox.sinew(&["up", "-d"]).ok();
        sandbox.sinew(&["down", "--remove-orphans"]).ok();
        check_said(&sandbox.sinew(&["-p", "boxes", "down", "-v"]), 0, &["deleted the volumes: data, more"]);
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

#[test]
fn two_folders_of_one_name_do_not_replace_each_other() {
    let compose =
        "services: { box: { command: [sleep, '999'], volumes: ['data:/data'] } }\nvolumes: { data: }\n";
    let sandbox = application(User::Own, "twin", compose);
    let other = sandbox.write("elsewhere/twin/compose.yaml", compose);
    let other = other.parent().expect("its folder").display().to_string();
    let here = sandbox.folder.display().to_string();
    sandbox.sinew(&["up", "-d"]).ok();
    let before = running(&sandbox);
    let refused = sandbox.sinew(&["-C", &other, "up", "-d"]);
    check_said(
        &refused,
        2,
        &[
            &format!("`twin` runs from {here} already; the one of {other} has the same name"),
            "hint: call this one something else: `name: …` at the top of its file, `-p NAME` or COMPOSE_PROJECT_NAME",
        ],
    );
    assert_eq!(running(&sandbox), before);
    sandbox.sinew(&["-C", &other, "-p", "second", "up", "-d"]).ok();
    sandbox.sinew(&["-p", "second", "down", "-v"]).ok();
    // Nothing runs, but the volume is the first one's.
    sandbox.sinew(&["down"]).ok();
    for command in [vec!["up", "-d"], vec!["down", "-v"]] {
        let typed: Vec<&str> = [vec!["-C", other.as_str()], command].concat();
        check_said(
            &sandbox.sinew(&typed),
            2,
            &["the volumes of application `twin` (data) belong to the one of ", &here],
        );
    }
    // A folder that was moved is the same one.
    fs::rename(&other, sandbox.folder.with_file_name("moved")).expect("move it");
    fs::remove_file(sandbox.folder.join("compose.yaml")).expect("it is ours");
    let moved = sandbox.folder.with_file_name("moved").display().to_string();
    let gone = sandbox.folder.with_file_name("gone");
    fs::rename(&sandbox.folder, &gone).expect("move it");
    let up =
        sandbox.command(&["-p", "twin", "-C", &moved, "up", "-d"]).current_dir("/").output().expect("runs");
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let down = sandbox.command(&["-p", "twin", "down", "-v"]).current_dir("/").status().expect("runs");
    assert!(down.success());
    fs::rename(&gone, &sandbox.folder).expect("move it back");
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn services_are_started_by_name() {
    let compose = "services:
  web: { command: [sleep, '999'], depends_on: [db] }
  db: { command: [sleep, '999'] }
  api: { command: [sleep, '999'] }
";
    let sandbox = application(User::Own, "named", compose);
    check_said(
        &sandbox.sinew(&["up", "-d", "wbe"]),
        2,
        &["there is no service `wbe`", "did you mean `web`?"],
    );
    sandbox.sinew(&["up", "-d", "web"]).ok();
    let first = running(&sandbox);
    assert_eq!(names(&sandbox), ["db-1", "web-1"]);
    sandbox.sinew(&["stop", "db"]).ok();
    sandbox.sinew(&["up", "-d", "api"]).ok();
    // What was not named goes on as it is: stopped, too.
    assert_eq!(names(&sandbox), ["api-1", "web-1"]);
    assert_eq!(running(&sandbox)[1], first[1]);
    check_said(&sandbox.sinew(&["start", "db", "web"]), 0, &["db started", "web runs already"]);
    check_said(
        &sandbox.sinew(&["up", "-d", "--scale", "api=2"]),
        0,
        &["~ api (replicas): its instances go on"],
    );
    assert_eq!(names(&sandbox), ["api-1", "api-2", "db-1", "web-1"]);
    let before = running(&sandbox);
    sandbox.sinew(&["up", "-d", "--force-recreate", "api"]).ok();
    let now = running(&sandbox);
    assert!(now.contains(&first[1]), "web goes on");
    assert_eq!(now.len(), 3, "the file wants one of each: {now:?}");
    assert!(!before.contains(&now[0]), "it is a new one: {before:?} {now:?}");
    check_said(
        &sandbox.sinew(&["up", "-d", "--scale", "apo=2"]),
        2,
        &["no service `apo`", "did you mean `api`?"],
    );
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn a_file_says_which_application_is_meant() {
    let sandbox = application(User::Own, "files", "services: { one: { command: [sleep, '999'] } }\n");
    sandbox.write("other.yaml", "name: other\nservices: { two: { command: [sleep, '999'] } }\n");
    let quiet = |before: &[&str]| sandbox.sinew(&[before, &["ps", "-q"]].concat());
    sandbox.sinew(&["-f", "other.yaml", "up", "-d"]).ok();
    check_said(
        &quiet(&["-f", "compose.yaml"]),
        1,
        &["the application of compose.yaml is not running", "from this folder is running: other"],
    );
    sandbox.sinew(&["up", "-d"]).ok();
    assert_eq!(quiet(&[]).ok().stdout, "one-1\n");
    assert_eq!(quiet(&["-f", "compose.yaml"]).ok().stdout, "one-1\n");
    assert_eq!(quiet(&["-f", "other.yaml"]).ok().stdout, "two-1\n");
    for command in [vec!["logs"], vec!["status"], vec!["stop"], vec!["start"], vec!["restart", "two"]] {
        sandbox.sinew(&[vec!["-f", "other.yaml"], command].concat()).ok();
    }
    sandbox.sinew(&["-f", "other.yaml", "exec", "two", "--", "true"]).ok();
    check_said(&sandbox.sinew(&["-f", "other.yaml", "down"]), 0, &["other is down"]);
    check_said(&sandbox.sinew(&["-f", "compose.yaml", "down"]), 0, &["files is down"]);
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn stopping_starting_and_restarting_say_what_happened() {
    let compose = "services:
  web:
    command: [python3, web.py]
    ports: ['8000']
  job: { command: ['true'] }
  bad: { command: [sh, -c, 'test ! -e broken || exit 7; sleep 999'], restart: always }
";
    let sandbox = application(User::Own, "lives", compose);
    sandbox.sinew(&["up", "-d"]).ok();
    check_said(&sandbox.sinew(&["start", "web"]), 0, &["web runs already"]);
    check_said(&sandbox.sinew(&["stop", "web"]), 0, &["web stopped"]);
    check_said(&sandbox.sinew(&["stop", "web"]), 0, &["web is stopped already"]);
    let status = sandbox.sinew(&["status"]).ok().stdout;
    assert!(status.starts_with("lives  2 of 3 services as wanted, 1 stopped, 1 published port"), "{status}");
    assert!(status.contains(" -> web:8000  web is stopped"), "{status}");
    check_said(&sandbox.sinew(&["start", "web", "job"]), 0, &["web started", "job started"]);
    // It listens when this returns, although it has no health check.
    let ask = "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/')";
    sandbox.sinew(&["restart", "web"]).ok();
    sandbox.sinew(&["exec", "web", "--", "python3", "-c", ask]).ok();
    sandbox.write("broken", "");
    check_said(
        &sandbox.sinew(&["restart", "bad"]),
        1,
        &["` does not come up: ended with code 7", "`sinew logs bad` shows what it wrote"],
    );
    sandbox.sinew(&["down"]).ok();
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn a_terminal_has_a_name_and_a_question_without_end_is_shown() {
    let compose = "services: { ask: { command: [sh, -c, 'printf \"your name? \"; sleep 999'] } }\n";
    for user in users() {
        let sandbox = application(user, "asks", compose);
        sandbox.sinew(&["up", "-d"]).ok();
        until("the line without an end is shown", PATIENCE, || {
            let logs = sandbox.sinew(&["logs", "ask"]).ok().stdout;
            logs.contains("ask-1 | your name? ").then_some(())
        });
        let done = sandbox.sinew(&["exec", "-t", "ask", "--", "sh", "-c", "tty; stty size; exit 5"]);
        assert_eq!((done.code, done.stdout.as_str()), (5, "/dev/pts/0\r\n24 80\r\n"), "{}", done.stderr);
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

#[test]
fn programs_that_are_not_there_are_named_in_short() {
    let compose = "services:
  web: { command: [pyhton3, web.py] }
  api:
    command: ./start
  sh: { command: [sh, -c, x] }
";
    let sandbox = application(User::Own, "missing", compose);
    sandbox.write("start", "#!/bin/sh\n");
    check_said(
        &sandbox.sinew(&["check", "compose.yaml"]),
        0,
        &[
            "warning: compose.yaml:2:20: there is no program `pyhton3` in PATH",
            "warning: compose.yaml:4:14: `./start` is not executable",
            "hint: `chmod +x ./start`",
        ],
    );
    let up = sandbox.sinew(&["up", "-d", "api"]);
    check_said(&up, 1, &["Permission denied (os error 13); it is not executable: `chmod +x ./start`"]);
    let up = sandbox.sinew(&["up", "-d", "web"]);
    check_said(
        &up,
        1,
        &[
            "run pyhton3: not found inside the seal in /usr/local/bin, /usr/bin, /bin and 2 more folders of PATH",
        ],
    );
    sandbox.sinew(&["down"]).ok();
}
