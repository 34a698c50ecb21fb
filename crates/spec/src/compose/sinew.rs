//! `x-sinew:` of a service: what Compose has no words for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::application::{
    BuildCommand, Egress, EgressHost, Gateway, Probe, Protocol, ProxyHeader, Transport,
};
use crate::proxy::{Network, VIRTUAL_NETWORK, Workers};

use super::fields::{Field, Keys};
use super::health::OverNetwork;
use super::keys::Section;
use super::problem::quote;
use super::service::{Context, Draft, command_words, is_host_name};
use super::source::Findings;
use super::yaml::Value;
use super::{PathKind, paths};

const EGRESS_MAX: usize = 256;
/// For one port.
const ACCEPT_PROXY_MAX: usize = 64;
const EGRESS_SYNTAX: &str =
    "write `host:port`, `10.0.0.0/8:502` or `[2001:db8::1]:53/udp`; `/tcp` is the default";

/// Returns the health check over the network.
pub(super) fn read(keys: &Keys<'_>, draft: &mut Draft, context: &mut Context<'_>) -> Option<OverNetwork> {
    // Ports that are declared with a protocol of their own.
    for port in &draft.service.published {
        if let Some(protocol) = port.protocol {
            draft.service.protocols.insert(port.target, protocol);
        }
    }
    let sinew = keys.get_filled("x-sinew").and_then(|field| field.keys(Section::Sinew, context.findings));
    let sinew = sinew?;
    if let Some(field) = sinew.get("build") {
        draft.service.build = build(field, context);
    }
    if let Some(field) = sinew.get("protocol") {
        protocol(field, draft, context.findings);
    }
    if let Some(field) = sinew.get("send_proxy") {
        send_proxy(field, draft, context.findings);
    }
    for port in &mut draft.service.published {
        port.protocol = port.protocol.or_else(|| draft.service.protocols.get(&port.target).copied());
    }
    if let Some(field) = sinew.get("accept_proxy") {
        accept_proxy(field, draft, context.findings);
    }
    if let Some(field) = sinew.get("egress") {
        for item in field.items_or_one(context.findings).unwrap_or_default() {
            let entry = match item.node.value {
                Value::Mapping(_) => long_egress(&item, context.findings),
                _ => short_egress(&item, context.findings),
            };
            let Some(entry) = entry else { continue };
            if draft.service.egress.len() == EGRESS_MAX {
                item.problem(context.findings, format!("there are more than {EGRESS_MAX} destinations"));
                break;
            }
            if !draft.service.egress.contains(&entry) {
                draft.service.egress.push(entry);
                draft.egress_at.push((item.at(), item.path.clone()));
            }
        }
    }
    if let Some(field) = sinew.get("read") {
        for item in field.items_or_one(context.findings).unwrap_or_default() {
            let Some(text) = item.filled(context.findings) else { continue };
            let Some(path) = paths::host(&item, text, context.input, context.findings) else { continue };
            if context.input.reader.kind(&path).is_none() {
                item.problem(context.findings, format!("{} does not exist", path.display()));
                continue;
            }
            if !draft.service.read.contains(&path) {
                draft.service.read.push(path);
            }
        }
    }
    draft.service.workers = sinew.get("workers").and_then(|field| workers(field, context.findings));
    draft.service.handover_drain_ms =
        sinew.get("handover_drain").and_then(|field| handover_drain(field, context.findings));
    let health = health(sinew.get("health")?, context.findings)?;
    if let (Probe::Http { port, .. }, at, path) = &health
        && draft.service.send_proxy.contains_key(port)
    {
        let what =
            format!("port {port} expects a header of the PROXY protocol, and health checks come without one");
        context
            .findings
            .warning(*at, path.clone(), what)
            .hint(format!("write `health: {{tcp: {port}}}`, or a command"));
    }
    Some(health)
}

/// `x-sinew` at the top.
pub(super) fn gateway(keys: &Keys<'_>, findings: &mut Findings) -> Gateway {
    let sinew = keys.get_filled("x-sinew").and_then(|field| field.keys(Section::SinewTop, findings));
    let gateway = sinew.as_ref().and_then(|keys| keys.get_filled("gateway"));
    let gateway = gateway.and_then(|field| field.keys(Section::SinewGateway, findings));
    let field = |key| gateway.as_ref().and_then(|keys| keys.get(key));
    Gateway {
        workers: field("workers").and_then(|field| workers(field, findings)),
        handover_drain_ms: field("handover_drain").and_then(|field| handover_drain(field, findings)),
    }
}

