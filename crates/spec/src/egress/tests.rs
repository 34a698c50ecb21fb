use super::*;

fn named(name: &str, port: u16, transport: Transport) -> Egress {
    Egress { host: EgressHost::Name(name.into()), port, transport }
}

fn network(address: &str, prefix: u8, port: u16, transport: Transport) -> Egress {
    Egress { host: EgressHost::Network { address: address.parse().unwrap(), prefix }, port, transport }
}

fn check(egress: Vec<Egress>, expect: &[&str]) {
    let service = Service { egress, ..Service::new("orders", vec!["orders".into()]) };
    let addresses = BTreeMap::from([("plc.example".to_owned(), Ipv4Addr::new(198, 18, 0, 9))]);
    let (seal, destinations) = plan(&service, &addresses);
    let lines: Vec<String> = seal
        .iter()
        .zip(&destinations)
        .map(|(seal, destination)| {
            let socket = match &destination.matches {
                EgressMatch::Udp { socket, address } => {
                    assert_eq!(*address, seal.network);
                    format!(" socket {socket}")
                }
                EgressMatch::Tcp { network, prefix } => {
                    assert_eq!((*network, *prefix), (seal.network, seal.prefix));
                    String::new()
                }
            };
            format!("{}/{} {}{socket}", seal.network, seal.prefix, destination.label)
        })
        .collect();
    assert_eq!(seal.len(), destinations.len());
    assert_eq!(lines, expect);
}

#[test]
fn both_sides_count_udp_sockets_alike() {
    use Transport::{Tcp, Udp};
    check(
        vec![
            named("PLC.example", 502, Tcp),
            named("plc.example", 161, Udp),
            network("10.0.0.0", 8, 443, Tcp),
            network("10.0.0.0", 8, 514, Udp),
            network("10.1.2.3", 32, 514, Udp),
            named("unknown.example", 1, Udp),
            named("plc.example", 161, Udp),
            network("2001:db8::1", 128, 53, Udp),
        ],
        &[
            "198.18.0.9/32 PLC.example:502",
            "198.18.0.9/32 plc.example:161/udp socket 0",
            "10.0.0.0/8 10.0.0.0/8:443",
            "10.1.2.3/32 10.1.2.3:514/udp socket 1",
            "2001:db8::1/128 [2001:db8::1]:53/udp socket 2",
        ],
    );
}
