//! Where the application of a seal listens, as the kernel tells it. Asked when a call was refused, to say why; whether one
//! is refused is decided by the kernel alone, as calls arrive at an address that is not loopback.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[cfg(test)]
mod tests;

const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The state LISTEN.
const LISTENS: &str = "0A";
/// More listeners than this are not looked at.
const LINES_MAX: usize = 4096;

/// Somebody listens on the port, and nobody on an address that is not loopback.
pub fn is_on_loopback_only(port: u16) -> bool {
    let tables = TABLES.iter().filter_map(|table| File::open(table).ok());
    let mut addresses = tables.flat_map(|table| listeners(BufReader::new(table), port));
    let mut any = false;
    let on_loopback = addresses.all(|address| {
        any = true;
        address.to_canonical().is_loopback()
    });
    any && on_loopback
}

/// proc_pid_net(5). Listeners come first in the table, so that connections are never read.
fn listeners(table: impl BufRead, port: u16) -> impl Iterator<Item = IpAddr> {
    let lines = table.lines().skip(1).map_while(Result::ok).take(LINES_MAX);
    let listeners = lines.map_while(|line| {
        let mut words = line.split_ascii_whitespace();
        let local = words.nth(1)?.to_owned();
        (words.nth(1)? == LISTENS).then_some(local)
    });
    listeners.filter_map(move |local| {
        let (address, listened) = local.split_once(':')?;
        (u16::from_str_radix(listened, 16).ok()? == port).then(|| parse(address)).flatten()
    })
}

/// Words of 32 bits as this machine has them in memory.
fn parse(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
        }
        _ => None,
    }
}
