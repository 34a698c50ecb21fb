//! `sinew status`: the whole application on one screen, and below the table everything that is not as it should be, in
//! words.

use std::collections::BTreeMap;

use sinew_spec::application::ServicePosture;
use sinew_spec::name::InstanceName;
use sinew_spec::status::{
    ApplicationStatus, Health, InstanceState, InstanceStatus, ProxyLost, PublishedStatus, ServiceStatus,
    TrafficStatus,
};

use super::{EXPLICIT_WORDS, is_good, is_settled};
use crate::table::{Align, Cell, Table};
use crate::terminal::{Paint, Terminal, harmless};
use crate::units::{age, bytes, count, milliseconds, percent, rate};

/// Destinations listed for one service; the rest is counted.
const REFUSED_LISTED_MAX: usize = 5;

/// For how long a proxy's death is told.
const LOST_SHOWN_MS: u64 = 60 * 60 * 1000;
const LOST_LISTED_MAX: usize = 8;

/// `last_lines`: the last line that an instance wrote, for those in trouble.
pub fn render(
    status: &ApplicationStatus,
    last_lines: &BTreeMap<InstanceName, String>,
    terminal: &Terminal,
    now_unix_ms: u64,
) -> String {
    let mut out = headline(status, terminal);
    if !status.services.is_empty() {
        out.push('\n');
        out.push_str(&services(status, terminal));
    }
    let mut troubles = Vec::new();
    for service in &status.services {
        for instance in &service.instances {
            troubles.extend(trouble(service, instance, last_lines, terminal, now_unix_ms));
            troubles.extend(full(instance, terminal));
        }
        troubles.extend(starts(service, terminal, now_unix_ms));
        troubles.extend(waits(service, terminal));
        troubles.extend(refused(service, terminal));
        troubles.extend(loopback_only(service, terminal));
        troubles.extend(left_out(service, terminal));
    }
    troubles.extend(silent_proxies(status, terminal));
    troubles.extend(lost_proxies(status, terminal, now_unix_ms));
    troubles.extend(outdated_proxies(status, terminal));
    troubles.extend(late_proxies(status, terminal));
    if !troubles.is_empty() {
        out.push('\n');
        out.push_str(&troubles.concat());
    }
    if !status.published.is_empty() {
        out.push('\n');
        for port in &status.published {
            let listen = terminal.paint(Paint::Bold, &port.listen);
            out.push_str(&format!("{listen} -> {}:{}", port.service, port.target));
            if let Some(message) = unserved(port) {
                let words = format!("  {}", harmless(message, false));
                out.push_str(&terminal.paint(Paint::Bad, &words));
            }
            out.push('\n');
        }
    }
    out
}

fn headline(status: &ApplicationStatus, terminal: &Terminal) -> String {
    let verdict = verdict(status, terminal);
    let instances = || status.services.iter().flat_map(|service| &service.instances);
    let sum = |of: fn(&InstanceStatus) -> Option<u64>| instances().filter_map(of).sum::<u64>();
    let services = sum(|instance| instance.memory_bytes);
    let sidecars = sum(|instance| instance.sidecar_memory_bytes);
    let seals = sum(|instance| instance.init_memory_bytes);
    let mut out = format!(
        "{}  {verdict}, revision {} on {}/{} proxies\n",
        terminal.paint(Paint::Bold, status.name.as_str()),
        status.revision,
        status.applied,
        status.subscribed,
    );
    out.push_str(&terminal.paint(Paint::Dim, &status.folder));
    out.push('\n');
    if status.posture == ServicePosture::Explicit {
        out.push_str(&terminal.paint(Paint::Warn, EXPLICIT_WORDS));
        out.push('\n');
    }
    if let Some(launcher) = status.memory_bytes {
        let text = format!(
            "memory: services {}, sidecars {}, seals {}, control plane and launcher {}",
            bytes(services),
            bytes(sidecars),
            bytes(seals),
            bytes(launcher)
        );
        out.push_str(&terminal.paint(Paint::Dim, &text));
        out.push('\n');
    }
    out
}