fn handover_drain(field: &Field<'_>, findings: &mut Findings) -> Option<u64> {
    let ms = field.duration_ms(findings)?;
    if ms == 0 {
        field
            .problem(findings, "requests under way would be cut")
            .hint("write how long they may go on in a process whose successor serves: `10m`");
        return None;
    }
    Some(ms)
}

fn workers(field: &Field<'_>, findings: &mut Findings) -> Option<Workers> {
    let text = field.number_or_text(findings, "a number, or `auto`")?;
    text.parse()
        .map_err(|problem: String| {
            field
                .problem(findings, problem)
                .hint("a worker is a thread; `auto` is one for each core that the proxy may use");
        })
        .ok()
}

/// One command: a string, a list of words, or a mapping. Several: a list of strings with spaces, of lists or mappings.
fn build(field: &Field<'_>, context: &mut Context<'_>) -> Vec<BuildCommand> {
    let Value::Sequence(_) = field.node.value else {
        return one_build(field, context).into_iter().collect();
    };
    let items = field.items(context.findings).unwrap_or_default();
    let word =
        |item: &&Field<'_>| matches!(&item.node.value, Value::Scalar { text, .. } if !text.contains(' '));
    let words = items.iter().filter(word).count();
    if words == items.len() {
        return one_build(field, context).into_iter().collect();
    }
    if words > 0 {
        field
            .problem(context.findings, "the list mixes words and whole commands")
            .hint("one command is `[make, all]`; several are `[\"make clean\", \"make all\"]` or `[[make], [make, all]]`");
        return Vec::new();
    }
    items.iter().filter_map(|item| one_build(item, context)).collect()
}

fn one_build(field: &Field<'_>, context: &mut Context<'_>) -> Option<BuildCommand> {
    let folder = context.findings.origin(field.at()).folder.clone();
    let Value::Mapping(_) = field.node.value else {
        return Some(BuildCommand { command: build_words(field, context.findings)?, working_dir: folder });
    };
    let keys = field.keys(Section::SinewBuild, context.findings)?;
    let Some(command) = keys.get("command") else {
        field.problem(context.findings, "a build needs a `command`");
        return None;
    };
    let working_dir = match keys.get("working_dir") {
        None => Some(folder),
        Some(field) => {
            let text = field.filled(context.findings)?;
            let path = paths::host(field, text, context.input, context.findings)?;
            paths::must_exist(field, &path, PathKind::Folder, context.input, context.findings).then_some(path)
        }
    };
    Some(BuildCommand { command: build_words(command, context.findings)?, working_dir: working_dir? })
}

fn build_words(field: &Field<'_>, findings: &mut Findings) -> Option<Vec<String>> {
    let words = command_words(field, findings)?;
    if words.first().is_none_or(String::is_empty) {
        field.problem(findings, "the command is empty");
        return None;
    }
    Some(words)
}

fn protocol(field: &Field<'_>, draft: &mut Draft, findings: &mut Findings) {
    let declared: BTreeMap<u16, Protocol> = if let Value::Mapping(entries) = &field.node.value {
        let mut declared = BTreeMap::new();
        for entry in entries {
            let item = Field::of(entry, &field.path);
            let port = entry.key.parse::<u16>().ok().filter(|port| *port > 0);
            if port.is_none() {
                let what = format!("{} is not a port", quote(&entry.key));
                findings
                    .problem(entry.key_at, item.path.clone(), what)
                    .hint("write `protocol: {8000: http}`");
            }
            if let Some((port, protocol)) = port.zip(protocol_word(&item, findings)) {
                declared.insert(port, protocol);
            }
        }
        declared
    } else {
        let Some(protocol) = protocol_word(field, findings) else { return };
        let published = draft.service.published.iter().map(|port| port.target);
        let ports: Vec<u16> = published.chain(draft.service.expose.iter().copied()).collect();
        if ports.is_empty() {
            field
                .problem(findings, "the service declares no port that speaks the protocol")
                .hint("name the port: `protocol: {8000: http}`, or list it under `expose`");
        }
        ports.into_iter().map(|port| (port, protocol)).collect()
    };
    for (port, protocol) in declared {
        if let Some(other) = draft.service.protocols.insert(port, protocol)
            && other != protocol
        {
            let what = format!("port {port} is declared with another protocol under `ports`");
            field.problem(findings, what).hint("say it in one place");
        }
    }
}

