//! Containers as the launcher has them: found, made, removed. What happens in between is the init's (`init::container`).
//! An engine waits for nobody, and nobody here waits for it on the runtime's thread.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sinew_engine::{Create, Engine, EngineError, Flavor, Listed, Network, holder_of};

mod user;

/// On every container of ours: what it belongs to. The run folder tells applications of one name apart.
pub const LABEL_RUN_FOLDER: &str = "dev.sinew.run-folder";
pub const LABEL_APPLICATION: &str = "dev.sinew.application";
pub const LABEL_SERVICE: &str = "dev.sinew.service";
pub const LABEL_INSTANCE: &str = "dev.sinew.instance";
/// The boot and the moment for which it was made: one life of an instance.
pub const LABEL_EPOCH: &str = "dev.sinew.epoch";

/// Podman's own files hold no more.
const PID_BYTES_MAX: usize = 16;

/// Containers that are removed at the same time.
const SWEPT_AT_ONCE_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(
        "the user namespace of this user's Podman is not found ({}); begin it with `podman unshare true`",
        looked_at.display()
    )]
    NoUserNamespace { looked_at: PathBuf },
    #[error(
        "`init: true` needs the engine's small init, which is not installed: `apt install catatonit`, or leave `init` out"
    )]
    NoInit,
    #[error("giving {} to user {uid} of the container: {source}", path.display())]
    Own { path: PathBuf, uid: u32, source: std::io::Error },
    #[error("the thread that asked the container engine died")]
    Lost,
}

/// A container that was made, or is about to be: enough to remove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub engine: PathBuf,
    pub name: String,
    /// Another container holds its network, and goes with it.
    #[serde(default)]
    pub has_holder: bool,
}

/// The engine of this host, which can have sealed containers.
#[derive(Clone, Debug)]
pub struct Containers {
    pub engine: Engine,
    pub flavor: Flavor,
    /// In which its containers run, when they are an ordinary user's.
    pub user_namespace: Option<PathBuf>,
}

impl Containers {
    /// Looks at the host, every time: an engine may have been installed or started meanwhile.
    pub fn find() -> Result<Self, ContainerError> {
        let engine = sinew_engine::find()?;
        let about = engine.check()?;
        let user_namespace = if about.is_rootless { Some(podman_user_namespace()?) } else { None };
        Ok(Self { engine, flavor: about.flavor, user_namespace })
    }
}

/// Podman keeps a process whose only work is to hold the namespace.
fn podman_user_namespace() -> Result<PathBuf, ContainerError> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.unwrap_or_else(|| format!("/run/user/{}", nix::unistd::Uid::effective()).into());
    let file = runtime.join("libpod/tmp/pause.pid");
    let pid = std::fs::read_to_string(&file).ok().filter(|text| text.len() <= PID_BYTES_MAX);
    let pid = pid.and_then(|text| text.trim().parse::<i32>().ok());
    let namespace = pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/user")));
    namespace.filter(|path| path.exists()).ok_or(ContainerError::NoUserNamespace { looked_at: file })
}

/// Runs what asks the engine on a thread of its own.
pub async fn ask<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, ContainerError> + Send + 'static,
) -> Result<T, ContainerError> {
    tokio::task::spawn_blocking(question).await.map_err(|_| ContainerError::Lost)?
}

/// Where the engine has to make the network: the network of a holder that runs now, as a path.
pub async fn hold_network(
    containers: &Containers,
    wanted: &Create,
) -> Result<Option<PathBuf>, ContainerError> {
    if containers.flavor == Flavor::Podman {
        return Ok(None);
    }
    let (engine, wanted) = (containers.engine.clone(), wanted.clone());
    ask(move || Ok(Some(format!("/proc/{}/ns/net", engine.hold_network(&wanted)?).into()))).await
}

/// In which network a container runs, when that is ready. `init`: whoever made it ready.
pub fn network(containers: &Containers, wanted: &Create, init: i32) -> Network {
    match containers.flavor {
        Flavor::Podman => Network::Path(format!("/proc/{init}/ns/net").into()),
        Flavor::Docker => Network::Of(holder_of(&wanted.name)),
    }
}

/// Makes a container that does not run yet. `owned`: files and folders of the host that are to belong to its user.
pub async fn make(containers: Containers, wanted: Create, owned: Vec<PathBuf>) -> Result<(), ContainerError> {
    ask(move || {
        let engine = &containers.engine;
        engine.create(&wanted).map_err(|error| {
            let no_init = wanted.init && error.to_string().contains("container-init binary");
            if no_init { ContainerError::NoInit } else { error.into() }
        })?;
        // An ordinary user's files are those of the user 0 of the containers, who may give them to the others.
        if owned.is_empty() || containers.user_namespace.is_some() {
            return Ok(());
        }
        let (uid, gid) = user::of(engine, &wanted)?;
        for path in &owned {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|source| ContainerError::Own {
                path: path.clone(),
                uid,
                source,
            })?;
        }
        Ok(())
    })
    .await
}

/// Nothing of it is left when this returns well.
pub async fn remove(record: &ContainerRecord) -> Result<(), ContainerError> {
    let ContainerRecord { engine, name, has_holder } = record.clone();
    ask(move || {
        let engine = Engine::at(engine);
        engine.remove(&name)?;
        if has_holder {
            engine.remove(&holder_of(&name))?;
        }
        Ok(())
    })
    .await
}

/// Removes every container of a run folder but those that are kept, by name. The number of those that were removed.
pub async fn sweep(run: &Path, kept: Vec<String>) -> Result<usize, ContainerError> {
    let run = run.display().to_string();
    ask(move || {
        let engine = sinew_engine::find()?;
        let is_kept = |container: &Listed| {
            let epoch = container.labels.get(LABEL_EPOCH);
            epoch.is_some_and(|epoch| kept.iter().any(|name| name.ends_with(epoch)))
        };
        let left: Vec<Listed> =
            engine.containers(LABEL_RUN_FOLDER, &run)?.into_iter().filter(|left| !is_kept(left)).collect();
        // Podman waits 5 s for word from the watcher of a container that was killed together with it.
        let engine = &engine;
        for some in left.chunks(SWEPT_AT_ONCE_MAX) {
            std::thread::scope(|scope| {
                let removing: Vec<_> =
                    some.iter().map(|container| scope.spawn(move || engine.remove(&container.id))).collect();
                removing
                    .into_iter()
                    .map(|removed| removed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .fold(Ok(()), Result::and)
            })?;
        }
        Ok(left.len())
    })
    .await
}
