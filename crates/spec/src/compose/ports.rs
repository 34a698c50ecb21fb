//! `ports:` and `expose:`.

use std::net::{IpAddr, Ipv4Addr};

use crate::application::{Protocol, PublishedPort};
use crate::proxy::RESERVED_PORT;

use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::service::{Context, Draft};
use super::source::{At, Findings};
use super::yaml::Value;

/// Ranges are written out.
const PORTS_MAX: usize = 256;

const SYNTAX: &str = "a port is `8000`, `8080:8000` or `127.0.0.1:8080:8000` (host first)";
const QUOTE: &str = "put it in quotes";
const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) fn read(keys: &Keys<'_>, draft: &mut Draft, context: &mut Context<'_>) {
    if let Some(field) = keys.get("ports") {
        for item in field.items(context.findings).unwrap_or_default() {
            let ports = match item.node.value {
                Value::Mapping(_) => long(&item, context.findings).map(|port| vec![port]),
                _ => short(&item, context.findings),
            };
            for port in ports.unwrap_or_default() {
                add(port, &item, draft, context.findings);
            }
        }
    }
    if let Some(field) = keys.get("expose") {
        for item in field.items(context.findings).unwrap_or_default() {
            let Some(text) = item.number_or_text(context.findings, "a port") else { continue };
            match expose(text) {
                Ok((first, last)) => {
                    for port in first..=last {
                        if check_target(port, &item, context.findings) {
                            draft.service.expose.insert(port);
                        }
                    }
                }
                Err(wrong) => wrong.report(&item, context.findings),
            }
        }
    }
}

/// What is wrong with a port, and what to write.
struct Wrong(String, Option<String>);

impl Wrong {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(what.into(), Some(hint.into()))
    }

    fn report(self, field: &Field<'_>, findings: &mut Findings) {
        field.problem(findings, self.0).hint = self.1;
    }
}

fn add(port: PublishedPort, item: &Field<'_>, draft: &mut Draft, findings: &mut Findings) {
    if !check_target(port.target, item, findings) {
        return;
    }
    let ports = &mut draft.service.published;
    let same = |known: &PublishedPort| {
        known.published.is_some()
            && (known.host, known.published, known.target) == (port.host, port.published, port.target)
    };
    if let Some(position) = ports.iter().position(same) {
        let first: At = draft.published_at[position].0;
        if first.source == item.at().source && first != item.at() {
            item.problem(findings, "the port is published twice")
                .hint(format!("the first time on line {}", first.line));
        } else {
            // A later file says it again, perhaps with more about it.
            ports[position] = port;
        }
        return;
    }
    if ports.len() == PORTS_MAX {
        item.problem(findings, format!("the service publishes more than {PORTS_MAX} ports"));
        return;
    }
    ports.push(port);
    draft.published_at.push((item.at(), item.path.clone()));
}

fn check_target(port: u16, item: &Field<'_>, findings: &mut Findings) -> bool {
    if port == RESERVED_PORT {
        item.problem(findings, format!("port {RESERVED_PORT} is taken inside of every seal"))
            .hint("let the service listen on another port");
        return false;
    }
    true
}

fn short(item: &Field<'_>, findings: &mut Findings) -> Option<Vec<PublishedPort>> {
    let text = item.number_or_text(findings, "a port like `8080:8000`")?;
    match parse_short(text.trim()) {
        Ok(ports) => Some(ports),
        Err(wrong) => {
            wrong.report(item, findings);
            None
        }
    }
}

/// `[[HOST_IP:][PUBLISHED]:]TARGET[/PROTOCOL]`, both possibly ranges of the same length.
fn parse_short(text: &str) -> Result<Vec<PublishedPort>, Wrong> {
    let (ports, protocol) = match text.split_once('/') {
        Some((ports, protocol)) => (ports, protocol),
        None => (text, "tcp"),
    };
    check_protocol(protocol)?;
    let (host, rest) = split_host(ports)?;
    let (published, target) = match rest.split_once(':') {
        Some((published, target)) => (Some(published), target),
        None => (None, rest),
    };
    let (first, last) = range(target, "the port of the service")?;
    let count = usize::from(last - first) + 1;
    if count > PORTS_MAX {
        return Err(Wrong::new(format!("the range has more than {PORTS_MAX} ports"), SYNTAX));
    }
    let from = match published {
        None | Some("") => None,
        Some(text) => {
            let (from, to) = range(text, "the published port")?;
            if usize::from(to - from) + 1 != count {
                let what = format!("the ranges {} and {} differ in length", quote(text), quote(target));
                return Err(Wrong::new(what, "both sides need as many ports"));
            }
            Some(from)
        }
    };
    let ports = (0..=last - first).map(|step| PublishedPort {
        host,
        published: from.map(|from| from + step).filter(|port| *port > 0),
        target: first + step,
        protocol: None,
    });
    Ok(ports.collect())
}

/// The address in front, and what follows it.
fn split_host(text: &str) -> Result<(IpAddr, &str), Wrong> {
    if let Some(after) = text.strip_prefix('[') {
        let (address, rest) = after.split_once("]:").ok_or_else(|| {
            Wrong::new(format!("{} has no `]:`", quote(text)), "write `\"[::1]:8080:8000\"`")
        })?;
        return Ok((parse_host(address)?, rest));
    }
    let colons = text.matches(':').count();
    match colons {
        0 | 1 => Ok((ANYWHERE, text)),
        2 => {
            let (address, rest) = text.split_once(':').unwrap_or(("", text));
            Ok((parse_host(address)?, rest))
        }
        _ => Err(Wrong::new(
            format!("{} is not a port", quote(text)),
            "an IPv6 address stands in brackets: `\"[::1]:8080:8000\"`",
        )),
    }
}

