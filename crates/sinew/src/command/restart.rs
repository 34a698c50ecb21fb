//! `sinew restart`.

use super::{Ask, Context, each};
use crate::failure::Failure;

/// Restart services or single instances, one instance after the other
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew restart orders\n  \
    sinew restart orders-2\n  \
    sinew restart                 every service\n\n\
    Another instance serves meanwhile where there is one; no request is lost then. Returns when the new \
    instances are up: healthy where a check is declared, accepting connections where a port is, else having \
    run for half a second. One that does not come up is told, and where another may run beside it the old \
    instance goes on.")]
pub struct Arguments {
    /// Services (`orders`) or instances (`orders-2`) [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let ask = Ask { done: "restarted", already: "is as it was", together: false };
    each(&context.target()?, context, &arguments.services, ask, |client, service, instance| async move {
        client.restart(&service, instance).await
    })
    .await
}
