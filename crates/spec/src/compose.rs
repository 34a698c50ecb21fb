//! Compose files -> [`Application`]: parse, replace variables, merge, read, check. Every problem of every file is
//! reported together, with its place; what is not supported is named and never ignored silently.
//!
//! Follows the Compose Specification (compose-spec.io); where it leaves room, what is safe was taken, and said so in
//! `docs/compose.md`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::application::Application;
use crate::name::ApplicationName;

mod application;
mod container;
mod dotenv;
mod fields;
mod grants;
mod graph;
mod health;
mod interpolate;
pub mod keys;
mod limits;
mod links;
pub mod lock;
mod logging;
mod merge;
mod mounts;
mod name;
mod paths;
mod ports;
pub mod problem;
mod programs;
mod service;
mod sinew;
mod source;
mod suggest;
mod units;
mod variables;
mod words;
mod yaml;

pub use problem::{Problem, Problems};

use source::{At, Findings, SourceId};
use variables::Replacement;
use yaml::Node;

pub const FILES_MAX: usize = 32;

const SMALLEST: &str = "the smallest file is `services: {hello: {command: [echo, hello]}}`";

/// What an application is read from. Nothing else is looked at: reading files is up to `reader`.
pub struct ComposeInput<'a> {
    /// Absolute paths and texts, in the order of `-f`; later ones are merged over earlier ones.
    pub files: Vec<(PathBuf, String)>,
    /// What relative paths start from; absolute.
    pub folder: PathBuf,
    /// `-p`.
    pub name: Option<String>,
    /// Of the process; wins over `dotenv`.
    pub environment: &'a BTreeMap<String, String>,
    /// `.env` beside the first file: path and text.
    pub dotenv: Option<(PathBuf, String)>,
    /// `--profile`; when empty, `COMPOSE_PROFILES` counts.
    pub profiles: Vec<String>,
    pub reader: &'a dyn Reader,
    /// Only these and what they depend on; empty: all.
    pub services: Vec<String>,
}

/// The file system, as far as a compose file refers to it.
pub trait Reader {
    /// The text of an `env_file`.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// What is at a path, symbolic links followed; `None`: nothing.
    fn kind(&self, path: &Path) -> Option<PathKind>;

    /// Whether a program can be run: by its path from `working_dir`, or looked up in `search` (a PATH; `None`: the usual
    /// one). Not known unless somebody looks.
    fn program(&self, _name: &str, _search: Option<&str>, _working_dir: &Path) -> Program {
        Program::Unknown
    }
}

/// What is known of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    Unknown,
    Found,
    Missing,
    NotExecutable,
    /// A script whose first line names what does not exist.
    NoInterpreter(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    File,
    Folder,
    /// A block or character device.
    Device,
    /// A socket or a pipe.
    Other,
}

/// Everything that reading gives.
#[derive(Debug)]
pub struct Loaded {
    pub application: Result<Application, Problems>,
    /// What is odd but no error: unset variables, keys without effect.
    pub warnings: Problems,
    /// The process's environment over `.env`: what `FileContent::Environment` refers to.
    pub environment: BTreeMap<String, String>,
}

/// The application, or everything that is wrong with the files.
pub fn load(input: &ComposeInput<'_>) -> Result<Application, Problems> {
    read(input).application
}

/// The same as [`load`], with the warnings and the environment.
pub fn read(input: &ComposeInput<'_>) -> Loaded {
    let mut findings = Findings::default();
    let mut environment = BTreeMap::new();
    let application = read_with(input, &mut environment, &mut findings);
    let (problems, warnings) = findings.finish();
    let application = application.filter(|_| problems.is_empty()).ok_or(problems);
    Loaded { application, warnings, environment }
}

/// `None` only with problems among the findings.
fn read_with(
    input: &ComposeInput<'_>,
    environment: &mut BTreeMap<String, String>,
    findings: &mut Findings,
) -> Option<Application> {
    if input.files.is_empty() || input.files.len() > FILES_MAX {
        let source = findings.add_source(&input.folder, "", false);
        let count = input.files.len();
        findings.problem(At::whole(source), "", format!("{count} files; there must be 1 to {FILES_MAX}"));
        return None;
    }
    let sources: Vec<SourceId> =
        input.files.iter().map(|(path, text)| findings.add_source(path, text, true)).collect();
    if let Some((path, text)) = &input.dotenv {
        let source = findings.add_source(path, text, false);
        environment.extend(dotenv::parse(source, dotenv::Format::Compose, input.environment, findings));
    }
    environment.extend(input.environment.iter().map(|(name, value)| (name.clone(), value.clone())));

    let documents = parse(&sources, findings)?;
    let (name, root) = replace_and_merge(input, environment, documents, findings);
    application::read(input, environment, name, &root, findings)
}

/// The documents of all files in order. `None`: one of them is not YAML, so that nothing can be said about the rest.
fn parse(sources: &[SourceId], findings: &mut Findings) -> Option<Vec<Node>> {
    let mut documents = Vec::new();
    let mut readable = true;
    for source in sources {
        let Some(roots) = yaml::load(*source, findings) else {
            readable = false;
            continue;
        };
        let filled: Vec<Node> =
            roots.into_iter().filter(|root| !matches!(root.value, yaml::Value::Null)).collect();
        if filled.is_empty() {
            findings.problem(At::start(*source), "", "the file is empty").hint(SMALLEST);
            readable = false;
        }
        for root in filled {
            if let yaml::Value::Mapping(_) = root.value {
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

fn replace_and_merge(
    input: &ComposeInput<'_>,
    environment: &BTreeMap<String, String>,
    mut documents: Vec<Node>,
    findings: &mut Findings,
) -> (ApplicationName, Node) {
    let mut replacement = Replacement::default();
    // The name first: it is a variable for everything else.
    for_entries(&mut documents, |entry| {
        if entry.key == "name" {
            replacement.replace(&mut entry.value, &mut "name".to_owned(), environment, findings);
        }
    });
    let named = documents.iter().rev().find(|root| root.get("name").is_some());
    let name = name::choose(input, environment, named.unwrap_or(&documents[0]), findings);
    let mut variables = environment.clone();
    variables.insert("COMPOSE_PROJECT_NAME".to_owned(), name.to_string());
    for_entries(&mut documents, |entry| {
        // Extensions at the top hold anchors; what is used of them is replaced where it is used.
        if entry.key != "name" && !entry.key.starts_with("x-") {
            let mut path = String::new();
            yaml::push_key(&mut path, &entry.key);
            replacement.replace(&mut entry.value, &mut path, &variables, findings);
        }
    });
    let mut documents = documents.into_iter();
    let mut root = documents.next().expect("there is at least one file, and none is empty");
    for document in documents {
        merge::merge(&mut root, document, findings);
    }
    merge::settle(&mut root);
    (name, root)
}

fn for_entries(documents: &mut [Node], mut each: impl FnMut(&mut yaml::Entry)) {
    for document in documents {
        if let yaml::Value::Mapping(entries) = &mut document.value {
            entries.iter_mut().for_each(&mut each);
        }
    }
}
