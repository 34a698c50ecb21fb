//! `sinew completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Context;
use crate::failure::Failure;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew completions bash > ~/.local/share/bash-completion/completions/sinew\n  \
    sinew completions zsh > \"${fpath[1]}/_sinew\"\n  \
    sinew completions fish > ~/.config/fish/completions/sinew.fish")]
pub struct Arguments {
    /// For which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = crate::arguments::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "sinew", &mut script);
    context.terminal.print(&String::from_utf8_lossy(&script))
}
