//! How an exchange ends that has no answer to pass on, and how a client's connection does.

use std::pin::pin;
use std::sync::Arc;

use sinew_telemetry::{Outcome, RouteMetrics};
use sinew_transport::copy::{Early, both_ways};
use sinew_wire::h1::{Downstream, ResponseEdits, encode_local_response};
use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, Instant, timeout};

use super::Next;
use crate::connection::{Connection, Output};
use crate::exchange::Exchange;
use crate::failure::{Failure, REASON_HEADER};
use crate::flow::Flow;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;

/// How long, and how much, a client may go on sending after its last answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;

pub async fn tunnel(
    client: &mut Connection,
    upstream: Upstream,
    metrics: &RouteMetrics,
    snapshot: &Snapshot,
) -> Next {
    let (mut upstream, _load) = upstream.into_tunnel();
    let early = Early { client: client.take_input(), upstream: upstream.take_input() };
    let idle = snapshot.limits.tcp_idle_timeout;
    let (copied, _ended) = both_ways(&mut client.stream, &mut upstream.stream, early, idle).await;
    metrics.sent_bytes.add(copied.to_upstream);
    metrics.received_bytes.add(copied.to_client);
    Next::Close
}

/// Reads and discards what is left of a request's body.
pub async fn drain(
    client: &mut Connection,
    exchange: &mut Exchange,
    bytes_max: u64,
    snapshot: &Snapshot,
) -> Next {
    let drained = async {
        let mut left = bytes_max;
        loop {
            let before = client.input.len() as u64;
            if exchange.discard(client)? {
                return Ok(());
            }
            left = left.checked_sub(before).ok_or(())?;
            if client.fill().await.map_err(drop)? == 0 {
                return Err(());
            }
        }
    };
    match timeout(snapshot.limits.header_timeout, drained).await {
        Ok(Ok(())) => Next::Continue(Instant::now()),
        Ok(Err(())) | Err(_) => Next::Close,
    }
}

/// The request has no answer of its upstream: the proxy answers itself, where the client has not seen a head yet.
pub async fn fail(
    client: &mut Connection,
    exchange: Option<&Exchange>,
    metrics: &Arc<RouteMetrics>,
    failure: Failure,
    began: Instant,
) -> Next {
    let head_sent = exchange.is_some_and(Exchange::is_answer_begun);
    let status = (!head_sent && failure.status() != 0).then(|| failure.status());
    metrics.record(Outcome::Failed { failure: failure.label(), status }, began.elapsed());
    if status.is_none() {
        return Next::Cut;
    }
    let Some(exchange) = exchange else { return answer(client, None, failure, true).await };
    let rejected = matches!(failure, Failure::Rejected(_) | Failure::BodyTimeout);
    let close = rejected || exchange.downstream() != Downstream::Continue;
    answer(client, Some(exchange), failure, close).await
}

/// A request whose head is not usable, or whose destination is gone.
pub async fn refuse_head(flow: &Flow, client: &mut Connection, failure: Failure) -> Next {
    let snapshot = flow.worker.snapshot();
    if let Ok((_, metrics)) = flow.route(&snapshot) {
        metrics.count(Outcome::Failed { failure: failure.label(), status: Some(failure.status()) });
    }
    answer(client, None, failure, true).await
}

async fn answer(client: &mut Connection, exchange: Option<&Exchange>, failure: Failure, close: bool) -> Next {
    let mut out = Output::new();
    out.0.extend_from_slice(exchange.map_or(&[], Exchange::unsent_interim));
    let exchange = exchange.map(Exchange::wire);
    let reason = (REASON_HEADER, failure.reason().as_bytes());
    let retry = failure.retry_after().map(|seconds| (&b"retry-after"[..], seconds.as_bytes()));
    let append = [Some(reason), retry].into_iter().flatten().collect::<Vec<_>>();
    let edits = ResponseEdits { close, remove: &[], append: &append };
    let text = format!("{}\n", failure.text());
    let goes_on =
        encode_local_response(failure.status(), exchange, &edits, "text/plain", text.as_bytes(), &mut out.0);
    match timeout(LINGER, client.send(&out.0)).await {
        Ok(Ok(())) if goes_on => Next::Continue(Instant::now()),
        Ok(Ok(())) => Next::Close,
        Ok(Err(_)) | Err(_) => Next::Cut,
    }
}

/// Ends a connection on which nothing is under way.
pub async fn close(mut client: Connection) {
    let _ = timeout(LINGER, client.stream.farewell()).await;
}

/// Closes so that the client can read all that was written: unread bytes would make the kernel send a reset.
pub async fn linger(mut client: Connection) {
    let mut discarded = 0;
    let mut ended = pin!(async {
        client.stream.shutdown().await.ok();
        while discarded < LINGER_BYTES_MAX {
            client.input.consume(client.input.len());
            match client.fill().await {
                Ok(0) | Err(_) => return,
                Ok(count) => discarded += count,
            }
        }
    });
    let _ = timeout(LINGER, ended.as_mut()).await;
}
