//! One request and its answer between two connections: a step function that moves bytes both ways at once, within
//! bounded memory, and never waits inside.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use sinew_telemetry::RouteMetrics;
use sinew_transport::bulk::{Bulk, Side};
use sinew_wire::h1::{
    self, BodyDecoder, BodyEncoder, BodyEvent, Downstream, Framing, HEAD_FIELDS_CEILING, HeadScan, Limits,
    Parsed, RequestHead, ResponseHead, ResponseKind, after_exchange, encode_response, parse_request,
    parse_response, relay, unframed_left, unframed_passed, upstream_reusable,
};
use tokio::time::Instant;

use crate::connection::{Connection, Output};
use crate::detection::begins_with_settings;
use crate::failure::{CONNECT_FAILED, Failure, REASON_HEADER};
use crate::flow::{Flow, Plan};
use crate::http2::{self, from_http1};
use crate::snapshot::Snapshot;
use crate::timer::Timer;

/// What is moved of an exchange before other connections get their turn.
const TURN_BYTES_MAX: usize = 256 * 1024;
/// Waits to be written, per direction.
const OUTPUT_BYTES_MAX: usize = 32 * 1024;
/// A request up to this size can be sent again, as far as that is allowed.
const REPLAY_BYTES_MAX: usize = 64 * 1024;
/// Both, when there is no memory.
const SCARCE_BYTES_MAX: usize = 4 * 1024;
/// A request's body that brings less than this within the idle timeout stands still: one byte now and then would keep
/// its upstream connection busy for as long as the client likes. An answer may take its time (server-sent events).
pub const BODY_BYTES_MIN: usize = 1024;
/// What is worth reading of an unwanted body to keep the client's connection.
pub const DRAIN_BYTES_MAX: u64 = 64 * 1024;

pub struct Exchange {
    wire: h1::Exchange,
    /// The configuration of all of it.
    snapshot: Rc<Snapshot>,
    request: Request,
    response: Option<Response>,
    to_client: Output,
    client_written: usize,
    /// Of an answer's body that goes on as it is.
    bulk: Bulk,
    /// What was written to the client may still be in its stream.
    is_client_unflushed: bool,
    /// An interim answer went to the client: the request cannot begin anew.
    is_interim_sent: bool,
    /// Anything came from the upstream of this attempt.
    is_answered: bool,
    /// The client has ended its side; it may wait for its answer nevertheless.
    is_client_ended: bool,
    /// Something has moved that prolongs our patience; `moved_at` is not yet told.
    has_moved: bool,
    moved_at: Instant,
    /// Moved in this turn.
    turn_bytes: usize,
    metrics: Arc<RouteMetrics>,
}

/// A request's head as it goes upstream, and what follows from it.
pub struct Departing {
    pub head: Output,
    pub framing: Framing,
    pub exchange: h1::Exchange,
}

struct Request {
    decoder: BodyDecoder,
    encoder: BodyEncoder,
    is_bodiless: bool,
    /// The body's end is in `encoded`.
    is_ended: bool,
    /// Head and body as they go upstream, from the beginning as long as `can_replay`.
    encoded: Output,
    written: usize,
    /// Of the body, since it was last said to move.
    body_bytes: usize,
    is_flushed: bool,
    can_replay: bool,
    /// The upstream does not read any more; it may have answered nevertheless.
    is_refused: bool,
    /// Its head, when its body was not there with it.
    is_acknowledged: bool,
}

struct Response {
    decoder: BodyDecoder,
    encoder: BodyEncoder,
    /// Where its head begins in `to_client`, as long as that is in there.
    head_at: Option<usize>,
    status: u16,
    is_tunnel: bool,
    is_ended: bool,
    is_acknowledged: bool,
    /// The upstream allows another request on its connection.
    keep_alive: bool,
    downstream: Downstream,
}

