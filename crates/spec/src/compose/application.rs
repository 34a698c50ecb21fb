//! The merged file -> the application: what the top level declares, then every service, then what only shows when all
//! are known.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::application::{Application, FileContent};
use crate::name::ApplicationName;

use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::service::{Context, Draft};
use super::source::{At, Findings};
use super::yaml::{Node, Value};
use super::{ComposeInput, PathKind, graph, hidden, paths, programs, service};

pub(super) const SERVICES_MAX: usize = 1_000;

/// What the top level declares for services to refer to.
#[derive(Default)]
pub(super) struct Top {
    /// The name on disk.
    pub volumes: Names<String>,
    pub networks: Names<()>,
    pub secrets: Names<Option<FileContent>>,
    pub configs: Names<Option<FileContent>>,
}

pub(super) struct Names<T>(BTreeMap<String, Declared<T>>);

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

struct Declared<T> {
    value: T,
    at: At,
    path: String,
    used: Cell<bool>,
}

impl<T> Names<T> {
    fn declare(&mut self, name: &str, value: T, field: &Field<'_>, at: At) {
        let declared = Declared { value, at, path: field.path.clone(), used: Cell::new(false) };
        self.0.insert(name.to_owned(), declared);
    }

    /// What was declared under a name, which is used now.
    pub fn take(&self, name: &str) -> Option<&T> {
        let declared = self.0.get(name)?;
        declared.used.set(true);
        Some(&declared.value)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn warn_unused(&self, kind: &str, findings: &mut Findings) {
        for (name, declared) in self.0.iter().filter(|(_, declared)| !declared.used.get()) {
            let what = format!("the {kind} {} is used by no service", quote(name));
            findings.warning(declared.at, declared.path.clone(), what);
        }
    }
}

pub(super) fn read(
    input: &ComposeInput<'_>,
    environment: &BTreeMap<String, String>,
    name: ApplicationName,
    root: &Node,
    findings: &mut Findings,
) -> Option<Read> {
    let field = Field { node: root, path: String::new() };
    let keys = field.keys(Section::Top, findings)?;
    let mut granted = BTreeMap::new();
    let top = Top {
        volumes: volumes(&keys, findings),
        networks: networks(&keys, findings),
        secrets: contents(&keys, "secrets", Section::Secret, input, environment, &mut granted, findings),
        configs: contents(&keys, "configs", Section::Config, input, environment, &mut granted, findings),
    };
    let gateway = super::sinew::gateway(&keys, findings);
    let (drafts, env_files) = services(&keys, root, input, &name, &top, findings);
    let places = hidden::Places::of(&drafts);
    let services = graph::select(drafts, root, input, environment, findings);
    // Otherwise what uses it may just be what is wrong.
    if !findings.has_problems() {
        programs::check(&services, root, input, environment, findings);
        top.volumes.warn_unused("volume", findings);
        top.secrets.warn_unused("secret", findings);
        top.configs.warn_unused("config", findings);
        top.networks.take("default");
        top.networks.warn_unused("network", findings);
    }

    let used = |name: &str| {
        services.values().any(|service| {
            service.mounts.iter().any(|mount| {
                matches!(&mount.source, crate::application::MountSource::Volume(volume) if volume == name)
            })
        })
    };
    let volumes = top
        .volumes
        .0
        .iter()
        .filter(|(name, _)| used(name))
        .map(|(name, declared)| (name.clone(), declared.value.clone()))
        .collect();
    let mut files: Vec<_> = input.files.iter().map(|(path, _)| path.clone()).collect();
    files.extend(input.dotenv.iter().map(|(path, _)| path.clone()));
    files.extend(env_files);
    let application = Application { name, folder: input.folder.clone(), files, services, volumes, gateway };
    if !findings.has_problems() {
        hidden::warn(&application, &places, input, findings);
    }
    Some(Read { application, granted })
}

pub(super) struct Read {
    pub application: Application,
    /// Variables of included projects that secrets and configs name.
    pub granted: BTreeMap<String, String>,
}

/// What can be said of a file when something of it is missing as a whole: which keys it has.
pub(super) fn check_keys(root: &Node, findings: &mut Findings) {
    let field = Field { node: root, path: String::new() };
    let Some(keys) = field.keys(Section::Top, findings) else { return };
    super::sinew::gateway(&keys, findings);
    let Some(services) = keys.get("services") else { return };
    for entry in services.entries(findings).unwrap_or_default() {
        if let Value::Mapping(_) = entry.value.value {
            Field::of(entry, &services.path).keys(Section::Service, findings);
        }
    }
}

/// With the `env_file`s that were read.
fn services<'a>(
    keys: &Keys<'a>,
    root: &Node,
    input: &ComposeInput<'_>,
    name: &ApplicationName,
    top: &Top,
    findings: &mut Findings,
) -> (Vec<Draft>, BTreeSet<PathBuf>) {
    let none = (Vec::new(), BTreeSet::new());
    let Some(field) = keys.get("services") else {
        findings.problem(At::start(root.at.source), "", "the file has no `services`").hint(super::SMALLEST);
        return none;
    };
    let Some(entries) = field.entries(findings) else { return none };
    if entries.is_empty() {
        field.problem(findings, "`services` is empty").hint(super::SMALLEST);
    }
    if entries.len() > SERVICES_MAX {
        field.problem(findings, format!("there are more than {SERVICES_MAX} services"));
        return none;
    }
    let mut context = Context { input, name, top, findings, env_files: BTreeMap::new() };
    let drafts = entries
        .iter()
        .map(|entry| service::read(&Field::of(entry, &field.path), &entry.key, entry.key_at, &mut context))
        .collect();
    (drafts, context.env_files.into_keys().map(|(path, _, _)| path).collect())
}

