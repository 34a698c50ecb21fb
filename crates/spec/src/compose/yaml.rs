//! From text to a tree in which every node and every key knows its place. Anchors, aliases and merge keys are resolved
//! here, and everything is bounded.
//!
//! Built from the parser's events and not from `saphyr::MarkedYaml`: that tree stops at the first duplicate key, drops
//! tags of scalars, and keeps the position of keys only inside of its hash map.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::problem::quote;
use super::source::{At, Findings, SourceId};

/// A compose file is written by people: megabytes are a mistake or an attack.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Documents (`---`) are merged like files.
pub const DOCUMENTS_MAX: usize = 16;
/// In one mapping.
pub const KEYS_MAX: usize = 5_000;
pub const DEPTH_MAX: usize = 64;
/// Over a whole file, after aliases were expanded.
pub const NODES_MAX: usize = 200_000;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub at: At,
    pub value: Value,
    pub merge: Merge,
    /// What is wrong with it was said already; it is not read.
    pub failed: bool,
}

/// How a node meets what earlier files say (tags of the Compose Specification).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    Normal,
    /// `!reset`: what was said is taken back.
    Reset,
    /// `!override`: replaces instead of merging.
    Override,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Scalar {
        text: String,
        /// Unquoted, so that `true` or `80` may be something else than text.
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_at: At,
    pub value: Node,
}

impl Node {
    pub fn null(at: At) -> Self {
        Self { at, value: Value::Null, merge: Merge::Normal, failed: false }
    }

    pub fn text(at: At, text: impl Into<String>) -> Self {
        Self {
            at,
            value: Value::Scalar { text: text.into(), plain: false },
            merge: Merge::Normal,
            failed: false,
        }
    }

    /// What it is, for "expected X, found Y".
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar { text, plain: true } => match scalar_kind(text) {
                ScalarKind::Bool => "a boolean",
                ScalarKind::Number => "a number",
                ScalarKind::Text => "a string",
            },
            Value::Scalar { plain: false, .. } => "a string",
        }
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Bool,
    Number,
    Text,
}

/// The core schema of YAML 1.2, section 10.3.2, for an unquoted scalar that is not null.
pub(super) fn scalar_kind(text: &str) -> ScalarKind {
    if matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE") {
        return ScalarKind::Bool;
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let hexadecimal = text
        .strip_prefix("0x")
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let octal = text
        .strip_prefix("0o")
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)));
    let decimal = unsigned.bytes().any(|byte| byte.is_ascii_digit())
        && unsigned.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
        && unsigned.parse::<f64>().is_ok();
    let special = matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    if hexadecimal || octal || decimal || special { ScalarKind::Number } else { ScalarKind::Text }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The documents of a file. `None` when the text is not YAML or passes a limit: then the findings say why.
pub(super) fn load(source: SourceId, findings: &mut Findings) -> Option<Vec<Node>> {
    let text = findings.text(source);
    if text.len() > FILE_BYTES_MAX {
        let what =
            format!("the file has {} bytes; a compose file has at most {FILE_BYTES_MAX} bytes", text.len());
        findings.problem(At::start(source), "", what);
        return None;
    }
    let mut loader = Loader {
        source,
        stack: Vec::new(),
        documents: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        findings,
    };
    let mut parser = Parser::new_from_str(&text);
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                loader.refuse(&text, &error);
                return None;
            }
        };
        loader.event(event, span).ok()?;
    }
    Some(loader.documents)
}

/// A limit was passed; the findings say which.
struct Stopped;

struct Loader<'a> {
    source: SourceId,
    stack: Vec<Frame>,
    documents: Vec<Node>,
    /// Finished anchored nodes and how many nodes each is.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    findings: &'a mut Findings,
}

struct Frame {
    node: Node,
    anchor: usize,
    /// Nodes before this one.
    nodes: usize,
    /// The key whose value comes next.
    key: Option<(String, At)>,
    /// What `<<` brought, first wins.
    inherited: Vec<Entry>,
}