/// How an exchange ended.
pub struct Ended {
    pub status: u16,
    pub is_tunnel: bool,
    pub is_upstream_reusable: bool,
    pub downstream: Downstream,
}

impl Exchange {
    pub fn new(
        departing: Departing,
        snapshot: Rc<Snapshot>,
        metrics: &Arc<RouteMetrics>,
        began: Instant,
    ) -> Self {
        let Departing { head, framing, exchange: wire } = departing;
        Self {
            wire,
            request: Request {
                decoder: BodyDecoder::new(framing, &snapshot.limits.wire),
                encoder: BodyEncoder::new(framing),
                is_bodiless: !framing.has_body(),
                is_ended: !framing.has_body(),
                encoded: head,
                written: 0,
                body_bytes: 0,
                is_flushed: false,
                can_replay: true,
                is_refused: false,
                is_acknowledged: false,
            },
            snapshot,
            response: None,
            to_client: Output::default(), // none before there is an answer
            client_written: 0,
            bulk: Bulk::default(),
            is_client_unflushed: false,
            is_interim_sent: false,
            is_answered: false,
            is_client_ended: false,
            has_moved: false,
            moved_at: began,
            turn_bytes: 0,
            metrics: metrics.clone(),
        }
    }

    pub fn wire(&self) -> &h1::Exchange {
        &self.wire
    }

    /// The client has seen the beginning of the final answer (or may have).
    pub fn is_answer_begun(&self) -> bool {
        let has_begun = |response: &Response| response.head_at.is_none_or(|at| self.client_written > at);
        self.response.as_ref().is_some_and(has_begun)
    }

    /// What is left of interim answers: before it is written, nothing else may be.
    pub fn unsent_interim(&self) -> &[u8] {
        let end = self.response.as_ref().and_then(|response| response.head_at);
        &self.to_client.0[self.client_written..end.unwrap_or(self.to_client.0.len())]
    }

    /// What would become of the client's connection after an answer now.
    pub fn downstream(&self) -> Downstream {
        after_exchange(&self.wire, self.request.decoder.left(), DRAIN_BYTES_MAX)
    }

    /// Whether the request may be sent once more after `failure` (RFC 9110, 9.2.2): nothing has reached an application,
    /// or it went to an idle connection that closed without a byte of answer and sending it twice does no harm.
    pub fn may_repeat(&self, failure: Failure, was_reused: bool) -> bool {
        if !self.request.can_replay || self.is_interim_sent || self.response.is_some() {
            return false;
        }
        match failure {
            Failure::UpstreamGone => {
                was_reused && !self.is_answered && (self.request.written == 0 || self.is_harmless())
            }
            failure => failure.is_before_the_application(),
        }
    }

    /// Sending it twice does what sending it once does, and can be done.
    pub fn is_harmless(&self) -> bool {
        self.wire.method.is_idempotent() && self.request.is_bodiless
    }

    /// An upstream that speaks HTTP/2 alone has done nothing for the request, all of which is still here.
    pub fn can_go_elsewhere(&self) -> bool {
        self.request.can_replay && !self.is_interim_sent && self.response.is_none()
    }

    /// The request as it went upstream, to be sent over HTTP/2; asked for only if [`Exchange::can_go_elsewhere`]. `None`:
    /// with what was added to it, it has too many fields.
    pub fn into_request(mut self) -> Option<from_http1::Request> {
        let mut bytes = std::mem::take(&mut self.request.encoded.0);
        let mut head = RequestHead::default();
        let limits = Limits {
            head_bytes_max: usize::MAX,
            head_fields_max: HEAD_FIELDS_CEILING,
            ..self.snapshot.limits.wire
        };
        let parsed = parse_request(&bytes, &mut HeadScan::default(), &limits, &mut head);
        let Ok(Parsed::Complete { head_bytes }) = parsed else { return None };
        let departing = http2::Departing::of_http1(head, &bytes[..head_bytes], b"");
        bytes.drain(..head_bytes);
        let framing = departing.head.framing;
        let sent = (!bytes.is_empty())
            .then(|| from_http1::Sent { bytes, body: BodyDecoder::new(framing, &self.snapshot.limits.wire) });
        Some(from_http1::Request { departing, plan: Plan::DONE, sent, body: self.request.decoder })
    }

