//! The nftables of a seal, written as netlink messages (no `nft` binary): what is redirected to the sidecar, what is
//! the application's own, and that all else is logged and refused. Numbers are those of `linux/netfilter/nf_tables.h`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::SockProtocol;
use sinew_spec::application::Transport;
use sinew_spec::proxy::{MESH_ADDRESS, OWN_ADDRESS, RESERVED_PORT, RESOLVER_ADDRESS, VIRTUAL_NETWORK};
use sinew_spec::seal::SealEgress;

use super::netlink::{self, APPEND, CREATE, Messages};

/// What was refused is read from this group of NFLOG.
const LOG_GROUP: u16 = 1;
/// Enough for the headers, which name the destination.
const LOG_BYTES: u32 = 96;

/// Loopback, the seal's own address, and where callers come from: there answers go.
const OWN: [(IpAddr, u8); 6] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V4(OWN_ADDRESS.0), 32),
    (IpAddr::V6(OWN_ADDRESS.1), 128),
    (IpAddr::V4(MESH_ADDRESS.0), 32),
    (IpAddr::V6(MESH_ADDRESS.1), 128),
];

const TABLE: &str = "sinew";
const REDIRECT: &str = "redirect";
const REFUSE: &str = "refuse";

const SUBSYSTEM_NFTABLES: u16 = 10;
const SUBSYSTEM_LOG: u16 = 4;
const FAMILY_INET: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// Where datagrams to the `index`th declared UDP destination arrive.
pub fn udp_port(index: usize) -> u16 {
    RESERVED_PORT - 1 - index as u16
}

pub fn load(egress: &[SealEgress], udp_sockets: usize) -> io::Result<()> {
    let mut rules = Rules { messages: Messages::new() };
    rules.batch(0x10);
    rules.table();
    rules.chain(REDIRECT, "nat", -100);
    rules.chain(REFUSE, "filter", 0);

    // These are the application's own, also where a declared network is so wide that it holds it: the sidecar would
    // dial the host's.
    for own in OWN {
        rules.rule(REDIRECT, |e| {
            e.destination_in(own.0, own.1);
            e.verdict(VERDICT_ACCEPT);
        });
    }
    let (virtual_network, prefix) = VIRTUAL_NETWORK;
    rules.redirect(virtual_network.into(), prefix, PROTOCOL_TCP, None, RESERVED_PORT);
    rules.redirect(RESOLVER_ADDRESS.into(), 32, PROTOCOL_UDP, Some(53), RESERVED_PORT);
    let mut udp = 0..udp_sockets;
    for egress in egress {
        let (network, prefix, port) = (egress.network, egress.prefix, Some(egress.port));
        match egress.transport {
            Transport::Tcp => rules.redirect(network, prefix, PROTOCOL_TCP, port, RESERVED_PORT),
            Transport::Udp => {
                let index =
                    udp.next().ok_or_else(|| io::Error::other("fewer sockets than UDP destinations"))?;
                rules.redirect(network, prefix, PROTOCOL_UDP, port, udp_port(index));
            }
        }
    }

    // What was redirected may reach our sockets; who calls their ports directly may not.
    rules.rule(REFUSE, |e| {
        e.connection_was_redirected();
        e.verdict(VERDICT_ACCEPT);
    });
    for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
        let lowest =
            if protocol == PROTOCOL_TCP { RESERVED_PORT } else { RESERVED_PORT - udp_sockets as u16 };
        rules.rule(REFUSE, |e| {
            e.transport_is(protocol);
            e.port_between(lowest, RESERVED_PORT);
            e.reject(protocol);
        });
    }
    for own in OWN {
        rules.rule(REFUSE, |e| {
            e.destination_in(own.0, own.1);
            e.verdict(VERDICT_ACCEPT);
        });
    }
    rules.rule(REFUSE, |e| e.log());
    for protocol in [PROTOCOL_TCP, PROTOCOL_UDP] {
        rules.rule(REFUSE, |e| {
            if protocol == PROTOCOL_TCP {
                e.transport_is(protocol);
            }
            e.reject(protocol);
        });
    }
    // The last rule's answer says that everything before it was taken.
    rules.messages.acknowledge();
    rules.batch(0x11);
    netlink::exchange(&netlink::open(SockProtocol::NetlinkNetFilter)?, rules.messages)
}

