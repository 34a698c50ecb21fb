//! The text of an application's systemd unit, and what is known of one that is there. No I/O.

use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// The first line of every unit that is written here goes on with the application and the digest of the rest.
const MARK: &str = "# Written by `sinew install` for ";
const DIGEST: &str = "; digest ";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub application: String,
    /// Of the user's own manager.
    pub is_user: bool,
    pub program: PathBuf,
    pub folder: PathBuf,
    pub files: Vec<PathBuf>,
    pub profiles: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Must be there before the application can start.
    pub mounts: Vec<PathBuf>,
    /// A service of it is a container.
    pub has_containers: bool,
    /// All `stop_grace_period`s, one after the other.
    pub stop_grace_s: u64,
}

pub fn name(application: &str) -> String {
    format!("sinew-{application}.service")
}

/// What is there under the unit's name.
#[derive(Debug, PartialEq, Eq)]
pub enum Present {
    /// As an earlier `install` left it.
    Ours,
    /// Written by an `install`, and changed by hand since.
    Edited,
    Foreign,
}

pub fn judge(text: &str) -> Present {
    let Some((first, rest)) = text.split_once('\n') else { return Present::Foreign };
    let digest_then = first.strip_prefix(MARK).and_then(|line| line.rsplit_once(DIGEST));
    match digest_then {
        Some((_, digest_then)) if digest_then == digest(rest) => Present::Ours,
        Some(_) => Present::Edited,
        None => Present::Foreign,
    }
}

pub fn render(facts: &Facts) -> String {
    let body = body(facts);
    format!("{MARK}{}{DIGEST}{}\n{body}", facts.application, digest(&body))
}

fn body(facts: &Facts) -> String {
    let Facts { application, is_user, .. } = facts;
    let unit = name(application);
    let manager = if *is_user { "systemctl --user" } else { "systemctl" };
    let mut out = format!(
        "# Changes of your own: `{manager} edit {unit}`; this file is replaced by the next `sinew install`.\n\n[Unit]\n"
    );
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("Description={}, run by Sinew", escape(application)));
    // Not network-online.target: a box that is offline boots at once, and a published address that is not there yet
    // is tried again.
    let after = if *is_user {
        "podman.socket"
    } else {
        "local-fs.target network.target time-set.target time-sync.target podman.socket docker.socket"
    };
    line(format!("After={after}"));
    if facts.has_containers {
        line("Wants=podman.socket".to_owned());
    }
    let mounts: Vec<String> = facts.mounts.iter().map(|path| quote(&text(path))).collect();
    line(format!("RequiresMountsFor={}", mounts.join(" ")));
    line("# Nobody may be there to start it by hand.\nStartLimitIntervalSec=0\n\n[Service]".to_owned());
    line("Type=notify\nNotifyAccess=main".to_owned());
    line(format!("WorkingDirectory={}", escape(&text(&facts.folder))));
    for (name, value) in &facts.environment {
        line(format!("Environment={}", quote(&format!("{name}={value}"))));
    }
    line(format!("ExecStart={}", command(facts)));
    line("# Takes a new binary and a changed file into use; services that did not change go on.".to_owned());
    line("ExecReload=/bin/kill -HUP $MAINPID".to_owned());
    line("Restart=on-failure\nRestartSec=2".to_owned());
    line(
        "# A launcher that died is followed by one that adopts its services; a stop ends them in order."
            .to_owned(),
    );
    line("KillMode=process".to_owned());
    line("TimeoutStartSec=15min".to_owned());
    line(format!("TimeoutStopSec={}", facts.stop_grace_s.saturating_add(30)));
    line("WatchdogSec=60".to_owned());
    line("# Limits are cgroups of Sinew's own; what one service exceeds concerns that service.".to_owned());
    line("Delegate=yes\nOOMPolicy=continue\nTasksMax=infinity".to_owned());
    if !is_user {
        line("NoNewPrivileges=yes".to_owned());
    }
    let target = if *is_user { "default.target" } else { "multi-user.target" };
    line(format!("\n[Install]\nWantedBy={target}"));
    out
}

fn command(facts: &Facts) -> String {
    let mut words = vec![text(&facts.program), "up".into(), "--supervised".into(), "--no-build".into()];
    words.extend(["-p".into(), facts.application.clone(), "-C".into(), text(&facts.folder)]);
    for profile in &facts.profiles {
        words.extend(["--profile".into(), profile.clone()]);
    }
    for file in &facts.files {
        words.extend(["-f".into(), text(file)]);
    }
    // In a command, `$` begins a variable; elsewhere it does not.
    words.iter().map(|word| quote(&word.replace('$', "$$"))).collect::<Vec<_>>().join(" ")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `%` begins a specifier.
fn escape(text: &str) -> String {
    text.replace('%', "%%")
}

/// One word of a list (systemd.syntax(7), "Quoting").
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=,@$".contains(c);
    let escaped = escape(text);
    if !text.is_empty() && text.chars().all(plain) {
        return escaped;
    }
    let mut quoted = String::from("\"");
    for c in escaped.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// FNV-1a: tells a change by hand from none; nobody is to be kept from making one.
fn digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Lines that are only in one of the two, in order: `-` is there, `+` would be.
pub fn difference(present: &str, wanted: &str) -> Vec<String> {
    const LINES_MAX: usize = 1_000;
    let present: Vec<&str> = present.lines().take(LINES_MAX).collect();
    let wanted: Vec<&str> = wanted.lines().take(LINES_MAX).collect();
    // The longest common subsequence of what follows.
    let mut common = vec![vec![0_usize; wanted.len() + 1]; present.len() + 1];
    for i in (0..present.len()).rev() {
        for j in (0..wanted.len()).rev() {
            common[i][j] = if present[i] == wanted[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < present.len() || j < wanted.len() {
        if i < present.len() && j < wanted.len() && present[i] == wanted[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == wanted.len() || (i < present.len() && common[i + 1][j] >= common[i][j + 1]) {
            out.push(format!("-{}", present[i]));
            i += 1;
        } else {
            out.push(format!("+{}", wanted[j]));
            j += 1;
        }
    }
    out
}
