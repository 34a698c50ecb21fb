//! An HTTP/1.1 connection for the time of one exchange, with what an exchange asks of a stream of HTTP/2: the client's or
//! the upstream's. Its driver, in [`super::to_http1`] or [`super::from_http1`], alone reads and writes.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use sinew_transport::bulk::is_short;
use sinew_wire::h1::{
    self, BodyDecoder, BodyEncoder, Framing, Limits, RequestEdits, RequestHead, ResponseEdits, ResponseHead,
    ResponseKind, encode_local_response, encode_request, encode_response,
};
use sinew_wire::h2::SendError;
use sinew_wire::websocket::{self, ACCEPT_BYTES, ACCEPT_FIELD, KEY_FIELD, accept, is_websocket};

use crate::connection::{Connection, Output};
use crate::failure::{Failure, REASON_HEADER};

/// Waits to be written.
const OUTPUT_BYTES_MAX: usize = 32 * 1024;
/// Received, and not yet taken by the other side; at first, and doubled when all of it was.
const HELD_BYTES_MIN: usize = 16 * 1024;
const HELD_BYTES_MAX: usize = 64 * 1024;

/// What comes in a tunnel ends with its connection, and is as long as it likes.
pub fn tunnel_body() -> BodyDecoder {
    let limits = Limits { body_bytes_max: u64::MAX, ..Limits::DEFAULT };
    BodyDecoder::new(Framing::UntilClose, &limits)
}

pub struct Single {
    state: RefCell<State>,
}

/// Borrowed for a moment only.
pub struct State {
    /// What a response depends on of its request.
    pub wire: h1::Exchange,
    out: Output,
    written: usize,
    is_unflushed: bool,
    encoder: BodyEncoder,
    /// The end of what is sent is in `out`, or was.
    is_ended: bool,
    /// More was offered than was taken, or a head waits: the exchange is to be asked again.
    wants_room: bool,
    held: usize,
    held_max: usize,
    /// The exchange is over.
    has_left: bool,
    waker: Option<Waker>,
    is_awake: bool,
    /// Client: it does not take trailers.
    drops_trailers: bool,
    /// Upstream: it was idle in the pool, so the peer may have been closing it.
    is_reused: bool,
    /// Upstream: anything has come; anything was written.
    pub is_answered: bool,
    has_written: bool,
    /// Upstream: it does not read any more; it may have answered nevertheless.
    is_refused: bool,
    /// Client: the connection is not to be used once more.
    pub closes: bool,
    keep_alive: bool,
    /// Bytes pass both ways as they are.
    is_tunnel: bool,
    /// What the client proves WebSocket by, and what is due for it.
    accept: Option<[u8; ACCEPT_BYTES]>,
}

impl Single {
    /// A client, with its request.
    pub fn client(request: &RequestHead, bytes: &[u8]) -> Rc<Self> {
        let single = Self::new(request.exchange(true), false);
        let key = request.value(bytes, KEY_FIELD).and_then(|key| key.try_into().ok());
        single.state().accept = key.map(accept);
        single
    }

    /// An upstream; `is_reused`: its connection was idle in the pool.
    pub fn upstream(is_reused: bool) -> Rc<Self> {
        Self::new(RequestHead::default().exchange(false), is_reused)
    }

    fn new(wire: h1::Exchange, is_reused: bool) -> Rc<Self> {
        let state = State {
            wire,
            out: Output::new(),
            written: 0,
            is_unflushed: false,
            encoder: BodyEncoder::new(Framing::None),
            is_ended: false,
            wants_room: false,
            held: 0,
            held_max: HELD_BYTES_MIN,
            has_left: false,
            waker: None,
            is_awake: true,
            drops_trailers: false,
            is_reused,
            is_answered: false,
            has_written: false,
            is_refused: false,
            closes: false,
            keep_alive: false,
            is_tunnel: false,
            accept: None,
        };
        Rc::new(Self { state: RefCell::new(state) })
    }

    pub fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }
}

