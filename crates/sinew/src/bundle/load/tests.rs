use std::collections::BTreeMap;

use sinew_spec::application::Application;
use sinew_spec::compose::lock::Lock;

use super::super::read;
use super::super::save::{self, Files, Images};
use super::*;
use crate::versions::store::tests::{Fake, digest};
use crate::versions::store::{Here, Store};

struct Bench {
    folder: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sinew-load-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("from")).expect("make a folder");
        Self { folder }
    }

    fn bundle(&self) -> Checked {
        let from = self.folder.join("from");
        fs::write(from.join("compose.yaml"), "services: {}\n").expect("write");
        let application = Application {
            name: "shop".into(),
            files: vec![from.join("compose.yaml")],
            folder: from.clone(),
            services: BTreeMap::new(),
            volumes: BTreeMap::new(),
            gateway: Default::default(),
        };
        let store = Fake::default();
        store.make("shop/web:1", 'a');
        let image = |references: &[&str], id| BundledImage {
            references: references.iter().map(|&reference| reference.to_owned()).collect(),
            platform: "linux/amd64".to_owned(),
            id: digest(id),
            digest: None,
        };
        let images = Images {
            images: vec![image(&["shop/web:1"], 'a'), image(&["r.example/x@sha256:00"], 'b')],
            lock: Lock::default(),
        };
        let files: Files = save::files(&application, false, &[]).expect("files");
        let path = self.folder.join("bundle");
        let compose = [from.join("compose.yaml")];
        let created = "2026-11-21T10:49:45Z".to_owned();
        let what =
            save::What { application: &application, compose: &compose, files: &files, images: &images };
        save::save(&path, &what, Some(&store), None, created).expect("saved");
        read::verify(&path, None).expect("whole")
    }

    fn names(&self) -> Vec<String> {
        let list = fs::read_dir(&self.folder).expect("list").flatten();
        let mut names: Vec<String> =
            list.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn everything_is_there_afterwards() {
    let bench = Bench::new("whole");
    let checked = bench.bundle();
    let store = Fake::default();
    let to = bench.folder.join("to");
    let loaded = load(&checked, &to, Some(&store)).expect("loaded");
    assert_eq!(loaded, Loaded { images_new: 2, images_there: 0 });
    assert_eq!(fs::read_to_string(to.join("compose.yaml")).expect("read"), "services: {}\n");
    assert!(to.join("sinew.lock").is_file());
    assert_eq!(store.find("shop/web:1").expect("asked").map(|here| here.id), Some(digest('a')));
    assert!(store.find("localhost/sinew-bundle:bbbbbbbbbbbb").expect("asked").is_some());
    assert_eq!(bench.names(), ["bundle", "from", "to"]);
    // A second time: into an empty folder, images are known.
    let again = bench.folder.join("again");
    fs::create_dir(&again).expect("make");
    let loaded = load(&checked, &again, Some(&store)).expect("loaded");
    assert_eq!(loaded, Loaded { images_new: 0, images_there: 2 });
    let error = load(&checked, &to, Some(&store)).expect_err("it is not empty").to_string();
    assert!(error.ends_with("exists and is not an empty folder"), "{error}");
}

/// An engine that fails at the second image.
struct Failing(Fake);

impl Store for Failing {
    fn find(&self, reference: &str) -> Result<Option<Here>, String> {
        self.0.find(reference)
    }

    fn pull(&self, _: &str, _: Option<&str>) -> Result<(), String> {
        Err("there is no network".to_owned())
    }

    fn tag(&self, id: &Digest, reference: &str) -> Result<(), String> {
        self.0.tag(id, reference)
    }

    fn remove(&self, reference: &str) -> Result<(), String> {
        self.0.remove(reference)
    }

    fn save(&self, id: &Digest) -> Result<Box<dyn io::Read>, String> {
        self.0.save(id)
    }

    fn load(&self, archive: &mut dyn io::Read) -> Result<(), String> {
        if !self.0.here.borrow().is_empty() {
            return Err("no space left".to_owned());
        }
        self.0.load(archive)
    }
}

#[test]
fn nothing_is_left_of_half_a_load() {
    let bench = Bench::new("half");
    let checked = bench.bundle();
    let store = Failing(Fake::default());
    let error = load(&checked, &bench.folder.join("to"), Some(&store)).expect_err("it fails").to_string();
    assert_eq!(error, "no space left");
    assert!(store.0.here.borrow().is_empty(), "the first image went again");
    assert_eq!(bench.names(), ["bundle", "from"]);
}
