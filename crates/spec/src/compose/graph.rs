//! What only shows when all services are known: which of them are wanted, and whether they fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::application::{DependencyCondition, RestartPolicy, Service};
use crate::name::ServiceName;

use super::problem::quote;
use super::service::Draft;
use super::source::{At, Findings};
use super::suggest::nearest;
use super::yaml::Node;
use super::{ComposeInput, sinew};

/// Checks everything and returns the services that are wanted.
pub(super) fn select(
    drafts: Vec<Draft>,
    root: &Node,
    input: &ComposeInput<'_>,
    environment: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> BTreeMap<ServiceName, Service> {
    let whole = At::whole(root.at.source);
    let profiles = profiles(input, environment);
    for profile in profiles.iter().filter(|profile| **profile != "*") {
        if !drafts.iter().any(|draft| draft.profiles.contains(*profile)) {
            let what = format!("no service has the profile {}", quote(profile));
            let known: BTreeSet<&str> =
                drafts.iter().flat_map(|draft| draft.profiles.iter().map(String::as_str)).collect();
            let problem = findings.warning(whole, "", what);
            if let Some(near) = nearest(profile, known) {
                problem.hint(format!("did you mean `{near}`?"));
            }
        }
    }
    for name in &input.services {
        if !drafts.iter().any(|draft| draft.service.name.as_str() == name) {
            let names = drafts.iter().map(|draft| draft.service.name.as_str());
            let names: Vec<&str> = names.collect();
            let near = nearest(name, names.iter().copied());
            let near = near.map(|near| format!("did you mean `{near}`? There is: "));
            let shown = names.iter().take(LISTED_MAX).copied().collect::<Vec<_>>().join(", ");
            let more = if names.len() > LISTED_MAX { ", …" } else { "" };
            let near = near.unwrap_or_else(|| "there is: ".to_owned());
            let hint = (!names.is_empty()).then(|| format!("{near}{shown}{more}"));
            findings.problem(whole, "", format!("there is no service {}", quote(name))).hint = hint;
        }
    }
    check_dependencies(&drafts, findings);
    check_cycles(&drafts, findings);
    check_folders(&drafts, input, findings);
    sinew::check_egress(&drafts, findings);

    let enabled = |draft: &Draft| {
        draft.profiles.is_empty()
            || profiles.contains("*")
            || draft.profiles.iter().any(|profile| profiles.contains(profile.as_str()))
            || input.services.iter().any(|name| name == draft.service.name.as_str())
    };
    let wanted = wanted(&drafts, input, enabled, findings);
    let mut wanted: Vec<Draft> =
        drafts.into_iter().filter(|draft| wanted.contains(draft.service.name.as_str())).collect();
    check_published(&wanted, findings);
    let names: BTreeSet<ServiceName> = wanted.iter().map(|draft| draft.service.name.clone()).collect();
    for draft in &mut wanted {
        // Those that are not required and not wanted.
        draft.service.depends_on.retain(|dependency| names.contains(&dependency.service));
    }
    if wanted.is_empty() && !findings.has_problems() {
        findings
            .problem(whole, "services", "no service is enabled: each has a profile")
            .hint("enable one with `--profile NAME`");
    }
    wanted.into_iter().map(|draft| (draft.service.name.clone(), draft.service)).collect()
}

fn profiles<'a>(input: &'a ComposeInput<'_>, environment: &'a BTreeMap<String, String>) -> BTreeSet<&'a str> {
    if !input.profiles.is_empty() {
        return input.profiles.iter().map(String::as_str).collect();
    }
    let variable = environment.get("COMPOSE_PROFILES").map_or("", String::as_str);
    variable.split(',').map(str::trim).filter(|profile| !profile.is_empty()).collect()
}

/// Of services, in a hint.
const LISTED_MAX: usize = 20;

