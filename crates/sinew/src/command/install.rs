//! `sinew install`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;
use serde::Serialize;
use sinew_node::folders::{Folders, write_whole};
use sinew_spec::application::Application;

use super::{Context, current_folder};
use crate::arguments::Files;
use crate::build;
use crate::failure::Failure;
use crate::load::{self, Loaded};
use crate::project::{self, Project};
use crate::target;
use crate::terminal::Paint;
use crate::unit::{self, Facts, Present};

/// Start the application at every boot: write and enable a systemd unit
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew install --dry-run       print the unit, change nothing\n  \
    sudo sinew install --now      as root: a unit of the system, started at once\n  \
    sinew install --now           as an ordinary user: a unit of the user's own systemd\n  \
    sinew install --into DIR      write it there, for an image of another host\n\n\
    systemctl restart stops all services and starts them again. systemctl reload takes a changed file\n\
    or a new sinew into use: services that did not change go on.")]
pub struct Arguments {
    /// A compose file, or a folder with one [default: this folder or one above it]
    #[arg(value_name = "FILE|DIR", value_hint = clap::ValueHint::AnyPath)]
    place: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// Start it now as well; where it runs already, the file is applied
    #[arg(long, conflicts_with_all = ["dry_run", "into"])]
    now: bool,
    /// Print the unit; nothing is written
    #[arg(long)]
    dry_run: bool,
    /// Write the unit into this folder instead; systemd is not asked
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    into: Option<PathBuf>,
    /// Replace a unit that was changed by hand, or that somebody else wrote
    #[arg(long)]
    replace: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Written,
    Updated,
    Unchanged,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let wanted = context.wanted(arguments.place.as_deref(), &arguments.files);
    let project = project::find(&wanted, &current_folder()?)?;
    let loaded = load::load(&project, &context.common, &[])?;
    context.warn(&loaded.warnings);
    let facts = facts(&project, &loaded, context)?;
    let text = unit::render(&facts);
    if arguments.dry_run {
        return match context.terminal.is_json() {
            true => context
                .terminal
                .print_json(&serde_json::json!({ "unit": unit::name(&facts.application), "text": text })),
            false => context.terminal.print(&text),
        };
    }
    let systemd = match arguments.into {
        Some(_) => None,
        None => Some(Systemd::find()?),
    };
    if arguments.now {
        build::run(&loaded.application, &context.terminal)?;
    }
    let path = unit_folder(arguments.into.as_deref())?.join(unit::name(&facts.application));
    let outcome = write(&path, &text, arguments.replace)?;
    if let Some(systemd) = &systemd {
        systemd.take_up(&unit::name(&facts.application), arguments.now)?;
    }
    tell(&facts, &path, outcome, arguments, context)
}

fn tell(
    facts: &Facts,
    path: &Path,
    outcome: Outcome,
    arguments: &Arguments,
    context: &Context,
) -> Result<(), Failure> {
    let terminal = &context.terminal;
    let name = unit::name(&facts.application);
    if terminal.is_json() {
        let done =
            serde_json::json!({ "unit": name, "path": path, "outcome": outcome, "started": arguments.now });
        return terminal.print_json(&done);
    }
    let verb = match outcome {
        Outcome::Written => "wrote",
        Outcome::Updated => "updated",
        Outcome::Unchanged => "already there:",
    };
    let mut out = format!("{verb} {}\n", path.display());
    let systemctl = if facts.is_user { "systemctl --user" } else { "systemctl" };
    if arguments.into.is_none() {
        out.push_str(&match arguments.now {
            true => format!("{name} is enabled and runs: `{systemctl} status {name}`\n"),
            false => format!("{name} is enabled; start it now with `{systemctl} start {name}`\n"),
        });
    }
    if facts.is_user && !lingers() {
        let hint =
            "your systemd runs while you are logged in: `loginctl enable-linger` lets it start at boot\n";
        out.push_str(&terminal.paint(Paint::Warn, hint));
    }
    terminal.print(&out)
}

fn lingers() -> bool {
    let user = nix::unistd::User::from_uid(geteuid()).ok().flatten();
    user.is_some_and(|user| Path::new("/var/lib/systemd/linger").join(user.name).exists())
}

