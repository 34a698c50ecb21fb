use sinew_spec::application::{Egress, EgressHost, Service, Transport};

use super::*;

fn application(services: &[&str], hosts: &[&str]) -> Application {
    let mut all: BTreeMap<ServiceName, Service> =
        services.iter().map(|name| ((*name).into(), Service::new(*name, vec!["run".into()]))).collect();
    if let Some(first) = all.values_mut().next() {
        first.egress = hosts
            .iter()
            .map(|host| Egress {
                host: EgressHost::Name((*host).into()),
                port: 443,
                transport: Transport::Tcp,
            })
            .collect();
    }
    Application {
        name: "shop".into(),
        folder: "/shop".into(),
        files: Vec::new(),
        services: all,
        volumes: BTreeMap::new(),
        gateway: Default::default(),
    }
}

/// What a store would give back after `changes`.
fn reopened(changes: &[Change]) -> Addresses {
    let records = |wanted: &str| -> Vec<Record> {
        let puts = changes.iter().filter_map(|change| match change {
            Change::Put { kind, name, value } if *kind == wanted => {
                Some(Record { name: name.clone(), revision: 1, value: value.clone() })
            }
            _ => None,
        });
        puts.collect()
    };
    Addresses::from_records(&records(SERVICE_ADDRESS), &records(HOST_ADDRESS))
}

#[test]
fn names_keep_their_addresses_over_restarts_and_absence() {
    let mut addresses = Addresses::default();
    let mut stored = addresses.assign(&application(&["b", "c"], &["PLC.example"])).unwrap();
    assert_eq!(addresses.service(&"b".into()), Some(Ipv4Addr::new(198, 18, 0, 2)));
    assert_eq!(addresses.service(&"c".into()), Some(Ipv4Addr::new(198, 18, 0, 3)));
    assert_eq!(addresses.hosts()["plc.example"], Ipv4Addr::new(198, 18, 0, 4));

    stored.extend(addresses.assign(&application(&["a"], &[])).unwrap());
    assert_eq!(addresses.service(&"a".into()), Some(Ipv4Addr::new(198, 18, 0, 5)));

    let mut again = reopened(&stored);
    assert_eq!(again, addresses);
    assert_eq!(again.assign(&application(&["a", "b", "c"], &["plc.example"])).unwrap(), []);
    assert_eq!(again, addresses);
}

#[test]
fn records_that_are_no_address_of_ours_are_assigned_anew() {
    let record =
        |name: &str, value: &str| Record { name: name.into(), revision: 1, value: value.as_bytes().to_vec() };
    let services = [
        record("resolver", "198.18.0.1"),
        record("foreign", "10.0.0.1"),
        record("broken", "x"),
        record("own", "198.19.255.253"),
        record("mesh", "198.19.255.254"),
        record("good", "198.19.255.252"),
    ];
    let addresses = Addresses::from_records(&services, &[]);
    assert_eq!(addresses.services.len(), 1);
    assert_eq!(addresses.service(&"good".into()), Some(Ipv4Addr::new(198, 19, 255, 252)));
}

#[test]
fn addresses_of_absent_names_are_taken_when_all_others_are() {
    let mut addresses = Addresses::default();
    for bits in assignable() {
        addresses.services.insert(ServiceName::new(format!("old-{bits}")), Ipv4Addr::from_bits(bits));
    }
    assert_eq!(addresses.services.len(), capacity());
    let changes = addresses.assign(&application(&["new"], &[])).unwrap();
    assert_eq!(changes.len(), capacity() + 1);
    assert_eq!(addresses.service(&"new".into()), Some(Ipv4Addr::new(198, 18, 0, 2)));
}
