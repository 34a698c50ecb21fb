//! The loop of an init: requests, the end of processes, the output of the service, the launcher's lifeline.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libc::{POLLIN, pollfd};
use sinew_spec::log::{NOTE, Stream};
use sinew_spec::seal::{
    Command, DESCRIPTORS_MAX, InitEvent, InitMessage, InitReply, InitRequest, LISTENERS_MAX,
    MESSAGE_BYTES_MAX, ServiceState, StandingSockets, TerminalSize,
};
use sinew_transport::descriptors;

use super::container::Container;
use super::explicit::{self, Listeners};
use super::keep::Keeper;
use super::listeners;
use super::log::Log;
use super::network;
use super::service::{self, NotStarted, Origin};
use super::sys::{self, Reaped};
use super::terminal::Terminal;

const CONNECTIONS_MAX: usize = 64;
const READ_BYTES: usize = 16 * 1024;
/// Reads of one pipe in one turn of the loop, so that a talkative service does not keep requests waiting.
const READS_PER_TURN: usize = 8;
const NO_SEAL: &str = "there is no seal: the explicit posture";
/// How long the end of a service waits for killed leftovers (a process in an uninterruptible call may take long).
const LEFTOVERS_MS_MAX: u64 = 5_000;

/// Descriptors that are always polled, before outputs and connections.
const FIXED: usize = 4;
const NOBODY: pollfd = pollfd { fd: -1, events: 0, revents: 0 };

/// A line whose end does not come (a prompt, say) is written as it is when its stream was quiet for so long.
const QUIET_MS: u64 = 500;

/// After as long without an event, memory that only events need is given back.
const IDLE_MS: i32 = 200;

/// In the order in which they are handed out.
pub struct Standing {
    pub sockets: [OwnedFd; 5],
    pub udp_egress: Vec<OwnedFd>,
}

/// What an init serves besides the life of its service.
pub enum Around {
    Seal {
        standing: Standing,
        hosts: File,
        keeper: Keeper,
        /// `None`: the service is a process of this init's own.
        container: Option<Box<Container>>,
    },
    /// Explicit posture.
    Host(Listeners),
}

pub struct Seal {
    around: Around,
    signals: OwnedFd,
    listener: OwnedFd,
    lifeline: Option<OwnedFd>,
    log: Log,
    origin: Origin,
    state: ServiceState,
    /// The child that is the service, or stands for it, while it runs.
    service: i32,
    ending: Option<Ending>,
    outputs: Vec<Output>,
    connections: Vec<Connection>,
    /// The seal ends after this turn.
    ended: bool,
}

/// The service's first process is gone, what it left is being killed.
struct Ending {
    state: ServiceState,
    since: Instant,
}

struct Output {
    pipe: File,
    stream: Stream,
    /// A line without its end.
    begun: Vec<u8>,
    /// When it was last written to.
    last: Instant,
}

struct Connection {
    socket: OwnedFd,
    watches: bool,
    /// Processes that were started for it and live.
    execs: Vec<i32>,
    gone: bool,
}

type Answer = (InitReply, Vec<OwnedFd>);

impl Seal {
    pub fn new(
        around: Around,
        listener: OwnedFd,
        lifeline: Option<OwnedFd>,
        log_folder: OwnedFd,
        log_bytes_max: u64,
        origin: Origin,
    ) -> io::Result<Self> {
        Ok(Self {
            around,
            signals: sys::signals(&[libc::SIGCHLD, libc::SIGTERM, libc::SIGINT])?,
            listener,
            lifeline,
            log: Log::open(log_folder, log_bytes_max, Instant::now()),
            origin,
            state: ServiceState::Empty,
            service: 0,
            ending: None,
            outputs: Vec::new(),
            connections: Vec::new(),
            ended: false,
        })
    }

