use sinew_spec::application::{FileGrant, Mount, Service};

use super::*;

struct Project {
    folder: PathBuf,
    application: Application,
}

impl Project {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sinew-save-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for file in ["compose.yaml", ".env", "config/app.toml", "config/deep/more.toml", "key.txt", "data/db"]
        {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
            fs::write(path, file).expect("write");
        }
        let application = Application {
            name: "shop".into(),
            files: vec![folder.join("compose.yaml"), folder.join(".env")],
            folder: folder.clone(),
            services: BTreeMap::new(),
            volumes: BTreeMap::new(),
            gateway: Default::default(),
        };
        Self { folder, application }
    }

    fn service(&mut self, change: impl FnOnce(&Path, &mut Service)) {
        let mut service = Service::new("web", vec!["serve".to_owned()]);
        change(&self.folder, &mut service);
        self.application.services.insert("web".into(), service);
    }

    #[track_caller]
    fn check(&self, with_secrets: bool, included: &[&str], files: &[&str], left_out: &[&str]) {
        let included: Vec<PathBuf> = included.iter().map(|path| self.folder.join(path)).collect();
        let found = super::files(&self.application, with_secrets, &included).expect("it can be saved");
        assert_eq!(found.files.keys().map(String::as_str).collect::<Vec<_>>(), files);
        assert_eq!(found.left_out.iter().map(String::as_str).collect::<Vec<_>>(), left_out);
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn bind(path: PathBuf, read_only: bool) -> Mount {
    Mount::new(MountSource::Bind { path, create: false }, "/x", read_only)
}

#[test]
fn what_the_application_reads_is_in_it_and_secrets_are_not() {
    let mut project = Project::new("reads");
    project.service(|folder, service| {
        let grant = |name: &str, content, secret| FileGrant {
            name: name.to_owned(),
            content,
            target: "/x".into(),
            mode: 0o444,
            uid: None,
            gid: None,
            secret,
        };
        service.files = vec![
            grant("app", FileContent::File(folder.join("config/app.toml")), false),
            grant("key", FileContent::File(folder.join("key.txt")), true),
            grant("token", FileContent::Environment("TOKEN".to_owned()), true),
        ];
        service.mounts = vec![
            bind(folder.join("config"), true),
            bind(folder.join("data"), false),
            bind("/etc/ssl".into(), true),
        ];
    });
    let files = [".env", "compose.yaml", "config/app.toml", "config/deep/more.toml"];
    project.check(false, &[], &files, &["$TOKEN", "/etc/ssl", "data", "key.txt"]);
    let with_key = [&files[..], &["key.txt"]].concat();
    project.check(true, &[], &with_key, &["$TOKEN", "/etc/ssl", "data"]);
    let with_data = [&files[..], &["data/db"]].concat();
    project.check(false, &["data"], &with_data, &["$TOKEN", "/etc/ssl", "data", "key.txt"]);
}

#[test]
fn what_was_built_is_not_built_again() {
    let mut project = Project::new("built");
    assert_eq!(without_builds(&project.application), None);
    project.service(|_, service| {
        let build = Some(sinew_spec::application::ImageBuild::default());
        let image = "localhost/shop-web:latest".to_owned();
        service.container = Some(sinew_spec::application::Container { image, build, ..Default::default() });
    });
    let text = without_builds(&project.application).expect("something is built");
    assert_eq!(
        text.split_once("services:").expect("services").1,
        "\n  web:\n    image: \"localhost/shop-web:latest\"\n    build: !reset null\n    pull_policy: never\n"
    );
}

#[test]
fn what_lies_elsewhere_is_refused() {
    let mut project = Project::new("elsewhere");
    project.application.files.push("/etc/hostname".into());
    let error = files(&project.application, false, &[]).expect_err("outside").to_string();
    assert!(error.starts_with("/etc/hostname lies outside of the project folder"), "{error}");
    project.application.files.pop();
    let missing = project.folder.join("none");
    let error = files(&project.application, false, &[missing]).expect_err("missing").to_string();
    assert!(error.contains("none: No such file"), "{error}");
    std::os::unix::fs::symlink("/etc", project.folder.join("config/link")).expect("link");
    let config = project.folder.join("config");
    let error = files(&project.application, false, &[config]).expect_err("a link").to_string();
    assert!(error.ends_with("it is a link to a folder; a bundle holds files"), "{error}");
}