/// The services asked for, and what they depend on.
fn wanted(
    drafts: &[Draft],
    input: &ComposeInput<'_>,
    enabled: impl Fn(&Draft) -> bool,
    findings: &mut Findings,
) -> BTreeSet<String> {
    let mut wanted = BTreeSet::new();
    let asked = |draft: &&Draft| {
        let name = draft.service.name.as_str();
        if input.services.is_empty() {
            enabled(draft)
        } else {
            input.services.iter().any(|asked| asked == name)
        }
    };
    let mut open: Vec<&Draft> = drafts.iter().filter(asked).collect();
    while let Some(draft) = open.pop() {
        if !wanted.insert(draft.service.name.to_string()) {
            continue;
        }
        for (dependency, (at, path)) in draft.service.depends_on.iter().zip(&draft.depends_at) {
            let Some(other) = drafts.iter().find(|other| other.service.name == dependency.service) else {
                continue;
            };
            if enabled(other) {
                open.push(other);
            } else if dependency.required {
                let profiles: Vec<&str> = other.profiles.iter().map(String::as_str).collect();
                let what = format!(
                    "`{}` depends on `{}`, which is not enabled",
                    draft.service.name, dependency.service
                );
                let hint = match profiles.as_slice() {
                    [profile] => format!("enable it with `--profile {profile}`, or write `required: false`"),
                    _ => format!(
                        "enable it with one of the profiles {}, or write `required: false`",
                        profiles.join(", ")
                    ),
                };
                findings.problem(*at, path.clone(), what).hint(hint);
            }
        }
    }
    wanted
}

fn check_dependencies(drafts: &[Draft], findings: &mut Findings) {
    for draft in drafts {
        for (dependency, (at, path)) in draft.service.depends_on.iter().zip(&draft.depends_at) {
            let name = dependency.service.as_str();
            if dependency.service == draft.service.name {
                findings.problem(*at, path.clone(), format!("`{name}` depends on itself"));
                continue;
            }
            let Some(other) = drafts.iter().find(|other| other.service.name == dependency.service) else {
                let near = nearest(name, drafts.iter().map(|draft| draft.service.name.as_str()));
                let what = format!("there is no service {}", quote(name));
                findings.problem(*at, path.clone(), what).hint =
                    near.map(|near| format!("did you mean `{near}`?"));
                continue;
            };
            check_condition(other, dependency.condition, *at, path, findings);
            if !draft.service.may_call(&other.service) {
                findings
                    .warning(
                        *at,
                        path.clone(),
                        format!("`{}` and `{name}` share no network: they cannot talk", draft.service.name),
                    )
                    .hint("give both the same entry under `networks`");
            }
        }
    }
}

/// Whether what is waited for can ever come.
fn check_condition(
    other: &Draft,
    condition: DependencyCondition,
    at: At,
    path: &str,
    findings: &mut Findings,
) {
    let name = &other.service.name;
    match condition {
        DependencyCondition::ServiceStarted => {}
        // Its image may bring a check.
        DependencyCondition::ServiceHealthy
            if other.service.container.as_ref().is_some_and(|container| !container.has_own_health) => {}
        DependencyCondition::ServiceHealthy if other.service.health.is_none() => {
            findings
                .problem(at, path, format!("`{name}` has no health check, so it never becomes healthy"))
                .hint(format!(
                    "give `{name}` a `healthcheck` or `x-sinew: {{health: …}}`, or wait for `service_started`"
                ));
        }
        DependencyCondition::ServiceHealthy => {}
        DependencyCondition::ServiceCompletedSuccessfully => {
            if matches!(other.service.restart, RestartPolicy::Always | RestartPolicy::UnlessStopped) {
                findings
                    .problem(
                        at,
                        path,
                        format!("`{name}` is restarted whenever it ends, so it never completes"),
                    )
                    .hint(format!("give `{name}` `restart: on-failure` or leave `restart` out"));
            }
        }
    }
    if other.service.replicas == 0 && condition != DependencyCondition::ServiceStarted {
        findings.problem(at, path, format!("`{name}` has 0 replicas, so this never comes true"));
    }
}

