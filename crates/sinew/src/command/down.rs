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
    sinew down -v                 also delete the volumes: their data is gone (also when nothing runs)\n  \
    sinew down --kill             do not ask services to stop, end them at once")]
pub struct Arguments {
    /// Delete the volumes too
    #[arg(short, long)]
    volumes: bool,
    /// End everything at once, without stop signals and grace
    #[arg(long)]
    kill: bool,
    // What people of Compose type: services that are no longer in the file go anyway.
    #[arg(long, hide = true)]
    remove_orphans: bool,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let Arguments { volumes, kill, .. } = *arguments;
    let Some(target) = context.target_if_any()? else {
        return if volumes { delete_volumes(context) } else { say(context, None, volumes, &[], &[]) };
    };
    let before = target.folders.volume_names().unwrap_or_default();
    let launcher = Lock::holder(&target.folders).and_then(ProcessId::of);
    match target.client().down(&DownRequest { volumes, kill }).await {
        Ok(()) => ended(launcher).await,
        // The launcher is dead, what it started in the background may not be.
        Err(error) if error.code == ErrorCode::NotRunning => clean(&target, volumes).await?,
        Err(error) => return Err(error.into()),
    }
    let kept = target.folders.volume_names().unwrap_or_default();
    let deleted: Vec<String> = before.into_iter().filter(|volume| !kept.contains(volume)).collect();
    say(context, Some(target.name.as_str()), volumes, &deleted, &kept)
}

/// Nothing runs any more: what an earlier `down` has kept is deleted.
fn delete_volumes(context: &Context) -> Result<(), Failure> {
    let target = context.target_at_rest()?;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed("failed", format!("deleting the volumes of application `{}`: {error}", target.name))
    };
    if target.folders.volume_names().is_ok_and(|volumes| volumes.is_empty()) {
        return say(context, None, true, &[], &[]);
    }
    // Nobody may start it meanwhile.
    target.folders.make().map_err(|error| failed(&error))?;
    let _lock = Lock::take(&target.folders).map_err(|error| failed(&error))?;
    let deleted = target.folders.remove_volumes().map_err(|error| failed(&error))?;
    target.folders.remove_run().map_err(|error| failed(&error))?;
    say(context, None, true, &deleted, &[])
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
fn say(
    context: &Context,
    name: Option<&str>,
    volumes: bool,
    deleted: &[String],
    kept: &[String],
) -> Result<(), Failure> {
    if context.terminal.is_json() {
        let report =
            serde_json::json!({ "down": name, "volumes": volumes, "deleted": deleted, "kept": kept });
        return context.terminal.print_json(&report);
    }
    context.terminal.print(&in_words(name, volumes, deleted, kept))
}

fn in_words(name: Option<&str>, volumes: bool, deleted: &[String], kept: &[String]) -> String {
    let mut out = name.map_or_else(|| "nothing runs here".to_owned(), |name| format!("{name} is down"));
    if !deleted.is_empty() {
        out.push_str(&format!("; deleted {}: {}", words(deleted), deleted.join(", ")));
    } else if volumes {
        out.push_str("; there were no volumes to delete");
    }
    if !kept.is_empty() {
        let verb = if kept.len() == 1 { "stays" } else { "stay" };
        out.push_str(&format!("; {verb}: {} {} (`down -v` deletes)", words(kept), kept.join(", ")));
    }
    out.push('\n');
    out
}

fn words(volumes: &[String]) -> &'static str {
    if volumes.len() == 1 { "the volume" } else { "the volumes" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_the_volumes_is_told() {
        let check = |name: Option<&str>, volumes: bool, deleted: &[&str], kept: &[&str], words: &str| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            assert_eq!(in_words(name, volumes, &owned(deleted), &owned(kept)), format!("{words}\n"));
        };
        check(None, false, &[], &[], "nothing runs here");
        check(None, true, &[], &[], "nothing runs here; there were no volumes to delete");
        check(None, true, &["a", "b"], &[], "nothing runs here; deleted the volumes: a, b");
        check(Some("shop"), false, &[], &[], "shop is down");
        check(Some("shop"), true, &["a"], &[], "shop is down; deleted the volume: a");
        check(Some("shop"), false, &[], &["a"], "shop is down; stays: the volume a (`down -v` deletes)");
    }
}
