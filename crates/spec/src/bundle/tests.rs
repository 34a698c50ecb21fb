use super::*;

#[track_caller]
fn check(path: &str, expected: Result<(), MemberPathError>) {
    assert_eq!(MemberPath::parse(path).map(drop), expected, "{path}");
}

#[test]
fn a_path_stays_below_its_folder() {
    for good in ["files/compose.yaml", "files/a/b/c", "files/..a/b..", "images/x.tar"] {
        check(good, Ok(()));
    }
    check("", Err(MemberPathError::Empty));
    check("/etc/passwd", Err(MemberPathError::Absolute));
    for bad in ["..", "files/../../x", "files/./x", "files//x", "files/", "./files/x"] {
        check(bad, Err(MemberPathError::NotNormal));
    }
    check("files/a\nb", Err(MemberPathError::Control));
    check("files/a\0b", Err(MemberPathError::Control));
}

#[test]
fn a_path_is_as_long_as_a_header_can_say() {
    let (long, longer) = ("x".repeat(100), "x".repeat(101));
    check(&long, Ok(()));
    check(&longer, Err(MemberPathError::Long));
    check(&format!("{}/{long}", "p".repeat(155)), Ok(()));
    check(&format!("{}/{long}", "p".repeat(156)), Err(MemberPathError::Long));
    let path = MemberPath::parse(&format!("a/{}/{long}", "p".repeat(150))).expect("it fits");
    assert_eq!(path.split_for_header(), Some((format!("a/{}", "p".repeat(150)).as_str(), long.as_str())));
}
