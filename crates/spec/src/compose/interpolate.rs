//! Variables in values: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?error}`, `${NAME?error}`,
//! `${NAME:+replacement}`, `${NAME+replacement}`, nested in their words; `$$` is a dollar sign.

use std::borrow::Cow;

/// Words in words.
const DEPTH_MAX: usize = 16;
/// One value after interpolation.
pub(super) const VALUE_BYTES_MAX: usize = 256 * 1024;

/// Looks a variable up.
pub(super) trait Variables {
    fn get(&self, name: &str) -> Option<&str>;
}

impl<F: Fn(&str) -> Option<&'static str>> Variables for F {
    fn get(&self, name: &str) -> Option<&str> {
        self(name)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interpolated {
    pub text: String,
    /// Variables that are not set and have no default: name and offset in characters.
    pub unset: Vec<(String, usize)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Where in the text, in characters.
    pub offset: usize,
    pub what: String,
    pub hint: Option<&'static str>,
}

/// `None`: the text holds no `$`.
pub(super) fn interpolate(text: &str, variables: &dyn Variables) -> Result<Option<Interpolated>, Failure> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut machine = Machine { text, position: 0, variables, unset: Vec::new() };
    let (output, _) = machine.words(0, true)?;
    Ok(Some(Interpolated { text: output, unset: machine.unset }))
}

struct Machine<'a> {
    text: &'a str,
    /// In bytes.
    position: usize,
    variables: &'a dyn Variables,
    unset: Vec<(String, usize)>,
}

const WRITE_TWO: &str = "a dollar sign itself is written `$$`";

impl Machine<'_> {
    /// Text up to the end (depth 0) or the closing brace, which is consumed. Where `live` is false nothing is looked
    /// up: the text is only skipped. True: it was closed.
    fn words(&mut self, depth: usize, live: bool) -> Result<(String, bool), Failure> {
        let mut output = String::new();
        loop {
            let rest = &self.text[self.position..];
            let stop = if depth == 0 { rest.find('$') } else { rest.find(['$', '}']) };
            let Some(stop) = stop else {
                output.push_str(rest);
                self.position = self.text.len();
                return self.bounded(output).map(|output| (output, false));
            };
            output.push_str(&rest[..stop]);
            self.position += stop;
            if rest[stop..].starts_with('}') {
                self.position += 1;
                return self.bounded(output).map(|output| (output, true));
            }
            let value = self.variable(depth, live)?;
            output.push_str(&value);
            output = self.bounded(output)?;
        }
    }

    fn bounded(&self, output: String) -> Result<String, Failure> {
        if output.len() <= VALUE_BYTES_MAX {
            return Ok(output);
        }
        Err(self.failure(
            self.position,
            format!("the value has more than {VALUE_BYTES_MAX} bytes once its variables are in"),
            None,
        ))
    }

    /// At a `$`.
    fn variable(&mut self, depth: usize, live: bool) -> Result<String, Failure> {
        let start = self.position;
        self.position += 1;
        let rest = &self.text[self.position..];
        if rest.starts_with('$') {
            self.position += 1;
            return Ok("$".to_owned());
        }
        if !rest.starts_with('{') {
            let name = name(rest);
            if name.is_empty() {
                let what = "`$` is not followed by the name of a variable".to_owned();
                return Err(self.failure(start, what, Some(WRITE_TWO)));
            }
            let name = name.to_owned();
            self.position += name.len();
            return Ok(self.look_up(&name, start, live).into_owned());
        }
        if depth == DEPTH_MAX {
            let what = format!("variables nest deeper than {DEPTH_MAX} levels");
            return Err(self.failure(start, what, None));
        }
        self.position += 1;
        self.braced(start, depth, live)
    }

    /// After `${`.
    fn braced(&mut self, start: usize, depth: usize, live: bool) -> Result<String, Failure> {
        let name = name(&self.text[self.position..]).to_owned();
        self.position += name.len();
        let rest = &self.text[self.position..];
        if name.is_empty() {
            let what = if rest.starts_with('}') {
                "`${}` names no variable"
            } else {
                "`${` is not followed by the name of a variable"
            };
            return Err(self.failure(start, what.to_owned(), Some(WRITE_TWO)));
        }
        if rest.starts_with('}') {
            self.position += 1;
            return Ok(self.look_up(&name, start, live).into_owned());
        }
        let colon = rest.starts_with(':');
        let operator = rest[usize::from(colon)..].chars().next().filter(|operator| "-?+".contains(*operator));
        let Some(operator) = operator else {
            let (what, hint) = if rest.is_empty() {
                (format!("`${{{name}` is not closed by `}}`"), None)
            } else {
                (
                    format!("`${{{name}` is followed by something that is no operator"),
                    Some(
                        "a default is `${NAME:-default}`; an error is `${NAME:?message}`; an alternative is `${NAME:+text}`",
                    ),
                )
            };
            return Err(self.failure(start, what, hint));
        };
        self.position += usize::from(colon) + 1;
        let value = if live { self.variables.get(&name).map(str::to_owned) } else { None };
        let usable = value.as_deref().is_some_and(|value| !colon || !value.is_empty());
        let wants_words = match operator {
            '+' => usable,
            _ => !usable,
        };
        let (words, closed) = self.words(depth + 1, live && wants_words)?;
        if !closed {
            return Err(self.failure(start, format!("`${{{name}{operator}` is not closed by `}}`"), None));
        }
        match operator {
            '-' if usable => Ok(value.unwrap_or_default()),
            '-' => Ok(words),
            '+' if usable => Ok(words),
            '+' => Ok(String::new()),
            _ if usable || !live => Ok(value.unwrap_or_default()),
            _ => {
                let state = if value.is_some() { "empty" } else { "not set" };
                let what = if words.trim().is_empty() {
                    format!("the variable `{name}` is {state}")
                } else {
                    format!("the variable `{name}` is {state}: {}", words.trim())
                };
                Err(self.failure(start, what, Some("set it in the environment or in the file `.env`")))
            }
        }
    }

    fn look_up(&mut self, name: &str, start: usize, live: bool) -> Cow<'static, str> {
        if !live {
            return Cow::Borrowed("");
        }
        match self.variables.get(name) {
            Some(value) => Cow::Owned(value.to_owned()),
            None => {
                let offset = self.characters(start);
                self.unset.push((name.to_owned(), offset));
                Cow::Borrowed("")
            }
        }
    }

    fn failure(&self, start: usize, what: String, hint: Option<&'static str>) -> Failure {
        Failure { offset: self.characters(start), what, hint }
    }

    fn characters(&self, bytes: usize) -> usize {
        self.text[..bytes].chars().count()
    }
}

/// `[A-Za-z_][A-Za-z0-9_]*` at the start of the text, or nothing.
fn name(text: &str) -> &str {
    let end =
        text.bytes().position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_')).unwrap_or(text.len());
    if text.as_bytes().first().is_some_and(u8::is_ascii_digit) { "" } else { &text[..end] }
}

#[cfg(test)]
mod tests;
