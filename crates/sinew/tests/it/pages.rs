//! What the pages say is typed: every command that they name is one, and the stack file of the page on Swarm is read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Sandbox, User};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// `sinew …` in backticks and behind `$`, without what is for a program inside and without words about it.
fn commands(page: &str) -> BTreeSet<String> {
    let spans = page.split('`').skip(1).step_by(2).filter(|span| span.starts_with("sinew "));
    let typed =
        page.lines().filter_map(|line| line.strip_prefix("$ ")).filter(|line| line.starts_with("sinew "));
    let bare = |command: &str| {
        let command = command.split("  #").next().unwrap_or_default();
        command
            .split(" -- ")
            .next()
            .unwrap_or_default()
            .split(" | ")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    spans.chain(typed).filter(|command| !command.contains(['…', '\n'])).map(bare).collect()
}

#[test]
fn every_command_of_the_guides_is_one() {
    let sandbox = Sandbox::new(User::Own, "pages");
    let mut all = BTreeSet::new();
    for page in [
        "from-docker-compose.md",
        "from-swarm.md",
        "air-gapped.md",
        "images.md",
        "containers.md",
        "operations.md",
    ] {
        all.extend(commands(&fs::read_to_string(docs().join(page)).expect("the page is there")));
    }
    assert!(all.len() > 30, "{all:?}");
    for command in all {
        // Options are looked at in their order: an unknown one is an error before the help is shown.
        let words: Vec<&str> = command.split_whitespace().skip(1).chain(["--help"]).collect();
        let done = sandbox.sinew(&words);
        assert_eq!(done.code, 0, "{command}: {}", done.stderr);
    }
    assert_eq!(sandbox.sinew(&["up", "--wthout", "--help"]).code, 2, "the check sees what is wrong");
}

#[test]
fn the_stack_file_of_the_page_on_swarm_is_read() {
    let page = fs::read_to_string(docs().join("from-swarm.md")).expect("the page is there");
    let stack =
        page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has a file");
    let sandbox = Sandbox::new(User::Own, "stack");
    sandbox.write("stack.yaml", stack);
    sandbox.write("api_key.txt", "key\n");
    let said = sandbox.sinew(&["-p", "shop", "check", "stack.yaml"]).ok();
    assert_eq!(
        (said.stdout.as_str(), said.stderr.as_str()),
        ("ok  stack.yaml: application shop, 2 services, 3 instances\n", "")
    );
    // What the page says is the same is so.
    let updated = stack.replace(
        "      replicas: 2\n",
        "      replicas: 2\n      update_config: {parallelism: 1, delay: 0s, failure_action: rollback, monitor: 1m, max_failure_ratio: 0, order: stop-first}\n",
    );
    assert_ne!(updated, stack);
    sandbox.write("stack.yaml", &updated);
    sandbox.sinew(&["-p", "shop", "check", "stack.yaml"]).ok();
}
