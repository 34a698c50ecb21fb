//! Whether the programs that the commands name are there, as far as the reader of files can tell: only warned of, as
//! what is missing here may be there where the application runs.

use std::collections::BTreeMap;
use std::path::Path;

use crate::application::Service;
use crate::name::ServiceName;

use super::problem::quote;
use super::source::Findings;
use super::yaml::{Node, Value};
use super::{ComposeInput, Program};

pub(super) fn check(
    services: &BTreeMap<ServiceName, Service>,
    root: &Node,
    input: &ComposeInput<'_>,
    environment: &BTreeMap<String, String>,
    findings: &mut Findings,
) {
    let builds = services.values().any(|service| !service.build.is_empty());
    for (name, service) in services {
        let definition = root.get("services").and_then(|entry| entry.value.get(name.as_str()));
        let Some(definition) = definition.map(|entry| &entry.value) else { continue };
        let key = ["entrypoint", "command"].into_iter().find_map(|key| definition.get(key));
        let (Some(entry), Some(program)) = (key, service.command.first()) else { continue };
        // It has its programs with it.
        let is_container = ["image", "build"].iter().any(|key| definition.get(key).is_some());
        if is_container || !service.build.is_empty() || comes_later(service, program, input, builds) {
            continue;
        }
        let search = service.environment.get("PATH").or_else(|| environment.get("PATH"));
        let found = input.reader.program(program, search.map(String::as_str), &service.working_dir);
        let shown = quote(program);
        let (what, hint) = match found {
            Program::Unknown | Program::Found => continue,
            Program::Missing if program.contains('/') => (
                format!("there is no file {shown}"),
                format!(
                    "it is looked for from {}; a program that is built first needs `x-sinew: {{ build: … }}`",
                    service.working_dir.display()
                ),
            ),
            Program::Missing => (
                format!("there is no program {shown} in PATH"),
                "install it, or write its path; a file of the project is written with `./` in front"
                    .to_owned(),
            ),
            Program::NotExecutable => (
                format!("{shown} is not executable"),
                format!("`chmod +x {program}`, or name its interpreter in front"),
            ),
            Program::NoInterpreter(interpreter) => (
                format!("the interpreter {} of {shown} does not exist", quote(&interpreter)),
                "its first line (`#!`) names it".to_owned(),
            ),
        };
        // The first word itself where it has a place of its own.
        let at = match &entry.value.value {
            Value::Sequence(items) => items.first().map_or(entry.value.at, |first| first.at),
            _ => entry.value.at,
        };
        findings.warning(at, format!("services.{name}.{}", entry.key), what).hint(hint);
    }
}

/// Something of the application makes it or brings it in.
fn comes_later(service: &Service, program: &str, input: &ComposeInput<'_>, builds: bool) -> bool {
    if !program.contains('/') {
        return false;
    }
    let path = service.working_dir.join(Path::new(program));
    let mounted = service.mounts.iter().any(|mount| path.starts_with(&mount.target));
    let built = service.build.iter().any(|build| path.starts_with(&build.working_dir));
    let granted = service.files.iter().any(|grant| path == grant.target);
    mounted || granted || (builds && (path.starts_with(&input.folder) || built))
}
