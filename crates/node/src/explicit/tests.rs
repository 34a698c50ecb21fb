use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use sinew_spec::application::{HealthCheck, Mount, Protocol, PublishedPort};

use super::*;

fn service(name: &str, ports: &[u16]) -> Service {
    Service { expose: ports.iter().copied().collect(), ..Service::new(name, vec!["run".to_owned()]) }
}

fn application(services: Vec<Service>) -> Application {
    Application {
        name: "shop".into(),
        folder: "/shop".into(),
        files: Vec::new(),
        services: services.into_iter().map(|service| (service.name.clone(), service)).collect(),
        volumes: BTreeMap::new(),
        gateway: Default::default(),
    }
}

fn names(application: &Application) -> Names {
    let address = |index: usize| Ipv4Addr::new(198, 18, 1, index as u8);
    let services = application.services.keys().enumerate().map(|(i, name)| (name.clone(), address(i)));
    let hosts = [("plc.example".to_owned(), Ipv4Addr::new(198, 18, 2, 1))];
    Names { services: services.collect(), hosts: hosts.into() }
}

#[test]
fn the_first_declared_port_is_the_one() {
    let mut web = service("web", &[9000, 8080]);
    let published =
        PublishedPort { host: Ipv4Addr::LOCALHOST.into(), published: None, target: 80, protocol: None };
    web.published.push(published);
    web.protocols.insert(1883, Protocol::Tcp);
    web.health = Some(HealthCheck {
        probe: Probe::Tcp { port: 7000 },
        interval_ms: 1,
        timeout_ms: 1,
        retries: 1,
        start_period_ms: 0,
        start_interval_ms: 1,
    });
    assert_eq!(declared_ports(&web), [8080, 9000, 80, 1883, 7000]);
    assert!(declared_ports(&service("batch", &[])).is_empty());
}

#[test]
fn variables_name_the_sidecar_and_replace_those_of_the_file() {
    let mut web = service("web", &[8000, 8001]);
    let host = EgressHost::Name("PLC.example".to_owned());
    web.egress.push(Egress { host, port: 502, transport: Transport::Tcp });
    let mut far = service("far", &[1]);
    far.networks = BTreeSet::from(["elsewhere".to_owned()]);
    let application = application(vec![web.clone(), service("cold-store.api", &[80, 90]), far]);
    let reachable = reachable(&application, &web, &names(&application));
    let listen = reachable.iter().enumerate().map(|(i, reachable)| {
        (reachable.destination, SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000 + i as u16)))
    });
    let ports = BTreeMap::from([(8000, 20_001), (8001, 20_002)]);
    let environment = environment(&web, &ports, &reachable, &listen.collect());
    let shown: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        shown,
        [
            "COLD_STORE_API_HOST=127.0.0.1",
            "COLD_STORE_API_PORT=40000",
            "COLD_STORE_API_PORT_80=40000",
            "COLD_STORE_API_PORT_90=40001",
            "COLD_STORE_API_URL=http://127.0.0.1:40000",
            "EGRESS_PLC_EXAMPLE_502=127.0.0.1:40004",
            "HOST=127.0.0.1",
            "PORT=20001",
            "PORT_8000=20001",
            "PORT_8001=20002",
            "WEB_HOST=127.0.0.1",
            "WEB_PORT=40002",
            "WEB_PORT_8000=40002",
            "WEB_PORT_8001=40003",
            "WEB_URL=http://127.0.0.1:40002",
        ]
    );
}

#[test]
fn instances_get_ports_of_their_own() {
    let (ports, service) = (Ports::default(), service("web", &[8000, 8001]));
    let mut all = BTreeSet::new();
    for number in 1..=20 {
        let instance = InstanceName::new(format!("web-{number}"));
        let given = ports.choose(&instance, &service).expect("there are thousands");
        assert_eq!(given.keys().copied().collect::<Vec<_>>(), [8000, 8001]);
        assert!(given.values().all(|port| claim(*port).is_none()), "another launcher sees it");
        assert!(given.values().all(|port| (FIRST..LAST).contains(port) && all.insert(*port)), "{given:?}");
    }
}

#[test]
fn a_folder_shown_at_its_own_place_needs_no_seal() {
    let mut web = service("web", &[]);
    let bind = |target: &str, read_only| {
        Mount::new(MountSource::Bind { path: "/srv/data".into(), create: false }, target, read_only)
    };
    web.mounts = vec![bind("/srv/data", false)];
    assert_eq!(check(&application(vec![web.clone()])), []);
    web.mounts = vec![bind("/srv/data", true), bind("/data", false)];
    assert_eq!(check(&application(vec![web])).len(), 2);
}

#[test]
fn more_destinations_than_one_message_carries_are_refused() {
    let ports: Vec<u16> = (1..=64).collect();
    let refusals = check(&application(vec![service("many", &ports)]));
    assert!(refusals[0].reason.contains("64 ports"), "{refusals:?}");
}
