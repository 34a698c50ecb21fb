//! `configs:` and `secrets:` of a service: files that appear inside of its seal.

use std::path::{Path, PathBuf};

use crate::application::FileGrant;

use super::fields::{Field, Keys};
use super::keys::Section;
use super::paths;
use super::problem::quote;
use super::service::{Context, Draft};
use super::suggest::nearest;
use super::yaml::Value;

pub(super) fn read(keys: &Keys<'_>, draft: &mut Draft, context: &mut Context<'_>) {
    for secret in [false, true] {
        let Some(field) = keys.get(if secret { "secrets" } else { "configs" }) else { continue };
        let mut files: Vec<(FileGrant, super::source::At)> = Vec::new();
        for item in field.items(context.findings).unwrap_or_default() {
            let Some(file) = grant(&item, secret, context) else { continue };
            let at = item.at();
            match files.iter_mut().find(|(known, _)| known.target == file.target) {
                None => files.push((file, at)),
                Some((_, first)) if first.source == at.source => {
                    let shown = quote(&file.target.to_string_lossy());
                    let line = first.line;
                    item.problem(context.findings, format!("two files are put at {shown}"))
                        .hint(format!("the first is on line {line}"));
                }
                Some(known) => *known = (file, at),
            }
        }
        draft.service.files.extend(files.into_iter().map(|(file, _)| file));
    }
}

fn grant(item: &Field<'_>, secret: bool, context: &mut Context<'_>) -> Option<FileGrant> {
    let mode = if secret { 0o400 } else { 0o444 };
    if !matches!(item.node.value, Value::Mapping(_)) {
        let name = item.filled(context.findings)?;
        let content = declared(item, name, secret, context)?;
        let target = default_target(name, secret);
        return Some(FileGrant {
            name: name.to_owned(),
            content,
            target,
            mode,
            uid: None,
            gid: None,
            secret,
        });
    }
    let keys = item.keys(Section::Grant, context.findings)?;
    let Some(source) = keys.get("source") else {
        item.problem(context.findings, "the entry needs a `source`: the name from the top level");
        return None;
    };
    let name = source.filled(context.findings)?;
    let content = declared(source, name, secret, context);
    let target = match keys.get("target") {
        None => Some(default_target(name, secret)),
        Some(field) => field.filled(context.findings).and_then(|text| {
            let base = if secret { "/run/secrets" } else { "/" };
            let whole = Path::new(base).join(text);
            paths::inside(field, &whole.to_string_lossy(), context.findings)
        }),
    };
    let mut id = |key: &str| match keys.get(key) {
        None => Some(None),
        Some(field) => {
            let id = field.integer(context.findings, 0, i64::from(u32::MAX) - 1)?;
            Some(u32::try_from(id).ok())
        }
    };
    let (uid, gid) = (id("uid"), id("gid"));
    let mode = match keys.get("mode") {
        None => Some(mode),
        Some(field) => octal(field, context),
    };
    Some(FileGrant {
        name: name.to_owned(),
        content: content?,
        target: target?,
        mode: mode?,
        uid: uid?,
        gid: gid?,
        secret,
    })
}

fn default_target(name: &str, secret: bool) -> PathBuf {
    Path::new(if secret { "/run/secrets" } else { "/" }).join(name)
}

fn declared(
    field: &Field<'_>,
    name: &str,
    secret: bool,
    context: &mut Context<'_>,
) -> Option<crate::application::FileContent> {
    let (names, kind) =
        if secret { (&context.top.secrets, "secret") } else { (&context.top.configs, "config") };
    if let Some(content) = names.take(name) {
        // `None`: what is wrong with it was said where it is declared.
        return content.clone();
    }
    let hint = match nearest(name, names.names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it at the top level: `{kind}s: {{{name}: {{file: ./{name}}}}}`"),
    };
    field.problem(context.findings, format!("the {kind} {} is not declared", quote(name))).hint(hint);
    None
}

/// `0440`; YAML 1.2 reads it as a decimal number, people mean octal.
fn octal(field: &Field<'_>, context: &mut Context<'_>) -> Option<u32> {
    let text = field.number_or_text(context.findings, "a mode like `0440`")?;
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
    let mode = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok()).filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let octal =
            !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let hint = if octal {
            format!("write `0{text}`: a mode is octal")
        } else {
            "a mode is like `0440`".to_owned()
        };
        field.problem(context.findings, format!("{} is not the mode of a file", quote(text))).hint(hint);
    }
    mode
}
