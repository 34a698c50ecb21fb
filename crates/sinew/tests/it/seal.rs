//! Seals without anything around them: what is in one, what works, and what ends with it. As root and as an ordinary
//! user: the tests start themselves again as that user.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use nix::unistd::{getegid, geteuid};
use sinew_node::seal::{Seal, SpawnFiles, spawn};
use sinew_spec::seal::{Command, InitEvent, InitRequest, SealFile, SealSpec, ServiceState};
use sinew_transport::descriptors::listen_at;
use sinew_transport::seal::InitClient;

use crate::harness::{ORDINARY, User, binary, users};

mod files;
mod inside;
mod masks;
mod network;
mod probe;

/// Set in the process that runs a test as an ordinary user.
const AGAIN: &str = "SINEW_TEST_ORDINARY";

/// Runs `test` as root and as an ordinary user, or as who runs the tests when that is not root. `name` is the test's
/// own, with its modules.
pub fn as_everyone<F: AsyncFnOnce(User)>(name: &str, test: F) {
    if std::env::var_os(AGAIN).is_some() {
        return run(test, User::Ordinary);
    }
    if users().contains(&User::Ordinary) {
        let status = std::process::Command::new(test_program())
            .args([name, "--exact", "--nocapture", "--test-threads=1"])
            .env(AGAIN, binary())
            .current_dir("/tmp")
            .uid(ORDINARY)
            .gid(ORDINARY)
            .status()
            .expect("start the tests as an ordinary user");
        assert!(status.success(), "as an ordinary user: {status}");
    }
    run(test, User::Own);
}

fn run<F: AsyncFnOnce(User)>(test: F, user: User) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let limited = async { tokio::time::timeout(Duration::from_secs(60), test(user)).await };
    runtime.block_on(limited).expect("a seal test ends within a minute");
}

/// These tests where every user can execute them.
fn test_program() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let copy = binary().with_file_name("tests");
        // Not by this process: another test's child could hold the file open for writing, and it could not be executed.
        let own = std::env::current_exe().expect("the tests have a program");
        let copied = std::process::Command::new("cp").args([&own, &copy]).status().expect("run cp");
        assert!(copied.success(), "copy the tests");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("make them executable");
        copy
    })
}

pub fn program() -> PathBuf {
    std::env::var_os(AGAIN).map_or_else(|| binary().to_path_buf(), PathBuf::from)
}

/// One seal and the folder of its instance.
pub struct Sealed {
    pub folder: PathBuf,
    pub seal: Seal,
    /// Ends the seal when it is closed.
    _lifeline: OwnedFd,
}

/// A specification with nothing in it.
pub fn plain() -> SealSpec {
    SealSpec {
        hostname: "probe-1".to_owned(),
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
        log_bytes_max: 1 << 20,
        cgroups: Vec::new(),
        explicit: false,
        container: None,
    }
}

pub fn script(name: &str, text: &str) -> SealFile {
    SealFile {
        target: PathBuf::from("/").join(name),
        content: text.as_bytes().to_vec(),
        mode: 0o444,
        uid: None,
        gid: None,
    }
}

pub fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(format!("/tmp/snseal{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).expect("make a folder");
    folder
}

impl Sealed {
    pub async fn new(name: &str, spec: &SealSpec) -> Self {
        Self::try_new(name, spec).await.unwrap_or_else(|e| panic!("{e}"))
    }

    pub async fn try_new(name: &str, spec: &SealSpec) -> Result<Self, String> {
        let folder = folder(name);
        let hop = UnixListener::bind(folder.join("hop.sock")).expect("hop listener");
        let init = listen_at(&folder.join("init.sock")).expect("init listener");
        let (read, write) = std::io::pipe().expect("lifeline");
        let log_folder = File::open(&folder).expect("folder");
        let program = program();
        let files = SpawnFiles {
            program: &program,
            title: folder.to_str().expect("text"),
            hop_listener: hop.as_fd(),
            init_listener: init.as_fd(),
            log_folder: log_folder.as_fd(),
            lifeline: Some(read.as_fd()),
        };
        let seal = spawn(spec, files).await.map_err(|e| {
            fs::remove_dir_all(&folder).expect("clean");
            e.to_string()
        })?;
        Ok(Self { folder, seal, _lifeline: write.into() })
    }

    pub async fn init(&self) -> InitClient {
        InitClient::connect(&self.folder.join("init.sock")).await.expect("connect to the init")
    }

    pub async fn exec(&self, argv: &[&str]) -> (i32, String) {
        self.run(command(argv)).await
    }

    /// Runs a command inside to its end: exit code and everything it said.
    pub async fn run(&self, command: Command) -> (i32, String) {
        let (read, write) = std::io::pipe().expect("pipe");
        let nothing = File::open("/dev/null").expect("null");
        let streams = [nothing.as_fd(), write.as_fd(), write.as_fd()];
        let argv = command.argv.clone();
        let started = self.init().await.exec(command, streams).await;
        let mut exec = started.unwrap_or_else(|e| panic!("{argv:?}: {e}"));
        drop(write);
        let reading = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            File::from(OwnedFd::from(read)).read_to_end(&mut text).expect("read");
            String::from_utf8_lossy(&text).into_owned()
        });
        let code = exec.wait().await.expect("its end");
        (code, reading.await.expect("reader"))
    }

    /// The output of a command that must succeed.
    pub async fn output(&self, argv: &[&str]) -> String {
        let (code, text) = self.exec(argv).await;
        assert_eq!(code, 0, "{argv:?}: {text}");
        text
    }

    /// Starts the service and waits for its end.
    pub async fn service(&self, argv: &[&str]) -> ServiceState {
        let mut events = self.init().await.watch().await.expect("watch");
        assert!(matches!(events.next().await, Ok(Some(InitEvent::Service { .. }))));
        self.init().await.start(command(argv)).await.expect("start");
        loop {
            match events.next().await.expect("event").expect("the seal lives") {
                InitEvent::Service { state: state @ ServiceState::Exited { .. } } => return state,
                _ => continue,
            }
        }
    }

    pub async fn shut_down(self) {
        self.init().await.tell(&InitRequest::Shutdown).await.expect("shut down");
        self.seal.wait().await.expect("its end");
        fs::remove_dir_all(&self.folder).expect("clean");
    }
}

pub fn command(argv: &[&str]) -> Command {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    Command {
        argv: argv.iter().map(|text| (*text).to_owned()).collect(),
        environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin:/usr/sbin".to_owned())]),
        working_dir: PathBuf::from("/"),
        uid,
        gid,
        groups: if geteuid().is_root() { vec![gid] } else { Vec::new() },
        ports: None,
        processes_max: None,
    }
}
