//! `sinew exec`: a further command inside the seal of an instance, with the environment, user and folder of the service.
//! Bytes pass through pipes or a pseudo-terminal of our own: no descriptor of the outside gets in.

use std::io::IsTerminal;
use std::process::ExitCode;

use sinew_spec::admin::InstanceAccess;
use sinew_spec::name::InstanceName;
use sinew_spec::status::{ApplicationStatus, InstanceState};
use sinew_transport::seal::{InitClient, InitError};

use super::Context;
use crate::failure::Failure;
use crate::select::select;

mod streams;
mod tty;

/// Run a command inside the seal of an instance
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew exec orders -- env                      what the service sees\n  \
    sinew exec orders-2 -- sh                     a shell, on a terminal\n  \
    sinew exec -i db -- psql < dump.sql           standard input is passed on\n  \
    sinew exec orders -- curl -s http://billing:8000/health\n\n\
    On a terminal the command gets a terminal of its own, unless -T is given.\n\n\
    Exit codes: that of the command, 128 and the signal's number when a signal ended it; 127 there is no such \
    command, 126 it cannot be executed; 1 and 2, as everywhere, when it did not come to that (`error:` says so).")]
pub struct Arguments {
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long, conflicts_with = "no_tty")]
    tty: bool,
    /// Never give it one
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// Set a variable; `NAME` alone takes the present value
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Run in this folder of the seal
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<std::path::PathBuf>,
    /// A service (its first running instance) or an instance
    #[arg(value_name = "SERVICE[-N]")]
    target: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub async fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    let instance = running_instance(&client.status(false).await?, &arguments.target)?;
    let InstanceAccess { init_socket, mut command, .. } = client.access(&instance).await?;
    command.argv.clone_from(&arguments.command);
    if let Some(folder) = &arguments.workdir {
        command.working_dir = command.working_dir.join(folder);
    }
    for variable in &arguments.env {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (variable.as_str(), std::env::var(variable).unwrap_or_default()),
        };
        command.environment.insert(name.to_owned(), value);
    }

    let both = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let tty = arguments.tty || (both && !arguments.no_tty);
    if tty && arguments.interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::bad_input(
            "arguments",
            "standard input is no terminal: -i and -t cannot go together",
        )
        .hint("leave -t away"));
    }
    let init = InitClient::connect(&init_socket).await.map_err(|error| broken(&instance, &error))?;
    let code = if tty {
        if let Ok(term) = std::env::var("TERM") {
            command.environment.entry("TERM".to_owned()).or_insert(term);
        }
        tty::run(init, command).await
    } else {
        streams::run(init, command, arguments.interactive).await
    };
    let code = code.map_err(|error| broken(&instance, &error))?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// The instance itself, or the first one of the service that runs.
pub fn running_instance(status: &ApplicationStatus, typed: &str) -> Result<InstanceName, Failure> {
    let selected = select(status, typed)?;
    if let Some(instance) = selected.instance {
        return Ok(instance.name.clone());
    }
    let runs =
        |state| matches!(state, InstanceState::Running | InstanceState::Starting | InstanceState::Draining);
    let instances = &selected.service.instances;
    // Those that serve before those that are just coming or going.
    let best = instances
        .iter()
        .filter(|instance| runs(instance.state))
        .min_by_key(|instance| (!crate::view::is_good(instance), instance.state != InstanceState::Running));
    best.map(|instance| instance.name.clone()).ok_or_else(|| {
        Failure::failed("conflict", format!("no instance of `{typed}` runs")).hint(
            match instances.is_empty() {
                true => format!("start one: `sinew start {typed}`"),
                false => format!("`sinew ps {typed}` shows why"),
            },
        )
    })
}

fn broken(instance: &InstanceName, error: &InitError) -> Failure {
    match error {
        InitError::Refused(reason) => {
            Failure::failed("refused", format!("the command could not be started in `{instance}`: {reason}"))
        }
        InitError::NotStarted { reason, code } => {
            let message = format!("the command could not be started in `{instance}`: {reason}");
            match code {
                127 => Failure::not_started("command_not_found", 127, message).hint(
                    "the command must exist inside the seal, in a folder of its PATH or with its full path",
                ),
                _ => Failure::not_started("command_not_executable", 126, message).hint(
                    "the service's user must be allowed to execute it, and to enter the folder it is run in",
                ),
            }
        }
        InitError::Connect { .. } | InitError::Gone => {
            Failure::failed("conflict", format!("instance `{instance}` ended: {error}"))
                .hint("`sinew ps` shows what runs")
        }
        error => Failure::failed("failed", format!("running a command in `{instance}` failed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn a_service_stands_for_the_instance_that_serves() {
        let mut status = sample::shop();
        status.services[1].instances.reverse();
        let found = |typed: &str| running_instance(&status, typed).map(|name| name.to_string());
        assert_eq!(found("orders"), Ok("orders-1".to_owned()));
        assert_eq!(found("orders-2"), Ok("orders-2".to_owned()));
        let failure = found("billing").expect_err("it waits");
        assert_eq!(failure.message, "no instance of `billing` runs");
        assert_eq!(failure.hint.as_deref(), Some("`sinew ps billing` shows why"));
    }
}
