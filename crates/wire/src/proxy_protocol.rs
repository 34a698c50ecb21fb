//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): what a load balancer says of a connection before
//! the client's first byte.
//!
//! Strict where lenience would let a client lie: one form of each number, no byte beyond the header, lengths that fit.
//! What a header adds to the addresses (TLVs) is skipped within its bounds; a checksum, where there is one, is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[cfg(test)]
mod tests;

/// Of version 1, with its line end (2.1 of the specification).
pub const V1_BYTES_MAX: usize = 107;
/// Of version 2, with its fixed part. Addresses take at most 216 bytes; certificates in TLVs may be long.
pub const V2_BYTES_MAX: usize = 16 + 4096;

const V1_START: &[u8] = b"PROXY ";
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;
const TLV_CRC32C: u8 = 0x03;

/// Who the connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The balancer itself (its health check), or it does not know: the connection is what it seems to be.
    Itself,
    Client {
        source: SocketAddr,
        destination: SocketAddr,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    Incomplete,
    /// The client's own bytes begin after `bytes`.
    Complete {
        origin: Origin,
        bytes: usize,
    },
}

/// No header, or one that nobody may believe; the reason in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// `bytes`: all that has come so far. What is neither version is malformed with its first byte that shows it.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if begins(bytes, SIGNATURE) {
        return parse_v2(bytes);
    }
    if begins(bytes, V1_START) {
        return parse_v1(bytes);
    }
    Err(Malformed("no header of the PROXY protocol"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// The header that says so: `UNKNOWN`, or `LOCAL`, for [`Origin::Itself`].
pub fn encode(version: Version, origin: &Origin) -> Vec<u8> {
    let addresses = match *origin {
        Origin::Itself => None,
        Origin::Client { source, destination } => Some(of_one_family(source, destination)),
    };
    match version {
        Version::V1 => encode_v1(addresses),
        Version::V2 => encode_v2(addresses),
    }
}

/// A header has addresses of one family: where they differ, both are of IPv6.
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (source, destination) = (canonical(source), canonical(destination));
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    match source.is_ipv4() == destination.is_ipv4() {
        true => (source, destination),
        false => (mapped(source), mapped(destination)),
    }
}

fn encode_v1(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = addresses else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn encode_v2(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = addresses else {
        return [&SIGNATURE[..], &[0x20, 0x00, 0, 0]].concat();
    };
    let mut rest = Vec::with_capacity(2 * 16 + 4);
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => rest.extend(ip.octets()),
            IpAddr::V6(ip) => rest.extend(ip.octets()),
        }
    }
    rest.extend(source.port().to_be_bytes());
    rest.extend(destination.port().to_be_bytes());
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    let length = u16::try_from(rest.len()).expect("36 at the most").to_be_bytes();
    [&SIGNATURE[..], &[0x21, family], &length, &rest].concat()
}

/// As far as there is anything.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let seen = bytes.len().min(with.len());
    bytes[..seen] == with[..seen]
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let seen = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return match seen.len() < V1_BYTES_MAX {
            true => Ok(Parsed::Incomplete),
            false => Err(Malformed("a line that is too long")),
        };
    };
    let line = seen[..end].strip_suffix(b"\r").ok_or(Malformed("a line without CR"))?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed("a line that is no ASCII"))?;
    let origin = match line.strip_prefix("PROXY ") {
        // Whatever follows is to be ignored.
        Some(rest) if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") => Origin::Itself,
        Some(rest) => client_v1(rest)?,
        None => return Err(Malformed("a line without addresses")),
    };
    Ok(Parsed::Complete { origin, bytes: end + 1 })
}

