//! `sinew rollback`.

use std::time::Duration;

use serde_json::json;
use sinew_node::update::history;
use sinew_spec::name::ServiceName;
use sinew_spec::update::{Cause, HistoryEntry, ImageVersion, ServiceUpdate, What};

use super::Context;
use super::update::Site;
use crate::arguments::Files;
use crate::failure::Failure;
use crate::units::{now_unix_ms, parse_span};
use crate::versions::engine::EngineStore;
use crate::versions::pin::{self, wanted};
use crate::versions::store::{Store, repository};

/// Go back to the images before the last update
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew rollback --dry-run\n  \
    sinew rollback web\n  \
    sinew rollback                every service that was updated\n\n\
    It is an update like any other: one instance after the other, watched, taken back when it fails. The old images\n\
    are on this host, so no network is needed.")]
pub struct Arguments {
    /// Services [default: all that can go back]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Show what would change
    #[arg(long)]
    dry_run: bool,
    /// How long the old versions must go on well before they are kept [default: `monitor` of the file, else 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    watch: Option<Duration>,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let site = Site::of(context, &arguments.files)?;
    let all = arguments.services.is_empty();
    let selected = site.select(&arguments.services, all)?;
    if !arguments.dry_run {
        site.must_run().await?;
    }
    let past = history::read(&site.folders)
        .map_err(|error| Failure::failed("history", format!("the history cannot be read: {error}")))?;
    let store = EngineStore::find(&context.terminal)?;
    let now = pin::pin(&site.only(&selected), &store, false, now_unix_ms())?;
    let mut updates = Vec::new();
    for service in &selected {
        let wanted = wanted(site.container(service));
        let from = now.versions[service].clone();
        let Some(to) = before(&past, service, &wanted.reference, &from) else {
            if all {
                continue;
            }
            let text = format!("{service}: the history knows no version before {}", from.shown().short());
            return Err(Failure::bad_input("no_version", text).hint("`sinew history` shows what it knows"));
        };
        bring(&store, service, &wanted.reference, &to)?;
        let (reference, platform) = (wanted.reference.clone(), wanted.key().platform);
        updates.push(ServiceUpdate { service: service.clone(), reference, platform, from, to });
    }
    if updates.is_empty() {
        return Err(Failure::bad_input("no_version", "no service has a version to go back to")
            .hint("`sinew history` shows what it knows"));
    }
    site.show_plan(context, &updates)?;
    if arguments.dry_run {
        return match context.terminal.is_json() {
            true => context.terminal.print_json(&json!({ "changes": updates })),
            false => Ok(()),
        };
    }
    site.carry_out(context, &store, Cause::Rollback, updates, arguments.watch).await
}

/// What ran before the version that runs now, by the newest entry that led to it.
fn before(
    past: &[HistoryEntry],
    service: &ServiceName,
    reference: &str,
    now: &ImageVersion,
) -> Option<ImageVersion> {
    let led_here = |entry: &&HistoryEntry| {
        let kept = matches!(entry.what, What::Updated | What::RolledBack);
        let to = entry.to.as_ref().is_some_and(|to| to.id == now.id);
        kept && to && entry.service == *service && entry.reference == reference
    };
    past.iter().rev().find(led_here)?.from.clone()
}

/// The old image is kept; should somebody have removed it, its registry may have it.
fn bring(
    store: &dyn Store,
    service: &ServiceName,
    reference: &str,
    to: &ImageVersion,
) -> Result<(), Failure> {
    let failed = |reason: String| {
        Failure::failed("image", format!("{service}: {reason}")).hint("nothing was replaced")
    };
    if store.find(to.id.as_str()).map_err(failed)?.is_some() {
        return Ok(());
    }
    let gone = || failed(format!("the image {} is not on this host any more", to.id.short()));
    let digest = to.digest.as_ref().ok_or_else(gone)?;
    store.pull(&format!("{}@{digest}", repository(reference)), None).map_err(failed)?;
    match store.find(to.id.as_str()).map_err(failed)? {
        Some(_) => Ok(()),
        None => Err(gone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::store::tests::digest;

    #[test]
    fn the_version_before_is_where_the_last_step_came_from() {
        let version = |digit| ImageVersion { id: digest(digit), digest: None };
        let entry = |what, from, to| HistoryEntry {
            unix_ms: 0,
            service: "web".into(),
            reference: "web:1".to_owned(),
            what,
            from: Some(version(from)),
            to: Some(version(to)),
            reason: None,
        };
        let past = [
            entry(What::Updated, 'a', 'b'),
            entry(What::TakenBack, 'b', 'c'),
            entry(What::Updated, 'b', 'd'),
            entry(What::RolledBack, 'd', 'b'),
        ];
        let check = |now, expected: Option<char>| {
            let found = before(&past, &"web".into(), "web:1", &version(now));
            assert_eq!(found, expected.map(version), "{now}");
        };
        check('d', Some('b'));
        // A rollback is undone by another one.
        check('b', Some('d'));
        check('c', None);
        check('a', None);
        assert_eq!(before(&past, &"db".into(), "web:1", &version('d')), None);
        assert_eq!(before(&past, &"web".into(), "web:2", &version('d')), None);
    }
}
