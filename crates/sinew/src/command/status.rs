//! `sinew status`.

use std::collections::BTreeMap;
use std::time::Duration;

use sinew_spec::name::InstanceName;
use sinew_spec::status::ApplicationStatus;

use super::Context;
use crate::failure::Failure;
use crate::log;
use crate::select::select_all;
use crate::target::Target;
use crate::units::{now_unix_ms, parse_span};
use crate::view;

/// Show how the application is doing: health, traffic, refused calls, memory
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew status\n  \
    sinew status orders\n  \
    sinew status --watch\n  \
    sinew status -o json | jq '.services[] | {name, traffic}'\n\n\
    Requests, errors and latencies are what the callers' sidecars saw in the last ten seconds or so.")]
pub struct Arguments {
    /// Services to show [default: all]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Show it anew until Ctrl-C; every two seconds or as said
    #[arg(
        short,
        long,
        value_name = "EVERY",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = parse_span
    )]
    watch: Option<Duration>,
}

/// A tighter loop would mostly measure itself.
const WATCH_MIN: Duration = Duration::from_millis(200);

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let Some(every) = arguments.watch else { return show(arguments, context, "").await };
    let mut ticks = tokio::time::interval(every.max(WATCH_MIN));
    // On a terminal each picture replaces the one before.
    let before = if context.terminal.is_terminal { "\x1b[H\x1b[2J" } else { "" };
    loop {
        tokio::select! {
            _ = ticks.tick() => show(arguments, context, before).await?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn show(arguments: &Arguments, context: &Context, before: &str) -> Result<(), Failure> {
    let mut status = context.client()?.status(true).await?;
    let wanted: Vec<_> =
        select_all(&status, &arguments.services)?.iter().map(|selected| selected.service_name()).collect();
    if !arguments.services.is_empty() {
        status.services.retain(|service| wanted.contains(&service.name));
        status.published.retain(|port| wanted.contains(&port.service));
    }
    let terminal = &context.terminal;
    if terminal.is_json() {
        return match arguments.watch {
            Some(_) => terminal.print_json_line(&status),
            None => terminal.print_json(&status),
        };
    }
    let last_lines = last_lines(&context.target()?, &status);
    let shown = view::overview::render(&status, &last_lines, terminal, now_unix_ms());
    terminal.print(&format!("{before}{shown}"))
}

/// The last line that each instance in trouble wrote.
fn last_lines(target: &Target, status: &ApplicationStatus) -> BTreeMap<InstanceName, String> {
    let instances = status.services.iter().flat_map(|service| &service.instances);
    instances
        .filter(|instance| view::overview::has_trouble(instance))
        .filter_map(|instance| {
            let last = log::last_word(&target.folders.instance(&instance.name), &instance.name)?;
            Some((instance.name.clone(), last.text))
        })
        .collect()
}
