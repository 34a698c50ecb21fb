//! One proxy's end of the line: its own Unix listener, which is also what identifies it.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sinew_spec::name::SpiffeId;
use sinew_spec::proxy::{ControlMessage, ProxyConfig, ProxyMessage};
use sinew_transport::frame::{FrameError, FrameReader, write_frame};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::plane::{Life, Shared};

/// For the greeting, and for a message to be taken by the other side.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed accept (no descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Words that a proxy may leave out before it counts as away.
const SILENT_WORDS: u32 = 2;
/// Longer promises are taken for this one.
const ALIVE_EVERY_MAX: Duration = Duration::from_secs(60);

type Configs = watch::Receiver<Option<Arc<ProxyConfig>>>;

/// Serves one proxy: one stream at a time. A new one takes the place of the old, whose process is gone or going.
pub async fn run(
    shared: Weak<Shared>,
    life: Life,
    identity: SpiffeId,
    listener: UnixListener,
    configs: Configs,
) {
    let mut stream: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = None;
    loop {
        let ended = async {
            match &mut stream {
                Some(stream) => stream.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((accepted, _)) => {
                    let line = Line {
                        shared: shared.clone(),
                        life: life.clone(),
                        identity: identity.clone(),
                        configs: configs.clone(),
                        sent: 0,
                    };
                    stream = Some(Box::pin(line.run(accepted)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            () = ended => {
                stream = None;
                let Some(shared) = shared.upgrade() else { return };
                shared.stream_ended(&life);
            }
        }
    }
}

/// Of a proxy that has promised to say something now and then.
struct Silence {
    /// When its last message was read.
    heard: Instant,
    /// The registry knows, or there is nothing to know.
    is_told: bool,
}

struct Line {
    shared: Weak<Shared>,
    life: Life,
    identity: SpiffeId,
    configs: Configs,
    /// The revision that the proxy has.
    sent: u64,
}

impl Line {
    /// Returns when the stream is of no more use, for whatever reason: the proxy connects again.
    async fn run(mut self, stream: UnixStream) {
        let _ = self.converse(stream).await;
    }

    async fn converse(&mut self, stream: UnixStream) -> Result<(), FrameError> {
        let (mut read, mut write) = stream.into_split();
        let mut frames = FrameReader::new();
        let greeting = timeout(PATIENCE, frames.next(&mut read)).await.map_err(|_| FrameError::Cut)??;
        let Some(ProxyMessage::Hello { revision, digest, alive_every_ms, .. }) = greeting else {
            return Ok(());
        };
        self.sent = revision;
        self.shared()?.greeted(&self.life, revision, digest.as_deref());
        let promised = Duration::from_millis(alive_every_ms).min(ALIVE_EVERY_MAX);
        let patience = promised * (SILENT_WORDS + 1);
        let mut silence = Silence { heard: Instant::now(), is_told: alive_every_ms == 0 };
        loop {
            self.push(&mut write).await?;
            tokio::select! {
                // What has come in is looked at first: it may be this process that did nothing for a while.
                biased;
                message = frames.next(&mut read) => match message? {
                    Some(message) => {
                        silence.heard = Instant::now();
                        if alive_every_ms != 0 && std::mem::take(&mut silence.is_told) {
                            self.shared()?.is_back(&self.life);
                        }
                        self.answer(message, &mut write).await?;
                    }
                    None => return Ok(()),
                },
                () = sleep_until(silence.heard + patience), if !silence.is_told => {
                    silence.is_told = true;
                    self.shared()?.is_silent(&self.life, silence.heard.into_std());
                }
                changed = self.configs.changed() => if changed.is_err() {
                    return Ok(());
                },
            }
        }
    }

    async fn push(&mut self, write: &mut OwnedWriteHalf) -> Result<(), FrameError> {
        let config = self.configs.borrow_and_update().clone();
        let Some(config) = config.filter(|config| config.revision != self.sent) else { return Ok(()) };
        self.sent = config.revision;
        let message = self.shared()?.config_message(&config);
        send(write, &message).await
    }

    async fn answer(&mut self, message: ProxyMessage, write: &mut OwnedWriteHalf) -> Result<(), FrameError> {
        match message {
            ProxyMessage::Alive => Ok(()),
            ProxyMessage::Hello { revision, digest, .. } => {
                self.sent = revision;
                self.shared()?.greeted(&self.life, revision, digest.as_deref());
                Ok(())
            }
            ProxyMessage::Certify { csr_pem } => {
                let answer = self.shared()?.certify(&self.life.instance, &self.identity, &csr_pem);
                send(write, &answer).await
            }
            ProxyMessage::Applied { revision } => {
                self.shared()?.applied(&self.life, revision);
                Ok(())
            }
            ProxyMessage::Rejected { revision, reason } => {
                self.shared()?.rejected(&self.life, revision, reason);
                Ok(())
            }
        }
    }

    fn shared(&self) -> Result<Arc<Shared>, FrameError> {
        self.shared.upgrade().ok_or(FrameError::Cut)
    }
}

async fn send(write: &mut OwnedWriteHalf, message: &ControlMessage) -> Result<(), FrameError> {
    timeout(PATIENCE, write_frame(write, message)).await.map_err(|_| FrameError::Cut)?
}
