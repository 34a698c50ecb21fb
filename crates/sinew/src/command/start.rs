//! `sinew start`.

use super::{Ask, Context, each};
use crate::failure::Failure;

/// Start what was stopped or has ended
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew start orders\n  \
    sinew start                   every service\n\n\
    Returns when they are up: healthy where a check is declared, accepting connections where a port is, else \
    having run for half a second. What a service depends on is not started with it.")]
pub struct Arguments {
    /// Services (`orders`) or instances (`orders-2`) [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let ask = Ask { done: "started", already: "runs already", together: true };
    each(&context.target()?, context, &arguments.services, ask, |client, service, instance| async move {
        client.start(&service, instance).await
    })
    .await
}
