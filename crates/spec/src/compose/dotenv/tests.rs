use std::collections::BTreeMap;
use std::path::Path;

use super::{Format, parse};
use crate::compose::source::Findings;

fn read(text: &str, format: Format) -> (Vec<(String, String)>, Vec<String>) {
    let outer = BTreeMap::from([("HOME".to_owned(), "/home/u".to_owned())]);
    let mut findings = Findings::default();
    let source = findings.add_source(Path::new("/p/.env"), text, false);
    let pairs = parse(source, format, &outer, &mut findings);
    let (problems, _) = findings.finish();
    let problems = problems.iter().map(|problem| format!("{}:{}", problem.line, problem.what)).collect();
    (pairs, problems)
}

#[track_caller]
fn check(text: &str, expected: &[(&str, &str)]) {
    let (pairs, problems) = read(text, Format::Compose);
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((pairs.as_slice(), problems.as_slice()), (expected, [].as_slice()));
}

#[track_caller]
fn check_fails(text: &str, expected: &[&str]) {
    assert_eq!(read(text, Format::Compose).1, expected);
}

#[test]
fn lines_comments_and_quotes() {
    check(
        "# a\n\nA=1\nexport B = two words \r\nC=a#b # c\nD=\n",
        &[("A", "1"), ("B", "two words"), ("C", "a#b"), ("D", "")],
    );
    check(
        "A='it $HOME' # c\nB=\"x\\ty\\\"\\$HOME\"\nC= \"q\"",
        &[("A", "it $HOME"), ("B", "x\ty\"$HOME"), ("C", "q")],
    );
    check("A=\"one\ntwo\"\nB=3", &[("A", "one\ntwo"), ("B", "3")]);
    check("\u{feff}A=1", &[("A", "1")]);
    check("A= # nothing\nHOME\nGONE\n", &[("A", ""), ("HOME", "/home/u")]);
}

#[test]
fn variables_mean_outside_then_earlier_lines() {
    check("A=1\nB=$A-${HOME}\nC=${X:-d}", &[("A", "1"), ("B", "1-/home/u"), ("C", "d")]);
}

#[test]
fn raw_takes_everything() {
    let (pairs, _) = read("A='$x' # c\n", Format::Raw);
    assert_eq!(pairs, [("A".to_owned(), "'$x' # c".to_owned())]);
}

#[test]
fn problems_name_the_line_and_never_the_value() {
    check_fails("A=1\n=2", &["2:a variable has no name before the `=`"]);
    check_fails("A=\"x\nB=1", &["1:a double quote is not closed"]);
    check_fails("A='x' y", &["1:text follows the closing quote"]);
    check_fails("A B=1", &["1:the name of a variable contains a space: `A B`"]);
    check_fails("A=${X", &["1:`${X` is not closed by `}`"]);
}
