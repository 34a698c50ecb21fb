//! `sinew install`, and the command of the unit run as systemd runs it: with a socket to notify, signals, and nothing
//! of the shell's environment.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Done, Sandbox, User, binary, until, users, wait};
use crate::lifetimes::{WEB, free_port, get};

const PATIENCE: Duration = Duration::from_secs(20);

/// A project where folders outlive a boot, unlike those of the sandbox; and a binary there.
struct Place {
    sandbox: Sandbox,
    base: PathBuf,
    port: u16,
}

impl Place {
    fn new(user: User, name: &str) -> Self {
        let sandbox = Sandbox::new(user, name);
        let base = PathBuf::from(format!("/var/tmp/sn{}-{name}-{user:?}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let place = Self { sandbox, base, port: free_port() };
        for folder in [place.base.clone(), place.folder(), place.units()] {
            fs::create_dir(&folder).expect("make a folder");
            place.sandbox.own(&folder);
        }
        let copied = Command::new("cp").arg(binary()).arg(place.program()).status().expect("run cp");
        assert!(copied.success());
        place.write("web.py", WEB);
        place.write("compose.yaml", &place.compose("one"));
        place
    }

    fn compose(&self, mark: &str) -> String {
        format!(
            "name: unit
services:
  web:
    command: [python3, web.py]
    ports: ['{}:8000']
    x-sinew: {{ health: {{ http: {{ port: 8000, path: / }} }}, protocol: {{ 8000: http }} }}
  other:
    command: [sleep, '1000']
    environment: {{ MARK: '{mark}' }}
    stop_grace_period: 100ms
",
            self.port
        )
    }

    fn folder(&self) -> PathBuf {
        self.base.join("project")
    }

    fn units(&self) -> PathBuf {
        self.base.join("units")
    }

    fn program(&self) -> PathBuf {
        self.base.join("sinew")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder().join(name);
        fs::write(&path, text).expect("write a file");
        self.sandbox.own(&path);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let like = self.sandbox.command(&[]);
        let mut command = Command::new(self.program());
        command.args(arguments).current_dir(self.folder()).env_clear().stdin(Stdio::null());
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if self.sandbox.user == User::Ordinary {
            use std::os::unix::process::CommandExt;
            command.uid(crate::harness::ORDINARY).gid(crate::harness::ORDINARY);
        }
        command
    }

    fn sinew(&self, arguments: &[&str]) -> Done {
        let done = self.command(arguments).output().expect("run sinew");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Done { code: done.status.code().unwrap_or(-1), stdout: text(done.stdout), stderr: text(done.stderr) }
    }

    fn install(&self) -> Done {
        let units = self.units().display().to_string();
        self.sinew(&["install", "--into", &units])
    }

    fn unit(&self) -> PathBuf {
        self.units().join("sinew-unit.service")
    }

    fn instances(&self, service: &str) -> Vec<Value> {
        let status = self.sinew(&["status", "-p", "unit", "-o", "json"]).ok().json();
        let services = status["services"].as_array().expect("services").clone();
        let found = services.into_iter().find(|s| s["name"] == service).expect("the service");
        found["instances"].as_array().expect("instances").clone()
    }

    fn pid(&self, service: &str) -> i64 {
        self.instances(service)[0]["service_pid"].as_i64().expect("it runs")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// As systemd would: the words of ExecStart, the environment of the unit alone, somebody who listens.
struct Unit<'a> {
    place: &'a Place,
    child: Child,
    socket: UnixDatagram,
}

impl<'a> Unit<'a> {
    fn start(place: &'a Place) -> Self {
        let text = fs::read_to_string(place.unit()).expect("the unit");
        let value = |key: &str| -> Vec<String> {
            text.lines().filter_map(|line| Some(line.strip_prefix(key)?.to_owned())).collect()
        };
        let path = place.base.join("notify");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("bind the socket of systemd");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("let others notify");
        socket.set_read_timeout(Some(PATIENCE)).expect("wait for a bounded time");
        let words: Vec<String> = value("ExecStart=").remove(0).split(' ').map(str::to_owned).collect();
        // NoNewPrivileges=yes
        let mut command = Command::new("setpriv");
        command.arg("--no-new-privs").args(&words).env_clear().stdin(Stdio::null());
        for variable in value("Environment=") {
            let (name, value) = variable.split_once('=').expect("a variable");
            command.env(name, value);
        }
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
        command.current_dir(value("WorkingDirectory=").remove(0));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if place.sandbox.user == User::Ordinary {
            use std::os::unix::process::CommandExt;
            command.uid(crate::harness::ORDINARY).gid(crate::harness::ORDINARY);
        }
        Self { place, child: command.spawn().expect("start the unit"), socket }
    }

    /// The next message with this in it.
    #[track_caller]
    fn hears(&self, wanted: &str) {
        let mut heard = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("no {wanted:?} ({error}); heard {heard:?}");
            });
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.contains(wanted) {
                return;
            }
            heard.push(message);
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("signal the launcher");
    }

    fn ends(mut self) -> i32 {
        wait(&mut self.child, PATIENCE).expect("it ends in time")
    }

    fn answers(&self) {
        until("the page answers", PATIENCE, || get(self.place.port).ok());
    }
}

#[test]
fn the_unit_starts_reloads_is_adopted_and_stops() {
    for user in users() {
        let place = Place::new(user, "life");
        place.install().ok();
        let unit = Unit::start(&place);
        unit.hears("READY=1\nSTATUS=unit: 2 of 2 instances ready");
        unit.hears("WATCHDOG=1");
        unit.answers();
        let (web, other) = (place.pid("web"), place.pid("other"));

        // A reload with a changed file and another binary (the same again, at the same path): the process stays, what
        // did not change goes on.
        place.write("compose.yaml", &place.compose("two"));
        let replacement = place.base.join("new");
        let copied = Command::new("cp").arg(binary()).arg(&replacement).status().expect("run cp");
        assert!(copied.success());
        fs::rename(&replacement, place.program()).expect("replace the binary");
        unit.signal(Signal::SIGHUP);
        unit.hears("RELOADING=1");
        unit.hears("READY=1");
        until("what changed is replaced", PATIENCE, || {
            let found = place.instances("other");
            (found.len() == 1 && found[0]["service_pid"].as_i64().is_some_and(|pid| pid != other))
                .then_some(())
        });
        assert_eq!(place.pid("web"), web, "what did not change goes on, as {user:?}");
        let running = fs::read_link(format!("/proc/{}/exe", unit.child.id())).expect("the program that runs");
        assert_eq!(running, place.program(), "the new binary, not the deleted one");

        // A file that is wrong is not taken.
        place.write("compose.yaml", "services: { web: { command: 7 } }\n");
        unit.signal(Signal::SIGHUP);
        unit.hears("RELOADING=1");
        unit.hears("READY=1");
        assert_eq!(place.pid("web"), web);
        place.write("compose.yaml", &place.compose("two"));

        // The launcher dies, and systemd starts the next one: everything is adopted.
        unit.signal(Signal::SIGKILL);
        unit.ends();
        get(place.port).expect("it serves without a launcher");
        let unit = Unit::start(&place);
        unit.hears("READY=1");
        assert_eq!(place.pid("web"), web);

        // A stop ends the application, in order and as a success.
        unit.signal(Signal::SIGTERM);
        unit.hears("STOPPING=1");
        assert_eq!(unit.ends(), 0);
        assert_eq!(place.sandbox.left_over(), Vec::<String>::new(), "as {user:?}");
    }
}

#[test]
fn sinew_down_ends_a_unit_as_a_success() {
    let place = Place::new(User::Own, "down");
    place.install().ok();
    let unit = Unit::start(&place);
    unit.hears("READY=1");
    let second = place.sinew(&["up", "--supervised", "--no-build"]);
    assert_eq!(second.code, 1, "{}", second.stderr);
    assert!(second.stderr.contains("another launcher runs this application"), "{}", second.stderr);
    place.sinew(&["down", "-p", "unit"]).ok();
    assert_eq!(unit.ends(), 0, "systemd must not start it again");
    assert_eq!(place.sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn the_unit_is_verified_by_systemd() {
    for user in users() {
        let place = Place::new(user, "verify");
        place.install().ok();
        let verify = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .args((user == User::Ordinary).then_some("--user"))
            .arg(place.unit())
            .env("XDG_RUNTIME_DIR", "/tmp")
            .output();
        let verify = verify.expect("systemd-analyze is installed with systemd (cargo xtask test sees to it)");
        let words = String::from_utf8_lossy(&verify.stderr).into_owned();
        let ours: Vec<&str> = words.lines().filter(|line| line.contains("sinew-unit")).collect();
        assert!(ours.is_empty(), "{words}");
        assert!(verify.status.success(), "{words}");
    }
}

#[test]
fn installing_again_changes_nothing_and_a_changed_unit_stays() {
    let place = Place::new(User::Own, "again");
    let first = place.install().ok();
    assert!(first.stdout.starts_with("wrote "), "{}", first.stdout);
    let text = fs::read_to_string(place.unit()).expect("the unit");
    let again = place.install().ok();
    assert!(again.stdout.starts_with("already there: "), "{}", again.stdout);
    assert_eq!(fs::read_to_string(place.unit()).expect("the unit"), text);

    // What an earlier version wrote is replaced without questions.
    place.write("compose.yaml", &place.compose("one").replace("100ms", "40s"));
    let longer = place.install().ok();
    assert!(longer.stdout.starts_with("updated "), "{}", longer.stdout);
    assert!(fs::read_to_string(place.unit()).expect("the unit").contains("TimeoutStopSec=80\n"));

    let by_hand =
        fs::read_to_string(place.unit()).expect("the unit").replace("WatchdogSec=60", "WatchdogSec=90");
    fs::write(place.unit(), &by_hand).expect("change it by hand");
    let refused = place.install();
    assert_eq!(refused.code, 2, "{}", refused.stdout);
    for words in ["was changed by hand", "-WatchdogSec=90", "+WatchdogSec=60", "--replace"] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    assert_eq!(fs::read_to_string(place.unit()).expect("the unit"), by_hand);
    let units = place.units().display().to_string();
    place.sinew(&["install", "--into", &units, "--replace"]).ok();
    assert!(fs::read_to_string(place.unit()).expect("the unit").contains("WatchdogSec=60\n"));

    place.sinew(&["uninstall", "--into", &units]).ok();
    assert!(!place.unit().exists());
    let gone = place.sinew(&["uninstall", "--into", &units]);
    assert_eq!(gone.code, 2, "{}", gone.stderr);
    fs::write(place.unit(), "[Unit]\nDescription=somebody else's\n").expect("write a foreign unit");
    assert_eq!(place.sinew(&["uninstall", "--into", &units]).code, 2);
    assert_eq!(place.install().code, 2);
    assert!(place.unit().exists());
}

#[test]
fn what_would_not_work_at_boot_is_refused() {
    let place = Place::new(User::Own, "refused");
    let refused = |place: &Place, words: &[&str]| {
        let done = place.install();
        assert_eq!(done.code, 2, "{}{}", done.stdout, done.stderr);
        for words in words {
            assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
        }
        assert!(!place.unit().exists());
    };
    // A variable of the shell.
    place.write("compose.yaml", &place.compose("${ONLY_IN_THE_SHELL:-none}"));
    let units = place.units().display().to_string();
    let shell = place.command(&["install", "--into", &units]).env("ONLY_IN_THE_SHELL", "x").output();
    let shell = shell.expect("run install");
    let words = String::from_utf8_lossy(&shell.stderr).into_owned();
    assert_eq!(shell.status.code(), Some(2), "{words}");
    for part in ["not set at boot: ONLY_IN_THE_SHELL (services: other)", ".env"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    place.write(".env", "ONLY_IN_THE_SHELL=x\n");
    place
        .command(&["install", "--into", &units])
        .env("ONLY_IN_THE_SHELL", "x")
        .output()
        .expect("run install");
    assert!(place.unit().exists(), "`.env` is there at boot");
    fs::remove_file(place.unit()).expect("remove the unit");

    // A file that everybody can write.
    let file = place.folder().join("compose.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("open it");
    refused(&place, &["everybody can write", "chmod o-w"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("close it");

    // A file that is wrong; a folder that is emptied; no systemd.
    place.write("compose.yaml", "services: { web: { comand: [true] } }\n");
    refused(&place, &["compose.yaml:1:", "comand"]);
    let sandbox = &place.sandbox;
    sandbox.write("compose.yaml", "services: { web: { command: ['true'] } }\n");
    let volatile = place.command(&["install", "--into", &units]).current_dir(&sandbox.folder).output();
    let words = String::from_utf8_lossy(&volatile.expect("run install").stderr).into_owned();
    assert!(words.contains("is in a folder that is emptied: it is not there at boot"), "{words}");
    if !Path::new("/run/systemd/system").exists() {
        place.write("compose.yaml", &place.compose("x"));
        let done = place.sinew(&["install"]);
        assert_eq!(done.code, 2, "{}", done.stderr);
        assert!(done.stderr.contains("systemd does not run on this host"), "{}", done.stderr);
        assert!(done.stderr.contains("--dry-run"), "{}", done.stderr);
        let dry = place.sinew(&["install", "--dry-run"]).ok();
        assert!(dry.stdout.contains("\nType=notify\n"), "{}", dry.stdout);
    }
}
