//! `sinew config`.

use std::path::PathBuf;

use super::Context;
use crate::arguments::Files;
use crate::failure::Failure;
use crate::yaml;

/// Show the application as it is understood: merged, with all variables and defaults filled in
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew config\n  \
    sinew config -f compose.yaml -f production.yaml\n  \
    sinew config --services\n  \
    sinew config -o json | jq '.services.orders.environment'")]
pub struct Arguments {
    /// A compose file, or a folder with one [default: this folder or one above it]
    #[arg(value_name = "FILE|DIR", value_hint = clap::ValueHint::AnyPath)]
    place: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Print the names of the services only
    #[arg(long)]
    services: bool,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let loaded = context.load(arguments.place.as_deref(), &arguments.files)?;
    context.warn(&loaded.warnings);
    let terminal = &context.terminal;
    if arguments.services {
        let names: Vec<&str> = loaded.application.services.keys().map(|name| name.as_str()).collect();
        if terminal.is_json() {
            return terminal.print_json(&names);
        }
        return terminal.print(&names.iter().map(|name| format!("{name}\n")).collect::<String>());
    }
    if terminal.is_json() {
        return terminal.print_json(&loaded.application);
    }
    let value = serde_json::to_value(&loaded.application).map_err(|error| {
        Failure::failed("failed", format!("could not write the application down: {error}"))
    })?;
    terminal.print(&yaml::render(&value))
}