    /// Begins anew, for another upstream.
    pub fn rewind(&mut self) {
        self.request.written = 0;
        self.request.is_flushed = false;
        self.request.is_refused = false;
        self.is_answered = false;
        self.wire.interim = 0;
        self.moved_at = Instant::now();
    }

    /// Discards what the client's buffer holds of the request's body. True: that was all.
    pub fn discard(&mut self, client: &mut Connection) -> Result<bool, ()> {
        let mut at = 0;
        let is_ended = loop {
            match self.request.decoder.next(client.input.data(), &mut at) {
                Ok(BodyEvent::Data(_)) => {}
                Ok(BodyEvent::NeedMore) => break false,
                Ok(BodyEvent::End) => break true,
                Err(_) => return Err(()),
            }
        };
        client.input.consume(at);
        Ok(is_ended)
    }

    /// Moves the request to `upstream` and its answer to `client`.
    pub async fn relay(
        &mut self,
        flow: &Flow,
        client: &mut Connection,
        upstream: &mut Connection,
        timer: &mut Timer<'_>,
    ) -> Result<Ended, Failure> {
        poll_fn(|cx| {
            self.turn_bytes = 0;
            loop {
                let is_out = flow.worker.memory.is_out();
                let moved = self.step_request(cx, client, upstream, is_out)?
                    | self.step_response(cx, flow, client, upstream)?;
                if let Some(ended) = self.ended(upstream) {
                    return Poll::Ready(Ok(ended));
                }
                if !moved {
                    break;
                }
                if self.turn_bytes >= TURN_BYTES_MAX {
                    cx.waker().wake_by_ref();
                    break;
                }
            }
            self.watch(cx, client)?;
            if std::mem::take(&mut self.has_moved) {
                self.moved_at = Instant::now();
            }
            timer.poll(cx, self.deadline()).map(|()| Err(self.lateness()))
        })
        .await
    }

