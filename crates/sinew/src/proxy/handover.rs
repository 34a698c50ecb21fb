//! One process of a proxy takes the place of another, of another version most likely, and nobody who connects meanwhile
//! notices: `spec::handover` says in which order. Sockets of a seal come from its init; those of published ports, which
//! only the process that serves has, go along.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::future::pending;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use sinew_client::feed::Feed;
use sinew_proxy::{Gate, Handover, PublishedSockets};
use sinew_spec::handover::{HandoverMessage, UdpFlow, succeeded_admin};
use sinew_spec::seal::DESCRIPTORS_MAX;
use sinew_transport::descriptors::{Channel, Listener};
use sinew_transport::handover::{expect, is_ours, receive, send, unexpected};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// For a message that the other side can send at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a successor to find everything that it needs. The process that serves goes on meanwhile.
const READY_MAX: Duration = Duration::from_secs(10);
/// For a successor to compile what was served last: so long new connections wait.
const PREPARED_MAX: Duration = Duration::from_secs(3);
/// For a launcher that has asked who serves.
const ASKED_MAX: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A name for a socket until it takes its place.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// The place of another process, which waits for us.
pub struct Succession {
    channel: Channel,
    began: Instant,
    /// Of datagrams, and their sockets.
    pub flows: Vec<(UdpFlow, OwnedFd)>,
}

impl Succession {
    /// Asks for the place. Everything but the last configuration must be there already; when this returns, the process
    /// that serves has stopped accepting, and what it has served last is on disk.
    pub async fn begin(path: &Path, published: &PublishedSockets) -> anyhow::Result<Self> {
        let begin = async {
            let channel = Channel::connect(path).await?;
            send(&channel, &HandoverMessage::Take, &[]).await?;
            loop {
                match receive(&channel).await? {
                    (HandoverMessage::Published { addresses, more }, sockets) => {
                        if sockets.len() != addresses.len() {
                            bail!("{} sockets for {} addresses", sockets.len(), addresses.len());
                        }
                        for (address, socket) in addresses.into_iter().zip(sockets) {
                            let listener = std::net::TcpListener::from(socket);
                            listener.set_nonblocking(true)?;
                            published.adopt(address, TcpListener::from_std(listener)?);
                        }
                        if !more {
                            break;
                        }
                    }
                    (other, _) => return Err(unexpected(&other).into()),
                }
            }
            send(&channel, &HandoverMessage::Ready, &[]).await?;
            let flows = receive_flows(&channel).await?;
            Ok(Self { channel, began: Instant::now(), flows })
        };
        timeout(READY_MAX, begin)
            .await
            .map_err(|_| anyhow!("the process that serves does not answer"))?
            .context("taking the place of the process that serves")
    }

    /// The other side of the gate that the data plane waits at. When this returns, it is open: for how long nobody accepted.
    async fn finish(self, gate: OtherSide) -> anyhow::Result<Duration> {
        let OtherSide { prepared, open } = gate;
        let finish = async {
            prepared.await.map_err(|_| anyhow!("the data plane has ended"))?;
            send(&self.channel, &HandoverMessage::Prepared, &[]).await?;
            expect(&self.channel, &HandoverMessage::Done).await?;
            let _ = open.send(());
            anyhow::Ok(self.began.elapsed())
        };
        timeout(PATIENCE, finish)
            .await
            .map_err(|_| anyhow!("what was served last cannot be served in time"))?
            .context("taking the place of the process that serves")
    }
}

/// Until the process that serves has stopped accepting.
async fn receive_flows(channel: &Channel) -> anyhow::Result<Vec<(UdpFlow, OwnedFd)>> {
    let mut all = Vec::new();
    loop {
        match receive(channel).await? {
            (HandoverMessage::Go, _) => return Ok(all),
            (HandoverMessage::Flows { flows }, sockets) if flows.len() == sockets.len() => {
                all.extend(flows.into_iter().zip(sockets));
            }
            (other, _) => return Err(unexpected(&other).into()),
        }
    }
}

pub struct OtherSide {
    prepared: oneshot::Receiver<()>,
    open: oneshot::Sender<()>,
}

pub fn gate() -> (Gate, OtherSide) {
    let (prepared, is_prepared) = oneshot::channel();
    let (open, is_open) = oneshot::channel();
    (Gate { prepared, open: is_open }, OtherSide { prepared: is_prepared, open })
}

/// Who serves, and gives its place away when it is asked for.
pub struct Place {
    pub admin: PathBuf,
    /// `None`: the launcher knows nothing of successors.
    pub handover: Option<PathBuf>,
    pub published: PublishedSockets,
    pub handovers: mpsc::Sender<Handover>,
    pub feed: Rc<Feed>,
}

