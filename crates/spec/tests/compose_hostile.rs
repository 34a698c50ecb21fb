//! Bytes that nobody wrote on purpose: reading them gives an application or problems, never a panic, in bounded time.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use proptest::prelude::*;
use sinew_spec::compose::{ComposeInput, Loaded, PathKind, Reader, read};

struct Anything<'a>(&'a str);

impl Reader for Anything<'_> {
    fn read(&self, _: &Path) -> io::Result<String> {
        Ok(self.0.to_owned())
    }

    fn kind(&self, path: &Path) -> Option<PathKind> {
        match path.as_os_str().len() % 4 {
            0 => None,
            1 => Some(PathKind::Folder),
            2 => Some(PathKind::Device),
            _ => Some(PathKind::File),
        }
    }
}

/// Reads texts as files, and whatever comes out in every way that it is shown.
fn check(files: &[&str], dotenv: &str) -> Loaded {
    let environment =
        BTreeMap::from([("HOME".to_owned(), "/home/u".to_owned()), ("E".to_owned(), String::new())]);
    let loaded = read(&ComposeInput {
        files: files
            .iter()
            .enumerate()
            .map(|(i, text)| (format!("/p/{i}.yaml").into(), (*text).to_owned()))
            .collect(),
        folder: "/p".into(),
        name: None,
        environment: &environment,
        dotenv: Some(("/p/.env".into(), dotenv.to_owned())),
        profiles: Vec::new(),
        reader: &Anything(dotenv),
        services: Vec::new(),
    });
    if let Err(problems) = &loaded.application {
        assert!(!problems.is_empty());
        let shown = problems.to_string();
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        let json = serde_json::to_string(problems).unwrap();
        assert_eq!(serde_json::from_str::<sinew_spec::compose::Problems>(&json).unwrap(), *problems);
    }
    loaded
}

fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let yaml = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    yaml.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Pieces that mean something somewhere in a compose file.
const PIECES: [&str; 45] = [
    "\n",
    "  ",
    "    ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "&a ",
    "*a",
    "<<: ",
    "!reset ",
    "!override ",
    "services:\n",
    "  web:\n",
    "    command: [a]\n",
    "    ports:\n",
    "      - ",
    "8080:80",
    "0-70000:1",
    "[::1]:80:80",
    "${A:-",
    "$",
    "}",
    "~/x:/y:ro",
    "/",
    "x-sinew: ",
    "egress: [a:1]",
    "health: {tcp: 1}",
    "depends_on: [web]",
    "null",
    "extends: web\n",
    "extends: {file: ab, service: web}\n",
    "include: [abc, {path: [ab, abcd]}]\n",
    "include:\n",
    "  - ab\n",
    "-1",
    "1e9",
    "\t",
    "---\n",
    "# ",
    "| \n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text(text in any::<String>(), dotenv in any::<String>()) {
        check(&[&text], &dotenv);
    }

    #[test]
    fn random_pieces(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        let text = pieces.concat();
        check(&[&text, &format!("services:\n  web:\n    command: [b]\n{text}")], &text);
    }

    #[test]
    fn mutated_files(
        file in prop::sample::select(corpus()),
        other in prop::sample::select(corpus()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8), 1..8),
    ) {
        let mut text: Vec<char> = file.chars().take(4_000).collect();
        for (place, piece, kind) in edits {
            if text.is_empty() {
                break;
            }
            let place = place.index(text.len());
            let piece: Vec<char> = PIECES[piece.index(PIECES.len())].chars().collect();
            match kind {
                0 => drop(text.splice(place..place, piece)),
                1 => drop(text.remove(place)),
                2 => text.truncate(place),
                _ => text[place] = piece[0],
            }
        }
        let text: String = text.into_iter().collect();
        check(&[&text, &other], &text);
        check(&[&other, &text], "");
    }
}

#[test]
fn a_name_that_a_hint_repeats_is_printable() {
    let text = "services:\n  web: {command: [a], depends_on: [cache]}\n  \"c\\u001bche\": {command: [a]}\n";
    let problems = check(&[text], "").application.unwrap_err().to_string();
    assert!(problems.contains("did you mean `c\u{fffd}che`?"), "{problems}");
}

#[test]
fn long_inputs_end_quickly_with_a_reason() {
    let many = |line: &dyn Fn(usize) -> String, count: usize| (0..count).map(line).collect::<String>();
    let keys = format!("services:\n{}", many(&|i| format!("  s{i}: {{command: [a]}}\n"), 20_000));
    let same = "services: {}\n".repeat(50_000);
    let unknown = format!("services:\n  a:\n{}", many(&|i| format!("    key{i}: 1\n"), 4_900));
    let chain = format!(
        "services:\n{}",
        many(&|i| format!("  s{i}: {{command: [a], depends_on: [s{}]}}\n", i + 1), 999)
    );
    let full = format!(
        "services:\n{}",
        many(
            &|i| {
                let all = many(&|j| format!("s{j},"), 60);
                format!("  s{i}: {{command: [a], depends_on: [{all}]}}\n")
            },
            60
        )
    );
    let merged =
        format!("x: &x {{{}}}\ny: [{}]\n", many(&|i| format!("k{i}: 1, "), 4_000), "{<<: *x}, ".repeat(40));
    let long = "a".repeat(2 * 1024 * 1024);
    let brackets = "[".repeat(100_000);
    let dollars = format!("services: {{a: {{command: [\"{}\"]}}}}", "${A:-".repeat(50_000));
    for text in [&keys, &same, &unknown, &chain, &full, &merged, &long, &brackets, &dollars] {
        let loaded = check(&[text], "");
        assert!(loaded.application.is_err());
    }
    // What refers to itself under ever longer names, and what is copied again and again.
    let deeper = "include: [a/bcd, ab/cde, abc/def]\nservices: {a: {command: [a]}}";
    assert!(check(&[deeper], deeper).application.is_err());
    let chain = many(&|i| format!("  s{i}: {{extends: {{file: /p/{i:03}, service: s}}}}\n"), 900);
    assert!(check(&[&format!("services:\n{chain}")], "services: {s: {command: [a]}}").application.is_err());
    let all = many(&|i| format!("k{i}: 1, "), 4_000);
    let copies = many(&|i| format!("  s{i}: {{extends: base}}\n"), 900);
    let base = format!("services:\n  base: {{command: [a], labels: {{{all}}}}}\n{copies}");
    assert!(check(&[&base], "").application.is_err());
    let environment = format!("A={}\n{}", "x".repeat(1000), many(&|_| "A=$A$A\n".to_owned(), 64));
    assert!(check(&["services: {a: {command: [a]}}"], &environment).application.is_err());
}

#[test]
fn a_thousand_services_are_fine() {
    let text: String = (0..1_000)
        .map(|i| format!("  s{i}: {{command: [a], depends_on: [s{}]}}\n", i / 2 + 1))
        .skip(3)
        .collect();
    let text =
        format!("services:\n  s0: {{command: [a]}}\n  s1: {{command: [a]}}\n  s2: {{command: [a]}}\n{text}");
    let loaded = check(&[&text], "");
    assert_eq!(loaded.application.unwrap().services.len(), 1_000);
}
