//! `sinew uninstall`.

use std::fs;
use std::path::PathBuf;

use super::Context;
use super::install::{Systemd, unit_folder};
use crate::arguments::Files;
use crate::failure::Failure;
use crate::unit::{self, Present};

/// Take the application's systemd unit away; its data stays
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew uninstall               the application of this folder\n  \
    sinew uninstall -p shop       by its name, when the folder is gone\n  \
    sinew uninstall --into DIR    remove the file there; systemd is not asked\n\n\
    The application is ended first. Volumes and identities stay in the state folder.")]
pub struct Arguments {
    /// Where the unit was written to, of `install --into`
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    into: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let application = match &context.common.project {
        Some(name) => name.clone(),
        None => context.load(None, &Files::default())?.application.name.to_string(),
    };
    let name = unit::name(&application);
    let path = unit_folder(arguments.into.as_deref())?.join(&name);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::bad_input("not_installed", format!("there is no {}", path.display()))
                .hint("`sinew install` writes it; `-p NAME` names another application"));
        }
        Err(error) => return Err(Failure::failed("unit", format!("reading {}: {error}", path.display()))),
    };
    if unit::judge(&text) == Present::Foreign {
        let message = format!("{} was not written by `sinew install`; it stays", path.display());
        return Err(Failure::bad_input("foreign_unit", message).hint("remove it by hand"));
    }
    let systemd = match arguments.into {
        Some(_) => None,
        None => Some(Systemd::find()?),
    };
    if let Some(systemd) = &systemd {
        systemd.ask(&["disable", "--now", &name])?;
    }
    fs::remove_file(&path)
        .map_err(|error| Failure::failed("unit", format!("removing {}: {error}", path.display())))?;
    if let Some(systemd) = &systemd {
        systemd.ask(&["daemon-reload"])?;
    }
    if context.terminal.is_json() {
        return context.terminal.print_json(&serde_json::json!({ "unit": name, "removed": path }));
    }
    context.terminal.print(&format!("removed {}\n", path.display()))
}
