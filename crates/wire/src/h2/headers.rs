//! HEADERS and CONTINUATION: whose block it is, and what becomes of the list that it decodes to.

use super::budget::Flood;
use super::connection::{Connection, Drain, Role};
use super::error::{
    ConnectionError, ErrorCode, StreamError, connection_error, frame_size_error, protocol_error,
};
use super::frame::{FrameHeader, flag};
use super::heads::{self, Heads, Refusal};
use super::receive::{LENGTH_MISMATCH, Receiving};
use super::streams::{Ended, Side};
use super::{Event, StreamKey};
use crate::head::{Framing, Method, Reject, ResponseKind};
use crate::hpack::{EXCESSIVE, ListLimits};

type Handled = Result<Option<Event>, ConnectionError>;

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Request,
    Response(StreamKey),
    Trailers(StreamKey),
    /// Behind the end of what the peer may send on the stream.
    Late(StreamKey),
    /// Of a stream that is not there.
    Stray,
}

impl Connection {
    pub(super) fn headers(&mut self, header: FrameHeader, payload: &[u8], heads: &mut Heads) -> Handled {
        if header.stream == 0 {
            return Err(protocol_error("head on no stream"));
        }
        let mut fragment = payload;
        if header.has(flag::PADDED) {
            let (&padding, rest) = payload.split_first().ok_or(frame_size_error("padding cut off"))?;
            let end = rest.len().checked_sub(usize::from(padding));
            fragment = &rest[..end.ok_or(protocol_error("padding longer than its frame"))?];
        }
        let mut depends_on_itself = false;
        if header.has(flag::PRIORITY) {
            let (priority, rest) =
                fragment.split_first_chunk::<5>().ok_or(frame_size_error("priority cut off"))?;
            let [a, b, c, d, _] = *priority;
            depends_on_itself = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff == header.stream;
            fragment = rest;
        }
        let end = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.block(header.stream, end, depends_on_itself, fragment, heads);
        }
        self.block.clear();
        self.block.extend_from_slice(fragment);
        self.receiving = Receiving::Continuation { stream: header.stream, end, depends_on_itself, count: 0 };
        Ok(None)
    }

    pub(super) fn continuation(&mut self, header: FrameHeader, payload: &[u8], heads: &mut Heads) -> Handled {
        let Receiving::Continuation { stream, end, depends_on_itself, count } = self.receiving else {
            return Err(protocol_error("continuation of nothing"));
        };
        let count = count + 1;
        if count > self.limits.continuations_max {
            return Err(connection_error(ErrorCode::ENHANCE_YOUR_CALM, "too many continuations"));
        }
        if self.block.len() + payload.len() > self.limits.block_bytes_max {
            return Err(connection_error(ErrorCode::ENHANCE_YOUR_CALM, "field block too large"));
        }
        if payload.is_empty() {
            self.budget.spend(Flood::Stray)?;
        }
        self.block.extend_from_slice(payload);
        if !header.has(flag::END_HEADERS) {
            self.receiving = Receiving::Continuation { stream, end, depends_on_itself, count };
            return Ok(None);
        }
        self.receiving = Receiving::Frame;
        let block = std::mem::take(&mut self.block);
        let handled = self.block(stream, end, depends_on_itself, &block, heads);
        self.block = block;
        handled
    }

    /// A whole block. It is decoded whatever becomes of it, as the next one needs the table that it leaves behind.
    fn block(
        &mut self,
        id: u32,
        end: bool,
        depends_on_itself: bool,
        block: &[u8],
        heads: &mut Heads,
    ) -> Handled {
        let purpose = self.purpose(id);
        let limits = match purpose {
            Purpose::Request | Purpose::Response(_) => self.limits.heads(),
            Purpose::Trailers(_) => self.limits.trailers(),
            Purpose::Late(_) | Purpose::Stray => ListLimits { bytes_max: 0, fields_max: 0 },
        };
        if let Err(error) = self.decoder.decode(block, &limits, &mut heads.list) {
            let is_bomb = error == EXCESSIVE;
            let code = if is_bomb { ErrorCode::ENHANCE_YOUR_CALM } else { ErrorCode::COMPRESSION_ERROR };
            return Err(connection_error(code, error.reason));
        }
        match purpose {
            Purpose::Request => self.request(id, end, depends_on_itself, heads),
            Purpose::Response(key) => self.response(key, end, heads).map(Some),
            Purpose::Trailers(key) => self.trailers(key, end, heads).map(Some),
            Purpose::Late(key) => {
                let error = StreamError::new(ErrorCode::STREAM_CLOSED, "head behind the end");
                self.fail_stream(key, error).map(Some)
            }
            Purpose::Stray => self.stray(id, false).map(|()| None),
        }
    }

    fn purpose(&mut self, id: u32) -> Purpose {
        let Some(key) = self.streams.find(id) else {
            let is_new = self.role == Role::Server && id % 2 == 1 && id > self.last_peer_id;
            let is_wanted = !matches!(self.drain, Drain::Last(_));
            return if is_new && is_wanted { Purpose::Request } else { self.ignored(id, is_new) };
        };
        match self.streams.get(key).map(|stream| stream.recv) {
            Some(Side::Head) => Purpose::Response(key),
            Some(Side::Body) => Purpose::Trailers(key),
            _ => Purpose::Late(key),
        }
    }

    /// A request behind the last one that a GOAWAY named has been used, so that more of its frames may come.
    fn ignored(&mut self, id: u32, is_new: bool) -> Purpose {
        if is_new {
            self.last_peer_id = id;
        }
        Purpose::Stray
    }

    fn request(&mut self, id: u32, end: bool, depends_on_itself: bool, heads: &mut Heads) -> Handled {
        self.last_peer_id = id;
        if self.open_streams >= self.own_streams_max || self.streams.len() as u32 >= 2 * self.own_streams_max
        {
            self.past.note(id, Ended::ByUs);
            self.reset_provoked(id, ErrorCode::REFUSED_STREAM)?;
            return Ok(Some(Event::Refused { id, reject: Reject::new(503, "too many streams") }));
        }
        let refusal = if depends_on_itself {
            Err(Refusal::Malformed("stream that depends on itself"))
        } else {
            heads::request(&mut heads.list, &mut heads.request, end, &self.limits)
        };
        match refusal {
            Ok(()) => {}
            Err(Refusal::Malformed(reason)) => {
                self.past.note(id, Ended::ByUs);
                self.reset_provoked(id, ErrorCode::PROTOCOL_ERROR)?;
                return Ok(Some(Event::Refused { id, reject: Reject::bad(reason) }));
            }
            Err(Refusal::Answer(reject)) => return self.rejected(id, end, reject, heads).map(Some),
        }
        let head = &heads.request;
        let recv = if end { Side::Closed } else { Side::Body };
        let is_connect = head.method == Method::Connect;
        let stream = self.insert(id, recv, head.method == Method::Head, is_connect);
        if let Some(state) = self.streams.get(stream) {
            match head.framing {
                Framing::Length(length) => (state.recv_left, state.is_recv_declared) = (length, true),
                _ if is_connect => state.recv_left = u64::MAX,
                _ => {}
            }
        }
        Ok(Some(Event::Request { stream, end }))
    }

    /// A request that is to be answered and goes nowhere. All of its body is taken, as far as the driver lets it come.
    fn rejected(
        &mut self,
        id: u32,
        end: bool,
        reject: Reject,
        heads: &Heads,
    ) -> Result<Event, ConnectionError> {
        if !end {
            // RFC 9113, 8.1: the rest is not wanted, so that a reset follows.
            self.budget.spend(Flood::Reset)?;
        }
        let is_head = heads.list.pseudo.method.is_some_and(|method| method.of(heads.bytes()) == b"HEAD");
        let recv = if end { Side::Closed } else { Side::Body };
        let stream = self.insert(id, recv, is_head, false);
        if let Some(state) = self.streams.get(stream) {
            state.recv_left = u64::MAX;
        }
        Ok(Event::Rejected { stream, end, reject })
    }

    fn response(&mut self, key: StreamKey, end: bool, heads: &mut Heads) -> Result<Event, ConnectionError> {
        let event = Event::Response { stream: key, end };
        let Some(stream) = self.streams.get(key) else { return Ok(event) };
        let head = &mut heads.response;
        if let Err(reason) = heads::response(&mut heads.list, head, end, stream, &self.limits) {
            return self.fail_stream(key, StreamError::protocol(reason));
        }
        if head.kind == ResponseKind::Interim {
            return Ok(event);
        }
        stream.recv = Side::Body;
        match head.framing {
            _ if head.kind == ResponseKind::Tunnel => stream.recv_left = u64::MAX,
            Framing::None => (stream.recv_left, stream.is_recv_declared) = (0, true),
            Framing::Length(length) => (stream.recv_left, stream.is_recv_declared) = (length, true),
            _ => {}
        }
        if end {
            stream.recv = Side::Closed;
            self.end_if_closed(key);
        }
        Ok(event)
    }

    fn trailers(&mut self, key: StreamKey, end: bool, heads: &mut Heads) -> Result<Event, ConnectionError> {
        let Some(stream) = self.streams.get(key) else { return Ok(Event::Trailers { stream: key }) };
        let fault = match heads::trailers(&heads.list) {
            Err(reason) => Some(StreamError::protocol(reason)),
            Ok(()) if !end => Some(StreamError::protocol("head within a body")),
            Ok(()) if stream.is_recv_declared && stream.recv_left > 0 => Some(LENGTH_MISMATCH),
            Ok(()) => None,
        };
        if let Some(error) = fault {
            return self.fail_stream(key, error);
        }
        stream.recv = Side::Closed;
        self.end_if_closed(key);
        Ok(Event::Trailers { stream: key })
    }
}
