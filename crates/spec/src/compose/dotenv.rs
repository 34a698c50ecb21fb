//! `.env` and `env_file`: `NAME=value` lines, comments, quotes, variables.

use std::collections::BTreeMap;

use super::interpolate::{Variables, interpolate};
use super::problem::quote;
use super::source::{At, Findings, SourceId};

pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// All values of one file together, after variables were replaced.
const VALUES_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Quotes and variables mean something.
    Compose,
    /// What follows the `=` is the value.
    Raw,
}

/// The variables of a file, in order. A name without `=` is taken from `outer`, where it is set. Variables in values
/// mean `outer`, then earlier lines. Values are never part of a message.
pub(super) fn parse(
    source: SourceId,
    format: Format,
    outer: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Vec<(String, String)> {
    let text = findings.text(source);
    if text.len() > FILE_BYTES_MAX {
        let what = format!("the file has {} bytes; it may have {FILE_BYTES_MAX}", text.len());
        findings.problem(At::whole(source), "", what);
        return Vec::new();
    }
    let mut file = File { text: &text, source, format, outer, earlier: BTreeMap::new(), findings, bytes: 0 };
    let mut pairs = Vec::new();
    let mut start = 0;
    let mut line = 1;
    while start < text.len() {
        let end = file.line(start, line, &mut pairs);
        line += text[start..end].matches('\n').count();
        start = end;
        if file.bytes > VALUES_BYTES_MAX {
            let what = format!("the values have more than {VALUES_BYTES_MAX} bytes once variables are in");
            file.findings.problem(At::new(source, line, 1), "", what);
            break;
        }
    }
    pairs
}

struct File<'a> {
    text: &'a str,
    source: SourceId,
    format: Format,
    outer: &'a BTreeMap<String, String>,
    earlier: BTreeMap<String, String>,
    findings: &'a mut Findings,
    bytes: usize,
}

/// The environment outside, then what the file said before.
struct Scope<'a> {
    outer: &'a BTreeMap<String, String>,
    earlier: &'a BTreeMap<String, String>,
}

impl Variables for Scope<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.outer.get(name).or_else(|| self.earlier.get(name)).map(String::as_str)
    }
}

impl File<'_> {
    /// Reads the line that begins at `start` (and, in quotes, those that follow); returns where the next one begins.
    fn line(&mut self, start: usize, line: usize, pairs: &mut Vec<(String, String)>) -> usize {
        let end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length + 1);
        let whole = self.text[start..end].trim_end_matches(['\n', '\r']);
        let trimmed = whole.trim_start().trim_start_matches('\u{feff}');
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return end;
        }
        let column = whole[..whole.len() - trimmed.len()].chars().count() + 1;
        let at = At::new(self.source, line, column);
        // `export NAME=value` is what shells read.
        let assignment = trimmed.strip_prefix("export ").map_or(trimmed, str::trim_start);
        let (name, value) = match assignment.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value)),
            None => (assignment.trim_end(), None),
        };
        if let Some(what) = wrong_name(name) {
            self.findings.problem(at, "", what).hint("a line is `NAME=value`; a comment begins with `#`");
            return end;
        }
        let Some(value) = value else {
            if let Some(value) = self.outer.get(name) {
                pairs.push((name.to_owned(), value.clone()));
            }
            return end;
        };
        let value_start = start + whole.len() - value.len();
        let (value, end) = match self.format {
            Format::Raw => (Some(value.to_owned()), end),
            Format::Compose => self.value(value_start, end, at),
        };
        if let Some(value) = value {
            self.bytes += value.len();
            self.earlier.insert(name.to_owned(), value.clone());
            pairs.push((name.to_owned(), value));
        }
        end
    }

    /// The value that begins at a byte, on the line that ends at `line_end`. Quoted ones may go on over lines.
    fn value(&mut self, start: usize, line_end: usize, at: At) -> (Option<String>, usize) {
        let line = &self.text[start..line_end];
        let indented = line.len() - line.trim_start_matches([' ', '\t']).len();
        let value = start + indented;
        let quoted = self.text[value..line_end].chars().next().filter(|quote| matches!(quote, '"' | '\''));
        let Some(mark) = quoted else {
            let text = self.text[value..line_end].trim_end();
            // A comment needs a space before it, so that `a#b` is a value.
            let text = if text.starts_with('#') { "" } else { text };
            let text = text.find(" #").or_else(|| text.find("\t#")).map_or(text, |comment| &text[..comment]);
            return (self.replace(text.trim_end(), at), line_end);
        };
        let Some((raw, after)) = quoted_text(&self.text[value + 1..], mark) else {
            let kind = if mark == '"' { "double" } else { "single" };
            self.findings.problem(at, "", format!("a {kind} quote is not closed"));
            return (None, self.text.len());
        };
        let after = value + 1 + after;
        let end = self.text[after..].find('\n').map_or(self.text.len(), |length| after + length + 1);
        let rest = self.text[after..end].trim();
        if !rest.is_empty() && !rest.starts_with('#') {
            self.findings
                .problem(at, "", "text follows the closing quote")
                .hint("put the whole value in quotes");
            return (None, end);
        }
        let text = if mark == '"' { self.replace(&raw, at) } else { Some(raw) };
        (text, end)
    }

    fn replace(&mut self, text: &str, at: At) -> Option<String> {
        let scope = Scope { outer: self.outer, earlier: &self.earlier };
        match interpolate(text, &scope) {
            Ok(None) => Some(text.to_owned()),
            Ok(Some(replaced)) => {
                for (name, _) in &replaced.unset {
                    self.findings
                        .warning(at, "", format!("the variable `{name}` is not set; an empty string is used"))
                        .hint("a dollar sign itself is written `$$`, or the value put in single quotes");
                }
                Some(replaced.text)
            }
            Err(failure) => {
                self.findings.problem(at, "", failure.what).hint = failure.hint.map(str::to_owned);
                None
            }
        }
    }
}

/// The content up to the closing quote, and the byte after that. Escapes are replaced in double quotes.
fn quoted_text(text: &str, mark: char) -> Option<(String, usize)> {
    let mut output = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            character if character == mark => return Some((output, position + 1)),
            '\\' if mark == '\'' => match characters.next()?.1 {
                '\'' => output.push('\''),
                other => output.extend(['\\', other]),
            },
            '\\' => match characters.next()?.1 {
                'n' => output.push('\n'),
                'r' => output.push('\r'),
                't' => output.push('\t'),
                // Stays a dollar sign when variables are replaced.
                '$' => output.push_str("$$"),
                escaped @ ('"' | '\\' | '\'') => output.push(escaped),
                other => output.extend(['\\', other]),
            },
            character => output.push(character),
        }
    }
    None
}

/// What is wrong with the name of a variable.
pub(super) fn wrong_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a variable has no name before the `=`".to_owned());
    }
    if name.contains(char::is_whitespace) {
        return Some(format!("the name of a variable contains a space: {}", quote(name)));
    }
    if name.contains(|character: char| character == '=' || character.is_control()) {
        return Some(format!("{} cannot be the name of a variable", quote(name)));
    }
    None
}

#[cfg(test)]
mod tests;
