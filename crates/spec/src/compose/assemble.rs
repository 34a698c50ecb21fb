//! Documents -> one tree: variables are replaced, services extended, files included, documents merged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::fields::Field;
use super::problem::quote;
use super::source::{At, Findings, Origin, SourceId};
use super::variables::Replacement;
use super::yaml::{self, Node, Value};
use super::{ComposeInput, PathKind, SMALLEST, extends, include, merge, paths};

/// Files that others refer to by `extends` and `include`, each as often as it is read.
const FURTHER_FILES_MAX: usize = 256;
/// What those files hold, and what `extends` copies.
const FURTHER_NODES_MAX: usize = 400_000;

pub(super) struct Assembly<'a> {
    pub input: &'a ComposeInput<'a>,
    pub findings: &'a mut Findings,
    pub replacement: Replacement,
    /// Compose files and files of variables that others referred to.
    pub further: BTreeSet<PathBuf>,
    files_read: usize,
    nodes: usize,
    /// Something is missing as a whole, so that nothing can be said about the rest.
    pub broken: bool,
}

/// What documents of one project have in common.
pub(super) struct Scope<'a> {
    pub environment: Rc<BTreeMap<String, String>>,
    /// `environment` with the application's name: what variables in values mean.
    pub variables: &'a BTreeMap<String, String>,
    /// The files that are being included, outermost first.
    pub including: &'a [PathBuf],
}

impl<'a> Assembly<'a> {
    pub fn new(input: &'a ComposeInput<'a>, findings: &'a mut Findings, replacement: Replacement) -> Self {
        Self {
            input,
            findings,
            replacement,
            further: BTreeSet::new(),
            files_read: 0,
            nodes: 0,
            broken: false,
        }
    }

    /// The documents of one project, in order, as one.
    pub fn merge(&mut self, documents: Vec<Node>, scope: &Scope<'_>) -> Node {
        let mut merged: Option<Node> = None;
        for mut document in documents {
            self.replace(&mut document, scope);
            extends::apply(&mut document, scope, self);
            include::apply(&mut document, scope, self);
            match &mut merged {
                None => merged = Some(document),
                Some(merged) => merge::merge(merged, document, self.findings),
            }
        }
        let mut root = merged.expect("there is at least one file, and none is empty");
        merge::settle(&mut root);
        root
    }

    fn replace(&mut self, document: &mut Node, scope: &Scope<'_>) {
        let Value::Mapping(entries) = &mut document.value else { return };
        for entry in entries {
            // Extensions of others at the top hold anchors; what is used of them is replaced where it is used.
            if entry.key != "name" && (!entry.key.starts_with("x-") || entry.key == "x-sinew") {
                let mut path = String::new();
                yaml::push_key(&mut path, &entry.key);
                self.replacement.replace(&mut entry.value, &mut path, scope.variables, self.findings);
            }
        }
    }

    /// Where a field says that a further file lies.
    pub fn place(&mut self, field: &Field<'_>) -> Option<PathBuf> {
        let text = field.filled(self.findings)?;
        let remote = text.contains("://") || text.starts_with("git@") || text.starts_with("oci:");
        if remote {
            field
                .problem(self.findings, format!("{} is not a file of this host", quote(text)))
                .hint("copy it beside this file, and name the copy");
            return None;
        }
        paths::host(field, text, self.input, self.findings)
    }

    /// The documents of a further compose file, with variables as written.
    pub fn load(&mut self, field: &Field<'_>, path: &Path, origin: &Rc<Origin>) -> Option<Vec<Node>> {
        let source = self.read(field, path, origin, true)?;
        let documents = documents(&[source], self.findings)?;
        let nodes: usize = documents.iter().map(count).sum();
        self.count_in(field.at(), &field.path, nodes).then_some(documents)
    }

    /// The text of a further file.
    pub fn read(
        &mut self,
        field: &Field<'_>,
        path: &Path,
        origin: &Rc<Origin>,
        shown: bool,
    ) -> Option<SourceId> {
        if self.is_full() {
            return None;
        }
        if self.files_read == FURTHER_FILES_MAX {
            let what = format!("more than {FURTHER_FILES_MAX} files are read for `extends` and `include`");
            field.problem(self.findings, what);
            return None;
        }
        self.files_read += 1;
        let reader = self.input.reader;
        let text = match reader.kind(path) {
            None => Err("does not exist".to_owned()),
            Some(PathKind::Folder) => Err("is a folder".to_owned()),
            Some(_) => reader.read(path).map_err(|error| format!("cannot be read: {error}")),
        };
        match text {
            Ok(text) => {
                self.further.insert(path.to_owned());
                let source = self.findings.add_source(path, &text, shown);
                self.findings.set_origin(source, origin);
                Some(source)
            }
            Err(state) => {
                field.problem(self.findings, format!("the file {} {state}", path.display()));
                None
            }
        }
    }

    pub fn is_full(&self) -> bool {
        self.nodes > FURTHER_NODES_MAX
    }

    /// False, with a problem: it is too much.
    pub fn count_in(&mut self, at: At, path: &str, nodes: usize) -> bool {
        self.nodes = self.nodes.saturating_add(nodes);
        let fits = !self.is_full();
        if !fits {
            let what = format!(
                "with `extends` and `include` the application has more than {FURTHER_NODES_MAX} values"
            );
            self.findings.problem(at, path, what);
        }
        fits
    }
}

/// The values below a node, itself included.
pub(super) fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Mapping(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
        Value::Sequence(items) => items.iter().map(count).sum(),
        Value::Null | Value::Scalar { .. } => 0,
    }
}

/// The documents of all files in order. `None`: one of them is not YAML, so that nothing can be said about the rest.
pub(super) fn documents(sources: &[SourceId], findings: &mut Findings) -> Option<Vec<Node>> {
    let mut documents = Vec::new();
    let mut readable = true;
    for source in sources {
        let Some(roots) = yaml::load(*source, findings) else {
            readable = false;
            continue;
        };
        let filled: Vec<Node> = roots.into_iter().filter(|root| !matches!(root.value, Value::Null)).collect();
        if filled.is_empty() {
            findings.problem(At::start(*source), "", "the file is empty").hint(SMALLEST);
            readable = false;
        }
        for root in filled {
            if let Value::Mapping(_) = root.value {
                documents.push(root);
                continue;
            }
            findings
                .problem(root.at, "", format!("a compose file is a mapping, found {}", root.kind()))
                .hint(SMALLEST);
            readable = false;
        }
    }
    readable.then_some(documents)
}
