//! What services of a file see of each other's files, while somebody works in the project folder.

use std::fs;
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
