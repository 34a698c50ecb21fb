//! The same with Docker, whose containers join a network that another container holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::engine::ran;
use super::*;
use crate::harness::wait;

/// A Docker of the test's own.
struct Docker {
    base: PathBuf,
    /// Of all its containers.
    cgroup: String,
    service: Child,
}

impl Docker {
    fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("sinew-docker-{}-{number}", std::process::id());
        let base = PathBuf::from(format!("/tmp/sd{}-{number}", std::process::id()));
        fs::create_dir_all(&base).expect("a folder for the engine");
        let place = |name: &str| base.join(name).display().to_string();
        let log = fs::File::create(base.join("log")).expect("a log");
        let service = Command::new("dockerd")
            .args(["--host", &format!("unix://{}", place("s")), "--data-root", &place("d")])
            .args(["--exec-root", &place("e"), "--pidfile", &place("pid"), "--storage-driver", "vfs"])
            // Nothing of the host's network is its business.
            .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"])
            .args(["--bridge=none", "--cgroup-parent", &format!("/{cgroup}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("dockerd is installed");
        let docker = Self { base, cgroup, service };
        until("the engine answers", PATIENCE, || {
            docker.client(&["version"]).output().is_ok_and(|output| output.status.success()).then_some(())
        });
        docker
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display())).args(arguments);
        // Settings of whoever runs the tests.
        command.env("DOCKER_CONFIG", &self.base);
        command
    }

    fn sandbox(&self, name: &str) -> Sandbox {
        let mut sandbox = Sandbox::new(User::Own, name);
        sandbox.environment.push(("DOCKER_HOST", format!("unix://{}", self.socket().display())));
        sandbox
    }
}

impl Engine for Docker {
    fn base(&self) -> &Path {
        &self.base
    }

    fn run(&self, arguments: &[&str]) -> String {
        ran(&mut self.client(arguments))
    }

    fn import(&self, archive: &str, tag: &str) {
        self.run(&["import", archive, tag]);
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("── the engine\n{}", fs::read_to_string(self.base.join("log")).unwrap_or_default());
        }
        let listed = self.client(&["ps", "-aq"]).output();
        let all =
            listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        for container in all.split_whitespace() {
            let _ = self.client(&["rm", "-fv", container]).output();
        }
        let service = nix::unistd::Pid::from_raw(self.service.id() as i32);
        let _ = nix::sys::signal::kill(service, nix::sys::signal::Signal::SIGTERM);
        if wait(&mut self.service, PATIENCE).is_none() {
            let _ = self.service.kill();
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut below: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        below.retain(|place| Path::new(place).starts_with(&self.base));
        // What was mounted last may lie in what was mounted before.
        for place in below.into_iter().rev() {
            let _ = nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_dir_all(&self.base);
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(controller.path().join(&self.cgroup));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.cgroup));
    }
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

#[test]
fn docker_seals_like_podman() {
    // An ordinary user is refused in words: nobody but root makes Docker's networks ready.
    if !is_root() {
        return;
    }
    let docker = Docker::start();
    sealed::hostile_gets_nowhere(&docker, docker.sandbox("hostile"));
    sealed::keys_do_what_they_say(&docker, &docker.sandbox("keys"));
}

#[test]
fn containers_of_docker_are_in_the_mesh_and_stay_there() {
    if !is_root() {
        return;
    }
    let docker = Docker::start();
    docker.image("busy", &[]);
    let sandbox = docker.sandbox("docked");
    sandbox.write("compose.yaml", &MIXED.replace("NAME: engine }", "NAME: engine }\n    restart: always"));
    sandbox.write("page.txt", "from a process\n");
    sandbox.sinew(&["up", "-d"]).ok();
    let serves = || {
        let asked = sandbox.sinew(&["exec", "process", "--", "curl", "-s", "http://web:8000/"]);
        (asked.stdout == "hello engine\n").then_some(())
    };
    until("a process calls a container", PATIENCE, serves);
    until("a container calls a container and a process", PATIENCE, || {
        let logs = sandbox.sinew(&["logs", "--no-prefix", "ask"]).stdout;
        logs.contains("hello engine\nfrom a process").then_some(())
    });
    assert_eq!(sandbox.sinew(&["exec", "web", "--", "sh", "-c", "echo $NAME; exit 7"]).code, 7);
    // Its network has IPv6 as others have, and a way to nowhere.
    let asked = sandbox.sinew(&["exec", "web", "--", "ip", "-6", "addr", "show", "lo"]).ok().stdout;
    assert!(asked.contains("::1/128"), "{asked}");
    assert_ne!(sandbox.sinew(&["exec", "web", "--", "nc", "-w", "2", "192.0.2.1", "80"]).code, 0);

    // Whoever holds its network dies, and the container with it: another one comes, with another network.
    let named = |end: &str| {
        let all = docker.containers();
        all.into_iter().find(|name| name.contains("web") && name.ends_with(end)).expect("it runs")
    };
    let holder = named("-network");
    let container = holder.strip_suffix("-network").expect("it ends so").to_owned();
    docker.run(&["kill", &holder]);
    docker.run(&["kill", &container]);
    until("another one has come", PATIENCE, || {
        let all = docker.containers();
        let is_new = |name: &String| name.contains("web") && !name.starts_with(&container);
        (all.iter().any(is_new) && !all.contains(&holder)).then_some(())
    });
    until("and serves", PATIENCE, serves);

    sandbox.sinew(&["down"]).ok();
    assert_eq!(docker.containers(), Vec::<String>::new());
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
