//! How an instance gets its seal, its sidecar and its place in the registry; and how one that lives is taken over.

use super::*;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use sinew_spec::application::Application;
use sinew_spec::proxy::HopAddress;
use sinew_transport::descriptors;
use sinew_transport::seal::InitError;

use crate::cgroup::CgroupError;
use crate::folders::FolderError;
use crate::plan::{self, Plan, PlanError};
use crate::record::Ended;
use crate::registry::{Registration, RegistryError};
use crate::seal::{self, SealError, SpawnFiles};

/// The application as it is now; instances that are born later follow it.
#[derive(Debug)]
pub struct Situation {
    pub application: Application,
}

#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("{attempted}: {source}")]
    Io { attempted: &'static str, source: io::Error },
}

impl Instance {
    pub(super) async fn birth(&self) -> Result<Sealed, BirthError> {
        let io = |attempted| move |source| BirthError::Io { attempted, source };
        let shared = &self.shared;
        let folder = self.folder();
        folder.make()?;
        let plan = self.plan()?;

        let hop = UnixListener::bind(folder.hop_socket()).map_err(io("listening for other sidecars"))?;
        // The init and every sidecar share it; none of them may ever wait in accept.
        hop.set_nonblocking(true).map_err(io("listening for other sidecars"))?;
        let listener = descriptors::listen_at(&folder.init_socket()).map_err(io("listening for the init"))?;
        let log_folder = open_folder(&folder).map_err(io("opening the folder of logs"))?;
        shared.registry.enter(vec![registration(&self.service, &self.name, &folder, Routing::Out)]).await?;

        let title = folder.path.display().to_string();
        let files = SpawnFiles {
            program: &shared.program,
            title: &title,
            hop_listener: hop.as_fd(),
            init_listener: listener.as_fd(),
            log_folder: log_folder.as_fd(),
            lifeline: shared.lifeline.as_ref().map(AsFd::as_fd),
        };
        let seal = seal::spawn(&plan.seal, files).await?;
        let init = ProcessId::of(seal.init_pid);
        self.record(init, &plan.command).write(&folder).map_err(io("writing the record"))?;
        self.board(|view| {
            view.init = init;
            view.command = Some(plan.command.clone());
        });
        let (client, events) = connect(&folder).await?;
        let sidecar = self.sidecar(None).map_err(io("starting the sidecar"))?;
        Ok(Sealed { seal, init: client, events, sidecar, command: plan.command })
    }

    fn plan(&self) -> Result<Plan, BirthError> {
        let situation = self.situation.borrow().clone();
        let names = self.shared.registry.names(&self.service.name)?;
        let environment = self.shared.environment.lock().expect("nothing panics while it holds this lock");
        Ok(plan::plan(&plan::Request {
            application: &situation.application,
            service: &self.service,
            instance: &self.name,
            folders: &self.shared.folders,
            host: &self.shared.host,
            environment: &environment,
            names: &names,
            lifeline: self.shared.lifeline.is_some(),
            cgroups: self.cgroups()?,
        })?)
    }

    fn cgroups(&self) -> Result<Vec<PathBuf>, BirthError> {
        let application = self.shared.application.as_str();
        Ok(self.shared.cgroups.create(application, self.name.as_str(), &self.service.limits)?)
    }

    /// Writes down that the service has ended for good, for the launcher after this one.
    pub(super) fn remember_end(&self, code: i32, command: &sinew_spec::seal::Command) {
        let record = InstanceRecord { ended: Some(Ended::now(code)), ..self.record(None, command) };
        if let Err(error) = record.write(&self.folder()) {
            self.shared.log(&format!("writing down the end of {}: {error}", self.name));
        }
    }

    fn record(&self, init: Option<ProcessId>, command: &sinew_spec::seal::Command) -> InstanceRecord {
        InstanceRecord {
            instance: self.name.clone(),
            service: self.service.name.clone(),
            number: self.number,
            version: self.version,
            init,
            sidecar: None,
            definition: Some((*self.service).clone()),
            command: Some(command.clone()),
            restarts: self.restarts.total(),
            ready: false,
            lifeline: self.shared.lifeline.is_some(),
            ended: None,
        }
    }

    fn sidecar(&self, alive: Option<ProcessId>) -> io::Result<Sidecar> {
        let (shared, name) = (self.shared.clone(), self.name.clone());
        let tell = move |process: Option<ProcessId>| {
            shared.board.update(&name, |view| view.sidecar = process);
            let folder = shared.folders.instance(&name);
            if let (Some(record), Some(_)) = (InstanceRecord::read(&folder), process) {
                let _ = InstanceRecord { sidecar: process, ..record }.write(&folder);
            }
        };
        Sidecar::keep(self.shared.clone(), self.name.clone(), Posture::Sidecar, alive, tell)
    }

    /// Takes over the processes that a record names; the registry knows the instance already. `None`: its init has
    /// ended or does not answer.
    pub async fn adopt(&self, record: &InstanceRecord) -> Option<Sealed> {
        let (init, command) = (record.init?, record.command.clone()?);
        let seal = Seal::adopt(init.pid, init.start_ticks).ok()??;
        if !init.is_alive() {
            return None;
        }
        let (client, events) = connect(&self.folder()).await.ok()?;
        self.board(|view| {
            view.init = Some(init);
            view.command = Some(command.clone());
        });
        let sidecar = self.sidecar(record.sidecar).ok()?;
        Some(Sealed { seal, init: client, events, sidecar, command })
    }
}

/// One line for requests, one for what happens.
async fn connect(folder: &InstanceFolder) -> Result<(InitClient, InitEvents), InitError> {
    let path = folder.init_socket();
    let client = InitClient::connect(&path).await?;
    let events = InitClient::connect(&path).await?.watch().await?;
    Ok((client, events))
}

pub fn registration(
    service: &Service,
    instance: &InstanceName,
    folder: &InstanceFolder,
    routing: Routing,
) -> Registration {
    Registration {
        service: service.name.clone(),
        instance: instance.clone(),
        posture: Posture::Sidecar,
        control: folder.control_socket(),
        hop: Some(HopAddress::Unix(folder.hop_socket())),
        routing,
    }
}

fn open_folder(folder: &InstanceFolder) -> io::Result<OwnedFd> {
    Ok(open(&folder.path, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}