impl State {
    /// The driver shall write what was sent, and read on.
    pub fn wake(&mut self) {
        if !self.is_awake {
            self.is_awake = true;
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// The driver's turn begins.
    pub fn begin_turn(&mut self, cx: &Context<'_>) {
        self.is_awake = true;
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    pub fn end_turn(&mut self) {
        self.is_awake = false;
    }

    pub fn leave(&mut self) {
        self.has_left = true;
        self.wake();
    }

    pub fn has_left(&self) -> bool {
        self.has_left
    }

    /// All that is to be sent was handed to the kernel.
    pub fn is_sent(&self) -> bool {
        self.is_ended && self.is_written()
    }

    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    pub fn is_written(&self) -> bool {
        self.out.0.is_empty() && !self.is_unflushed
    }

    pub fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }

    /// Upstream: what its 101 has to have.
    pub fn is_accepted(&self, head: &ResponseHead, bytes: &[u8]) -> bool {
        let is_websocket = head.upgrade.is_some_and(|upgrade| is_websocket(upgrade.of(bytes)));
        let accept = self.accept.as_ref().map(|accept| &accept[..]);
        is_websocket && accept.is_some() && head.value(bytes, ACCEPT_FIELD) == accept
    }

    /// What was asked for is granted.
    pub fn open_tunnel(&mut self) {
        self.encoder = BodyEncoder::new(Framing::UntilClose);
        (self.is_tunnel, self.is_ended) = (true, false);
    }

    pub fn is_stale(&self) -> bool {
        self.is_reused && !self.is_answered
    }

    pub fn is_unwritten(&self) -> bool {
        !self.has_written
    }

    pub fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    pub fn has_room(&self) -> bool {
        self.out.0.len() < OUTPUT_BYTES_MAX
    }

    pub fn wait_for_room(&mut self) {
        self.wants_room = true;
    }

    /// Whether more may be received.
    pub fn may_receive(&self) -> bool {
        self.held < if is_short() { HELD_BYTES_MIN } else { self.held_max }
    }

    pub fn receive(&mut self, count: usize) {
        self.held += count;
    }

    pub fn consumed(&mut self, count: usize) {
        self.held = self.held.saturating_sub(count);
        if self.held == 0 && count > 0 {
            self.held_max = (self.held_max * 2).min(HELD_BYTES_MAX);
        }
        self.wake();
    }

    /// Writes what waits. Ready: all is written; true: and the exchange waits for that.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, connection: &mut Connection) -> Poll<bool> {
        if self.out.0.is_empty() && !self.is_unflushed {
            return Poll::Ready(std::mem::take(&mut self.wants_room));
        }
        self.is_unflushed = true;
        let written = connection.poll_send(cx, &self.out.0, &mut self.written);
        self.has_written |= self.written > 0;
        match written {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => self.is_refused = true,
        }
        self.out.0.clear();
        (self.written, self.is_unflushed) = (0, false);
        Poll::Ready(std::mem::take(&mut self.wants_room) || self.is_refused)
    }

    /// Nobody reads any more what is written.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Upstream: the request's head.
    pub fn send_request(&mut self, head: &RequestHead, bytes: &[u8], edits: &RequestEdits<'_>) {
        self.wire = head.exchange(edits.upgrade);
        let framing = encode_request(head, bytes, edits, &mut self.out.0);
        self.encoder = BodyEncoder::new(framing);
        self.is_ended = !framing.has_body();
    }

    /// The same for WebSocket that was asked for over HTTP/2.
    pub fn send_handshake(
        &mut self,
        head: &RequestHead,
        bytes: &[u8],
        edits: &RequestEdits<'_>,
        random: &[u8; 16],
    ) {
        let key = websocket::key(random);
        self.accept = Some(accept(&key));
        let mut append = edits.append.to_vec();
        append.push((KEY_FIELD, &key));
        self.send_request(head, bytes, &RequestEdits { upgrade: true, append: &append, ..*edits });
    }

    /// Client: an interim or the final answer.
    pub fn send_response(
        &mut self,
        head: &ResponseHead,
        bytes: &[u8],
        edits: &ResponseEdits<'_>,
        end: bool,
    ) -> Result<(), SendError> {
        if self.is_refused {
            return Err(SendError::Gone);
        }
        let is_tunnel = head.kind == ResponseKind::Tunnel;
        let mut append = edits.append.to_vec();
        if let Some(accept) = self.accept.as_ref().filter(|_| is_tunnel) {
            append.push((ACCEPT_FIELD, accept));
        }
        let edits = ResponseEdits { close: self.closes, append: &append, ..*edits };
        let sent = encode_response(head, bytes, &self.wire, &edits, &mut self.out.0);
        if is_tunnel {
            self.open_tunnel();
            return Ok(());
        }
        if head.kind == ResponseKind::Interim {
            return Ok(());
        }
        self.encoder = BodyEncoder::new(sent.framing);
        self.drops_trailers = !self.wire.trailers;
        self.keep_alive = sent.keep_alive;
        if end { self.send_data(&[], true).map(|_| ()) } else { Ok(()) }
    }

    /// Client: an answer of the proxy's own.
    pub fn send_own(&mut self, failure: Failure) -> Result<(), SendError> {
        let reason = (REASON_HEADER, failure.reason().as_bytes());
        let retry = failure.retry_after().map(|seconds| (&b"retry-after"[..], seconds.as_bytes()));
        let append = [Some(reason), retry].into_iter().flatten().collect::<Vec<_>>();
        let edits = ResponseEdits { close: self.closes, remove: &[], append: &append };
        let text = format!("{}\n", failure.text());
        self.keep_alive = encode_local_response(
            failure.status(),
            Some(&self.wire),
            &edits,
            "text/plain",
            text.as_bytes(),
            &mut self.out.0,
        );
        self.is_ended = true;
        Ok(())
    }

    pub fn send_data(&mut self, data: &[u8], end: bool) -> Result<usize, SendError> {
        if self.is_refused || self.is_ended {
            return Err(SendError::Gone);
        }
        let room = OUTPUT_BYTES_MAX.saturating_sub(self.out.0.len());
        let count = data.len().min(room);
        self.encoder.data(&data[..count], &mut self.out.0).map_err(|_| SendError::Mismatch)?;
        if count < data.len() {
            self.wants_room = true;
        } else if end {
            self.send_trailers([].into_iter())?;
        }
        Ok(count)
    }

    /// Ends a body. Where its framing has no room for trailers they are left out.
    pub fn send_trailers<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), SendError> {
        if self.is_refused || self.is_ended {
            return Err(SendError::Gone);
        }
        let trailers = trailers.filter(|_| !self.drops_trailers);
        self.encoder.end(trailers, &mut self.out.0).map_err(|_| SendError::Mismatch)?;
        self.is_ended = true;
        Ok(())
    }
}
