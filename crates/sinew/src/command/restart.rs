//! `sinew restart`.

use super::{Context, each};
use crate::failure::Failure;

/// Restart services or single instances, one instance after the other
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew restart orders\n  \
    sinew restart orders-2\n  \
    sinew restart                 every service\n\n\
    Another instance serves meanwhile where there is one; no request is lost then.")]
pub struct Arguments {
    /// Services (`orders`) or instances (`orders-2`) [default: all services]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let ask = async |service, instance| client.restart(&service, instance).await;
    each(&client, context, &arguments.services, "restarted", ask).await
}
