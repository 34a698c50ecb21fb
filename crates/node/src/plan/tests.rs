use std::net::Ipv4Addr;

use sinew_spec::application::Mount;
use sinew_spec::name::{ApplicationName, ServiceName};

use super::*;
use crate::folders::Bases;

/// A project in a folder of the test's own, with two services: `orders`, which is planned, and `stock`.
struct Project {
    base: PathBuf,
    application: Application,
    environment: BTreeMap<String, String>,
}

impl Project {
    fn new(name: &str) -> Self {
        let base = std::env::temp_dir().join(format!("sinew-plan-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let folder = base.join("project");
        fs::create_dir_all(&folder).expect("make the project");
        let service = |name: &str| {
            let mut service = Service::new(name, vec!["sleep".into(), "1".into()]);
            service.working_dir = folder.clone();
            (ServiceName::from(name), service)
        };
        let application = Application {
            name: ApplicationName::from("shop"),
            files: vec![folder.join("compose.yaml"), folder.join(".env")],
            services: BTreeMap::from([service("orders"), service("stock")]),
            volumes: BTreeMap::from([("data".to_owned(), "shop_data".to_owned())]),
            gateway: Default::default(),
            folder,
        };
        Self { base, application, environment: BTreeMap::new() }
    }

    fn service(&mut self, name: &str) -> &mut Service {
        self.application.services.get_mut(name).expect("one of the two")
    }

    fn folders(&self) -> Folders {
        let bases = Bases { run: self.base.join("r"), state: self.base.join("s") };
        Folders::new(&bases, &self.application.name)
    }

    fn plan(&self) -> Result<Plan, PlanError> {
        let host = Host {
            uid: Uid::effective(),
            gid: Gid::effective(),
            path: "/usr/bin:/bin".to_owned(),
            home: None,
            inherited: BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]),
        };
        let names = Names {
            services: BTreeMap::from([
                ("orders".into(), Ipv4Addr::new(198, 18, 0, 2)),
                ("stock".into(), Ipv4Addr::new(198, 18, 0, 3)),
            ]),
            hosts: BTreeMap::from([("plc.example".to_owned(), Ipv4Addr::new(198, 18, 0, 4))]),
        };
        plan(&Request {
            application: &self.application,
            service: &self.application.services["orders"],
            instance: &InstanceName::from("orders-1"),
            folders: &self.folders(),
            host: &host,
            environment: &self.environment,
            names: &names,
            lifeline: true,
            cgroups: Vec::new(),
        })
    }

    fn in_project(&self, path: &str) -> PathBuf {
        self.application.folder.join(path)
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.base);
    }
}

fn grant(name: &str, content: FileContent) -> FileGrant {
    let target = PathBuf::from(format!("/run/secrets/{name}"));
    FileGrant { name: name.to_owned(), content, target, mode: 0o444, uid: None, gid: None, secret: true }
}

fn bind(path: PathBuf, create: bool) -> Mount {
    Mount::new(MountSource::Bind { path, create }, "/data", false)
}

#[test]
fn the_environment_is_what_the_file_says_and_five_more() {
    let mut project = Project::new("environment");
    project.service("orders").environment.insert("LANG".to_owned(), "de".to_owned());
    let environment = project.plan().expect("planned").command.environment;
    let found: Vec<(&str, &str)> = environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expect = [("HOME", "/tmp"), ("HOSTNAME", "orders-1"), ("LANG", "de"), ("PATH", "/usr/bin:/bin")];
    assert_eq!(found, expect);
}

#[test]
fn names_resolve_to_what_the_control_plane_says() {
    let hosts = Project::new("hosts").plan().expect("planned").seal.hosts;
    let expect = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n198.19.255.253\torders-1\n\
                  198.18.0.2\torders\n198.18.0.3\tstock\n198.18.0.4\tplc.example\n";
    assert_eq!(hosts, expect);
}

#[test]
fn what_belongs_to_others_is_masked() {
    let mut project = Project::new("masked");
    let (secret, data, both) =
        (project.in_project("stock.key"), project.in_project("stock-data"), project.in_project("both"));
    project.service("stock").files.push(grant("key", FileContent::File(secret.clone())));
    project.service("stock").mounts.extend([bind(data.clone(), true), bind(both.clone(), true)]);
    project.service("orders").mounts.push(bind(both.clone(), true));
    let masked = project.plan().expect("planned").seal.masked;
    for path in [&project.in_project("compose.yaml"), &project.in_project(".env"), &secret, &data] {
        assert!(masked.contains(path), "{} is visible: {masked:?}", path.display());
    }
    assert!(!masked.contains(&both));
    assert!(masked.contains(&project.base.join("s")) && masked.contains(&project.base.join("r")));
}

