//! The first step, in the host's namespaces: joins the cgroups, makes the namespaces, maps the users, tells the pid.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use sinew_spec::seal::{SealContainer, SealSpec};

use super::sys::{self, Fork, NO_DEVICES, NO_SET_UID, READ_ONLY};
use super::{CHANNEL, COMMAND, INSIDE, Report, SPEC, SPEC_BYTES_MAX, fail, report};

/// Users of the map of a seal that root makes.
const USERS: u32 = 65_536;

const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

pub fn run(arguments: &[OsString]) -> i32 {
    let Ok(channel) = sys::inherited(CHANNEL) else { return 2 };
    match prepare(arguments, &channel) {
        Ok(()) => 0,
        Err(reason) => fail(&channel, reason),
    }
}

fn prepare(arguments: &[OsString], channel: &OwnedFd) -> Result<(), String> {
    let bytes = read_spec(channel).map_err(|e| format!("read the seal's specification: {e}"))?;
    let spec: SealSpec =
        serde_json::from_slice(&bytes).map_err(|e| format!("read the seal's specification: {e}"))?;
    for folder in &spec.cgroups {
        fs::write(folder.join("cgroup.procs"), "0")
            .map_err(|e| format!("join cgroup {}: {e}", folder.display()))?;
    }
    if spec.explicit {
        return super::explicit::run(channel, &spec);
    }
    let kept = keep_spec(&bytes).map_err(|e| format!("keep the seal's specification: {e}"))?;
    drop(bytes);
    let (released, release) = io::pipe().map_err(|e| format!("make a pipe: {e}"))?;
    let is_container = spec.container.is_some();
    if let Some(path) = spec.container.as_ref().and_then(|container| container.user_namespace.as_ref()) {
        let namespace = File::open(path).map_err(|e| format!("open {}: {e}", path.display()))?;
        sys::enter_namespace(namespace.as_fd(), libc::CLONE_NEWUSER)
            .map_err(|e| format!("enter the engine's user namespace {}: {e}", path.display()))?;
    }
    // Whoever owns a network's user namespace owns the network: a container's must be one above the container.
    let namespaces = match &spec.container {
        Some(SealContainer { network: Some(path), .. }) => {
            enter_network(path)
                .map_err(|e| format!("enter the container's network {}: {e}", path.display()))?;
            0
        }
        Some(_) => libc::CLONE_NEWNET,
        None => NAMESPACES,
    };
    match sys::clone_sibling(namespaces as u64)
        .map_err(|e| format!("make namespaces: {}", namespace_hint(&e)))?
    {
        Fork::Parent(pid) => {
            drop(released);
            report(channel.as_fd(), &Report::Born { pid });
            if !is_container {
                map_users(pid, spec.map_all_users)?;
            }
            (&release).write_all(b"x").map_err(|e| format!("release the seal's first process: {e}"))
        }
        Fork::Child => {
            drop(release);
            let mut go = [0];
            // End of file: the other one failed, and has told so.
            if (&released).read_exact(&mut go).is_err() {
                return Ok(());
            }
            Err(become_inside(arguments, &kept, is_container))
        }
    }
}

/// What is done there must never be done to the host's network: the process that the path named may have ended, and
/// another one have its number.
fn enter_network(path: &Path) -> io::Result<()> {
    let network = File::open(path)?;
    let own = fs::metadata("/proc/self/ns/net")?;
    if network.metadata()?.ino() == own.ino() {
        return Err(io::Error::other("it is the host's"));
    }
    sys::enter_namespace(network.as_fd(), libc::CLONE_NEWNET)
}

fn namespace_hint(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!(
            "{error}: this host does not let users make namespaces (sysctl kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns, or a container's limits); see `sinew check`"
        ),
        Some(libc::ENOSPC | libc::EUSERS) => {
            format!(
                "{error}: the limit of namespaces is reached (sysctl user.max_user_namespaces and its siblings)"
            )
        }
        _ => error.to_string(),
    }
}

