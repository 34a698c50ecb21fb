use super::*;

#[track_caller]
fn check(user: Option<&str>, launcher: u32, expect: Result<(u32, u32), &str>) {
    let found = resolve(user, (Uid::from_raw(launcher), Gid::from_raw(launcher)));
    match (found, expect) {
        (Ok(found), Ok(expect)) => assert_eq!((found.uid, found.gid), expect),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (found, expect) => panic!("{found:?}, not {expect:?}"),
    }
}

#[test]
fn root_may_ask_for_anybody() {
    check(None, 0, Ok((0, 0)));
    check(Some(""), 0, Ok((0, 0)));
    check(Some("root"), 0, Ok((0, 0)));
    check(Some("65534"), 0, Ok((65534, 65534)));
    check(Some("54321"), 0, Ok((54321, 0)));
    check(Some("54321:77"), 0, Ok((54321, 77)));
    check(Some("54321:root"), 0, Ok((54321, 0)));
    check(Some("no-such-user"), 0, Err("no-such-user"));
    check(Some("0:no-such-group"), 0, Err("no-such-group"));
}

#[test]
fn others_may_ask_for_themselves() {
    check(None, 4242, Ok((4242, 4242)));
    check(Some("4242"), 4242, Ok((4242, 4242)));
    check(Some("4242:4242"), 4242, Ok((4242, 4242)));
    check(Some("4242:5"), 4242, Err("run sinew as root"));
    check(Some("root"), 4242, Err("remove `user:`"));
}
