//! One file per subcommand: its arguments, its help, what it does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sinew_client::admin::Client;
use sinew_spec::admin::{AdminError, Changes};
use sinew_spec::compose::Problems;
use sinew_spec::name::{InstanceName, ServiceName};

use crate::arguments::{Common, Files};
use crate::failure::{Failure, problem_in_words};
use crate::load::{self, Loaded};
use crate::project::{self, Wanted};
use crate::select::select_all;
use crate::target::{self, Target};
use crate::terminal::{Paint, Terminal};

pub mod check;
pub mod completions;
pub mod config;
pub mod down;
pub mod exec;
pub mod install;
pub mod logs;
pub mod port_forward;
pub mod ps;
pub mod restart;
pub mod scale;
pub mod start;
pub mod status;
pub mod stop;
pub mod uninstall;
pub mod up;
pub mod version;

/// What every command is handed.
pub struct Context {
    pub common: Common,
    /// `-f` before the subcommand.
    pub files: Files,
    pub terminal: Terminal,
}

impl Context {
    /// The client of the application that is meant.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(self.target()?.client())
    }

    pub fn target(&self) -> Result<Target, Failure> {
        let from_environment = std::env::var("COMPOSE_PROJECT_NAME").ok().filter(|name| !name.is_empty());
        let name = self.common.project.clone().or(from_environment);
        target::find(name.as_deref(), &self.wanted(None, &Files::default()), &current_folder()?)
    }

    /// `None`: it is known which one is meant, and nothing of it runs.
    pub fn target_if_any(&self) -> Result<Option<Target>, Failure> {
        match self.target() {
            Err(failure) if failure.code == "not_running" => Ok(None),
            target => target.map(Some),
        }
    }

    /// Reads and checks what is meant.
    pub fn load(&self, place: Option<&Path>, files: &Files) -> Result<Loaded, Failure> {
        let project = project::find(&self.wanted(place, files), &current_folder()?)?;
        load::load(&project, &self.common)
    }

    /// What is odd but no error.
    pub fn warn(&self, warnings: &Problems) {
        if !self.terminal.is_json() {
            for warning in warnings {
                eprint!("{}", problem_in_words(warning, Paint::Warn, "warning", &self.terminal));
            }
        }
    }

    /// `files`: those behind the subcommand.
    pub fn wanted<'a>(&'a self, place: Option<&'a Path>, files: &Files) -> Wanted<'a> {
        Wanted {
            place,
            files: self.files.file.iter().chain(&files.file).cloned().collect(),
            folder: self.common.project_directory.as_deref(),
            from_environment: std::env::var("COMPOSE_FILE").ok(),
        }
    }
}

pub fn current_folder() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        Failure::failed("folders", format!("the working folder cannot be told: {error}"))
            .hint("it was deleted, most likely")
    })
}

/// Asks for one thing after the other and says what was done; every name is known before anything changes.
async fn each(
    client: &Client,
    context: &Context,
    typed: &[String],
    past: &str,
    ask: impl AsyncFn(ServiceName, Option<InstanceName>) -> Result<Changes, AdminError>,
) -> Result<(), Failure> {
    let status = client.status(false).await?;
    let mut all: BTreeMap<String, Changes> = BTreeMap::new();
    for selected in select_all(&status, typed)? {
        let instance = selected.instance_name();
        let name = instance.as_ref().map_or(selected.service.name.as_str(), InstanceName::as_str).to_owned();
        let changes = ask(selected.service_name(), instance).await?;
        if !context.terminal.is_json() {
            context.terminal.print(&format!("{name} {past}\n"))?;
        }
        all.insert(name, changes);
    }
    if context.terminal.is_json() { context.terminal.print_json(&all) } else { Ok(()) }
}
