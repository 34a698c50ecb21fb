//! Builds of the program that differ in a few bytes, and applications that they take over.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::PATIENCE;
use crate::harness::{ORDINARY, Sandbox, User, binary, until};

/// What each proxy runs first, as the symbol's mangled name holds it.
const FIRST: &str = "sinew5proxy13run_bootstrap17h";
/// What a successor runs when it has the place of another, before it does anything else.
const LAST: &str = "sinew5proxy8handover4tell17h";
/// An illegal instruction.
const CRASH: &str = if cfg!(target_arch = "x86_64") { r"\017\013" } else { r"\000\000\000\000" };
/// x86-64: `pause()`, again and again; else: waits for events.
const HANG: &str = if cfg!(target_arch = "x86_64") {
    r"\270\042\000\000\000\017\005\353\367"
} else {
    r"\137\040\003\325\377\377\377\027"
};

pub struct Builds {
    folder: PathBuf,
    count: u32,
}

impl Builds {
    pub fn new(name: &str) -> Self {
        // Where the sandbox of an ordinary user could execute it, too.
        let folder = PathBuf::from(format!("{}-{name}", binary().display()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("make a folder for builds");
        Self { folder, count: 0 }
    }

    /// The same program, as another build: its end differs.
    pub fn next(&mut self) -> PathBuf {
        self.count += 1;
        let path = self.folder.join(format!("sinew{}", self.count));
        // By other processes: a fork of a test in between would keep a descriptor for writing, and "text file busy".
        let script = r#"cp "$1" "$2" && echo "build $3" >> "$2" && chmod 755 "$2""#;
        shell(script, &[binary().as_os_str(), path.as_os_str(), self.count.to_string().as_ref()]);
        path
    }

    /// One whose proxies meet an illegal instruction as the first thing that they do.
    pub fn crashing(&mut self) -> PathBuf {
        self.broken(FIRST, CRASH)
    }

    /// One whose proxies meet an illegal instruction when they have just been told that the place of another is theirs. Those
    /// that take nobody's place are well.
    pub fn dying(&mut self) -> PathBuf {
        self.broken(LAST, CRASH)
    }

    /// One whose proxies do nothing at all.
    pub fn hanging(&mut self) -> PathBuf {
        self.broken(FIRST, HANG)
    }

    fn broken(&mut self, function: &str, code: &str) -> PathBuf {
        let path = self.next();
        let at = offset_of(&fs::read(&path).expect("read the program"), function);
        let script = r#"printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none"#;
        shell(script, &[path.as_os_str(), at.to_string().as_ref(), code.as_ref()]);
        path
    }
}

impl Drop for Builds {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn shell(script: &str, arguments: &[&std::ffi::OsStr]) {
    let done = Command::new("sh").args(["-c", script, "sh"]).args(arguments).status();
    assert!(done.expect("run sh").success(), "{script}");
}

/// Where the code of the function lies in the file, whose (mangled) name holds `name` (ELF, 64 bit, little endian).
fn offset_of(file: &[u8], name: &str) -> usize {
    let number = |at: usize, bytes: usize| {
        file[at..at + bytes].iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    let (table, entry_bytes, entries) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
    let section = |index: usize| table + index * entry_bytes;
    let symbols = (0..entries).map(section).find(|at| number(at + 4, 4) == 2).expect("a table of symbols");
    let names = number(section(number(symbols + 0x28, 4)) + 0x18, 8);
    let (start, bytes) = (number(symbols + 0x18, 8), number(symbols + 0x20, 8));
    let is_it = |at: &usize| {
        let text = &file[names + number(*at, 4)..];
        let text = &text[..text.iter().position(|byte| *byte == 0).expect("an end")];
        String::from_utf8_lossy(text).contains(name) && number(at + 16, 8) > 0
    };
    let symbol = (start..start + bytes).step_by(24).find(is_it).expect("the function");
    let (address, index) = (number(symbol + 8, 8), number(symbol + 6, 2));
    let code = section(index);
    address - number(code + 0x10, 8) + number(code + 0x18, 8)
}

/// `sinew up -d`, typed with another build: what it says beside its output.
pub fn up_with(sandbox: &Sandbox, build: &Path) -> String {
    let (code, text) = try_up_with(sandbox, build);
    assert_eq!(code, 0, "{text}");
    text
}

/// The same, which may fail: its exit code as well.
pub fn try_up_with(sandbox: &Sandbox, build: &Path) -> (i32, String) {
    let command = sandbox.command(&["up", "-d"]);
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut other = Command::new(build);
    other.args(arguments).current_dir(&sandbox.folder).env_clear();
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if sandbox.user == User::Ordinary {
        other.uid(ORDINARY).gid(ORDINARY);
    }
    let done = other.output().expect("run up");
    (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&done.stderr).into_owned())
}

/// Of the gateway and all sidecars, those that serve.
pub fn proxies(sandbox: &Sandbox) -> Vec<i64> {
    let mut pids = Vec::new();
    for entry in fs::read_dir(run(sandbox).join("i")).expect("instances").flatten() {
        let record = fs::read(entry.path().join("instance.json")).expect("a record");
        let record: Value = serde_json::from_slice(&record).expect("JSON");
        pids.extend(record["sidecar"]["pid"].as_i64());
    }
    pids.sort_unstable();
    pids
}

/// Of an application.
pub fn run(sandbox: &Sandbox) -> PathBuf {
    sandbox.run().join(sandbox.folder.file_name().expect("a name"))
}

pub fn daemon_log(sandbox: &Sandbox) -> String {
    fs::read_to_string(run(sandbox).join("daemon.log")).unwrap_or_default()
}

/// All `count` proxies have become those of `build`.
pub fn wait_for(sandbox: &Sandbox, build: &Path, count: usize) {
    until("all proxies are of the new build", PATIENCE, || {
        let proxies = proxies(sandbox);
        (proxies.len() == count && proxies.iter().all(|pid| runs(*pid, build))).then_some(())
    });
}

pub fn runs(pid: impl std::fmt::Display, build: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == build)
}
