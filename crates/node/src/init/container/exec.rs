//! A further command in a container: the descriptors that came along on one side, the engine's connection on the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use libc::POLLOUT;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use sinew_engine::{Engine, EngineError, ExecStart, Frames, Source, Upgraded};
use sinew_spec::seal::Command;

use super::{KILLED, LOOK_AGAIN_MS, NOT_EXECUTABLE, READ_BYTES, begin_child, code_of, sys, waits};

/// Input that the command has not taken yet.
const PENDING_BYTES_MAX: usize = 64 * 1024;
/// How soon the command learns of another size of its terminal.
const SIZE_LOOK_MS: i32 = 200;
/// How often it is asked for its code after its streams have ended.
const LOOKS_MAX: u32 = 250;

/// In a child of the init. The exit code.
pub fn run(
    engine: &Engine,
    container: &str,
    command: &Command,
    tty: bool,
    streams: [BorrowedFd<'_>; 3],
) -> i32 {
    let Ok((signals, [input, output, mut errors])) = begin_child(streams) else { return NOT_EXECUTABLE };
    let has_input = tty || !is_nothing(&input);
    let start = ExecStart {
        command: command.argv.clone(),
        environment: command.environment.clone(),
        working_dir: Some(command.working_dir.clone()).filter(|folder| !folder.as_os_str().is_empty()),
        user: None,
        tty,
        stdin: has_input,
    };
    let begun = engine.exec_create(container, &start).and_then(|id| Ok((engine.exec_start(&id, tty)?, id)));
    let (upgraded, id) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let _ = writeln!(errors, "{error}");
            return code_of(&error);
        }
    };
    if tty {
        make_raw(&input);
    }
    let session =
        Session { engine, id: &id, tty, signals, input: has_input.then_some(input), output, errors };
    match session.pump(upgraded) {
        Ok(true) => exit_code(engine, &id),
        Ok(false) | Err(_) => {
            end(engine, &id);
            KILLED
        }
    }
}

struct Session<'a> {
    engine: &'a Engine,
    id: &'a str,
    tty: bool,
    signals: OwnedFd,
    /// `None`: it has ended, or there never was any.
    input: Option<File>,
    output: File,
    errors: File,
}

impl Session<'_> {
    /// True: the command's streams have ended. False: it shall be ended.
    fn pump(mut self, upgraded: Upgraded) -> io::Result<bool> {
        let Upgraded { mut stream, early } = upgraded;
        stream.set_nonblocking(true)?;
        let mut frames = Frames::default();
        self.pass_on(&mut frames, &early);
        let mut pending: VecDeque<u8> = VecDeque::new();
        let mut size = None;
        let mut buffer = [0; READ_BYTES];
        loop {
            if self.tty {
                self.keep_size(&mut size);
            }
            let room = pending.len() < PENDING_BYTES_MAX;
            let wanted = self.input.as_ref().filter(|_| room).map(AsFd::as_fd);
            let mut polled = [waits(Some(self.signals.as_fd())), waits(Some(stream.as_fd())), waits(wanted)];
            if !pending.is_empty() {
                polled[1].events |= POLLOUT;
            }
            sys::poll(&mut polled, if self.tty { SIZE_LOOK_MS } else { -1 })?;
            if polled[0].revents != 0 {
                return Ok(false);
            }
            if polled[1].revents & !POLLOUT != 0 {
                match stream.read(&mut buffer) {
                    Ok(0) => return Ok(true),
                    Ok(length) => self.pass_on(&mut frames, &buffer[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return Ok(true),
                }
            }
            if polled[2].revents != 0 {
                match self.input.as_mut().map_or(Ok(0), |input| input.read(&mut buffer)) {
                    Ok(length @ 1..) => pending.extend(&buffer[..length]),
                    _ => self.input = None,
                }
            }
            let had_input = polled[2].fd >= 0 || !pending.is_empty();
            write_pending(&mut stream, &mut pending)?;
            if had_input && self.input.is_none() && pending.is_empty() {
                let _ = stream.shutdown(Shutdown::Write);
            }
        }
    }

    fn pass_on(&mut self, frames: &mut Frames, bytes: &[u8]) {
        if self.tty {
            let _ = self.output.write_all(bytes);
            return;
        }
        // A reader who went away is told to the command by the end of its caller's connection.
        frames.add(bytes, |source, piece| {
            let _ = match source {
                Source::Output => self.output.write_all(piece),
                Source::Errors => self.errors.write_all(piece),
            };
        });
    }

    fn keep_size(&self, known: &mut Option<(u16, u16)>) {
        let now = sys::terminal_size(self.output.as_fd());
        if now.is_some() && now != *known {
            *known = now;
            if let Some((rows, columns)) = now {
                let _ = self.engine.exec_resize(self.id, rows, columns);
            }
        }
    }
}

fn write_pending(stream: &mut UnixStream, pending: &mut VecDeque<u8>) -> io::Result<()> {
    while !pending.is_empty() {
        match stream.write(pending.as_slices().0) {
            Ok(length) => drop(pending.drain(..length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The command reads no more: what it says still counts.
            Err(_) => pending.clear(),
        }
    }
    Ok(())
}

/// `/dev/null`
fn is_nothing(file: &File) -> bool {
    const NULL_DEVICE: u64 = libc::makedev(1, 3);
    file.metadata().is_ok_and(|found| found.rdev() == NULL_DEVICE)
}

/// The engine has a terminal of its own for the command, which does what terminals do.
fn make_raw(terminal: &File) {
    if let Ok(mut settings) = tcgetattr(terminal) {
        cfmakeraw(&mut settings);
        let _ = tcsetattr(terminal, SetArg::TCSANOW, &settings);
    }
}

fn exit_code(engine: &Engine, id: &str) -> i32 {
    for _ in 0..LOOKS_MAX {
        match engine.exec_state(id) {
            Ok(state) if !state.running => return state.exit_code.unwrap_or(KILLED) & 0xff,
            // The container has ended, and its commands with it.
            Err(EngineError::Refused { .. }) => return KILLED,
            Ok(_) | Err(_) => {
                let _ = sys::poll(&mut [], LOOK_AGAIN_MS);
            }
        }
    }
    KILLED
}

/// The command and what it started in its own group.
fn end(engine: &Engine, id: &str) {
    let Ok(state) = engine.exec_state(id) else { return };
    if state.running && state.pid > 1 {
        let _ = sys::signal_group(state.pid, libc::SIGKILL);
        sys::kill(state.pid);
    }
}
