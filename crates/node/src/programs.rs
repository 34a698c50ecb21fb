//! Which folders of the host a service needs to see so that the programs on its PATH work, when they are installed in a
//! place that a seal hides (a home directory above all): Python of pyenv, Node.js of nvm, tools of cargo.
//!
//! What is shown is the installation and never more: `…/bin` means its prefix, but not where the prefix is a home
//! directory or one of the folders in it that keep credentials beside programs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::beneath::Writable;

#[cfg(test)]
mod tests;

/// Shown in every seal.
const SYSTEM: &[&str] = &[
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu", "/dev",
    "/proc", "/sys",
];
/// Links in one folder of PATH that are followed.
const ENTRIES_MAX: usize = 8192;
/// The first line of a script; the kernel reads 256 bytes.
const SHEBANG_BYTES_MAX: u64 = 256;
const LINKS_MAX: usize = 16;

/// Where homes are, whoever runs the launcher.
#[derive(Clone, Debug)]
pub struct Homes {
    homes: Vec<PathBuf>,
}

impl Homes {
    pub fn new(own: Option<&Path>) -> Self {
        let mut homes = vec![PathBuf::from("/root")];
        homes.extend(own.filter(|own| own.is_absolute()).map(Path::to_path_buf));
        Self { homes }
    }

    fn is_home(&self, path: &Path) -> bool {
        self.homes.iter().any(|home| home == path) || path.parent() == Some(Path::new("/home"))
    }

    /// The path within a home.
    fn within<'a>(&self, path: &'a Path) -> Option<(PathBuf, &'a Path)> {
        path.ancestors()
            .skip(1)
            .find(|above| self.is_home(above))
            .and_then(|home| Some((home.to_path_buf(), path.strip_prefix(home).ok()?)))
    }
}

pub fn is_hidden(path: &Path) -> bool {
    !SYSTEM.iter().any(|shown| path.starts_with(shown))
}

/// Host folders to show for the folders of `search` (a PATH) and for `program` (the service's first word, looked up in
/// `search` or relative to `working_dir`). What does not exist or may not be read is left out. Links and scripts that a
/// service may have written say nothing about the rest of the host. Sorted; none lies within another.
pub fn shown(
    search: &str,
    program: &str,
    working_dir: &Path,
    homes: &Homes,
    writable: &Writable,
) -> Vec<PathBuf> {
    let mut found = Found { homes, writable, folders: BTreeSet::new() };
    for folder in std::env::split_paths(search).filter(|folder| folder.is_absolute()) {
        found.search_folder(&folder);
    }
    if let Some(program) = locate(search, program, working_dir) {
        found.program(&program, 0);
    }
    outermost(found.folders)
}

/// Where execvp(3) finds `program`.
pub fn locate(search: &str, program: &str, working_dir: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(working_dir.join(program)).filter(|path| path.exists());
    }
    std::env::split_paths(search).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Whether a program could be executed, as far as its file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    Found,
    Missing,
    NotExecutable,
    /// A script, and the interpreter that does not exist.
    NoInterpreter(PathBuf),
    /// We may not look where it should be.
    Hidden,
}

/// The same place as [`locate`], looked at.
pub fn look(search: &str, program: &str, working_dir: &Path) -> Look {
    let Some(path) = locate(search, program, working_dir) else {
        let denied = fs::metadata(working_dir.join(program))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        return if program.contains('/') && denied { Look::Hidden } else { Look::Missing };
    };
    let Ok(found) = fs::metadata(&path) else { return Look::Hidden };
    if found.is_dir() || found.permissions().mode() & 0o111 == 0 {
        return Look::NotExecutable;
    }
    match interpreter(&path) {
        Some(interpreter) if !interpreter.exists() => Look::NoInterpreter(interpreter),
        _ => Look::Found,
    }
}

struct Found<'a> {
    homes: &'a Homes,
    writable: &'a Writable,
    folders: BTreeSet<PathBuf>,
}

