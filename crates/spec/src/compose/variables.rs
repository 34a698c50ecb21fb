//! Replaces the variables in every value of a file.

use std::collections::{BTreeMap, BTreeSet};

use super::interpolate::{Failure, Variables, interpolate};
use super::source::{At, Findings};
use super::yaml::{Node, Value, push_key};

/// All values of all files together.
const REPLACED_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Variables for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        Self::get(self, name).map(String::as_str)
    }
}

#[derive(Default)]
pub(super) struct Replacement {
    bytes: usize,
    /// Each unset variable is mentioned once.
    mentioned: BTreeSet<String>,
}

impl Replacement {
    /// Replaces below `node`. Keys stay as they are, as in Compose.
    pub fn replace(
        &mut self,
        node: &mut Node,
        path: &mut String,
        variables: &dyn Variables,
        findings: &mut Findings,
    ) {
        match &mut node.value {
            Value::Null => {}
            Value::Mapping(entries) => {
                for entry in entries {
                    let length = path.len();
                    push_key(path, &entry.key);
                    self.replace(&mut entry.value, path, variables, findings);
                    path.truncate(length);
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let length = path.len();
                    path.push_str(&format!("[{index}]"));
                    self.replace(item, path, variables, findings);
                    path.truncate(length);
                }
            }
            Value::Scalar { text, plain } => {
                let at = node.at;
                match interpolate(text, variables) {
                    Ok(None) => {}
                    Ok(Some(replaced)) => {
                        for (name, offset) in replaced.unset {
                            self.mention(name, place(at, text, offset, findings), path, findings);
                        }
                        self.bytes += replaced.text.len();
                        *text = replaced.text;
                        // What a variable brings is text; what wants a number reads it from text.
                        *plain = false;
                        if self.bytes > REPLACED_BYTES_MAX {
                            text.clear();
                            let what = format!(
                                "the values have more than {REPLACED_BYTES_MAX} bytes once variables are in"
                            );
                            findings.problem(at, path.clone(), what);
                        }
                    }
                    Err(Failure { offset, what, hint }) => {
                        let at = place(at, text, offset, findings);
                        findings.problem(at, path.clone(), what).hint = hint.map(str::to_owned);
                        // Whatever else is wrong with the value is a consequence.
                        node.value = Value::Null;
                        node.failed = true;
                    }
                }
            }
        }
    }

    fn mention(&mut self, name: String, at: At, path: &str, findings: &mut Findings) {
        const MENTIONED_MAX: usize = 1_000;
        if self.mentioned.len() < MENTIONED_MAX && !self.mentioned.contains(&name) {
            findings
                .warning(at, path, format!("the variable `{name}` is not set; an empty string is used"))
                .hint(format!("set it in the environment or in `.env`, give it a default (`${{{name}:-…}}`), or write `$$` for a dollar sign"));
            self.mentioned.insert(name);
        }
    }
}

/// The place of a character of a value, when the value stands in the file as it is; else the value's place.
fn place(at: At, text: &str, offset: usize, findings: &Findings) -> At {
    let source = findings.text(at.source);
    let line = usize::try_from(at.line).ok().and_then(|line| source.lines().nth(line.checked_sub(1)?));
    let Some(line) = line else { return at };
    let column = at.column.saturating_sub(1) as usize;
    let first_line = text.lines().next().unwrap_or_default();
    for quote in [0, 1] {
        let written = line.chars().skip(column + quote);
        if offset < first_line.chars().count()
            && written.take(first_line.chars().count()).eq(first_line.chars())
        {
            return At { column: at.column + u32::try_from(offset + quote).unwrap_or(0), ..at };
        }
    }
    at
}
