//! What people of Compose type and where it is found here.

/// A command; `None`: there is no such habit.
pub fn of_command(typed: &str) -> Option<&'static str> {
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
        "pull" | "push" | "images" => {
            "`sinew up` pulls what is missing; `podman pull`, `podman push` and `podman images` do the rest"
        }
        "port" => "`sinew ps` shows published ports, `sinew port-forward SERVICE:PORT` reaches any other",
        "attach" => "`sinew logs -f SERVICE` follows its output, `sinew exec SERVICE -- sh` goes inside",
        "wait" => {
            "`sinew up -d` returns when everything is as wanted; `sinew status -o json` tells exit codes"
        }
        "pause" | "unpause" => "`sinew stop SERVICE` and `sinew start SERVICE`; nothing is paused here",
        "watch" => "`sinew restart SERVICE` after a change; sources that are bind mounted are seen at once",
        "cp" => "`sinew exec -i SERVICE -- tee FILE < FILE`, or mount a folder under `volumes`",
        "ls" => "`sinew ps` lists the instances of this folder's application, `-p NAME` those of another",
        "compose" => "`sinew` itself takes the commands of Compose: `sinew up -d`, `sinew ps`, `sinew down`",
        "volumes" | "volume" => "volumes are folders below the state folder; `sinew down -v` deletes them",
        _ => return None,
    })
}

/// An option or a word that a command does not take. `command`: empty before any.
pub fn of_argument(command: &str, typed: &str) -> Option<&'static str> {
    const GRACE: &str = "how long a service may take to stop is said in the file, by `stop_grace_period`; \
                         `sinew down --kill` waits for nobody";
    let name = typed.split('=').next().unwrap_or(typed);
    Some(match (command, name) {
        ("down" | "stop" | "restart" | "up", "--timeout" | "-t") => GRACE,
        ("down", word) if !word.starts_with('-') => {
            "`down` ends the whole application; `sinew stop SERVICE` ends one service"
        }
        ("up", "--no-deps") | ("start" | "restart" | "scale", "--no-deps") => {
            "what a service depends on is started with it by `sinew up -d SERVICE`; `sinew start SERVICE` and \
             `sinew restart SERVICE` touch it alone"
        }
        ("up", "--no-recreate") => {
            "`sinew up` replaces what changed in the file and nothing else; `sinew start` starts"
        }
        ("up", "--no-start") => {
            "`sinew check` says whether the application could run; nothing is made beforehand"
        }
        ("up", "--renew-anon-volumes" | "-V") => {
            "`sinew down -v` deletes volumes; the next `sinew up` makes new ones"
        }
        ("up", "--abort-on-container-exit" | "--abort-on-container-failure" | "--exit-code-from") => {
            "`sinew up -d` fails when a service does; `sinew status -o json` tells exit codes"
        }
        ("up", "--attach" | "--no-attach" | "--attach-dependencies" | "--no-log-prefix" | "--timestamps") => {
            "`sinew up -d`, and then `sinew logs -f SERVICE`, which has --timestamps and --no-prefix"
        }
        ("up", "--watch" | "-w") => {
            "`sinew up -d` again applies a changed file; `sinew restart SERVICE` after a changed program"
        }
        ("logs", "--until") => "`sinew logs --since TIME -t` shows when each line was written",
        ("logs", "--index") | ("exec" | "port-forward", "--index") => {
            "an instance is named like `orders-2`; `sinew ps` lists them"
        }
        ("ps", "--services") => {
            "`sinew config --services` lists the services of the file, `sinew status` those that run"
        }
        ("ps", "--filter" | "--status" | "--orphans" | "--no-trunc") => {
            "`sinew ps -o json` is for filters: `| jq '.[] | select(.state == \"running\")'`"
        }
        ("exec", "--user" | "-u" | "--privileged") => {
            "a command runs as the user of its service (`user:` in the file), who may do no more inside than the service"
        }
        ("exec", "--detach" | "-d") => {
            "a command ends with its connection; what shall go on is a service of its own"
        }
        ("config", "--quiet" | "-q") => {
            "`sinew check FILE` says whether the file is right, by its exit code too"
        }
        ("config", "--images" | "--volumes" | "--profiles" | "--hash" | "--environment" | "--variables") => {
            "`sinew config -o json` has all of it, for jq"
        }
        (_, "--format") => "`-o json` is the other format",
        (_, "--env-file") => {
            "`.env` beside the compose file is read; variables of the environment win over it"
        }
        (_, "--ansi" | "--no-ansi" | "--no-color") => "`--color never`; NO_COLOR is respected",
        (_, "--progress") => "progress moves on a terminal alone; `-o json` shows none",
        (_, "--dry-run") => "`sinew check` and `sinew config` change nothing",
        (_, "--parallel" | "--compatibility" | "--all-resources") => {
            "there is no such choice here; leave it away"
        }
        (_, "--verbose" | "--debug" | "-D") => {
            "`sinew status` and `sinew logs` tell what is known; `daemon.log` lies in the run folder"
        }
        (_, "--context" | "--host" | "-H") => {
            "an application runs on this host; `ssh HOST sinew …` reaches another one"
        }
        _ => return None,
    })
}
