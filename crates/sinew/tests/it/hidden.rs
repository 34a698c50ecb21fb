//! What services of a file see of each other's files, while somebody works in the project folder.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Sandbox, until, users};

const SECRET: &str = "nobody-else-reads-this";
const COMPOSE: &str = r#"
services:
  a: { command: [sleep, "1000"] }
  b: { command: [sleep, "1000"], secrets: [s] }
secrets:
  s: { file: ./s.txt }
"#;

/// `web` is as files usually are, `open` has said that it wants everything.
const WRITES: &str = r#"
services:
  web:
    command: [sleep, "1000"]
    volumes: [".:/app"]
  open:
    command: [sleep, "1000"]
    volumes: [{ type: bind, source: ., target: /app, x-sinew: { hide: false } }]
  other: { command: [sleep, "1000"], secrets: [s, deep] }
secrets:
  s: { file: ./s.txt }
  deep: { file: ./keys/deep.txt }
"#;

#[test]
fn who_is_shown_everything_may_write_where_the_compose_file_is() {
    for user in users() {
        let sandbox = Sandbox::new(user, "writes");
        for secret in ["s.txt", "keys/deep.txt"] {
            sandbox.write(secret, SECRET);
        }
        sandbox.write("compose.yaml", WRITES);
        let told = sandbox.sinew(&["up", "-d"]).ok().stderr;
        let notice =
            "warning: compose.yaml:5:15: directly in `/app` nothing can be created, renamed or removed";
        assert!(told.contains(notice), "{told}");
        assert_eq!(told.matches("nothing can be created").count(), 1, "{told}");
        let checked = sandbox.sinew(&["check"]);
        assert!(checked.stderr.contains(notice), "{}{}", checked.stdout, checked.stderr);

        let inside = |service: &str, script: &str| {
            let done = sandbox.sinew(&["exec", service, "--", "sh", "-c", script]);
            (done.code == 0).then_some(done.stdout)
        };
        for refused in ["echo x > /app/new", "mv /app/keys /app/moved", "cat /app/compose.yaml"] {
            assert_eq!(inside("web", refused), None, "{user:?}: {refused}");
        }
        let works = "cd /app && echo one > new && mv new newer && cat newer && rm newer && echo kept > kept";
        assert_eq!(inside("open", works).as_deref(), Some("one\n"), "{user:?}");
        assert_eq!(fs::read_to_string(sandbox.folder.join("kept")).expect("written inside"), "kept\n");
        assert_eq!(inside("open", "cat /app/compose.yaml").as_deref(), Some(WRITES));
        // Secrets of others stay covered, and cannot be brought away.
        for secret in ["s.txt", "keys/deep.txt"] {
            let tries = format!(
                "cd /app; cat {secret}; ln {secret} linked && cat linked; mv {secret} moved && cat moved; \
                 mv keys elsewhere; cat elsewhere/deep.txt; mv elsewhere keys; true"
            );
            let seen = inside("open", &tries).unwrap_or_default();
            assert!(!seen.contains(SECRET), "{user:?}: {secret}");
        }
        assert_eq!(fs::read_to_string(sandbox.folder.join("s.txt")).expect("it is there"), SECRET);
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

#[test]
fn a_secret_that_an_editor_saves_is_not_shown_to_other_services() {
    for user in users() {
        let sandbox = Sandbox::new(user, "hidden");
        sandbox.write("s.txt", SECRET);
        sandbox.write("app.py", "first");
        sandbox.write("compose.yaml", COMPOSE);
        sandbox.sinew(&["up", "-d"]).ok();
        let at = |name: &str| sandbox.folder.join(name);
        let cat = |service: &str, path: &str| sandbox.sinew(&["exec", service, "--", "cat", path]);
        assert_eq!(cat("b", "/run/secrets/s").stdout, SECRET);
        for _ in 0..3 {
            for hidden in ["s.txt", "compose.yaml", ".env"] {
                let text = if hidden == "compose.yaml" { COMPOSE } else { "" };
                sandbox.write("n", &format!("#={SECRET}\n{text}"));
                fs::rename(at("n"), at(hidden)).expect("save as an editor does");
            }
            for service in ["a", "b"] {
                for hidden in ["s.txt", "compose.yaml", ".env"] {
                    let seen = cat(service, hidden);
                    assert!(!seen.stdout.contains(SECRET), "{user:?}: {service} reads {hidden}");
                }
            }
        }
        sandbox.write("n", "second");
        fs::rename(at("n"), at("app.py")).expect("save as an editor does");
        until("the program as it was saved", Duration::from_secs(20), || {
            (cat("a", "app.py").stdout == "second").then_some(())
        });
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}

/// Files of included projects and of extended services, also those that are made only later.
#[test]
fn what_an_application_includes_is_hidden_and_in_its_bundle() {
    let includes = "include: [{path: [part/compose.yaml, part/more.yaml], env_file: part/part.env}]
services:
  a: { extends: { file: base/base.yaml, service: base } }
";
    let hidden = ["part/compose.yaml", "part/more.yaml", "part/part.env", "part/.env", "base/base.yaml"];
    for user in users() {
        let sandbox = Sandbox::new(user, "parts");
        sandbox.write("compose.yaml", includes);
        let part = format!("services:\n  b: {{ command: [sleep, \"1000\"] }} # {SECRET}\n");
        sandbox.write("part/compose.yaml", &part);
        sandbox.write("part/more.yaml", &format!("services: {{ b: {{ environment: [KEY] }} }} # {SECRET}\n"));
        sandbox.write("part/part.env", &format!("KEY={SECRET}\n"));
        sandbox.write("part/shown.txt", "shown");
        sandbox.write(
            "base/base.yaml",
            &format!("services: {{ base: {{ command: [sleep, \"1000\"] }} }} # {SECRET}\n"),
        );
        sandbox.sinew(&["up", "-d"]).ok();
        sandbox.write("part/.env", &format!("LATER={SECRET}\n"));
        let cat = |service: &str, path: &str| {
            let path = sandbox.folder.join(path).display().to_string();
            sandbox.sinew(&["exec", service, "--", "cat", &path])
        };
        for service in ["a", "b"] {
            assert_eq!(cat(service, "part/shown.txt").stdout, "shown", "{user:?}: {service}");
            for path in hidden {
                let seen = cat(service, path);
                assert!(!seen.stdout.contains(SECRET), "{user:?}: {service} reads {path}");
            }
        }
        let key = sandbox.sinew(&["exec", "b", "--", "sh", "-c", "echo $KEY; pwd"]).ok().stdout;
        assert_eq!(key, format!("{SECRET}\n{}\n", sandbox.folder.join("part").display()));
        sandbox.sinew(&["bundle", "save", "parts.bundle"]).ok();
        let names = Command::new("tar")
            .args(["-tf", "parts.bundle"])
            .current_dir(&sandbox.folder)
            .output()
            .expect("tar");
        let names = String::from_utf8(names.stdout).expect("UTF-8");
        for path in hidden.iter().filter(|path| **path != "part/.env") {
            assert!(names.lines().any(|name| name.ends_with(path)), "{path} is not in the bundle:\n{names}");
        }
        sandbox.sinew(&["down"]).ok();
        assert_eq!(sandbox.left_over(), Vec::<String>::new());
    }
}
