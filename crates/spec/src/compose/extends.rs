//! `extends`: a service begins as another one, of the same file or of another, and says what is different.
//!
//! What it says is merged over the other as a later file over an earlier one. What the other refers to (volumes,
//! networks, services it depends on) does not come with it: the application has to declare it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::assemble::{Assembly, Scope, count};
use super::fields::Field;
use super::keys::Section;
use super::merge;
use super::problem::quote;
use super::source::{Origin, SourceId};
use super::suggest::nearest;
use super::yaml::{Entry, Merge, Node, Value, push_key};

/// From one service to what it extends, to what that extends…
const DEPTH_MAX: usize = 32;

/// Extends every service of a document. One that cannot be is marked as failed: the problem was said.
pub(super) fn apply(document: &mut Node, scope: &Scope<'_>, assembly: &mut Assembly<'_>) {
    let extending: Vec<String> = entries(document.get("services").map(|entry| &entry.value))
        .iter()
        .filter(|entry| entry.value.get("extends").is_some())
        .map(|entry| entry.key.clone())
        .collect();
    if extending.is_empty() {
        return;
    }
    let path = assembly.findings.path(document.at.source).to_owned();
    let own = File {
        path,
        includes: document.get("include").is_some(),
        services: document.get("services").map(|entry| entry.value.clone()),
    };
    let mut extension =
        Extension { scope, assembly, files: vec![own], done: BTreeMap::new(), chain: Vec::new() };
    let services: Vec<(String, Option<Node>)> =
        extending.into_iter().map(|name| (name.clone(), extension.service(0, &name))).collect();
    let Value::Mapping(top) = &mut document.value else { return };
    let Some(known) = top.iter_mut().find(|entry| entry.key == "services") else { return };
    let Value::Mapping(known) = &mut known.value.value else { return };
    for (name, extended) in services {
        let Some(entry) = known.iter_mut().find(|entry| entry.key == name) else { continue };
        match extended {
            Some(extended) => entry.value = extended,
            None => entry.value.failed = true,
        }
    }
}

fn entries(node: Option<&Node>) -> &[Entry] {
    match node.map(|node| &node.value) {
        Some(Value::Mapping(entries)) => entries,
        _ => &[],
    }
}

struct File {
    path: PathBuf,
    /// More services come from elsewhere, which `extends` does not see.
    includes: bool,
    /// The first file's with variables replaced, others' as written.
    services: Option<Node>,
}

struct Extension<'e, 'a> {
    scope: &'e Scope<'e>,
    assembly: &'e mut Assembly<'a>,
    /// The document itself, then those that it refers to.
    files: Vec<File>,
    /// By file and name. `None`: it cannot be.
    done: BTreeMap<(usize, String), Option<Node>>,
    /// Who is being extended, outermost first.
    chain: Vec<(usize, String)>,
}

impl Extension<'_, '_> {
    /// A service with everything that it extends. It exists.
    fn service(&mut self, file: usize, name: &str) -> Option<Node> {
        let key = (file, name.to_owned());
        if let Some(done) = self.done.get(&key) {
            return done.clone();
        }
        let services = entries(self.files[file].services.as_ref());
        let mut service = services.iter().find(|entry| entry.key == name)?.value.clone();
        if file > 0 {
            let mut path = "services".to_owned();
            push_key(&mut path, name);
            let Assembly { replacement, findings, .. } = &mut *self.assembly;
            replacement.replace(&mut service, &mut path, self.scope.variables, findings);
        }
        let Value::Mapping(keys) = &mut service.value else { return Some(service) };
        let extends = keys.iter().position(|entry| entry.key == "extends").map(|at| keys.remove(at));
        let result = match extends {
            None => Some(service),
            Some(entry) if entry.value.merge == Merge::Reset => Some(service),
            Some(entry) => {
                self.chain.push(key.clone());
                let base = self.base(file, name, &entry);
                self.chain.pop();
                base.and_then(|base| self.merge(base, service, name))
            }
        };
        self.done.insert(key, result.clone());
        result
    }

    /// What `extends` names.
    fn base(&mut self, file: usize, name: &str, entry: &Entry) -> Option<Node> {
        let mut path = "services".to_owned();
        push_key(&mut path, name);
        let field = Field::of(entry, &path);
        let (wanted, other) = match &entry.value.value {
            Value::Mapping(_) => {
                let keys = field.keys(Section::Extends, self.assembly.findings)?;
                let Some(wanted) = keys.get("service") else {
                    field.problem(self.assembly.findings, "`extends` names no service").hint(
                        "write `extends: {service: name}`, or `extends: {file: other.yaml, service: name}`",
                    );
                    return None;
                };
                (wanted.clone(), keys.get("file").cloned())
            }
            _ => (field.clone(), None),
        };
        let name = wanted.filled(self.assembly.findings)?;
        let target = match &other {
            None => file,
            Some(field) => self.file(field)?,
        };
        self.exists(target, name, &wanted, other.is_none())?;
        let step = (target, name.to_owned());
        if self.chain.contains(&step) {
            let way: Vec<String> =
                self.chain.iter().chain([&step]).map(|(file, name)| self.say(*file, name)).collect();
            let begin = self.chain.iter().position(|known| *known == step).unwrap_or_default();
            let what = format!("the service extends itself: {}", way[begin..].join(" -> "));
            wanted.problem(self.assembly.findings, what).hint("one of them must not extend another");
            return None;
        }
        if self.chain.len() > DEPTH_MAX {
            let what = format!("services extend each other deeper than {DEPTH_MAX} levels");
            wanted.problem(self.assembly.findings, what);
            return None;
        }
        if self.assembly.is_full() {
            return None;
        }
        let base = self.service(target, name)?;
        self.assembly.count_in(wanted.at(), &wanted.path, count(&base)).then_some(base)
    }

