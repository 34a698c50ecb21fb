//! `sinew completions`, and `sinew __names`, which the scripts ask for the names of services.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Context;
use crate::arguments::Files;
use crate::failure::Failure;

/// Print a completion script for a shell; it completes names of services too
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

/// Those that take names of services.
const WITH_NAMES: &str = "ps status logs scale restart stop start exec port-forward";

const BASH: &str = r#"
_sinew_with_names() {
    _sinew "$@"
    local command names suffix=""
    for command in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ "$command" == -- ]] && return
        [[ " @COMMANDS@ " == *" $command "* ]] || continue
        [[ "$command" == scale ]] && suffix="="
        [[ "$command" == port-forward ]] && suffix=":"
        if [[ "$2" != -* ]]; then
            names="$(sinew __names 2>/dev/null)"
            COMPREPLY=( $(compgen -S "$suffix" -W "$names" -- "$2") )
            [[ -n "$suffix" ]] && compopt -o nospace
        fi
        return
    done
}
complete -F _sinew_with_names -o bashdefault -o default sinew
"#;

const FISH: &str = "
complete -c sinew -n '__fish_seen_subcommand_from @COMMANDS@' -f -a '(sinew __names 2>/dev/null)'
";

const ZSH: &str = r#"
_sinew_names() {
    compadd -- ${(f)"$(sinew __names 2>/dev/null)"}
}
"#;

pub fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    context.terminal.print(&script(arguments.shell))
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    let mut command = crate::arguments::Arguments::command();
    clap_complete::generate(shell, &mut command, "sinew", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => script + &BASH.replace("@COMMANDS@", WITH_NAMES),
        Shell::Fish => script + &FISH.replace("@COMMANDS@", WITH_NAMES),
        Shell::Zsh => {
            let asks = |line: &str| {
                ["'*::services -- ", "'*::targets -- ", "':target -- "]
                    .iter()
                    .any(|start| line.starts_with(start))
            };
            let lines: Vec<String> =
                script
                    .lines()
                    .map(|line| {
                        if asks(line) {
                            line.replace(":_default'", ":_sinew_names'")
                        } else {
                            line.to_owned()
                        }
                    })
                    .collect();
            // The last lines call what stands above: names come first.
            lines.join("\n").replacen("#compdef sinew\n", &format!("#compdef sinew\n{ZSH}"), 1) + "\n"
        }
        _ => script,
    }
}

/// One name per line: of the running application, else of the file. Says nothing when there is neither.
pub async fn names(context: &Context) -> Result<(), Failure> {
    let mut names = Vec::new();
    let running = match context.client() {
        Ok(client) => client.status(false).await.ok(),
        Err(_) => None,
    };
    if let Some(status) = running {
        for service in status.services {
            names.push(service.name.to_string());
            if service.instances.len() > 1 {
                names.extend(service.instances.iter().map(|instance| instance.name.to_string()));
            }
        }
    } else if let Ok(loaded) = context.load(None, &Files::default()) {
        names.extend(loaded.application.services.keys().map(ToString::to_string));
    }
    context.terminal.print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_ask_for_names() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let script = script(shell);
            assert!(script.contains("sinew __names"), "{shell}");
            assert!(!script.contains("@COMMANDS@"), "{shell}");
        }
        assert!(script(Shell::Zsh).contains(":_sinew_names' \\\n"));
    }
}
