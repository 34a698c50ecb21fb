//! `sinew stop`.

use super::{Context, each};
use crate::failure::Failure;

/// Stop services or single instances; they stay stopped until `start`
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew stop orders\n  \
    sinew stop orders-2 billing\n  \
    sinew stop                    every service; the sidecars and names stay")]
pub struct Arguments {
    /// Services (`orders`) or instances (`orders-2`) [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let ask = async |service, instance| client.stop(&service, instance).await;
    each(&client, context, &arguments.services, "stopped", ask).await
}
