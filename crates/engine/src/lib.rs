//! The container engine of a host (Podman, or another that speaks Docker's API) as Sinew uses it: images, containers,
//! commands in them, over the engine's Unix socket.
//!
//! Everything here waits for its answer: there is no runtime and no thread, so that the init of a seal can use it. A
//! program with a runtime calls it from a thread of its own. It knows nothing of applications, seals and meshes.

mod build;
mod container;
mod context;
mod error;
mod exec;
mod find;
mod holder;
mod http;
mod image;
mod stream;
pub mod tar;

use std::path::{Path, PathBuf};

pub use build::{Build, Progress};
pub use container::{Bind, Create, Device, Filter, Flavored, Listed, Network, State, Ulimit};
pub use context::Context;
pub use error::EngineError;
pub use exec::{Exec, ExecStart};
pub use find::{About, DOCKER_VERSION_MIN, Flavor, PODMAN_VERSION_MIN, find, find_with};
pub use holder::holder_of;
pub use http::Upgraded;
pub use image::{Image, ImageHealth};
pub use stream::{Frames, Source};

/// An engine, known by its socket. Every call opens a connection of its own; nothing is kept between calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// Nothing is asked: [`Engine::about`] says whether somebody answers there.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}
