//! A new user's folder: the real binary, as root or as an ordinary user, and what it leaves behind.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sinew_node::folders::{Bases, Folders};

/// `nobody`, who owns nothing and may delegate nothing.
pub const ORDINARY: u32 = 65534;
/// A command that takes longer is a failure of its own.
const COMMAND_SECONDS_MAX: u64 = 90;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Own,
    /// An ordinary user, started by root.
    Ordinary,
}

/// Both when root runs the tests, else the one there is.
pub fn users() -> Vec<User> {
    if nix::unistd::geteuid().is_root() { vec![User::Own, User::Ordinary] } else { vec![User::Own] }
}

pub struct Sandbox {
    pub user: User,
    pub folder: PathBuf,
    /// Variables of every command besides.
    pub environment: Vec<(&'static str, String)>,
    base: PathBuf,
}

pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("not JSON ({e}):\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }
}

impl Sandbox {
    /// An empty folder `name`, which is also what the application is called.
    pub fn new(user: User, name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Short: the paths of Unix sockets below it have 108 bytes.
        let base = PathBuf::from(format!("/tmp/sn{}-{number}", std::process::id()));
        let sandbox = Self { user, folder: base.join(name), environment: Vec::new(), base };
        for folder in [&sandbox.base, &sandbox.folder, &sandbox.run(), &sandbox.state(), &sandbox.home()] {
            fs::create_dir(folder).unwrap_or_else(|e| panic!("make {}: {e}", folder.display()));
            sandbox.own(folder);
        }
        sandbox
    }

    pub fn run(&self) -> PathBuf {
        self.base.join("r")
    }

    pub fn state(&self) -> PathBuf {
        self.base.join("s")
    }

    pub fn home(&self) -> PathBuf {
        self.base.join("h")
    }

    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let file = self.folder.join(path);
        let parent = file.parent().expect("a file lies in a folder");
        fs::create_dir_all(parent).expect("make the file's folder");
        self.own(parent);
        fs::write(&file, text).expect("write a file of the test");
        self.own(&file);
        file
    }

    pub fn own(&self, path: &Path) {
        if self.user == User::Ordinary {
            chown(path, Some(ORDINARY), Some(ORDINARY)).expect("root may give files away");
        }
    }

    /// The binary with `arguments`, in the folder, as the user, with run and state folders of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.home())
            .env("SINEW_RUN_DIR", self.run())
            .env("SINEW_STATE_DIR", self.state())
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if self.user == User::Ordinary {
            command.uid(ORDINARY).gid(ORDINARY);
        }
        command
    }

    /// Runs to its end.
    pub fn sinew(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, &[])
    }

    /// The same with further variables of the environment.
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
        let mut child = self
            .command(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the binary under test");
        let mut stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        let output = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let code = wait(&mut child, Duration::from_secs(COMMAND_SECONDS_MAX)).unwrap_or_else(|| {
            panic!("`sinew {}` did not end in {COMMAND_SECONDS_MAX} s", arguments.join(" "))
        });
        let text = |reader: std::thread::JoinHandle<std::io::Result<String>>| {
            reader.join().expect("the reader does not panic").expect("the output is text")
        };
        Done { code, stdout: text(output), stderr: text(errors) }
    }

    /// Processes of this sandbox that live now: "pid command line".
    pub fn processes(&self) -> Vec<(i32, String)> {
        let marks = [self.run(), self.state()].map(|p| p.display().to_string());
        self.mentioning(&[&marks[0], &marks[1]])
    }

    /// Processes with one of `marks` in their arguments or their environment.
    pub fn mentioning(&self, marks: &[&str]) -> Vec<(i32, String)> {
        mentioning(marks)
    }

    /// Everything that must not outlive `down`: processes, mounts, cgroups, files in the run folder.
    pub fn left_over(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.processes().into_iter().map(|(pid, line)| format!("process {pid}: {line}")).collect();
        let base = self.base.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read the mounts");
        left.extend(mounts.lines().filter(|line| line.contains(&base)).map(|line| format!("mount {line}")));
        left.extend(self.cgroups().into_iter().map(|path| format!("cgroup {path}")));
        left.extend(files(&self.run()).into_iter().map(|path| format!("file {}", path.display())));
        left
    }

    fn cgroups(&self) -> Vec<String> {
        let application = self.folder.file_name().unwrap_or_default().to_string_lossy();
        let bases = Bases { run: self.run(), state: self.state() };
        let name = Folders::new(&bases, &application.as_ref().into()).cgroup();
        cgroups(Path::new("/sys/fs/cgroup"), &name, 6)
    }

    /// Of a test that ended without `down`. They are empty a moment after their processes were killed.
    fn remove_cgroups(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let began = Instant::now();
        loop {
            let left = self.cgroups();
            for folder in &left {
                let inner = fs::read_dir(folder).into_iter().flatten().flatten();
                for entry in inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                    let _ = fs::remove_dir(entry.path());
                }
                let _ = fs::remove_dir(folder);
            }
            if left.is_empty() || began.elapsed() > PATIENCE {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        if std::thread::panicking() {
            for log in files(&self.run()).iter().filter(|path| path.to_string_lossy().contains("log")) {
                let text = fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(20).collect();
                eprintln!("── {}", log.display());
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        self.remove_cgroups();
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// `SINEW_TEST_BINARY` names another build, so that a release can be judged by the same scenarios.
fn tested() -> PathBuf {
    std::env::var_os("SINEW_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_sinew").into(), PathBuf::from)
}

pub fn is_release() -> bool {
    std::env::var_os("SINEW_TEST_BINARY").is_some()
}

/// The binary where every user can execute it: the build folder may lie in a home directory.
pub fn binary() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let folder = PathBuf::from(format!("/tmp/snbin{}", std::process::id()));
        sweep();
        fs::create_dir_all(&folder).expect("make a folder for the binary");
        let copy = folder.join("sinew");
        // By another process: a fork of a test in between would keep our descriptor for writing, and "text file busy".
        let done = Command::new("cp").arg(tested()).arg(&copy).status().expect("run cp");
        assert!(done.success(), "copy the binary under test: {done}");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("make it executable");
        copy
    })
}

/// Binaries of test runs that are over.
fn sweep() {
    for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("snbin")?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// `None`: it did not end in time and was killed.
pub fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if receiver.recv_timeout(limit).is_err() {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            return false;
        }
        true
    });
    let status = child.wait().expect("wait for a child");
    let _ = sender.send(());
    let in_time = watch.join().expect("the watch does not panic");
    in_time.then(|| status.code().unwrap_or(-1))
}

/// Asks again until `ask` gives something; panics with `what` after `limit`. For states that announce themselves to nobody.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Processes with one of `marks` in their arguments or their environment: "pid command line".
pub fn mentioning(marks: &[&str]) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("read /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let (line, environment) = (String::from_utf8_lossy(&line), String::from_utf8_lossy(&environment));
        if !line.is_empty() && marks.iter().any(|mark| line.contains(*mark) || environment.contains(*mark)) {
            found.push((pid, line.replace('\0', " ")));
        }
    }
    found
}

fn cgroups(folder: &Path, name: &str, depth: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            if path.components().any(|c| c.as_os_str() == "sinew") && path.ends_with(name) {
                found.push(path.display().to_string());
            } else if depth > 0 {
                found.extend(cgroups(&path, name, depth - 1));
            }
        }
    }
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}
