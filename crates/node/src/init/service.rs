//! Starting a process in the seal: the service itself, a check, an `exec`.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libc::sock_filter;
use nix::sys::stat::{Mode, umask};
use sinew_spec::seal::Command;

use super::sys::{self, Fork};

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// When memory runs out, a service goes before its init.
const OUT_OF_MEMORY_SCORE: &str = "200";
const REASON_BYTES_MAX: u64 = 4096;

/// What a shell says of a program that is not there, and of one that cannot be executed.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Why a process was not started.
pub struct NotStarted {
    pub reason: String,
    /// As a shell would exit; `None`: it did not come to that.
    pub code: Option<i32>,
}

impl From<String> for NotStarted {
    fn from(reason: String) -> Self {
        Self { reason, code: None }
    }
}

/// What is the same for every process of a seal.
pub struct Origin {
    pub map_all_users: bool,
    /// `oom_score_adj` of the init, open since before that file belonged to nobody.
    pub out_of_memory: Option<File>,
    /// For system calls; `None`: the explicit posture.
    pub filter: Option<Vec<sock_filter>>,
}

impl Origin {
    /// Starts a process in a session of its own and returns its pid when the program runs. `tty`: the streams are a
    /// terminal, which becomes the session's.
    pub fn start(
        &self,
        command: &Command,
        streams: [BorrowedFd<'_>; 3],
        tty: bool,
    ) -> Result<i32, NotStarted> {
        let own = (sys::effective_uid(), sys::effective_gid());
        if !self.map_all_users && (command.uid, command.gid) != own {
            let reason = format!(
                "user {}:{} cannot be had here: only root can start services as other users",
                command.uid, command.gid
            );
            return Err(reason.into());
        }
        let program = Program::of(command)?;
        let (failure, tell) = io::pipe().map_err(|e| format!("make a pipe: {e}"))?;
        // Inherited by the child, and put back at once for the init.
        self.score(OUT_OF_MEMORY_SCORE);
        let forked = sys::fork();
        let pid = match forked.map_err(|e| format!("fork: {e}"))? {
            Fork::Child => {
                drop(failure);
                let NotStarted { reason, code } = program.run(command, streams, tty, self);
                let code = code.unwrap_or(NOT_EXECUTABLE);
                let _ = (&tell).write_all(&[&[code as u8], reason.as_bytes()].concat());
                sys::exit(code);
            }
            Fork::Parent(pid) => pid,
        };
        self.score("0");
        drop(tell);
        let mut told = Vec::new();
        // End of file without a word: the program was executed, which closed the pipe.
        let _ = failure.take(REASON_BYTES_MAX).read_to_end(&mut told);
        let Some((code, reason)) = told.split_first() else { return Ok(pid) };
        sys::wait_for(pid);
        let reason = String::from_utf8_lossy(reason).into_owned();
        Err(NotStarted { reason, code: Some(i32::from(*code)) })
    }

    fn score(&self, score: &str) {
        if let Some(mut file) = self.out_of_memory.as_ref() {
            let _ = file.write_all(score.as_bytes());
        }
    }
}

struct Program {
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    fn of(command: &Command) -> Result<Self, String> {
        let text = |text: String| {
            CString::new(text).map_err(|_| "a NUL byte in the command or environment".to_owned())
        };
        if command.argv.first().is_none_or(String::is_empty) {
            return Err("an empty command".to_owned());
        }
        let environment = command.environment.iter().map(|(name, value)| text(format!("{name}={value}")));
        Ok(Self {
            arguments: command.argv.iter().cloned().map(text).collect::<Result<_, _>>()?,
            environment: environment.collect::<Result<_, _>>()?,
        })
    }

