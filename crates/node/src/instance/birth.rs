//! How an instance gets its seal, its sidecar and its place in the registry; and how one that lives is taken over.

use super::*;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use sinew_spec::application::{Application, ServicePosture};
use sinew_spec::proxy::HopAddress;
use sinew_spec::seal::PROTOCOL;
use sinew_transport::descriptors;
use sinew_transport::seal::InitError;

use sinew_engine::{Create, Flavor};

use crate::cgroup::CgroupError;
use crate::container::{self, ContainerError, ContainerRecord, Containers};
use crate::explicit;
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
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error("{attempted}: {source}")]
    Io { attempted: &'static str, source: io::Error },
}

impl Instance {
    pub(super) async fn birth(&self) -> Result<Sealed, BirthError> {
        let io = |attempted| move |source| BirthError::Io { attempted, source };
        let shared = &self.shared;
        let folder = self.folder();
        folder.make()?;
        let (Plan { seal: mut spec, mut command }, container) = self.plan_any(&folder).await?;
        let record = container.as_ref().map(Wanted::record);
        if let (Some(wanted), Some(container)) = (&container, &mut spec.container) {
            // Whoever clears up finds what is made from here on.
            let record = InstanceRecord { container: record.clone(), ..self.record(None, &command) };
            record.write(&folder).map_err(io("writing the record"))?;
            container.network = container::hold_network(&wanted.containers, &wanted.create).await?;
        }

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
        let seal = seal::spawn(&spec, files).await?;
        let init = ProcessId::of(seal.init_pid);
        let written = |command: &sinew_spec::seal::Command| {
            let record = InstanceRecord { container: record.clone(), ..self.record(init, command) };
            record.write(&folder).map_err(io("writing the record"))
        };
        written(&command)?;
        if let Some(container) = container
            && let Err(error) = container.make(&seal).await
        {
            let _ = seal.kill();
            let _ = timeout(INIT_END, seal.wait()).await;
            return Err(error.into());
        }
        let (client, events) = connect(&folder).await?;
        if shared.posture == ServicePosture::Explicit {
            self.explain_mesh(&client, &mut command).await?;
            written(&command)?;
        }
        self.board(|view| {
            view.init = init;
            view.is_container = record.is_some();
            view.command = Some(command.clone());
        });
        let sidecar = self.sidecar(&command, None).map_err(io("starting the sidecar"))?;
        Ok(Sealed { seal, init: client, events, sidecar, command })
    }

    /// For a container, what is to be made besides the seal.
    async fn plan_any(&self, folder: &InstanceFolder) -> Result<(Plan, Option<Wanted>), BirthError> {
        let Some(wanted) = &self.service.container else { return Ok((self.plan()?, None)) };
        let containers = container::ask(Containers::find).await?;
        let situation = self.situation.borrow().clone();
        let names = self.shared.registry.names(&self.service.name)?;
        let environment =
            self.shared.environment.lock().expect("nothing panics while it holds this lock").clone();
        let request = plan::Request {
            application: &situation.application,
            service: &self.service,
            instance: &self.name,
            folders: &self.shared.folders,
            host: &self.shared.host,
            environment: &environment,
            names: &names,
            lifeline: self.shared.lifeline.is_some(),
            cgroups: Vec::new(),
        };
        let epoch = format!("{:x}", crate::board::unix_ms());
        let plan::ContainerPlan { seal, command, create, owned } =
            plan::plan_container(&request, wanted, &containers, folder, &epoch)?;
        Ok((Plan { seal, command }, Some(Wanted { containers, create, owned })))
    }

    fn plan(&self) -> Result<Plan, BirthError> {
        let situation = self.situation.borrow().clone();
        let names = self.shared.registry.names(&self.service.name)?;
        let environment = self.shared.environment.lock().expect("nothing panics while it holds this lock");
        let plan = match self.shared.posture {
            ServicePosture::Sealed => plan::plan,
            ServicePosture::Explicit => plan::plan_explicit,
        };
        Ok(plan(&plan::Request {
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

    /// Explicit posture: gives the service its ports, and the listeners of its sidecar for what it may call.
    async fn explain_mesh(
        &self,
        client: &InitClient,
        command: &mut sinew_spec::seal::Command,
    ) -> Result<(), BirthError> {
        let shared = &self.shared;
        let failed = |source| BirthError::Io { attempted: "choosing ports for the service", source };
        let ports = shared.ports.choose(&self.name, &self.service).map_err(failed)?;
        let names = shared.registry.names(&self.service.name)?;
        let application = self.situation.borrow().application.clone();
        let reachable = explicit::reachable(&application, &self.service, &names);
        let destinations = reachable.iter().map(|reachable| reachable.destination).collect();
        let (_, listeners) = client.listeners(destinations).await?;
        let listen = listeners.into_iter().map(|(fixed, _)| (fixed.destination, fixed.listen)).collect();
        command.environment.extend(explicit::environment(&self.service, &ports, &reachable, &listen));
        command.ports = Some(ports.into_iter().collect());
        Ok(())
    }

    fn cgroups(&self) -> Result<Vec<PathBuf>, BirthError> {
        let application = self.shared.folders.cgroup();
        Ok(self.shared.cgroups.create(&application, self.name.as_str(), &self.service.limits)?)
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
            protocol: PROTOCOL,
            container: None,
        }
    }

    fn sidecar(&self, command: &sinew_spec::seal::Command, alive: Option<ProcessId>) -> io::Result<Sidecar> {
        let (shared, name) = (self.shared.clone(), self.name.clone());
        let ports = command.ports.as_ref().map(|ports| ports.iter().copied().collect());
        let tell = move |process: Option<ProcessId>| {
            shared.board.update(&name, |view| view.sidecar = process);
            let folder = shared.folders.instance(&name);
            if let (Some(record), Some(_)) = (InstanceRecord::read(&folder), process) {
                let _ = InstanceRecord { sidecar: process, ..record }.write(&folder);
            }
        };
        Sidecar::keep(self.shared.clone(), self.name.clone(), Posture::Sidecar, ports, alive, tell)
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
        if let Some(ports) = &command.ports {
            self.shared.ports.keep(&self.name, ports);
        }
        self.board(|view| {
            view.init = Some(init);
            view.is_container = record.container.is_some();
            view.command = Some(command.clone());
        });
        let sidecar = self.sidecar(&command, record.sidecar).ok()?;
        Some(Sealed { seal, init: client, events, sidecar, command })
    }
}

/// A container that is to be made when its network is there.
struct Wanted {
    containers: Containers,
    create: Create,
    /// To be given to the user that the image says.
    owned: Vec<PathBuf>,
}

impl Wanted {
    fn record(&self) -> ContainerRecord {
        let engine = self.containers.engine.socket().to_path_buf();
        let has_holder = self.containers.flavor == Flavor::Docker;
        ContainerRecord { engine, name: self.create.name.clone(), has_holder }
    }

    async fn make(mut self, seal: &Seal) -> Result<(), ContainerError> {
        self.create.network = container::network(&self.containers, &self.create, seal.init_pid);
        container::make(self.containers, self.create, self.owned).await
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
