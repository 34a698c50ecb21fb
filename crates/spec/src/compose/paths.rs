//! Paths as people write them -> absolute paths.

use std::path::{Component, Path, PathBuf};

use super::fields::Field;
use super::source::Findings;
use super::{ComposeInput, PathKind};

/// A host path: `~` is the home folder, relative ones start from the folder of the project that says it.
pub(super) fn host(
    field: &Field<'_>,
    text: &str,
    input: &ComposeInput<'_>,
    findings: &mut Findings,
) -> Option<PathBuf> {
    if text.is_empty() {
        field.problem(findings, "a path is empty");
        return None;
    }
    if let Some(below) = text.strip_prefix('~') {
        let home = input.environment.get("HOME").filter(|home| home.starts_with('/'));
        if !(below.is_empty() || below.starts_with('/')) {
            field.problem(findings, "`~name` is not supported").hint("write the whole path");
            return None;
        }
        let Some(home) = home else {
            field.problem(findings, "`~` cannot be replaced: HOME is not set").hint("write the whole path");
            return None;
        };
        return Some(normalize(&Path::new(home).join(below.trim_start_matches('/'))));
    }
    Some(normalize(&findings.origin(field.at()).folder.join(text)))
}

/// A path inside of the seal: absolute.
pub(super) fn inside(field: &Field<'_>, text: &str, findings: &mut Findings) -> Option<PathBuf> {
    if !text.starts_with('/') {
        let what = format!("{} is not an absolute path", super::problem::quote(text));
        field.problem(findings, what).hint("a path that a service sees begins with `/`");
        return None;
    }
    let path = normalize(Path::new(text));
    let Err(Taken { hint }) = check_free(&path) else { return Some(path) };
    let problem = field.problem(findings, format!("nothing can be put at {}", super::problem::quote(text)));
    if let Some(hint) = hint {
        problem.hint(hint);
    }
    None
}

/// The seal has something of its own there that it cannot do without.
struct Taken {
    hint: Option<&'static str>,
}

fn check_free(path: &Path) -> Result<(), Taken> {
    const DEVICES: &[&str] = &[
        "null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "fd", "stdin", "stdout", "stderr",
    ];
    let taken = |hint| Err(Taken { hint });
    let is_whole = ["/", "/dev"].iter().any(|own| path == Path::new(own));
    if is_whole || path.starts_with("/proc") || path.starts_with("/sys") {
        return taken(None);
    }
    if path == Path::new("/etc") {
        return taken(Some("names and users are looked up there; choose a path below it, like `/etc/app`"));
    }
    if ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].iter().any(|own| path.starts_with(own)) {
        return taken(Some(
            "it holds the names of the mesh; hosts outside of it are declared in `x-sinew.egress`",
        ));
    }
    match path.strip_prefix("/dev").ok().and_then(|below| below.iter().next()) {
        Some(device) if DEVICES.iter().any(|own| device == *own) => {
            taken(Some("every service has this device of its own"))
        }
        _ => Ok(()),
    }
}

/// A working folder in an image: absolute.
pub(super) fn within_image(field: &Field<'_>, text: &str, findings: &mut Findings) -> Option<PathBuf> {
    if !text.starts_with('/') {
        let what = format!("{} is not an absolute path", super::problem::quote(text));
        field.problem(findings, what).hint("the working folder of a container is a path in its image");
        return None;
    }
    Some(normalize(Path::new(text)))
}

/// Without `.` and `..`, as text: links are not followed.
pub(super) fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// A problem unless something of the wanted kind is there.
pub(super) fn must_exist(
    field: &Field<'_>,
    path: &Path,
    wanted: PathKind,
    input: &ComposeInput<'_>,
    findings: &mut Findings,
) -> bool {
    let shown = path.display();
    let what = match (input.reader.kind(path), wanted) {
        (Some(kind), wanted) if kind == wanted => return true,
        (None, PathKind::Folder) => format!("the folder {shown} does not exist"),
        (None, PathKind::Device) => format!("the device {shown} does not exist"),
        (None, _) => format!("the file {shown} does not exist"),
        (Some(_), PathKind::Folder) => format!("{shown} is not a folder"),
        (Some(_), PathKind::Device) => format!("{shown} is not a device"),
        (Some(_), _) => format!("{shown} is not a file"),
    };
    field.problem(findings, what);
    false
}