    /// The index of a file, which is read when it is new.
    fn file(&mut self, field: &Field<'_>) -> Option<usize> {
        let path = self.assembly.place(field)?;
        if let Some(known) = self.files.iter().position(|file| file.path == path) {
            return Some(known);
        }
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let origin = Rc::new(Origin { folder, environment: self.scope.environment.clone() });
        let mut documents = self.assembly.load(field, &path, &origin)?.into_iter();
        let mut root = documents.next()?;
        for document in documents {
            merge::merge(&mut root, document, self.assembly.findings);
        }
        merge::settle(&mut root);
        let includes = root.get("include").is_some();
        let services = root.get("services").map(|entry| entry.value.clone());
        self.files.push(File { path, includes, services });
        Some(self.files.len() - 1)
    }

    fn exists(&mut self, file: usize, name: &str, wanted: &Field<'_>, same: bool) -> Option<()> {
        let File { path, includes, services } = &self.files[file];
        let known = entries(services.as_ref());
        let findings = &mut *self.assembly.findings;
        let whose = if same { "this file".to_owned() } else { path.display().to_string() };
        let Some(entry) = known.iter().find(|entry| entry.key == name) else {
            let hint = match nearest(name, known.iter().map(|entry| entry.key.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None if *includes => {
                    "services of included files are not seen here: name the file, `extends: {file: …, service: …}`"
                        .to_owned()
                }
                None if same => {
                    "a service of another file is named with it: `extends: {file: …, service: …}`".to_owned()
                }
                None => few(known),
            };
            wanted.problem(findings, format!("{whose} has no service {}", quote(name))).hint(hint);
            return None;
        };
        if !matches!(entry.value.value, Value::Mapping(_)) {
            let place = findings.mention(entry.key_at, wanted.at());
            let what = format!("the service {} has nothing to extend ({place})", quote(name));
            if !entry.value.failed {
                wanted.problem(findings, what);
            }
            return None;
        }
        Some(())
    }

    fn merge(&mut self, mut base: Node, service: Node, name: &str) -> Option<Node> {
        let findings = &mut *self.assembly.findings;
        if let Some(disabled) = disabled(&service).filter(|node| node.merge != Merge::Override)
            && base.get("healthcheck").is_some()
            && self::disabled(&base).is_none()
        {
            let mut path = "services".to_owned();
            push_key(&mut path, name);
            let what = "a health check that is extended cannot be disabled";
            findings
                .problem(disabled.at, format!("{path}.healthcheck.disable"), what)
                .hint("replace it: `healthcheck: !override {disable: true}`");
            return None;
        }
        // A service and what it extends are two layers, also in one file.
        let at = service.at;
        let layer = findings.add_document(at.source);
        put_on(&mut base, at.source, layer);
        merge::merge_service(&mut base, service, name, findings);
        base.at = at;
        Some(base)
    }

    /// A service in a message about several.
    fn say(&self, file: usize, name: &str) -> String {
        if self.chain.iter().all(|(other, _)| *other == file) {
            return quote(name);
        }
        let file = self.files[file].path.file_name().unwrap_or_default().to_string_lossy();
        quote(&format!("{file}: {name}"))
    }
}

/// `disable: true` of the health check, below which `merge` is that of the whole check.
fn disabled(service: &Node) -> Option<Node> {
    let check = &service.get("healthcheck")?.value;
    let disable = &check.get("disable")?.value;
    let Value::Scalar { text, .. } = &disable.value else { return None };
    (text.eq_ignore_ascii_case("true")).then(|| Node { merge: check.merge, ..disable.clone() })
}

fn put_on(node: &mut Node, from: SourceId, layer: SourceId) {
    if node.at.source == from {
        node.at.source = layer;
    }
    match &mut node.value {
        Value::Mapping(entries) => {
            for entry in entries {
                if entry.key_at.source == from {
                    entry.key_at.source = layer;
                }
                put_on(&mut entry.value, from, layer);
            }
        }
        Value::Sequence(items) => items.iter_mut().for_each(|item| put_on(item, from, layer)),
        Value::Null | Value::Scalar { .. } => {}
    }
}

fn few(services: &[Entry]) -> String {
    const FEW: usize = 8;
    let names: Vec<String> = services.iter().take(FEW).map(|entry| quote(&entry.key)).collect();
    match names.len() {
        0 => "it has no services".to_owned(),
        _ if services.len() > FEW => format!("it has {} and others", names.join(", ")),
        _ => format!("it has {}", names.join(", ")),
    }
}