impl Loader<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stopped> {
        let at = At::new(self.source, span.start.line(), span.start.col() + 1);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            Event::DocumentStart(_) => {
                if !self.documents.is_empty() {
                    self.source = self.findings.add_document(self.source);
                }
                if self.documents.len() == DOCUMENTS_MAX {
                    let what = format!("the file has more than {DOCUMENTS_MAX} documents");
                    self.findings.problem(at, "", what);
                    return Err(Stopped);
                }
            }
            Event::DocumentEnd => self.anchors.clear(),
            Event::SequenceStart(anchor, tag) => self.open(at, Value::Sequence(Vec::new()), anchor, tag)?,
            Event::MappingStart(anchor, tag) => self.open(at, Value::Mapping(Vec::new()), anchor, tag)?,
            Event::SequenceEnd | Event::MappingEnd => self.close(at)?,
            Event::Scalar(text, style, anchor, tag) => {
                self.count(at, 1)?;
                let node = self.scalar(at, text, style, tag);
                if anchor > 0 {
                    self.anchors.insert(anchor, (node.clone(), 1));
                }
                self.place(node)?;
            }
            Event::Alias(id) => {
                let Some((_, size)) = self.anchors.get(&id) else {
                    let path = self.path();
                    self.findings
                        .problem(at, path, "the alias stands inside of the anchor that it names")
                        .hint("an alias can only name an anchor that is complete before it");
                    return Err(Stopped);
                };
                let size = *size;
                self.count(at, size)?;
                let mut node = self.anchors[&id].0.clone();
                // The content keeps its place, where it is written; the node itself is where it is used.
                node.at = at;
                node.merge = Merge::Normal;
                self.place(node)?;
            }
        }
        Ok(())
    }

    /// The text is not YAML.
    fn refuse(&mut self, text: &str, error: &ScanError) {
        let mark = error.marker();
        let mut at = At::new(self.source, mark.line(), mark.col() + 1);
        let (what, hint) = syntax(error.info());
        let (mut what, mut hint) = (what, hint.map(str::to_owned));
        let path = self.path();
        if error.info().contains("mapping values are not allowed")
            && let Some((line, column)) = bare_line_before(text, mark.line())
        {
            // The parser notices only at the colon of the next line.
            at = At::new(self.source, line, column);
            "a key is not followed by `:`".clone_into(&mut what);
            hint = Some("write `key: value`, with a space after the colon".to_owned());
        }
        let flow = [
            "illegal placement of ':'",
            "expected node content",
            "expected ',' or",
            "quoted scalar, found unexpected",
        ];
        if flow.iter().any(|words| error.info().contains(words))
            && let Some(open) = self.stack.iter().rev().find(|frame| opens_with_bracket(text, frame.node.at))
        {
            let (bracket, kind) =
                if let Value::Sequence(_) = open.node.value { ('[', "list") } else { ('{', "mapping") };
            if !error.info().contains("quoted scalar") {
                what = format!("a {kind} in brackets is not closed or lacks a comma");
                hint = Some(format!("it begins with `{bracket}` on line {}", open.node.at.line));
                if let Some(variable) = bare_variable(text, open.node.at.line as usize, mark.line()) {
                    what = format!("`{variable}` in brackets must stand in quotes");
                    hint = Some(format!("write `\"{variable}\"`"));
                }
            }
        }
        self.findings.problem(at, path, what).hint = hint;
    }

    fn count(&mut self, at: At, nodes: usize) -> Result<(), Stopped> {
        self.nodes += nodes;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let path = self.path();
        self.findings
            .problem(at, path, format!("the file has more than {NODES_MAX} values once aliases are expanded"))
            .hint("aliases of aliases multiply; write fewer of them");
        Err(Stopped)
    }

    fn open(
        &mut self,
        at: At,
        value: Value,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
    ) -> Result<(), Stopped> {
        let nodes = self.nodes;
        self.count(at, 1)?;
        if self.stack.len() == DEPTH_MAX {
            let path = self.path();
            self.findings.problem(at, path, format!("the file nests deeper than {DEPTH_MAX} levels"));
            return Err(Stopped);
        }
        let expected = if matches!(value, Value::Sequence(_)) { "seq" } else { "map" };
        let merge = self.merge_tag(at, tag.as_deref(), expected);
        let node = Node { at, value, merge, failed: false };
        self.stack.push(Frame { node, anchor, nodes, key: None, inherited: Vec::new() });
        Ok(())
    }

    fn close(&mut self, at: At) -> Result<(), Stopped> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let mut node = frame.node;
        if let Value::Mapping(entries) = &mut node.value {
            for entry in frame.inherited {
                if entries.iter().all(|own| own.key != entry.key) {
                    entries.push(entry);
                }
            }
        }
        if frame.anchor > 0 {
            let size = self.nodes - frame.nodes;
            self.count(at, size)?;
            self.anchors.insert(frame.anchor, (node.clone(), size));
        }
        self.place(node)
    }

    /// Puts a finished node where it belongs: a key, a value, an item or a document.
    fn place(&mut self, mut node: Node) -> Result<(), Stopped> {
        let path = self.path();
        let Some(frame) = self.stack.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        let entries = match &mut frame.node.value {
            Value::Sequence(items) => {
                items.push(node);
                return Ok(());
            }
            Value::Mapping(entries) => entries,
            Value::Null | Value::Scalar { .. } => return Ok(()),
        };
        let Some((key, key_at)) = frame.key.take() else {
            let key = match node.value {
                Value::Scalar { text, .. } => text,
                Value::Null => "null".to_owned(),
                Value::Sequence(_) | Value::Mapping(_) => {
                    self.findings
                        .problem(node.at, path, format!("a key must be a string, found {}", node.kind()))
                        .hint("text that begins with `{` or `[` must stand in quotes");
                    return Err(Stopped);
                }
            };
            frame.key = Some((key, node.at));
            return Ok(());
        };
        if matches!(node.value, Value::Null) && node.merge == Merge::Normal {
            // An empty value has no place of its own.
            node.at = key_at;
        }
        if key == "<<" {
            inherit(&mut frame.inherited, node, &path, self.findings);
            return Ok(());
        }
        if let Some(first) = entries.iter().find(|entry| entry.key == key) {
            let line = first.key_at.line;
            self.findings
                .problem(key_at, path, format!("the key {} is written twice", quote(&key)))
                .hint(format!("the first one is on line {line}; put both together"));
            return Ok(());
        }
        entries.push(Entry { key, key_at, value: node });
        if entries.len() + frame.inherited.len() > KEYS_MAX {
            self.findings.problem(key_at, path, format!("a mapping has more than {KEYS_MAX} keys"));
            return Err(Stopped);
        }
        Ok(())
    }

    fn scalar(&mut self, at: At, text: Cow<'_, str>, style: ScalarStyle, tag: Option<Cow<'_, Tag>>) -> Node {
        let plain = style == ScalarStyle::Plain;
        let text_tag = tag.as_deref().is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
        let merge = self.merge_tag(at, tag.as_deref(), "scalar");
        let value = if plain && !text_tag && is_null(&text) {
            Value::Null
        } else {
            Value::Scalar { text: text.into_owned(), plain: plain && !text_tag }
        };
        Node { at, value, merge, failed: false }
    }

    fn merge_tag(&mut self, at: At, tag: Option<&Tag>, expected: &str) -> Merge {
        let Some(tag) = tag else { return Merge::Normal };
        let known = match expected {
            "scalar" => matches!(tag.suffix.as_str(), "str" | "int" | "float" | "bool" | "null"),
            expected => tag.suffix == expected,
        };
        match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("!", "reset") => Merge::Reset,
            ("!", "override") => Merge::Override,
            _ if tag.is_yaml_core_schema() && known => Merge::Normal,
            // The non-specific tag `!` makes a scalar text; nothing else is meant by it.
            ("" | "!", "" | "!") => Merge::Normal,
            _ => {
                let name = if tag.is_yaml_core_schema() {
                    format!("!!{}", tag.suffix)
                } else {
                    format!("{}{}", tag.handle, tag.suffix)
                };
                let path = self.path();
                self.findings
                    .problem(at, path, format!("the tag {} has no meaning here", quote(&name)))
                    .hint("compose files know `!reset` and `!override`; text that begins with `!` must stand in quotes");
                Merge::Normal
            }
        }
    }

    /// Where the loader is: the path of the node that comes next.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.stack {
            match (&frame.node.value, &frame.key) {
                (Value::Sequence(items), _) => {
                    path.push_str(&format!("[{}]", items.len()));
                }
                (_, Some((key, _))) => push_key(&mut path, key),
                _ => {}
            }
        }
        path
    }
}