/// A netlink socket that receives what was refused.
pub fn open_log() -> io::Result<OwnedFd> {
    const CONFIGURE: u16 = (SUBSYSTEM_LOG << 8) | 1;
    const COMMAND: u16 = 1;
    const BIND: u8 = 1;
    const MODE: u16 = 2;
    const COPY_PACKET: u8 = 2;
    const QUEUE_THRESHOLD: u16 = 5;
    let socket = netlink::open(SockProtocol::NetlinkNetFilter)?;
    let [high, low] = LOG_GROUP.to_be_bytes();
    let mut messages = Messages::new();
    messages.begin(CONFIGURE, 0, &[0, 0, high, low]);
    messages.attribute(COMMAND, &[BIND]);
    messages.begin(CONFIGURE, 0, &[0, 0, high, low]);
    let mode = [&LOG_BYTES.to_be_bytes()[..], &[COPY_PACKET, 0]].concat();
    messages.attribute(MODE, &mode);
    // Told at once, not when a few have come together.
    messages.number(QUEUE_THRESHOLD, 1);
    messages.acknowledge();
    netlink::exchange(&socket, messages)?;
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(socket)
}

const VERDICT_ACCEPT: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
const REGISTER: u32 = 1;

struct Rules {
    messages: Messages,
}

impl Rules {
    fn begin(&mut self, message: u16, flags: u16) {
        self.messages.begin((SUBSYSTEM_NFTABLES << 8) | message, flags, &[FAMILY_INET, 0, 0, 0]);
    }

    /// 0x10 begins a transaction, 0x11 ends it.
    fn batch(&mut self, kind: u16) {
        let [high, low] = SUBSYSTEM_NFTABLES.to_be_bytes();
        self.messages.begin(kind, 0, &[0, 0, high, low]);
    }

    fn table(&mut self) {
        self.begin(0, CREATE);
        self.messages.text(1, TABLE);
    }

    fn chain(&mut self, name: &str, kind: &str, priority: i32) {
        const HOOK_OUTPUT: u32 = 3;
        self.begin(3, CREATE);
        self.messages.text(1, TABLE);
        self.messages.text(3, name);
        self.messages.nested(4, |hook| {
            hook.number(1, HOOK_OUTPUT);
            hook.number(2, priority as u32);
        });
        self.messages.number(5, VERDICT_ACCEPT);
        self.messages.text(7, kind);
    }

    fn rule(&mut self, chain: &str, fill: impl FnOnce(&mut Expressions<'_>)) {
        self.begin(6, CREATE | APPEND);
        self.messages.text(1, TABLE);
        self.messages.text(2, chain);
        self.messages.nested(4, |list| fill(&mut Expressions { messages: list }));
    }

    fn redirect(&mut self, network: IpAddr, prefix: u8, protocol: u8, port: Option<u16>, to: u16) {
        self.rule(REDIRECT, |e| {
            e.destination_in(network, prefix);
            e.transport_is(protocol);
            if let Some(port) = port {
                e.port_between(port, port);
            }
            e.immediate(&to.to_be_bytes());
            e.add("redir", |data| data.number(1, REGISTER));
        });
    }
}

struct Expressions<'a> {
    messages: &'a mut Messages,
}

