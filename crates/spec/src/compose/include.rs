//! `include`: other projects' files, whole, with folders and variables of their own. What they declare becomes part of
//! this application; nothing of it can be said differently here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::PathKind;
use super::assemble::{Assembly, Scope};
use super::dotenv::{self, Format};
use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::source::{At, Findings, Origin};
use super::yaml::{Entry, Node, Value};

/// Files that include files that include files…
const DEPTH_MAX: usize = 16;

const DECLARED: [&str; 5] = ["services", "networks", "volumes", "configs", "secrets"];

/// Replaces the `include` of a document by what it includes.
pub(super) fn apply(document: &mut Node, scope: &Scope<'_>, assembly: &mut Assembly<'_>) {
    let Value::Mapping(top) = &mut document.value else { return };
    let Some(position) = top.iter().position(|entry| entry.key == "include") else { return };
    let entry = top.remove(position);
    let field = Field::of(&entry, "");
    if field.is_null() {
        return;
    }
    let Some(items) = field.items(assembly.findings) else {
        assembly.broken = true;
        return;
    };
    let mut origins = BTreeMap::new();
    for item in items {
        match project(&item, scope, assembly) {
            Some(root) => import(document, root, item.at(), &mut origins, assembly.findings),
            None => assembly.broken = true,
        }
    }
}

/// What one entry of `include` brings, merged.
fn project(item: &Field<'_>, scope: &Scope<'_>, assembly: &mut Assembly<'_>) -> Option<Node> {
    let long = match &item.node.value {
        Value::Mapping(_) => Some(item.keys(Section::Include, assembly.findings)?),
        _ => None,
    };
    let named = named(item, long.as_ref(), assembly.findings)?;
    let mut including = scope.including.to_vec();
    if including.is_empty() {
        including.push(assembly.findings.path(item.at().source).to_owned());
    }
    let mut files = Vec::new();
    for field in named {
        let path = assembly.place(&field)?;
        not_in_a_circle(&field, &path, &including, assembly.findings)?;
        files.push((field, path));
    }
    let (first, path) = files.first()?;
    let folder = match long.as_ref().and_then(|keys| keys.get("project_directory")) {
        None => path.parent().unwrap_or(Path::new("/")).to_owned(),
        Some(field) => folder(field, assembly)?,
    };
    let environment = environment(first, long.as_ref(), &folder, scope, assembly)?;
    let origin = Rc::new(Origin { folder, environment: environment.clone() });

    let mut roots = Vec::new();
    for (field, path) in &files {
        roots.extend(assembly.load(field, path, &origin)?);
        including.push(path.clone());
    }
    for root in &roots {
        check_keys(root, assembly.findings);
    }
    let mut variables = (*environment).clone();
    if let Some(name) = scope.variables.get("COMPOSE_PROJECT_NAME") {
        variables.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    }
    Some(assembly.merge(roots, &Scope { environment, variables: &variables, including: &including }))
}

/// The fields that name its files: at least one.
fn named<'a>(item: &Field<'a>, long: Option<&Keys<'a>>, findings: &mut Findings) -> Option<Vec<Field<'a>>> {
    let Some(keys) = long else { return item.text(findings).map(|_| vec![item.clone()]) };
    let Some(path) = keys.get("path") else {
        item.problem(findings, "an entry of `include` needs a `path`");
        return None;
    };
    let files = path.items_or_one(findings)?;
    if files.is_empty() {
        path.problem(findings, "`path` is empty");
        return None;
    }
    Some(files)
}

/// `including`: the files on the way to the one that says it, itself last.
fn not_in_a_circle(
    field: &Field<'_>,
    path: &PathBuf,
    including: &[PathBuf],
    findings: &mut Findings,
) -> Option<()> {
    if let Some(begin) = including.iter().position(|known| known == path) {
        let way = including[begin..].iter().chain([path]);
        let way: Vec<String> =
            way.map(|path| quote(&path.file_name().unwrap_or_default().to_string_lossy())).collect();
        field.problem(findings, format!("the file includes itself: {}", way.join(" -> ")));
        return None;
    }
    if including.len() > DEPTH_MAX {
        field.problem(findings, format!("files include each other deeper than {DEPTH_MAX} levels"));
        return None;
    }
    Some(())
}

fn folder(field: &Field<'_>, assembly: &mut Assembly<'_>) -> Option<PathBuf> {
    let path = assembly.place(field)?;
    let input = assembly.input;
    super::paths::must_exist(field, &path, PathKind::Folder, input, assembly.findings).then_some(path)
}

