//! The words of the admin API: what is asked of a running application over its `admin.sock`, and what is answered.
//! HTTP/1.1 with JSON bodies; see `docs/admin-api.md` for the paths.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::application::{Application, Service, ServicePosture};
use crate::name::{InstanceName, ServiceName};
use crate::seal::Command;
use crate::status::{ApplicationStatus, Health, InstanceState};
use crate::update::{Step, UpdateRequest};

/// Every answer that is not a success: `{"error": {...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error: AdminError,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminError {
    pub code: ErrorCode,
    /// What was attempted and with what.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl AdminError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AdminError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request makes no sense: 400.
    Invalid,
    /// Another user: 403.
    Forbidden,
    /// No such path: 404.
    NotFound,
    UnknownService,
    UnknownInstance,
    /// Impossible in the present state (goes down already, nothing to start): 409.
    Conflict,
    /// What is asked for cannot be done on this host (limits without delegation, say): 422.
    Impossible,
    /// It was tried and failed: 500.
    Failed,
    /// No launcher runs, or it ended meanwhile. Made by the client, never sent.
    NotRunning,
}

impl ErrorCode {
    /// As it is serialized.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::UnknownService => "unknown_service",
            Self::UnknownInstance => "unknown_instance",
            Self::Conflict => "conflict",
            Self::Impossible => "impossible",
            Self::Failed => "failed",
            Self::NotRunning => "not_running",
        }
    }

    pub fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Forbidden => 403,
            Self::NotFound | Self::UnknownService | Self::UnknownInstance => 404,
            Self::Conflict => 409,
            Self::Impossible => 422,
            Self::Failed => 500,
            Self::NotRunning => 503,
        }
    }

    /// True for what the asker could have known: exit code 2 of the commands.
    pub fn is_bad_input(self) -> bool {
        matches!(
            self,
            Self::Invalid | Self::NotFound | Self::UnknownService | Self::UnknownInstance | Self::Impossible
        )
    }
}

/// `POST /v1/services/{name}/scale`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    pub replicas: u32,
}

/// Body of `/restart`, `/stop` and `/start` of a service; absent or `{}`: all of its instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceSelector {
    pub instance: Option<InstanceName>,
}

/// `GET /v1/instances/{name}/access`: how to get into a running instance. `sinew exec` and `port-forward` ask the init
/// themselves, so that no byte of theirs passes through the launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceAccess {
    pub instance: InstanceName,
    /// `init.sock` of its seal; absolute.
    pub init_socket: PathBuf,
    /// The service's own command: a further one runs with its environment, user and working folder.
    pub command: Command,
}

/// `GET /v1/version`: of the launcher that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub version: String,
}

/// `POST /v1/down`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DownRequest {
    /// Named volumes are deleted too.
    pub volumes: bool,
    /// Nobody is asked to stop: everything is killed at once.
    pub kill: bool,
}

/// `POST /v1/apply`: the application as it shall be from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyRequest {
    pub application: Application,
    /// Values of the variables that `FileContent::Environment` names, from the asker's environment. Never stored.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Services of the running application that `application` does not name go on as they are; otherwise they go.
    #[serde(default)]
    pub partial: bool,
    /// One that runs keeps its own, and refuses (`Impossible`) another one. `None`: as it runs or ran, else sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posture: Option<ServicePosture>,
}

/// `POST /v1/update`: see [`UpdateRequest`]. Answered with an [`crate::update::UpdateOutcome`] when it has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateServices {
    pub request: UpdateRequest,
    /// The services as they shall be with the new images; as many as the request names.
    pub definitions: Vec<Service>,
}

/// Answer of `/v1/apply` and of everything that changes services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    pub added: Vec<ServiceName>,
    pub removed: Vec<ServiceName>,
    pub changed: Vec<ServiceChange>,
    pub unchanged: Vec<ServiceName>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    pub service: ServiceName,
    /// Keys of the file that differ: `command`, `environment`, `replicas`.
    pub keys: Vec<String>,
    /// Its instances are replaced; false: the running ones go on.
    pub replaced: bool,
}

/// One line of `GET /v1/events`. The first one is always [`Event::Status`], so nobody misses a beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "events are sent one by one, never held in number")]
pub enum Event {
    Status {
        unix_ms: u64,
        status: ApplicationStatus,
    },
    /// An instance got another state or health.
    Instance {
        unix_ms: u64,
        service: ServiceName,
        instance: InstanceName,
        state: InstanceState,
        health: Health,
        message: Option<String>,
    },
    /// What a service waits for changed; empty: it goes ahead.
    Waits {
        unix_ms: u64,
        service: ServiceName,
        waits_for: Vec<String>,
    },
    /// Every service is as wanted: healthy where a check is declared, running or completed elsewhere.
    Ready {
        unix_ms: u64,
    },
    /// It will not become ready without help.
    Failed {
        unix_ms: u64,
        service: ServiceName,
        instance: Option<InstanceName>,
        reason: String,
    },
    /// The proxy beside an instance (or the gateway) ended without being asked to; another one is started.
    ProxyLost {
        unix_ms: u64,
        instance: InstanceName,
        /// In words: "was killed by signal 9, perhaps by the kernel for memory".
        how: String,
        /// How often it has happened to this instance.
        times: u32,
    },
    /// An update goes on to its next step.
    Update {
        unix_ms: u64,
        step: Step,
    },
    /// The asker was too slow and missed this many events.
    Lagged {
        missed: u64,
    },
    /// Everything has ended; the last line.
    Down {
        unix_ms: u64,
    },
}
