//! What can be typed: one definition gives the parser, the help, the completions and `docs/cli.md`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::command;
use crate::failure::Failure;
use crate::terminal::{ColorChoice, Format, Terminal};

#[derive(Debug, Parser)]
#[command(
    name = "sinew",
    version,
    about = "Run an application from its compose file as a sealed service mesh",
    long_about = "Run an application from its compose file as a sealed service mesh.\n\n\
        Every service starts sealed: its only door to the network is its sidecar. Names just work \
        (http://orders:8080); every hop is mutually authenticated, balanced and measured.",
    after_help = "Examples:\n  \
        sinew up                    run the application of this folder; Ctrl-C ends it\n  \
        sinew up -d                 the same in the background\n  \
        sinew status --watch        how it is doing\n  \
        sinew logs -f orders        what a service says\n  \
        sinew check                 what is wrong with the file, and what this host lacks\n\n\
        Exit codes: 0 success, 1 it was tried and failed, 2 bad input (nothing was done).",
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    infer_long_args = false,
    max_term_width = 110
)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub files: Files,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which application")]
pub struct Common {
    /// The application's name [default: `name:` of the file, else the folder's name]
    #[arg(short, long, visible_alias = "project-name", global = true, value_name = "NAME")]
    pub project: Option<String>,

    /// Where the compose file is looked for and relative paths start from [default: this folder]
    #[arg(short = 'C', long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub project_directory: Option<PathBuf>,

    /// Include the services of this profile; may be repeated
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Vec<String>,

    /// How results and errors are written
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Output"
    )]
    pub output: Format,

    /// When to use colours; NO_COLOR is respected
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    pub color: ColorChoice,
}

/// The compose files; several are merged, the last one wins.
#[derive(Clone, Debug, Default, Args)]
pub struct Files {
    /// Compose file, `-` for standard input; may be repeated, later files are merged over earlier ones. Before a
    /// command that asks a running application it says which one: that of this file
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, help_heading = "Which application")]
    pub file: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Up(command::up::Arguments),
    Down(command::down::Arguments),
    Ps(command::ps::Arguments),
    Status(command::status::Arguments),
    Logs(command::logs::Arguments),
    Scale(command::scale::Arguments),
    Restart(command::restart::Arguments),
    Stop(command::stop::Arguments),
    Start(command::start::Arguments),
    Exec(command::exec::Arguments),
    PortForward(command::port_forward::Arguments),
    Update(command::update::Arguments),
    Rollback(command::rollback::Arguments),
    History(command::history::Arguments),
    Bundle(command::bundle::Arguments),
    Check(command::check::Arguments),
    Install(command::install::Arguments),
    Uninstall(command::uninstall::Arguments),
    Config(command::config::Arguments),
    Proxy(crate::proxy::file::Arguments),
    Version(command::version::Arguments),
    Completions(command::completions::Arguments),
    /// Names of services, for completions
    #[command(name = "__names", hide = true)]
    Names,
    /// The background process of `sinew up -d`
    #[command(name = "__daemon", hide = true)]
    Daemon,
}

/// Parses the command line. `Err`: it was help, or wrong; everything has been said and the exit code remains.
pub fn parse() -> Result<Arguments, ExitCode> {
    let typed = help_as_option(std::env::args_os().collect());
    Arguments::try_parse_from(&typed).map_err(|error| {
        let terminal = Terminal::detect(typed_format(&typed), ColorChoice::Auto);
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let code = terminal.print(&error.render().to_string()).map_or(1, |()| 0);
                ExitCode::from(code)
            }
            // Without any argument: help is the best answer, but nothing was done.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                eprint!("{}", error.render());
                ExitCode::from(2)
            }
            _ => explain(&error, &typed).report(&terminal),
        }
    })
}

/// `sinew help logs` is `sinew logs --help`.
fn help_as_option(mut typed: Vec<OsString>) -> Vec<OsString> {
    if typed.get(1).is_some_and(|word| word == "help") {
        typed.remove(1);
        typed.truncate(2);
        typed.push("--help".into());
    }
    typed
}

/// clap's error in the words of all others.
fn explain(error: &clap::Error, typed: &[OsString]) -> Failure {
    let command = typed_command(typed);
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand)
        && let Some(instead) = habit::of_command(typed)
    {
        return Failure::bad_input("arguments", format!("there is no command `{typed}`")).hint(instead);
    }
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg)
    {
        let command = command.clone().unwrap_or_default();
        if let Some(instead) = habit::of_argument(&command, typed) {
            let of = if command.is_empty() { "sinew".to_owned() } else { format!("sinew {command}") };
            return Failure::bad_input("arguments", format!("`{of}` takes no `{typed}`")).hint(instead);
        }
    }
    let rendered = error.render().to_string();
    let mut message = String::new();
    let mut hints = Vec::new();
    for line in rendered.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            // A value that looks like an option is rare, an option that does not exist is not.
            if !tip.starts_with("to pass ") {
                hints.push(tip_in_words(tip));
            }
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            hints.push(format!("usage: {usage}"));
        } else if line.starts_with("For more information") {
            hints.push(format!("{} shows examples", help_command(command.as_deref())));
        } else {
            let line = line.strip_prefix("error: ").unwrap_or(line);
            let gap = if message.is_empty() || message.ends_with(':') { "" } else { "; " };
            let gap = if message.ends_with(':') { " " } else { gap };
            message.push_str(gap);
            message.push_str(line);
        }
    }
    let failure = Failure::bad_input("arguments", message);
    if hints.is_empty() { failure } else { failure.hint(hints.join("\n      ")) }
}

/// `a similar subcommand exists: 'ps'` -> what everybody else says.
fn tip_in_words(tip: &str) -> String {
    match tip.split_once(": '") {
        Some((before, names)) if before.contains("similar") => {
            let names: Vec<String> = names
                .split('\'')
                .step_by(2)
                .filter(|name| !name.is_empty())
                .map(|name| format!("`{name}`"))
                .collect();
            format!("did you mean {}?", names.join(" or "))
        }
        _ => tip.to_owned(),
    }
}

/// `sinew scale --help` when `scale` was typed.
fn help_command(command: Option<&str>) -> String {
    command.map_or_else(|| "`sinew --help`".to_owned(), |name| format!("`sinew {name} --help`"))
}

/// Found without parsing: the parser has just failed.
fn typed_command(typed: &[OsString]) -> Option<String> {
    let command = Arguments::command();
    let words = typed.iter().skip(1).filter_map(|word| word.to_str());
    words.map(str::to_owned).find(|word| command.find_subcommand(word).is_some())
}

/// What `-o` says, found without parsing: the parser has just failed.
fn typed_format(typed: &[OsString]) -> Format {
    let words: Vec<&str> =
        typed.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--").collect();
    let json = words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"))
        || words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]));
    if json { Format::Json } else { Format::Text }
}

mod habit;
#[cfg(test)]
mod tests;
