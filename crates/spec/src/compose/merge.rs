//! Several files become one, by the merge rules of the Compose Specification: mappings merge, lists append, the rest is
//! replaced; with exceptions by key. Later files win.
//!
//! What is mounted somewhere replaces what was mounted there. That the same port or file is said again is settled where
//! the items are understood.

use super::source::{At, Findings};
use super::yaml::{Entry, Merge, Node, Value, push_key};

/// What happens where two files say something about the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// By the kind of the values.
    Kind,
    Replace,
    /// Both forms are a mapping at heart: `- KEY=value` is `KEY: value`.
    Pairs,
    /// `- name` is `name:` with nothing below.
    Names,
    /// `- name` is `name: {condition: service_started}`.
    Dependencies,
    /// A string is a list of one.
    List,
    /// Items stand for places that the service sees.
    Targets,
}

fn rule(path: &[&str]) -> Rule {
    match path {
        ["services", _, "command" | "entrypoint"]
        | ["services", _, "healthcheck", "test"]
        | ["services", _, "x-sinew", "build"]
        | ["services", _, "x-sinew", "health"] => Rule::Replace,
        ["services", _, "environment" | "labels" | "annotations"]
        | ["services", _, "deploy", "labels"]
        | ["networks" | "volumes" | "secrets" | "configs", _, "labels"] => Rule::Pairs,
        ["services", _, "networks"] => Rule::Names,
        ["services", _, "depends_on"] => Rule::Dependencies,
        ["services", _, "env_file" | "tmpfs" | "profiles"] => Rule::List,
        ["services", _, "volumes" | "devices" | "secrets" | "configs"] => Rule::Targets,
        _ => Rule::Kind,
    }
}

/// Merges `over` into `base`.
pub(super) fn merge(base: &mut Node, over: Node, findings: &mut Findings) {
    merge_at(base, over, &mut Vec::new(), findings);
}

/// Merges what a service says into what it extends.
pub(super) fn merge_service(base: &mut Node, over: Node, name: &str, findings: &mut Findings) {
    merge_at(base, over, &mut vec!["services".to_owned(), name.to_owned()], findings);
}

fn merge_at(base: &mut Node, over: Node, path: &mut Vec<String>, findings: &mut Findings) {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let rule = rule(&names);
    let over = match rule {
        Rule::Kind | Rule::Targets => over,
        Rule::Replace => {
            *base = over;
            return;
        }
        Rule::Pairs | Rule::Names | Rule::Dependencies if matches!(over.value, Value::Null) => over,
        Rule::Pairs | Rule::Names | Rule::Dependencies => {
            *base = as_mapping(std::mem::replace(base, Node::null(over.at)), rule);
            as_mapping(over, rule)
        }
        Rule::List => {
            *base = as_list(std::mem::replace(base, Node::null(over.at)));
            as_list(over)
        }
    };
    if over.merge == Merge::Override {
        *base = over;
        return;
    }
    match (&mut base.value, over.value) {
        // Nothing is said.
        (_, Value::Null) => base.failed |= over.failed,
        (Value::Mapping(base), Value::Mapping(over)) => {
            for entry in over {
                merge_entry(base, entry, path, findings);
            }
        }
        (Value::Sequence(base), Value::Sequence(over)) if rule == Rule::Targets => {
            let kind = path.last().map_or("", String::as_str);
            for item in over {
                let place = target(&item, kind);
                match base.iter().position(|known| place.is_some() && target(known, kind) == place) {
                    // Twice in one file is a mistake, to be reported when it is read.
                    Some(position) if base[position].at.source != item.at.source => base[position] = item,
                    _ => base.push(item),
                }
            }
        }
        (Value::Sequence(base), Value::Sequence(over)) => base.extend(over),
        (Value::Mapping(_) | Value::Sequence(_), value) => {
            let over = Node { at: over.at, value, merge: Merge::Normal, failed: false };
            let mention = findings.mention(base.at, over.at);
            let what = format!("this is {}, but {} at {mention}", over.kind(), base.kind());
            findings
                .problem(over.at, path_text(path), what)
                .hint("write it the same way in both places, or put `!override` before the value here");
        }
        (base_value, value) => {
            *base_value = value;
            base.at = over.at;
        }
    }
}

fn merge_entry(base: &mut Vec<Entry>, entry: Entry, path: &mut Vec<String>, findings: &mut Findings) {
    let Some(position) = base.iter().position(|known| known.key == entry.key) else {
        if entry.value.merge != Merge::Reset {
            base.push(entry);
        }
        return;
    };
    if entry.value.merge == Merge::Reset {
        base.remove(position);
        return;
    }
    path.push(entry.key);
    let known = &mut base[position];
    // A file that comes later speaks about the same thing: what is wrong with it, is wrong there.
    if !matches!(entry.value.value, Value::Null | Value::Mapping(_)) {
        known.key_at = entry.key_at;
    }
    merge_at(&mut known.value, entry.value, path, findings);
    path.pop();
}

/// Where an item of such a list appears, as written.
fn target<'a>(item: &'a Node, kind: &str) -> Option<&'a str> {
    let text = |key: &str| match &item.get(key)?.value.value {
        Value::Scalar { text, .. } => Some(text.as_str()),
        _ => None,
    };
    match &item.value {
        Value::Scalar { text, .. } if matches!(kind, "secrets" | "configs") => Some(text),
        Value::Scalar { text, .. } => text.split(':').nth(1).or(Some(text)),
        _ => text("target").or_else(|| text("source")),
    }
}

/// What is taken back in the first file that says it was never said.
pub(super) fn settle(node: &mut Node) {
    match &mut node.value {
        Value::Mapping(entries) => {
            entries.retain(|entry| entry.value.merge != Merge::Reset);
            entries.iter_mut().for_each(|entry| settle(&mut entry.value));
        }
        Value::Sequence(items) => {
            items.retain(|item| item.merge != Merge::Reset);
            items.iter_mut().for_each(settle);
        }
        Value::Null | Value::Scalar { .. } => {}
    }
}

/// A list of strings as the mapping that it means. What is something else stays, to be reported when it is read.
fn as_mapping(node: Node, rule: Rule) -> Node {
    let Value::Sequence(items) = &node.value else { return node };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let Value::Scalar { text, .. } = &item.value else { return node };
        let (key, value) = match (rule, text.split_once('=')) {
            (Rule::Pairs, Some((key, value))) => (key, Node::text(item.at, value)),
            (Rule::Dependencies, _) => (text.as_str(), started(item.at)),
            _ => (text.as_str(), Node::null(item.at)),
        };
        entries.retain(|entry| entry.key != key);
        entries.push(Entry { key: key.to_owned(), key_at: item.at, value });
    }
    Node { at: node.at, value: Value::Mapping(entries), merge: node.merge, failed: false }
}

fn started(at: At) -> Node {
    let condition =
        Entry { key: "condition".to_owned(), key_at: at, value: Node::text(at, "service_started") };
    Node { at, value: Value::Mapping(vec![condition]), merge: Merge::Normal, failed: false }
}

fn as_list(node: Node) -> Node {
    match &node.value {
        Value::Scalar { .. } => {
            let (at, merge) = (node.at, node.merge);
            Node {
                at,
                value: Value::Sequence(vec![Node { merge: Merge::Normal, ..node }]),
                merge,
                failed: false,
            }
        }
        _ => node,
    }
}

fn path_text(path: &[String]) -> String {
    let mut text = String::new();
    path.iter().for_each(|key| push_key(&mut text, key));
    text
}
