use super::*;

/// What the store of version 0 knows by heart.
const SECRET: &str = "plain-value-of-version-0";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sinew-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// As the first version of this program left it (`fixtures/version-0`, written by its binary).
    fn version_0(name: &str) -> Self {
        let folder = Self::new(name);
        fs::write(folder.0.join("store.redb"), include_bytes!("fixtures/version-0/store.redb")).unwrap();
        fs::create_dir(folder.0.join("volumes")).unwrap();
        fs::write(folder.0.join("volumes/data"), "precious").unwrap();
        folder
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = files_in(&self.0)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn holds(&self, text: &str) -> bool {
        let bytes = fs::read(self.0.join("store.redb")).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[track_caller]
    fn check_is_new(&self) {
        assert_eq!(self.names(), ["store.redb", "version.json", "volumes"]);
        assert!(!self.holds(SECRET), "the value is still in the file");
        assert_eq!(read_stamp(&self.0).unwrap(), Some(Stamp::own(VERSION)));
        assert_eq!(fs::read_to_string(self.0.join("volumes/data")).unwrap(), "precious");
        let store = sinew_control::Store::open(&self.0.join("store.redb")).unwrap();
        let (records, _) = store.list("service-address").unwrap();
        let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["api", "db"]);
        assert_eq!(store.list("host-address").unwrap().0[0].name, "plc.example");
        assert!(store.list("application").unwrap().0.is_empty());
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn version_0_becomes_the_present_one() {
    let folder = Folder::version_0("zero");
    assert!(folder.holds(SECRET), "the fixture is what it should be");
    assert_eq!(bring_up_to_date(&folder.0).unwrap(), Some(0));
    folder.check_is_new();
    assert_eq!(bring_up_to_date(&folder.0).unwrap(), None);
    folder.check_is_new();
}

#[test]
fn an_empty_folder_is_of_the_present_version() {
    let folder = Folder::new("empty");
    assert_eq!(bring_up_to_date(&folder.0).unwrap(), None);
    assert_eq!(folder.names(), ["version.json"]);
}

/// Everything that can be on the disk when the power goes, made by doing exactly that much.
#[test]
fn a_cut_at_any_point_leaves_the_old_or_the_new_state() {
    // While the step writes: half a file, no mark.
    let folder = Folder::version_0("cut-step");
    fs::create_dir(folder.0.join(NEXT)).unwrap();
    fs::write(folder.0.join(NEXT).join("store.redb"), b"half of a st").unwrap();
    assert!(folder.holds(SECRET), "the old one is in its place");
    bring_up_to_date(&folder.0).unwrap();
    folder.check_is_new();

    // While the mark is written: the file is there, empty.
    let folder = Folder::version_0("cut-mark");
    prepare(&folder.0, 0, STEPS[0]).unwrap();
    fs::write(folder.0.join(NEXT).join(COMPLETE), "").unwrap();
    assert!(folder.holds(SECRET));
    bring_up_to_date(&folder.0).unwrap();
    folder.check_is_new();

    // After the mark, before anything is moved.
    let folder = Folder::version_0("cut-marked");
    prepare(&folder.0, 0, STEPS[0]).unwrap();
    bring_up_to_date(&folder.0).unwrap();
    folder.check_is_new();

    // After the files are in place, before the stamp.
    let folder = Folder::version_0("cut-moved");
    prepare(&folder.0, 0, STEPS[0]).unwrap();
    fs::rename(folder.0.join(NEXT).join("store.redb"), folder.0.join("store.redb")).unwrap();
    bring_up_to_date(&folder.0).unwrap();
    folder.check_is_new();

    // After the stamp, before the mark is gone; and after it is gone.
    let folder = Folder::version_0("cut-stamped");
    bring_up_to_date(&folder.0).unwrap();
    fs::create_dir(folder.0.join(NEXT)).unwrap();
    fs::write(folder.0.join(NEXT).join(COMPLETE), VERSION.to_string()).unwrap();
    bring_up_to_date(&folder.0).unwrap();
    folder.check_is_new();
    fs::create_dir(folder.0.join(NEXT)).unwrap();
    bring_up_to_date(&folder.0).unwrap();
    folder.check_is_new();
}

#[test]
fn a_step_that_fails_changes_nothing() {
    let folder = Folder::new("failing");
    fs::write(folder.0.join("store.redb"), "this is no store").unwrap();
    let error = bring_up_to_date(&folder.0).unwrap_err();
    assert!(matches!(error, StateError::Step { from: 0, to: 1, .. }), "{error}");
    assert_eq!(folder.names(), ["store.redb"]);
    assert_eq!(fs::read_to_string(folder.0.join("store.redb")).unwrap(), "this is no store");
}

#[test]
fn steps_are_done_in_order_and_each_once() {
    fn first(old: &Path, new: &Path) -> Result<(), String> {
        let text = fs::read_to_string(old.join("store.redb")).map_err(|error| error.to_string())?;
        fs::write(new.join("store.redb"), text + "a").map_err(|error| error.to_string())
    }
    fn second(old: &Path, new: &Path) -> Result<(), String> {
        let text = fs::read_to_string(old.join("store.redb")).map_err(|error| error.to_string())?;
        fs::write(new.join("store.redb"), text + "b").map_err(|error| error.to_string())
    }
    let folder = Folder::new("order");
    let store = folder.0.join("store.redb");
    fs::write(&store, "").unwrap();
    assert_eq!(bring_up_to(&folder.0, &[first]).unwrap(), Some(0));
    assert_eq!(bring_up_to(&folder.0, &[first, second]).unwrap(), Some(1));
    assert_eq!(bring_up_to(&folder.0, &[first, second]).unwrap(), None);
    assert_eq!(fs::read_to_string(&store).unwrap(), "ab");
}

#[test]
fn a_later_version_is_refused_and_left_alone() {
    let folder = Folder::version_0("later");
    let stamp = r#"{"version":9,"program":"7.1.0","more":true}"#;
    fs::write(folder.0.join(VERSION_FILE), stamp).unwrap();
    let error = bring_up_to_date(&folder.0).unwrap_err();
    assert!(matches!(&error, StateError::Newer { found: 9, program, .. } if program == "7.1.0"), "{error}");
    assert!(error.is_refusal() && error.hint().is_some());
    assert_eq!(fs::read_to_string(folder.0.join(VERSION_FILE)).unwrap(), stamp);
    assert!(folder.holds(SECRET));
}

#[test]
fn a_stamp_that_cannot_be_read_is_not_guessed() {
    for text in ["", "{", "{\"version\":-1,\"program\":\"\"}", "[1]"] {
        let folder = Folder::version_0("damaged");
        fs::write(folder.0.join(VERSION_FILE), text).unwrap();
        let error = bring_up_to_date(&folder.0).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{text:?}: {error}");
        assert!(folder.holds(SECRET), "{text:?}");
    }
}
