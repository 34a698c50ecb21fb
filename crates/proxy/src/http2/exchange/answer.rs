//! From the upstream to the client.

use std::cell::Cell;

use sinew_wire::h2::{ErrorCode, SendError};
use sinew_wire::head::{ResponseEdits, ResponseHead, ResponseKind};
use tokio::time::Instant;

use super::{Answer, Exchange, Step};
use crate::exchange::BODY_BYTES_MIN;
use crate::failure::{CONNECT_FAILED, Failure, REASON_HEADER};
use crate::grpc::{self, STATUS_FIELD};
use crate::snapshot::Load;

impl Exchange {
    /// A head of the upstream's. `bytes` are those that it was parsed from.
    pub fn answer_came(&mut self, head: &mut ResponseHead, bytes: &[u8], end: bool, now: Instant) -> Step {
        if head.kind == ResponseKind::Interim {
            return self.interim_came(head, bytes);
        }
        let reason = head.value(bytes, REASON_HEADER).filter(|_| !self.is_inbound);
        if reason == Some(CONNECT_FAILED.as_bytes()) && self.may_repeat() {
            return self.again(Failure::ConnectFailed);
        }
        let is_open = head.kind == ResponseKind::Tunnel;
        if self.is_tunnel && !is_open && (200..300).contains(&head.status) {
            // Over HTTP/2 the client would take it for an open tunnel.
            return self.fail(Failure::NotTunnelled);
        }
        (self.status, self.moved_at) = (head.status, now);
        if self.is_tunnel && !is_open {
            self.request_unwanted();
        }
        if let Some(endpoint) = self.load.as_ref().map(Load::endpoint) {
            endpoint.answered(now);
        }
        if self.is_grpc && end {
            self.grpc_status = head.value(bytes, STATUS_FIELD).map(grpc::status);
        }
        self.departing = None;
        self.request.keep_no_more();
        self.answer.push(&[], end);
        if !self.client.has_room() {
            self.client.wait_for_room();
            let (head, bytes) = (std::mem::take(head), bytes.to_vec());
            self.waiting = Some(Box::new(Answer::Upstreams { head, bytes }));
            return Step::GoesOn;
        }
        let edits = edits(self.is_inbound);
        let sent = self.client.send(|to| to.response(head, bytes, &edits, end));
        self.is_head_sent = true;
        if end {
            self.answer.done();
        }
        match end || sent.is_err() {
            true => Step::Over,
            false if is_open => self.step_request(now),
            false => Step::GoesOn,
        }
    }

    fn interim_came(&mut self, head: &ResponseHead, bytes: &[u8]) -> Step {
        // It may be left out (RFC 9110, 15.2); a client that waits for 100 goes on after a while.
        if self.client.has_room() {
            let edits = edits(self.is_inbound);
            let _ = self.client.send(|to| to.response(head, bytes, &edits, false));
            self.is_interim_sent = true;
        }
        Step::GoesOn
    }

    /// Bytes of the upstream's.
    pub fn body_came(&mut self, data: &[u8], end: bool, now: Instant) -> Step {
        self.metrics.received_bytes.add(data.len() as u64);
        if !self.is_head_sent {
            self.moved_at = now;
            self.answer.push(data, end);
            return Step::GoesOn;
        }
        let passed = self.client.send(|to| self.answer.pass(data, end, to));
        self.note_taken(passed, now);
        self.answer_passed(passed)
    }

    pub fn trailers_came<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        now: Instant,
    ) -> Step {
        self.moved_at = now;
        let status = Cell::new(None);
        let trailers = trailers.inspect(|(name, value)| {
            if name.eq_ignore_ascii_case(STATUS_FIELD) {
                status.set(Some(grpc::status(value)));
            }
        });
        let step = if self.is_head_sent {
            let passed = self.client.send(|to| self.answer.pass_trailers(trailers, to));
            self.answer_passed(passed)
        } else {
            self.answer.end_with(trailers);
            Step::GoesOn
        };
        self.grpc_status = self.grpc_status.or(status.get());
        step
    }

    /// The client takes more of the answer.
    pub fn step_answer(&mut self, now: Instant) -> Step {
        if let Some(waiting) = self.waiting.take() {
            if !self.client.has_room() {
                self.client.wait_for_room();
                self.waiting = Some(waiting);
                return Step::GoesOn;
            }
            let sent = match &*waiting {
                Answer::Upstreams { head, bytes } => {
                    let ends = self.answer.is_empty_at_end();
                    if ends {
                        self.answer.done();
                    }
                    let edits = edits(self.is_inbound);
                    self.client.send(|to| to.response(head, bytes, &edits, ends))
                }
                Answer::Own(failure) => {
                    self.client.send(|to| to.own(*failure, self.is_grpc, &mut self.answer))
                }
            };
            self.is_head_sent = true;
            if sent.is_err() {
                return Step::Over;
            }
            if self.is_tunnel {
                self.step_request(now);
            }
        }
        if !self.is_head_sent {
            return Step::GoesOn;
        }
        let passed = self.client.send(|to| self.answer.pump(to));
        self.note_taken(passed, now);
        self.answer_passed(passed)
    }

    /// A client that takes all there is may wait for more as long as it likes; one that does not has to take something
    /// worth the name: a window that is opened by one byte now and then would hold the answer for ever.
    fn note_taken(&mut self, passed: Result<usize, SendError>, now: Instant) {
        let Ok(count) = passed else { return };
        self.taken_bytes += count;
        if self.answer.all_sent() && count > 0 || self.taken_bytes >= BODY_BYTES_MIN {
            self.taken_bytes = 0;
            self.moved_at = now;
        }
    }

    fn answer_passed(&mut self, passed: Result<usize, SendError>) -> Step {
        let count = match passed {
            Ok(count) => count,
            Err(SendError::Gone) => return self.client_gone(ErrorCode::CANCEL),
            Err(SendError::Mismatch) => return self.upstream_malformed(),
        };
        if let Some(upstream) = self.upstream.as_ref().filter(|_| count > 0) {
            upstream.consumed(count);
        }
        if self.answer.is_done() { self.answered(Instant::now()) } else { Step::GoesOn }
    }
}

/// How an answer's head is changed on its way to the client.
fn edits(is_inbound: bool) -> ResponseEdits<'static> {
    ResponseEdits { remove: if is_inbound { &[REASON_HEADER] } else { &[] }, ..ResponseEdits::default() }
}
