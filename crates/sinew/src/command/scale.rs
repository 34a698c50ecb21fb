//! `sinew scale`.

use std::collections::BTreeMap;

use sinew_spec::admin::Changes;

use super::Context;
use crate::admin::REPLICAS_MAX;
use crate::failure::Failure;
use crate::select::select;
use crate::units::count;

/// Change how many instances of a service run
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew scale orders=3\n  \
    sinew scale orders=3 billing=1\n\n\
    No request is lost: instances that go are taken out of routing first and finish what they have \
    begun, within `stop_grace_period` (10s).")]
pub struct Arguments {
    /// A service and its number of instances
    #[arg(value_name = "SERVICE=N", required = true, value_parser = parse_target)]
    targets: Vec<(String, u32)>,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let status = client.status(false).await?;
    // All names are known before anything changes.
    let mut wanted = BTreeMap::new();
    for (typed, replicas) in &arguments.targets {
        let selected = select(&status, typed)?;
        if selected.instance.is_some() {
            return Err(Failure::bad_input(
                "arguments",
                format!("`{typed}` is an instance; only services are scaled"),
            )
            .hint(format!("`sinew scale {}={replicas}`", selected.service.name)));
        }
        wanted.insert(selected.service_name(), (selected.service.wanted, *replicas));
    }
    let mut all: BTreeMap<String, Changes> = BTreeMap::new();
    for (service, (before, replicas)) in &wanted {
        let changes = client.scale(service, *replicas).await?;
        if !context.terminal.is_json() {
            let text = match before == replicas {
                true => format!("{service} has {} already\n", count(*replicas as usize, "instance")),
                false => format!("{service}: {before} -> {replicas}\n"),
            };
            context.terminal.print(&text)?;
        }
        all.insert(service.to_string(), changes);
    }
    if context.terminal.is_json() { context.terminal.print_json(&all) } else { Ok(()) }
}

pub fn parse_target(text: &str) -> Result<(String, u32), String> {
    let (service, number) = text.split_once('=').ok_or("write it like orders=3")?;
    if service.is_empty() {
        return Err("the service's name is missing; write it like orders=3".to_owned());
    }
    let replicas: u32 = number.parse().map_err(|_| format!("`{number}` is not a number of instances"))?;
    if replicas > REPLICAS_MAX {
        return Err(format!("{REPLICAS_MAX} instances are the most"));
    }
    Ok((service.to_owned(), replicas))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_a_name_and_a_number() {
        assert_eq!(parse_target("orders=3"), Ok(("orders".to_owned(), 3)));
        assert_eq!(parse_target("orders=0"), Ok(("orders".to_owned(), 0)));
        for text in
            ["orders", "orders=", "=3", "orders=-1", "orders=1.5", "orders=1001", "orders=99999999999"]
        {
            assert!(parse_target(text).is_err(), "{text}");
        }
    }
}
