//! `sinew ps`.

use super::Context;
use crate::failure::Failure;
use crate::select::select_all;
use crate::units::now_unix_ms;
use crate::view;

/// List the instances of the application
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew ps\n  \
    sinew ps orders\n  \
    sinew ps --quiet | wc -l\n  \
    sinew -p shop ps -o json")]
pub struct Arguments {
    /// Services or instances to list [default: all]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    // What people of Compose type: what is stopped is always listed.
    #[arg(short, long, hide = true)]
    all: bool,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let mut status = context.client()?.status(false).await?;
    let mut wanted = Vec::new();
    for selected in select_all(&status, &arguments.services)? {
        match selected.instance {
            Some(instance) => wanted.push(instance.name.clone()),
            None => wanted.extend(selected.service.instances.iter().map(|instance| instance.name.clone())),
        }
    }
    let typed = select_all(&status, &arguments.services)?;
    let services: Vec<_> = typed.iter().map(|selected| selected.service_name()).collect();
    status.services.retain(|service| services.contains(&service.name));
    for service in &mut status.services {
        service.instances.retain(|instance| wanted.contains(&instance.name));
    }
    let terminal = &context.terminal;
    let instances = || status.services.iter().flat_map(|service| &service.instances);
    if terminal.is_json() {
        return terminal.print_json(&instances().collect::<Vec<_>>());
    }
    if arguments.quiet {
        let names: String = instances().map(|instance| format!("{}\n", instance.name)).collect();
        return terminal.print(&names);
    }
    terminal.print(&view::instances::render(&status, terminal, now_unix_ms()))
}
