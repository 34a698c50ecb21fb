use std::path::Path;

use super::*;

fn digest(digit: char) -> Digest {
    Digest::from_hex(&digit.to_string().repeat(64)).expect("hexadecimal")
}

fn sample() -> Lock {
    let mut lock = Lock::default();
    let key = |reference: &str, platform: &str| LockKey {
        reference: reference.to_owned(),
        platform: platform.to_owned(),
    };
    let resolved = "2026-11-21T10:49:45Z".to_owned();
    let pulled = Locked { id: digest('a'), digest: Some(digest('b')), resolved: resolved.clone() };
    let built = Locked { id: digest('c'), digest: None, resolved };
    lock.insert(key("redis:7", "linux/arm64"), pulled.clone());
    lock.insert(key("redis:7", "linux/amd64"), pulled);
    lock.insert(key("web", "linux/amd64"), built);
    lock
}

#[test]
fn the_text_is_sorted_and_read_back() {
    let text = sample().render();
    let expected = format!(
        "{HEAD}version: 1\nimages:\n  \
         - reference: redis:7\n    platform: linux/amd64\n    digest: sha256:{b}\n    id: sha256:{a}\n    \
         resolved: 2026-11-21T10:49:45Z\n  \
         - reference: redis:7\n    platform: linux/arm64\n    digest: sha256:{b}\n    id: sha256:{a}\n    \
         resolved: 2026-11-21T10:49:45Z\n  \
         - reference: \"web\"\n    platform: linux/amd64\n    id: sha256:{c}\n    \
         resolved: 2026-11-21T10:49:45Z\n",
        a = "a".repeat(64),
        b = "b".repeat(64),
        c = "c".repeat(64),
    );
    assert_eq!(text, expected);
    assert_eq!(read(Path::new("/app/sinew.lock"), &text), Ok(sample()));
    let empty = Lock::default();
    assert_eq!(read(Path::new("/app/sinew.lock"), &empty.render()), Ok(empty));
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let problems = read(Path::new("/app/sinew.lock"), text).expect_err("something is wrong");
    let found: Vec<String> = problems
        .iter()
        .map(|problem| {
            let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}:{} {}{hint}", problem.line, problem.column, problem.what)
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    check("", &["1:1 the file has 0 documents; it must be one"]);
    check("[]", &["1:1 a mapping with version, images is expected, found a list"]);
    check("images: []", &["1:1 `version` is missing"]);
    check(
        "version: 2\nimages: []",
        &[
            "1:10 the file is of version 2; this Sinew knows version 1 (a newer Sinew wrote it: use that one here too)",
        ],
    );
    check("version: one\nimages: []", &["1:10 `one` is no version; write `1`"]);
    check("version: 1\nimages: {a: b}", &["2:9 a list of images is expected, found a mapping"]);
    let id = "a".repeat(64);
    check(
        &format!(
            "version: 1\nimages:\n  - reference: redis:7\n    platfrom: linux/amd64\n    id: sha256:{}\n    resolved: now\n",
            &id[1..]
        ),
        &[
            "3:5 `platform` is missing",
            "4:5 `platfrom` is no key of this file (did you mean `platform`?)",
            "5:9 `sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…`: \
             it is not `sha256:` and 64 hexadecimal digits in lower case",
            "6:15 `now`: a time is written `2026-11-21T10:49:45Z`",
        ],
    );
    let entry = format!(
        "  - reference: redis:7\n    platform: linux/amd64\n    id: sha256:{id}\n    resolved: 2026-11-21T10:49:45Z\n"
    );
    check(
        &format!("version: 1\nimages:\n{entry}{entry}"),
        &["7:5 `redis:7` for linux/amd64 is there twice: see line 3 \
             (two changes were merged; keep one of the two entries, or delete the file)"],
    );
}

#[test]
fn marks_of_a_merge_conflict_are_told() {
    let text = sample().render().replace("version: 1\n", "<<<<<<< ours\nversion: 1\n=======\n");
    let problems = read(Path::new("/app/sinew.lock"), &text).expect_err("no YAML any more");
    assert!(!problems.is_empty());
}

#[test]
fn no_bytes_make_it_panic() {
    let text = sample().render();
    for cut in 0..text.len() {
        let _ = read(Path::new("/l"), &text[..cut]);
    }
    let config = proptest::prelude::ProptestConfig::with_cases(300);
    proptest::proptest!(config, |(text in "\\PC{0,200}")| {
        let _ = read(Path::new("/l"), &text);
    });
}
