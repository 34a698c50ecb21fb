use super::*;

/// One netlink message with a packet in it, as the kernel writes them.
fn message(packet: &[u8]) -> Vec<u8> {
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    };
    // A prefix as an unrelated attribute comes first.
    let attributes = [attribute(10, b"sinew\0"), attribute(NFULA_PAYLOAD, packet)].concat();
    let length = NETLINK_HEADER_BYTES + NETFILTER_HEADER_BYTES + attributes.len();
    let mut bytes = (length as u32).to_ne_bytes().to_vec();
    bytes.extend(PACKET_TYPE.to_ne_bytes());
    bytes.resize(NETLINK_HEADER_BYTES + NETFILTER_HEADER_BYTES, 0);
    bytes.extend(attributes);
    bytes
}

fn ipv4(protocol: u8, destination: [u8; 4], port: u16) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    packet[9] = protocol;
    packet[16..].copy_from_slice(&destination);
    packet.extend([0x9c, 0x40]);
    packet.extend(port.to_be_bytes());
    packet
}

fn check(packet: &[u8], expected: &str) {
    let found: Vec<String> = parse(&message(packet)).iter().map(ToString::to_string).collect();
    assert_eq!(found, [expected]);
}

#[test]
fn destinations_are_read_from_packets() {
    check(&ipv4(6, [10, 0, 0, 7], 502), "10.0.0.7:502/tcp");
    check(&ipv4(17, [10, 0, 0, 7], 53), "10.0.0.7:53/udp");
    check(&ipv4(1, [10, 0, 0, 7], 0), "10.0.0.7/icmp");
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[6] = 6;
    packet[24] = 0xfd;
    packet[39] = 7;
    packet.extend([0, 1, 1, 0xbb]);
    check(&packet, "[fd00::7]:443/tcp");
    // Options behind the fixed part of an IPv4 header.
    let mut packet = ipv4(6, [10, 0, 0, 7], 0);
    packet[0] = 0x46;
    packet.extend([0x9c, 0x40, 0x1f, 0x40]);
    check(&packet, "10.0.0.7:8000/tcp");
}

#[test]
fn a_batch_gives_all_of_its_packets() {
    let batch = [message(&ipv4(6, [10, 0, 0, 7], 1)), message(&ipv4(6, [10, 0, 0, 8], 2))].concat();
    assert_eq!(parse(&batch).len(), 2);
}

#[test]
fn whatever_comes_there_is_no_panic() {
    let whole = message(&ipv4(6, [10, 0, 0, 7], 502));
    for cut in 0..whole.len() {
        parse(&whole[..cut]);
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[cut] = value;
            parse(&changed);
        }
    }
}