    /// Until the seal ends. The kernel kills what is left in it when its first process is gone.
    pub fn serve(mut self) -> i32 {
        sys::keep_little_memory();
        sys::give_memory_back();
        while !self.ended {
            if self.turn().is_err() {
                break;
            }
        }
        self.kill_all();
        self.reap_all();
        self.read_outputs(usize::MAX);
        self.log.flush();
        if let Some(container) = self.container() {
            container.remove();
        }
        0
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut polled = vec![wait_for(&self.signals), wait_for(&self.listener)];
        polled.push(self.lifeline.as_ref().map_or(NOBODY, wait_for));
        polled.push(self.keeper().and_then(|keeper| keeper.changes()).map_or(NOBODY, wait_for));
        polled.extend(self.outputs.iter().map(|output| wait_for(&output.pipe)));
        polled.extend(self.connections.iter().map(|connection| wait_for(&connection.socket)));
        let waits = self.outputs.iter().any(|output| !output.begun.is_empty());
        let happened = sys::poll(&mut polled, self.timeout_ms())?;
        if !happened && !waits && self.ending.is_none() && self.due_ms() != Some(0) {
            if self.log.due(Instant::now()).is_some_and(|due| !due.is_zero()) {
                return Ok(());
            }
            self.log.rest();
            // Nothing but the wait itself comes after it, or the pages would be back at once.
            sys::give_memory_back();
            sys::poll(&mut polled, self.due_ms().unwrap_or(-1))?;
        }

        let ready = |index: usize| polled[index].revents != 0;
        let outputs = self.outputs.len();
        // Lifeline: any event is its end, as nothing is ever written into it.
        self.ended |= ready(2);
        if ready(0) {
            self.ended |= sys::drain_signals(&self.signals);
        }
        self.keep_trees(ready(3));
        if (FIXED..FIXED + outputs).any(ready) {
            self.read_outputs(READS_PER_TURN);
        }
        self.write_what_waits();
        for index in 0..self.connections.len() {
            if ready(FIXED + outputs + index) {
                self.requests(index);
            }
        }
        if ready(1) {
            self.accept();
        }
        // After the requests: the end of what one of them started may be among what has ended.
        self.reap();
        self.forget_connections();
        self.log.write_when_due(Instant::now());
        Ok(())
    }

    fn timeout_ms(&self) -> i32 {
        // Short enough for a begun line too: it is late by this at the most.
        let own = match &self.ending {
            Some(ending) => {
                let left = Duration::from_millis(LEFTOVERS_MS_MAX).saturating_sub(ending.since.elapsed());
                left.as_millis() as i32 + 1
            }
            None => {
                let due = self.log.due(Instant::now()).map(|due| due.as_millis() as i32 + 1);
                due.map_or(IDLE_MS, |due| due.min(IDLE_MS))
            }
        };
        self.due_ms().map_or(own, |due| due.min(own))
    }

    /// Until folders are to be renewed. `None`: when something happens in them.
    fn due_ms(&self) -> Option<i32> {
        let left = self.keeper()?.due()?.saturating_duration_since(Instant::now());
        Some(left.as_micros().div_ceil(1000).min(1 << 30) as i32)
    }

    fn keeper(&self) -> Option<&Keeper> {
        match &self.around {
            Around::Seal { keeper, .. } => Some(keeper),
            Around::Host(_) => None,
        }
    }

    /// What cannot be shown to the service is told to who reads its log.
    fn keep_trees(&mut self, told: bool) {
        let Around::Seal { keeper, .. } = &mut self.around else { return };
        if let Some(trouble) = keeper.turn(told).map(str::to_owned) {
            self.note(&trouble);
        }
    }

    /// A line of the service's log that is ours.
    pub fn note(&mut self, text: &str) {
        let line = format!("{NOTE}{text}\n");
        self.log.add(Stream::Error, &mut Vec::new(), line.as_bytes(), now_unix_ms(), Instant::now());
    }

    /// Only processes of the launcher's user, outside of the seal, are served.
    fn accept(&mut self) {
        let has_processes = matches!(self.around, Around::Seal { container: None, .. });
        while let Ok(socket) = sys::accept(self.listener.as_fd()) {
            let admitted = sys::peer_pid_and_uid(socket.as_fd())
                .is_ok_and(|(pid, uid)| uid == sys::effective_uid() && (pid == 0 || !has_processes));
            if admitted && self.connections.len() < CONNECTIONS_MAX {
                self.connections.push(Connection { socket, watches: false, execs: Vec::new(), gone: false });
            }
        }
    }

