//! `sinew version`.

use serde::Serialize;

use super::Context;
use crate::failure::Failure;

/// Show the version of this binary
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sinew version\n  sinew version -o json")]
pub struct Arguments {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    system: &'static str,
    architecture: &'static str,
    build: &'static str,
}

pub fn run(_: &Arguments, context: &Context) -> Result<(), Failure> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        system: std::env::consts::OS,
        architecture: std::env::consts::ARCH,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
    };
    if context.terminal.is_json() {
        return context.terminal.print_json(&version);
    }
    let Version { version, system, architecture, build } = version;
    context.terminal.print(&format!("sinew {version} ({system} {architecture}, {build})\n"))
}
