//! `sinew down`.

use sinew_node::folders::Lock;
use sinew_node::launcher;
use sinew_spec::admin::{DownRequest, ErrorCode};

use super::Context;
use crate::failure::Failure;
use crate::target::Target;

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
    let Arguments { volumes, kill } = *arguments;
    let Some(target) = context.target_if_any()? else {
        return say(context, None, false);
    };
    let name = target.name.as_str();
    match target.client().down(&DownRequest { volumes, kill }).await {
        Ok(()) => say(context, Some(name), volumes),
        // The launcher is dead, what it started in the background may not be.
        Err(error) if error.code == ErrorCode::NotRunning => {
            clean(&target, volumes).await?;
            say(context, Some(name), volumes)
        }
        Err(error) => Err(error.into()),
    }
}

async fn clean(target: &Target, volumes: bool) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed("failed", format!("ending what is left of application `{}`: {error}", target.name))
    };
    let _lock = Lock::take(&target.folders).map_err(|error| failed(&error))?;
    launcher::clean(&target.folders, &target.name, volumes).await.map_err(|error| failed(&error))?;
    target.folders.remove_run().map_err(|error| failed(&error))
}

/// `name`: `None`: there was nothing to end.
fn say(context: &Context, name: Option<&str>, volumes: bool) -> Result<(), Failure> {
    if context.terminal.is_json() {
        return context.terminal.print_json(&serde_json::json!({ "down": name, "volumes": volumes }));
    }
    context.terminal.print(&match name {
        Some(name) if volumes => format!("{name} is down, its volumes are deleted\n"),
        Some(name) => format!("{name} is down\n"),
        None => "nothing runs here\n".to_owned(),
    })
}
