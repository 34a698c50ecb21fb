//! A Podman of the test's own, and images made of this host's programs.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::PATIENCE;
use crate::harness::{ORDINARY, User, mentioning, until, wait};

pub struct Podman {
    base: PathBuf,
    user: User,
    service: Child,
}

/// No more than the caller has: test machines may not raise limits, and have no systemd.
const SETTINGS: &str = r#"
[containers]
default_ulimits = []
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
exit_command_delay = 1
"#;

/// An ordinary user of the tests has no further users to give files to.
const STORAGE: &str = r#"
[storage]
driver = "overlay"
[storage.options.overlay]
ignore_chown_errors = "true"
"#;

impl Podman {
    pub fn start() -> Self {
        Self::start_as(User::Own)
    }

    /// Rootless when the user is an ordinary one.
    pub fn start_as(user: User) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = PathBuf::from(format!("/tmp/sp{}-{number}", std::process::id()));
        fs::create_dir_all(base.join("x")).expect("a folder for the engine");
        fs::write(base.join("containers.conf"), SETTINGS).expect("write");
        fs::write(base.join("storage.conf"), STORAGE).expect("write");
        if user == User::Ordinary {
            for path in [base.clone(), base.join("x")] {
                chown(&path, Some(ORDINARY), Some(ORDINARY)).expect("root may give files away");
            }
        }
        let mut command = command(&base, user);
        command.args(["system", "service", "-t", "0"]).arg(format!("unix://{}", base.join("s").display()));
        let log = fs::File::create(base.join("log")).expect("a log");
        let service = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let podman = Self { base, user, service: service.expect("podman starts") };
        until("the engine listens", PATIENCE, || {
            std::os::unix::net::UnixStream::connect(podman.socket()).ok().map(drop)
        });
        podman
    }

    /// What a program needs to find it besides its socket.
    pub fn runtime_folder(&self) -> PathBuf {
        self.base.join("x")
    }

    /// `localhost/<name>`: another image with an instruction of a Dockerfile more.
    pub fn image_from(&self, name: &str, other: &str, instruction: &str) {
        let folder = self.base.join(format!("build-{name}"));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("Dockerfile"), format!("FROM localhost/{other}\n{instruction}\n"))
            .expect("write");
        let (tag, folder) = (format!("localhost/{name}"), folder.display().to_string());
        self.run(&["build", "-q", "--format", "docker", "-t", &tag, &folder]);
    }
}

/// What tests need of an engine of their own.
pub trait Engine {
    fn base(&self) -> &Path;