fn protocol_word(field: &Field<'_>, findings: &mut Findings) -> Option<Protocol> {
    if let Value::Scalar { text, .. } = &field.node.value
        && matches!(text.to_ascii_lowercase().as_str(), "https" | "tls" | "ssl" | "wss" | "grpcs")
    {
        field
            .problem(findings, format!("`{}` cannot be {}", field.name(), quote(text)))
            .hint("write `tcp`: TLS passes as it is, and nobody on the way sees what is in it");
        return None;
    }
    field.word(findings, &Protocol::WORDS)
}

/// `{8000: [10.0.0.0/8, 192.0.2.7]}`
fn accept_proxy(field: &Field<'_>, draft: &mut Draft, findings: &mut Findings) {
    let Value::Mapping(entries) = &field.node.value else {
        field
            .problem(findings, "whom to believe is said for each port")
            .hint("write `accept_proxy: {8000: [10.0.0.0/8]}`, with the addresses of the load balancers");
        return;
    };
    for entry in entries {
        let item = Field::of(entry, &field.path);
        let port = entry.key.parse::<u16>().ok();
        let Some(port) =
            port.filter(|port| draft.service.published.iter().any(|known| known.target == *port))
        else {
            let what = format!("{} is no published port of the service", quote(&entry.key));
            findings
                .problem(entry.key_at, item.path.clone(), what)
                .hint("name the port inside, the one after the colon under `ports`");
            continue;
        };
        let mut networks = Vec::new();
        let sources = item.items_or_one(findings);
        // One with a problem of its own has said what is wrong.
        if sources.as_ref().is_some_and(Vec::is_empty) {
            item.problem(findings, "nobody is believed")
                .hint("leave the port out, or name the load balancers");
        }
        for source in sources.unwrap_or_default() {
            let Some(text) = source.filled(findings) else { continue };
            match egress_host(&source, text, findings) {
                Some(EgressHost::Network { address, prefix }) => {
                    if prefix == 0 {
                        findings
                            .warning(source.at(), source.path.clone(), format!("{} is everybody", quote(text)))
                            .hint("whoever connects may say that it is somebody else: name the load balancers alone");
                    }
                    networks.push(Network { address, prefix });
                }
                Some(EgressHost::Name(_)) => {
                    let what = format!("{} is not an address or a network", quote(text));
                    source.problem(findings, what).hint("write `192.0.2.7` or `10.0.0.0/8`");
                }
                None => {}
            }
            if networks.len() > ACCEPT_PROXY_MAX {
                source.problem(findings, format!("there are more than {ACCEPT_PROXY_MAX} networks"));
                break;
            }
        }
        draft.service.accept_proxy.insert(port, networks);
    }
}

/// `{8000: v2}`
fn send_proxy(field: &Field<'_>, draft: &mut Draft, findings: &mut Findings) {
    let Value::Mapping(entries) = &field.node.value else {
        field
            .problem(findings, "the version is said for each port")
            .hint("write `send_proxy: {8000: v2}`, with the ports inside that want the header");
        return;
    };
    for entry in entries {
        let item = Field::of(entry, &field.path);
        let Some(port) = entry.key.parse::<u16>().ok().filter(|port| *port > 0) else {
            let what = format!("{} is not a port", quote(&entry.key));
            findings
                .problem(entry.key_at, item.path.clone(), what)
                .hint("write `send_proxy: {8000: v2}`, with the ports inside that want the header");
            continue;
        };
        let Some(version) = item.word(findings, &ProxyHeader::WORDS) else { continue };
        let published = draft.service.published.iter().filter(|known| known.target == port);
        let declared = published.filter_map(|known| known.protocol);
        let declared =
            declared.chain(draft.service.protocols.get(&port).copied()).find(|known| known.is_http());
        if let Some(declared) = declared {
            let word =
                Protocol::WORDS.iter().find(|(_, known)| *known == declared).map_or("http", |found| found.0);
            let what = format!("port {port} is declared `{word}`, whose connections serve many callers");
            item.problem(findings, what).hint(format!(
                "write `protocol: {{{port}: tcp}}`, or leave it out: each caller's bytes follow the header as they are"
            ));
        }
        draft.service.protocols.insert(port, Protocol::Tcp);
        draft.service.send_proxy.insert(port, version);
    }
}