fn client_v1(text: &str) -> Result<Origin, Malformed> {
    let mut words = text.split(' ');
    let mut word = || words.next().ok_or(Malformed("a line without addresses"));
    let family = word()?;
    let (source, destination) = (word()?, word()?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(Malformed("a line with more than addresses"));
    }
    let address = |text: &str| -> Result<IpAddr, Malformed> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::from).map_err(|_| Malformed("no IPv4 address")),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::from).map_err(|_| Malformed("no IPv6 address")),
            _ => Err(Malformed("an unknown family of addresses")),
        }
    };
    Ok(Origin::Client {
        source: SocketAddr::new(address(source)?, source_port),
        destination: SocketAddr::new(address(destination)?, destination_port),
    })
}

/// Decimal, without sign or leading zeros.
fn port(text: &str) -> Result<u16, Malformed> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(Malformed("no port"))
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some((command, family)) = bytes.get(12).zip(bytes.get(13)) else { return Ok(Parsed::Incomplete) };
    let is_proxied = match command {
        0x20 => false,
        0x21 => true,
        _ => return Err(Malformed("an unknown version or command")),
    };
    // Unspecified, or a family (1 to 3) over a stream or datagrams.
    if !matches!(family, 0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32) {
        return Err(Malformed("an unknown family of addresses"));
    }
    let Some(length) = bytes.get(14..FIXED_BYTES) else { return Ok(Parsed::Incomplete) };
    let total = FIXED_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if total > V2_BYTES_MAX {
        return Err(Malformed("a header that is too long"));
    }
    let Some(header) = bytes.get(..total) else { return Ok(Parsed::Incomplete) };
    let complete = |origin| Ok(Parsed::Complete { origin, bytes: total });
    // Of these, nothing but the length is to be looked at.
    if !is_proxied || *family == 0x00 {
        return complete(Origin::Itself);
    }
    let addresses_bytes = match family >> 4 {
        1 => 12,
        2 => 36,
        _ => 216,
    };
    let Some((addresses, tlvs)) = header[FIXED_BYTES..].split_at_checked(addresses_bytes) else {
        return Err(Malformed("a header without addresses"));
    };
    check_tlvs(header, tlvs)?;
    complete(match family {
        0x11 => client_v2(addresses, |bytes: [u8; 4]| Ipv4Addr::from(bytes).into()),
        0x21 => client_v2(addresses, |bytes: [u8; 16]| Ipv6Addr::from(bytes).into()),
        // Unix sockets, datagrams: no address of a client of ours.
        _ => Origin::Itself,
    })
}

/// Two addresses, then two ports; `addresses` has exactly that length.
fn client_v2<const N: usize>(addresses: &[u8], address: impl Fn([u8; N]) -> IpAddr) -> Origin {
    let part = |at: usize| addresses[at..at + N].try_into().expect("it has that length");
    let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
    Origin::Client {
        source: SocketAddr::new(address(part(0)), port(2 * N)),
        destination: SocketAddr::new(address(part(N)), port(2 * N + 2)),
    }
}

/// `tlvs` are the last bytes of `header`.
fn check_tlvs(header: &[u8], tlvs: &[u8]) -> Result<(), Malformed> {
    let mut rest = tlvs;
    let mut has_checksum = false;
    while let Some((kind, after)) = rest.split_first() {
        let value = after
            .split_first_chunk::<2>()
            .and_then(|(length, after)| after.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        let (value, after) = value.ok_or(Malformed("an addition that ends beyond the header"))?;
        if *kind == TLV_CRC32C {
            let told: [u8; 4] = value.try_into().map_err(|_| Malformed("a checksum of another length"))?;
            if std::mem::replace(&mut has_checksum, true) {
                return Err(Malformed("two checksums"));
            }
            let at = header.len() - after.len() - 4;
            if crc32c(&header[..at], &header[at + 4..]) != u32::from_be_bytes(told) {
                return Err(Malformed("a wrong checksum"));
            }
        }
        rest = after;
    }
    Ok(())
}

/// Of `before`, four zeros (the checksum's own place) and `after` (RFC 4960, appendix B: reflected, polynomial 0x1EDC6F41).
fn crc32c(before: &[u8], after: &[u8]) -> u32 {
    let bytes = before.iter().chain(&[0; 4]).chain(after);
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
