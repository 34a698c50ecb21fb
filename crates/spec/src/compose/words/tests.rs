use super::{shell_operator, split};

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(split(text).unwrap(), expected);
}

#[test]
fn splits_like_a_shell() {
    check("", &[]);
    check("  python3  -m http.server\n", &["python3", "-m", "http.server"]);
    check(r#"a 'b c' "d e" f\ g"#, &["a", "b c", "d e", "f g"]);
    check(r#"--x="1 2"'3'4"#, &["--x=1 234"]);
    check(r#"'' """#, &["", ""]);
    check(r#""a\"b\\c\d""#, &[r#"a"b\c\d"#]);
    check("a \\\n b", &["a", "b"]);
}

#[test]
fn what_is_open_is_an_error() {
    assert!(split("a 'b").is_err());
    assert!(split("a \"b\\").is_err());
    assert!(split("a \\").is_err());
}

#[test]
fn finds_what_needs_a_shell() {
    assert_eq!(shell_operator(&split("a && b").unwrap()), Some("&&"));
    assert_eq!(shell_operator(&split("a b").unwrap()), None);
}