    /// A client whose request is complete can leave, end its side (it may still want its answer), or send its next
    /// request, which waits in its buffer. Nobody waits for the answer of one that has left.
    fn watch(&mut self, cx: &mut Context<'_>, client: &mut Connection) -> Result<(), Failure> {
        let reads_no_body = self.request.is_ended || self.request.is_refused;
        while reads_no_body && !self.is_client_ended && !client.input.is_full() {
            match client.poll_fill(cx) {
                Poll::Ready(Ok(0)) => self.is_client_ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(Failure::ClientGone),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Client to upstream. True: something has moved.
    fn step_request(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        upstream: &mut Connection,
        is_out: bool,
    ) -> Result<bool, Failure> {
        let request = &mut self.request;
        let mut moved = false;
        if request.is_refused {
            return Ok(false);
        }
        if !request.is_ended {
            let output_max = request.written + OUTPUT_BYTES_MAX;
            let encoded = &mut request.encoded.0;
            let relayed =
                relay(&mut request.decoder, &mut request.encoder, client.input.data(), encoded, output_max)
                    .map_err(Failure::Rejected)?;
            client.input.consume(relayed.consumed);
            self.metrics.sent_bytes.add(relayed.body_bytes as u64);
            request.body_bytes += relayed.body_bytes;
            self.turn_bytes += relayed.body_bytes;
            request.is_ended = relayed.ended;
            if relayed.ended || request.body_bytes >= BODY_BYTES_MIN {
                request.body_bytes = 0;
                self.has_moved = true;
            }
            if relayed.consumed > 0 || relayed.ended {
                request.is_flushed = false;
                moved = true;
            }
        }
        if !request.is_flushed {
            match upstream.poll_send(cx, &request.encoded.0, &mut request.written) {
                Poll::Ready(Ok(())) => {
                    request.is_flushed = true;
                    moved = true;
                    // Now it is the upstream's turn, with all of its time.
                    self.has_moved |= request.is_ended && !request.is_bodiless;
                    let replay_max = if is_out { SCARCE_BYTES_MAX } else { REPLAY_BYTES_MAX };
                    if request.encoded.0.len() > replay_max || (!request.can_replay && !request.is_ended) {
                        request.encoded.0.clear();
                        request.written = 0;
                        request.can_replay = false;
                    }
                }
                Poll::Ready(Err(_)) => request.is_refused = true,
                Poll::Pending => {}
            }
        }
        let output_max = if is_out { SCARCE_BYTES_MAX } else { OUTPUT_BYTES_MAX };
        let has_room = request.encoded.0.len() - request.written < output_max;
        if !request.is_ended && !request.is_refused && has_room && client.input.is_empty() {
            match client.poll_fill(cx) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Err(Failure::ClientGone),
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Pending if request.is_acknowledged => {}
                Poll::Pending => {
                    request.is_acknowledged = true;
                    client.stream.acknowledge();
                }
            }
        }
        Ok(moved)
    }

    /// Upstream to client. True: something has moved.
    fn step_response(
        &mut self,
        cx: &mut Context<'_>,
        flow: &Flow,
        client: &mut Connection,
        upstream: &mut Connection,
    ) -> Result<bool, Failure> {
        let mut moved = false;
        if self.response.is_none() && self.has_room() {
            moved |= self.step_head(flow, upstream)?;
        }
        // With the head in one write, as far as it is here.
        if self.response.as_ref().is_some_and(|response| !response.is_ended) && self.has_room() {
            moved |= self.step_body(upstream)?;
        }
        if self.is_followed(upstream) && !self.is_answer_begun() {
            return Err(Failure::UpstreamMalformed);
        }
        moved |= self.step_bulk(cx, client, upstream)?;
        let has_room = self.has_room();
        let is_open = self.response.as_ref().is_none_or(|response| !response.is_ended);
        // A head that is not complete stays in the buffer: more is read to it.
        let wants_more = self.response.is_none() || upstream.input.is_empty();
        if !moved && is_open && has_room && wants_more && !self.bulk.is_piped() {
            match upstream.poll_fill(cx) {
                Poll::Ready(Ok(0)) => {
                    self.upstream_ended()?;
                    moved = true;
                }
                // Never the end of a body, not even of one that ends with its connection: that would be cut unseen.
                Poll::Ready(Err(_)) => return Err(Failure::UpstreamGone),
                Poll::Ready(Ok(_)) => {
                    self.is_answered = true;
                    moved = true;
                }
                Poll::Pending => self.acknowledge_head(upstream),
            }
        }
        if !self.to_client.0.is_empty() || self.is_client_unflushed {
            let before = self.client_written;
            let (drained, mut sent) = self.bulk.poll_drain(cx, &client.stream);
            if let Poll::Ready(Ok(())) = sent {
                sent = client.poll_send(cx, &self.to_client.0, &mut self.client_written);
            }
            self.has_moved |= self.response.is_some() && (self.client_written > before || drained > 0);
            match sent {
                Poll::Ready(Ok(())) => {
                    self.to_client.0.clear();
                    self.client_written = 0;
                    self.is_client_unflushed = false;
                    self.bulk.release();
                    if let Some(response) = &mut self.response {
                        response.head_at = None;
                    }
                    moved = true;
                }
                Poll::Ready(Err(_)) => return Err(Failure::ClientGone),
                Poll::Pending => {}
            }
        }
        Ok(moved)
    }

    /// An answer's body that goes on as it is, once its head is out: straight from one stream to the other. True:
    /// something has moved.
    fn step_bulk(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Connection,
        upstream: &mut Connection,
    ) -> Result<bool, Failure> {
        let Some(response) = self.response.as_mut().filter(|response| !response.is_ended) else {
            return Ok(false);
        };
        let Some(left) = unframed_left(&response.decoder, &response.encoder) else { return Ok(false) };
        if !self.to_client.0.is_empty() || self.bulk.is_piped() || !upstream.input.is_empty() {
            return Ok(false);
        }
        let held = &mut self.to_client.0;
        let moved = match self.bulk.poll_move(cx, &mut upstream.stream, &mut client.stream, left, held) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(Side::Source(_))) => return Err(Failure::UpstreamGone),
            Poll::Ready(Err(Side::Sink(_))) => return Err(Failure::ClientGone),
            Poll::Ready(Ok(moved)) => moved,
        };
        if moved.read == 0 {
            self.upstream_ended()?;
            return Ok(true);
        }
        response.is_ended = unframed_passed(&mut response.decoder, &mut response.encoder, moved.read as u64);
        self.metrics.received_bytes.add(moved.read as u64);
        self.turn_bytes += moved.read;
        self.has_moved = true;
        self.is_client_unflushed = true;
        Ok(true)
    }

