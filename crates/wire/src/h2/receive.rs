//! From bytes to events: which frames may come when, and what DATA means for windows and bodies.

use super::budget::Flood;
use super::connection::{Connection, Drain, Role};
use super::error::{
    ConnectionError, ErrorCode, StreamError, connection_error, frame_size_error, protocol_error,
};
use super::frame::{FrameHeader, HEADER_BYTES, PAYLOAD_BYTES_MAX, PREFACE, flag, kind};
use super::heads::Heads;
use super::streams::{Ended, Side};
use super::{Event, StreamKey};
use crate::head::Reject;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    Preface,
    Frame,
    /// Nothing but the rest of this block may come (RFC 9113, 6.10).
    Continuation {
        stream: u32,
        end: bool,
        depends_on_itself: bool,
        count: u32,
    },
    Data {
        stream: StreamKey,
        left: usize,
        padding: usize,
        end: bool,
    },
    /// DATA that nobody wants.
    Skip {
        left: usize,
    },
}

impl Connection {
    /// The next event in `input[*at..]`; `at` moves behind what was used. To be called until it says
    /// [`Event::NeedMore`]. At most [`super::FRAME_BYTES_MAX`] bytes stay unused then. Heads and trailers are put into
    /// `heads`, of which a worker needs one for all its connections.
    ///
    /// # Errors
    /// The connection is over: write the output, which tells the peer, and close. All its streams are over too.
    pub fn next(
        &mut self,
        input: &[u8],
        at: &mut usize,
        heads: &mut Heads,
    ) -> Result<Event, ConnectionError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let event = self.advance(input, at, heads);
        if let Err(error) = event {
            self.fail(error);
        }
        event
    }

    fn advance(&mut self, input: &[u8], at: &mut usize, heads: &mut Heads) -> Result<Event, ConnectionError> {
        if let Some(event) = self.unprocessed() {
            return Ok(event);
        }
        loop {
            let rest = &input[*at..];
            match self.receiving {
                Receiving::Preface => {
                    let seen = rest.len().min(PREFACE.len());
                    if rest[..seen] != PREFACE[..seen] {
                        return Err(protocol_error("malformed preface"));
                    }
                    if seen < PREFACE.len() {
                        return Ok(Event::NeedMore);
                    }
                    *at += seen;
                    self.receiving = Receiving::Frame;
                }
                Receiving::Frame | Receiving::Continuation { .. } => {
                    let Some(header) = FrameHeader::parse(rest) else { return Ok(Event::NeedMore) };
                    self.check_order(header)?;
                    if header.kind == kind::DATA {
                        let is_padded = header.has(flag::PADDED);
                        if is_padded && header.len > 0 && rest.len() == HEADER_BYTES {
                            return Ok(Event::NeedMore);
                        }
                        *at += HEADER_BYTES + usize::from(is_padded && header.len > 0);
                        if let Some(event) = self.data(header, rest.get(HEADER_BYTES).copied())? {
                            return Ok(event);
                        }
                        continue;
                    }
                    let Some(payload) = rest.get(HEADER_BYTES..HEADER_BYTES + header.len) else {
                        return Ok(Event::NeedMore);
                    };
                    *at += HEADER_BYTES + header.len;
                    if let Some(event) = self.frame(header, payload, heads)? {
                        return Ok(event);
                    }
                }
                Receiving::Data { .. } => {
                    if let Some(event) = self.deliver(rest.len(), at) {
                        return Ok(event);
                    }
                    if self.receiving != Receiving::Frame {
                        return Ok(Event::NeedMore);
                    }
                }
                Receiving::Skip { left } => {
                    let count = left.min(rest.len());
                    *at += count;
                    self.receiving = match left - count {
                        0 => Receiving::Frame,
                        left => Receiving::Skip { left },
                    };
                    if count < left {
                        return Ok(Event::NeedMore);
                    }
                }
            }
        }
    }

    /// What holds for a frame before anybody looks into it.
    fn check_order(&self, header: FrameHeader) -> Result<(), ConnectionError> {
        if header.len > PAYLOAD_BYTES_MAX {
            return Err(frame_size_error("frame too large"));
        }
        let is_expected = match self.receiving {
            Receiving::Continuation { stream, .. } => {
                header.kind == kind::CONTINUATION && header.stream == stream
            }
            _ => header.kind != kind::CONTINUATION,
        };
        if !is_expected {
            return Err(protocol_error("continuation expected, or not expected"));
        }
        if !self.has_peer_settings && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(protocol_error("settings expected first"));
        }
        Ok(())
    }

    fn frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        heads: &mut Heads,
    ) -> Result<Option<Event>, ConnectionError> {
        match header.kind {
            kind::HEADERS => self.headers(header, payload, heads),
            kind::CONTINUATION => self.continuation(header, payload, heads),
            kind::PRIORITY => self.priority(header, payload),
            kind::RST_STREAM => self.rst_stream(header, payload),
            kind::SETTINGS => self.settings(header, payload),
            // To a server never; to a client not, as it says so in its SETTINGS (RFC 9113, 8.4).
            kind::PUSH_PROMISE => Err(protocol_error("push promise")),
            kind::PING => self.ping_frame(header, payload),
            kind::GOAWAY => self.goaway(header, payload),
            kind::WINDOW_UPDATE => self.window_update(header, payload),
            _ => self.budget.spend(Flood::Stray).map(|()| None),
        }
    }

    /// The beginning of a DATA frame (RFC 9113, 6.1). Everything that can be wrong with it is found here, before a byte
    /// is handed out.
    fn data(&mut self, header: FrameHeader, first: Option<u8>) -> Result<Option<Event>, ConnectionError> {
        if header.stream == 0 {
            return Err(protocol_error("data on no stream"));
        }
        let padding = match first {
            Some(padding) if header.has(flag::PADDED) && header.len > 0 => 1 + usize::from(padding),
            _ if header.has(flag::PADDED) => return Err(frame_size_error("padding cut off")),
            _ => 0,
        };
        if padding > header.len {
            return Err(protocol_error("padding longer than its frame"));
        }
        if header.len as i64 > self.recv_window {
            return Err(connection_error(ErrorCode::FLOW_CONTROL_ERROR, "connection window overrun"));
        }
        self.recv_window -= header.len as i64;
        let end = header.has(flag::END_STREAM);
        let length = header.len - padding;
        // Its length byte is used already.
        let padding_left = padding.saturating_sub(1);
        if length == 0 && !end {
            self.budget.spend(Flood::EmptyData)?;
        }
        let Some(key) = self.streams.find(header.stream) else {
            self.stray(header.stream, true)?;
            self.skip(header.len, length + padding_left);
            return Ok(None);
        };
        let rejected = match self.check_data(key, header.len, length, end) {
            Ok(()) => None,
            // Those bytes are still handed out: windows that stay shut would keep a client from reading its answer.
            Err(error) if error.status == 413 && self.role == Role::Server => Some(self.overrun(key)?),
            Err(error) => {
                self.skip(header.len, length + padding_left);
                return self.fail_stream(key, error).map(Some);
            }
        };
        if padding > 0 {
            self.take(padding as u32);
            if let Some(stream) = self.streams.get(key) {
                stream.taken += padding as u32;
            }
        }
        self.receiving = Receiving::Data { stream: key, left: length, padding: padding_left, end };
        Ok(rejected)
    }

    /// A request's body is longer than any may be, as its head has not said. From here on all of it is taken.
    fn overrun(&mut self, key: StreamKey) -> Result<Event, ConnectionError> {
        self.budget.spend(Flood::Reset)?;
        if let Some(stream) = self.streams.get(key) {
            stream.recv_left = u64::MAX;
        }
        Ok(Event::Rejected { stream: key, end: false, reject: Reject::new(413, "body too large") })
    }

    fn check_data(
        &mut self,
        key: StreamKey,
        window: usize,
        length: usize,
        end: bool,
    ) -> Result<(), StreamError> {
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        match stream.recv {
            Side::Body => {}
            Side::Head => return Err(StreamError::protocol("data before a head")),
            Side::Closed => return Err(StreamError::new(ErrorCode::STREAM_CLOSED, "data behind the end")),
        }
        if window as i64 > stream.recv_window {
            return Err(StreamError::new(ErrorCode::FLOW_CONTROL_ERROR, "stream window overrun"));
        }
        stream.recv_window -= window as i64;
        match stream.recv_left.checked_sub(length as u64) {
            Some(left) => stream.recv_left = left,
            None if stream.is_recv_declared => return Err(LENGTH_MISMATCH),
            None => {
                let error = StreamError::new(ErrorCode::CANCEL, "body too large");
                return Err(StreamError { status: 413, ..error });
            }
        }
        if end && stream.is_recv_declared && stream.recv_left > 0 {
            return Err(LENGTH_MISMATCH);
        }
        Ok(())
    }

    /// Drops a frame's payload and gives its bytes back to the connection's window.
    fn skip(&mut self, window: usize, left: usize) {
        self.take(window as u32);
        self.receiving = if left > 0 { Receiving::Skip { left } } else { Receiving::Frame };
    }

    /// Hands out what has arrived of a DATA frame; `None` if nothing has that matters.
    fn deliver(&mut self, available: usize, at: &mut usize) -> Option<Event> {
        let Receiving::Data { stream: key, left, padding, end } = self.receiving else { return None };
        let count = left.min(available);
        let skipped = if count == left { padding.min(available - count) } else { 0 };
        let bytes = *at..*at + count;
        *at += count + skipped;
        let is_whole = count == left && skipped == padding;
        self.receiving = if is_whole {
            Receiving::Frame
        } else {
            Receiving::Data { stream: key, left: left - count, padding: padding - skipped, end }
        };
        let end = end && is_whole;
        // The driver may have given the stream up while its frame was on the way.
        let Some(stream) = self.streams.get(key) else {
            self.take(count as u32);
            return None;
        };
        stream.held += count as u32;
        if end {
            stream.recv = Side::Closed;
            self.end_if_closed(key);
        }
        // No bytes say nothing unless they end the stream.
        (count > 0 || end).then_some(Event::Data { stream: key, bytes, end })
    }

    /// A frame on a stream that is not there. `Ok`: to be ignored.
    pub(super) fn stray(&mut self, id: u32, is_data: bool) -> Result<(), ConnectionError> {
        if self.is_idle(id) {
            return Err(protocol_error("frame on an idle stream"));
        }
        if let Drain::Last(last) = self.drain
            && self.role == Role::Server
            && id > last
        {
            return self.budget.spend(Flood::Stray);
        }
        match self.past.get(id) {
            Some(Ended::ByUs) => self.budget.spend(Flood::Stray),
            Some(Ended::ByPeer) => {
                Err(connection_error(ErrorCode::STREAM_CLOSED, "frame on a stream that has ended"))
            }
            None if is_data => {
                Err(connection_error(ErrorCode::STREAM_CLOSED, "data on a stream that has ended"))
            }
            None => Err(protocol_error("identifier below one that was used")),
        }
    }

    /// RFC 9113, 5.1.1: identifiers of either end that were never used.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        match self.role {
            Role::Server => id.is_multiple_of(2) || id > self.last_peer_id,
            Role::Client => id.is_multiple_of(2) || id >= self.next_id,
        }
    }

    /// Resets a stream that was announced.
    pub(super) fn fail_stream(
        &mut self,
        key: StreamKey,
        error: StreamError,
    ) -> Result<Event, ConnectionError> {
        self.end(key, Ended::ByUs);
        self.reset_provoked(key.id, error.code)?;
        Ok(Event::Failed { stream: key, error })
    }
}

pub(super) const LENGTH_MISMATCH: StreamError =
    StreamError::protocol("body differs from its declared length");
