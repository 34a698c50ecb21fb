//! What can go wrong with an engine, in words that say what to do.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("no container engine is installed on this host; {hint}")]
    NotInstalled { hint: String },
    #[error("Podman is installed, but does not serve its API at {}; {hint}", socket.display())]
    NotServing { socket: PathBuf, hint: String },
    #[error("the container engine at {} does not answer: {source}; {hint}", socket.display())]
    Silent { socket: PathBuf, source: io::Error, hint: String },
    #[error("{0}")]
    Unusable(String),
    #[error(
        "{variable}={value}: only a Unix socket of this host can be used: `unix:///run/podman/podman.sock`"
    )]
    NotLocal { variable: &'static str, value: String },
    #[error("{attempted}: {source}")]
    Io { attempted: String, source: io::Error },
    /// The engine's own words.
    #[error("{attempted}: {message}")]
    Refused { attempted: String, status: u16, message: String },
    #[error("{attempted}: the engine's answer is not understood: {reason}")]
    Malformed { attempted: String, reason: String },
}

impl EngineError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}
