//! The admin socket: who may connect, how many at once, and who has to go when there are too many.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Sleep;
use tower_service::Service;

/// Askers at the same time. One more: whoever asks nothing for the longest time has to go; when all of them are being
/// answered it waits in the socket's queue.
pub const CONNECTIONS_MAX: usize = 64;
/// For the head of a request, also the next one of a connection; and for the body after it.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Who has just connected is about to ask.
const IDLE_LEAST: Duration = Duration::from_secs(1);

/// Accepts the user who runs the launcher and root, nobody else: the socket's mode says so already, and a socket that
/// was handed into a seal by mistake must still be of no use there.
pub struct AdminListener {
    listener: UnixListener,
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
        Ok(Self { listener, uid: nix::unistd::geteuid().as_raw() })
    }

    /// Until dropped, and every connection with it.
    pub async fn serve(self, router: Router) {
        let mut connections = Connections::default();
        loop {
            let place = connections.place();
            tokio::select! {
                Some(_) = connections.tasks.join_next() => {}
                // Somebody is no longer being answered, or has been idle for long enough by then.
                () = connections.freed.notified(), if place == Place::None => {}
                () = wait(place), if matches!(place, Place::In(_)) => {}
                stream = self.accept(), if place == Place::Free => connections.add(stream, &router),
            }
        }
    }

    async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let peer = stream.peer_cred().map(|peer| peer.uid());
                    if peer.is_ok_and(|uid| uid == self.uid || uid == 0) {
                        return stream;
                    }
                }
                // Out of descriptors, most likely: others have to end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// Whether one more can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    In(Duration),
    None,
}

async fn wait(place: Place) {
    if let Place::In(time) = place {
        tokio::time::sleep(time).await;
    }
}

#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// In the order in which they came.
    open: Vec<Open>,
    freed: Arc<Notify>,
}

struct Open {
    since: Instant,
    /// A request is being answered: also for as long as events are streamed.
    busy: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Connections {
    fn place(&mut self) -> Place {
        self.open.retain(|open| !open.task.is_finished());
        if self.open.len() < CONNECTIONS_MAX {
            return Place::Free;
        }
        match self.open.iter().find(|open| !open.busy.load(Ordering::Relaxed)) {
            Some(idle) => match IDLE_LEAST.saturating_sub(idle.since.elapsed()) {
                Duration::ZERO => Place::Free,
                rest => Place::In(rest),
            },
            None => Place::None,
        }
    }

    fn add(&mut self, stream: UnixStream, router: &Router) {
        if self.open.len() >= CONNECTIONS_MAX
            && let Some(at) = self.open.iter().position(|open| !open.busy.load(Ordering::Relaxed))
        {
            self.open.remove(at).task.abort();
        }
        let busy = Arc::new(AtomicBool::new(false));
        let answer = Answerer { router: router.clone(), busy: busy.clone(), freed: self.freed.clone() };
        let task = self.tasks.spawn(async move {
            let service = service_fn(move |request| answer.clone().answer(request));
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(REQUEST_MAX);
            // Who is cut off or talks nonsense is told by its end.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
        self.open.push(Open { since: Instant::now(), busy, task });
    }
}

#[derive(Clone)]
struct Answerer {
    router: Router,
    busy: Arc<AtomicBool>,
    freed: Arc<Notify>,
}

impl Answerer {
    async fn answer(
        mut self,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, std::convert::Infallible> {
        let busy = Busy::begin(self.busy, self.freed);
        let late = Box::pin(tokio::time::sleep(REQUEST_MAX));
        let request = request.map(|body| Body::new(Question { body, late }));
        Ok(self.router.call(request).await?.map(|body| Answer { body, _busy: busy }))
    }
}

/// Until dropped, the connection is not idle.
struct Busy {
    busy: Arc<AtomicBool>,
    freed: Arc<Notify>,
}

impl Busy {
    fn begin(busy: Arc<AtomicBool>, freed: Arc<Notify>) -> Self {
        busy.store(true, Ordering::Relaxed);
        Self { busy, freed }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.busy.store(false, Ordering::Relaxed);
        self.freed.notify_one();
    }
}

/// The body of a request, which has to come in time.
struct Question {
    body: Incoming,
    late: Pin<Box<Sleep>>,
}

impl HttpBody for Question {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.late.as_mut().poll(cx));
        Poll::Ready(Some(Err("the body of the request did not come in time".into())))
    }
}

/// The body of an answer.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