    /// In the child. Returns only with the reason why the program could not be started.
    fn run(&self, command: &Command, streams: [BorrowedFd<'_>; 3], tty: bool, origin: &Origin) -> NotStarted {
        let place = if origin.filter.is_some() { " inside the seal" } else { "" };
        match self.prepare(command, streams, tty, origin, place) {
            Ok(()) => self.execute(command, place),
            Err(reason) => reason.into(),
        }
    }

    fn prepare(
        &self,
        command: &Command,
        streams: [BorrowedFd<'_>; 3],
        tty: bool,
        origin: &Origin,
        place: &str,
    ) -> Result<(), String> {
        let failed = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
        sys::reset_signals().map_err(failed("reset signals"))?;
        nix::unistd::setsid().map_err(|e| format!("begin a session: {e}"))?;
        if tty {
            sys::set_controlling_terminal(streams[0]).map_err(failed("take over the terminal"))?;
        }
        for (number, stream) in streams.into_iter().enumerate() {
            sys::place(stream, number as i32).map_err(failed("place the standard streams"))?;
        }
        sys::close_on_exec_from(3).map_err(failed("close other descriptors"))?;
        umask(Mode::from_bits_truncate(0o022));
        let groups = origin.map_all_users.then_some(command.groups.as_slice());
        sys::become_user(command.uid, command.gid, groups)
            .map_err(|e| format!("become user {}:{}: {e}", command.uid, command.gid))?;
        sys::drop_all_capabilities().map_err(failed("drop capabilities"))?;
        if let Some(most) = command.processes_max {
            sys::limit_processes(most).map_err(failed("bound the number of processes"))?;
        }
        match &origin.filter {
            Some(filter) => {
                sys::install_filter(filter).map_err(failed("install the filter of system calls"))?
            }
            // Forgotten when the user changes, so after that.
            None => sys::die_with_parent(libc::SIGKILL).map_err(failed("end with the supervisor"))?,
        }
        std::env::set_current_dir(&command.working_dir)
            .map_err(|e| format!("enter {}{place}: {e}", command.working_dir.display()))
    }

    fn execute(&self, command: &Command, place: &str) -> NotStarted {
        let name = &command.argv[0];
        if name.contains('/') {
            let error = self.execute_file(Path::new(name));
            return NotStarted::because(Path::new(name), place, &error);
        }
        let path = command.environment.get("PATH").map_or(PATH_DEFAULT, String::as_str);
        let mut denied = None;
        for folder in path.split(':') {
            let candidate =
                if folder.is_empty() { PathBuf::from(name) } else { Path::new(folder).join(name) };
            let error = self.execute_file(&candidate);
            if !is_missing(&error) {
                denied.get_or_insert((candidate, error));
            }
        }
        match denied {
            Some((candidate, error)) => NotStarted::because(&candidate, place, &error),
            None => NotStarted {
                reason: format!("run {name}: not found{place} in {}", folders_in_words(path)),
                code: Some(NOT_FOUND),
            },
        }
    }

    fn execute_file(&self, file: &Path) -> io::Error {
        match sys::c_text(file.as_os_str()) {
            Ok(file) => {
                let error = sys::execute(&file, &self.arguments, &self.environment);
                if error.raw_os_error() == Some(libc::ENOEXEC) { self.execute_script(&file) } else { error }
            }
            Err(error) => error,
        }
    }

    /// A text without `#!` is run by the shell, as execvp(3) does.
    fn execute_script(&self, file: &CString) -> io::Error {
        let mut arguments = vec![c"/bin/sh".to_owned(), file.clone()];
        arguments.extend(self.arguments.iter().skip(1).cloned());
        sys::execute(c"/bin/sh", &arguments, &self.environment)
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// `/usr/bin, /bin and 3 more folders of PATH`: a whole PATH is longer than everything else that is said.
fn folders_in_words(path: &str) -> String {
    const LISTED_MAX: usize = 3;
    let folders: Vec<&str> = path.split(':').filter(|folder| !folder.is_empty()).collect();
    match folders.len() {
        0 => "PATH, which is empty".to_owned(),
        1..=LISTED_MAX => format!("{} (PATH)", folders.join(", ")),
        more => {
            format!("{} and {} more folders of PATH", folders[..LISTED_MAX].join(", "), more - LISTED_MAX)
        }
    }
}

impl NotStarted {
    /// The error of a call names neither the bit nor the interpreter that is missing.
    fn because(program: &Path, place: &str, error: &io::Error) -> Self {
        let shown = program.display();
        if is_missing(error) && program.exists() {
            return match Script::read(program) {
                Some(Script { interpreter }) if interpreter.ends_with('\r') => Self {
                    reason: format!(
                        "run {shown}{place}: its first line ends with a carriage return, as on Windows; save it with \
                         line feeds alone"
                    ),
                    code: Some(NOT_EXECUTABLE),
                },
                Some(Script { interpreter }) => Self {
                    reason: format!(
                        "run {shown}{place}: the interpreter {interpreter} of its first line (#!) does not exist"
                    ),
                    code: Some(NOT_EXECUTABLE),
                },
                None => Self {
                    reason: format!(
                        "run {shown}{place}: the loader or the library that it was linked with does not exist"
                    ),
                    code: Some(NOT_EXECUTABLE),
                },
            };
        }
        let code = if is_missing(error) { NOT_FOUND } else { NOT_EXECUTABLE };
        Self {
            reason: format!("run {shown}{place}: {error}{}", permission_in_words(program, error)),
            code: Some(code),
        }
    }
}

/// A file that begins with `#!`.
struct Script {
    /// Until the end of the line or the first blank.
    interpreter: String,
}

impl Script {
    fn read(file: &Path) -> Option<Self> {
        // What the kernel reads of it.
        const LINE_BYTES_MAX: u64 = 256;
        let mut bytes = Vec::new();
        File::open(file).ok()?.take(LINE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let line = bytes.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        let line = String::from_utf8_lossy(line);
        let interpreter = line.trim_start_matches([' ', '\t']).split([' ', '\t']).next()?;
        Some(Self { interpreter: interpreter.to_owned() })
    }
}

fn permission_in_words(program: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    match fs::metadata(program) {
        Ok(found) if found.is_dir() => "; it is a folder".to_owned(),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            format!("; it is not executable: `chmod +x {}`", program.display())
        }
        Ok(_) => "; the service's user may not execute it".to_owned(),
        Err(_) => "; the service's user may not enter its folder".to_owned(),
    }
}

/// What a service reads when it reads its standard input.
pub fn nothing() -> io::Result<File> {
    File::open("/dev/null")
}

pub fn borrow(streams: &[std::os::fd::OwnedFd; 3]) -> [BorrowedFd<'_>; 3] {
    [streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_path_are_named_in_short() {
        let check = |path: &str, words: &str| assert_eq!(folders_in_words(path), words);
        check("", "PATH, which is empty");
        check("/bin", "/bin (PATH)");
        check("/a:/b:/c", "/a, /b, /c (PATH)");
        check("/a:/b::/c:/d:/e", "/a, /b, /c and 2 more folders of PATH");
    }

    #[test]
    fn scripts_that_cannot_be_run_are_explained() {
        let folder = std::env::temp_dir().join(format!("sinew-scripts-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of the test");
        let check = |text: &str, mode: u32, errno: i32, code: i32, words: &str| {
            let file = folder.join("start");
            fs::write(&file, text).expect("write the script");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set its mode");
            let NotStarted { reason, code: found } =
                NotStarted::because(&file, "", &io::Error::from_raw_os_error(errno));
            assert_eq!(found, Some(code), "{reason}");
            assert!(reason.contains(words), "{reason}");
        };
        check("#!/bin/sh\n", 0o644, libc::EACCES, 126, "; it is not executable: `chmod +x ");
        check("#!/bin/sh\n", 0o755, libc::EACCES, 126, "; the service's user may not execute it");
        check("#! /no/such -x\n", 0o755, libc::ENOENT, 126, "the interpreter /no/such of its first line");
        check("#!/bin/sh\r\n", 0o755, libc::ENOENT, 126, "ends with a carriage return");
        check("\x7fELF", 0o755, libc::ENOENT, 126, "the loader or the library");
        fs::remove_file(folder.join("start")).expect("it is ours");
        let gone =
            NotStarted::because(&folder.join("start"), "", &io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(gone.code, Some(127));
        fs::remove_dir_all(&folder).expect("it is ours");
    }
}
