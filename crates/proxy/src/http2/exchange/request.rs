//! From the client to the upstream.

use std::rc::Rc;

use sinew_wire::h2::SendError;
use sinew_wire::head::Framing;
use tokio::time::Instant;

use super::{Departing, Exchange, Step, with_edits};
use crate::exchange::BODY_BYTES_MIN;
use crate::failure::Failure;
use crate::http2::end::End;
use crate::http2::single::Single;
use crate::snapshot::Load;
use crate::worker::Worker;

/// A request whose body is longer cannot be sent again.
const REPLAY_BYTES_MAX: usize = 16 * 1024;

impl Exchange {
    /// To an upstream that speaks HTTP/1.1.
    pub fn open_http1(&mut self, worker: &Worker, single: &Rc<Single>, load: Option<Load>) -> Step {
        if self.outcome.is_some() {
            single.state().leave(); // it was answered while it was reaching
            return Step::GoesOn;
        }
        let is_whole = self.request.is_kept() && self.request.is_ended() && !self.request.has_trailers();
        let length = self.request.len() as u64;
        let (timeout, is_tunnel) = (self.timeout_left(), self.is_tunnel);
        let Some(Departing { head, bytes, plan: Some(plan) }) = &mut self.departing else {
            return self.fail(Failure::UpstreamGone);
        };
        // A body that is here already has a length: not every server reads chunks.
        if is_whole && head.framing == Framing::Chunked {
            head.framing = Framing::Length(length);
        }
        with_edits(plan, timeout, |edits| match is_tunnel {
            true => {
                let random = worker.with_random(|random| random.bytes());
                single.state().send_handshake(head, bytes, edits, &random);
            }
            false => single.state().send_request(head, bytes, edits),
        });
        let ends = self.request.is_empty_at_end();
        self.opened(End::Http1(single.clone()), load, ends)
    }

    /// Bytes of the client's.
    pub fn request_came(&mut self, data: &[u8], end: bool, now: Instant) -> Step {
        self.metrics.sent_bytes.add(data.len() as u64);
        if self.lingering.is_some() {
            self.request.push(data, end);
            self.client.consumed(data.len());
            return self.drained(data.len(), now);
        }
        self.body_bytes += data.len();
        if end || self.is_tunnel || self.body_bytes >= BODY_BYTES_MIN {
            self.body_bytes = 0;
            self.moved_at = now;
        }
        let passed = match &self.upstream {
            Some(upstream) if !self.holds_request() => upstream.send(|to| self.request.pass(data, end, to)),
            _ => {
                self.request.push(data, end);
                Ok(0)
            }
        };
        if self.request.len() > REPLAY_BYTES_MAX && self.upstream.is_some() {
            self.request.keep_no_more();
        }
        self.request_passed(passed)
    }

    pub fn request_trailers_came<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        now: Instant,
    ) -> Step {
        if self.lingering.is_some() {
            return Step::Over;
        }
        self.moved_at = now;
        let passed = match &self.upstream {
            Some(upstream) => upstream.send(|to| self.request.pass_trailers(trailers, to)),
            None => {
                self.request.end_with(trailers);
                Ok(0)
            }
        };
        self.request_passed(passed)
    }

    /// The upstream takes more of the request.
    pub fn step_request(&mut self, now: Instant) -> Step {
        let Some(upstream) = self.upstream.as_ref().filter(|_| !self.holds_request()) else {
            return Step::GoesOn;
        };
        let passed = upstream.send(|to| self.request.pump(to));
        if self.request.len() > REPLAY_BYTES_MAX {
            self.request.keep_no_more();
        }
        self.moved_at = self.moved_at.max(now);
        self.request_passed(passed)
    }

    /// Nothing goes into a tunnel that is not open.
    fn holds_request(&self) -> bool {
        self.is_tunnel && self.status == 0
    }

    pub(super) fn request_passed(&mut self, passed: Result<usize, SendError>) -> Step {
        let count = match passed {
            Ok(count) => count,
            // It wants no more of it; its answer, or its reset, is on the way.
            Err(SendError::Gone | SendError::Mismatch) => self.request.discard(),
        };
        if count > 0 {
            self.client.consumed(count);
        }
        Step::GoesOn
    }

    /// The whole answer is here: what is left of the request goes nowhere.
    pub(super) fn request_unwanted(&mut self) -> Step {
        let left = self.request.discard();
        self.request_passed(Ok(left))
    }
}