/// What the unit says, or why it could not work at boot.
fn facts(project: &Project, loaded: &Loaded, context: &Context) -> Result<Facts, Failure> {
    let application = &loaded.application;
    if project.files.iter().any(|file| file == Path::new("-")) {
        return Err(Failure::bad_input("arguments", "standard input is not there at boot")
            .hint("write the file to the disk and name it with -f"));
    }
    let program = program()?;
    let folders = Folders::new(&target::bases()?, &application.name);
    lasts(&project.folder, "the folder")?;
    lasts(&program, "this program")?;
    for file in &project.files {
        lasts(file, "the compose file")?;
        is_ours_to_run(file, context)?;
    }
    is_ours_to_run(&program, context)?;
    let environment = environment();
    same_at_boot(project, loaded, &environment, context)?;
    let mounts = vec![project.folder.clone(), parent(&folders.state)];
    let stop_grace_ms = application.services.values().map(|service| service.stop_grace_ms);
    Ok(Facts {
        application: application.name.to_string(),
        is_user: !geteuid().is_root(),
        program,
        folder: project.folder.clone(),
        files: project.files.clone(),
        profiles: context.common.profile.clone(),
        environment,
        mounts,
        has_containers: application.services.values().any(|service| service.container.is_some()),
        stop_grace_s: stop_grace_ms.fold(0, u64::saturating_add).div_ceil(1_000),
    })
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

fn program() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed("unit", format!("finding this program: {error}")))?;
    if !program.exists() {
        let message = format!("{}: this program has been replaced or removed", program.display());
        return Err(Failure::failed("unit", message).hint("run `sinew install` with the new one"));
    }
    Ok(program)
}

/// What matters of this environment to the application, and would be missing or other at boot.
fn environment() -> Vec<(String, String)> {
    const NAMES: [&str; 9] = [
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TZ",
        "SINEW_RUN_DIR",
        "SINEW_STATE_DIR",
        "XDG_STATE_HOME",
        "COMPOSE_PROFILES",
    ];
    NAMES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// Whether it is still there after a boot.
fn lasts(path: &Path, what: &str) -> Result<(), Failure> {
    const VOLATILE: [&str; 3] = ["/run", "/tmp", "/dev"];
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    let refused = |why: &str| {
        let message = format!("{what} {} {why}: it is not there at boot", path.display());
        Err(Failure::bad_input("not_lasting", message).hint("put it on a disk: /srv, /opt, /usr/local"))
    };
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if VOLATILE.iter().any(|folder| real.starts_with(folder)) {
        return refused("is in a folder that is emptied");
    }
    match statfs(&real) {
        Ok(found) if found.filesystem_type() == TMPFS_MAGIC => refused("lies in memory"),
        _ => Ok(()),
    }
}

/// As root, whoever can write what is started at boot is root.
fn is_ours_to_run(path: &Path, context: &Context) -> Result<(), Failure> {
    let look = |path: &Path| {
        fs::metadata(path).map_err(|error| {
            Failure::bad_input("unreadable_file", format!("could not look at {}: {error}", path.display()))
        })
    };
    for path in [path, &parent(path)] {
        let found = look(path)?;
        let is_sticky = found.is_dir() && found.permissions().mode() & 0o1000 != 0;
        if found.permissions().mode() & 0o002 != 0 && !is_sticky {
            let message =
                format!("everybody can write {}: they would choose what runs at boot", path.display());
            let hint = format!("chmod o-w {}", path.display());
            return Err(Failure::bad_input("open_to_all", message).hint(hint));
        }
        if geteuid().is_root() && found.uid() != 0 && !context.terminal.is_json() {
            let words = format!(
                "warning: {} belongs to user {}, who chooses what root runs",
                path.display(),
                found.uid()
            );
            eprintln!("{}", context.terminal.paint_error(Paint::Warn, &words));
        }
    }
    Ok(())
}

/// The file must mean the same without this shell's environment.
fn same_at_boot(
    project: &Project,
    loaded: &Loaded,
    environment: &[(String, String)],
    context: &Context,
) -> Result<(), Failure> {
    let environment: BTreeMap<String, String> = environment.iter().cloned().collect();
    let at_boot = load::load_in(project, &context.common, &[], &environment);
    let differs = match &at_boot {
        Err(_) => true,
        Ok(at_boot) => {
            at_boot.application != loaded.application
                || at_boot.granted_environment() != loaded.granted_environment()
        }
    };
    if !differs {
        return Ok(());
    }
    let names = variables_in(project, &environment);
    let what = match &at_boot {
        Ok(at_boot) => services_that_differ(&at_boot.application, &loaded.application),
        Err(_) => String::new(),
    };
    let message = format!(
        "the file uses variables of this shell that are not set at boot: {}{what}",
        if names.is_empty() { "unknown ones".to_owned() } else { names.join(", ") }
    );
    let dotenv = project.folder.join(".env");
    Err(Failure::bad_input("environment", message)
        .hint(format!("write them into {} (mode 0600 when they are secret)", dotenv.display())))
}

/// Variables of this environment whose names stand in the files.
fn variables_in(project: &Project, at_boot: &BTreeMap<String, String>) -> Vec<String> {
    let texts: Vec<String> = project.files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let mut names: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| !name.is_empty() && !at_boot.contains_key(name))
        .filter(|name| texts.iter().any(|text| has_word(text, name)))
        .collect();
    names.sort();
    names
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

fn services_that_differ(one: &Application, other: &Application) -> String {
    let names: Vec<&str> = other
        .services
        .iter()
        .filter(|(name, service)| one.services.get(*name) != Some(*service))
        .map(|(name, _)| name.as_str())
        .collect();
    if names.is_empty() { String::new() } else { format!(" (services: {})", names.join(", ")) }
}

/// Where units of this user are.
pub fn unit_folder(into: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(into) = into {
        return Ok(current_folder()?.join(into));
    }
    if geteuid().is_root() {
        return Ok("/etc/systemd/system".into());
    }
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")));
    let config = config.ok_or_else(|| {
        Failure::failed("unit", "no home directory for the unit").hint("set HOME, or use --into DIR")
    })?;
    Ok(config.join("systemd/user"))
}

fn write(path: &Path, text: &str, replace: bool) -> Result<Outcome, Failure> {
    let failed = |attempted: &str, error: &io::Error| {
        Failure::failed("unit", format!("{attempted} {}: {error}", path.display()))
    };
    let present = match fs::read_to_string(path) {
        Ok(present) => Some(present),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("reading", &error)),
    };
    let outcome = match &present {
        None => Outcome::Written,
        Some(present) if present == text => return Ok(Outcome::Unchanged),
        Some(present) if replace || unit::judge(present) == Present::Ours => Outcome::Updated,
        Some(present) => return Err(differs(path, present, text)),
    };
    fs::create_dir_all(parent(path)).map_err(|error| failed("making the folder of", &error))?;
    write_whole(path, text.as_bytes()).map_err(|error| failed("writing", &error))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
        .map_err(|error| failed("opening", &error))?;
    Ok(outcome)
}

