//! The binary: wires the roles. One `match` on the subcommand, one file for each.

use std::process::ExitCode;

mod arguments;
mod command;

#[allow(dead_code, reason = "served by the engine of a running application")]
mod admin;
mod operation;

mod failure;
mod suggest;
mod table;
mod terminal;
mod units;

use arguments::Command;
use command::Context;

fn main() -> ExitCode {
    let arguments = match arguments::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let terminal = terminal::Terminal::detect(arguments.common.output, arguments.common.color);
    let context = Context { common: arguments.common, files: arguments.files, terminal };
    let done = match &arguments.command {
        Command::Version(arguments) => command::version::run(arguments, &context),
        Command::Completions(arguments) => command::completions::run(arguments, &context),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&context.terminal),
    }
}
