//! A container in the place of a process: the engine starts it, in the network that this init made; a child of the init
//! stands for it. The child passes the output on, and ends when the container ends, with its code: so that everything
//! else of an init is the same for both.
//!
//! The init itself stays on the host, in the container's network: no process of the container can see it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use libc::{POLLIN, pollfd};
use sinew_engine::{Engine, EngineError, Frames, Source, holder_of};
use sinew_spec::seal::{Command, SealContainer};

use super::service::NotStarted;
use super::sys::{self, Fork};

mod exec;
mod fill;
mod mounts;

/// What a shell says of a program that is not there, and of one that cannot be executed.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
const KILLED: i32 = 128 + libc::SIGKILL;

/// The engine is told of the end of a container a little after its process has ended.
const END_KNOWN: Duration = Duration::from_secs(10);
const LOOK_AGAIN_MS: i32 = 20;
/// Between two attempts to listen to the output again, when an engine was restarted.
const LISTEN_AGAIN_MS: i32 = 500;
const READ_BYTES: usize = 16 * 1024;
const REASON_BYTES_MAX: u64 = 4096;

pub struct Container {
    engine: Engine,
    about: SealContainer,
    /// The first process of the container, while it is thought to live.
    process: Option<OwnedFd>,
}

/// Whether its init does something in the container's mounts before it starts.
pub fn mounts_itself(container: &SealContainer) -> bool {
    !(container.mounts.is_empty() && container.new_volumes.is_empty())
}

/// A child that stands for something in the container.
pub struct Started {
    pub child: i32,
    /// Of the container's first process, as seen from the host. 0: it has ended already.
    pub pid: i32,
}

impl Container {
    pub fn of(container: &SealContainer) -> Self {
        Self { engine: Engine::at(&container.engine), about: container.clone(), process: None }
    }

    /// Starts the container and returns when it runs.
    pub fn start(&mut self, output: BorrowedFd<'_>, errors: BorrowedFd<'_>) -> Result<Started, NotStarted> {
        let (told, tell) = io::pipe().map_err(|e| format!("make a pipe: {e}"))?;
        let child = match sys::fork().map_err(|e| format!("fork: {e}"))? {
            Fork::Child => sys::exit(self.stand_for([tell.as_fd(), output, errors])),
            Fork::Parent(pid) => pid,
        };
        drop(tell);
        let mut words = Vec::new();
        let _ = told.take(REASON_BYTES_MAX).read_to_end(&mut words);
        let pid = match words.split_first() {
            Some((0, pid)) => pid.try_into().map(i32::from_ne_bytes).unwrap_or(0),
            Some((code, reason)) => {
                sys::wait_for(child);
                self.end_without_network();
                let reason = String::from_utf8_lossy(reason).into_owned();
                return Err(NotStarted { reason, code: Some(i32::from(*code)) });
            }
            None => {
                sys::wait_for(child);
                return Err("the container could not be started: who was to start it died".to_owned().into());
            }
        };
        self.process = if pid > 0 { sys::open_process(pid).ok() } else { None };
        Ok(Started { child, pid })
    }

