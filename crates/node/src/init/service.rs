//! Starting a process in the seal: the service itself, a check, an `exec`.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
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
            return not_started(name, place, &error);
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
            Some((candidate, error)) => not_started(&candidate.display(), place, &error),
            None => NotStarted {
                reason: format!("run {name}: not found{place} in PATH={path}"),
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

fn not_started(program: &impl std::fmt::Display, place: &str, error: &io::Error) -> NotStarted {
    let code = if is_missing(error) { NOT_FOUND } else { NOT_EXECUTABLE };
    NotStarted { reason: format!("run {program}{place}: {error}"), code: Some(code) }
}

/// What a service reads when it reads its standard input.
pub fn nothing() -> io::Result<File> {
    File::open("/dev/null")
}

pub fn borrow(streams: &[std::os::fd::OwnedFd; 3]) -> [BorrowedFd<'_>; 3] {
    [streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()]
}
