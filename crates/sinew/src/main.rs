//! The binary: wires the roles. One `match` on the subcommand, one file for each.

use std::process::ExitCode;

mod arguments;
mod command;

mod admin;
mod daemon;
mod engine;
mod notify;
mod operation;
mod owner;
mod supervised;

mod registry;
mod state;

mod build;
mod bundle;

mod heap;
mod proxy;
mod sys;

mod failure;
mod images;
mod load;
mod log;
mod progress;
mod project;
mod select;
mod suggest;
mod table;
mod target;
mod terminal;
mod time;
mod unit;
mod units;
mod versions;
mod view;
mod yaml;

use arguments::Command;
use command::Context;
use failure::Failure;

fn main() -> ExitCode {
    // Before anything that takes memory or starts a thread: an init is there once per instance.
    sinew_node::init::run_if_asked();
    if let Some(bootstrap) = proxy::bootstrap_argument() {
        return proxy::run_bootstrap(&bootstrap);
    }
    let arguments = match arguments::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let terminal = terminal::Terminal::detect(arguments.common.output, arguments.common.color);
    let context = Context { common: arguments.common, files: arguments.files, terminal };
    match run(&arguments.command, &context) {
        Ok(code) => code,
        Err(failure) => failure.report(&context.terminal),
    }
}

fn run(command: &Command, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Up(arguments) => asking(command::up::run(arguments, context)),
        Command::Down(arguments) => asking(command::down::run(arguments, context)),
        Command::Ps(arguments) => asking(command::ps::run(arguments, context)),
        Command::Status(arguments) => asking(command::status::run(arguments, context)),
        Command::Logs(arguments) => asking(command::logs::run(arguments, context)),
        Command::Scale(arguments) => asking(command::scale::run(arguments, context)),
        Command::Restart(arguments) => asking(command::restart::run(arguments, context)),
        Command::Stop(arguments) => asking(command::stop::run(arguments, context)),
        Command::Start(arguments) => asking(command::start::run(arguments, context)),
        Command::Exec(arguments) => runtime()?.block_on(command::exec::run(arguments, context)),
        Command::PortForward(arguments) => asking(command::port_forward::run(arguments, context)),
        Command::Update(arguments) => asking(command::update::run(arguments, context)),
        Command::Rollback(arguments) => asking(command::rollback::run(arguments, context)),
        Command::History(arguments) => command::history::run(arguments, context).map(success),
        Command::Bundle(arguments) => command::bundle::run(arguments, context).map(success),
        Command::Check(arguments) => asking(command::check::run(arguments, context)),
        Command::Install(arguments) => command::install::run(arguments, context).map(success),
        Command::Uninstall(arguments) => command::uninstall::run(arguments, context).map(success),
        Command::Config(arguments) => command::config::run(arguments, context).map(success),
        Command::Proxy(arguments) => proxy::file::run(arguments),
        Command::Version(arguments) => command::version::run(arguments, context).map(success),
        Command::Completions(arguments) => command::completions::run(arguments, context).map(success),
        Command::Names => asking(command::completions::names(context)),
        Command::Daemon => asking(daemon::run()),
    }
}

fn asking(question: impl Future<Output = Result<(), Failure>>) -> Result<ExitCode, Failure> {
    runtime()?.block_on(question).map(success)
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// One thread: everything here waits far more than it computes.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("runtime", format!("could not start: {error}")))
}
