use super::*;

/// As a little-endian machine shows it.
const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2409 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20 1 00000000e0e0f3b6 100 0 0 10 0
   1: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 21 1 00000000e0e0f3b6 100 0 0 10 0
   2: 0100007F:1F40 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 22 1 00000000e0e0f3b6 20 4 30 10 -1
   3: 00000000:2409 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 23 1 00000000e0e0f3b6 100 0 0 10 0
";

#[test]
#[cfg(target_endian = "little")]
fn listeners_of_a_port_are_found_before_the_first_connection() {
    let check = |port, expected: &[&str]| {
        let found: Vec<String> =
            listeners(TABLE.as_bytes(), port).map(|address| address.to_string()).collect();
        assert_eq!(found, expected, "port {port}");
    };
    check(9225, &["127.0.0.1"]);
    check(8000, &["0.0.0.0"]);
    check(1, &[]);
    assert_eq!(listeners(&b"no table"[..], 1).count(), 0);
    assert_eq!(listeners(&b"x\n  0: zz:2409 0 0A\n  1: 0100007F 0 0A\n"[..], 9225).count(), 0);
}

#[test]
#[cfg(target_endian = "little")]
fn addresses_are_read_as_the_kernel_writes_them() {
    let check = |text: &str, expected: Option<&str>| {
        assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), expected, "{text}");
    };
    check("0100007F", Some("127.0.0.1"));
    check("FDFF13C6", Some("198.19.255.253"));
    check("00000000000000000000000001000000", Some("::1"));
    check("0000000000000000FFFF00000100007F", Some("::ffff:127.0.0.1"));
    for other in ["", "0100007", "0100007G", "000000000000000000000000010000000"] {
        check(other, None);
    }
}

#[test]
fn a_listener_of_this_process_is_seen() {
    let on = |address: &str| std::net::TcpListener::bind(address).expect("listen");
    let port = |listener: &std::net::TcpListener| listener.local_addr().expect("bound").port();
    let (loopback, everywhere) = (on("127.0.0.1:0"), on("0.0.0.0:0"));
    assert!(is_on_loopback_only(port(&loopback)));
    assert!(!is_on_loopback_only(port(&everywhere)));
    let free = port(&loopback);
    drop(loopback);
    assert!(!is_on_loopback_only(free), "nobody listens");
}
