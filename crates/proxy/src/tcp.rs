//! Bytes as they are: every protocol that is not HTTP.

use std::sync::Arc;

use sinew_telemetry::{Outcome, RouteMetrics};
use sinew_transport::copy::{Early, Ended, both_ways};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::snapshot::Snapshot;
use crate::upstream::{Target, TcpUpstream};
use crate::worker::Worker;

/// Opens the upstream of a client's connection and copies until both have ended. A client whose upstream cannot be
/// opened is reset.
pub async fn serve(worker: &Worker, snapshot: &Snapshot, target: &Target, client: Connection) {
    let metrics = target.metrics().clone();
    // Boxed: connecting takes more memory than the connection that comes of it.
    match Box::pin(target.open(worker, snapshot)).await {
        Ok(upstream) => relay(snapshot, &metrics, client, upstream, Vec::new()).await,
        Err(failure) => refuse(&metrics, &client, failure),
    }
}

/// `early`: what the upstream has said already.
pub async fn relay(
    snapshot: &Snapshot,
    metrics: &Arc<RouteMetrics>,
    mut client: Connection,
    mut upstream: TcpUpstream,
    early: Vec<u8>,
) {
    let _in_flight = metrics.begin();
    let early = Early { client: client.take_input(), upstream: early };
    let idle = snapshot.limits.tcp_idle_timeout;
    let (copied, ended) = both_ways(&mut client.stream, &mut upstream.stream, early, idle).await;
    metrics.sent_bytes.add(copied.to_upstream);
    metrics.received_bytes.add(copied.to_client);
    let outcome = match ended {
        Ended::Closed => Outcome::Answered { status: 200 },
        Ended::Idle => Outcome::Failed { failure: Failure::UpstreamTimeout.label(), status: None },
        // Which of the two was reset is not known; ends by reset are common, so no error of the route.
        Ended::Failed(_) => Outcome::Failed { failure: Failure::ClientGone.label(), status: None },
    };
    // How long a connection lives says nothing about latency.
    metrics.count(outcome);
    if !matches!(outcome, Outcome::Answered { .. }) {
        client.stream.abort();
        upstream.stream.abort();
    }
}

pub fn refuse(metrics: &RouteMetrics, client: &Connection, failure: Failure) {
    metrics.count(Outcome::Failed { failure: failure.label(), status: None });
    client.stream.abort();
}
