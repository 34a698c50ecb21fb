use super::*;

/// A folder of its own with some empty files, gone when dropped.
struct Tree(PathBuf);

impl Tree {
    fn new(files: &[&str]) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("sinew-project-{}-{number}", std::process::id()));
        for file in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().expect("inside the root")).expect("made");
            fs::write(file, "services: {}\n").expect("written");
        }
        Self(root)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `expected`: folder, then files, relative to the tree; or a part of the error.
fn check(tree: &Tree, current: &str, wanted: &Wanted<'_>, expected: Result<(&str, &[&str]), &str>) {
    let found = find(wanted, &tree.0.join(current));
    match expected {
        Ok((folder, files)) => {
            let files = files.iter().map(|file| tree.0.join(file)).collect();
            let folder = normal(&tree.0.join(folder));
            assert_eq!(found, Ok(Project { files, folder }), "{wanted:?}");
        }
        Err(part) => {
            let failure = found.expect_err("nothing to be found");
            let text = format!("{} {}", failure.message, failure.hint.unwrap_or_default());
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn looks_here_and_above_and_takes_the_override() {
    let tree = Tree::new(&[
        "a/compose.yaml",
        "a/compose.yml",
        "a/compose.override.yml",
        "a/b/c/x",
        "d/docker-compose.yml",
    ]);
    let nothing = Wanted::default();
    check(&tree, "a", &nothing, Ok(("a", &["a/compose.yaml", "a/compose.override.yml"])));
    check(&tree, "a/b/c", &nothing, Ok(("a", &["a/compose.yaml", "a/compose.override.yml"])));
    let folder = Wanted { folder: Some(Path::new("d")), ..Wanted::default() };
    check(&tree, "", &folder, Ok(("d", &["d/docker-compose.yml"])));
    let folder = Wanted { folder: Some(Path::new("e")), ..Wanted::default() };
    check(&tree, "", &folder, Err("there is no such folder"));
}

#[test]
fn a_place_is_a_file_or_a_folder() {
    let tree = Tree::new(&["a/compose.yaml", "a/compose.override.yml", "a/b/x", "a/prod.yaml"]);
    let place = |place| Wanted { place: Some(Path::new(place)), ..Wanted::default() };
    check(&tree, "", &place("a"), Ok(("a", &["a/compose.yaml", "a/compose.override.yml"])));
    check(&tree, "", &place("a/./b/../compose.yaml"), Ok(("a", &["a/compose.yaml"])));
    check(&tree, "", &place("a/b"), Err("no compose file in"));
    check(&tree, "a", &place("prd.yaml"), Err("did you mean `prod.yaml`?"));
    check(&tree, "a", &place("nosuch.yaml"), Err("there is: compose.override.yml, compose.yaml, prod.yaml"));
    check(&tree, "a/b", &place("nosuch.yaml"), Err("`-f FILE` names one"));
    check(&tree, "a", &place("orders"), Err("services are not named here"));
}

#[test]
fn several_files_are_merged_in_order() {
    let tree = Tree::new(&["a/compose.yaml", "a/prod.yaml", "b/x"]);
    let files = vec![PathBuf::from("a/compose.yaml"), PathBuf::from("a/prod.yaml")];
    let wanted = Wanted { files: files.clone(), ..Wanted::default() };
    check(&tree, "", &wanted, Ok(("a", &["a/compose.yaml", "a/prod.yaml"])));
    let elsewhere = Wanted { folder: Some(Path::new("b")), ..wanted.clone() };
    check(&tree, "", &elsewhere, Ok(("b", &["a/compose.yaml", "a/prod.yaml"])));
    let both = Wanted { place: Some(Path::new("a")), ..wanted };
    check(&tree, "", &both, Err("use one of the two"));
    let variable =
        Wanted { from_environment: Some("a/compose.yaml:a/prod.yaml".to_owned()), ..Wanted::default() };
    check(&tree, "", &variable, Ok(("a", &["a/compose.yaml", "a/prod.yaml"])));
}