fn health(field: &Field<'_>, findings: &mut Findings) -> Option<OverNetwork> {
    let keys = field.keys(Section::SinewHealth, findings)?;
    let (http, tcp) = (keys.get("http"), keys.get("tcp"));
    let probe = match (http, tcp) {
        (Some(_), Some(tcp)) => {
            tcp.problem(findings, "the service has two health checks").hint("keep `http` or `tcp`");
            return None;
        }
        (None, None) => {
            field
                .problem(findings, "the health check has neither `http` nor `tcp`")
                .hint("write `{http: {port: 8000, path: /health}}` or `{tcp: 8000}`");
            return None;
        }
        (None, Some(tcp)) => Probe::Tcp { port: tcp.port(findings)? },
        (Some(http), None) => {
            let keys = http.keys(Section::SinewHealthHttp, findings)?;
            let Some(port) = keys.get("port") else {
                http.problem(findings, "the health check needs a `port`");
                return None;
            };
            let port = port.port(findings);
            let path = match keys.get("path") {
                None => Some("/".to_owned()),
                Some(field) => health_path(field, findings),
            };
            Probe::Http { port: port?, path: path? }
        }
    };
    Some((probe, field.at(), field.path.clone()))
}

fn health_path(field: &Field<'_>, findings: &mut Findings) -> Option<String> {
    let text = field.filled(findings)?;
    if text.contains("://") {
        field
            .problem(findings, "`path` is a path, found a URL")
            .hint("write what follows the host, like `/health`");
        return None;
    }
    if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('#') {
        field
            .problem(findings, format!("{} is not the path of a request", quote(text)))
            .hint("it begins with `/`, like `/health`");
        return None;
    }
    Some(text.to_owned())
}

fn short_egress(item: &Field<'_>, findings: &mut Findings) -> Option<Egress> {
    let text = item.number_or_text(findings, "a destination like `host:port`")?.trim();
    if text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) {
        item.problem(findings, format!("{} names no host", quote(text))).hint(EGRESS_SYNTAX);
        return None;
    }
    if text.contains("://") {
        let problem = item.problem(findings, format!("{} is a URL", quote(text)));
        problem.hint("write the host and the port alone: `example.com:443`");
        return None;
    }
    let (host, port, transport) = match split_egress(text) {
        Some(parts) => parts,
        None => {
            let hint = if text.contains(':') {
                EGRESS_SYNTAX.to_owned()
            } else {
                format!("name the port, like `{text}:443`")
            };
            item.problem(findings, format!("{} has no port", quote(text))).hint(hint);
            return None;
        }
    };
    let transport = match transport {
        None | Some("tcp") => Transport::Tcp,
        Some("udp") => Transport::Udp,
        Some(other) => {
            let what = format!("{} is not a transport", quote(other));
            item.problem(findings, what).hint("it is `tcp` or `udp`");
            return None;
        }
    };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
        item.problem(findings, format!("{} is not a port", quote(port))).hint(EGRESS_SYNTAX);
        return None;
    };
    let host = egress_host(item, host, findings)?;
    checked(item, Egress { host, port, transport }, findings)
}

/// `host:port[/transport]`; the host may be a network (`10.0.0.0/8`) and stand in brackets.
fn split_egress(text: &str) -> Option<(&str, &str, Option<&str>)> {
    let (host, rest) = if text.starts_with('[') {
        let end = text.find(']')?;
        let colon = end + text[end..].find(':')?;
        (&text[..colon], &text[colon + 1..])
    } else {
        text.split_once(':')?
    };
    match rest.split_once('/') {
        Some((port, transport)) => Some((host, port, Some(transport))),
        None => Some((host, rest, None)),
    }
}

