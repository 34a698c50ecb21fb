//! A running application: control plane, launcher and admin API in one process, on the runtime of the caller.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sinew_control::{Control, ControlOptions};
use sinew_node::folders::{FolderError, Folders, Lock};
use sinew_node::launcher::{self, Launcher, Scope};
use sinew_node::plan::Host;
use sinew_node::{process, seal};
use sinew_spec::admin::{AdminError, ErrorCode};
use sinew_spec::application::{Application, ServicePosture};

use crate::admin;
use crate::operation::Handle;
use crate::owner;
use crate::registry::ControlRegistry;
use crate::state::{self, StateError};

/// For a launcher that was killed to let go of what it holds: milliseconds, as a rule.
const ENDING_MAX: Duration = Duration::from_secs(2);
const ENDING_LOOK: Duration = Duration::from_millis(5);

pub struct Options {
    pub folders: Folders,
    /// Everything ends with this process. Otherwise services and sidecars outlive it.
    pub foreground: bool,
    /// `None`: that of an earlier launcher whose instances are taken over, else sealed.
    pub posture: Option<ServicePosture>,
}

pub struct Engine {
    handle: Handle,
    launcher: Launcher,
    admin: admin::AdminListener,
    /// Held until everything has ended.
    lock: Lock,
}

impl Engine {
    /// Takes the application over: refuses what cannot be done here, all reasons together, before anything is started;
    /// adopts what an earlier launcher left. When this returns, the admin API can be connected to.
    ///
    /// `environment`: values for `FileContent::Environment`.
    pub async fn start(
        application: Application,
        environment: BTreeMap<String, String>,
        options: Options,
    ) -> Result<Self, AdminError> {
        let Options { folders, foreground, posture } = options;
        folders.make().map_err(folder_error)?;
        let lock = lock(&folders).await.map_err(folder_error)?;
        state::bring_up_to_date(&folders.state).map_err(|error| state_error(&error, &folders))?;
        let host = Host::from_environment(|name| std::env::var(name).ok());
        let earlier = if foreground { Vec::new() } else { launcher::earlier_published(&folders) };
        let posture = posture.or_else(|| launcher::earlier_posture(&folders).filter(|_| !foreground));
        let posture = posture.unwrap_or_default();
        if foreground {
            // Before ports are looked at: a gateway that was left behind holds them.
            launcher::clean(&folders, false).await.map_err(|error| failed("cleaning up", &error))?;
        }
        let prepared =
            launcher::prepare(&application, posture, &host, &environment, &earlier, Scope::Everything);
        let published = prepared.map_err(|refusals| {
            // Nothing was there and nothing comes: no trace stays.
            if folders.instance_folders().is_ok_and(|folders| folders.is_empty()) {
                let _ = folders.remove_run();
            }
            launcher::impossible(&refusals)
        })?;
        owner::claim(&folders, &application.folder)
            .map_err(|error| failed("writing down whose state this is", &error))?;
        let control = Control::open(ControlOptions::new(application.clone(), folders.state.clone()))
            .map_err(|error| failed("opening the control plane", &error))?;
        let (handle, operations, events) = Handle::new();
        let launcher = Launcher::start(
            launcher::Options {
                application,
                folders: folders.clone(),
                registry: Arc::new(ControlRegistry(control)),
                detached: !foreground,
                posture,
                program: seal::own_program().to_path_buf(),
                host,
                environment,
                published,
            },
            operations,
            events,
        )
        .await?;
        let admin = listen(&folders.admin_socket())?;
        Ok(Self { handle, launcher, admin, lock })
    }

    /// Whether [`Engine::start`] would refuse whatever a build makes: to be asked before a long one.
    pub fn check(
        application: &Application,
        posture: Option<ServicePosture>,
        environment: &BTreeMap<String, String>,
        folders: &Folders,
    ) -> Result<(), AdminError> {
        let host = Host::from_environment(|name| std::env::var(name).ok());
        let earlier = launcher::earlier_published(folders);
        let posture = posture.or_else(|| launcher::earlier_posture(folders)).unwrap_or_default();
        let prepared =
            launcher::prepare(application, posture, &host, environment, &earlier, Scope::BeforeBuild);
        prepared.map(drop).map_err(|refusals| launcher::impossible(&refusals))
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs the application until `Operation::Down` was carried out. Dropped before that, a detached application goes
    /// on without it, and a foreground one ends.
    pub async fn run(self) -> Result<(), AdminError> {
        let Self { handle, launcher, admin, lock } = self;
        let serving = admin::serve(admin, handle);
        tokio::pin!(serving);
        tokio::select! {
            () = launcher.run() => {}
            () = &mut serving => return Err(failed("serving the admin API", &"it ended")),
        }
        // Answers that are on their way (to `down`) are still written.
        let _ = tokio::time::timeout(launcher::LAST_WORDS, serving).await;
        drop(lock);
        Ok(())
    }
}

/// Waits for a launcher that is ending; one that runs is told at once.
async fn lock(folders: &Folders) -> Result<Lock, FolderError> {
    let patience = Instant::now() + ENDING_MAX;
    loop {
        match Lock::take(folders) {
            Err(FolderError::Locked { pid: Some(pid) })
                if process::is_ending(pid) && Instant::now() < patience =>
            {
                tokio::time::sleep(ENDING_LOOK).await;
            }
            taken => return taken,
        }
    }
}

fn listen(socket: &Path) -> Result<admin::AdminListener, AdminError> {
    admin::listen(socket).map_err(|error| failed("listening for the admin API", &error))
}

fn folder_error(error: FolderError) -> AdminError {
    match error {
        FolderError::Locked { .. } => AdminError::new(ErrorCode::Conflict, error.to_string())
            .hint("`sinew status` shows it; `sinew down` ends it"),
        FolderError::TooLong { .. }
        | FolderError::Homeless
        | FolderError::Foreign { .. }
        | FolderError::Open { .. } => AdminError::new(ErrorCode::Impossible, error.to_string()),
        FolderError::Io { .. } => AdminError::new(ErrorCode::Failed, error.to_string()),
    }
}

fn state_error(error: &StateError, folders: &Folders) -> AdminError {
    // Nothing was there and nothing comes: no trace stays.
    if folders.instance_folders().is_ok_and(|folders| folders.is_empty()) {
        let _ = folders.remove_run();
    }
    let code = if error.is_refusal() { ErrorCode::Impossible } else { ErrorCode::Failed };
    let described = AdminError::new(code, error.to_string());
    match error.hint() {
        Some(hint) => described.hint(hint),
        None => described,
    }
}

fn failed(attempted: &str, error: &impl ToString) -> AdminError {
    AdminError::new(ErrorCode::Failed, format!("{attempted}: {}", error.to_string()))
}