impl Expressions<'_> {
    fn add(&mut self, name: &str, fill: impl FnOnce(&mut Messages)) {
        self.messages.nested(1, |expression| {
            expression.text(1, name);
            expression.nested(2, fill);
        });
    }

    /// The register compared with `value`: 0 equal, 1 not equal, 3 at most, 5 at least.
    fn compare(&mut self, operation: u32, value: &[u8]) {
        self.add("cmp", |data| {
            data.number(1, REGISTER);
            data.number(2, operation);
            data.nested(3, |wrapped| wrapped.attribute(1, value));
        });
    }

    fn meta(&mut self, key: u32) {
        self.add("meta", |data| {
            data.number(2, key);
            data.number(1, REGISTER);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32) {
        self.add("payload", |data| {
            data.number(1, REGISTER);
            data.number(2, base);
            data.number(3, offset);
            data.number(4, length);
        });
    }

    fn mask(&mut self, mask: &[u8]) {
        self.add("bitwise", |data| {
            data.number(1, REGISTER);
            data.number(2, REGISTER);
            data.number(3, mask.len() as u32);
            data.nested(4, |wrapped| wrapped.attribute(1, mask));
            data.nested(5, |wrapped| wrapped.attribute(1, &vec![0; mask.len()]));
        });
    }

    fn immediate(&mut self, value: &[u8]) {
        self.add("immediate", |data| {
            data.number(1, REGISTER);
            data.nested(2, |wrapped| wrapped.attribute(1, value));
        });
    }

    fn verdict(&mut self, code: u32) {
        self.add("immediate", |data| {
            data.number(1, REGISTER_VERDICT);
            data.nested(2, |wrapped| wrapped.nested(2, |verdict| verdict.number(1, code)));
        });
    }

    fn destination_in(&mut self, network: IpAddr, prefix: u8) {
        const META_FAMILY: u32 = 15;
        const BASE_NETWORK: u32 = 1;
        let (family, offset, address) = match network {
            IpAddr::V4(address) => (libc::NFPROTO_IPV4, 16, address.octets().to_vec()),
            IpAddr::V6(address) => (libc::NFPROTO_IPV6, 24, address.octets().to_vec()),
        };
        self.meta(META_FAMILY);
        self.compare(0, &[family as u8]);
        if prefix == 0 {
            return;
        }
        let bits = address.len() * 8;
        let mask = mask(prefix.min(bits as u8), address.len());
        let network: Vec<u8> = address.iter().zip(&mask).map(|(a, m)| a & m).collect();
        self.payload(BASE_NETWORK, offset, address.len() as u32);
        if usize::from(prefix) < bits {
            self.mask(&mask);
        }
        self.compare(0, &network);
    }

    fn transport_is(&mut self, protocol: u8) {
        const META_TRANSPORT: u32 = 16;
        self.meta(META_TRANSPORT);
        self.compare(0, &[protocol]);
    }

    fn port_between(&mut self, lowest: u16, highest: u16) {
        const BASE_TRANSPORT: u32 = 2;
        self.payload(BASE_TRANSPORT, 2, 2);
        if lowest == highest {
            self.compare(0, &lowest.to_be_bytes());
        } else {
            self.compare(5, &lowest.to_be_bytes());
            self.compare(3, &highest.to_be_bytes());
        }
    }

    fn connection_was_redirected(&mut self) {
        const KEY_STATUS: u32 = 2;
        const STATUS_DESTINATION_TRANSLATED: u32 = 1 << 5;
        self.add("ct", |data| {
            data.number(2, KEY_STATUS);
            data.number(1, REGISTER);
        });
        self.mask(&STATUS_DESTINATION_TRANSLATED.to_ne_bytes());
        self.compare(1, &0u32.to_ne_bytes());
    }

    fn log(&mut self) {
        self.add("log", |data| {
            data.attribute(1, &LOG_GROUP.to_be_bytes());
            data.number(3, LOG_BYTES);
            data.attribute(4, &1u16.to_be_bytes());
        });
    }

    /// TCP is reset; what else there is gets an ICMP "port unreachable" of its family.
    fn reject(&mut self, protocol: u8) {
        const TCP_RESET: u32 = 1;
        const UNREACHABLE: u32 = 2;
        const CODE_PORT: u8 = 1;
        self.add("reject", |data| {
            data.number(1, if protocol == PROTOCOL_TCP { TCP_RESET } else { UNREACHABLE });
            data.attribute(2, &[CODE_PORT]);
        });
    }
}

/// The first `prefix` bits set.
fn mask(prefix: u8, bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|index| {
            let bits = usize::from(prefix).saturating_sub(index * 8).min(8);
            if bits == 0 { 0 } else { 0xff << (8 - bits) }
        })
        .collect()
}