fn differs(path: &Path, present: &str, text: &str) -> Failure {
    let why = match unit::judge(present) {
        Present::Foreign => "is there already, and `sinew install` did not write it",
        _ => "was changed by hand",
    };
    let message = format!("{} {why}; it stays as it is (-: there, +: what would be written)", path.display());
    Failure::bad_input("unit_differs", message)
        .log(unit::difference(present, text))
        .hint("--replace writes it all the same; changes of your own last as a drop-in: `systemctl edit`")
}

/// The manager that the units are for.
pub struct Systemd {
    is_user: bool,
}

impl Systemd {
    pub fn find() -> Result<Self, Failure> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(Failure::bad_input("no_systemd", "systemd does not run on this host (no /run/systemd/system)")
                .hint("`sinew install --dry-run` prints the unit, `--into DIR` writes it for another host; elsewhere let the init system run `sinew up -d` at boot"));
        }
        Ok(Self { is_user: !geteuid().is_root() })
    }

    /// Known, enabled, and started when asked for.
    fn take_up(&self, unit: &str, now: bool) -> Result<(), Failure> {
        self.ask(&["daemon-reload"])?;
        self.ask(&["enable", unit])?;
        if now {
            self.ask(&["reload-or-restart", unit])?;
        }
        Ok(())
    }

    pub fn ask(&self, arguments: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new("systemctl");
        if self.is_user {
            command.arg("--user");
        }
        let failed = |reason: String| {
            let failure = Failure::failed("systemd", format!("systemctl {}: {reason}", arguments.join(" ")));
            match self.is_user {
                true => failure.hint("the user's systemd needs a login session, or `loginctl enable-linger`"),
                false => failure.hint("`journalctl -e` says more"),
            }
        };
        let output = command.args(arguments).output().map_err(|error| failed(error.to_string()))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    }
}
