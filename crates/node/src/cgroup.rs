//! Resource limits: one cgroup per instance, at `sinew/<application>/<instance>` of each controller that limits it. What
//! the application is called there is `folders::Folders::cgroup`.
//! Both versions are spoken, as hosts mix them: a controller belongs either to the one tree of version 2 or to a
//! hierarchy of its own. What cannot be limited is an error that says what to do; nothing is left out silently.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{AccessFlags, access, geteuid};
use sinew_spec::application::Limits;

#[cfg(test)]
mod tests;

const TOP: &str = "sinew";
/// Of the scheduler; the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel gives up a killed process's cgroup a little after its death.
const REMOVE_MS_MAX: u64 = 2_000;
const REMOVE_RETRY_MS: u64 = 5;
const MAKE_TRIES_MAX: u32 = 100;

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("{wanted} cannot be limited here: {reason}; {hint}")]
    Impossible { wanted: &'static str, reason: String, hint: &'static str },
    #[error("{attempted} {path}: {source}")]
    Io { attempted: &'static str, path: PathBuf, source: io::Error },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    Cpu,
    Memory,
    Pids,
}

impl Controller {
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];

    /// As the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }

    /// As the compose file calls what it limits.
    fn limits(self) -> &'static str {
        match self {
            Self::Cpu => "CPU time (deploy.resources.limits.cpus)",
            Self::Memory => "memory (deploy.resources.limits.memory)",
            Self::Pids => "the number of processes (deploy.resources.limits.pids)",
        }
    }

    /// What the file says.
    fn stated(self, limits: &Limits) -> Option<u64> {
        match self {
            Self::Cpu => limits.cpu_milli,
            Self::Memory => limits.memory_bytes,
            Self::Pids => limits.pids,
        }
    }

    fn wanted(self, limits: &Limits) -> Option<u64> {
        match self {
            Self::Pids => limits.pids_max(),
            _ => self.stated(limits),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Home {
    /// A hierarchy of its own, in which `sinew` is made in this folder.
    Own(PathBuf),
    /// The tree of version 2, in which `sinew` is made in this folder.
    Unified(PathBuf),
    Nowhere {
        reason: String,
        hint: &'static str,
    },
}

/// Where each controller can be used by this process.
#[derive(Clone, Debug)]
pub struct Cgroups {
    homes: BTreeMap<Controller, Home>,
}

const HINT_DELEGATE: &str = "run as root, or where systemd delegates: \
     `systemd-run --user --scope -p Delegate=yes sinew up`, or take the limit out of the file";
const HINT_KERNEL: &str = "enable the controller (kernel command line `cgroup_enable=memory` on a Raspberry Pi), or take the limit out of \
     the file";

impl Cgroups {
    /// Looks at this host, as the user who asks.
    pub fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::of(&mounts, &own, geteuid().is_root())
    }

    fn of(mounts: &str, own: &str, root: bool) -> Self {
        let mounts = Mounts::parse(mounts);
        let homes = Controller::ALL.map(|controller| (controller, mounts.home(controller, own, root)));
        Self { homes: homes.into_iter().collect() }
    }

    #[cfg(test)]
    pub fn nowhere() -> Self {
        Self::of("", "", false)
    }

    /// Whether instances can be limited as the file states it. A default that cannot hold is no error.
    pub fn check(&self, limits: &Limits) -> Result<(), CgroupError> {
        for controller in Controller::ALL {
            if controller.stated(limits).is_some() {
                self.check_controller(controller)?;
            }
        }
        Ok(())
    }

    pub fn check_controller(&self, controller: Controller) -> Result<(), CgroupError> {
        match &self.homes[&controller] {
            Home::Own(_) | Home::Unified(_) => Ok(()),
            Home::Nowhere { reason, hint } => {
                Err(CgroupError::Impossible { wanted: controller.limits(), reason: reason.clone(), hint })
            }
        }
    }

    /// Which version a controller is used in: 1, 2, or not at all.
    pub fn version(&self, controller: Controller) -> Option<u8> {
        match &self.homes[&controller] {
            Home::Own(_) => Some(1),
            Home::Unified(_) => Some(2),
            Home::Nowhere { .. } => None,
        }
    }

    /// Makes the cgroups of an instance, one folder per hierarchy (`SealSpec::cgroups`). Cgroups that are there already
    /// get the limits. A limit whose controller cannot be used here is left out: [`Cgroups::check`] has been asked
    /// before, and the number of processes has another bound (`processes`).
    pub fn create(
        &self,
        application: &str,
        instance: &str,
        limits: &Limits,
    ) -> Result<Vec<PathBuf>, CgroupError> {
        let mut folders = Vec::new();
        for controller in Controller::ALL {
            let Some(value) = controller.wanted(limits) else { continue };
            match self.limit(application, instance, controller, value) {
                Ok(Some(folder)) if !folders.contains(&folder) => folders.push(folder),
                Ok(_) => {}
                // Nobody asked for it, so nothing fails for it.
                Err(_) if controller.stated(limits).is_none() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(folders)
    }

    /// The folder in which it holds.
    fn limit(
        &self,
        application: &str,
        instance: &str,
        controller: Controller,
        value: u64,
    ) -> Result<Option<PathBuf>, CgroupError> {
        let (folder, unified) = match &self.homes[&controller] {
            Home::Own(base) => (make_own(base, application, instance)?, false),
            Home::Unified(base) => (make_unified(base, application, instance, controller)?, true),
            Home::Nowhere { .. } => return Ok(None),
        };
        set_limit(&folder, controller, unified, value)?;
        Ok(Some(folder))
    }

    /// Kills what is in the cgroups of an instance and removes them, and those above that became empty. Without any it
    /// does nothing.
    pub async fn remove(&self, application: &str, instance: &str) -> Result<(), CgroupError> {
        for base in self.bases() {
            let application = base.join(TOP).join(application);
            remove_folder(&application.join(instance)).await?;
            // Not empty: others are there.
            let _ = fs::remove_dir(&application);
            let _ = fs::remove_dir(base.join(TOP));
        }
        Ok(())
    }

    /// Kills what is in any cgroup of an application and removes them all: for what a launcher that died left behind.
    pub async fn remove_application(&self, application: &str) -> Result<(), CgroupError> {
        for instance in self.instances(application) {
            self.remove(application, &instance).await?;
        }
        Ok(())
    }

    /// The instances of an application that have cgroups.
    pub fn instances(&self, application: &str) -> Vec<String> {
        let mut names = Vec::new();
        for base in self.bases() {
            let entries = fs::read_dir(base.join(TOP).join(application)).into_iter().flatten().flatten();
            let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            names.extend(folders.filter_map(|entry| entry.file_name().into_string().ok()));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Bytes charged to an instance, page cache among them. `None`: its memory is not limited, so not counted.
    pub fn memory_bytes(&self, application: &str, instance: &str) -> Option<u64> {
        let (base, file) = match &self.homes[&Controller::Memory] {
            Home::Own(base) => (base, "memory.usage_in_bytes"),
            Home::Unified(base) => (base, "memory.current"),
            Home::Nowhere { .. } => return None,
        };
        let path = base.join(TOP).join(application).join(instance).join(file);
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    fn bases(&self) -> Vec<&Path> {
        let mut bases: Vec<&Path> = Vec::new();
        for home in self.homes.values() {
            if let Home::Own(base) | Home::Unified(base) = home
                && !bases.contains(&base.as_path())
            {
                bases.push(base);
            }
        }
        bases
    }
}

/// The mounted hierarchies.
struct Mounts {
    /// Mount point and options of the super block.
    own: Vec<(PathBuf, String)>,
    unified: Option<PathBuf>,
}

impl Mounts {
    /// proc_pid_mountinfo(5): mount point in field 5, after ` - ` type, source and options of the super block.
    fn parse(text: &str) -> Self {
        let mut mounts = Self { own: Vec::new(), unified: None };
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            match (right.next(), right.nth(1)) {
                (Some("cgroup"), Some(options)) => mounts.own.push((point.into(), options.to_owned())),
                (Some("cgroup2"), _) => mounts.unified = Some(point.into()),
                _ => {}
            }
        }
        mounts
    }

    fn home(&self, controller: Controller, own: &str, root: bool) -> Home {
        let name = controller.name();
        if let Some((point, _)) = self.own.iter().find(|(_, options)| options.split(',').any(|o| o == name)) {
            let place = if root { point.clone() } else { below(point, own_path(own, name)) };
            return if writable(&place) {
                Home::Own(place)
            } else {
                nowhere("the cgroups of this host are version 1 and belong to root", HINT_DELEGATE)
            };
        }
        let Some(point) = &self.unified else {
            return nowhere(
                "no cgroup file system is mounted",
                "mount one at /sys/fs/cgroup, or take the limit out",
            );
        };
        if !controllers(point).iter().any(|found| found == name) {
            return nowhere(
                &format!("the kernel does not offer the cgroup controller `{name}`"),
                HINT_KERNEL,
            );
        }
        if root {
            return Home::Unified(point.clone());
        }
        // The highest folder above this process that was given to this user: processes can be moved only below one.
        let own = below(point, own_path(own, ""));
        let given =
            own.ancestors().take_while(|folder| folder.starts_with(point) && delegated(folder)).last();
        match given {
            None => nowhere("no cgroup is delegated to this user", HINT_DELEGATE),
            Some(folder) if controllers(folder).iter().any(|found| found == name) => {
                Home::Unified(folder.to_path_buf())
            }
            Some(_) => {
                nowhere(&format!("the controller `{name}` is not delegated to this user"), HINT_DELEGATE)
            }
        }
    }
}

fn nowhere(reason: &str, hint: &'static str) -> Home {
    Home::Nowhere { reason: reason.to_owned(), hint }
}

/// Of `/proc/self/cgroup`: lines `number:controllers:path`; version 2 has no controllers there.
fn own_path<'a>(text: &'a str, controller: &str) -> &'a str {
    let lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let mut matching = lines.filter(|(names, _)| names.split(',').any(|name| name == controller));
    matching.next().map_or("/", |(_, path)| path)
}

fn below(point: &Path, path: &str) -> PathBuf {
    let path = path.trim_start_matches('/');
    if path.is_empty() { point.to_path_buf() } else { point.join(path) }
}

fn writable(folder: &Path) -> bool {
    access(folder, AccessFlags::W_OK).is_ok()
}

fn delegated(folder: &Path) -> bool {
    writable(folder)
        && writable(&folder.join("cgroup.procs"))
        && writable(&folder.join("cgroup.subtree_control"))
}

fn controllers(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn make_own(base: &Path, application: &str, instance: &str) -> Result<PathBuf, CgroupError> {
    let folder = base.join(TOP).join(application).join(instance);
    again_when_missing(|| fs::create_dir_all(&folder))
        .map_err(|source| failed("making cgroup", &folder, source))?;
    Ok(folder)
}

/// In version 2 a controller is switched on level by level.
fn make_unified(
    base: &Path,
    application: &str,
    instance: &str,
    controller: Controller,
) -> Result<PathBuf, CgroupError> {
    let folder = base.join(TOP).join(application).join(instance);
    let mut attempted = ("making cgroup", folder.clone());
    let made = again_when_missing(|| {
        let mut level = base.to_path_buf();
        for name in [TOP, application, instance] {
            attempted = ("switching a controller on in", level.clone());
            enable(&level, controller, base)?;
            level.push(name);
            attempted = ("making cgroup", level.clone());
            match fs::create_dir(&level) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        Ok(())
    });
    made.map_err(|source| failed(attempted.0, &attempted.1, source))?;
    Ok(folder)
}

/// The folders above an instance's are taken away with the last one below them, at any moment, also by launchers of
/// other applications.
fn again_when_missing(mut make: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 1..MAKE_TRIES_MAX {
        match make() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => return made,
        }
    }
    make()
}

fn enable(folder: &Path, controller: Controller, base: &Path) -> io::Result<()> {
    let file = folder.join("cgroup.subtree_control");
    let text = format!("+{}", controller.name());
    match fs::write(&file, &text) {
        // A folder with processes cannot have limited ones below it. When it is ours alone, we step aside.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) && folder == base => {
            let aside = folder.join("sinew-launcher");
            fs::create_dir_all(&aside)
                .and_then(|()| fs::write(aside.join("cgroup.procs"), "0"))
                .and_then(|()| fs::write(&file, &text))
        }
        written => written,
    }
}

fn set_limit(folder: &Path, controller: Controller, unified: bool, value: u64) -> Result<(), CgroupError> {
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        fs::write(&file, text).map_err(|source| failed("limiting by", &file, source))
    };
    let quota = (value * CPU_PERIOD_US / 1000).max(1000);
    match (controller, unified) {
        (Controller::Cpu, false) => {
            write("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
            write("cpu.cfs_quota_us", quota.to_string())
        }
        (Controller::Cpu, true) => write("cpu.max", format!("{quota} {CPU_PERIOD_US}")),
        (Controller::Memory, false) => {
            // Memory and swap together may never be below memory alone: the order depends on the direction.
            let swap = folder.join("memory.memsw.limit_in_bytes");
            let _ = fs::write(&swap, value.to_string());
            write("memory.limit_in_bytes", value.to_string())?;
            // Absent where the kernel does not account for swap.
            if swap.exists() { write("memory.memsw.limit_in_bytes", value.to_string()) } else { Ok(()) }
        }
        (Controller::Memory, true) => {
            write("memory.max", value.to_string())?;
            if folder.join("memory.swap.max").exists() {
                write("memory.swap.max", "0".to_owned())
            } else {
                Ok(())
            }
        }
        (Controller::Pids, _) => write("pids.max", value.to_string()),
    }
}

async fn remove_folder(folder: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + Duration::from_millis(REMOVE_MS_MAX);
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                kill_in(folder)
            }
            Err(source) => return Err(failed("removing cgroup", folder, source)),
        }
        // Nothing tells when a cgroup has become empty in version 1.
        tokio::time::sleep(Duration::from_millis(REMOVE_RETRY_MS)).await;
    }
}

fn kill_in(folder: &Path) {
    if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let pids = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 1) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

fn failed(attempted: &'static str, path: &Path, source: io::Error) -> CgroupError {
    CgroupError::Io { attempted, path: path.to_path_buf(), source }
}
