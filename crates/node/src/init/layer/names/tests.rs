use super::*;

fn names(hidden: &[&str], kept: &[&str]) -> Names {
    let mut names = Names::default();
    hidden.iter().for_each(|path| names.hide(Path::new(path)));
    kept.iter().for_each(|path| names.keep(Path::new(path)));
    names
}

fn role<'a>(mut names: &'a Names, path: &str) -> Role<'a> {
    let parts: Vec<&str> = path.split('/').collect();
    let (last, above) = parts.split_last().expect("a path");
    for part in above {
        match names.role(OsStr::new(part)) {
            Role::Way(below) => names = below,
            other => panic!("{part} of {path} is {other:?}"),
        }
    }
    names.role(OsStr::new(last))
}

#[test]
fn a_hidden_path_is_hidden_with_all_below_it_and_nothing_beside_it() {
    let names = names(&["s.txt", "conf/key", "conf/deep/er", "conf/deep", "s.txt/no"], &[]);
    assert_eq!(role(&names, "s.txt"), Role::Hidden);
    assert_eq!(role(&names, "conf/key"), Role::Hidden);
    assert_eq!(role(&names, "conf/deep"), Role::Hidden, "the outer one counts");
    for plain in ["app.py", "conf/app.py", "s.tx", "conf/s.txt"] {
        assert_eq!(role(&names, plain), Role::Plain, "{plain}");
    }
}

#[test]
fn what_lies_on_a_plain_entry_keeps_the_entry() {
    let names = names(&["conf/key", "s.txt"], &["data/deep/er", "conf/settings", "s.txt"]);
    assert_eq!(role(&names, "data"), Role::Kept);
    assert_eq!(role(&names, "conf/settings"), Role::Kept);
    assert_eq!(role(&names, "conf/key"), Role::Hidden);
    assert_eq!(role(&names, "s.txt"), Role::Kept, "its own mount lies there");
}

#[test]
fn drafts_of_editors_are_hidden_with_their_original() {
    let names = names(&["s.txt", ".env"], &[]);
    for draft in ["s.txt~", ".s.txt~", ".s.txt.swp", ".s.txt.swo", "#s.txt#", ".#s.txt", ".env~", "..env.swp"]
    {
        assert_eq!(role(&names, draft), Role::Hidden, "{draft}");
    }
    for other in
        ["t.txt~", ".t.txt.swp", "#t.txt#", ".env.local", "s.txt.py", ".sw", "~", "#", "##", ".#", ""]
    {
        assert_eq!(role(&names, other), Role::Plain, "{other}");
    }
}

#[test]
fn names_travel_also_when_they_are_no_text() {
    let mut names = names(&["conf/key"], &["x"]);
    names.hide(Path::new(OsStr::from_bytes(b"\xff\n/\xfe")));
    let text = serde_json::to_vec(&names).expect("written");
    assert_eq!(serde_json::from_slice::<Names>(&text).expect("read"), names);
}
