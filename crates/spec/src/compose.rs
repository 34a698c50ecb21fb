//! Compose files -> [`Application`]: parse, replace variables, merge, read, check. Every problem of every file is
//! reported together, with its place; what is not supported is named and never ignored silently.
//!
//! Follows the Compose Specification (compose-spec.io); where it leaves room, what is safe was taken, and said so in
//! `docs/compose.md`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::application::Application;
use crate::name::ApplicationName;

mod application;
mod assemble;
mod container;
mod dotenv;
mod extends;
mod fields;
mod grants;
mod graph;
mod health;
mod hidden;
mod include;
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
mod replacing;
mod service;
mod sinew;
mod source;
mod suggest;
mod units;
mod variables;
mod words;
mod yaml;

pub use problem::{Problem, Problems};

use assemble::{Assembly, Scope};
use source::{At, Findings, Origin, SourceId};
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
    let own = Rc::new(environment.clone());
    let origin = Rc::new(Origin { folder: input.folder.clone(), environment: own.clone() });
    sources.iter().for_each(|source| findings.set_origin(*source, &origin));

    let mut documents = assemble::documents(&sources, findings)?;
    let mut replacement = Replacement::default();
    let name = application_name(input, environment, &mut documents, &mut replacement, findings);
    let mut variables = environment.clone();
    variables.insert("COMPOSE_PROJECT_NAME".to_owned(), name.to_string());
    let mut assembly = Assembly::new(input, findings, replacement);
    let scope = Scope { environment: own, variables: &variables, including: &[] };
    let root = assembly.merge(documents, &scope);
    let Assembly { further, broken, .. } = assembly;
    if broken {
        application::check_keys(&root, findings);
        return None;
    }
    let application::Read { mut application, granted } =
        application::read(input, environment, name, &root, findings)?;
    environment.extend(granted);
    for file in further {
        if !application.files.contains(&file) {
            application.files.push(file);
        }
    }
    Some(application)
}

/// The name first: it is a variable for everything else.
fn application_name(
    input: &ComposeInput<'_>,
    environment: &BTreeMap<String, String>,
    documents: &mut [Node],
    replacement: &mut Replacement,
    findings: &mut Findings,
) -> ApplicationName {
    for document in &mut *documents {
        let yaml::Value::Mapping(entries) = &mut document.value else { continue };
        for entry in entries.iter_mut().filter(|entry| entry.key == "name") {
            replacement.replace(&mut entry.value, &mut "name".to_owned(), environment, findings);
        }
    }
    let named = documents.iter().rev().find(|root| root.get("name").is_some());
    name::choose(input, environment, named.unwrap_or(&documents[0]), findings)
}