/// What is wanted and there; what was stopped by hand is neither, and a port at which nobody is served is told.
fn verdict(status: &ApplicationStatus, terminal: &Terminal) -> String {
    let all = status.services.len();
    let stopped = status.services.iter().filter(|service| is_stopped(service)).count();
    let settled =
        status.services.iter().filter(|service| !is_stopped(service) && is_settled(service)).count();
    let instances: usize = status
        .services
        .iter()
        .filter(|service| !is_stopped(service))
        .map(|service| service.instances.iter().filter(|i| i.state == InstanceState::Stopped).count())
        .sum();
    let unserved = status.published.iter().filter(|port| unserved(port).is_some()).count();
    let mut words = match settled == all {
        true => format!("all {} as wanted", count(all, "service")),
        false => format!("{settled} of {} as wanted", count(all, "service")),
    };
    if stopped > 0 {
        words.push_str(&format!(", {stopped} stopped"));
    }
    if instances > 0 {
        words.push_str(&format!(", {} stopped", count(instances, "instance")));
    }
    if unserved > 0 {
        words.push_str(&format!(", {} without service", count(unserved, "published port")));
    }
    let is_good = settled == all && instances == 0 && unserved == 0;
    terminal.paint(if is_good { Paint::Good } else { Paint::Warn }, &words)
}

/// By hand, or scaled to nothing: not one instance is wanted.
fn is_stopped(service: &ServiceStatus) -> bool {
    service.wanted == 0
}

/// Why nobody is served at a published port.
pub fn unserved(port: &PublishedStatus) -> Option<&str> {
    port.message.as_deref().or(port.waits_for.as_deref())
}

fn services(status: &ApplicationStatus, terminal: &Terminal) -> String {
    let mut table = Table::new(&[
        ("SERVICE", Align::Left),
        ("INSTANCES", Align::Right),
        ("HEALTH", Align::Left),
        ("RESTARTS", Align::Right),
        ("REQ/S", Align::Right),
        ("P50", Align::Right),
        ("P99", Align::Right),
        ("ERRORS", Align::Right),
        ("CONNS", Align::Right),
        ("REFUSED", Align::Right),
        ("MEMORY", Align::Right),
    ]);
    for service in &status.services {
        let (health, paint) = health(service);
        let restarts: u32 = service.instances.iter().map(|instance| instance.restarts).sum();
        let refused: u64 = service.refused.iter().map(|refused| refused.count).sum();
        let memory: u64 = service.instances.iter().filter_map(|instance| instance.memory_bytes).sum();
        let TrafficStatus { requests, requests_per_second, errors, p50_ms, p99_ms, connections } =
            service.traffic;
        table.row([
            Cell::from(service.name.as_str()),
            format!("{}/{}", running(service), service.wanted).into(),
            Cell::painted(health, paint),
            alarming(u64::from(restarts), restarts.to_string(), Paint::Warn),
            if requests > 0 { rate(requests_per_second) } else { String::new() }.into(),
            p50_ms.map(milliseconds).unwrap_or_default().into(),
            p99_ms.map(milliseconds).unwrap_or_default().into(),
            if requests > 0 { alarming(errors, percent(errors, requests), Paint::Bad) } else { "".into() },
            if connections > 0 { connections.to_string() } else { String::new() }.into(),
            if refused > 0 { Cell::painted(refused.to_string(), Paint::Warn) } else { "".into() },
            if memory > 0 { bytes(memory) } else { String::new() }.into(),
        ]);
    }
    table.render(terminal)
}

fn alarming(number: u64, text: String, paint: Paint) -> Cell {
    Cell::painted(text, if number > 0 { paint } else { Paint::Plain })
}

fn running(service: &ServiceStatus) -> usize {
    service.instances.iter().filter(|instance| instance.state == InstanceState::Running).count()
}

