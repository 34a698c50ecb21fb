//! A Podman and a registry of a test's own: storage in its folder, sockets and ports nobody else uses, everything gone
//! with it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::harness::{Done, Sandbox, User, until};

/// What an image does: environment variables of `server.c`.
pub type Behaviour<'a> = &'a [(&'a str, &'a str)];

pub struct Bench {
    pub sandbox: Sandbox,
    base: PathBuf,
    service: Child,
    registry: Option<Child>,
    door: Door,
}

impl Bench {
    /// An application called `name` in a folder of its own, an engine, and a registry.
    pub fn new(name: &str) -> Self {
        let sandbox = Sandbox::new(User::Own, name);
        let base = sandbox.home().join("engine");
        fs::create_dir(&base).expect("make a folder for the engine");
        let door = Door::open();
        let text = |name: &str, text: String| fs::write(base.join(name), text).expect("write a setting");
        let at = base.display();
        text(
            "storage.conf",
            format!("[storage]\ndriver = \"vfs\"\nrunroot = \"{at}/run\"\ngraphroot = \"{at}/graph\"\n"),
        );
        text(
            "registries.conf",
            format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", door.address()),
        );
        text(
            "containers.conf",
            // A host may not let root raise limits.
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n"
                .to_owned(),
        );
        let service = podman(&base)
            .args(["system", "service", "--time", "0"])
            .arg(format!("unix://{at}/podman.sock"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(base.join("podman.log")).expect("make a log"))
            .spawn()
            .expect("start podman: apt-get install podman");
        let mut bench = Self { sandbox, base, service, registry: None, door };
        bench.start_registry();
        let socket = bench.socket();
        until("the engine's socket", Duration::from_secs(20), || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(())
        });
        bench
    }

    pub fn socket(&self) -> PathBuf {
        self.base.join("podman.sock")
    }

    /// The registry with all it has, behind the door.
    pub fn start_registry(&mut self) {
        let port = crate::lifetimes::free_port();
        let settings = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            self.blobs().display()
        );
        let file = self.base.join("registry.yml");
        fs::write(&file, settings).expect("write the registry's settings");
        let registry = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .env_remove("REGISTRY_HTTP_ADDR")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start docker-registry: apt-get install docker-registry");
        self.registry = Some(registry);
        until("the registry", Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(())
        });
        self.door.lead_to(port);
    }

    /// There is no network any more.
    pub fn stop_registry(&mut self) {
        self.door.lead_to(0);
        if let Some(mut registry) = self.registry.take() {
            let _ = registry.kill();
            let _ = registry.wait();
        }
    }

    /// Where the registry keeps what it has.
    pub fn blobs(&self) -> PathBuf {
        self.base.join("registry")
    }

    /// The next answers of the registry end after this many bytes. `None`: no longer.
    pub fn cut_after(&self, bytes: Option<u64>) {
        self.door.cut.store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// `web:1` as the registry calls it.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.door.address())
    }

    /// Makes an image of the server and gives it a name, here only. Its id.
    pub fn make(&self, reference: &str, behaviour: Behaviour<'_>) -> String {
        let root = self.base.join("root");
        fs::create_dir_all(&root).expect("make the image's root");
        let program = root.join("server");
        if !program.exists() {
            // By another process: a fork of a test in between would keep our descriptor for writing.
            let copied = Command::new("cp").arg(server()).arg(&program).status().expect("run cp");
            assert!(copied.success());
        }
        fs::write(root.join("payload"), payload(behaviour)).expect("write the payload");
        let mut import = podman(&self.base);
        import.args(["import", "-q", "-c", "CMD [\"/server\"]", "-c", "EXPOSE 8000"]);
        for (name, value) in behaviour {
            import.args(["-c", &format!("ENV {name}={value}")]);
        }
        let archive = self.base.join("root.tar");
        ran(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."));
        import.arg(&archive).arg(reference);
        let id = ran(&mut import);
        let id = id.trim();
        id.strip_prefix("sha256:").unwrap_or(id).to_owned()
    }

    /// Makes it and gives it to the registry; the engine forgets it.
    pub fn push(&self, name: &str, behaviour: Behaviour<'_>) -> String {
        let reference = self.reference(name);
        let id = self.make(&reference, behaviour);
        ran(podman(&self.base).args(["push", "-q", &reference]));
        id
    }

    /// What an image of the test's own is built from.
    pub fn copy_server(&self, path: &str) {
        let copied = Command::new("cp").arg(server()).arg(self.sandbox.folder.join(path)).status();
        assert!(copied.expect("run cp").success());
    }

    pub fn podman(&self, arguments: &[&str]) -> String {
        ran(podman(&self.base).args(arguments))
    }

    /// `sinew` with this engine.
    pub fn sinew(&self, arguments: &[&str]) -> Done {
        let socket = format!("unix://{}", self.socket().display());
        self.sandbox.run_with(arguments, &[("CONTAINER_HOST", &socket)])
    }

    /// Kills everything that runs for the application at once, as a power cut does. The engine and its storage stay.
    pub fn cut_power(&self) {
        let own = self.service.id() as i32;
        let registry = self.registry.as_ref().map(|registry| registry.id() as i32);
        let storage = self.base.display().to_string();
        loop {
            // Containers' own processes, who watches them, and everything of Sinew.
            let inside = self.podman(&["ps", "-q"]);
            let inside = inside.lines().filter_map(|id| {
                let pid = self.podman(&["inspect", "--format", "{{.State.Pid}}", id]);
                pid.trim().parse::<i32>().ok().filter(|pid| *pid > 1)
            });
            let mut victims: Vec<i32> = inside.collect();
            victims.extend(self.sandbox.processes().into_iter().map(|(pid, _)| pid));
            victims.extend(self.sandbox.mentioning(&[&storage]).into_iter().map(|(pid, _)| pid));
            // An engine whose watchers died goes on calling a dead process running.
            victims.retain(|pid| *pid != own && Some(*pid) != registry && lives(*pid));
            if victims.is_empty() {
                break;
            }
            for pid in victims {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.base.join("podman.log")).unwrap_or_default();
            eprintln!("── podman\n{log}");
        }
        let _ = self.sandbox.run_with(&["down", "--kill"], &[]);
        self.stop_registry();
        let _ = podman(&self.base).args(["rm", "-fa", "-t", "0"]).output();
        let _ = self.service.kill();
        let _ = self.service.wait();
        // Layers may be mounted.
        let _ = podman(&self.base).args(["unmount", "-a"]).output();
    }
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Makes a layer one of its own, which cannot be compressed to nothing.
fn payload(behaviour: Behaviour<'_>) -> Vec<u8> {
    const BYTES: usize = 300_000;
    let text = format!("{behaviour:?}");
    let mut state = text.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..BYTES).map(|_| next()).collect()
}