    fn socket(&self) -> PathBuf {
        self.base().join("s")
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String;

    /// Takes an archive of files as an image.
    fn import(&self, archive: &str, tag: &str);

    /// Names of all that there are, running or not.
    fn containers(&self) -> Vec<String> {
        self.run(&["ps", "-a", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect()
    }

    /// `localhost/<name>`: busybox under all its names, users 0 and 1000 (`app`), and `programs` of this host with the
    /// libraries that they need.
    fn image(&self, name: &str, programs: &[&str]) {
        let root = self.base().join(format!("root-{name}"));
        for folder in ["bin", "etc", "tmp", "usr", "var/empty", "root"] {
            fs::create_dir_all(root.join(folder)).expect("folders of an image");
        }
        let for_all = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        fs::set_permissions(root.join("tmp"), for_all).expect("a folder for everybody, as images have it");
        let busybox =
            fs::read_link("/bin/busybox").map_or("/bin/busybox".into(), |link| Path::new("/bin").join(link));
        fs::copy(busybox, root.join("bin/busybox")).expect("busybox is installed");
        let listed = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs");
        for applet in String::from_utf8_lossy(&listed.stdout).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).expect("a name of busybox");
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n")
            .expect("write");
        fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\n").expect("write");
        for program in programs {
            add_program(&root, program);
        }
        self.pack(&root, name);
    }

    /// `localhost/<name>`: nothing but links to where `/usr` of the host is mounted.
    fn image_of_links(&self, name: &str) {
        let root = self.base().join(format!("root-{name}"));
        for folder in ["etc", "tmp", "usr", "run", "var"] {
            fs::create_dir_all(root.join(folder)).expect("folders of an image");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(link), root.join(link)).expect("a link");
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("write");
        self.pack(&root, name);
    }

    fn pack(&self, root: &Path, name: &str) {
        let archive = self.base().join(format!("{name}.tar"));
        let packed = Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg(".").status();
        assert!(packed.expect("tar runs").success());
        self.import(&archive.display().to_string(), &format!("localhost/{name}:latest"));
        fs::remove_dir_all(root).expect("it is there");
    }
}

impl Engine for Podman {
    fn base(&self) -> &Path {
        &self.base
    }

    fn run(&self, arguments: &[&str]) -> String {
        ran(command(&self.base, self.user).args(arguments))
    }

    fn import(&self, archive: &str, tag: &str) {
        self.run(&["import", "-q", archive, tag]);
    }
}

#[track_caller]
pub fn ran(command: &mut Command) -> String {
    let output = command.output().expect("the engine's client runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Drop for Podman {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("── the engine\n{}", fs::read_to_string(self.base.join("log")).unwrap_or_default());
        }
        let _ = command(&self.base, self.user).args(["rm", "-af", "-t", "0"]).output();
        let service = nix::unistd::Pid::from_raw(self.service.id() as i32);
        let _ = nix::sys::signal::kill(service, nix::sys::signal::Signal::SIGTERM);
        if wait(&mut self.service, PATIENCE).is_none() {
            let _ = self.service.kill();
        }
        clear(&self.base);
    }
}

/// Ends whatever belongs to an engine's folder, and removes it with its mounts. An ordinary user's engine is two processes
/// and one that holds the namespaces; and of every engine, some come a second after a container or a command in it has
/// ended: they mount the storage again.
fn clear(base: &Path) {
    let mark = base.display().to_string();
    // With what comes after it: `/tmp/sp1-1` is not `/tmp/sp1-10`.
    let marks = ["/", "\0"].map(|end| format!("{mark}{end}"));
    let began = std::time::Instant::now();
    while began.elapsed() < PATIENCE {
        let left = mentioning(&marks.each_ref().map(String::as_str));
        for (pid, _) in &left {
            let pid = nix::unistd::Pid::from_raw(*pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let mut points: Vec<&str> = points.filter(|point| point.starts_with(&marks[0])).collect();
        // The inner ones lie behind.
        points.reverse();
        for point in &points {
            let _ = nix::mount::umount2(*point, nix::mount::MntFlags::MNT_DETACH);
        }
        // Never through a mount, which may be a folder of somebody else.
        if left.is_empty() && points.is_empty() {
            let _ = fs::remove_dir_all(base);
            if !base.exists() {
                return;
            }
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    eprintln!("{mark} could not be removed: {:?}", mentioning(&marks.each_ref().map(String::as_str)));
}

/// Folders of test runs that are over, or were killed.
fn sweep() {
    for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix("sp")?.split_once('-'));
        let pid = run.and_then(|(pid, _)| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            clear(&entry.path());
        }
    }
}

fn command(base: &Path, user: User) -> Command {
    let mut command = Command::new("podman");
    command
        .env("CONTAINERS_CONF", base.join("containers.conf"))
        .env_remove("CONTAINER_HOST")
        .current_dir(base)
        .arg("--root")
        .arg(base.join("g"))
        .arg("--runroot")
        .arg(base.join("r"));
    if user == User::Ordinary {
        command
            .env("CONTAINERS_STORAGE_CONF", base.join("storage.conf"))
            .env("HOME", base)
            .env("XDG_RUNTIME_DIR", base.join("x"))
            .uid(ORDINARY)
            .gid(ORDINARY);
    } else {
        command.arg("--tmpdir").arg(base.join("t"));
    }
    command.args(["--runtime", "runc"]);
    command
}

fn add_program(root: &Path, program: &str) {
    let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(|folder| Path::new(folder).join(program));
    let found = found.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{program} is installed"));
    copy(root, found, &Path::new("/bin").join(program));
    let listed = Command::new("ldd").arg(found).output().expect("ldd runs");
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let library = line.split_whitespace().find(|word| word.starts_with('/'));
        if let Some(library) = library.map(Path::new) {
            copy(root, library, library);
        }
    }
}

fn copy(root: &Path, from: &Path, to: &Path) {
    let to = root.join(to.strip_prefix("/").expect("an absolute path"));
    fs::create_dir_all(to.parent().expect("it lies in a folder")).expect("folders of an image");
    fs::copy(from, to).expect("copy a file of this host");
}
