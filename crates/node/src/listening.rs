//! On which TCP ports the processes of a seal listen, read from `/proc`: nobody is connected to for it.

use std::collections::BTreeSet;
use std::fs;

use sinew_spec::proxy::RESERVED_PORT;

/// Listening ports of the network namespace of `pid`, without ours; `None`: it cannot be told (the process has ended).
fn ports(pid: i32) -> Option<BTreeSet<u16>> {
    let mut ports = parse(&fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?);
    // A kernel without IPv6 has no such file.
    ports.extend(parse(&fs::read_to_string(format!("/proc/{pid}/net/tcp6")).unwrap_or_default()));
    ports.remove(&RESERVED_PORT);
    Some(ports)
}

/// proc(5): `sl local_address rem_address st …`, the port in hexadecimal digits behind the last colon of the address.
fn parse(table: &str) -> BTreeSet<u16> {
    const LISTEN: &str = "0A";
    let rows = table.lines().skip(1).map(str::split_ascii_whitespace);
    rows.filter_map(|mut row| {
        let (local, state) = (row.nth(1)?, row.nth(1)?);
        let (_, port) = local.rsplit_once(':').filter(|_| state == LISTEN)?;
        u16::from_str_radix(port, 16).ok()
    })
    .collect()
}

/// Why nobody can be served on `port`, in words; `None`: somebody listens there, or it cannot be told. `shared`: the
/// namespace is also that of others, whose ports say nothing.
pub fn lack(pid: i32, port: u16, shared: bool) -> Option<String> {
    let ports = ports(pid)?;
    if ports.contains(&port) {
        return None;
    }
    let instead = match (shared, ports.is_empty()) {
        (true, _) => String::new(),
        (false, true) => "; it listens on no port".to_owned(),
        (false, false) => format!("; it listens on {}", in_words(&ports)),
    };
    Some(format!("nobody listens on port {port}{instead}"))
}

/// `8000`, `8000 and 9000`; many: the first ones.
fn in_words(ports: &BTreeSet<u16>) -> String {
    const LISTED_MAX: usize = 4;
    let mut words: Vec<String> = ports.iter().take(LISTED_MAX).map(u16::to_string).collect();
    if ports.len() > LISTED_MAX {
        words.push(format!("{} more", ports.len() - LISTED_MAX));
    }
    match words.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listeners_count() {
        let table =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F41 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A x
 nonsense
";
        assert_eq!(parse(table), BTreeSet::from([80, 8000]));
        assert_eq!(parse(""), BTreeSet::new());
    }

    #[test]
    fn own_listeners_are_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(ports(own).expect("we live").contains(&port));
        assert_eq!(ports(i32::MAX), None);
    }

    #[test]
    fn what_is_lacking_is_said() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert_eq!(lack(own, port, false), None);
        assert_eq!(lack(own, 1, true).as_deref(), Some("nobody listens on port 1"));
        let words = lack(own, 1, false).expect("nobody may listen there");
        assert!(words.starts_with("nobody listens on port 1; it listens on "), "{words}");
        assert_eq!(lack(i32::MAX, 1, false), None, "it has ended: there are better words for that");
    }

    #[test]
    fn ports_in_words() {
        let check =
            |ports: &[u16], words: &str| assert_eq!(in_words(&ports.iter().copied().collect()), words);
        check(&[8000], "8000");
        check(&[9000, 8000], "8000 and 9000");
        check(&[1, 2, 3, 4, 5, 6], "1, 2, 3, 4 and 2 more");
    }
}
