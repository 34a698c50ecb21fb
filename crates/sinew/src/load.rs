//! From files to an application: what they say, and everything that is wrong with them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use sinew_node::plan::PATH_DEFAULT;
use sinew_node::programs::{self, Look};
use sinew_spec::application::{Application, FileContent};
use sinew_spec::compose::{self, ComposeInput, PathKind, Problems};

use crate::arguments::Common;
use crate::failure::{Failure, from_here};
use crate::project::Project;
use crate::units::count;

/// Of one file; real ones have some KiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A valid application and what came with it.
#[derive(Debug)]
pub struct Loaded {
    pub application: Application,
    pub warnings: Problems,
    /// The process's environment over `.env`.
    pub environment: BTreeMap<String, String>,
}

impl Loaded {
    /// Values of the variables that `FileContent::Environment` names, for the launcher.
    pub fn granted_environment(&self) -> BTreeMap<String, String> {
        let grants = self.application.services.values().flat_map(|service| &service.files);
        let names = grants.filter_map(|grant| match &grant.content {
            FileContent::Environment(name) => Some(name),
            _ => None,
        });
        names
            .filter_map(|name| self.environment.get(name).map(|value| (name.clone(), value.clone())))
            .collect()
    }
}

/// Reads and checks everything. All problems come back together. `services`: only these and what they depend on;
/// empty: all.
pub fn load(project: &Project, common: &Common, services: &[String]) -> Result<Loaded, Failure> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    load_in(project, common, services, &environment)
}

/// In another environment than that of this process.
pub fn load_in(
    project: &Project,
    common: &Common,
    services: &[String],
    environment: &BTreeMap<String, String>,
) -> Result<Loaded, Failure> {
    let mut files = Vec::new();
    for path in &project.files {
        let (path, text) = if path == Path::new("-") {
            (project.folder.join("<stdin>"), read_text(io::stdin().lock(), path)?)
        } else {
            let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
            (path.clone(), read_text(file, path)?)
        };
        files.push((path, text));
    }
    let dotenv = project.folder.join(".env");
    let dotenv = match fs::File::open(&dotenv) {
        Ok(file) if dotenv.is_file() => Some((dotenv.clone(), read_text(file, &dotenv)?)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unreadable(&dotenv, &error)),
        _ => None,
    };
    let names: Vec<String> = project.files.iter().map(|file| from_here(file).display().to_string()).collect();
    let loaded = compose::read(&ComposeInput {
        files,
        folder: project.folder.clone(),
        name: common.project.clone(),
        environment,
        dotenv,
        profiles: common.profile.clone(),
        reader: &Disk,
        services: services.to_vec(),
    });
    match loaded.application {
        Ok(application) => {
            Ok(Loaded { application, warnings: loaded.warnings, environment: loaded.environment })
        }
        Err(problems) => {
            let message =
                format!("{} in {}; nothing was started", count(problems.len(), "problem"), names.join(", "));
            Err(Failure::bad_input("invalid_file", message).problems(problems))
        }
    }
}

struct Disk;

impl compose::Reader for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    }

    fn kind(&self, path: &Path) -> Option<PathKind> {
        let found = fs::metadata(path).ok()?.file_type();
        Some(if found.is_dir() {
            PathKind::Folder
        } else if found.is_file() {
            PathKind::File
        } else if found.is_block_device() || found.is_char_device() {
            PathKind::Device
        } else {
            PathKind::Other
        })
    }

    fn program(&self, name: &str, search: Option<&str>, working_dir: &Path) -> compose::Program {
        match programs::look(search.unwrap_or(PATH_DEFAULT), name, working_dir) {
            Look::Found => compose::Program::Found,
            Look::Missing => compose::Program::Missing,
            Look::NotExecutable => compose::Program::NotExecutable,
            Look::NoInterpreter(path) => compose::Program::NoInterpreter(path.display().to_string()),
            Look::Hidden => compose::Program::Unknown,
        }
    }
}

fn read_text(from: impl Read, path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    from.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("{} is larger than {}", path.display(), crate::units::bytes(FILE_BYTES_MAX));
        return Err(Failure::bad_input("invalid_file", message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::bad_input("invalid_file", format!("{} is no UTF-8 text: byte {at} is wrong", path.display()))
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::bad_input("unreadable_file", format!("could not read {}: {error}", path.display()))
}
