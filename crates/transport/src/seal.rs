//! The client of a seal's init (`spec::seal`): used by sidecars, the launcher and the CLI. It knows the messages and
//! nothing of how a seal is built.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use sinew_spec::seal::{
    Command, DESCRIPTORS_MAX, FixedListener, InitEvent, InitMessage, InitReply, InitRequest,
    MESSAGE_BYTES_MAX, ServiceState, TerminalSize,
};
use tokio::sync::Mutex;

use crate::descriptors::Channel;

#[cfg(test)]
mod tests;

#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("connecting to the seal's init at {path}: {source}")]
    Connect { path: PathBuf, source: io::Error },
    #[error("talking to the seal's init: {0}")]
    Io(#[from] io::Error),
    #[error("the seal's init is gone")]
    Gone,
    #[error("the seal's init refused: {0}")]
    Refused(String),
    /// With the code of a shell: 127, there is no such program; 126, it cannot be executed.
    #[error("{reason}")]
    NotStarted { reason: String, code: i32 },
    #[error("not a message of the seal's init: {0}")]
    Malformed(String),
}

/// A connection for requests. Any number of tasks may use it: requests are answered one after the other.
#[derive(Debug)]
pub struct InitClient {
    connection: Mutex<Connection>,
}

impl InitClient {
    pub async fn connect(path: &Path) -> Result<Self, InitError> {
        let channel = Channel::connect(path)
            .await
            .map_err(|source| InitError::Connect { path: path.to_path_buf(), source })?;
        Ok(Self { connection: Mutex::new(Connection { channel, replies_owed: 0 }) })
    }