    fn requests(&mut self, index: usize) {
        // Of the size of the largest request; only what is used costs memory, and only until the end of this turn.
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        loop {
            let received = descriptors::receive(self.connections[index].socket.as_fd(), &mut buffer);
            let (length, sent_along) = match received {
                Ok((0, _)) => break self.connections[index].gone = true,
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => break self.connections[index].gone = true,
            };
            let (reply, handed_out) = match serde_json::from_slice(&buffer[..length]) {
                Ok(request) => self.answer(index, request, sent_along),
                Err(error) => (InitReply::Failed { reason: format!("not a request: {error}") }, Vec::new()),
            };
            self.send(index, &InitMessage::Reply(reply), &handed_out);
            if self.connections[index].watches {
                // The state that is present when somebody begins to watch, once.
                self.connections[index].watches = false;
                self.send(index, &InitMessage::Event(InitEvent::Service { state: self.state.clone() }), &[]);
                self.connections[index].watches = true;
            }
        }
    }

    fn answer(&mut self, index: usize, request: InitRequest, sent_along: Vec<OwnedFd>) -> Answer {
        let answered = match request {
            InitRequest::Start { command } => {
                self.start(&command).map(|pid| (InitReply::Started { pid }, Vec::new()))
            }
            InitRequest::Signal { signal } => self.signal(signal).map(done).map_err(NotStarted::from),
            InitRequest::KillAll => {
                self.kill_all();
                Ok(done(()))
            }
            InitRequest::Exec { command, tty: false, .. } => {
                self.exec(index, &command, sent_along).map(|pid| (InitReply::Started { pid }, Vec::new()))
            }
            InitRequest::Exec { command, tty: true, size } => self.exec_on_terminal(index, &command, size),
            InitRequest::StandingSockets => self.standing_sockets().map_err(NotStarted::from),
            InitRequest::Listeners { destinations } => {
                self.listeners(&destinations).map_err(NotStarted::from)
            }
            InitRequest::IsOnLoopbackOnly { port } => {
                let answer = listeners::is_on_loopback_only(port);
                Ok((InitReply::OnLoopbackOnly { answer }, Vec::new()))
            }
            InitRequest::DialSockets { count, ipv6 } => dial_sockets(count, ipv6).map_err(NotStarted::from),
            InitRequest::Hosts { content } => self.write_hosts(&content).map(done).map_err(NotStarted::from),
            InitRequest::Status => Ok((InitReply::Status { state: self.state.clone() }, Vec::new())),
            InitRequest::Watch => {
                self.connections[index].watches = true;
                Ok(done(()))
            }
            InitRequest::Shutdown => {
                self.ended = true;
                Ok(done(()))
            }
        };
        answered.unwrap_or_else(|NotStarted { reason, code }| match code {
            Some(code) => (InitReply::NotStarted { reason, code }, Vec::new()),
            None => (InitReply::Failed { reason }, Vec::new()),
        })
    }

    fn start(&mut self, command: &Command) -> Result<i32, NotStarted> {
        if self.ending.is_some() {
            return Err("the service is ending".to_owned().into());
        }
        if let ServiceState::Running { pid, .. } = self.state {
            return Err(format!("the service runs already (pid {pid} inside)").into());
        }
        let (stdout, stdout_in) = pipe()?;
        let (stderr, stderr_in) = pipe()?;
        let pid = if let Around::Seal { container: Some(container), .. } = &mut self.around {
            let started = container.start(stdout_in.as_fd(), stderr_in.as_fd())?;
            self.service = started.child;
            started.pid
        } else {
            let stdin = service::nothing().map_err(|e| format!("open /dev/null: {e}"))?;
            let streams = [stdin.as_fd(), stdout_in.as_fd(), stderr_in.as_fd()];
            self.service = self.origin.start(command, streams, false)?;
            self.service
        };
        let output = |pipe, stream| Output { pipe, stream, begun: Vec::new(), last: Instant::now() };
        self.outputs.push(output(stdout, Stream::Output));
        self.outputs.push(output(stderr, Stream::Error));
        self.change(ServiceState::Running { pid, started_unix_ms: now_unix_ms() });
        Ok(pid)
    }

    fn signal(&self, signal: i32) -> Result<(), String> {
        let ServiceState::Running { pid, .. } = self.state else {
            return Err("the service does not run".to_owned());
        };
        let sent = match self.container() {
            Some(container) => container.signal(signal),
            None => sys::signal_group(pid, signal),
        };
        sent.map_err(|e| format!("send signal {signal}: {e}"))
    }