/// The variables of an included project: what its files say, and over it what the outer project has.
fn environment(
    first: &Field<'_>,
    long: Option<&Keys<'_>>,
    folder: &Path,
    scope: &Scope<'_>,
    assembly: &mut Assembly<'_>,
) -> Option<Rc<BTreeMap<String, String>>> {
    let mut files: Vec<(Field<'_>, PathBuf)> = Vec::new();
    match long.and_then(|keys| keys.get("env_file")) {
        Some(field) => {
            for field in field.items_or_one(assembly.findings)? {
                let path = assembly.place(&field)?;
                // What Compose users write for "none".
                if path != Path::new("/dev/null") {
                    files.push((field, path));
                }
            }
        }
        None => {
            let path = folder.join(".env");
            if assembly.input.reader.kind(&path) == Some(PathKind::File) {
                files.push((first.clone(), path));
            }
        }
    }
    let mut environment = BTreeMap::new();
    for (field, path) in files {
        let origin = assembly.findings.origin(field.at()).clone();
        let source = assembly.read(&field, &path, &origin, false)?;
        environment.extend(dotenv::parse(source, Format::Compose, &scope.environment, assembly.findings));
    }
    environment.extend(scope.environment.iter().map(|(name, value)| (name.clone(), value.clone())));
    Some(Rc::new(environment))
}

/// What does not stand in a mapping that is imported is looked at here.
fn check_keys(root: &Node, findings: &mut Findings) {
    let Some(keys) = (Field { node: root, path: String::new() }).keys(Section::Top, findings) else { return };
    if let Some(name) = keys.get("name") {
        findings
            .warning(name.at(), "name", "`name` has no effect in an included file")
            .hint("the application is called what the outermost file says");
    }
    if let Some(sinew) = keys.get("x-sinew") {
        findings
            .warning(sinew.at(), "x-sinew", "`x-sinew` at the top has no effect in an included file")
            .hint("an application has one gateway: it is set up in the outermost file");
    }
}

/// Adds what an included project declares to a document.
fn import(
    document: &mut Node,
    root: Node,
    at: At,
    origins: &mut BTreeMap<(&'static str, String), At>,
    findings: &mut Findings,
) {
    let (Value::Mapping(top), Value::Mapping(mut included)) = (&mut document.value, root.value) else {
        return;
    };
    for kind in DECLARED {
        let Some(position) = included.iter().position(|entry| entry.key == kind) else { continue };
        let Entry { value, .. } = included.swap_remove(position);
        let new = match value.value {
            Value::Mapping(new) => new,
            Value::Null => continue,
            _ => {
                let what = format!("`{kind}` must be a mapping, found {}", value.kind());
                findings.problem(value.at, kind, what);
                continue;
            }
        };
        let position = top.iter().position(|entry| entry.key == kind).unwrap_or_else(|| {
            top.push(Entry { key: kind.to_owned(), key_at: at, value: Node::null(at) });
            top.len() - 1
        });
        let place = &mut top[position].value.value;
        if matches!(place, Value::Null) {
            *place = Value::Mapping(Vec::new());
        }
        // What else it is, is a problem when it is read.
        let Value::Mapping(known) = place else { continue };
        for entry in new {
            let name = (kind, entry.key.clone());
            match known.iter().find(|other| other.key == entry.key) {
                None => {
                    origins.insert(name, at);
                    known.push(entry);
                }
                Some(other) if same(&other.value, &entry.value, findings) => {}
                Some(other) => conflict(kind, other, &entry, origins.get(&name).map(|_| at), findings),
            }
        }
    }
}

/// `second`: the place of the second of two `include`s that bring it; `None`: the file itself has it.
fn conflict(kind: &str, known: &Entry, entry: &Entry, second: Option<At>, findings: &mut Findings) {
    let kind = kind.trim_end_matches('s');
    let mut path = format!("{kind}s");
    super::yaml::push_key(&mut path, &entry.key);
    let name = quote(&entry.key);
    match second {
        Some(at) => {
            let first = findings.mention(known.key_at, at);
            let other = findings.mention(entry.key_at, at);
            findings
                .problem(
                    at,
                    path,
                    format!("the {kind} {name} is included twice: from {first} and from {other}"),
                )
                .hint("give one of them another name");
        }
        None => {
            let other = findings.mention(entry.key_at, known.key_at);
            findings
                .problem(known.key_at, path, format!("the {kind} {name} is included too, from {other}"))
                .hint("give it another name; to change what is included, name a second file to merge over it: `include: [{path: [a.yaml, b.yaml]}]`");
        }
    }
}

/// Whether two trees mean the same: the same words, with paths that start from the same folder.
fn same(a: &Node, b: &Node, findings: &Findings) -> bool {
    match (&a.value, &b.value) {
        (Value::Null, Value::Null) => true,
        (Value::Scalar { text: a_text, .. }, Value::Scalar { text: b_text, .. }) => {
            a_text == b_text && findings.origin(a.at).folder == findings.origin(b.at).folder
        }
        (Value::Sequence(a), Value::Sequence(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, findings))
        }
        (Value::Mapping(a), Value::Mapping(b)) => {
            a.len() == b.len()
                && a.iter().all(|entry| {
                    let other = b.iter().find(|other| other.key == entry.key);
                    other.is_some_and(|other| same(&entry.value, &other.value, findings))
                })
        }
        _ => false,
    }
}
