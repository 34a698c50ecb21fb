//! Reading values of the kind that a key wants, with a problem for each that is of another kind.

use super::keys::{self, Section, Support};
use super::problem::quote;
use super::source::{At, Findings};
use super::suggest::{nearest, nearest_alone};
use super::units::Wrong;
use super::yaml::{Entry, Node, ScalarKind, Value, push_key, scalar_kind};

/// A node and how it is reached.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub node: &'a Node,
    pub path: String,
}

impl<'a> Field<'a> {
    pub fn of(entry: &'a Entry, parent: &str) -> Self {
        let mut path = parent.to_owned();
        push_key(&mut path, &entry.key);
        Self { node: &entry.value, path }
    }

    /// One key of a mapping, whatever is done with it.
    pub fn child(&self, key: &str) -> Option<Field<'a>> {
        let node: &'a Node = self.node;
        node.get(key).map(|entry| Self::of(entry, &self.path))
    }

    pub fn at(&self) -> At {
        self.node.at
    }

    pub fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// The last part of the path, for messages.
    pub fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }

    pub fn problem<'f>(
        &self,
        findings: &'f mut Findings,
        what: impl Into<String>,
    ) -> &'f mut super::problem::Problem {
        findings.problem(self.at(), self.path.clone(), what)
    }

    pub fn wrong(&self, findings: &mut Findings, wrong: Wrong) {
        let shown = match &self.node.value {
            Value::Scalar { text, .. } if text.is_empty() => format!("`{}` is empty", self.name()),
            Value::Scalar { text, .. } => format!("{}: {}", quote(text), wrong.what),
            _ => wrong.what,
        };
        self.problem(findings, shown).hint = wrong.hint;
    }

    fn expected(&self, findings: &mut Findings, wanted: &str) {
        if self.node.failed {
            return;
        }
        let what = match &self.node.value {
            Value::Null => format!("`{}` has no value; {wanted} is expected", self.name()),
            _ => format!("`{}` must be {wanted}, found {}", self.name(), self.node.kind()),
        };
        let hint = self.shape_hint(wanted);
        self.problem(findings, what).hint = hint;
    }

    /// What to do about a value of another shape than the one that is wanted.
    fn shape_hint(&self, wanted: &str) -> Option<String> {
        let hint = match &self.node.value {
            Value::Null => {
                "give it a value or remove the key; what belongs to it is indented below it".to_owned()
            }
            Value::Scalar { text, .. } if wanted == "a list" && text.len() <= 40 => {
                format!("write `{}: [{text}]`", self.name())
            }
            Value::Mapping(_) if wanted == "a list" => "each item is a line that begins with `- `".to_owned(),
            Value::Sequence(_) if wanted == "a mapping" => {
                "write `key: value` lines, without `-` in front".to_owned()
            }
            Value::Mapping(_) if wanted.contains("string") => {
                "text that begins with `{`, or contains `: `, must stand in quotes".to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }

    /// A scalar's text, whatever it looks like but a boolean.
    pub fn number_or_text(&self, findings: &mut Findings, wanted: &str) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, plain } => {
                if *plain && scalar_kind(text) == ScalarKind::Bool {
                    self.expected(findings, wanted);
                    return None;
                }
                Some(text)
            }
            _ => {
                self.expected(findings, wanted);
                None
            }
        }
    }

    /// As strict as Compose, so that the file goes on working there: an unquoted number or boolean is no string.
    pub fn text(&self, findings: &mut Findings) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar { text, plain } => {
                if *plain && scalar_kind(text) != ScalarKind::Text {
                    let what = format!("`{}` must be a string, found {}", self.name(), self.node.kind());
                    self.problem(findings, what).hint(format!("put it in quotes: \"{text}\""));
                    return None;
                }
                if text.contains('\0') {
                    self.problem(findings, format!("`{}` contains a NUL character", self.name()));
                    return None;
                }
                Some(text)
            }
            _ => {
                self.expected(findings, "a string");
                None
            }
        }
    }

    /// Text that is not empty.
    pub fn filled(&self, findings: &mut Findings) -> Option<&'a str> {
        let text = self.text(findings)?;
        if text.is_empty() {
            self.problem(findings, format!("`{}` is empty", self.name()));
            return None;
        }
        Some(text)
    }

    pub fn boolean(&self, findings: &mut Findings) -> Option<bool> {
        if let Value::Scalar { text, .. } = &self.node.value {
            match text.to_ascii_lowercase().as_str() {
                "true" => return Some(true),
                "false" => return Some(false),
                "yes" | "on" | "y" | "1" => {
                    let what = format!("`{}` must be `true` or `false`, found {}", self.name(), quote(text));
                    self.problem(findings, what).hint("write `true`");
                    return None;
                }
                "no" | "off" | "n" | "0" => {
                    let what = format!("`{}` must be `true` or `false`, found {}", self.name(), quote(text));
                    self.problem(findings, what).hint("write `false`");
                    return None;
                }
                _ => {}
            }
        }
        self.expected(findings, "`true` or `false`");
        None
    }

    /// A whole number in a range.
    pub fn integer(&self, findings: &mut Findings, min: i64, max: i64) -> Option<i64> {
        let text = self.number_or_text(findings, "a whole number")?;
        let Ok(number) = text.trim().parse::<i64>() else {
            let what = format!("`{}` must be a whole number, found {}", self.name(), quote(text));
            self.problem(findings, what);
            return None;
        };
        if number < min || number > max {
            let what = format!("`{}` must be between {min} and {max}, found {number}", self.name());
            self.problem(findings, what);
            return None;
        }
        Some(number)
    }

    pub fn port(&self, findings: &mut Findings) -> Option<u16> {
        let number = self.integer(findings, 1, 65_535)?;
        u16::try_from(number).ok()
    }

    pub fn duration_ms(&self, findings: &mut Findings) -> Option<u64> {
        let text = self.number_or_text(findings, "a duration like `30s`")?;
        super::units::duration_ms(text).map_err(|wrong| self.wrong(findings, wrong)).ok()
    }

    /// One of the words.
    pub fn word<T: Copy>(&self, findings: &mut Findings, words: &[(&str, T)]) -> Option<T> {
        let is = |text: &str| words.iter().find(|(word, _)| *word == text);
        let text = match &self.node.value {
            // Quotes would not help.
            Value::Scalar { text, plain: true }
                if scalar_kind(text) != ScalarKind::Text && is(text).is_none() =>
            {
                text.as_str()
            }
            _ => self.text(findings)?,
        };
        if let Some((_, value)) = is(text) {
            return Some(*value);
        }
        let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        let what = format!("`{}` cannot be {}", self.name(), quote(text));
        let hint = match nearest_alone(text, words.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => match words.iter().find(|(word, _)| text.len() > 3 && word.contains(text)) {
                Some((near, _)) => format!("did you mean `{near}`?"),
                None if known.len() == 1 => format!("it can only be {}", known[0]),
                None => format!("it is one of {}", known.join(", ")),
            },
        };
        self.problem(findings, what).hint(hint);
        None
    }

    pub fn items(&self, findings: &mut Findings) -> Option<Vec<Field<'a>>> {
        match &self.node.value {
            Value::Sequence(_) => Some(self.items_of()),
            _ => {
                self.expected(findings, "a list");
                None
            }
        }
    }

    fn items_of(&self) -> Vec<Field<'a>> {
        let Value::Sequence(items) = &self.node.value else { return Vec::new() };
        let field = |(index, node)| Field { node, path: format!("{}[{index}]", self.path) };
        items.iter().enumerate().map(field).collect()
    }

    /// A list, or one item alone.
    pub fn items_or_one(&self, findings: &mut Findings) -> Option<Vec<Field<'a>>> {
        match &self.node.value {
            Value::Sequence(_) => Some(self.items_of()),
            Value::Scalar { .. } => Some(vec![self.clone()]),
            _ => {
                self.expected(findings, "a string or a list of strings");
                None
            }
        }
    }

    pub fn entries(&self, findings: &mut Findings) -> Option<&'a [Entry]> {
        match &self.node.value {
            Value::Mapping(entries) => Some(entries),
            _ => {
                self.expected(findings, "a mapping");
                None
            }
        }
    }

    /// The keys of a known mapping. Those that are refused or unknown are reported here.
    pub fn keys(&self, section: Section, findings: &mut Findings) -> Option<Keys<'a>> {
        let entries = self.entries(findings)?;
        let mut known = Vec::new();
        for entry in entries {
            let field = Field::of(entry, &self.path);
            if check_key(entry, &field.path, section, findings) {
                known.push((entry.key.as_str(), field));
            }
        }
        Some(Keys { known })
    }

    /// `KEY: value` or `- KEY=value`.
    pub fn pairs(&self, findings: &mut Findings) -> Option<Vec<Pair>> {
        match &self.node.value {
            Value::Mapping(entries) => {
                let pairs = entries.iter().filter_map(|entry| {
                    let field = Field::of(entry, &self.path);
                    let value = match &entry.value.value {
                        Value::Null => None,
                        Value::Scalar { text, .. } => Some(text.clone()),
                        Value::Sequence(_) | Value::Mapping(_) => {
                            field.expected(findings, "a string");
                            return None;
                        }
                    };
                    Some(Pair { key: entry.key.clone(), value, at: entry.key_at, path: field.path })
                });
                Some(pairs.collect())
            }
            Value::Sequence(_) => {
                let pairs = self.items_of().into_iter().filter_map(|item| item.pair(findings));
                Some(pairs.collect())
            }
            _ => {
                self.expected(findings, "a mapping or a list of `KEY=value`");
                None
            }
        }
    }

    fn pair(&self, findings: &mut Findings) -> Option<Pair> {
        if let Value::Mapping(entries) = &self.node.value {
            let problem = self.problem(findings, "an item of this list must be `KEY=value`, found a mapping");
            if let [entry] = entries.as_slice() {
                problem.hint(format!("write `- {}=…`, or leave out all dashes", entry.key));
            }
            return None;
        }
        let text = self.text(findings)?;
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        if key.is_empty() {
            self.problem(findings, format!("{} has no name before the `=`", quote(text)));
            return None;
        }
        Some(Pair { key: key.to_owned(), value, at: self.at(), path: self.path.clone() })
    }
}