/// The worst that is true of any instance.
fn health(service: &ServiceStatus) -> (String, Paint) {
    let number =
        |is: fn(&InstanceStatus) -> bool| service.instances.iter().filter(|instance| is(instance)).count();
    let crashing = number(|i| i.state == InstanceState::Backoff);
    let failed = number(|i| i.state == InstanceState::Exited && i.exit_code != Some(0));
    let unhealthy = number(|i| i.state == InstanceState::Running && i.health == Health::Unhealthy);
    let starting = number(|i| {
        i.state == InstanceState::Starting
            || (i.state == InstanceState::Running && i.health == Health::Starting)
    });
    let all = service.instances.len();
    let of = |number: usize, word: &str| if all > 1 { format!("{number} {word}") } else { word.to_owned() };
    if crashing > 0 {
        (of(crashing, "crashing"), Paint::Bad)
    } else if failed > 0 {
        (of(failed, "failed"), Paint::Bad)
    } else if unhealthy > 0 {
        (of(unhealthy, "unhealthy"), Paint::Bad)
    } else if !service.waits_for.is_empty() {
        ("waiting".to_owned(), Paint::Dim)
    } else if starting > 0 {
        (of(starting, "starting"), Paint::Warn)
    } else if all == 0 || service.instances.iter().all(|i| i.state == InstanceState::Stopped) {
        ("stopped".to_owned(), Paint::Dim)
    } else if service.instances.iter().all(|i| i.state == InstanceState::Exited) {
        ("completed".to_owned(), Paint::Dim)
    } else if !is_settled(service) {
        ("changing".to_owned(), Paint::Warn)
    } else if service.instances.iter().all(|i| i.health == Health::None) {
        ("no check".to_owned(), Paint::Dim)
    } else {
        ("healthy".to_owned(), Paint::Good)
    }
}

/// A sentence about an instance that is not well, with the last line of its log.
fn trouble(
    service: &ServiceStatus,
    instance: &InstanceStatus,
    last_lines: &BTreeMap<InstanceName, String>,
    terminal: &Terminal,
    now_unix_ms: u64,
) -> Option<String> {
    if !has_trouble(instance) {
        return None;
    }
    // The exit code is told already.
    let message = instance
        .message
        .as_ref()
        .filter(|message| !message.starts_with("ended with code"))
        .map(|message| format!(": {}", harmless(message, false)))
        .unwrap_or_default();
    let since =
        instance.started_unix_ms.map(|started| format!(", started {} ago", age(started, now_unix_ms)));
    let times = match instance.restarts {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        times => format!(", restarted {times} times"),
    };
    let what = match (instance.state, instance.exit_code) {
        (InstanceState::Backoff, Some(code)) => {
            format!("keeps ending with exit code {code}{}", signal_of(code))
        }
        (InstanceState::Backoff, None) => "does not start".to_owned(),
        (InstanceState::Exited, Some(code)) => {
            format!("ended with exit code {code}{} and is not restarted", signal_of(code))
        }
        (InstanceState::Exited, None) => "ended and is not restarted".to_owned(),
        _ => format!("is unhealthy{}", since.unwrap_or_default()),
    };
    let mut out = format!("{} {} {what}{times}{message}\n", terminal.paint(Paint::Bad, "x"), instance.name);
    if let Some(line) = last_lines.get(&instance.name) {
        out.push_str(&format!(
            "  {} {}\n",
            terminal.paint(Paint::Dim, "last log line:"),
            harmless(line, false)
        ));
    }
    let more = format!("  see `sinew logs {}`\n", service.name);
    out.push_str(&terminal.paint(Paint::Dim, &more));
    Some(out)
}

/// Its number of processes is at the bound: forks fail, or are about to. The init is one of them.
fn full(instance: &InstanceStatus, terminal: &Terminal) -> Option<String> {
    let (processes, most) = instance.processes.zip(instance.processes_max)?;
    if processes + 1 < most {
        return None;
    }
    let mark = terminal.paint(Paint::Bad, "!");
    let advice = "  more are refused; raise it with `pids_limit`, if they are meant\n";
    let advice = terminal.paint(Paint::Dim, advice);
    Some(format!("{mark} {} has all the processes it may have: {most}\n{advice}", instance.name))
}