    fn container(&self) -> Option<&Container> {
        match &self.around {
            Around::Seal { container, .. } => container.as_deref(),
            Around::Host(_) => None,
        }
    }

    fn exec(&mut self, index: usize, command: &Command, streams: Vec<OwnedFd>) -> Result<i32, NotStarted> {
        let streams: [OwnedFd; 3] = streams
            .try_into()
            .map_err(|streams: Vec<_>| format!("{} descriptors came along, not three", streams.len()))?;
        let pid = match self.container() {
            Some(container) => container.exec(command, false, service::borrow(&streams))?,
            None => self.origin.start(command, service::borrow(&streams), false)?,
        };
        self.connections[index].execs.push(pid);
        Ok(pid)
    }

    /// The asker gets the outer end.
    fn exec_on_terminal(
        &mut self,
        index: usize,
        command: &Command,
        size: Option<TerminalSize>,
    ) -> Result<Answer, NotStarted> {
        let (outer, pid) = match self.container() {
            // The engine makes the command's own one; this one is its other end.
            Some(container) => {
                let Terminal { outer, inner } = Terminal::open(sys::effective_uid(), size)?;
                (outer, container.exec(command, true, [inner.as_fd(); 3])?)
            }
            None => {
                let Terminal { outer, inner } = Terminal::open(command.uid, size)?;
                (outer, self.origin.start(command, [inner.as_fd(); 3], true)?)
            }
        };
        self.connections[index].execs.push(pid);
        Ok((InitReply::Started { pid }, vec![outer]))
    }

    fn standing_sockets(&self) -> Result<Answer, String> {
        let Around::Seal { standing, .. } = &self.around else { return Err(NO_SEAL.to_owned()) };
        let all = standing.sockets.iter().chain(&standing.udp_egress);
        let copies: io::Result<Vec<_>> = all.map(OwnedFd::try_clone).collect();
        let sockets = StandingSockets { udp_egress: standing.udp_egress.len() };
        Ok((InitReply::Standing { sockets }, copies.map_err(|e| format!("copy descriptors: {e}"))?))
    }

    fn listeners(&mut self, destinations: &[SocketAddr]) -> Result<Answer, String> {
        let Around::Host(listeners) = &mut self.around else {
            return Err("a seal has no listeners for single destinations".to_owned());
        };
        let (listeners, sockets) = listeners
            .with(destinations)
            .map_err(|e| format!("listen for {LISTENERS_MAX} destinations at the most: {e}"))?;
        Ok((InitReply::Listeners { listeners }, sockets))
    }

    /// The service and everything that came of it, but not this process.
    fn kill_all(&self) {
        match &self.around {
            Around::Seal { container: Some(container), .. } => container.kill(),
            Around::Seal { container: None, .. } => sys::kill_all_others(),
            Around::Host(_) => explicit::kill_descendants(),
        }
    }

    /// In place, so that who has the file open or mounted sees it.
    fn write_hosts(&self, content: &str) -> Result<(), String> {
        let Around::Seal { hosts, .. } = &self.around else { return Err(NO_SEAL.to_owned()) };
        hosts
            .write_all_at(content.as_bytes(), 0)
            .and_then(|()| hosts.set_len(content.len() as u64))
            .map_err(|e| format!("write /etc/hosts: {e}"))
    }

    fn change(&mut self, state: ServiceState) {
        self.state = state;
        let event = InitMessage::Event(InitEvent::Service { state: self.state.clone() });
        for index in 0..self.connections.len() {
            if self.connections[index].watches {
                self.send(index, &event, &[]);
            }
        }
    }

    /// Who does not read what it asked for is no longer served.
    fn send(&mut self, index: usize, message: &InitMessage, descriptors: &[OwnedFd]) {
        let connection = &mut self.connections[index];
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let sent = serde_json::to_vec(message)
            .map_err(io::Error::other)
            .and_then(|bytes| descriptors::send(connection.socket.as_fd(), &bytes, &borrowed));
        connection.gone |= sent.is_err();
    }

    fn reap(&mut self) {
        if self.ending.is_some() && matches!(self.around, Around::Host(_)) {
            // Whatever was forked while the rest was being killed.
            self.kill_all();
        }
        loop {
            match sys::reap() {
                Reaped::Ended(pid, code, signal) => self.ended_process(pid, code, signal),
                Reaped::None => {
                    let late = self.ending.as_ref().is_some_and(|ending| {
                        ending.since.elapsed() >= Duration::from_millis(LEFTOVERS_MS_MAX)
                    });
                    break if late {
                        self.finish()
                    };
                }
                Reaped::NoChildren => break self.finish(),
            }
        }
    }

