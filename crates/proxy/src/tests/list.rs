//! The page that says which test holds which line of the list of hostile input.

use std::fs;
use std::path::Path;

/// All Rust files below a folder, in one text; each behind a line with its name.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "toml") {
            text.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// Of the last `columns` cells of a row: what is in backquotes and no file.
fn names(row: &str, columns: usize) -> Vec<&str> {
    let cells: Vec<_> = row.trim_matches('|').split('|').collect();
    let tests = &cells[cells.len() - columns..];
    let quoted = tests.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2));
    quoted.filter(|name| !name.contains('.')).collect()
}

#[test]
fn every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut text = String::new();
    for folder in
        ["crates/wire/src", "crates/proxy/src", "crates/telemetry/src", "crates/sinew/tests", "fuzz"]
    {
        sources(&root.join(folder), &mut text);
    }
    let page = fs::read_to_string(root.join("crates/wire/HOSTILE.md")).expect("the page");
    let (mut columns, mut rows) = (0, 0);
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        // The whole list has a column for each place, the tables below it one.
        columns = match row {
            "| line | engine | proxy |" => 2,
            "| input | answer | tests |" => 1,
            _ => {
                let names = names(row, columns);
                assert!(!names.is_empty(), "no test is named: {row}");
                names.into_iter().for_each(|name| look_for(name, &text, row));
                rows += 1;
                columns
            }
        };
    }
    assert!(rows >= 60, "{rows} rows");
}

fn look_for(name: &str, text: &str, row: &str) {
    let (module, function) = name.rsplit_once("::").unwrap_or(("", name));
    let is_test =
        text.contains(&format!("fn {function}()")) || text.contains(&format!("name = \"{function}\""));
    let is_module = module.is_empty() || text.contains(&format!("mod {module};"));
    assert!(is_test && is_module, "there is no test {name}: {row}");
}
