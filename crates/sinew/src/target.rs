//! Which application is meant by commands that talk to a running one: `-p NAME`, else the one of this folder.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sinew_client::admin::Client;
use sinew_node::folders::{Bases, Folders};
use sinew_spec::name::ApplicationName;

use crate::failure::{Failure, from_here};
use crate::project::{self, Project, Wanted};
use crate::suggest;

/// An application and where it lives.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: ApplicationName,
    pub folders: Folders,
}

impl Target {
    pub fn client(&self) -> Client {
        Client::new(self.name.as_str(), self.folders.admin_socket())
    }
}

pub fn bases() -> Result<Bases, Failure> {
    Bases::from_environment(nix::unistd::geteuid(), |name| std::env::var_os(name))
        .and_then(|bases| bases.check().map(|()| bases))
        .map_err(|error| Failure::failed("folders", error.to_string()))
}

/// `name`: of `-p` or `COMPOSE_PROJECT_NAME`. `name_of`: what an application of these files is called.
pub fn find(
    name: Option<&str>,
    wanted: &Wanted<'_>,
    current: &Path,
    name_of: impl FnOnce(&Project) -> Option<ApplicationName>,
) -> Result<Target, Failure> {
    let bases = bases()?;
    let present = present(&bases);
    if let Some(name) = name {
        let name = ApplicationName::new(name);
        let folders = Folders::new(&bases, &name);
        return match present.iter().any(|found| found.name == name) || folders.has_own_run() {
            true => Ok(Target { name, folders }),
            false => Err(not_running(&format!("application `{name}`"), name.as_str(), &present)),
        };
    }
    let project = project::find(wanted, current)?;
    let files_named =
        !wanted.files.is_empty() || wanted.from_environment.as_deref().is_some_and(|f| !f.is_empty());
    let here: Vec<&Present> = present.iter().filter(|found| found.folder == project.folder).collect();
    let target =
        |found: &Present| Target { name: found.name.clone(), folders: Folders::new(&bases, &found.name) };
    if let ([found], false) = (here.as_slice(), files_named) {
        return Ok(target(found));
    }
    let of_files: Vec<&&Present> = here.iter().filter(|found| found.runs(&project.files)).collect();
    if let [found] = of_files.as_slice() {
        return Ok(target(found));
    }
    // Started with other files of the folder, or with more of them: the name decides, as in Compose.
    let named = if here.is_empty() { None } else { name_of(&project) };
    if let Some(found) = here.iter().find(|found| Some(&found.name) == named.as_ref()) {
        return Ok(target(found));
    }
    let names: Vec<&str> = here.iter().map(|found| found.name.as_str()).collect();
    match names.as_slice() {
        [] => {
            let what = format!("the application of {}", project.folder.display());
            let folder_name = project.folder.file_name().unwrap_or_default().to_string_lossy();
            Err(not_running(&what, &folder_name, &present))
        }
        names if files_named => {
            let files: Vec<String> =
                project.files.iter().map(|file| from_here(file).display().to_string()).collect();
            let message = format!("the application of {} is not running", files.join(", "));
            Err(Failure::failed("not_running", message).hint(format!(
                "start it with `sinew up -d`; from this folder {} running: {}",
                if names.len() == 1 { "is" } else { "are" },
                names.join(", ")
            )))
        }
        names => Err(Failure::bad_input(
            "ambiguous",
            format!("several applications run from {}", project.folder.display()),
        )
        .hint(format!(
            "say which: {}",
            names.iter().map(|name| format!("`-p {name}`")).collect::<Vec<_>>().join(" or ")
        ))),
    }
}

fn not_running(what: &str, typed: &str, present: &[Present]) -> Failure {
    let failure = Failure::failed("not_running", format!("{what} is not running"));
    let names: Vec<&str> = present.iter().map(|found| found.name.as_str()).collect();
    match suggest::nearest(typed, names.iter().copied()) {
        Some(near) => failure.hint(format!("did you mean `-p {near}`? Start one with `sinew up -d`")),
        None if names.is_empty() => failure.hint("start it with `sinew up -d`"),
        None => {
            failure.hint(format!("start it with `sinew up -d`; running now: {} (see -p)", names.join(", ")))
        }
    }
}

/// An application that has a run folder.
#[derive(Debug, Deserialize)]
struct Present {
    name: ApplicationName,
    folder: PathBuf,
    /// Compose files first, then what else was read.
    files: Vec<PathBuf>,
}

impl Present {
    /// Whether it was started from these compose files and no more of them.
    fn runs(&self, files: &[PathBuf]) -> bool {
        let is_compose =
            |file: &&PathBuf| file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        self.files.starts_with(files) && self.files[files.len()..].iter().find(is_compose).is_none()
    }
}

/// Written by the launcher (`Folders::application_record`); more stands in it.
#[derive(Deserialize)]
struct Record {
    application: Present,
}

fn present(bases: &Bases) -> Vec<Present> {
    const APPLICATIONS_MAX: usize = 1_000;
    let entries = fs::read_dir(&bases.run).into_iter().flatten().flatten().take(APPLICATIONS_MAX);
    let mut present: Vec<Present> = entries
        .filter_map(|entry| {
            let text = fs::read(entry.path().join("application.json")).ok()?;
            let Record { application } = serde_json::from_slice(&text).ok()?;
            Folders::new(bases, &application.name).has_own_run().then_some(application)
        })
        .collect();
    present.sort_by(|a, b| a.name.cmp(&b.name));
    present
}