pub(super) struct Pair {
    pub key: String,
    pub value: Option<String>,
    pub at: At,
    pub path: String,
}

/// The supported keys of a mapping.
pub(super) struct Keys<'a> {
    known: Vec<(&'a str, Field<'a>)>,
}

impl<'a> Keys<'a> {
    pub fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.known.iter().find(|(key, _)| *key == name).map(|(_, field)| field)
    }

    /// The same, but a key without a value counts as absent (where Compose allows it).
    pub fn get_filled(&self, name: &str) -> Option<&Field<'a>> {
        self.get(name).filter(|field| !field.is_null())
    }
}

/// Where `x-sinew` stands.
fn has_ours(section: Section) -> bool {
    matches!(section, Section::Top | Section::Service | Section::ServiceVolume)
}

/// True: the key is there to be read.
fn check_key(entry: &Entry, path: &str, section: Section, findings: &mut Findings) -> bool {
    let name = entry.key.as_str();
    if let Some(key) = keys::find(section, name) {
        match key.support {
            Support::Supported | Support::InPart => return true,
            Support::NoEffect => {
                findings.warning(entry.key_at, path, format!("`{name}` has no effect")).hint(key.note);
            }
            Support::Refused => {
                findings.problem(entry.key_at, path, format!("`{name}` is not supported")).hint(key.note);
            }
        }
        return false;
    }
    if name.starts_with("x-") && section.allows_extensions() && name != "x-sinew" {
        // Except for what is nearly ours: a typo there would open or close something.
        let near = has_ours(section) && nearest(name, ["x-sinew"]).is_some();
        if near {
            findings
                .problem(entry.key_at, path, format!("{} is unknown", quote(name)))
                .hint("did you mean `x-sinew`?");
        }
        return false;
    }
    if name == "x-sinew" && has_ours(section) {
        return true;
    }
    let what = format!("{} is not a key of {}", quote(name), section.describe());
    let supported = keys::of(section).filter(|key| key.support != Support::Refused).map(|key| key.name);
    let like_service = section == Section::Top
        && ["command", "image", "build"].iter().any(|key| entry.value.get(key).is_some());
    if like_service {
        findings.problem(entry.key_at, path, what).hint("services stand under `services:`; indent it below");
        return false;
    }
    let hint = keys::meant(section, name).map(str::to_owned).or_else(|| {
        elsewhere(name, section)
            .or_else(|| {
                let near = nearest(name, keys::of(section).map(|key| key.name))?;
                Some(format!("did you mean `{near}`?"))
            })
            .or_else(|| few(supported))
            .or_else(|| Some("a key of your own begins with `x-`".to_owned()))
    });
    findings.problem(entry.key_at, path, what).hint = hint;
    false
}

/// The key belongs to another mapping: mostly a matter of indentation.
fn elsewhere(name: &str, section: Section) -> Option<String> {
    let places: &[Section] = match section {
        Section::SinewTop | Section::SinewGateway => &[Section::SinewTop, Section::Top],
        // What lies further away is no matter of indentation.
        section if !section.allows_extensions() => &[Section::Sinew, Section::Service],
        _ => &[Section::Service, Section::Top, Section::Deploy, Section::Healthcheck, Section::Sinew],
    };
    let found = places
        .iter()
        .copied()
        .filter(|place| *place != section)
        .find(|place| keys::find(*place, name).is_some())?;
    Some(format!("it is a key of {}; check the indentation", found.describe()))
}

/// The keys themselves, where they are few.
fn few(names: impl Iterator<Item = &'static str>) -> Option<String> {
    const FEW: usize = 10;
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    (!names.is_empty() && names.len() <= FEW).then(|| format!("its keys are {}", names.join(", ")))
}