    /// A further command in the container; what cannot be run says so on `streams[2]`. The child can be told to end it by
    /// SIGTERM.
    pub fn exec(&self, command: &Command, tty: bool, streams: [BorrowedFd<'_>; 3]) -> Result<i32, String> {
        match sys::fork().map_err(|e| format!("fork: {e}"))? {
            Fork::Child => sys::exit(exec::run(&self.engine, &self.about.name, command, tty, streams)),
            Fork::Parent(pid) => Ok(pid),
        }
    }

    pub fn signal(&self, signal: i32) -> io::Result<()> {
        match &self.process {
            Some(process) => sys::signal_process(process.as_fd(), signal),
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    /// The kernel ends everything in a container with its first process.
    pub fn kill(&self) {
        let _ = self.signal(libc::SIGKILL);
    }

    /// Nothing of it is left, as far as the engine can be reached. Who comes later finds it by its labels otherwise.
    pub fn remove(&self) {
        self.kill();
        let _ = self.engine.remove(&self.about.name);
        if self.about.network.is_some() {
            let _ = self.engine.remove(&holder_of(&self.about.name));
        }
    }

    /// A holder that has ended (Docker was restarted, say) took the network along, which nobody can join any more: the
    /// launcher makes another one, and an init in it, when this one is gone.
    fn end_without_network(&self) {
        if self.about.network.is_none() {
            return;
        }
        let is_gone = match self.engine.state(&holder_of(&self.about.name)) {
            Ok(state) => !state.is_some_and(|state| state.is_running),
            // The engine is away: it may come back, and the holder with it.
            Err(_) => false,
        };
        if is_gone {
            self.remove();
            sys::exit(KILLED);
        }
    }

    /// In the child.
    fn stand_for(&self, streams: [BorrowedFd<'_>; 3]) -> i32 {
        let Ok((signals, [mut tell, mut output, mut errors])) = begin_child(streams) else {
            return NOT_EXECUTABLE;
        };
        let (mut listening, pid) = match self.bring_up() {
            Ok(started) => started,
            Err((code, reason)) => {
                let _ = tell.write_all(&[&[code as u8], reason.as_bytes()].concat());
                return code;
            }
        };
        let process = if pid > 0 { sys::open_process(pid).ok() } else { None };
        let _ = tell.write_all(&[&[0], pid.to_ne_bytes().as_slice()].concat());
        drop(tell);
        // Its other copy: the init reads to the end.
        let _ = sys::place(output.as_fd(), 0);
        let mut write = |source: Source, bytes: &[u8]| {
            // The init is the reader; when it is gone, so is this process.
            let _ = match source {
                Source::Output => output.write_all(bytes),
                Source::Errors => errors.write_all(bytes),
            };
        };
        loop {
            let stream = listening.as_ref().map(|listening| listening.stream.as_fd());
            let mut polled =
                [waits(Some(signals.as_fd())), waits(process.as_ref().map(AsFd::as_fd)), waits(stream)];
            let timeout = if listening.is_none() { LISTEN_AGAIN_MS } else { -1 };
            if sys::poll(&mut polled, timeout).is_err() || polled[0].revents != 0 {
                // The init is gone: nobody else ends the container.
                if let Some(process) = &process {
                    let _ = sys::signal_process(process.as_fd(), libc::SIGKILL);
                }
                self.remove();
                return KILLED;
            }
            let has_ended = process.is_none() || polled[1].revents != 0;
            // What comes last comes with the end of the stream.
            if polled[2].revents != 0 {
                listening = listening.take().and_then(|mut open| open.pass_on(&mut write).then_some(open));
            } else if listening.is_none() && !has_ended {
                listening = Listening::to(&self.engine, &self.about.name).ok();
            }
            if has_ended {
                break;
            }
        }
        if let Some(mut open) = listening {
            open.finish(&mut write);
        }
        self.exit_code()
    }

    /// Listens, then starts: no output is missed.
    fn bring_up(&self) -> Result<(Option<Listening>, i32), (i32, String)> {
        let failed = |error: EngineError| (code_of(&error), error.to_string());
        // Where nothing runs, this makes the container's root.
        let listening = Listening::to(&self.engine, &self.about.name).map_err(failed)?;
        if mounts_itself(&self.about) {
            let state = self.engine.state(&self.about.name).map_err(failed)?;
            let made = state.map_or(0, |state| state.pid);
            self.mount(made).map_err(|reason| (NOT_EXECUTABLE, reason))?;
        }
        self.engine.start(&self.about.name).map_err(failed)?;
        let state = self.engine.state(&self.about.name).map_err(failed)?;
        Ok((Some(listening), state.map_or(0, |state| state.pid)))
    }

    /// `made`: the first process of the container, which does not run a program of its image yet.
    fn mount(&self, made: i32) -> Result<(), String> {
        if made <= 1 {
            return Err("the engine does not say which process the container has before it starts".to_owned());
        }
        if !self.about.new_volumes.is_empty() {
            mounts::in_child(|| fill::fill_here(made, &self.about))?;
        }
        if !self.about.mounts.is_empty() {
            mounts::in_child(|| mounts::put_here(made, &self.about))?;
        }
        Ok(())
    }

    fn exit_code(&self) -> i32 {
        let since = Instant::now();
        loop {
            match self.engine.state(&self.about.name) {
                Ok(Some(state)) if !state.is_running && state.status != "running" => {
                    return state.exit_code & 0xff;
                }
                Ok(None) => return KILLED,
                Ok(Some(_)) | Err(_) if since.elapsed() > END_KNOWN => return KILLED,
                Ok(Some(_)) | Err(_) => {
                    let _ = sys::poll(&mut [], LOOK_AGAIN_MS);
                }
            }
        }
    }
}

/// The output of a container.
struct Listening {
    stream: std::os::unix::net::UnixStream,
    early: Vec<u8>,
    frames: Frames,
}

impl Listening {
    fn to(engine: &Engine, container: &str) -> Result<Self, EngineError> {
        let sinew_engine::Upgraded { stream, early } = engine.attach(container)?;
        Ok(Self { stream, early, frames: Frames::default() })
    }

    /// One read. False: it has ended.
    fn pass_on(&mut self, write: &mut impl FnMut(Source, &[u8])) -> bool {
        self.frames.add(&std::mem::take(&mut self.early), &mut *write);
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.frames.add(&buffer[..length], write);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::Interrupted,
        }
    }

    /// The last words of a container that has ended. A process that left it may hold its output for ever.
    fn finish(&mut self, write: &mut impl FnMut(Source, &[u8])) {
        let _ = self.stream.set_read_timeout(Some(Duration::from_secs(2)));
        while self.pass_on(write) {}
    }
}

/// A session of its own, no descriptors of the init's but the three, and an end with it. The first part of the answer is
/// readable when SIGTERM comes.
fn begin_child(streams: [BorrowedFd<'_>; 3]) -> io::Result<(OwnedFd, [File; 3])> {
    let init = std::os::unix::process::parent_id();
    nix::unistd::setsid()?;
    for (number, stream) in streams.into_iter().enumerate() {
        sys::place(stream, number as i32)?;
    }
    let signals = sys::signals(&[libc::SIGTERM])?;
    sys::close_all_but(&signals);
    sys::die_with_parent(libc::SIGTERM)?;
    // It may have died before this was asked for; then there is another parent.
    if std::os::unix::process::parent_id() != init {
        return Err(io::Error::other("the init died"));
    }
    let copy = |standard: BorrowedFd<'_>| standard.try_clone_to_owned().map(File::from);
    let files = [copy(io::stdin().as_fd())?, copy(io::stdout().as_fd())?, copy(io::stderr().as_fd())?];
    Ok((signals, files))
}

/// As a shell would put it. The engine's runtime says it in words only.
fn code_of(error: &EngineError) -> i32 {
    let text = error.to_string();
    let missing = ["not found", "no such file", "No such file"].iter().any(|words| text.contains(words));
    if missing { NOT_FOUND } else { NOT_EXECUTABLE }
}

/// -1 is no descriptor, and never ready.
fn waits(descriptor: Option<BorrowedFd<'_>>) -> pollfd {
    pollfd { fd: descriptor.map_or(-1, |descriptor| descriptor.as_raw_fd()), events: POLLIN, revents: 0 }
}
