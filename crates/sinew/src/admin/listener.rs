//! The admin socket: who may connect, how many at once, and the stream of events as a body.

use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::serve::Listener;
use hyper::body::Frame;
use sinew_spec::admin::Event;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

/// Askers at the same time; more wait in the socket's queue.
const CONNECTIONS_MAX: usize = 64;

/// Accepts the user who runs the launcher and root, nobody else: the socket's mode says so already, and a socket that
/// was handed into a seal by mistake must still be of no use there.
pub struct AdminListener {
    listener: UnixListener,
    permits: Arc<Semaphore>,
    uid: u32,
}

impl AdminListener {
    pub(super) fn bind(socket: &Path) -> io::Result<Self> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ok(Self { listener, permits, uid: nix::unistd::geteuid().as_raw() })
    }
}

impl Listener for AdminListener {
    type Io = Connection;
    type Addr = ();

    async fn accept(&mut self) -> (Connection, ()) {
        loop {
            let Ok(permit) = self.permits.clone().acquire_owned().await else {
                // The semaphore is never closed.
                std::future::pending().await
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let peer = stream.peer_cred().map(|peer| peer.uid());
                    if peer.is_ok_and(|uid| uid == self.uid || uid == 0) {
                        return (Connection { stream, _permit: permit }, ());
                    }
                }
                // Out of descriptors, most likely: others have to end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

pub struct Connection {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

type NextEvent = Pin<Box<dyn Future<Output = (Option<Event>, broadcast::Receiver<Event>)> + Send>>;

/// Events as lines of JSON, each sent as soon as it happens.
pub struct EventBody {
    first: Option<Event>,
    next: Option<NextEvent>,
}

impl EventBody {
    pub fn new(first: Event, receiver: broadcast::Receiver<Event>) -> Self {
        Self { first: Some(first), next: Some(Box::pin(super::next_event(receiver))) }
    }
}

impl HttpBody for EventBody {
    type Data = Bytes;
    type Error = serde_json::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, serde_json::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(line(&first)));
        }
        let Some(next) = self.next.as_mut() else { return Poll::Ready(None) };
        let (event, receiver) = ready!(next.as_mut().poll(cx));
        match event {
            Some(event) => {
                let last = matches!(event, Event::Down { .. });
                self.next = if last { None } else { Some(Box::pin(super::next_event(receiver))) };
                Poll::Ready(Some(line(&event)))
            }
            None => {
                self.next = None;
                Poll::Ready(None)
            }
        }
    }
}

fn line(event: &Event) -> Result<Frame<Bytes>, serde_json::Error> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(Frame::data(Bytes::from(line)))
}
