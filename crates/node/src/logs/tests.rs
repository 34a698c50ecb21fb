use std::time::Duration;

use super::*;

fn application(services: &[(&str, u32, Option<u64>)]) -> Application {
    let services = services.iter().map(|(name, replicas, log_bytes_max)| {
        let service = Service::new(*name, Vec::new());
        ((*name).into(), Service { replicas: *replicas, log_bytes_max: *log_bytes_max, ..service })
    });
    Application {
        name: "shop".into(),
        folder: "/shop".into(),
        files: Vec::new(),
        services: services.collect(),
        volumes: Default::default(),
        gateway: Default::default(),
    }
}

#[test]
fn instances_share_the_bound_and_those_with_their_own_do_not() {
    let check = |services: &[(&str, u32, Option<u64>)], expected: u64| {
        let application = application(services);
        let file = file_bytes_max(&application, &application.services[services[0].0]);
        assert_eq!(file, expected, "{services:?}");
        let all: u64 = application
            .services
            .values()
            .map(|service| 2 * file_bytes_max(&application, service) * u64::from(service.replicas))
            .sum();
        assert!(all <= kept_bytes_max(&application), "{services:?}");
    };
    check(&[("a", 1, None)], 4 << 20);
    check(&[("a", 8, None)], 4 << 20);
    check(&[("a", 8, None), ("b", 8, None)], 2 << 20);
    check(&[("a", 8, None), ("b", 80, Some(1 << 20))], 4 << 20);
    check(&[("a", 3, Some(20 << 20))], 10 << 20);
    check(&[("a", 512, None)], 64 << 10);
}

#[test]
fn the_oldest_halves_go_and_a_proxy_that_says_too_much_is_cut() {
    let base = std::env::temp_dir().join(format!("sinew-logs-{}", std::process::id()));
    let _ = fs::remove_dir_all(&base);
    let folders = Folders { run: base.clone(), state: base.join("state") };
    let write = |instance: &str, name: &str, length: usize, age_s: u64| {
        let folder = folders.instances().join(instance);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, vec![b'x'; length]).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age_s);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        path
    };
    let (a, a_old) = (write("a-1", "log", 100, 0), write("a-1", "log.old", 100, 50));
    let (b, b_old) = (write("b-1", "log", 100, 90), write("b-1", "log.old", 100, 99));
    let (small, large) = (write("a-1", "sidecar.log", 10, 0), write("b-1", "sidecar.log", 2 << 20, 0));
    let record = write("b-1", "instance.json", 1 << 20, 0);
    let exists = |paths: [&PathBuf; 4]| paths.map(|path| path.exists());

    prune_to(&folders, 410).unwrap();
    assert_eq!(exists([&a, &a_old, &b, &b_old]), [true; 4]);
    assert_eq!((fs::metadata(&small).unwrap().len(), fs::metadata(&large).unwrap().len()), (10, 0));
    prune_to(&folders, 350).unwrap();
    assert_eq!(exists([&a, &a_old, &b, &b_old]), [true, true, true, false]);
    prune_to(&folders, 0).unwrap();
    assert_eq!(exists([&a, &a_old, &b, &b_old]), [true, false, true, false], "what is written to stays");
    assert!(record.exists());
    fs::remove_dir_all(&base).unwrap();
}
