//! YAML (and so JSON) into a type of `spec`, with the place of what is wrong.
//!
//! The text is rewritten as JSON with one token per line, and read from that: the line of a complaint then says which
//! token it is about. No anchors: this is a configuration, not a program.

use std::collections::BTreeMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const BYTES_MAX: usize = 8 * 1024 * 1024;
const DEPTH_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    pub column: usize,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, what } = self;
        write!(f, "{line}:{column}: {what}")
    }
}

/// Keys that `T` does not know are an error: a misspelt limit must not be taken for the default. `usable` says what else is
/// wrong; a sentence of its that begins with the path of a key (`limits.workers`) is told with the place of that key.
pub fn read<T: DeserializeOwned + Serialize>(
    text: &str,
    usable: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, Problem> {
    let json = Json::from_yaml(text)?;
    let value: T = serde_json::from_str(&json.text).map_err(|error| {
        let (line, column) = json.places.get(error.line().saturating_sub(1)).copied().unwrap_or((1, 1));
        Problem { line, column, what: without_place(&error.to_string()) }
    })?;
    let written: Value = serde_json::from_str(&json.text).map_err(|error| at_start(error.to_string()))?;
    let known = serde_json::to_value(&value).map_err(|error| at_start(error.to_string()))?;
    match unknown(&written, &known, String::new()) {
        None => match usable(&value) {
            Ok(()) => Ok(value),
            Err(what) => {
                let path = what.split(' ').next().unwrap_or_default();
                let (line, column) = json.paths.get(&format!(".{path}")).copied().unwrap_or((1, 1));
                Err(Problem { line, column, what })
            }
        },
        Some(path) => {
            let (line, column) = json.paths.get(&path).copied().unwrap_or((1, 1));
            Err(Problem { line, column, what: format!("unknown key {}", path.trim_start_matches('.')) })
        }
    }
}

/// The path of the first key of `written` that did not make it into the value.
fn unknown(written: &Value, known: &Value, path: String) -> Option<String> {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => written.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match known.get(key) {
                Some(known) => unknown(value, known, path),
                None => Some(path),
            }
        }),
        (Value::Array(written), Value::Array(known)) => written
            .iter()
            .zip(known)
            .enumerate()
            .find_map(|(index, (written, known))| unknown(written, known, format!("{path}[{index}]"))),
        _ => None,
    }
}

/// serde_json's words without the place in the rewritten text.
fn without_place(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(what, _)| what).to_owned()
}

fn at_start(what: impl Into<String>) -> Problem {
    Problem { line: 1, column: 1, what: what.into() }
}

#[derive(Default)]
struct Json {
    text: String,
    /// Of every line of `text`, where it comes from.
    places: Vec<Place>,
    /// Of every key.
    paths: BTreeMap<String, Place>,
}

/// A list or mapping that is being read.
enum Open {
    List { begin: Place, count: usize },
    Mapping { begin: Place, count: usize, key: Option<String> },
}

/// Line and column, from 1.
type Place = (usize, usize);

impl Json {
    fn from_yaml(text: &str) -> Result<Self, Problem> {
        if text.len() > BYTES_MAX {
            return Err(at_start(format!("the file is larger than {BYTES_MAX} bytes")));
        }
        let mut json = Self::default();
        let mut open: Vec<Open> = Vec::new();
        let mut documents = 0;
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| Problem {
                line: error.marker().line(),
                column: error.marker().col() + 1,
                what: error.info().to_owned(),
            })?;
            let place = (span.start.line(), span.start.col() + 1);
            let problem = |what: &str| Problem { line: place.0, column: place.1, what: what.to_owned() };
            match event {
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(problem("a second document; one is expected"));
                    }
                }
                Event::Alias(_) => return Err(problem("aliases are not known here")),
                Event::SequenceStart(..) | Event::MappingStart(..) => {
                    if open.len() == DEPTH_MAX {
                        return Err(problem("nested too deeply"));
                    }
                    json.separate(&mut open, place, None).map_err(|what| problem(&what))?;
                    let is_list = matches!(event, Event::SequenceStart(..));
                    json.token(if is_list { "[" } else { "{" }, place);
                    open.push(match is_list {
                        true => Open::List { begin: place, count: 0 },
                        false => Open::Mapping { begin: place, count: 0, key: None },
                    });
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    let close = if matches!(event, Event::SequenceEnd) { "]" } else { "}" };
                    // A complaint about the end is one about the whole: something is missing in it.
                    let begin = open.pop().map_or(place, |open| match open {
                        Open::List { begin, .. } | Open::Mapping { begin, .. } => begin,
                    });
                    json.token(close, begin);
                    json.value_ended(&mut open);
                }
                Event::Scalar(text, style, ..) => {
                    let plain = style == ScalarStyle::Plain;
                    if json.separate(&mut open, place, Some(&text)).map_err(|what| problem(&what))? {
                        json.token(&scalar(&text, plain), place);
                        json.value_ended(&mut open);
                    }
                }
            }
        }
        if json.text.is_empty() {
            return Err(at_start("the file is empty"));
        }
        Ok(json)
    }

    fn token(&mut self, token: &str, place: Place) {
        self.text.push_str(token);
        self.text.push('\n');
        self.places.push(place);
    }

    /// What stands before the next token: a comma, or a key. False: `scalar` was a key and has been written.
    fn separate(&mut self, open: &mut [Open], place: Place, scalar: Option<&str>) -> Result<bool, String> {
        let prefix = path(open);
        match open.last_mut() {
            None => Ok(true),
            Some(Open::List { count, .. }) => {
                if *count > 0 {
                    self.token(",", place);
                }
                Ok(true)
            }
            Some(Open::Mapping { key: Some(_), .. }) => Ok(true),
            Some(Open::Mapping { count, key, .. }) => {
                let name = scalar.ok_or("a key must be a word")?;
                if *count > 0 {
                    self.token(",", place);
                }
                *count += 1;
                *key = Some(name.to_owned());
                if self.paths.insert(format!("{prefix}.{name}"), place).is_some() {
                    return Err(format!("the key {name} occurs twice"));
                }
                self.token(&format!("{}:", Value::from(name)), place);
                Ok(false)
            }
        }
    }

    fn value_ended(&mut self, open: &mut [Open]) {
        match open.last_mut() {
            Some(Open::List { count, .. }) => *count += 1,
            Some(Open::Mapping { key, .. }) => *key = None,
            None => {}
        }
    }
}

/// Of what is open now: `.destinations[2].endpoints`.
fn path(open: &[Open]) -> String {
    let step = |open: &Open| match open {
        Open::List { count, .. } => format!("[{count}]"),
        Open::Mapping { key: Some(key), .. } => format!(".{key}"),
        Open::Mapping { key: None, .. } => String::new(),
    };
    open.iter().map(step).collect()
}

/// The core schema of YAML 1.2: what is quoted is text; numbers are those that JSON knows.
fn scalar(text: &str, plain: bool) -> String {
    if plain {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return "null".to_owned(),
            "true" | "True" | "TRUE" => return "true".to_owned(),
            "false" | "False" | "FALSE" => return "false".to_owned(),
            _ => {}
        }
        if let Ok(Value::Number(number)) = serde_json::from_str(text) {
            return number.to_string();
        }
    }
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
