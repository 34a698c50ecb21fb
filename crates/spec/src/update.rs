//! The words of an update of images: what is asked, what is remembered until it is proven, and what is told afterwards.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::ServiceName;

/// One content of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVersion {
    pub id: Digest,
    /// In its registry; `None`: built or loaded here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl ImageVersion {
    /// What people compare: the digest where there is one, else the id.
    pub fn shown(&self) -> &Digest {
        self.digest.as_ref().unwrap_or(&self.id)
    }
}

/// One service of an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceUpdate {
    pub service: ServiceName,
    /// As the compose file says it, and the platform: what `sinew.lock` calls it.
    pub reference: String,
    pub platform: String,
    pub from: ImageVersion,
    pub to: ImageVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Update,
    Rollback,
}

/// `POST /v1/update`: all of these services or none. Answered when the update has ended, one way or the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    pub cause: Cause,
    /// In the order in which they are replaced.
    pub services: Vec<ServiceUpdate>,
    /// When it was found out what the references mean now: `2026-11-21T10:49:45Z`.
    pub resolved: String,
    /// How long the new versions must go on well before they are kept.
    pub watch_ms: u64,
}

/// How an update ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum UpdateOutcome {
    /// `sinew.lock` names the new versions now.
    Kept,
    /// The old versions serve; `sinew.lock` is as it was.
    TakenBack { reason: String },
}

/// How far an update is: written down before each step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    Replacing { service: ServiceName },
    Watching,
    Keeping,
    TakingBack { reason: String },
}

/// `update.json`: there is one as long as an update is neither kept nor taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    pub begun_unix_ms: u64,
    pub request: UpdateRequest,
    pub step: Step,
}

/// One line of `sinew history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    pub unix_ms: u64,
    pub service: ServiceName,
    pub reference: String,
    pub what: What,
    /// `None`: there was none before.
    pub from: Option<ImageVersion>,
    /// `None`: it never became known.
    pub to: Option<ImageVersion>,
    /// Why it was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Updated,
    RolledBack,
    TakenBack,
    /// Nothing was replaced: the new image could not be brought here.
    NotPulled,
}

impl From<Cause> for What {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Update => Self::Updated,
            Cause::Rollback => Self::RolledBack,
        }
    }
}
