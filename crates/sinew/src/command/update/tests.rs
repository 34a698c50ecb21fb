use std::collections::BTreeMap;

use sinew_spec::application::{Container, Dependency, DependencyCondition};

use super::*;

fn site(services: &[(&str, bool, &[&str])]) -> Site {
    let service = |(name, has_image, depends_on): &(&str, bool, &[&str])| {
        let mut service = Service::new(*name, Vec::new());
        service.container = has_image.then(Container::default);
        let dependency = |on: &&str| Dependency {
            service: (*on).into(),
            condition: DependencyCondition::ServiceStarted,
            required: true,
            restart: false,
        };
        service.depends_on = depends_on.iter().map(dependency).collect();
        (service.name.clone(), service)
    };
    let application = Application {
        name: "shop".into(),
        folder: "/shop".into(),
        files: Vec::new(),
        services: services.iter().map(service).collect(),
        volumes: BTreeMap::new(),
        gateway: Default::default(),
    };
    let folders = Folders { run: "/run/x".into(), state: "/state/x".into() };
    Site { application, folders, client: Client::new("shop", "/run/x/admin.sock") }
}

#[track_caller]
fn check(services: &[(&str, bool, &[&str])], typed: &[&str], expected: Result<&[&str], &str>) {
    let typed: Vec<String> = typed.iter().map(|&name| name.to_owned()).collect();
    let selected = site(services).select(&typed, typed.is_empty());
    let selected = selected
        .map(|names| names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>())
        .map_err(|failure| failure.message);
    let expected = expected.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    assert_eq!(selected, expected.map_err(str::to_owned));
}

#[test]
fn what_others_depend_on_is_replaced_first() {
    let services: &[(&str, bool, &[&str])] =
        &[("api", true, &["db"]), ("db", true, &[]), ("tool", false, &[]), ("web", true, &["api", "tool"])];
    check(services, &[], Ok(&["db", "api", "web"]));
    check(services, &["web", "api"], Ok(&["api", "web"]));
    check(services, &["wbe"], Err("there is no service `wbe`"));
    check(services, &["tool"], Err("`tool` has no image: it runs as a process"));
    check(&[("tool", false, &[])], &[], Err("no service has an image that is pulled"));
    // A circle is somebody else's problem; nobody is forgotten.
    check(&[("a", true, &["b"]), ("b", true, &["a"])], &[], Ok(&["a", "b"]));
}

#[test]
fn what_the_file_says_of_watching_is_taken_the_longest_of_all() {
    let mut site = site(&[("db", true, &[]), ("web", true, &[])]);
    let check = |site: &Site, cause, services: &[&str], seconds: u64| {
        let id = || ImageVersion { id: sinew_spec::digest::Digest::of_bytes(&[7; 32]), digest: None };
        let update = |service: &&str| ServiceUpdate {
            service: (*service).into(),
            reference: "web:1".to_owned(),
            platform: String::new(),
            from: id(),
            to: id(),
        };
        let updates: Vec<ServiceUpdate> = services.iter().map(update).collect();
        assert_eq!(site.watch(cause, &updates), Duration::from_secs(seconds), "{services:?}");
    };
    check(&site, Cause::Update, &["db", "web"], 30);
    let web = site.application.services.get_mut("web").expect("it is there");
    web.replacing.update_watch_ms = Some(5_000);
    web.replacing.rollback_watch_ms = Some(60_000);
    check(&site, Cause::Update, &["web"], 5);
    check(&site, Cause::Update, &["db", "web"], 30);
    check(&site, Cause::Rollback, &["db", "web"], 60);
}
