//! Requests over a limit.

use std::rc::Rc;

use sinew_telemetry::Outcome;
use sinew_wire::h2::{ErrorCode, Heads, StreamKey};
use sinew_wire::head::Reject;
use tokio::time::Instant;

use super::{Exchange, Step, step};
use crate::failure::Failure;
use crate::flow::Flow;
use crate::http2::end::End;
use crate::http2::link::Link;
use crate::http2::reply;

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
}