    /// Bytes behind the answer, which no request asked for: whoever sends them may mean them for the next client.
    fn is_followed(&self, upstream: &Connection) -> bool {
        let is_over = self.response.as_ref().is_some_and(|response| response.is_ended && !response.is_tunnel);
        is_over && !upstream.input.is_empty()
    }

    /// What waits for the client is not too much: more may be read for it.
    fn has_room(&self) -> bool {
        self.to_client.0.len() - self.client_written < OUTPUT_BYTES_MAX
    }

    /// Encodes for the client what is there of the answer's body. True: something has moved.
    fn step_body(&mut self, upstream: &mut Connection) -> Result<bool, Failure> {
        let Some(response) = &mut self.response else { return Ok(false) };
        let out = &mut self.to_client.0;
        let output_max = self.client_written + OUTPUT_BYTES_MAX;
        let input = upstream.input.data();
        let relayed = relay(&mut response.decoder, &mut response.encoder, input, out, output_max)
            .map_err(|_| Failure::UpstreamMalformed)?;
        upstream.input.consume(relayed.consumed);
        self.metrics.received_bytes.add(relayed.body_bytes as u64);
        self.turn_bytes += relayed.body_bytes;
        response.is_ended = relayed.ended;
        self.has_moved |= relayed.consumed > 0;
        Ok(relayed.consumed > 0 || relayed.ended)
    }

    /// Once, when an answer's body is not there with its head.
    fn acknowledge_head(&mut self, upstream: &Connection) {
        if let Some(response) = self.response.as_mut().filter(|response| !response.is_acknowledged) {
            response.is_acknowledged = true;
            upstream.stream.acknowledge();
        }
    }

    /// Parses a head if one is complete, and encodes it for the client.
    fn step_head(&mut self, flow: &Flow, upstream: &mut Connection) -> Result<bool, Failure> {
        RESPONSE_HEAD.with_borrow_mut(|head| {
            let bytes = upstream.input.data();
            let parsed =
                parse_response(bytes, &mut upstream.scan, &self.snapshot.limits.wire, &mut self.wire, head)
                    .map_err(|_| match begins_with_settings(bytes) {
                    true => Failure::NotHttp1,
                    false => Failure::UpstreamMalformed,
                })?;
            let Parsed::Complete { head_bytes } = parsed else { return Ok(false) };
            if head.kind == ResponseKind::Interim {
                encode_response(head, bytes, &self.wire, &Default::default(), &mut self.to_client.0);
                self.is_interim_sent |= !self.to_client.0.is_empty();
            } else {
                let reason = head.value(bytes, REASON_HEADER).filter(|_| flow.trusts_reason());
                let is_replayable = self.request.can_replay && !self.is_interim_sent;
                if reason == Some(CONNECT_FAILED.as_bytes()) && is_replayable {
                    return Err(Failure::ConnectFailed);
                }
                self.begin_answer(flow, head, bytes);
            }
            upstream.input.consume(head_bytes);
            Ok(true)
        })
    }

