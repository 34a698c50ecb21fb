//! What the application is called, by Compose's rule: `-p`, `COMPOSE_PROJECT_NAME`, `name:`, the folder.

use crate::name::{ApplicationName, NAME_CHARACTERS_MAX};

use super::ComposeInput;
use super::fields::Field;
use super::interpolate::Variables;
use super::source::{At, Findings};
use super::yaml::Node;

const RULE: &str =
    "a name begins with a lower-case letter or a digit; lower-case letters, digits, `-` and `_` follow";

pub(super) fn choose(
    input: &ComposeInput<'_>,
    variables: &dyn Variables,
    root: &Node,
    findings: &mut Findings,
) -> ApplicationName {
    let whole = At::whole(root.at.source);
    // Also checked when something else wins: a wrong name is wrong.
    let written = root.get("name").and_then(|entry| {
        let field = Field::of(entry, "");
        let text = field.filled(findings)?;
        if let Err(wrong) = ApplicationName::parse(text) {
            let near = normalize(text);
            let hint = if near.is_empty() { RULE.to_owned() } else { format!("{RULE}: `{near}`") };
            field.problem(findings, format!("`name`: {wrong}")).hint(hint);
        }
        Some(text.to_owned())
    });
    let from_environment = variables.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
    for (origin, name) in [("-p", input.name.as_deref()), ("COMPOSE_PROJECT_NAME", from_environment)] {
        let Some(name) = name else { continue };
        if let Err(wrong) = ApplicationName::parse(name) {
            findings.problem(whole, "", format!("{origin}: {wrong}")).hint(RULE);
        }
        return ApplicationName::new(name);
    }
    if let Some(written) = written {
        return ApplicationName::new(written);
    }
    let folder = input.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = normalize(&folder);
    if name.is_empty() {
        findings
            .problem(whole, "", "the folder's name cannot be made the name of the application")
            .hint("write `name: something` at the top of the file");
    }
    ApplicationName::new(name)
}

/// Compose's rule: lower case, other characters left out, no `-` or `_` in front (nor, here, at the end).
fn normalize(text: &str) -> String {
    let lower = text.to_lowercase();
    let kept: String = lower
        .chars()
        .filter(|character| {
            character.is_ascii_lowercase() || character.is_ascii_digit() || "-_".contains(*character)
        })
        .collect();
    let name: String = kept.trim_matches(['-', '_']).chars().take(NAME_CHARACTERS_MAX).collect();
    name.trim_end_matches(['-', '_']).to_owned()
}