fn parse_host(text: &str) -> Result<IpAddr, Wrong> {
    text.parse().map_err(|_| {
        let hint = if text == "localhost" {
            "write `127.0.0.1`".to_owned()
        } else {
            "`127.0.0.1` opens a port for this machine alone, `0.0.0.0` for others".to_owned()
        };
        Wrong(format!("{} is not an IP address", quote(text)), Some(hint))
    })
}

fn check_protocol(protocol: &str) -> Result<(), Wrong> {
    match protocol {
        "tcp" => Ok(()),
        "udp" => Err(Wrong::new(
            "publishing UDP is not supported",
            "the gateway serves TCP; a device that speaks UDP can be called by a service through `x-sinew.egress`",
        )),
        other => {
            let hint = match super::suggest::nearest(other, ["tcp"]) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "ports are `tcp`; leave the protocol out".to_owned(),
            };
            Err(Wrong(format!("{} is not a protocol of ports", quote(other)), Some(hint)))
        }
    }
}

/// `8000` or `8000-8005`.
fn range(text: &str, what: &str) -> Result<(u16, u16), Wrong> {
    let Some((first, last)) = text.split_once('-') else {
        let port = port(text, what)?;
        return Ok((port, port));
    };
    let (first, last) = (port(first, what)?, port(last, what)?);
    if first > last {
        return Err(Wrong::new(
            format!("the range {} ends before it begins", quote(text)),
            format!("write `{last}-{first}`"),
        ));
    }
    Ok((first, last))
}

fn port(text: &str, what: &str) -> Result<u16, Wrong> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        let shown = if text.is_empty() { "nothing".to_owned() } else { quote(text) };
        return Err(Wrong::new(format!("{what} must be a number, found {shown}"), SYNTAX));
    }
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => {
            // `22:22` without quotes is a number in base 60 for old YAML readers.
            let hint = if text.len() > 5 { format!("{SYNTAX}; {QUOTE}") } else { SYNTAX.to_owned() };
            Err(Wrong(format!("{what} must be between 1 and 65535, found {text}"), Some(hint)))
        }
    }
}

fn expose(text: &str) -> Result<(u16, u16), Wrong> {
    let (ports, protocol) = text.trim().split_once('/').unwrap_or((text.trim(), "tcp"));
    check_protocol(protocol)?;
    if ports.contains(':') {
        return Err(Wrong::new(
            format!("{} is not a port", quote(text)),
            "`expose` lists ports of the service alone; to publish one use `ports`",
        ));
    }
    let (first, last) = range(ports, "the port of the service")?;
    if usize::from(last - first) + 1 > PORTS_MAX {
        return Err(Wrong::new(format!("the range has more than {PORTS_MAX} ports"), SYNTAX));
    }
    Ok((first, last))
}

fn long(item: &Field<'_>, findings: &mut Findings) -> Option<PublishedPort> {
    let keys = item.keys(Section::Port, findings)?;
    let Some(target) = keys.get("target") else {
        item.problem(findings, "an entry of `ports` needs a `target`: the port of the service");
        return None;
    };
    let target = target.port(findings);
    let published = match keys.get("published") {
        None => Some(None),
        Some(field) => long_published(field, findings),
    };
    let host = match keys.get("host_ip") {
        None => Some(ANYWHERE),
        Some(field) => field
            .filled(findings)
            .and_then(|text| parse_host(text).map_err(|wrong| wrong.report(field, findings)).ok()),
    };
    let mut good = true;
    if let Some(field) = keys.get("protocol") {
        good = field
            .filled(findings)
            .is_some_and(|text| check_protocol(text).map_err(|wrong| wrong.report(field, findings)).is_ok());
    }
    let named = keys.get("name").and_then(|field| named_protocol(field.filled(findings)?));
    let protocol = match keys.get("app_protocol") {
        Some(field) => {
            let protocol = field.word(findings, &APP_PROTOCOLS)?;
            if named.is_some_and(|named| named != protocol) {
                field
                    .problem(findings, "the port's `name` begins with another protocol")
                    .hint("let both say the same, or give the port another name");
                return None;
            }
            Some(protocol)
        }
        None => named,
    };
    good.then_some(PublishedPort { host: host?, published: published?, target: target?, protocol })
}

/// `Some(None)`: any free port.
fn long_published(field: &Field<'_>, findings: &mut Findings) -> Option<Option<u16>> {
    let text = field.number_or_text(findings, "a port")?;
    if text.contains('-') && !text.starts_with('-') {
        field
            .problem(findings, "a range of published ports is not supported in the long syntax")
            .hint("write one entry for each port, or the short syntax: `\"8080-8085:8000-8005\"`");
        return None;
    }
    if matches!(text, "0" | "") {
        return Some(None);
    }
    match port(text, "`published`") {
        Ok(port) => Some(Some(port)),
        Err(wrong) => {
            wrong.report(field, findings);
            None
        }
    }
}

/// Ours, and those that others write for HTTP/2 with prior knowledge.
const APP_PROTOCOLS: [(&str, Protocol); 7] = {
    let [http, http1, http2, grpc, tcp] = Protocol::WORDS;
    [http, http1, http2, grpc, tcp, ("h2c", Protocol::Http2), ("kubernetes.io/h2c", Protocol::Http2)]
};

/// The convention of meshes: `http`, `http-admin`, `grpc`, `tcp-mqtt`.
fn named_protocol(name: &str) -> Option<Protocol> {
    let word = name.split('-').next()?;
    Protocol::WORDS.iter().find(|(known, _)| *known == word).map(|(_, protocol)| *protocol)
}