    fn begin_answer(&mut self, flow: &Flow, head: &ResponseHead, bytes: &[u8]) {
        if self.to_client.0.capacity() == 0 {
            self.to_client = Output::new();
        }
        let mut edits = flow.response_edits();
        let downstream = match self.downstream() {
            _ if edits.close => Downstream::Close,
            downstream => downstream,
        };
        edits.close = downstream == Downstream::Close;
        let head_at = Some(self.to_client.0.len());
        let sent = encode_response(head, bytes, &self.wire, &edits, &mut self.to_client.0);
        let is_tunnel = head.kind == ResponseKind::Tunnel;
        self.response = Some(Response {
            decoder: BodyDecoder::new(head.framing, &self.snapshot.limits.wire),
            encoder: BodyEncoder::new(sent.framing),
            head_at,
            status: head.status,
            is_tunnel,
            is_ended: is_tunnel || !head.framing.has_body(),
            is_acknowledged: false,
            keep_alive: upstream_reusable(head, true, true, 0),
            downstream: if sent.keep_alive { downstream } else { Downstream::Close },
        });
    }

    fn upstream_ended(&mut self) -> Result<(), Failure> {
        let response = self.response.as_mut().ok_or(Failure::UpstreamGone)?;
        response.decoder.eof().map_err(|_| Failure::UpstreamGone)?;
        let out = &mut self.to_client.0;
        let output_max = out.len() + OUTPUT_BYTES_MAX;
        let relayed = relay(&mut response.decoder, &mut response.encoder, &[], out, output_max);
        response.is_ended = relayed.is_ok_and(|relayed| relayed.ended);
        response.keep_alive = false;
        if response.is_ended { Ok(()) } else { Err(Failure::UpstreamGone) }
    }

    /// The end, once the client has the whole answer.
    fn ended(&self, upstream: &Connection) -> Option<Ended> {
        let response = self.response.as_ref()?;
        let is_over = response.is_ended && self.to_client.0.is_empty() && !self.is_client_unflushed;
        let is_sent = self.request.is_ended && self.request.is_flushed && !self.request.is_refused;
        is_over.then(|| Ended {
            status: response.status,
            is_tunnel: response.is_tunnel,
            // One that was asked to become something else may believe that it has.
            is_upstream_reusable: response.keep_alive
                && is_sent
                && !self.is_followed(upstream)
                && !self.wire.upgrade,
            downstream: response.downstream,
        })
    }

    /// When it is too late, if nothing moves until then. What moves: a request's body, by [`BODY_BYTES_MIN`]; after the
    /// head of the final answer every byte of it. Until there is that head, nothing that the upstream sends does.
    fn deadline(&self) -> Instant {
        let client_sends = !self.request.is_ended && self.response.is_none();
        let limits = &self.snapshot.limits;
        self.moved_at + if client_sends { limits.idle_timeout } else { limits.request_timeout }
    }

    /// Who it is that nothing moved for.
    fn lateness(&self) -> Failure {
        let client_owes_body = !self.request.is_ended && self.request.is_flushed;
        match &self.response {
            None if client_owes_body => Failure::BodyTimeout,
            Some(_) if !self.to_client.0.is_empty() || self.is_client_unflushed => Failure::ClientGone,
            _ => Failure::UpstreamTimeout,
        }
    }
}

thread_local! {
    /// Parsed and encoded in one step: nobody else needs it meanwhile.
    static RESPONSE_HEAD: RefCell<ResponseHead> = RefCell::new(ResponseHead::default());
}