/// `<<: *base` and `<<: [*a, *b]` (YAML merge key): keys that are written out win, then the first that brings one.
fn inherit(inherited: &mut Vec<Entry>, node: Node, path: &str, findings: &mut Findings) {
    let mut add = |entries: Vec<Entry>| {
        for entry in entries {
            if inherited.iter().all(|known| known.key != entry.key) {
                inherited.push(entry);
            }
        }
    };
    let wrong = |node: &Node, findings: &mut Findings| {
        findings
            .problem(
                node.at,
                path,
                format!("`<<` merges a mapping or a list of mappings, found {}", node.kind()),
            )
            .hint("write `<<: *name`, where `&name` stands before a mapping");
    };
    match node.value {
        Value::Mapping(entries) => add(entries),
        Value::Sequence(items) => {
            for item in items {
                match item.value {
                    Value::Mapping(entries) => add(entries),
                    _ => wrong(&item, findings),
                }
            }
        }
        _ => wrong(&node, findings),
    }
}

/// Adds a key to a path: `services` -> `services.orders`, `environment."a b"`.
pub(super) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let simple = !key.is_empty()
        && key.len() <= 60
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if simple {
        path.push_str(key);
    } else {
        let quoted = quote(key);
        path.push('"');
        path.push_str(quoted.trim_matches('`'));
        path.push('"');
    }
}

