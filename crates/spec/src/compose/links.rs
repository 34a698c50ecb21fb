//! What a service has to do with others: `depends_on` and `networks`.

use std::collections::BTreeSet;

use crate::application::{Dependency, DependencyCondition};
use crate::name::ServiceName;

use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::service::{Context, Draft};
use super::source::At;
use super::suggest::nearest;
use super::yaml::Value;

pub(super) fn read(keys: &Keys<'_>, draft: &mut Draft, context: &mut Context<'_>) {
    if let Some(field) = keys.get("depends_on") {
        depends_on(field, draft, context);
    }
    if let Some(field) = keys.get_filled("networks") {
        let networks = networks(field, draft.service.name.as_str(), context);
        if !networks.is_empty() {
            draft.service.networks = networks;
        }
    }
}

fn depends_on(field: &Field<'_>, draft: &mut Draft, context: &mut Context<'_>) {
    if let Value::Mapping(entries) = &field.node.value {
        for entry in entries {
            let item = Field::of(entry, &field.path);
            if let Some(dependency) = long(&item, &entry.key, context) {
                add(dependency, entry.key_at, &item.path, draft, context);
            }
        }
        return;
    }
    for item in field.items(context.findings).unwrap_or_default() {
        if let Value::Mapping(_) = item.node.value {
            item.problem(
                context.findings,
                "an item of this list must be the name of a service, found a mapping",
            )
            .hint("leave out the dashes: `depends_on: {NAME: {condition: service_healthy}}`");
            continue;
        }
        let Some(name) = item.filled(context.findings) else { continue };
        let dependency = Dependency {
            service: ServiceName::new(name),
            condition: DependencyCondition::ServiceStarted,
            required: true,
            restart: false,
        };
        add(dependency, item.at(), &item.path, draft, context);
    }
}

fn add(dependency: Dependency, at: At, path: &str, draft: &mut Draft, context: &mut Context<'_>) {
    let known = &mut draft.service.depends_on;
    if let Some(position) = known.iter().position(|known| known.service == dependency.service) {
        let first = draft.depends_at[position].0;
        if first.source == at.source {
            let what = format!("the dependency {} is written twice", quote(dependency.service.as_str()));
            context.findings.problem(at, path, what).hint(format!("the first time on line {}", first.line));
        } else {
            known[position] = dependency;
        }
        return;
    }
    known.push(dependency);
    draft.depends_at.push((at, path.to_owned()));
}

fn long(item: &Field<'_>, name: &str, context: &mut Context<'_>) -> Option<Dependency> {
    let hint = "write `condition: service_started`, `service_healthy` or `service_completed_successfully`";
    if item.is_null() {
        let what = format!("the dependency {} has no `condition`", quote(name));
        item.problem(context.findings, what).hint(hint);
        return None;
    }
    let keys = item.keys(Section::DependsOn, context.findings)?;
    let Some(condition) = keys.get("condition") else {
        let what = format!("the dependency {} has no `condition`", quote(name));
        item.problem(context.findings, what).hint(hint);
        return None;
    };
    let words = [
        ("service_started", DependencyCondition::ServiceStarted),
        ("service_healthy", DependencyCondition::ServiceHealthy),
        ("service_completed_successfully", DependencyCondition::ServiceCompletedSuccessfully),
    ];
    let condition = condition.word(context.findings, &words);
    let mut flag = |key: &str, default: bool| match keys.get(key) {
        Some(field) => field.boolean(context.findings),
        None => Some(default),
    };
    let (required, restart) = (flag("required", true), flag("restart", false));
    Some(Dependency {
        service: ServiceName::new(name),
        condition: condition?,
        required: required?,
        restart: restart?,
    })
}

fn networks(field: &Field<'_>, service: &str, context: &mut Context<'_>) -> BTreeSet<String> {
    let mut networks = BTreeSet::new();
    if let Value::Mapping(entries) = &field.node.value {
        for entry in entries {
            let item = Field::of(entry, &field.path);
            join(&entry.key, entry.key_at, &item.path, context, &mut networks);
            if item.is_null() {
                continue;
            }
            let Some(keys) = item.keys(Section::ServiceNetwork, context.findings) else { continue };
            let Some(aliases) = keys.get_filled("aliases") else { continue };
            for alias in aliases.items(context.findings).unwrap_or_default() {
                if let Some(name) = alias.filled(context.findings)
                    && name != service
                {
                    alias.problem(context.findings, "a service has no names but its own").hint(format!(
                        "remove the alias and call it `{service}`, or rename the service to {}",
                        quote(name)
                    ));
                }
            }
        }
        return networks;
    }
    for item in field.items(context.findings).unwrap_or_default() {
        if let Some(name) = item.filled(context.findings) {
            join(name, item.at(), &item.path, context, &mut networks);
        }
    }
    networks
}

fn join(name: &str, at: At, path: &str, context: &mut Context<'_>, networks: &mut BTreeSet<String>) {
    let networks_known = &context.top.networks;
    // `default` needs no declaration.
    if networks_known.take(name).is_none() && name != "default" {
        let what = format!("the network {} is not declared", quote(name));
        let hint = match nearest(name, networks_known.names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it at the top level: `networks: {{{name}: }}`"),
        };
        context.findings.problem(at, path, what).hint(hint);
        return;
    }
    networks.insert(name.to_owned());
}
