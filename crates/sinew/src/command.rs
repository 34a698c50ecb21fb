//! One file per subcommand: its arguments, its help, what it does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::task::Poll;

use sinew_client::admin::Client;
use sinew_node::folders::Folders;
use sinew_spec::admin::{AdminError, Changes};
use sinew_spec::compose::Problems;
use sinew_spec::name::{ApplicationName, InstanceName, ServiceName};

use crate::arguments::{Common, Files};
use crate::failure::{Failure, problem_in_words};
use crate::load::{self, Loaded};
use crate::owner;
use crate::progress;
use crate::project::{self, Project, Wanted};
use crate::select::select_all;
use crate::target::{self, Target};
use crate::terminal::{Paint, Terminal};

pub mod bundle;
pub mod check;
pub mod completions;
pub mod config;
pub mod down;
pub mod exec;
pub mod history;
pub mod install;
pub mod logs;
pub mod port_forward;
pub mod ps;
pub mod restart;
pub mod rollback;
pub mod scale;
pub mod start;
pub mod status;
pub mod stop;
pub mod uninstall;
pub mod up;
pub mod update;
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
        let wanted = self.wanted(None, &Files::default());
        target::find(name.as_deref(), &wanted, &current_folder()?, |project| {
            // Standard input can be read once, and not to find out a name.
            let readable = !project.files.iter().any(|file| file == Path::new("-"));
            let loaded = readable.then(|| load::load(project, &self.common, &[]).ok()).flatten();
            loaded.map(|loaded| loaded.application.name)
        })
    }

    /// `None`: it is known which one is meant, and nothing of it runs.
    pub fn target_if_any(&self) -> Result<Option<Target>, Failure> {
        match self.target() {
            Err(failure) if failure.code == "not_running" => Ok(None),
            target => target.map(Some),
        }
    }

    /// The application that is meant though nothing of it runs: by `-p`, else by its file. Refuses one of another folder.
    pub fn target_at_rest(&self) -> Result<Target, Failure> {
        let bases = target::bases()?;
        if let Some(name) = &self.common.project {
            let name = ApplicationName::parse(name)
                .map_err(|wrong| Failure::bad_input("arguments", format!("-p: {wrong}")))?;
            return Ok(Target { folders: Folders::new(&bases, &name), name });
        }
        let application = self.load(None, &Files::default())?.application;
        let folders = Folders::new(&bases, &application.name);
        owner::check(&folders, &application)?;
        Ok(Target { name: application.name, folders })
    }

    /// The files that are meant.
    pub fn project(&self, place: Option<&Path>, files: &Files) -> Result<Project, Failure> {
        project::find(&self.wanted(place, files), &current_folder()?)
    }

    /// Reads and checks what is meant.
    pub fn load(&self, place: Option<&Path>, files: &Files) -> Result<Loaded, Failure> {
        self.load_services(place, files, &[])
    }

    /// Only these services and what they depend on; none named: all.
    pub fn load_services(
        &self,
        place: Option<&Path>,
        files: &Files,
        services: &[String],
    ) -> Result<Loaded, Failure> {
        load::load(&self.project(place, files)?, &self.common, services)
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

/// What is asked of a service or an instance, and how it is said that it was done.
struct Ask {
    done: &'static str,
    /// Nothing was to be done.
    already: &'static str,
    /// All at once: one may wait for another.
    together: bool,
}

/// Asks for one thing after the other and says what was done; every name is known before anything changes. What fails
/// is told after the rest was tried.
async fn each<F>(
    target: &Target,
    context: &Context,
    typed: &[String],
    ask: Ask,
    question: impl Fn(Client, ServiceName, Option<InstanceName>) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<Changes, AdminError>>,
{
    let client = target.client();
    let status = client.status(false).await?;
    let mut questions = Vec::new();
    for selected in select_all(&status, typed)? {
        let (service, instance) = (selected.service_name(), selected.instance_name());
        let name = instance.as_ref().map_or(service.as_str(), InstanceName::as_str).to_owned();
        let (client, terminal) = (client.clone(), &context.terminal);
        let question = question(client.clone(), service.clone(), instance);
        questions.push(async move {
            let answer = progress::beside(&client, &target.folders, terminal, &service, question).await;
            if let Ok(changes) = &answer
                && !terminal.is_json()
            {
                let words = if changes.is_empty() { ask.already } else { ask.done };
                terminal.print(&format!("{name} {words}\n"))?;
            }
            Ok::<_, Failure>((name, answer))
        });
    }
    let mut all: BTreeMap<String, Changes> = BTreeMap::new();
    let mut failed = None;
    let answers = if ask.together { together(questions).await } else { in_turn(questions).await };
    for answered in answers {
        match answered? {
            (name, Ok(changes)) => drop(all.insert(name, changes)),
            (_, Err(error)) => failed = failed.or(Some(error)),
        }
    }
    match failed {
        Some(error) => Err(error.into()),
        None if context.terminal.is_json() => context.terminal.print_json(&all),
        None => Ok(()),
    }
}

async fn in_turn<T>(questions: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut answers = Vec::new();
    for question in questions {
        answers.push(question.await);
    }
    answers
}

async fn together<T>(questions: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut open: Vec<_> = questions.into_iter().map(Box::pin).collect();
    let mut answers: Vec<Option<T>> = open.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (question, answer) in open.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let Poll::Ready(ready) = question.as_mut().poll(cx)
            {
                *answer = Some(ready);
            }
        }
        if answers.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers.into_iter().flatten().collect()
}