    /// [`InitReply::Failed`] becomes [`InitError::Refused`], and a program that does not run is an error too. Safe to cancel: an abandoned reply is skipped later.
    pub async fn request(
        &self,
        request: &InitRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(InitReply, Vec<OwnedFd>), InitError> {
        self.connection.lock().await.request(request, descriptors).await
    }

    /// The sockets that exist once per seal, duplicated for the caller.
    pub async fn standing_sockets(&self) -> Result<StandingSockets, InitError> {
        match self.request(&InitRequest::StandingSockets, &[]).await? {
            (InitReply::Standing { sockets }, descriptors) => {
                StandingSockets::from_descriptors(sockets.udp_egress, descriptors)
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Explicit posture: the hop listener and all fixed listeners, those for `destinations` among them.
    pub async fn listeners(
        &self,
        destinations: Vec<SocketAddr>,
    ) -> Result<(OwnedFd, Vec<(FixedListener, OwnedFd)>), InitError> {
        match self.request(&InitRequest::Listeners { destinations }, &[]).await? {
            (InitReply::Listeners { listeners }, sockets) if sockets.len() == listeners.len() + 1 => {
                let mut sockets = sockets.into_iter();
                let hop = sockets.next().expect("there is one more than listeners");
                Ok((hop, listeners.into_iter().zip(sockets).collect()))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Unconnected, non-blocking stream sockets that were made inside the seal. `count` is cut to
    /// [`DESCRIPTORS_MAX`].
    pub async fn dial(&self, count: usize, ipv6: bool) -> Result<Vec<OwnedFd>, InitError> {
        let count = count.min(DESCRIPTORS_MAX);
        match self.request(&InitRequest::DialSockets { count, ipv6 }, &[]).await? {
            (InitReply::Dial { count }, sockets) if count == sockets.len() => Ok(sockets),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Whether somebody listens on `port` inside, but on loopback alone.
    pub async fn is_on_loopback_only(&self, port: u16) -> Result<bool, InitError> {
        match self.request(&InitRequest::IsOnLoopbackOnly { port }, &[]).await? {
            (InitReply::OnLoopbackOnly { answer }, _) => Ok(answer),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The service's pid as seen inside the seal.
    pub async fn start(&self, command: Command) -> Result<i32, InitError> {
        match self.request(&InitRequest::Start { command }, &[]).await? {
            (InitReply::Started { pid }, _) => Ok(pid),
            (other, _) => Err(unexpected(&other)),
        }
    }

    pub async fn status(&self) -> Result<ServiceState, InitError> {
        match self.request(&InitRequest::Status, &[]).await? {
            (InitReply::Status { state }, _) => Ok(state),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// For `Signal`, `KillAll`, `Hosts` and `Shutdown`.
    pub async fn tell(&self, request: &InitRequest) -> Result<(), InitError> {
        match self.request(request, &[]).await? {
            (InitReply::Done, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Turns the connection into a stream of what happens to the service; its present state comes first.
    pub async fn watch(self) -> Result<InitEvents, InitError> {
        self.tell(&InitRequest::Watch).await?;
        let connection = self.connection.into_inner();
        Ok(InitEvents { channel: connection.channel, buffer: Vec::new() })
    }

    /// Runs a further command inside. Dropping the answer kills the command.
    pub async fn exec(self, command: Command, streams: [BorrowedFd<'_>; 3]) -> Result<Exec, InitError> {
        let request = InitRequest::Exec { command, tty: false, size: None };
        let (reply, _) = self.request(&request, &streams).await?;
        let InitReply::Started { pid } = reply else { return Err(unexpected(&reply)) };
        Ok(self.into_exec(pid))
    }

    /// The same on a new pseudo-terminal of the seal, with its outer end.
    pub async fn exec_on_terminal(
        self,
        command: Command,
        size: TerminalSize,
    ) -> Result<(Exec, OwnedFd), InitError> {
        let request = InitRequest::Exec { command, tty: true, size: Some(size) };
        let (reply, mut descriptors) = self.request(&request, &[]).await?;
        let InitReply::Started { pid } = reply else { return Err(unexpected(&reply)) };
        let terminal = descriptors.pop().ok_or(InitError::Malformed("no terminal came along".to_owned()))?;
        Ok((self.into_exec(pid), terminal))
    }

    fn into_exec(self, pid: i32) -> Exec {
        let connection = self.connection.into_inner();
        Exec { pid, events: InitEvents { channel: connection.channel, buffer: Vec::new() } }
    }
}

/// What exists once per seal. All sockets are non-blocking; they are shared with the init and with every other asker,
/// so they are never to be shut down.
#[derive(Debug)]
pub struct StandingSockets {
    /// Redirected TCP, and DNS over TCP: `127.0.0.1:64999`.
    pub outbound_v4: OwnedFd,
    /// The same on `[::1]:64999`.
    pub outbound_v6: OwnedFd,
    /// DNS over UDP: `127.0.0.1:64999`.
    pub dns: OwnedFd,
    /// A netlink socket that tells what was refused (NFLOG group 1).
    pub refused: OwnedFd,
    /// The Unix stream listener of the hop.
    pub hop: OwnedFd,
    /// One per declared UDP destination, in the order of `SealSpec::egress` without its TCP entries.
    pub udp_egress: Vec<OwnedFd>,
}

impl StandingSockets {
    fn from_descriptors(udp_egress: usize, descriptors: Vec<OwnedFd>) -> Result<Self, InitError> {
        let count = descriptors.len();
        let mut rest = descriptors.into_iter();
        let mut next = || rest.next();
        let (Some(outbound_v4), Some(outbound_v6), Some(dns), Some(refused), Some(hop)) =
            (next(), next(), next(), next(), next())
        else {
            return Err(InitError::Malformed(format!("{count} standing sockets")));
        };
        let sockets =
            Self { outbound_v4, outbound_v6, dns, refused, hop, udp_egress: rest.collect::<Vec<_>>() };
        if sockets.udp_egress.len() != udp_egress {
            return Err(InitError::Malformed(format!(
                "{count} standing sockets, {udp_egress} for UDP egress"
            )));
        }
        Ok(sockets)
    }
}

/// What happens in a seal, as it happens.
#[derive(Debug)]
pub struct InitEvents {
    channel: Channel,
    buffer: Vec<u8>,
}

impl InitEvents {
    /// `None`: the seal ended. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<InitEvent>, InitError> {
        self.buffer.resize(MESSAGE_BYTES_MAX, 0);
        loop {
            let (length, _) = match self.channel.receive(&mut self.buffer).await {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            match parse(&self.buffer[..length])? {
                None => return Ok(None),
                Some(InitMessage::Event(event)) => return Ok(Some(event)),
                Some(InitMessage::Reply(_)) => {}
            }
        }
    }
}

/// A command that runs inside because of [`InitClient::exec`].
#[derive(Debug)]
pub struct Exec {
    /// As seen inside the seal.
    pub pid: i32,
    events: InitEvents,
}

impl Exec {
    /// The exit code; 128 + signal for a death by signal. Safe to cancel.
    pub async fn wait(&mut self) -> Result<i32, InitError> {
        loop {
            match self.events.next().await? {
                Some(InitEvent::ExecExited { code }) => return Ok(code),
                Some(InitEvent::Service { .. }) => {}
                None => return Err(InitError::Gone),
            }
        }
    }
}

#[derive(Debug)]
struct Connection {
    channel: Channel,
    /// Replies to requests whose askers went away before they came.
    replies_owed: usize,
}

impl Connection {
    async fn request(
        &mut self,
        request: &InitRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(InitReply, Vec<OwnedFd>), InitError> {
        let bytes = serde_json::to_vec(request).map_err(|error| InitError::Malformed(error.to_string()))?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            let reason = format!("a request of {} bytes; {MESSAGE_BYTES_MAX} are allowed", bytes.len());
            return Err(InitError::Malformed(reason));
        }
        while self.replies_owed > 0 {
            self.reply().await?;
        }
        match self.channel.send(&bytes, descriptors).await {
            Err(error) if gone(&error) => return Err(InitError::Gone),
            sent => sent?,
        }
        self.replies_owed += 1;
        match self.reply().await? {
            (InitReply::Failed { reason }, _) => Err(InitError::Refused(reason)),
            (InitReply::NotStarted { reason, code }, _) => Err(InitError::NotStarted { reason, code }),
            answer => Ok(answer),
        }
    }

    async fn reply(&mut self) -> Result<(InitReply, Vec<OwnedFd>), InitError> {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        loop {
            let (length, descriptors) = match self.channel.receive(&mut buffer).await {
                Err(error) if gone(&error) => return Err(InitError::Gone),
                received => received?,
            };
            match parse(&buffer[..length])? {
                None => return Err(InitError::Gone),
                Some(InitMessage::Reply(reply)) => {
                    self.replies_owed -= 1;
                    return Ok((reply, descriptors));
                }
                Some(InitMessage::Event(_)) => {}
            }
        }
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn parse(bytes: &[u8]) -> Result<Option<InitMessage>, InitError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(bytes).map(Some).map_err(|error| InitError::Malformed(error.to_string()))
}

fn unexpected(reply: &InitReply) -> InitError {
    InitError::Malformed(format!("an answer to something else: {reply:?}"))
}
