//! `sinew stop`.

use super::{Ask, Context, each};
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
    let ask = Ask { done: "stopped", already: "is stopped already", together: false };
    each(&context.target()?, context, &arguments.services, ask, |client, service, instance| async move {
        client.stop(&service, instance).await
    })
    .await
}
