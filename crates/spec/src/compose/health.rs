//! `healthcheck:`, and `x-sinew.health` whose times it also gives.

use crate::application::{HealthCheck, Probe};

use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::source::{At, Findings};
use super::yaml::Value;

const INTERVAL_MS: u64 = 30_000;
const TIMEOUT_MS: u64 = 30_000;
const RETRIES: u32 = 3;
/// Until its first success an instance is probed at least this often.
const START_INTERVAL_MS_MAX: u64 = 100;

/// A check over the network and where it stands.
pub(super) type OverNetwork = (Probe, At, String);

pub(super) fn read(
    keys: &Keys<'_>,
    over_network: Option<OverNetwork>,
    findings: &mut Findings,
) -> Option<HealthCheck> {
    let field = keys.get("healthcheck");
    if let Some(field) = field
        && let Value::Scalar { text, .. } = &field.node.value
    {
        let problem =
            field.problem(findings, format!("`healthcheck` must be a mapping, found {}", field.node.kind()));
        problem.hint(format!("write `healthcheck: {{test: {}}}`", quote(text).replace('`', "\"")));
        return None;
    }
    let inner = field.and_then(|field| field.keys(Section::Healthcheck, findings));
    let Some((field, keys)) = field.zip(inner) else {
        return over_network.map(|(probe, _, _)| with_defaults(probe));
    };
    if let Some(disable) = keys.get("disable")
        && disable.boolean(findings) == Some(true)
    {
        return None;
    }
    let test = match keys.get("test") {
        None => None,
        Some(field) => match test(field, findings) {
            Some(Test::None) => return None,
            Some(Test::Command(command)) => Some((Probe::Command(command), field)),
            // What is wrong was said; the other keys are still looked at.
            None => Some((Probe::Command(Vec::new()), field)),
        },
    };
    let probe = match (test, over_network) {
        (Some((_, field)), Some((_, at, path))) => {
            let mention = findings.mention(field.at(), at);
            findings
                .problem(
                    at,
                    path,
                    format!("the service has two health checks; the other is `test` at {mention}"),
                )
                .hint("keep one of them");
            return None;
        }
        (Some((probe, _)), None) | (None, Some((probe, _, _))) => Some(probe),
        (None, None) => {
            field.problem(findings, "the health check has no `test`").hint(
                "write `test: [CMD, program, argument]`, or `x-sinew: {health: {http: {port: 8000, path: /health}}}`",
            );
            None
        }
    };
    let mut check = with_defaults(probe.unwrap_or(Probe::Command(Vec::new())));
    let positive = |name: &str, findings: &mut Findings| {
        let field = keys.get(name)?;
        let ms = field.duration_ms(findings)?;
        if ms == 0 {
            field.problem(findings, format!("`{name}` must be more than 0"));
            return None;
        }
        Some(ms)
    };
    check.interval_ms = positive("interval", findings).unwrap_or(check.interval_ms);
    check.timeout_ms = positive("timeout", findings).unwrap_or(check.timeout_ms);
    check.start_interval_ms = positive("start_interval", findings)
        .map_or(check.start_interval_ms, |ms| ms.min(START_INTERVAL_MS_MAX));
    if let Some(field) = keys.get("start_period") {
        check.start_period_ms = field.duration_ms(findings).unwrap_or_default();
    }
    if let Some(field) = keys.get("retries")
        && let Some(retries) = field.integer(findings, 1, 1_000_000)
    {
        check.retries = u32::try_from(retries).unwrap_or(RETRIES);
    }
    Some(check)
}

fn with_defaults(probe: Probe) -> HealthCheck {
    HealthCheck {
        probe,
        interval_ms: INTERVAL_MS,
        timeout_ms: TIMEOUT_MS,
        retries: RETRIES,
        start_period_ms: 0,
        start_interval_ms: START_INTERVAL_MS_MAX,
    }
}

enum Test {
    None,
    Command(Vec<String>),
}

fn test(field: &Field<'_>, findings: &mut Findings) -> Option<Test> {
    let shell = |script: &str| Test::Command(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
    if !matches!(field.node.value, Value::Sequence(_)) {
        let text = field.filled(findings)?;
        return Some(if text == "NONE" { Test::None } else { shell(text) });
    }
    let items = field.items(findings)?;
    let words: Option<Vec<&str>> = items.iter().map(|item| item.text(findings)).collect();
    let words = words?;
    match words.as_slice() {
        ["NONE"] => Some(Test::None),
        ["CMD-SHELL", script] => Some(shell(script)),
        ["CMD", command @ ..] if !command.is_empty() => {
            Some(Test::Command(command.iter().map(|word| (*word).to_owned()).collect()))
        }
        ["CMD" | "CMD-SHELL"] => {
            field.problem(findings, format!("`{}` is not followed by a command", words[0]));
            None
        }
        ["CMD-SHELL", ..] => {
            items[2]
                .problem(findings, "`CMD-SHELL` is followed by one string")
                .hint("put the whole script in one pair of quotes, or use `CMD`");
            None
        }
        ["NONE", ..] => {
            items[1].problem(findings, "nothing can follow `NONE`");
            None
        }
        [] => {
            field.problem(findings, "`test` is empty").hint("write `test: [CMD, program, argument]`");
            None
        }
        [first, ..] => {
            let what = format!("`test` begins with `CMD`, `CMD-SHELL` or `NONE`, found {}", quote(first));
            let hint = match super::suggest::nearest(first, ["CMD", "CMD-SHELL", "NONE"]) {
                Some(near) if near != *first => format!("did you mean `{near}`?"),
                _ => "put `CMD` in front".to_owned(),
            };
            items[0].problem(findings, what).hint(hint);
            None
        }
    }
}