/// Those whose last log line is worth reading.
pub fn has_trouble(instance: &InstanceStatus) -> bool {
    match instance.state {
        InstanceState::Backoff => true,
        InstanceState::Exited => !is_good(instance),
        InstanceState::Running => instance.health == Health::Unhealthy,
        _ => false,
    }
}

/// Exit codes above 128 tell of a signal.
fn signal_of(code: i32) -> &'static str {
    match code {
        134 => " (SIGABRT)",
        137 => " (SIGKILL: killed, or out of memory)",
        139 => " (SIGSEGV)",
        143 => " (SIGTERM)",
        127 => " (command not found)",
        126 => " (command not executable)",
        _ => "",
    }
}

/// What an instance that takes its time lacks, as far as it is known: often a port that nobody listens on.
fn starts(service: &ServiceStatus, terminal: &Terminal, now_unix_ms: u64) -> Option<String> {
    let slow = service.instances.iter().find(|instance| {
        instance.message.is_some()
            && (instance.state == InstanceState::Starting
                || (instance.state == InstanceState::Running && instance.health == Health::Starting))
    })?;
    let message = harmless(slow.message.as_deref().unwrap_or_default(), false);
    let since = slow.started_unix_ms.map(|started| format!(" for {}", age(started, now_unix_ms)));
    let mark = terminal.paint(Paint::Warn, "…");
    Some(format!("{mark} {} has been starting{}: {message}\n", slow.name, since.unwrap_or_default()))
}

fn waits(service: &ServiceStatus, terminal: &Terminal) -> Option<String> {
    if service.waits_for.is_empty() {
        return None;
    }
    let waits = terminal.paint(Paint::Warn, "…");
    Some(format!("{waits} {} waits for {}\n", service.name, service.waits_for.join(", ")))
}

fn refused(service: &ServiceStatus, terminal: &Terminal) -> Option<String> {
    let total: u64 = service.refused.iter().map(|refused| refused.count).sum();
    if service.refused.is_empty() {
        return None;
    }
    let listed: Vec<String> = service
        .refused
        .iter()
        .take(REFUSED_LISTED_MAX)
        .map(|refused| format!("{} ({}x)", harmless(&refused.destination, false), refused.count))
        .collect();
    let more = match service.refused.len().saturating_sub(REFUSED_LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {}", count(more, "more destination")),
    };
    let mark = terminal.paint(Paint::Warn, "!");
    let calls = if total == 1 { "call" } else { "calls" };
    // What was counted together has no name that could be declared.
    let declared = service.refused.iter().find(|refused| refused.destination.contains(':'));
    let advice = declared.map_or_else(String::new, |refused| {
        let destination = harmless(&refused.destination, false);
        format!("  allow it, if it is meant: `x-sinew: {{ egress: [\"{destination}\"] }}`\n")
    });
    Some(format!(
        "{mark} {} was refused {total} {calls} outside the mesh: {}{more}\n{}",
        service.name,
        listed.join(", "),
        terminal.paint(Paint::Dim, &advice)
    ))
}

fn loopback_only(service: &ServiceStatus, terminal: &Terminal) -> Option<String> {
    let (port, _) = service.loopback_only.first_key_value()?;
    let listed: Vec<String> =
        service.loopback_only.iter().map(|(port, count)| format!("port {port} ({count}x)")).collect();
    let mark = terminal.paint(Paint::Warn, "!");
    let advice = format!("  let others call it, if it is meant: listen on 0.0.0.0, or `expose: [{port}]`\n");
    Some(format!(
        "{mark} {} listens on loopback only, and calls were refused: {}\n{}",
        service.name,
        listed.join(", "),
        terminal.paint(Paint::Dim, &advice)
    ))
}

