use std::net::IpAddr;

use super::*;
use crate::tests::mesh;

fn compile(config: ProxyConfig, previous: Option<&Snapshot>) -> Result<Snapshot, String> {
    Snapshot::compile(Arc::new(config), previous, &Registry::default(), &Shared::default())
}

fn within(address: &str, network: &str, prefix: u8) -> bool {
    is_within(address.parse::<IpAddr>().unwrap(), network.parse::<IpAddr>().unwrap(), prefix)
}

#[test]
fn networks_contain_what_they_should() {
    assert!(within("10.1.2.3", "10.0.0.0", 8));
    assert!(!within("11.1.2.3", "10.0.0.0", 8));
    assert!(within("1.2.3.4", "0.0.0.0", 0));
    assert!(within("10.0.0.7", "10.0.0.7", 32) && !within("10.0.0.8", "10.0.0.7", 32));
    assert!(within("fd00::1", "fd00::", 8) && !within("fe00::1", "fd00::", 8));
    assert!(within("::1", "::", 0) && !within("10.0.0.1", "::", 0));
}

#[test]
fn original_destinations_are_found() {
    let mut config = mesh::caller(&[]);
    config.egress = vec![sinew_spec::proxy::EgressDestination {
        label: "plc".into(),
        host: Some("PLC.example".into()),
        port: 502,
        matches: EgressMatch::Tcp { network: "198.18.0.20".parse().unwrap(), prefix: 32 },
    }];
    let snapshot = compile(config, None).unwrap();
    let find = |address: &str| snapshot.find(address.parse().unwrap());
    assert!(matches!(find("198.18.0.10:8000"), Found::Service(_)));
    assert!(matches!(find("198.18.0.1:53"), Found::Resolver));
    assert!(matches!(find("198.18.0.20:502"), Found::Egress(_)));
    assert!(matches!(find("198.18.0.20:503"), Found::Nothing));
    assert!(matches!(find("198.18.0.11:8000"), Found::Nothing));
    for name in ["orders", "ORDERS.", "orders.test", "Orders.Test."] {
        assert_eq!(snapshot.resolve(name), Some(mesh::VIRTUAL), "{name}");
    }
    assert_eq!(snapshot.resolve("plc.example"), Some(Ipv4Addr::new(198, 18, 0, 20)));
    assert_eq!(snapshot.resolve("orders.other"), None);
}

#[test]
fn server_names_say_the_port_of_this_service_only() {
    let snapshot = compile(mesh::callee("orders-1"), None).unwrap();
    for (name, port) in [
        ("8000.orders.test", Some(8000)),
        ("8000.ORDERS.test", Some(8000)),
        ("0.orders.test", None),
        ("65536.orders.test", None),
        ("8000.billing.test", None),
        ("8000.orders.other", None),
        ("8000.xorders.test", None),
        ("8000.test", None),
        ("orders.test", None),
        ("", None),
    ] {
        assert_eq!(snapshot.port_of_server_name(name), port, "{name}");
    }
}

/// The only label that comes of a server name is a port of ours.
#[test]
fn a_million_server_names_are_no_port() {
    let snapshot = compile(mesh::callee("orders-1"), None).unwrap();
    for number in 0..1_000_000 {
        let name = format!("8000.h{number}.test");
        assert_eq!(snapshot.port_of_server_name(&name), None, "{name}");
    }
}

#[test]
fn endpoints_live_on_with_their_load() {
    let (one, two) = (std::path::Path::new("/1"), std::path::Path::new("/2"));
    let first = compile(mesh::caller(&[one]), None).unwrap();
    let endpoint = first.endpoints().next().unwrap().clone();
    let load = Load::new(&endpoint, Instant::now());
    let second = compile(mesh::caller(&[one, two]), Some(&first)).unwrap();
    let kept = second.endpoints().find(|other| other.instance == endpoint.instance).unwrap();
    assert_eq!(kept.candidate(Instant::now(), false).outstanding, 1);
    drop(load);
    assert_eq!(kept.candidate(Instant::now(), false).outstanding, 0);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let mut twice = mesh::caller(&[]);
    twice.destinations.push(twice.destinations[0].clone());
    assert_eq!(compile(twice, None).err().unwrap(), "two destinations have the address 198.18.0.10");
    let mut zero = mesh::caller(&[]);
    zero.limits.connect_timeout_ms = 0;
    assert!(compile(zero, None).err().unwrap().starts_with("limits.connect_timeout_ms is 0"));
}
