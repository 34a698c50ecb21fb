//! `sinew down`.

use std::time::Duration;

use sinew_node::folders::Lock;
use sinew_node::launcher;
use sinew_node::process::{ProcessId, Watched};
use sinew_spec::admin::{DownRequest, ErrorCode};

use super::Context;
use crate::failure::Failure;
use crate::target::Target;

/// How long its process may take after it said that all is over.
const LAUNCHER_END_MAX: Duration = Duration::from_secs(5);

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
    let launcher = Lock::holder(&target.folders).and_then(ProcessId::of);
    match target.client().down(&DownRequest { volumes, kill }).await {
        Ok(()) => {
            ended(launcher).await;
            say(context, Some(name), volumes)
        }
        // The launcher is dead, what it started in the background may not be.
        Err(error) if error.code == ErrorCode::NotRunning => {
            clean(&target, volumes).await?;
            say(context, Some(name), volumes)
        }
        Err(error) => Err(error.into()),
    }
}

/// The answer is the launcher's last word, not its end: whoever runs `sinew up` next wants its lock and its ports.
async fn ended(launcher: Option<ProcessId>) {
    if let Some(Ok(Some(process))) = launcher.map(Watched::open) {
        let _ = tokio::time::timeout(LAUNCHER_END_MAX, process.ended()).await;
    }
}

async fn clean(target: &Target, volumes: bool) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed("failed", format!("ending what is left of application `{}`: {error}", target.name))
    };
    let _lock = Lock::take(&target.folders).map_err(|error| failed(&error))?;
    launcher::clean(&target.folders, volumes).await.map_err(|error| failed(&error))?;
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
