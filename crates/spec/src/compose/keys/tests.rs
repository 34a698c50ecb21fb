//! The table against the published schema of the Compose Specification, the reader against the table, and the
//! documentation against both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{KEYS, Key, Section, Support, find, of};

mod reader;
mod schema;

use schema::SCHEMA;

/// What the table has although the schema has not.
const OURS: [(&str, &str); 5] = [
    ("x-sinew.", "the extension"),
    ("services.*.volumes[].x-sinew.", "the extension"),
    ("services.*.x-sinew", "the extension"),
    ("services.*.logging.options.", "any key in the schema: they are the driver's"),
    ("secrets.*.content", "refused by name, as people try it"),
];

/// The paths that a key of the table stands for.
fn paths(key: &Key) -> Vec<String> {
    let places = key.section.place();
    places
        .split(", ")
        .map(|place| match key.section {
            Section::Top => key.name.to_owned(),
            _ => format!("{place}.{}", key.name),
        })
        .collect()
}

/// The line of the table that decides about a path of the schema: its own, or of what it stands in when that is not
/// read at all.
fn decided_by<'a>(path: &str, table: &BTreeMap<String, &'a Key>) -> Option<&'a Key> {
    if let Some(key) = table.get(path) {
        return Some(key);
    }
    let above = path.match_indices('.').map(|(end, _)| path[..end].trim_end_matches(['[', ']', '.', '*']));
    above
        .filter_map(|above| table.get(above).copied())
        .find(|key| matches!(key.support, Support::Refused | Support::NoEffect))
}

fn table() -> BTreeMap<String, &'static Key> {
    KEYS.iter().flat_map(|key| paths(key).into_iter().map(move |path| (path, key))).collect()
}

fn schema_paths() -> impl Iterator<Item = &'static str> {
    SCHEMA.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn every_key_of_the_schema_is_in_the_table() {
    let table = table();
    let missing: Vec<&str> = schema_paths().filter(|path| decided_by(path, &table).is_none()).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(schema_paths().count() > 300);
}

#[test]
fn every_key_of_the_table_is_in_the_schema_or_ours() {
    let schema: BTreeSet<&str> = schema_paths().collect();
    for path in table().keys() {
        let ours = OURS.iter().any(|(start, _)| path.starts_with(start));
        assert!(ours != schema.contains(path.as_str()), "{path}");
    }
}

#[test]
fn a_key_is_in_the_table_once_and_says_what_is_to_be_known() {
    let mut seen = BTreeSet::new();
    for key in KEYS {
        assert!(seen.insert((key.section, key.name)), "{} is there twice", key.name);
        assert!(Section::ALL.contains(&key.section));
        assert!(key.support == Support::Supported || !key.note.is_empty(), "{} has no note", key.name);
        let version = |text: &str| -> Vec<u32> {
            text.split('.').map(|part| part.parse().expect("a version is three numbers")).collect()
        };
        assert!(version(key.since) <= version(env!("CARGO_PKG_VERSION")), "{} comes later", key.name);
    }
}

/// `SINEW_UPDATE_DOCS=1` writes the tables of the page anew.
#[test]
fn the_documentation_is_up_to_date() {
    const BEGIN: &str = "<!-- keys: begin -->\n";
    const END: &str = "<!-- keys: end -->\n";
    let path = folder().join("../../docs/compose.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the first mark");
    let (tables, after) = rest.split_once(END).expect("the page has the second mark");
    let expected = tables_text();
    if updating() {
        std::fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(
        tables == expected,
        "docs/compose.md differs from the table of keys; run with SINEW_UPDATE_DOCS=1"
    );
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn updating() -> bool {
    std::env::var_os("SINEW_UPDATE_DOCS").is_some()
}

fn tables_text() -> String {
    let table = table();
    let mut below: BTreeMap<(Section, &str), Vec<&str>> = BTreeMap::new();
    for path in schema_paths().filter(|path| !table.contains_key(*path)) {
        let key = decided_by(path, &table).expect("another test says which one is missing");
        below.entry((key.section, key.name)).or_default().push(path);
    }
    let mut text = String::new();
    for section in Section::ALL {
        writeln!(text, "\n### `{}`\n\n| key | support | since | note |\n|---|---|---|---|", section.place())
            .unwrap();
        for key in of(section) {
            let support = support(key);
            let note = key.note.replace('|', "\\|");
            writeln!(text, "| `{}` | {support} | {} | {note} |", key.name, key.since).unwrap();
            for path in below.get(&(section, key.name)).into_iter().flatten() {
                let inner = paths(key)
                    .iter()
                    .find_map(|own| path.strip_prefix(own.as_str()))
                    .expect("it was found by what it stands in");
                let name = key.name;
                writeln!(text, "| `{name}{inner}` | {support} | {} | as `{name}` |", key.since).unwrap();
            }
        }
    }
    text.push('\n');
    text
}

fn support(key: &Key) -> &'static str {
    match key.support {
        Support::Supported => "supported",
        Support::InPart => "in part",
        Support::NoEffect => "ignored",
        Support::Refused => "refused",
    }
}

#[test]
fn what_is_not_read_decides_about_what_stands_in_it() {
    let table = table();
    let check = |path: &str, expected: Option<&str>| {
        assert_eq!(decided_by(path, &table).map(|key| key.name), expected, "{path}");
    };
    check("services.*.develop.watch[].path", Some("develop"));
    check("services.*.blkio_config.weight_device[].path", Some("blkio_config"));
    check("networks.*.external.name", Some("external"));
    check("services.*.healthcheck.new", None);
    assert!(find(Section::Service, "image").is_some_and(|key| key.support == Support::Supported));
}
