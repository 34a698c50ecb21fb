//! What a client speaks where nobody has declared it: its first bytes decide, and when it is silent the upstream may
//! speak first, as the servers of many protocols do.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use sinew_wire::{Detection, detect};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::connection::Connection;
use crate::snapshot::Snapshot;
use crate::tcp;
use crate::upstream::{Target, TcpUpstream};
use crate::worker::{OnRoute, Worker};

/// Read at once of a server that speaks first.
const FIRST_BYTES_MAX: usize = 4 * 1024;

enum First {
    Http,
    /// Not HTTP; what the upstream has said so far.
    Bytes(Vec<u8>),
    /// The client ended, or nobody spoke for the idle time.
    Nothing,
}

/// A client that speaks HTTP; `on_route`: it is counted already.
pub struct Http {
    pub client: Connection,
    pub on_route: Option<OnRoute>,
}

/// Finds out what a client speaks, and serves it unless that is HTTP.
pub async fn serve(
    worker: &Worker,
    snapshot: &Snapshot,
    target: &Target,
    mut client: Connection,
) -> Option<Http> {
    let detected = first_of_client(&mut client, snapshot, snapshot.limits.detect_timeout).await;
    if is_http(detected) {
        return Some(Http { client, on_route: None });
    }
    let metrics = target.metrics();
    let on_route = OnRoute::new(metrics);
    // What comes now is boxed, each part for as long as it lasts: silent clients may be many.
    if detected != Detection::NeedMore {
        Box::pin(tcp::serve(worker, snapshot, target, client)).await;
        return None;
    }
    // Silent, or not to be told from its first bytes. TCP it is, unless HTTP comes before the server speaks.
    let mut upstream = match Box::pin(target.open(worker, snapshot)).await {
        Ok(upstream) => upstream,
        Err(failure) => {
            tcp::refuse(metrics, &client, failure);
            return None;
        }
    };
    let first =
        timeout(snapshot.limits.tcp_idle_timeout, first_of_both(&mut client, &mut upstream, snapshot));
    match first.await.unwrap_or(First::Nothing) {
        First::Http => return Some(Http { client, on_route: Some(on_route) }),
        First::Bytes(early) => Box::pin(tcp::relay(snapshot, metrics, client, upstream, early)).await,
        First::Nothing => {}
    }
    None
}

/// Which version it is, `http` finds by itself, and how to answer what ends too early.
fn is_http(detected: Detection) -> bool {
    matches!(detected, Detection::Http1 | Detection::Http2 | Detection::MayBeHttp)
}

/// [`Detection::NeedMore`]: the time is over, or the client has ended its side. Whoever has begun what may be a request has
/// as long as for its head, so that nobody gets past HTTP by being slow.
async fn first_of_client(client: &mut Connection, snapshot: &Snapshot, time: Duration) -> Detection {
    let began = Instant::now();
    loop {
        let detection = detect(client.input.data());
        let deadline = match detection {
            Detection::NeedMore => began + time,
            Detection::MayBeHttp => began + time.max(snapshot.limits.header_timeout),
            _ => return detection,
        };
        match timeout_at(deadline, client.fill()).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return Detection::NeedMore,
            Err(_) => return detection,
        }
    }
}

async fn first_of_both(client: &mut Connection, upstream: &mut TcpUpstream, snapshot: &Snapshot) -> First {
    // The beginning of something that does not go on: whoever sent it waits for an answer.
    if !client.input.is_empty() {
        return First::Bytes(Vec::new());
    }
    match poll_fn(|cx| poll_either(cx, client, upstream)).await {
        // A server of HTTP/2 need not wait for its client; what it is depends on the client nevertheless.
        Spoke::Upstream(bytes) if begins_with_settings(&bytes) => {
            match first_of_client(client, snapshot, snapshot.limits.tcp_idle_timeout).await {
                Detection::Http2 => First::Http,
                _ => First::Bytes(bytes),
            }
        }
        Spoke::Upstream(bytes) => First::Bytes(bytes),
        Spoke::Client => match first_of_client(client, snapshot, snapshot.limits.detect_timeout).await {
            detected if is_http(detected) => First::Http,
            _ => First::Bytes(Vec::new()),
        },
        // One side has ended: the copy passes that on.
        Spoke::Ended => First::Bytes(Vec::new()),
        Spoke::Failed => First::Nothing,
    }
}

/// The head of a SETTINGS frame on stream 0 (RFC 9113, 6.5), with at most 16 settings.
pub fn begins_with_settings(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, length @ ..=96, 4, 0, 0, 0, 0, 0, ..] if length % 6 == 0)
}

enum Spoke {
    Client,
    Upstream(Vec<u8>),
    Ended,
    Failed,
}

/// The upstream is asked first: if it has spoken, it spoke first.
fn poll_either(cx: &mut Context<'_>, client: &mut Connection, upstream: &mut TcpUpstream) -> Poll<Spoke> {
    let mut scratch = [const { MaybeUninit::uninit() }; FIRST_BYTES_MAX];
    let mut buffer = ReadBuf::uninit(&mut scratch);
    match Pin::new(&mut upstream.stream).poll_read(cx, &mut buffer) {
        Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Spoke::Ended),
        Poll::Ready(Ok(())) => return Poll::Ready(Spoke::Upstream(buffer.filled().to_vec())),
        Poll::Ready(Err(_)) => return Poll::Ready(Spoke::Failed),
        Poll::Pending => {}
    }
    client.poll_fill(cx).map(|read| match read {
        Ok(0) => Spoke::Ended,
        Ok(_) => Spoke::Client,
        Err(_) => Spoke::Failed,
    })
}
