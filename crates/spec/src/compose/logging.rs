//! `logging`: how much of a service's output is kept.

use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::source::Findings;
use super::units;

/// Both files; less would hold no line of the greatest length.
const KEPT_BYTES_MIN: u64 = 64 * 1024;
const KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
const FILES_MAX: i64 = 1_000;

/// Bytes that are kept of one instance's output; `None`: the file leaves it open.
pub(super) fn read(keys: &Keys<'_>, findings: &mut Findings) -> Option<u64> {
    let logging = keys.get_filled("logging")?.keys(Section::Logging, findings)?;
    if let Some(field) = logging.get_filled("driver") {
        driver(field, findings);
    }
    let options = logging.get_filled("options")?.keys(Section::LoggingOptions, findings)?;
    let files = options.get_filled("max-file").map(|field| field.integer(findings, 1, FILES_MAX));
    let field = options.get_filled("max-size")?;
    let size = size(field, findings)?;
    let files = match files {
        None => 1,
        Some(files) => u64::try_from(files?).ok()?,
    };
    let kept = size.saturating_mul(files);
    if kept > KEPT_BYTES_MAX {
        field
            .problem(findings, "more than 16 GiB of output would be kept")
            .hint("a few MiB are the rule: `10m`");
        return None;
    }
    if kept < KEPT_BYTES_MIN {
        let what = format!("{kept} bytes are too few for lines of 16 KiB");
        field.problem(findings, what).hint("`max-size` times `max-file` is 64k at the least");
        return None;
    }
    Some(kept)
}

fn driver(field: &Field<'_>, findings: &mut Findings) {
    let Some(name) = field.filled(findings) else { return };
    if matches!(name, "json-file" | "local") {
        return;
    }
    let hint = match name {
        "none" => {
            "leave `logging` out: output is kept within a bound; `command: [sh, -c, 'exec program >/dev/null']` throws it away"
        }
        "journald" | "syslog" => "leave `logging` out; `sinew logs -f -o json | systemd-cat` sends it on",
        _ => "leave `logging` out; `sinew logs -f -o json` gives a collector every line",
    };
    field
        .problem(
            findings,
            format!("the driver {} is not supported; `json-file` and `local` are", quote(name)),
        )
        .hint(hint);
}

fn size(field: &Field<'_>, findings: &mut Findings) -> Option<u64> {
    let text = field.number_or_text(findings, "an amount like `10m`")?;
    if text == "-1" {
        field.problem(findings, "output without a bound is not kept").hint("write an amount like `10m`");
        return None;
    }
    units::bytes(text).map_err(|wrong| field.wrong(findings, wrong)).ok()
}
