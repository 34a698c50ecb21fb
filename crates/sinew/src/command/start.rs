//! `sinew start`.

use super::{Context, each};
use crate::failure::Failure;

/// Start what was stopped
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew start orders\n  \
    sinew start                   every service")]
pub struct Arguments {
    /// Services (`orders`) or instances (`orders-2`) [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let ask = async |service, instance| client.start(&service, instance).await;
    each(&client, context, &arguments.services, "started", ask).await
}
