//! What may be asked of the engine of a running application: the seam between the admin API (which knows HTTP) and the
//! engine (which knows instances). The engine owns its state in one task; questions arrive in a bounded queue.

use std::collections::BTreeMap;

use sinew_spec::admin::{AdminError, Changes, DownRequest, ErrorCode, Event, InstanceAccess, UpdateServices};
use sinew_spec::application::Application;
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::status::ApplicationStatus;
use sinew_spec::update::UpdateOutcome;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Questions that wait for the engine; the next asker waits.
pub const OPERATIONS_MAX: usize = 64;
/// Events held for a slow reader before it is told `Lagged`.
pub const EVENTS_MAX: usize = 256;

pub type Reply<T> = oneshot::Sender<Result<T, AdminError>>;

/// The engine answers `Apply` when it is decided and under way, not when it is finished: progress is told by events.
/// `Stop`, `Restart` and `Scale` answer when the instances that shall go are out of routing and ended, so that a
/// script can rely on it; `Restart` and `Start` when those that come serve (see `docs/cli.md` on what that means), or an
/// error when one of them does not come up by itself. `Start` does not wait for the dependencies of a service.
#[derive(Debug)]
pub enum Operation {
    /// `memory`: measure PSS (reads `/proc` of every process; not for polling in a tight loop).
    Status {
        memory: bool,
        reply: Reply<ApplicationStatus>,
    },
    Scale {
        service: ServiceName,
        replicas: u32,
        reply: Reply<Changes>,
    },
    /// `instance: None`: all instances, one after the other, so that the service goes on serving.
    Restart {
        service: ServiceName,
        instance: Option<InstanceName>,
        reply: Reply<Changes>,
    },
    Stop {
        service: ServiceName,
        instance: Option<InstanceName>,
        reply: Reply<Changes>,
    },
    Start {
        service: ServiceName,
        instance: Option<InstanceName>,
        reply: Reply<Changes>,
    },
    /// `environment`: values for `FileContent::Environment`. `partial`: services that it does not name go on as they are.
    Apply {
        application: Box<Application>,
        environment: BTreeMap<String, String>,
        partial: bool,
        reply: Reply<Changes>,
    },
    /// Answered when the update has been kept or taken back.
    Update {
        asked: Box<UpdateServices>,
        reply: Reply<UpdateOutcome>,
    },
    /// Refused (`Conflict`) while the instance has no seal.
    Access {
        instance: InstanceName,
        reply: Reply<InstanceAccess>,
    },
    /// Answered when everything has ended; the engine's `run` returns after that.
    Down {
        request: DownRequest,
        reply: Reply<()>,
    },
}

impl Operation {
    /// It changes what runs, and nobody else may do so at the same time.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::Status { .. } | Self::Access { .. } | Self::Down { .. })
    }

    pub fn refuse(self, error: AdminError) {
        // Whoever asked may have gone.
        let refused = match self {
            Self::Status { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Scale { reply, .. }
            | Self::Restart { reply, .. }
            | Self::Stop { reply, .. }
            | Self::Start { reply, .. }
            | Self::Apply { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Update { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Access { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Down { reply, .. } => reply.send(Err(error)).is_ok(),
        };
        let _ = refused;
    }
}

/// What the admin API and the foreground `up` hold of an engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    operations: mpsc::Sender<Operation>,
    events: broadcast::Sender<Event>,
}

impl Handle {
    /// The engine keeps the receiver and a clone of the sender.
    pub fn new() -> (Self, mpsc::Receiver<Operation>, broadcast::Sender<Event>) {
        let (operations, receiver) = mpsc::channel(OPERATIONS_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        (Self { operations, events: events.clone() }, receiver, events)
    }

    /// Subscribe first, then ask for the status: nothing is missed in between.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub async fn ask<T>(&self, operation: impl FnOnce(Reply<T>) -> Operation) -> Result<T, AdminError> {
        let (reply, answer) = oneshot::channel();
        self.operations.send(operation(reply)).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    pub async fn status(&self, memory: bool) -> Result<ApplicationStatus, AdminError> {
        self.ask(|reply| Operation::Status { memory, reply }).await
    }
}

fn ended() -> AdminError {
    AdminError::new(ErrorCode::Conflict, "the application is going down")
        .hint("wait until it is down, then `sinew up`")
}
