//! What no compiler checks: who may import whom, how large a file may get, and words that must not be in the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::stage::{Failed, cargo, output, root};

/// Lines of a Rust file that is not a test. A longer one has a second idea in it.
const FILE_LINES_MAX: usize = 700;

/// Text that must not be in a tracked file, and what to write instead. Split, so that this file passes itself.
const BANNED: &[(&str, &str)] = &[
    (concat!("/work", "/main"), "a path below the project's folder"),
    (concat!("/root", "/."), "a path below the project's folder, or $HOME"),
    (concat!("crates", ".io/api"), "the package's name"),
    (concat!("todo", "!("), "the code, or a clear error"),
    (concat!("unimplemented", "!("), "the code, or a clear error"),
];

pub fn check() -> Result<(), Failed> {
    let mut problems = imports()?;
    problems.extend(files()?);
    if problems.is_empty() { Ok(()) } else { Err(Failed::new(problems.join("\n"))) }
}

/// The table of `ARCHITECTURE.md` ("| `crate` | responsibility | may import |") against `cargo metadata`.
fn imports() -> Result<Vec<String>, Failed> {
    let page = read("ARCHITECTURE.md")?;
    let allowed = import_table(&page);
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let metadata: Value =
        serde_json::from_str(&metadata).map_err(|e| Failed::new(format!("cargo metadata: {e}")))?;
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = short(package["name"].as_str().unwrap_or_default());
        seen.insert(name.to_owned());
        let Some(may) = allowed.get(name) else {
            problems.push(format!("ARCHITECTURE.md: the table of imports has no row for `{name}`"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let ours = dependency["path"].is_string();
            let development = dependency["kind"].as_str() == Some("dev");
            if ours && !development && !may.contains(short(on)) && !may.contains("all") {
                problems.push(format!("`{name}` imports `{}`: ARCHITECTURE.md does not allow it", short(on)));
            }
        }
    }
    for name in allowed.keys().filter(|name| !seen.contains(*name)) {
        problems.push(format!(
            "ARCHITECTURE.md: the table of imports has a row for `{name}`, which does not exist"
        ));
    }
    Ok(problems)
}

fn import_table(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut table = BTreeMap::new();
    let rows = page.lines().skip_while(|line| !line.contains("| may import |")).skip(2);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, may] = cells[..] else { continue };
        let may = may
            .split(',')
            .map(|word| word.trim().trim_matches('`').to_owned())
            .filter(|w| w != "-")
            .collect();
        for name in name.split(',') {
            let name = name.trim().split(' ').next().unwrap_or_default().trim_matches('`');
            table.insert(name.to_owned(), BTreeSet::clone(&may));
        }
    }
    table
}

fn short(package: &str) -> &str {
    package.strip_prefix("sinew-").unwrap_or(package)
}

fn files() -> Result<Vec<String>, Failed> {
    let list = output(std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()))?;
    let mut problems = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty() && !path.ends_with("Cargo.lock")) {
        // What git tracks but a change has just removed is no file to read.
        let Ok(bytes) = fs::read(root().join(path)) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        for (word, instead) in BANNED {
            if let Some(at) = text.find(word) {
                let line = text[..at].matches('\n').count() + 1;
                problems.push(format!("{path}:{line}: `{word}` must not be here; use {instead}"));
            }
        }
        let is_test = path.contains("/tests/") || path.ends_with("tests.rs");
        let lines = text.lines().count();
        if path.ends_with(".rs") && !is_test && lines > FILE_LINES_MAX {
            problems.push(format!(
                "{path}: {lines} lines, more than {FILE_LINES_MAX}: look for the second idea in it"
            ));
        }
    }
    Ok(problems)
}

fn read(path: &str) -> Result<String, Failed> {
    fs::read_to_string(root().join(path)).map_err(|e| Failed::new(format!("read {path}: {e}")))
}