impl Place {
    /// Errors: the place could not be taken, so that another process serves.
    pub async fn keep(self, taken: Option<(Succession, OtherSide)>) -> anyhow::Result<Infallible> {
        let mut paused = None;
        if let Some((succession, gate)) = taken {
            paused = Some(succession.finish(gate).await?);
            self.feed.hold(false);
            // Whoever asks for counters is answered by one or the other at any time.
            if let Err(error) = std::fs::rename(beside(&self.admin), &self.admin) {
                eprintln!("error: taking the place of the admin API: {error}");
            }
        }
        match self.handover.as_deref().map(listen) {
            None => {}
            Some(Ok(listener)) => {
                if let Some(paused) = paused {
                    tell(paused);
                }
                self.serve(listener).await;
            }
            // It serves; only its end will be noticed.
            Some(Err(error)) => eprintln!("error: listening for a successor: {error}"),
        }
        pending().await
    }

    /// Returns when another process serves.
    async fn serve(&self, listener: Listener) {
        loop {
            let Ok(channel) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            if !is_ours(&channel) {
                continue;
            }
            match timeout(PATIENCE, receive(&channel)).await {
                Ok(Ok((HandoverMessage::Who, _))) => {
                    let pid = i32::try_from(std::process::id()).unwrap_or_default();
                    let answer = HandoverMessage::Serves { pid };
                    if let Ok(Ok(())) = timeout(PATIENCE, send(&channel, &answer, &[])).await {
                        let _ = timeout(ASKED_MAX, receive(&channel)).await;
                    }
                }
                Ok(Ok((HandoverMessage::Take, _))) => match self.give(&channel).await {
                    Ok(()) => {
                        let succeeded = succeeded_admin(&self.admin, std::process::id());
                        if let Err(error) = std::fs::hard_link(&self.admin, succeeded) {
                            eprintln!("error: keeping the admin API: {error}");
                        }
                        // Who asks from now on finds the other one.
                        drop(listener);
                        let _ = timeout(PATIENCE, send(&channel, &HandoverMessage::Done, &[])).await;
                        return;
                    }
                    Err(error) => eprintln!("error: a successor did not take over: {error}"),
                },
                _ => {}
            }
        }
    }

    /// Errors: it goes on as before.
    async fn give(&self, channel: &Channel) -> io::Result<()> {
        timeout(PATIENCE, self.provide(channel)).await??;
        // From here on nothing is acknowledged that the successor would not find.
        self.feed.hold(true);
        let given = self.pause(channel).await;
        if given.is_err() {
            self.feed.hold(false);
        }
        given
    }

    async fn provide(&self, channel: &Channel) -> io::Result<()> {
        let sockets = self.published.duplicate()?;
        let mut parts = sockets.chunks(DESCRIPTORS_MAX).peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let more = parts.peek().is_some();
            let addresses = part.iter().map(|(address, _)| *address).collect();
            let descriptors: Vec<_> = part.iter().map(|(_, socket)| socket.as_fd()).collect();
            send(channel, &HandoverMessage::Published { addresses, more }, &descriptors).await?;
            if !more {
                return expect(channel, &HandoverMessage::Ready).await;
            }
        }
    }

    async fn pause(&self, channel: &Channel) -> io::Result<()> {
        let (paused, is_paused) = oneshot::channel();
        let (outcome, outcome_out) = oneshot::channel();
        let gone = |_| io::Error::other("the data plane has ended");
        self.handovers.try_send(Handover { paused, outcome: outcome_out }).map_err(io::Error::other)?;
        let flows = timeout(PATIENCE, is_paused).await?.map_err(gone)?;
        send_flows(channel, &flows).await;
        drop(flows);
        send(channel, &HandoverMessage::Go, &[]).await?;
        let prepared = match timeout(PREPARED_MAX, expect(channel, &HandoverMessage::Prepared)).await {
            Ok(prepared) => prepared,
            // It may have said so at this moment: what it says from now on does not arrive, and it knows that.
            Err(late) => {
                channel.refuse_more()?;
                let last = timeout(Duration::ZERO, expect(channel, &HandoverMessage::Prepared)).await;
                last.unwrap_or(Err(late.into()))
            }
        };
        prepared?;
        outcome.send(true).map_err(|_| io::Error::other("the data plane has ended"))
    }
}

/// Those that the kernel does not take (it bounds descriptors on their way) begin anew with their client's next datagram.
async fn send_flows(channel: &Channel, flows: &[(UdpFlow, OwnedFd)]) {
    for part in flows.chunks(DESCRIPTORS_MAX) {
        let descriptors: Vec<_> = part.iter().map(|(_, socket)| socket.as_fd()).collect();
        let flows = part.iter().map(|(flow, _)| *flow).collect();
        let message = HandoverMessage::Flows { flows };
        let sent = timeout(PATIENCE, send(channel, &message, &descriptors)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// In the place of an earlier one.
fn listen(path: &Path) -> io::Result<Listener> {
    let beside = beside(path);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = Listener::bind(&beside)?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// On standard output, for how many microseconds nobody accepted. The launcher waits for it; there may be none any more.
fn tell(paused: Duration) {
    let word = format!("{}\n", paused.as_micros());
    let _ = io::stdout().write_all(word.as_bytes()).and_then(|()| io::stdout().flush());
    if let Ok(nothing) = OpenOptions::new().write(true).open("/dev/null") {
        nix::unistd::dup2_stdout(nothing).ok();
    }
}