/// The nearest line above that has content, when it is nothing but a word or words without a colon.
fn bare_line_before(text: &str, line: usize) -> Option<(usize, usize)> {
    let before: Vec<&str> = text.lines().take(line.checked_sub(1)?).collect();
    let (index, content) = before.iter().enumerate().rev().find(|(_, line)| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    })?;
    let word = content.trim_start();
    let key = word.chars().next().is_some_and(|first| first.is_ascii_alphabetic());
    (key && !word.contains(':')).then(|| (index + 1, content.len() - word.len() + 1))
}

fn opens_with_bracket(text: &str, at: At) -> bool {
    let line = usize::try_from(at.line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?));
    let column = at.column.saturating_sub(1) as usize;
    line.and_then(|line| line.chars().nth(column)).is_some_and(|first| matches!(first, '[' | '{'))
}

/// `${NAME}` as a value without quotes on these lines, from 1: the brace begins a mapping there.
fn bare_variable(text: &str, first: usize, last: usize) -> Option<&str> {
    let lines = text.lines().skip(first.saturating_sub(1)).take((last + 1).saturating_sub(first));
    lines.into_iter().find_map(|line| {
        line.match_indices("${").find_map(|(at, _)| {
            let before = line[..at].trim_end().chars().next_back()?;
            let end = line[at..].find('}')?;
            matches!(before, ':' | ',' | '[' | '{').then(|| &line[at..=at + end])
        })
    })
}

/// The parser's words -> ours. It stops at the first error, and its words are for those who know its insides.
fn syntax(info: &str) -> (String, Option<&'static str>) {
    let contains = |words: &[&str]| words.iter().any(|word| info.contains(word));
    let (what, hint) = if contains(&["tab"]) && !contains(&["table"]) {
        ("a tab is used where YAML allows only spaces", Some("indent with spaces"))
    } else if contains(&["unknown anchor"]) {
        ("the alias names an anchor that does not exist", Some("define it before its use: `x-name: &name`"))
    } else if contains(&["mapping values are not allowed"]) {
        (
            "a `key: value` pair cannot stand here",
            Some(
                "check the indentation of this line and the one above; a value that contains `: ` must stand in quotes",
            ),
        )
    } else if contains(&["simple key expect"]) {
        ("a key is not followed by `:`", Some("write `key: value`, with a space after the colon"))
    } else if contains(&["did not find expected key", "invalid indentation", "expected '-' indicator"]) {
        ("the indentation does not fit the lines above", Some("keys of one mapping begin in the same column"))
    } else if contains(&["expected ',' or ']'"]) {
        ("a list in `[ ]` is not closed or lacks a comma", None)
    } else if contains(&["expected ',' or '}'"]) {
        ("a mapping in `{ }` is not closed or lacks a comma", None)
    } else if contains(&[
        "quoted scalar, found unexpected end of stream",
        "quoted scalar, found unexpected document",
    ]) {
        ("a quoted text is not closed", None)
    } else if contains(&["unknown escape character"]) {
        (
            "a backslash in double quotes begins an escape that YAML does not know",
            Some("use single quotes, or write `\\\\`"),
        )
    } else if contains(&["unexpected character", "unprintable character"]) {
        (
            "a character cannot stand here",
            Some("text that begins with `@`, a backtick or `%` must stand in quotes"),
        )
    } else if contains(&["trailing content after"]) {
        ("text follows a closing quote", Some("put the whole value in quotes"))
    } else if contains(&["recursion limit"]) {
        ("`[` and `{` nest too deep", None)
    } else if contains(&["misplaced bracket"]) {
        ("a closing bracket has no opening one", None)
    } else {
        return (format!("this is not valid YAML: {info}"), None);
    };
    (what.to_owned(), hint)
}