/// Each entry of a top-level mapping, with its keys; a missing value is an empty mapping.
fn declared<'a>(
    keys: &Keys<'a>,
    name: &str,
    section: Section,
    findings: &mut Findings,
) -> Vec<(&'a str, At, Field<'a>, Option<Keys<'a>>)> {
    let Some(field) = keys.get_filled(name) else { return Vec::new() };
    let Some(entries) = field.entries(findings) else { return Vec::new() };
    let mut list = Vec::new();
    for entry in entries {
        let field = Field::of(entry, &field.path);
        check_name(&entry.key, entry.key_at, &field.path, findings);
        let keys = if field.is_null() { None } else { field.keys(section, findings) };
        list.push((entry.key.as_str(), entry.key_at, field, keys));
    }
    list
}

fn check_name(name: &str, at: At, path: &str, findings: &mut Findings) {
    let good = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    if name.is_empty() || !name.chars().all(good) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        findings
            .problem(at, path, format!("{} cannot be a name", quote(name)))
            .hint("a name begins with a letter or a digit; letters, digits, `.`, `-` and `_` follow");
    }
}

fn volumes(keys: &Keys<'_>, findings: &mut Findings) -> Names<String> {
    let mut names = Names::default();
    for (name, at, field, keys) in declared(keys, "volumes", Section::Volume, findings) {
        let mut on_disk = name.to_owned();
        if let Some(keys) = keys {
            if let Some(driver) = keys.get("driver") {
                driver.word(findings, &[("local", ())]);
            }
            if let Some(field) = keys.get("name")
                && let Some(text) = field.filled(findings)
            {
                check_name(text, field.at(), &field.path, findings);
                text.clone_into(&mut on_disk);
            }
        }
        const NAME_BYTES_MAX: usize = 200;
        if on_disk.len() > NAME_BYTES_MAX {
            findings.problem(at, field.path.clone(), "the name of the volume is too long");
        }
        names.declare(name, on_disk, &field, at);
    }
    names
}

fn networks(keys: &Keys<'_>, findings: &mut Findings) -> Names<()> {
    let mut names = Names::default();
    for (name, at, field, keys) in declared(keys, "networks", Section::Network, findings) {
        if let Some(keys) = keys {
            if let Some(driver) = keys.get("driver") {
                driver.word(findings, &[("bridge", ()), ("default", ())]);
            }
            if let Some(internal) = keys.get("internal") {
                internal.boolean(findings);
            }
        }
        names.declare(name, (), &field, at);
    }
    names
}

fn contents(
    keys: &Keys<'_>,
    name: &str,
    section: Section,
    input: &ComposeInput<'_>,
    environment: &BTreeMap<String, String>,
    granted: &mut BTreeMap<String, String>,
    findings: &mut Findings,
) -> Names<Option<FileContent>> {
    let kind = if section == Section::Secret { "secret" } else { "config" };
    let sources: &[&str] = if section == Section::Secret {
        &["file", "environment"]
    } else {
        &["file", "environment", "content"]
    };
    let mut names = Names::default();
    for (name, at, field, keys) in declared(keys, name, section, findings) {
        let given: Vec<&Field<'_>> =
            keys.iter().flat_map(|keys| sources.iter().filter_map(|source| keys.get(source))).collect();
        let refused = keys.is_some()
            && ["external", "content", "driver"]
                .iter()
                .any(|key| field.node.get(key).is_some() && !sources.contains(key));
        let content = match given.as_slice() {
            [] if refused => None,
            [] => {
                let sources: Vec<String> = sources.iter().map(|source| format!("`{source}`")).collect();
                findings
                    .problem(at, field.path.clone(), format!("the {kind} {} has no source", quote(name)))
                    .hint(format!("give it one of {}", sources.join(", ")));
                None
            }
            [source] => content(source, input, environment, granted, findings),
            [_, second, ..] => {
                second.problem(findings, format!("the {kind} {} has more than one source", quote(name)));
                None
            }
        };
        names.declare(name, content, &field, at);
    }
    names
}

const CONTENT_BYTES_MAX: usize = 500 * 1024;

fn content(
    source: &Field<'_>,
    input: &ComposeInput<'_>,
    environment: &BTreeMap<String, String>,
    granted: &mut BTreeMap<String, String>,
    findings: &mut Findings,
) -> Option<FileContent> {
    match source.name() {
        "file" => {
            let text = source.filled(findings)?;
            let path = paths::host(source, text, input, findings)?;
            paths::must_exist(source, &path, PathKind::File, input, findings)
                .then_some(FileContent::File(path))
        }
        "environment" => {
            let name = source.filled(findings)?;
            let own = findings.origin(source.at()).environment.get(name).cloned();
            if let Some(value) = own
                && !environment.contains_key(name)
                && *granted.entry(name.to_owned()).or_insert_with(|| value.clone()) != value
            {
                let what = format!("two included projects give {} different values", quote(name));
                source.problem(findings, what).hint("give the variables names of their own");
            }
            if !environment.contains_key(name) && !granted.contains_key(name) {
                source
                    .problem(findings, format!("the variable {} is not set", quote(name)))
                    .hint("set it in the environment or in `.env`");
                return None;
            }
            Some(FileContent::Environment(name.to_owned()))
        }
        _ => {
            let text = source.text(findings)?;
            if text.len() > CONTENT_BYTES_MAX {
                source.problem(findings, format!("the content has more than {CONTENT_BYTES_MAX} bytes"));
                return None;
            }
            Some(FileContent::Inline(text.to_owned()))
        }
    }
}