fn long_egress(item: &Field<'_>, findings: &mut Findings) -> Option<Egress> {
    let keys = item.keys(Section::SinewEgress, findings)?;
    let mut need = |name: &str| {
        let field = keys.get(name);
        if field.is_none() {
            item.problem(findings, format!("a destination needs a `{name}`"));
        }
        field
    };
    let (host, port) = (need("host"), need("port"));
    let (host_field, port) = (host?, port?.port(findings));
    let text = host_field.filled(findings)?;
    let host = egress_host(host_field, text, findings);
    let transport = match keys.get("transport") {
        None => Some(Transport::Tcp),
        Some(field) => field.word(findings, &[("tcp", Transport::Tcp), ("udp", Transport::Udp)]),
    };
    checked(host_field, Egress { host: host?, port: port?, transport: transport? }, findings)
}

fn egress_host(field: &Field<'_>, text: &str, findings: &mut Findings) -> Option<EgressHost> {
    // `[::1]`, `[2001:db8::]/32`, `[2001:db8::/32]`
    let bare: String = text.chars().filter(|character| !matches!(character, '[' | ']')).collect();
    let (address, prefix) = match bare.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (bare.as_str(), None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        let named = prefix.is_none() && is_host_name_long(&bare);
        let like_address = bare.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'/'));
        if named && !like_address {
            return Some(EgressHost::Name(bare.to_ascii_lowercase()));
        }
        let hint = if text.contains('*') {
            "patterns are not supported: name each host, or a network like `10.0.0.0/8`"
        } else {
            EGRESS_SYNTAX
        };
        field.problem(findings, format!("{} is not a host, an address or a network", quote(text))).hint(hint);
        return None;
    };
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix.map(str::parse::<u8>) {
        None => whole,
        Some(Ok(prefix)) if prefix <= whole => prefix,
        Some(_) => {
            let what = format!("the prefix of {} must be between 0 and {whole}", quote(text));
            field.problem(findings, what).hint("a network is like `10.0.0.0/8`");
            return None;
        }
    };
    let network = masked(address, prefix);
    if network != address {
        let what = format!("{} is not the beginning of a network", quote(text));
        field
            .problem(findings, what)
            .hint(format!("write `{network}/{prefix}`, or `{address}` for the one address"));
        return None;
    }
    Some(EgressHost::Network { address, prefix })
}

fn is_host_name_long(text: &str) -> bool {
    const LENGTH_MAX: usize = 253;
    let text = text.strip_suffix('.').unwrap_or(text);
    !text.is_empty() && text.len() <= LENGTH_MAX && text.split('.').all(is_host_name)
}

/// What can be written and not be done.
fn checked(field: &Field<'_>, egress: Egress, findings: &mut Findings) -> Option<Egress> {
    let own = "inside of a seal that is the service itself; to reach a program on this machine write the machine's name or address";
    match &egress.host {
        EgressHost::Name(name) if name == "localhost" || name.ends_with(".localhost") => {
            field.problem(findings, "`localhost` cannot be reached").hint(own);
            None
        }
        EgressHost::Network { address, .. } if address.is_loopback() => {
            field.problem(findings, format!("`{address}` cannot be reached")).hint(own);
            None
        }
        EgressHost::Network { address: IpAddr::V4(address), prefix }
            if *prefix >= VIRTUAL_NETWORK.1
                && masked((*address).into(), VIRTUAL_NETWORK.1) == IpAddr::V4(VIRTUAL_NETWORK.0) =>
        {
            let (network, prefix) = VIRTUAL_NETWORK;
            field
                .problem(findings, format!("{network}/{prefix} is the mesh's own network"))
                .hint("services of the application are reached by their names, without being declared");
            None
        }
        EgressHost::Network { address, prefix }
            if egress.transport == Transport::Udp && *prefix != if address.is_ipv4() { 32 } else { 128 } =>
        {
            field
                .problem(findings, "UDP reaches single addresses and names, not networks")
                .hint("write one entry for each address");
            None
        }
        _ => Some(egress),
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// Destinations that are services of the application: called by name, not declared.
pub(super) fn check_egress(drafts: &[Draft], findings: &mut Findings) {
    for draft in drafts {
        for (egress, (at, path)) in draft.service.egress.iter().zip(&draft.egress_at) {
            let EgressHost::Name(name) = &egress.host else { continue };
            if drafts.iter().any(|other| other.service.name.as_str() == name) {
                findings
                    .problem(*at, path.clone(), format!("`{name}` is a service of the application"))
                    .hint("services of the application are reached by their names, without being declared");
            }
        }
    }
}
