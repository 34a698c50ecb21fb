//! `sinew down`.

use sinew_spec::admin::DownRequest;

use super::Context;
use crate::failure::Failure;

/// End the application: services, sidecars, gateway and launcher
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew down\n  \
    sinew down -v                 also delete the named volumes: their data is gone\n  \
    sinew down --kill             do not ask services to stop, end them at once")]
pub struct Arguments {
    /// Delete the named volumes too
    #[arg(short, long)]
    volumes: bool,
    /// End everything at once, without stop signals and grace
    #[arg(long)]
    kill: bool,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let Arguments { volumes, kill } = *arguments;
    client.down(&DownRequest { volumes, kill }).await?;
    if context.terminal.is_json() {
        return context
            .terminal
            .print_json(&serde_json::json!({ "down": client.application(), "volumes": volumes }));
    }
    let deleted = if volumes { ", its volumes are deleted" } else { "" };
    context.terminal.print(&format!("{} is down{deleted}\n", client.application()))
}