fn podman(base: &Path) -> Command {
    let mut command = Command::new("podman");
    command
        .stdin(Stdio::null())
        .env("CONTAINERS_STORAGE_CONF", base.join("storage.conf"))
        .env("CONTAINERS_REGISTRIES_CONF", base.join("registries.conf"))
        .env("CONTAINERS_CONF", base.join("containers.conf"))
        .env("TMPDIR", base);
    command
}

#[track_caller]
fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Compiled once for all tests.
fn server() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let program = folder.join(format!("server-{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/images/server.c");
        ran(Command::new("cc").args(["-O1", "-static", "-o"]).arg(&program).arg(source));
        program
    })
}

/// The registry's address, whether it runs or not; what goes through can be cut.
struct Door {
    port: u16,
    /// Where the registry listens; 0: nowhere.
    behind: Arc<AtomicU64>,
    cut: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
}

impl Door {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let behind = Arc::new(AtomicU64::new(0));
        let cut = Arc::new(AtomicU64::new(u64::MAX));
        let closed = Arc::new(AtomicBool::new(false));
        let (to, limit, end) = (behind.clone(), cut.clone(), closed.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(port) = u16::try_from(to.load(Ordering::Relaxed)) else { continue };
                // Nobody behind it: the client is hung up on.
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let limit = limit.clone();
                pass(&client, &server, Arc::new(AtomicU64::new(u64::MAX)));
                pass(&server, &client, limit);
            }
        });
        Self { port, behind, cut, closed }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn lead_to(&self, port: u16) {
        self.behind.store(u64::from(port), Ordering::Relaxed);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        // Wakes it up.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Copies until an end, or until `limit` bytes went through: then both are hung up on.
fn pass(from: &TcpStream, to: &TcpStream, limit: Arc<AtomicU64>) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    std::thread::spawn(move || {
        let mut bytes = [0; 16 * 1024];
        let mut passed = 0;
        while let Ok(count) = from.read(&mut bytes) {
            passed += count as u64;
            if count == 0 || passed > limit.load(Ordering::Relaxed) || to.write_all(&bytes[..count]).is_err()
            {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
        let _ = from.shutdown(std::net::Shutdown::Both);
    });
}
