//! A proxy under test: started on its core, measured, stopped.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CPU_GROUPS: &str = "/sys/fs/cgroup/cpu";
const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(5);

/// This thread, and every process it starts from now on, runs on those cores alone.
pub fn pin(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pinning to cores {cores:?}"))
}

/// Waits; there is no event to wait for.
pub fn pause(time: Duration) {
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

/// Ended when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts `command` on `cores` and waits until it accepts on all of `addresses`.
    pub fn start(
        mut command: Command,
        cores: &[usize],
        addresses: &[SocketAddr],
        log: &Path,
    ) -> Result<Self> {
        let file = fs::File::create(log)?;
        pin(cores)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let mut running = Self { child };
        let began = Instant::now();
        for address in addresses {
            while TcpStream::connect(address).is_err() {
                let ended = running.child.try_wait()?;
                if ended.is_some() || began.elapsed() > START_MAX {
                    let log = fs::read_to_string(log).unwrap_or_default();
                    bail!("{} does not serve: {log}", command.get_program().display());
                }
                pause(Duration::from_millis(20));
            }
        }
        Ok(running)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        let _ = kill(pid, Signal::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < STOP_MAX {
            if let Ok(Some(_)) | Err(_) = self.child.try_wait() {
                return;
            }
            pause(Duration::from_millis(10));
        }
        // nginx is a master with workers: those end with it, or by its signal.
        for pid in tree(self.child.id()) {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// CPU time of processes with their children, all threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub total_us: f64,
    user_ticks: u64,
    system_ticks: u64,
}

impl Cpu {
    pub fn of(processes: &[Running]) -> Self {
        let mut cpu = Self::default();
        for pid in processes.iter().flat_map(|process| tree(process.id())) {
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let ns: u64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
                cpu.total_us += ns as f64 / 1e3;
            }
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
            let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            cpu.user_ticks += ticks(11);
            cpu.system_ticks += ticks(12);
        }
        cpu
    }

    pub fn since(self, before: Self) -> f64 {
        self.total_us - before.total_us
    }

    /// Of the time since `before`, the part that was spent outside of the kernel.
    pub fn user_share(self, before: Self) -> f64 {
        let user = (self.user_ticks - before.user_ticks) as f64;
        let system = (self.system_ticks - before.system_ticks) as f64;
        if user + system == 0.0 { 0.0 } else { user / (user + system) }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub pss_kib: u64,
    pub private_kib: u64,
}

impl Memory {
    pub fn of(processes: &[Running]) -> Self {
        let mut memory = Self::default();
        for pid in processes.iter().flat_map(|process| tree(process.id())) {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            for line in text.lines() {
                let kib = || line.split_ascii_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
                match line.split(':').next() {
                    Some("Pss") => memory.pss_kib += kib().unwrap_or(0),
                    Some("Private_Clean" | "Private_Dirty") => memory.private_kib += kib().unwrap_or(0),
                    _ => {}
                }
            }
        }
        memory
    }
}

/// How much of a core's time each thread may use, until this is dropped.
pub struct Bounds(Vec<PathBuf>);

/// Short, so that nobody waits long for the next one.
const PERIOD_US: u32 = 10_000;

impl Bounds {
    /// Of threads that are there now. Needs the cgroups of version 1, which hold threads, and the right to make some.
    pub fn set(processes: &[Running], percent: u32) -> Result<Self> {
        let mut bounds = Self(Vec::new());
        for pid in processes.iter().flat_map(|process| tree(process.id())) {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let name = task?.file_name();
                let group = Path::new(CPU_GROUPS).join(format!("sinew-bench-{}", name.display()));
                fs::create_dir(&group).with_context(|| format!("making {}", group.display()))?;
                bounds.0.push(group.clone());
                let quota_us = PERIOD_US * percent / 100;
                for (file, value) in [("cpu.cfs_period_us", PERIOD_US), ("cpu.cfs_quota_us", quota_us)] {
                    fs::write(group.join(file), value.to_string())?;
                }
                fs::write(group.join("tasks"), name.as_encoded_bytes())?;
            }
        }
        Ok(bounds)
    }
}

impl Drop for Bounds {
    fn drop(&mut self) {
        for group in &self.0 {
            // Threads that still run go back where they were.
            let threads = fs::read_to_string(group.join("tasks")).unwrap_or_default();
            for thread in threads.lines() {
                let _ = fs::write(Path::new(CPU_GROUPS).join("tasks"), thread);
            }
            let _ = fs::remove_dir(group);
        }
    }
}

/// A process and its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all = vec![pid];
    all.extend(children.split_ascii_whitespace().filter_map(|word| word.parse().ok()).flat_map(tree));
    all
}
