//! How many instances, with how much of the machine, and what happens when one ends. Much can be said in two places.

use crate::application::RestartPolicy;

use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::service::{Context, Draft};
use super::source::Findings;
use super::units;

const REPLICAS_MAX: i64 = 1_000;
/// Below this no program starts: a forgotten unit.
const MEMORY_BYTES_MIN: u64 = 1024 * 1024;

pub(super) fn read(keys: &Keys<'_>, draft: &mut Draft, context: &mut Context<'_>) {
    let findings = &mut *context.findings;
    let deploy = keys.get_filled("deploy").and_then(|field| field.keys(Section::Deploy, findings));
    let deploy_keys = deploy.as_ref();
    if let Some(mode) = deploy_keys.and_then(|deploy| deploy.get("mode")) {
        deploy_mode(mode, findings);
    }
    let resources = deploy_keys
        .and_then(|deploy| deploy.get_filled("resources")?.keys(Section::DeployResources, findings));
    let limits = resources
        .as_ref()
        .and_then(|resources| resources.get_filled("limits")?.keys(Section::DeployLimits, findings));
    let limits = limits.as_ref();

    let replicas = once(
        keys.get("scale"),
        deploy_keys.and_then(|deploy| deploy.get("replicas")),
        |field, findings| field.integer(findings, 0, REPLICAS_MAX),
        findings,
    );
    if let Some(replicas) = replicas {
        draft.service.replicas = u32::try_from(replicas).unwrap_or(1);
    }
    draft.service.limits.cpu_milli =
        once(keys.get("cpus"), limits.and_then(|limits| limits.get("cpus")), cpus, findings);
    draft.service.limits.memory_bytes =
        once(keys.get("mem_limit"), limits.and_then(|limits| limits.get("memory")), memory, findings);
    if let Some(stated) =
        once(keys.get("pids_limit"), limits.and_then(|limits| limits.get("pids")), pids, findings)
    {
        draft.service.limits.pids = stated;
        draft.service.limits.pids_unlimited = stated.is_none();
    }
    let policy = once(
        keys.get("restart"),
        deploy_keys.and_then(|deploy| deploy.get_filled("restart_policy")),
        |field, findings| {
            if field.name() == "restart" { restart(field, findings) } else { restart_policy(field, findings) }
        },
        findings,
    );
    if let Some(policy) = policy {
        draft.service.restart = policy;
    }
}

/// What two keys say: each alone counts, both must agree.
fn once<T: PartialEq>(
    first: Option<&Field<'_>>,
    second: Option<&Field<'_>>,
    read: impl Fn(&Field<'_>, &mut Findings) -> Option<T>,
    findings: &mut Findings,
) -> Option<T> {
    let (Some(one), Some(other)) = (first, second) else {
        return read(first.or(second)?, findings);
    };
    let (value, other_value) = (read(one, findings)?, read(other, findings)?);
    if value != other_value {
        let mention = findings.mention(one.at(), other.at());
        let what = format!("this differs from `{}` at {mention}", one.name());
        other.problem(findings, what).hint("say it in one place");
        return None;
    }
    Some(value)
}

fn deploy_mode(mode: &Field<'_>, findings: &mut Findings) {
    if let Some(text) = mode.filled(findings)
        && text != "replicated"
    {
        let what = format!("the mode {} is not supported", quote(text));
        mode.problem(findings, what).hint("write `replicated`, or leave it out");
    }
}

fn cpus(field: &Field<'_>, findings: &mut Findings) -> Option<u64> {
    let text = field.number_or_text(findings, "a number of CPUs like `0.5`")?;
    units::cpu_milli(text).map_err(|wrong| field.wrong(findings, wrong)).ok()
}

fn memory(field: &Field<'_>, findings: &mut Findings) -> Option<u64> {
    let text = field.number_or_text(findings, "an amount of memory like `512m`")?;
    let bytes = units::bytes(text).map_err(|wrong| field.wrong(findings, wrong)).ok()?;
    if bytes < MEMORY_BYTES_MIN {
        let hint = if text.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("without a unit it is bytes; write `{text}m` for MiB")
        } else {
            "1m is the least".to_owned()
        };
        field.problem(findings, format!("{} is too little memory for a process", quote(text))).hint(hint);
        return None;
    }
    Some(bytes)
}

/// `Some(None)`: no limit, said so.
fn pids(field: &Field<'_>, findings: &mut Findings) -> Option<Option<u64>> {
    let number = field.integer(findings, -1, i64::from(i32::MAX))?;
    match number {
        -1 => Some(None),
        0 => {
            field
                .problem(findings, "with 0 processes the service cannot start")
                .hint("-1 is no limit; without the key it is 2048");
            None
        }
        number => Some(u64::try_from(number).ok()),
    }
}

fn restart(field: &Field<'_>, findings: &mut Findings) -> Option<RestartPolicy> {
    if field.node.kind() == "a boolean" {
        field
            .problem(findings, "`restart` cannot be a boolean")
            .hint("write `\"no\"`, `always`, `on-failure` or `unless-stopped`");
        return None;
    }
    let text = field.text(findings)?;
    let (word, attempts) = match text.split_once(':') {
        Some((word, attempts)) => (word, Some(attempts)),
        None => (text, None),
    };
    let policy = match word {
        "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure { attempts_max: None },
        _ => {
            let words = ["no", "always", "on-failure", "unless-stopped"];
            let hint = match super::suggest::nearest(word, words) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    "it is one of `no`, `always`, `on-failure`, `on-failure:3`, `unless-stopped`".to_owned()
                }
            };
            field.problem(findings, format!("`restart` cannot be {}", quote(text))).hint(hint);
            return None;
        }
    };
    let Some(attempts) = attempts else { return Some(policy) };
    let number = attempts.parse::<u32>().ok().filter(|number| *number > 0);
    match (policy, number) {
        (RestartPolicy::OnFailure { .. }, Some(_)) => Some(RestartPolicy::OnFailure { attempts_max: number }),
        (RestartPolicy::OnFailure { .. }, None) => {
            let what = format!("{} is not a number of attempts", quote(attempts));
            field.problem(findings, what).hint("write `on-failure:3`");
            None
        }
        _ => {
            let what = format!("`{word}` takes no number of attempts");
            field.problem(findings, what).hint("write `on-failure:3`");
            None
        }
    }
}

fn restart_policy(field: &Field<'_>, findings: &mut Findings) -> Option<RestartPolicy> {
    let keys = field.keys(Section::DeployRestartPolicy, findings)?;
    let words = [
        ("none", RestartPolicy::No),
        ("any", RestartPolicy::Always),
        ("on-failure", RestartPolicy::OnFailure { attempts_max: None }),
    ];
    let policy = match keys.get("condition") {
        Some(condition) => condition.word(findings, &words)?,
        None => RestartPolicy::Always,
    };
    let Some(attempts) = keys.get("max_attempts") else { return Some(policy) };
    let number = attempts.integer(findings, 1, i64::from(u32::MAX))?;
    if let RestartPolicy::OnFailure { .. } = policy {
        return Some(RestartPolicy::OnFailure { attempts_max: u32::try_from(number).ok() });
    }
    attempts
        .problem(findings, "`max_attempts` is counted for failures only")
        .hint("write `condition: on-failure` beside it");
    None
}
