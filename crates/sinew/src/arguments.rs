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
    #[arg(short, long, global = true, value_name = "NAME")]
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
    /// Compose file, `-` for standard input; may be repeated, later files are merged over earlier ones
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
            _ => explain(&error).report(&terminal),
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

/// Where what Compose calls so is found here; `None`: there is no such habit.
fn habit(typed: &str) -> Option<&'static str> {
    Some(match typed {
        "log" => "did you mean `sinew logs`?",
        "rm" | "kill" => {
            "`sinew stop SERVICE` ends one service, `sinew down` the application, `sinew down --kill` at once"
        }
        "top" | "stats" | "events" => "`sinew status --watch` shows load, memory and troubles",
        "run" => {
            "`sinew exec SERVICE -- COMMAND` runs a command inside of a service; a service of its own for one job \
             has a profile: `sinew up -d --profile NAME`"
        }
        "create" | "build" => "`sinew up -d` builds what `x-sinew.build` names and starts everything",
        "pull" | "push" | "images" => "containers come with a later version; a service is a process here",
        "port" => "`sinew ps` shows published ports, `sinew port-forward SERVICE:PORT` reaches any other",
        "attach" => "`sinew logs -f SERVICE` follows its output, `sinew exec SERVICE -- sh` goes inside",
        "wait" => {
            "`sinew up -d` returns when everything is as wanted; `sinew status -o json` tells exit codes"
        }
        "pause" | "unpause" => "`sinew stop SERVICE` and `sinew start SERVICE`; nothing is paused here",
        "watch" => "`sinew restart SERVICE` after a change; sources that are bind mounted are seen at once",
        "cp" => "`sinew exec -i SERVICE -- tee FILE < FILE`, or mount a folder under `volumes`",
        "ls" => "`sinew ps` lists the instances of this folder's application, `-p NAME` those of another",
        _ => return None,
    })
}

/// clap's error in the words of all others.
fn explain(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand)
        && let Some(instead) = habit(typed)
    {
        return Failure::bad_input("arguments", format!("there is no command `{typed}`")).hint(instead);
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
            hints.push(format!("{} shows examples", help_command()));
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
fn help_command() -> String {
    let command = Arguments::command();
    let typed = std::env::args().skip(1).find(|typed| command.find_subcommand(typed).is_some());
    typed.map_or_else(|| "`sinew --help`".to_owned(), |name| format!("`sinew {name} --help`"))
}

/// What `-o` says, found without parsing: the parser has just failed.
fn typed_format(typed: &[OsString]) -> Format {
    let words: Vec<&str> =
        typed.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--").collect();
    let json = words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"))
        || words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json"]));
    if json { Format::Json } else { Format::Text }
}

#[cfg(test)]
mod tests;