    fn ended_process(&mut self, pid: i32, code: i32, signal: Option<i32>) {
        if let ServiceState::Running { started_unix_ms, .. } = self.state
            && pid == self.service
            && self.ending.is_none()
        {
            let ended_unix_ms = now_unix_ms();
            let state = ServiceState::Exited { code, signal, started_unix_ms, ended_unix_ms };
            self.ending = Some(Ending { state, since: Instant::now() });
            // What it left would hold its ports when it is started again.
            self.kill_all();
            return;
        }
        for index in 0..self.connections.len() {
            let execs = &mut self.connections[index].execs;
            if let Some(at) = execs.iter().position(|exec| *exec == pid) {
                execs.swap_remove(at);
                self.send(index, &InitMessage::Event(InitEvent::ExecExited { code }), &[]);
            }
        }
    }

    /// Nothing of an ended service is left: its last words are read, its end is told.
    fn finish(&mut self) {
        let Some(ending) = self.ending.take() else { return };
        self.read_outputs(usize::MAX);
        let now = now_unix_ms();
        for mut output in std::mem::take(&mut self.outputs) {
            self.log.end(output.stream, &mut output.begun, now);
        }
        self.change(ending.state);
    }

    fn reap_all(&mut self) {
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(LEFTOVERS_MS_MAX) {
            match sys::reap() {
                Reaped::NoChildren => return,
                Reaped::Ended(..) => {}
                Reaped::None => {
                    self.kill_all();
                    sys::drain_signals(&self.signals);
                    let _ = sys::poll(&mut [wait_for(&self.signals)], 100);
                }
            }
        }
    }

    fn read_outputs(&mut self, reads_max: usize) {
        let mut buffer = [0; READ_BYTES];
        let log = &mut self.log;
        self.outputs.retain_mut(|output| {
            for _ in 0..reads_max {
                match output.pipe.read(&mut buffer) {
                    Ok(0) => {
                        log.end(output.stream, &mut output.begun, now_unix_ms());
                        return false;
                    }
                    Ok(length) => {
                        output.last = Instant::now();
                        let bytes = &buffer[..length];
                        log.add(output.stream, &mut output.begun, bytes, now_unix_ms(), output.last);
                    }
                    Err(_) => return true,
                }
            }
            true
        });
    }

    /// Who reads the log shall see a question that waits for its answer.
    fn write_what_waits(&mut self) {
        for output in &mut self.outputs {
            if !output.begun.is_empty() && output.last.elapsed() >= Duration::from_millis(QUIET_MS) {
                self.log.end(output.stream, &mut output.begun, now_unix_ms());
            }
        }
    }

    fn forget_connections(&mut self) {
        // Who stands for a command in a container ends it before it goes itself.
        let signal = if self.container().is_some() { libc::SIGTERM } else { libc::SIGKILL };
        self.connections.retain(|connection| {
            if connection.gone {
                for exec in &connection.execs {
                    let _ = sys::signal_group(*exec, signal);
                }
            }
            !connection.gone
        });
    }
}

fn dial_sockets(count: usize, ipv6: bool) -> Result<Answer, String> {
    let count = count.min(DESCRIPTORS_MAX);
    let made: io::Result<Vec<_>> = (0..count).map(|_| network::dial_socket(ipv6)).collect();
    Ok((InitReply::Dial { count }, made.map_err(|e| format!("make {count} sockets: {e}"))?))
}

fn done((): ()) -> Answer {
    (InitReply::Done, Vec::new())
}

/// The reading end never waits; the writing one does, as the service expects.
fn pipe() -> Result<(File, OwnedFd), String> {
    let (read, write) = io::pipe().map_err(|e| format!("make a pipe: {e}"))?;
    let read = OwnedFd::from(read);
    nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
        .map_err(|e| format!("make a pipe: {e}"))?;
    Ok((read.into(), write.into()))
}

fn wait_for(descriptor: &impl AsRawFd) -> pollfd {
    pollfd { fd: descriptor.as_raw_fd(), events: POLLIN, revents: 0 }
}

fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
