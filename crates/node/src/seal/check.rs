//! What this host can do for seals, and what to do where it cannot.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::geteuid;
use sinew_spec::seal::{InitRequest, SealSpec};
use sinew_transport::descriptors::listen_at;
use sinew_transport::seal::InitClient;

use super::{SpawnFiles, spawn};
use crate::cgroup::{Cgroups, Controller};
use crate::processes;

/// mount_setattr(2) and pidfds that can be waited for.
const KERNEL_LEAST: (u32, u32) = (5, 12);
/// Of a gateway with a thousand connections, each with one to a sidecar.
const FILES_LEAST: u64 = 4096;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub what: String,
    /// False: something that applications may need does not work here.
    pub ok: bool,
    pub detail: String,
    /// What to do when it is missing.
    pub hint: Option<String>,
}

/// Looks at everything, and builds a seal and ends it: no flag of a kernel says as much. `program`: the binary
/// ([`super::own_program`], but in tests); `folder`: where a private folder
/// is made for it, such as the run folder, or `/tmp`.
pub async fn check(program: &Path, folder: &Path) -> Vec<Finding> {
    let mut findings = vec![kernel(), namespaces()];
    let seal = seal(program, folder).await;
    // Its message says which part is missing; the parts are not repeated when all of it works.
    findings.push(seal);
    let cgroups = Cgroups::detect();
    findings.extend(Controller::ALL.map(|controller| limit(&cgroups, controller)));
    findings.push(users());
    findings.push(files());
    findings
}

fn finding(what: &str, ok: bool, detail: String, hint: &str) -> Finding {
    Finding { what: what.to_owned(), ok, detail, hint: (!ok).then(|| hint.to_owned()) }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (major, minor) = KERNEL_LEAST;
    finding(
        "kernel",
        processes::kernel_version() >= KERNEL_LEAST,
        release.trim().to_owned(),
        &format!("Linux {major}.{minor} is needed"),
    )
}

fn namespaces() -> Finding {
    let mut none = Vec::new();
    for kind in ["user", "pid", "net", "mnt", "ipc", "uts", "cgroup"] {
        let limit = fs::read_to_string(format!("/proc/sys/user/max_{kind}_namespaces"));
        if limit.is_ok_and(|limit| limit.trim() == "0") {
            none.push(format!("user.max_{kind}_namespaces"));
        }
    }
    for (path, refusing) in
        [("kernel/unprivileged_userns_clone", "0"), ("kernel/apparmor_restrict_unprivileged_userns", "1")]
    {
        let set = fs::read_to_string(Path::new("/proc/sys").join(path));
        if !geteuid().is_root() && set.is_ok_and(|value| value.trim() == refusing) {
            none.push(path.replace('/', "."));
        }
    }
    if none.is_empty() {
        return finding("namespaces", true, "not restricted".to_owned(), "");
    }
    let hint = format!("set {} as root: `sysctl -w`, and in /etc/sysctl.d to keep it", none.join(", "));
    finding("namespaces", false, format!("restricted by {}", none.join(", ")), &hint)
}

async fn seal(program: &Path, folder: &Path) -> Finding {
    let start = Instant::now();
    let place = folder.join(format!("check-{}", std::process::id()));
    let built = build(program, &place).await;
    let _ = fs::remove_dir_all(&place);
    match built {
        Ok(()) => {
            let detail = format!(
                "namespaces, mounts, nftables (redirect, log, reject) and socket passing work: a seal was built and \
                 ended in {} ms",
                start.elapsed().as_millis()
            );
            finding("seal", true, detail, "")
        }
        Err(reason) => finding(
            "seal",
            false,
            reason,
            "`sinew up --posture explicit` runs without seals (docs/postures.md says what that loses); docs/seal.md says what each part of one needs",
        ),
    }
}

async fn build(program: &Path, place: &Path) -> Result<(), String> {
    let failed = |what: &'static str| move |e: std::io::Error| format!("{what} in {}: {e}", place.display());
    fs::DirBuilder::new().mode(0o700).create(place).map_err(failed("make a folder"))?;
    let path = place.join("control.sock");
    let hop = std::os::unix::net::UnixListener::bind(&path).map_err(failed("make a Unix socket"))?;
    let init = listen_at(&place.join("init.sock")).map_err(failed("make a Unix socket"))?;
    let log_folder = fs::File::open(place).map_err(failed("open the folder"))?;
    // Its writing end goes with this function: whatever happens, the seal ends.
    let (lifeline, _life) = std::io::pipe().map_err(failed("make a pipe"))?;
    let spec = SealSpec {
        hostname: "check".to_owned(),
        mounts: Vec::new(),
        writable: Vec::new(),
        masked: Vec::new(),
        shown: Vec::new(),
        tmpfs: Vec::new(),
        files: Vec::new(),
        devices: Vec::new(),
        egress: Vec::new(),
        hosts: "127.0.0.1 localhost\n".to_owned(),
        map_all_users: geteuid().is_root(),
        lifeline: true,
        log_bytes_max: 4096,
        cgroups: Vec::new(),
        explicit: false,
        container: None,
    };
    let title = place.to_string_lossy();
    let files = SpawnFiles {
        program,
        title: &title,
        hop_listener: hop.as_fd(),
        init_listener: init.as_fd(),
        log_folder: log_folder.as_fd(),
        lifeline: Some(lifeline.as_fd()),
    };
    let seal = spawn(&spec, files).await.map_err(|e| e.to_string())?;
    let client = InitClient::connect(&place.join("init.sock")).await.map_err(|e| e.to_string())?;
    client.standing_sockets().await.map_err(|e| e.to_string())?;
    client.tell(&InitRequest::Shutdown).await.map_err(|e| e.to_string())?;
    seal.wait().await.map_err(|e| e.to_string())?;
    Ok(())
}

fn limit(cgroups: &Cgroups, controller: Controller) -> Finding {
    let what = format!("limits: {}", controller.name());
    let user = geteuid().as_raw();
    if controller == Controller::Pids && cgroups.version(controller).is_none() && processes::holds_user(user)
    {
        let detail = "by RLIMIT_NPROC, which each seal counts for itself".to_owned();
        return finding(&what, true, detail, "");
    }
    match (cgroups.check_controller(controller), cgroups.version(controller)) {
        (Ok(()), Some(version)) => finding(&what, true, format!("cgroup version {version}"), ""),
        (Ok(()), None) => finding(&what, true, "possible".to_owned(), ""),
        (Err(error), _) => {
            let text = error.to_string();
            let (detail, hint) = text.rsplit_once("; ").unwrap_or((&text, ""));
            finding(&what, false, detail.to_owned(), hint)
        }
    }
}

fn users() -> Finding {
    if geteuid().is_root() {
        return finding("users", true, "services can run as any user (`user:`)".to_owned(), "");
    }
    finding(
        "users",
        false,
        "services run as you; `user:` with somebody else is refused".to_owned(),
        "only root can start services as other users: run `sinew up` as root where a file says `user:`",
    )
}

fn files() -> Finding {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    let detail = format!("{soft} open files per process, at most {hard}");
    finding(
        "open files",
        hard >= FILES_LEAST,
        detail,
        &format!("raise the hard limit to {FILES_LEAST}: `ulimit -Hn`"),
    )
}