fn silent_proxies(status: &ApplicationStatus, terminal: &Terminal) -> Option<String> {
    let listed = listed(&status.silent)?;
    let mark = terminal.paint(Paint::Bad, "!");
    let advice = "  frozen, or without processor time; after a minute it is ended and started again\n";
    Some(format!(
        "{mark} the control plane hears nothing of the sidecar of {listed}; callers leave it out after 10 s\n{}",
        terminal.paint(Paint::Dim, advice)
    ))
}

/// Callers found it before anybody else: an instance, or its sidecar, is frozen, or the way to it is broken.
fn left_out(service: &ServiceStatus, terminal: &Terminal) -> Option<String> {
    if service.left_out == 0 {
        return None;
    }
    let mark = terminal.paint(Paint::Bad, "!");
    let number = count(usize::try_from(service.left_out).unwrap_or(usize::MAX), "instance");
    let verb = if service.left_out == 1 { "does" } else { "do" };
    Some(format!(
        "{mark} {number} of {} {verb} not answer callers, who leave them out for now\n",
        service.name
    ))
}

/// Proxies that died lately: what they had was cut, and nothing else would show it.
fn lost_proxies(status: &ApplicationStatus, terminal: &Terminal, now_unix_ms: u64) -> Option<String> {
    let lately = status
        .proxies_lost
        .iter()
        .filter(|(_, lost)| now_unix_ms.saturating_sub(lost.unix_ms) < LOST_SHOWN_MS);
    let mark = terminal.paint(Paint::Warn, "!");
    let line = |(instance, lost): (&InstanceName, &ProxyLost)| {
        let how = harmless(&lost.how, false);
        let ago = age(lost.unix_ms, now_unix_ms);
        let times = match lost.times {
            1 => String::new(),
            times => format!(" ({times} times so far)"),
        };
        format!("{mark} the proxy of {instance} {how}, {ago} ago{times}; another one was started\n")
    };
    let lines: String = lately.take(LOST_LISTED_MAX).map(line).collect();
    (!lines.is_empty()).then_some(lines)
}

/// What serves on, from before an upgrade.
fn outdated_proxies(status: &ApplicationStatus, terminal: &Terminal) -> Option<String> {
    let (kept, waiting): (Vec<_>, Vec<_>) = status.outdated.iter().partition(|(_, why)| !why.is_empty());
    let names = |some: &[(&InstanceName, &String)]| {
        listed(&some.iter().map(|(name, _)| (*name).clone()).collect::<Vec<_>>())
    };
    let mut lines = String::new();
    if let (Some(listed), Some((_, why))) = (names(&kept), kept.first()) {
        let mark = terminal.paint(Paint::Warn, "!");
        let why = harmless(why, false);
        let advice = format!("  {why}\n  a build that works takes over with `sinew up -d`\n");
        let advice = terminal.paint(Paint::Dim, &advice);
        lines += &format!("{mark} the proxy of {listed} still runs another build of sinew\n{advice}");
    }
    if let Some(listed) = names(&waiting) {
        let mark = terminal.paint(Paint::Warn, "…");
        lines += &format!("{mark} a proxy of this build takes the place of the one of {listed}\n");
    }
    (!lines.is_empty()).then_some(lines)
}

fn late_proxies(status: &ApplicationStatus, terminal: &Terminal) -> Option<String> {
    let listed = listed(&status.absent)?;
    let mark = terminal.paint(Paint::Warn, "…");
    Some(format!("{mark} revision {} is not applied yet by {listed}\n", status.revision))
}

/// Some names, and how many more there are; `None`: there are none.
fn listed(names: &[InstanceName]) -> Option<String> {
    const LISTED_MAX: usize = 8;
    let shown: Vec<&str> = names.iter().take(LISTED_MAX).map(InstanceName::as_str).collect();
    let more = match names.len().saturating_sub(LISTED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!shown.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
}

#[cfg(test)]
mod tests;
