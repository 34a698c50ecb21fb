//! Requests over a limit, and clients that are still sending when they have their answer.

use std::rc::Rc;
use std::time::Duration;

use sinew_telemetry::Outcome;
use sinew_wire::h2::{ErrorCode, Heads, StreamKey};
use sinew_wire::head::Reject;
use tokio::time::Instant;

use super::{Exchange, Step, step};
use crate::exchange::DRAIN_BYTES_MAX;
use crate::failure::Failure;
use crate::flow::Flow;
use crate::http2::end::End;
use crate::http2::link::Link;
use crate::http2::reply;

/// How long, beside [`DRAIN_BYTES_MAX`], a client may go on sending after the proxy's own answer. A reset at once would
/// be right too (RFC 9113, 8.1), but clients of today that are still sending forget the answer that stands before it.
const LINGER: Duration = Duration::from_secs(1);

pub struct Lingering {
    since: Instant,
    bytes: u64,
}

impl Lingering {
    pub fn at(&self, now: Instant) -> Step {
        let is_over = self.bytes > DRAIN_BYTES_MAX || now.saturating_duration_since(self.since) >= LINGER;
        if is_over { Step::Over } else { Step::GoesOn }
    }
}

/// A request that goes nowhere, as its head is refused.
pub fn begin_rejected(
    flow: &Flow,
    link: &Rc<Link>,
    key: StreamKey,
    heads: &Heads,
    end: bool,
    reject: Reject,
) {
    let worker = &flow.worker;
    let snapshot = worker.snapshot();
    let (target, metrics) = match flow.route(&snapshot) {
        Ok(route) => route,
        Err(failure) => return reply::refuse(&mut link.state(), key, failure),
    };
    let client = End::Http2 { link: link.clone(), key };
    let mut exchange = Exchange::new(flow, client, target, metrics, snapshot, Instant::now());
    exchange.is_grpc = heads.is_grpc();
    exchange.request.push(&[], end);
    let ticket = worker.exchanges.insert(exchange);
    link.state().enter(key, ticket);
    step(worker, ticket, |exchange| exchange.client_rejected(reject));
}

/// A request that the engine has reset: its client is told nothing.
pub fn count_refused(flow: &Flow, reject: Reject) {
    let failure = Failure::Rejected(reject).label();
    if let Ok((_, metrics)) = flow.route(&flow.worker.snapshot()) {
        metrics.count(Outcome::Failed { failure, status: None });
    }
}

impl Exchange {
    /// The request is over a limit. What has been answered already is broken off.
    pub fn client_rejected(&mut self, reject: Reject) -> Step {
        let is_late = self.is_head_sent;
        let step = self.fail(Failure::Rejected(reject));
        if is_late && self.code != ErrorCode::NO_ERROR {
            self.code = ErrorCode::CANCEL;
        }
        step
    }

    /// The client has the whole answer. Where that is the proxy's own, it may go on sending for a while. Clients of gRPC
    /// know that an answer may come first.
    pub(super) fn answered(&mut self, now: Instant) -> Step {
        let is_own = self.outcome.is_some() && self.client.link().is_some();
        if !is_own || self.is_grpc || self.request.is_ended() {
            return Step::Over;
        }
        self.lingering.get_or_insert(Lingering { since: now, bytes: 0 });
        Step::GoesOn
    }

    /// More has come of a request whose answer the client has.
    pub(super) fn drained(&mut self, count: usize, now: Instant) -> Step {
        let Some(lingering) = &mut self.lingering else { return Step::GoesOn };
        lingering.bytes += count as u64;
        if self.request.is_ended() { Step::Over } else { lingering.at(now) }
    }
}
