//! `deploy.update_config` and `deploy.rollback_config`: what can be chosen is, and what is always so may be said.

use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::service::Draft;
use super::source::Findings;

const ONE_BY_ONE: &str = "instances are replaced one after the other, so that no request is lost";
const AT_ONCE: &str = "the next one is replaced as soon as the last one serves; what goes wrong later is found within `monitor`";
const ANY_FAILURE: &str = "one failure is enough for the old version to be taken back";

/// After the mounts and devices.
pub(super) fn read(keys: &Keys<'_>, draft: &mut Draft, findings: &mut Findings) {
    let Some(deploy) = keys.get_filled("deploy") else { return };
    let mut said: [Option<(Field<'_>, bool)>; 2] = [None, None];
    let sections = [("update_config", Section::UpdateConfig), ("rollback_config", Section::RollbackConfig)];
    for ((name, section), said) in sections.into_iter().zip(&mut said) {
        let Some(field) = deploy.child(name).filter(|field| !field.is_null()) else { continue };
        let Some(keys) = field.keys(section, findings) else { continue };
        let watch_ms = keys.get("monitor").and_then(|field| field.duration_ms(findings));
        let replacing = &mut draft.service.replacing;
        match section {
            Section::UpdateConfig => replacing.update_watch_ms = watch_ms,
            _ => replacing.rollback_watch_ms = watch_ms,
        }
        fixed(&keys, findings);
        if let Some(order) = keys.get("order") {
            let stop_first = order.word(findings, &[("start-first", false), ("stop-first", true)]);
            *said = stop_first.map(|stop_first| (order.clone(), stop_first));
        }
    }
    let [update, rollback] = said;
    draft.service.replacing.stop_first = update.as_ref().is_some_and(|(_, stop_first)| *stop_first);
    let alone = draft.service.devices.is_empty() && draft.service.mounts.iter().all(|mount| mount.read_only);
    if let Some((field, false)) = &update
        && !alone
    {
        field
            .problem(
                findings,
                "`start-first` is not possible: two instances would share a writable volume or a device",
            )
            .hint("write `stop-first`, or leave it out");
    }
    if let Some((field, stop_first)) = rollback
        && stop_first == (alone && !draft.service.replacing.stop_first)
    {
        let what = "a rollback replaces instances in the order of an update";
        field.problem(findings, what).hint("say the same as `update_config`, or leave it out");
    }
}

/// Keys with one value.
fn fixed(keys: &Keys<'_>, findings: &mut Findings) {
    if let Some(field) = keys.get("parallelism")
        && let Some(number) = field.integer(findings, 0, 1_000_000)
        && number != 1
    {
        refuse(field, "1", ONE_BY_ONE, findings);
    }
    if let Some(field) = keys.get("delay")
        && let Some(ms) = field.duration_ms(findings)
        && ms != 0
    {
        refuse(field, "0s", AT_ONCE, findings);
    }
    if let Some(field) = keys.get("failure_action")
        && let Some(text) = field.filled(findings)
        && text != "rollback"
    {
        refuse(field, "rollback", ANY_FAILURE, findings);
    }
    if let Some(field) = keys.get("max_failure_ratio")
        && let Some(text) = field.number_or_text(findings, "a number from 0 to 1")
    {
        match text.parse::<f64>() {
            Ok(0.0) => {}
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => refuse(field, "0", ANY_FAILURE, findings),
            _ => {
                let what = format!("`max_failure_ratio` must be a number from 0 to 1, found {}", quote(text));
                field.problem(findings, what);
            }
        }
    }
}

fn refuse(field: &Field<'_>, only: &str, hint: &str, findings: &mut Findings) {
    field.problem(findings, format!("`{}` can only be `{only}`", field.name())).hint(hint);
}