fn read_spec(channel: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut channel = File::from(channel.try_clone()?);
    let mut length = [0; 8];
    channel.read_exact(&mut length)?;
    let length = u64::from_ne_bytes(length);
    if length > SPEC_BYTES_MAX {
        return Err(io::Error::other(format!("{length} bytes; {SPEC_BYTES_MAX} are allowed")));
    }
    let mut bytes = Vec::new();
    channel.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn keep_spec(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = sys::memory_file(c"seal", false)?;
    File::from(file.try_clone()?).write_all(bytes)?;
    sys::freeze(file.as_fd())?;
    Ok(file)
}

/// Root gives a seal all users as they are, so that files keep their owners; an ordinary user can only give itself.
fn map_users(pid: i32, all: bool) -> Result<(), String> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let write = |name: &str, text: String| {
        fs::write(process.join(name), text).map_err(|e| format!("write {name} of the seal: {e}"))
    };
    if all {
        write("uid_map", format!("0 0 {USERS}"))?;
        write("gid_map", format!("0 0 {USERS}"))
    } else {
        let (uid, gid) = (sys::effective_uid(), sys::effective_gid());
        write("setgroups", "deny".to_owned())?;
        write("uid_map", format!("{uid} {uid} 1"))?;
        write("gid_map", format!("{gid} {gid} 1"))
    }
}

/// In the new namespaces. Returns only with the reason why it could not.
fn become_inside(arguments: &[OsString], spec: &OwnedFd, is_container: bool) -> String {
    // No process of a container sees its init, nor the init's program.
    let program =
        if is_container { File::open("/proc/self/exe").map(OwnedFd::from) } else { read_only_program() };
    let program = match program {
        Ok(program) => program,
        Err(error) => return format!("make the own program unwritable: {error}"),
    };
    // In the host's user namespace, as in the engine's, this is the user 0, who keeps what there is.
    if !is_container && let Err(error) = sys::keep_capabilities_across_exec() {
        return format!("keep capabilities: {error}");
    }
    if let Err(error) = sys::place(spec.as_fd(), SPEC) {
        return format!("hand over the specification: {error}");
    }
    for number in [CHANNEL, super::HOP, super::LISTENER, super::LOG_FOLDER, super::LIFELINE] {
        if let Err(error) = sys::keep_across_exec(number) {
            return format!("hand over descriptor {number}: {error}");
        }
    }
    let mut own = vec![c"sinew".to_owned()];
    let texts = [COMMAND, INSIDE].into_iter().map(|text| CString::new(text).unwrap_or_default());
    own.extend(texts);
    own.extend(arguments.iter().map(|text| CString::new(text.as_bytes()).unwrap_or_default()));
    format!("execute the own program: {}", sys::execute_descriptor(program.as_fd(), &own))
}

/// The own program from a mount that nobody can write through: a process of the seal that executes `/proc/self/exe`, or
/// names it as interpreter, gets hold of this file as its own program, and root in the seal owns it on the host.
fn read_only_program() -> io::Result<OwnedFd> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    let running = File::open("/proc/self/exe")?;
    let path = fs::read_link("/proc/self/exe")?;
    match same_file(&path, &running) {
        Some(opened) => {
            let copy = sys::copy_tree(opened.as_fd())?;
            sys::restrict(copy.as_fd(), READ_ONLY | NO_SET_UID | NO_DEVICES, false)?;
            Ok(copy)
        }
        // The binary was replaced since it was started: the running one has no path. A frozen copy does as well.
        None => {
            let copy = sys::memory_file(c"sinew", true)?;
            io::copy(&mut &running, &mut File::from(copy.try_clone()?))?;
            sys::freeze(copy.as_fd())?;
            // A file that is open for writing anywhere cannot be executed.
            let read_only = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy)))?;
            drop(copy);
            Ok(read_only.into())
        }
    }
}

fn same_file(path: &Path, running: &File) -> Option<File> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).ok()?;
    let (found, wanted) = (opened.metadata().ok()?, running.metadata().ok()?);
    (found.dev() == wanted.dev() && found.ino() == wanted.ino()).then_some(opened)
}