impl Found<'_> {
    fn search_folder(&mut self, folder: &Path) {
        let Ok(real) = fs::canonicalize(folder) else { return };
        if real != folder && !self.is_trusted(folder) {
            return;
        }
        self.show_installation(folder);
        self.show_installation(&real);
        let Ok(entries) = fs::read_dir(&real) else { return };
        let links = entries.flatten().take(ENTRIES_MAX);
        for link in links.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink())) {
            self.follow(&link.path());
        }
    }

    fn program(&mut self, program: &Path, depth: usize) {
        if depth > LINKS_MAX {
            return;
        }
        if depth > 0
            && let Some(folder) = program.parent()
        {
            self.show_installation(folder);
        }
        self.follow(program);
        if self.is_trusted(program)
            && let Some(interpreter) = interpreter(program)
        {
            self.program(&interpreter, depth + 1);
        }
    }

    /// Shows every place on the way from a link to the file, as far as it is hidden.
    fn follow(&mut self, path: &Path) {
        let mut path = path.to_path_buf();
        for _ in 0..LINKS_MAX {
            let Ok(target) = fs::read_link(&path) else { break };
            if !self.is_trusted(&path) {
                return;
            }
            path = path.parent().unwrap_or(Path::new("/")).join(target);
            let Some(folder) = path.parent().and_then(|folder| fs::canonicalize(folder).ok()) else { return };
            if !path.exists() {
                return;
            }
            self.show_installation(&folder);
        }
    }

    /// Whether no service may have put there what lies at `path`.
    fn is_trusted(&self, path: &Path) -> bool {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return true };
        let real = fs::canonicalize(folder);
        self.writable.follows(path) && real.is_ok_and(|real| self.writable.follows(&real.join(name)))
    }

    /// `folder` holds programs: the installation that it belongs to.
    fn show_installation(&mut self, folder: &Path) {
        if is_hidden(folder) && folder.is_dir() {
            let shown = self.installation(folder);
            self.folders.extend(shown.into_iter().filter(|path| path.exists()));
        }
    }

    fn installation(&self, folder: &Path) -> Vec<PathBuf> {
        let narrow = vec![folder.to_path_buf()];
        if let Some((home, rest)) = self.homes.within(folder) {
            // Kept narrow: what lies beside these folders may be anything, tokens too.
            if rest.starts_with(".cargo/bin") {
                return vec![folder.to_path_buf(), home.join(".rustup")];
            }
            if rest.starts_with(".local/bin") {
                return vec![folder.to_path_buf(), home.join(".local/lib")];
            }
        }
        let is_programs = ["bin", "sbin", "shims"].iter().any(|name| folder.ends_with(name));
        let Some(prefix) = folder.parent().filter(|_| is_programs) else { return narrow };
        let is_base = prefix.parent().is_none() || prefix == Path::new("/tmp") || prefix == Path::new("/var");
        if is_base || self.homes.is_home(prefix) || self.keeps_credentials(prefix) {
            return narrow;
        }
        vec![prefix.to_path_buf()]
    }

    /// Folders right below a home whose name says configuration of somebody.
    fn keeps_credentials(&self, prefix: &Path) -> bool {
        const NAMES: &[&str] = &[
            ".config",
            ".local",
            ".ssh",
            ".gnupg",
            ".aws",
            ".azure",
            ".kube",
            ".docker",
            ".cargo",
            ".npm",
            ".password-store",
            ".mozilla",
            ".cache",
        ];
        self.homes.within(prefix).is_some_and(|(_, rest)| NAMES.iter().any(|name| rest == Path::new(name)))
    }
}

/// The program that runs a script: its `#!` line. `env` finds the next one on PATH, which is shown anyway.
fn interpreter(program: &Path) -> Option<PathBuf> {
    let file = fs::File::open(program).ok()?;
    let mut line = Vec::new();
    BufReader::new(file.take(SHEBANG_BYTES_MAX)).read_until(b'\n', &mut line).ok()?;
    let line = std::str::from_utf8(line.strip_prefix(b"#!")?).ok()?;
    let path = PathBuf::from(line.split_ascii_whitespace().next()?);
    path.is_absolute().then_some(path)
}

fn outermost(folders: BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for folder in folders {
        // Sorted: whatever holds this one came before it.
        if !kept.iter().any(|outer| folder.starts_with(outer)) {
            kept.push(folder);
        }
    }
    kept
}
