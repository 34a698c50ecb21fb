use super::{Failure, interpolate};

fn variables(name: &str) -> Option<&'static str> {
    match name {
        "HOST" => Some("db"),
        "EMPTY" => Some(""),
        "A_1" => Some("one"),
        _ => None,
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let result = interpolate(text, &variables).unwrap();
    assert_eq!(result.map_or_else(|| text.to_owned(), |result| result.text), expected);
}

#[track_caller]
fn check_unset(text: &str, expected: &[(&str, usize)]) {
    let result = interpolate(text, &variables).unwrap().unwrap();
    let unset: Vec<_> = result.unset.iter().map(|(name, offset)| (name.as_str(), *offset)).collect();
    assert_eq!(unset, expected);
}

#[track_caller]
fn check_fails(text: &str, offset: usize, what: &str) {
    let Failure { offset: found, what: found_what, .. } = interpolate(text, &variables).unwrap_err();
    assert_eq!((found, found_what.as_str()), (offset, what));
}

#[test]
fn replaces_variables() {
    check("plain", "plain");
    check("$HOST:${HOST}", "db:db");
    check("$A_1-", "one-");
    check("$HOST.example", "db.example");
}

#[test]
fn a_doubled_dollar_is_one() {
    check("$$HOST $$", "$HOST $");
    check("${NONE:-$$x}", "$x");
}

#[test]
fn defaults_differ_on_empty() {
    check("${EMPTY:-x}", "x");
    check("${EMPTY-x}", "");
    check("${NONE:-x}${NONE-y}${NONE:-}", "xy");
    check("${HOST:-x}", "db");
}

#[test]
fn replacements_differ_on_empty() {
    check("${EMPTY:+x}|${EMPTY+x}|${NONE+x}|${HOST:+x}", "|x||x");
}

#[test]
fn words_nest() {
    check("${NONE:-${ALSO_NONE:-$HOST}}!", "db!");
    check("${HOST:+a${HOST}b}", "adbb");
    check("${NONE:-a}b}", "ab}");
}

#[test]
fn an_unused_word_asks_for_nothing() {
    check("${HOST:-${NONE:?missing}}", "db");
    check_unset("${HOST:-$NONE}$GONE", &[("GONE", 14)]);
}

#[test]
fn unset_variables_are_named_with_their_place() {
    check_unset("ä$NONE ${GONE}", &[("NONE", 1), ("GONE", 7)]);
}

#[test]
fn errors_name_the_place() {
    check_fails("x${NONE:?say it}", 1, "the variable `NONE` is not set: say it");
    check_fails("${EMPTY:?}", 0, "the variable `EMPTY` is empty");
    check_fails("${NONE?$HOST}", 0, "the variable `NONE` is not set: db");
    check("${EMPTY?x}", "");
}

#[test]
fn malformed_references_are_errors() {
    check_fails("cost: 5$", 7, "`$` is not followed by the name of a variable");
    check_fails("$5", 0, "`$` is not followed by the name of a variable");
    check_fails("${", 0, "`${` is not followed by the name of a variable");
    check_fails("${}", 0, "`${}` names no variable");
    check_fails("${HOST", 0, "`${HOST` is not closed by `}`");
    check_fails("${HOST:-x", 0, "`${HOST-` is not closed by `}`");
    check_fails("${HOST!}", 0, "`${HOST` is followed by something that is no operator");
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = format!("{}x{}", "${N:-".repeat(40), "}".repeat(40));
    assert!(interpolate(&deep, &variables).unwrap_err().what.contains("deeper than"));
    let long = "$HOST".repeat(200_000);
    assert!(interpolate(&long, &variables).unwrap_err().what.contains("bytes"));
}