/// Each cycle once, at the dependency that closes it.
fn check_cycles(drafts: &[Draft], findings: &mut Findings) {
    let index: BTreeMap<&str, usize> =
        drafts.iter().enumerate().map(|(index, draft)| (draft.service.name.as_str(), index)).collect();
    let mut done = vec![false; drafts.len()];
    for start in 0..drafts.len() {
        // A walk with its own stack: files may hold long chains. Each entry: service, next dependency to look at.
        let mut stack = vec![(start, 0)];
        while let Some((service, next)) = stack.pop() {
            if done[service] && next == 0 {
                continue;
            }
            let Some(dependency) = drafts[service].service.depends_on.get(next) else {
                done[service] = true;
                continue;
            };
            stack.push((service, next + 1));
            let Some(&other) = index.get(dependency.service.as_str()) else { continue };
            if other == service {
                continue;
            }
            if let Some(position) = stack.iter().position(|(known, _)| *known == other) {
                let mut names: Vec<String> = stack[position..]
                    .iter()
                    .map(|(known, _)| drafts[*known].service.name.to_string())
                    .collect();
                names.push(dependency.service.to_string());
                let (at, path) = &drafts[service].depends_at[next];
                findings
                    .problem(
                        *at,
                        path.clone(),
                        format!("services wait for each other: {}", names.join(" → ")),
                    )
                    .hint("remove one of the dependencies; names are reachable without `depends_on`");
            } else {
                stack.push((other, 0));
            }
        }
    }
}

/// A working folder that is written out must be somewhere. Not when something is built: that may make it.
fn check_folders(drafts: &[Draft], input: &ComposeInput<'_>, findings: &mut Findings) {
    if drafts.iter().any(|draft| !draft.service.build.is_empty()) {
        return;
    }
    for draft in drafts {
        let service = &draft.service;
        let Some((at, path)) = &draft.working_dir_at else { continue };
        let mounted = service.mounts.iter().map(|mount| &mount.target).chain(&service.tmpfs);
        let made = mounted.into_iter().any(|target| service.working_dir.starts_with(target))
            || ["/tmp", "/run"].iter().any(|own| service.working_dir == std::path::Path::new(own));
        let kind = input.reader.kind(&service.working_dir);
        if made || kind == Some(super::PathKind::Folder) {
            continue;
        }
        let state = if kind.is_some() { "is not a folder" } else { "does not exist" };
        findings
            .problem(*at, path.clone(), format!("the folder {} {state}", service.working_dir.display()))
            .hint("it is relative to the project folder, or a path that `volumes` mount");
    }
}

/// One address and port for one service.
fn check_published(drafts: &[Draft], findings: &mut Findings) {
    let mut known: BTreeMap<u16, Vec<(IpAddr, &Draft, At)>> = BTreeMap::new();
    for draft in drafts {
        for (port, (at, path)) in draft.service.published.iter().zip(&draft.published_at) {
            let Some(published) = port.published else { continue };
            let others = known.entry(published).or_default();
            if let Some((_, other, other_at)) = others.iter().find(|(host, _, _)| overlap(*host, port.host)) {
                let mention = findings.mention(*other_at, *at);
                let name = &other.service.name;
                let what = if name == &draft.service.name {
                    format!("port {published} is published twice")
                } else {
                    format!("port {published} is also published by `{name}`")
                };
                findings
                    .problem(*at, path.clone(), what)
                    .hint(format!("the other is at {mention}; choose another port in front of the colon"));
            }
            others.push((port.host, draft, *at));
        }
    }
}

/// Whether two addresses cannot be bound with the same port. `::` also takes IPv4.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let any =
        |address: IpAddr, other: IpAddr| address.is_unspecified() && (address.is_ipv6() || other.is_ipv4());
    a == b || any(a, b) || any(b, a)
}
