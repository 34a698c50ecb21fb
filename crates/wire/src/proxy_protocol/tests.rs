use proptest::prelude::*;

use super::*;

/// What comes of `header` followed by a client's bytes, however it is cut.
#[track_caller]
fn check(header: &[u8], expected: Result<Origin, &str>) {
    let bytes = [header, b"GET / HTTP/1.1\r\n"].concat();
    let found = parse(&bytes);
    match expected {
        Ok(origin) => assert_eq!(found, Ok(Parsed::Complete { origin, bytes: header.len() })),
        Err(reason) => {
            let Malformed(found) = found.expect_err("malformed");
            assert_eq!(found, reason);
        }
    }
    // Fewer bytes never mean something else.
    for cut in 0..bytes.len() {
        match parse(&bytes[..cut]) {
            Ok(Parsed::Incomplete) => {}
            other => assert_eq!(other, found, "cut at {cut}"),
        }
    }
}

fn client(source: &str, destination: &str) -> Result<Origin, &'static str> {
    let address = |text: &str| text.parse().expect("an address");
    Ok(Origin::Client { source: address(source), destination: address(destination) })
}

#[test]
fn lines_of_version_1() {
    check(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", client("192.0.2.7:56324", "198.51.100.1:443"));
    check(b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n", client("[2001:db8::7]:1", "[::1]:65535"));
    check(b"PROXY TCP4 192.0.2.7 198.51.100.1 0 0\r\n", client("192.0.2.7:0", "198.51.100.1:0"));
    check(b"PROXY UNKNOWN\r\n", Ok(Origin::Itself));
    check(b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", Ok(Origin::Itself));
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
    assert_eq!(line.len(), V1_BYTES_MAX);
    check(line.as_bytes(), Ok(Origin::Itself));
}

#[test]
fn malformed_lines() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX));
    for (line, reason) in [
        ("GET / HTTP/1.1\r\n", "no header of the PROXY protocol"),
        ("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "no header of the PROXY protocol"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "a line without CR"),
        ("PROXY \r\n", "a line without addresses"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "a line without addresses"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "a line with more than addresses"),
        ("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "no port"),
        ("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "an unknown family of addresses"),
        ("PROXY UNKNOWNS 1.2.3.4 1.2.3.4 1 2\r\n", "an unknown family of addresses"),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", "no IPv4 address"),
        ("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "no IPv6 address"),
        ("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "no IPv4 address"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "no port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", "no port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "no port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "no port"),
        ("PROXY TCP4 1.2.3.4 1.2.3.4\t1 2\r\n", "a line without addresses"),
        (&long, "a line that is too long"),
    ] {
        check(line.as_bytes(), Err(reason));
    }
    check(b"PROXY TCP4 \xff\r\n", Err("a line that is no ASCII"));
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("it fits").to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

const V4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

/// An addition.
fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).expect("it fits").to_be_bytes(), value].concat()
}

/// With a right checksum between two other additions.
fn with_checksum() -> Vec<u8> {
    let rest = [V4, &tlv(0x04, b"xx"), &tlv(TLV_CRC32C, &[0; 4]), &tlv(0x02, b"shop")].concat();
    let mut header = v2(0x21, 0x11, &rest);
    let at = FIXED_BYTES + 12 + 5 + 3;
    let crc = crc32c(&header[..at], &header[at + 4..]);
    header[at..at + 4].copy_from_slice(&crc.to_be_bytes());
    header
}

#[test]
fn headers_of_version_2() {
    let expected = client("192.0.2.7:56324", "198.51.100.1:443");
    check(&v2(0x21, 0x11, V4), expected);
    check(&v2(0x21, 0x11, &[V4, &tlv(0x04, b"xx"), &tlv(0xea, &[0; 300])].concat()), expected);
    check(&with_checksum(), expected);
    let v6 = [&Ipv6Addr::LOCALHOST.octets()[..], &[0x20; 16], &[0, 1, 0, 2]].concat();
    check(&v2(0x21, 0x21, &v6), client("[::1]:1", "[2020:2020:2020:2020:2020:2020:2020:2020]:2"));
    check(&v2(0x20, 0x00, &[]), Ok(Origin::Itself));
    check(&v2(0x20, 0x11, V4), Ok(Origin::Itself));
    check(&v2(0x20, 0x11, b"???"), Ok(Origin::Itself));
    check(&v2(0x21, 0x00, b"???"), Ok(Origin::Itself));
    check(&v2(0x21, 0x31, &[0; 216]), Ok(Origin::Itself));
    check(&v2(0x21, 0x12, V4), Ok(Origin::Itself));
}

#[test]
fn malformed_headers_of_version_2() {
    let mut wrong = with_checksum();
    *wrong.last_mut().expect("it is not empty") ^= 1;
    check(&wrong, Err("a wrong checksum"));
    let beyond = [V4, &[0x04, 0, 9, 1]].concat();
    let short = [V4, &tlv(TLV_CRC32C, b"xxx")].concat();
    for (header, reason) in [
        (v2(0x11, 0x11, V4), "an unknown version or command"),
        (v2(0x22, 0x11, V4), "an unknown version or command"),
        (v2(0x21, 0x13, V4), "an unknown family of addresses"),
        (v2(0x21, 0x41, V4), "an unknown family of addresses"),
        (v2(0x21, 0x01, V4), "an unknown family of addresses"),
        (v2(0x21, 0x11, &V4[1..]), "a header without addresses"),
        (v2(0x21, 0x21, V4), "a header without addresses"),
        (v2(0x21, 0x11, &[0; 4097]), "a header that is too long"),
        (v2(0x21, 0x11, &[V4, &[0x04]].concat()), "an addition that ends beyond the header"),
        (v2(0x21, 0x11, &beyond), "an addition that ends beyond the header"),
        (v2(0x21, 0x11, &short), "a checksum of another length"),
    ] {
        check(&header, Err(reason));
    }
}

#[test]
fn headers_of_ours() {
    let origin = client("192.0.2.7:56324", "198.51.100.1:443").expect("it is one");
    assert_eq!(encode(Version::V1, &origin), b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n");
    assert_eq!(encode(Version::V2, &origin), v2(0x21, 0x11, V4));
    assert_eq!(encode(Version::V1, &Origin::Itself), b"PROXY UNKNOWN\r\n");
    assert_eq!(encode(Version::V2, &Origin::Itself), v2(0x20, 0x00, &[]));
    let mixed = client("192.0.2.7:1", "[2001:db8::1]:2").expect("it is one");
    assert_eq!(encode(Version::V1, &mixed), b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1 2\r\n");
}

#[test]
fn the_checksum_is_that_of_the_field() {
    // RFC 3720, B.4: 32 bytes of zeros.
    assert_eq!(crc32c(&[0; 14], &[0; 14]), 0x8a91_36aa);
}

proptest! {
    #[test]
    fn nothing_panics_and_more_bytes_never_change_the_meaning(
        kind in 0..3_usize, rest in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()
    ) {
        let start: &[u8] = [&SIGNATURE[..], V1_START, &[]][kind];
        let bytes = [start, &rest].concat();
        let whole = parse(&bytes);
        let part = parse(&bytes[..cut.index(bytes.len() + 1)]);
        prop_assert!(part == Ok(Parsed::Incomplete) || part == whole, "{part:?} {whole:?}");
        if let Ok(Parsed::Complete { bytes: used, .. }) = whole {
            prop_assert!(used <= bytes.len() && used <= V2_BYTES_MAX);
        }
    }

    #[test]
    fn addresses_come_through(source: [u8; 16], destination: [u8; 16], ports: (u16, u16), is_v6: bool) {
        let address = |bytes: [u8; 16]| -> IpAddr {
            match is_v6 {
                true => Ipv6Addr::from(bytes).into(),
                false => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
            }
        };
        let (source, destination) = (address(source), address(destination));
        let line = format!("PROXY TCP{} {source} {destination} {} {}\r\n", if is_v6 { 6 } else { 4 }, ports.0, ports.1);
        let origin = Origin::Client {
            source: SocketAddr::new(source, ports.0),
            destination: SocketAddr::new(destination, ports.1),
        };
        prop_assert_eq!(parse(line.as_bytes()), Ok(Parsed::Complete { origin, bytes: line.len() }));
    }

    #[test]
    fn what_we_say_is_read_as_it_was_meant(
        source: [u8; 16], destination: [u8; 16], ports: (u16, u16), are_v4: (bool, bool), is_v1: bool
    ) {
        let address = |bytes: [u8; 16], port, is_v4| match is_v4 {
            true => SocketAddr::new(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(), port),
            false => SocketAddr::new(Ipv6Addr::from(bytes).into(), port),
        };
        let origin = Origin::Client {
            source: address(source, ports.0, are_v4.0),
            destination: address(destination, ports.1, are_v4.1),
        };
        let version = if is_v1 { Version::V1 } else { Version::V2 };
        for origin in [origin, Origin::Itself] {
            let header = encode(version, &origin);
            let Ok(Parsed::Complete { origin: read, bytes }) = parse(&header) else { panic!("{header:?}") };
            prop_assert_eq!(bytes, header.len());
            match (origin, read) {
                (Origin::Itself, Origin::Itself) => {}
                (Origin::Client { source, destination }, Origin::Client { source: from, destination: to }) => {
                    for (meant, read) in [(source, from), (destination, to)] {
                        prop_assert_eq!(read.ip().to_canonical(), meant.ip().to_canonical());
                        prop_assert_eq!(read.port(), meant.port());
                    }
                }
                _ => panic!("{origin:?} {read:?}"),
            }
        }
    }
}