#[test]
fn what_others_mount_below_a_folder_is_seen_by_who_mounts_the_folder() {
    let mut project = Project::new("meets");
    let (web, inner) = (project.in_project("web"), project.in_project("web/static"));
    let secret = project.in_project("web/stock.key");
    let all = project.application.folder.clone();
    project.service("stock").mounts.push(bind(inner.clone(), true));
    project.service("stock").files.push(grant("key", FileContent::File(secret.clone())));
    project.service("orders").mounts.extend([bind(web, true), bind(all, true)]);
    let seal = project.plan().expect("planned").seal;
    let in_web = seal.mounts[0].masked.as_ref().expect("another list");
    assert!(!in_web.contains(&inner) && in_web.contains(&secret), "{in_web:?}");
    assert_eq!(seal.mounts[1].masked, None);
    assert!(seal.masked.contains(&inner) && seal.masked.contains(&secret));
}

#[test]
fn a_folder_in_which_nothing_is_hidden_has_the_secrets_of_others_covered() {
    let mut project = Project::new("open");
    let (key, own) = (project.in_project("stock.key"), project.in_project("own.key"));
    let all = project.application.folder.clone();
    project.service("stock").files.push(grant("key", FileContent::File(key.clone())));
    project.service("orders").files.push(grant("own", FileContent::File(own.clone())));
    fs::write(&own, "x").expect("write");
    let mount = Mount { hide: false, ..bind(all, true) };
    project.service("orders").mounts.push(mount);
    let seal = project.plan().expect("planned").seal;
    let in_all = seal.mounts[0].masked.as_ref().expect("another list");
    assert!(!in_all.iter().any(|path| path.starts_with(&project.application.folder)), "{in_all:?}");
    assert_eq!(seal.mounts[0].covered, std::slice::from_ref(&key));
    assert!(seal.masked.contains(&key), "in the project folder as it is shown to all");
}

#[test]
fn a_mask_never_covers_what_the_service_stands_on() {
    let mut project = Project::new("stands");
    let folder = project.application.folder.clone();
    let code = project.in_project("code");
    project.service("stock").mounts.extend([bind(folder.clone(), true), bind(code.clone(), true)]);
    project.service("orders").working_dir = code.join("orders");
    let masked = project.plan().expect("planned").seal.masked;
    assert!(!masked.contains(&folder) && !masked.contains(&code), "{masked:?}");
}

#[test]
fn what_the_command_names_is_visible_though_another_service_mounts_it() {
    let mut project = Project::new("named");
    let (code, data, secret) =
        (project.in_project("src"), project.in_project("data"), project.in_project("stock.key"));
    project.service("stock").mounts.extend([bind(code.clone(), true), bind(data.clone(), true)]);
    project.service("stock").files.push(grant("key", FileContent::File(secret.clone())));
    let words = ["python3", "-u", "./src/orders.py", "stock.key"];
    project.service("orders").command = words.map(str::to_owned).to_vec();
    let masked = project.plan().expect("planned").seal.masked;
    assert!(!masked.contains(&code), "{masked:?}");
    assert!(masked.contains(&data) && masked.contains(&secret), "{masked:?}");
}

#[test]
fn volumes_and_wanted_folders_are_made() {
    let mut project = Project::new("volumes");
    let wanted = project.in_project("wanted");
    let volume = Mount::new(MountSource::Volume("data".into()), "/var/data", false);
    project.service("orders").mounts.extend([volume, bind(wanted.clone(), true)]);
    let mounts = project.plan().expect("planned").seal.mounts;
    assert_eq!(mounts[0].source, project.folders().volume("shop_data"));
    assert!(mounts[0].source.is_dir() && wanted.is_dir());
}

#[track_caller]
fn check_refused(name: &str, change: impl FnOnce(&mut Service), part: &str) {
    let mut project = Project::new(name);
    change(project.service("orders"));
    let error = project.plan().expect_err("refused").to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn what_is_not_there_is_named() {
    check_refused("bind", |s| s.mounts.push(bind("/nowhere/at/all".into(), false)), "/nowhere/at/all");
    check_refused(
        "file",
        |s| s.files.push(grant("key", FileContent::File("/no/key".into()))),
        "secret key /no/key",
    );
    check_refused(
        "variable",
        |s| s.files.push(grant("key", FileContent::Environment("NO_KEY".into()))),
        "NO_KEY",
    );
    check_refused("user", |s| s.user = Some("no-such-user".into()), "no-such-user");
    let large = FileContent::Inline("x".repeat(FILES_BYTES_MAX as usize + 1));
    check_refused("large", |s| s.files.push(grant("key", large)), "volumes:");
}

#[test]
fn a_secret_of_the_environment_is_read_and_nowhere_else() {
    let mut project = Project::new("secret");
    project.environment.insert("KEY".to_owned(), "s3cret".to_owned());
    project.service("orders").files.push(grant("key", FileContent::Environment("KEY".into())));
    let plan = project.plan().expect("planned");
    assert_eq!(plan.seal.files[0].content, b"s3cret");
    assert!(!plan.command.environment.values().any(|value| value.contains("s3cret")));
}
