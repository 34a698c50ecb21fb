//! Frames that carry no message: what they mean, and how many of them are too many.

use super::budget::Flood;
use super::connection::{Connection, Role};
use super::error::{
    ConnectionError, ErrorCode, StreamError, connection_error, frame_size_error, protocol_error,
};
use super::frame::{FrameHeader, flag, number, push_window_update};
use super::settings::{WINDOW_MAX, push_ack};
use super::streams::{Ended, Side};
use super::{Event, StreamKey};

type Handled = Result<Option<Event>, ConnectionError>;

impl Connection {
    /// RFC 9113, 6.3: deprecated, so looked at and counted only.
    pub(super) fn priority(&mut self, header: FrameHeader, payload: &[u8]) -> Handled {
        if header.stream == 0 {
            return Err(protocol_error("priority on no stream"));
        }
        self.budget.spend(Flood::Priority)?;
        let error = match payload.first_chunk::<4>() {
            Some(parent) if payload.len() == 5 => {
                let parent = u32::from_be_bytes(*parent) & 0x7fff_ffff;
                (parent == header.stream).then_some(StreamError::protocol("stream that depends on itself"))
            }
            _ => Some(StreamError::new(ErrorCode::FRAME_SIZE_ERROR, "malformed priority")),
        };
        match (error, self.streams.find(header.stream)) {
            (None, _) => Ok(None),
            (Some(error), Some(key)) => self.fail_stream(key, error).map(Some),
            // An idle stream cannot be reset (RFC 9113, 5.1).
            (Some(error), None) if self.is_idle(header.stream) => {
                Err(connection_error(error.code, error.reason))
            }
            (Some(error), None) => self.reset_provoked(header.stream, error.code).map(|()| None),
        }
    }

    pub(super) fn rst_stream(&mut self, header: FrameHeader, payload: &[u8]) -> Handled {
        let code = ErrorCode(number(payload).ok_or(frame_size_error("malformed reset"))?);
        if header.stream == 0 || self.is_idle(header.stream) {
            return Err(protocol_error("reset of no stream"));
        }
        // A server may end as many streams as it likes: it was the client who opened them.
        if self.role == Role::Server {
            self.budget.spend(Flood::Reset)?;
        }
        let Some(key) = self.streams.find(header.stream) else { return Ok(None) };
        let is_over = self.streams.get(key).is_none_or(|stream| stream.is_closed());
        if is_over {
            // Over already, and only held for the consumer.
            return Ok(None);
        }
        self.end(key, Ended::ByPeer);
        Ok(Some(Event::Reset { stream: key, code }))
    }

    pub(super) fn settings(&mut self, header: FrameHeader, payload: &[u8]) -> Handled {
        if header.stream != 0 {
            return Err(protocol_error("settings on a stream"));
        }
        if header.has(flag::ACK) {
            return if payload.is_empty() {
                self.acknowledged()
            } else {
                Err(frame_size_error("acknowledgement with a payload"))
            };
        }
        self.budget.spend(Flood::Settings)?;
        let old = self.peer;
        self.peer = old.with(payload, self.role)?;
        self.has_peer_settings = true;
        if self.peer.header_table_bytes != old.header_table_bytes {
            self.encoder.set_limit(self.peer.header_table_bytes as usize);
        }
        if self.peer.initial_window != old.initial_window {
            self.move_send_windows(i64::from(self.peer.initial_window) - i64::from(old.initial_window))?;
        }
        push_ack(&mut self.out);
        self.note_provoked(9)?;
        Ok(Some(Event::Settings))
    }

    /// RFC 9113, 6.9.2: windows may fall below zero.
    fn move_send_windows(&mut self, by: i64) -> Result<(), ConnectionError> {
        let mut slot = 0;
        while let Some(key) = self.streams.next_from(slot) {
            slot = key.slot + 1;
            let Some(stream) = self.streams.get(key).filter(|stream| stream.send != Side::Closed) else {
                continue;
            };
            stream.send_window += by;
            if stream.send_window > WINDOW_MAX {
                return Err(connection_error(ErrorCode::FLOW_CONTROL_ERROR, "window too large"));
            }
            self.wake(key);
        }
        Ok(())
    }

    /// Puts a stream that waits for its window into the queue of those that may send.
    pub(super) fn wake(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get(key)
            && stream.wants
            && !stream.is_queued
            && stream.send_window > 0
        {
            stream.is_queued = true;
            self.ready.push_back(key);
        }
    }

    fn acknowledged(&mut self) -> Handled {
        let change = self.in_flight.acknowledged()?;
        if let Some(bytes) = change.header_table_bytes {
            self.decoder.set_limit(bytes as usize);
        }
        if let Some(count) = change.concurrent_streams_max {
            self.own_streams_max = count;
        }
        if let Some(bytes) = change.initial_window {
            let by = i64::from(bytes) - i64::from(self.own_window);
            self.own_window = bytes;
            for stream in self.streams.iter_mut() {
                stream.recv_window += by;
                stream.window = i64::from(stream.window).saturating_add(by).max(0) as u32;
                // The consumer may have taken all that came: nothing else would give it back.
                if stream.recv != Side::Closed
                    && let Some(increment) = stream.opened_by(bytes, bytes, false)
                {
                    push_window_update(&mut self.out, stream.id, increment);
                }
            }
        }
        Ok(None)
    }

    pub(super) fn ping_frame(&mut self, header: FrameHeader, payload: &[u8]) -> Handled {
        if header.stream != 0 {
            return Err(protocol_error("ping on a stream"));
        }
        let Ok(bytes) = <[u8; 8]>::try_from(payload) else { return Err(frame_size_error("malformed ping")) };
        self.budget.spend(Flood::Ping)?;
        if header.has(flag::ACK) {
            let payload = u64::from_be_bytes(bytes);
            return Ok(self.pong(payload).then_some(Event::Pong { payload }));
        }
        self.push_ping_ack(payload)?;
        Ok(None)
    }

    pub(super) fn goaway(&mut self, header: FrameHeader, payload: &[u8]) -> Handled {
        if header.stream != 0 {
            return Err(protocol_error("goaway on a stream"));
        }
        let Some((&[a, b, c, d, e, f, g, h], _)) = payload.split_first_chunk::<8>() else {
            return Err(frame_size_error("malformed goaway"));
        };
        self.budget.spend(Flood::Settings)?;
        let last = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
        if self.peer_last.is_some_and(|before| last > before) {
            return Err(protocol_error("goaway that takes back an earlier one"));
        }
        self.peer_last = Some(last);
        self.sweep = (self.role == Role::Client).then_some(0);
        Ok(Some(Event::GoAway { code: ErrorCode(u32::from_be_bytes([e, f, g, h])) }))
    }

    /// The next stream that the server's GOAWAY leaves out.
    pub(super) fn unprocessed(&mut self) -> Option<Event> {
        let last = self.peer_last?;
        let mut slot = self.sweep?;
        while let Some(key) = self.streams.next_from(slot) {
            slot = key.slot + 1;
            let is_open = self.streams.get(key).is_some_and(|stream| !stream.is_closed());
            if key.id > last && is_open {
                self.sweep = Some(slot);
                self.end(key, Ended::ByUs);
                return Some(Event::Unprocessed { stream: key });
            }
        }
        self.sweep = None;
        None
    }

    pub(super) fn window_update(&mut self, header: FrameHeader, payload: &[u8]) -> Handled {
        let increment = number(payload).ok_or(frame_size_error("malformed window update"))? & 0x7fff_ffff;
        self.budget.spend(Flood::WindowUpdate)?;
        if header.stream == 0 {
            if increment == 0 {
                return Err(protocol_error("window update by nothing"));
            }
            self.send_window += i64::from(increment);
            if self.send_window > WINDOW_MAX {
                return Err(connection_error(ErrorCode::FLOW_CONTROL_ERROR, "window too large"));
            }
            return Ok(None);
        }
        if self.is_idle(header.stream) {
            return Err(protocol_error("window update of an idle stream"));
        }
        let Some(key) = self.streams.find(header.stream) else { return Ok(None) };
        match self.open_send_window(key, increment) {
            Ok(()) => Ok(None),
            Err(error) => self.fail_stream(key, error).map(Some),
        }
    }

    fn open_send_window(&mut self, key: StreamKey, increment: u32) -> Result<(), StreamError> {
        let Some(stream) = self.streams.get(key).filter(|stream| !stream.is_closed()) else { return Ok(()) };
        if increment == 0 {
            return Err(StreamError::protocol("window update by nothing"));
        }
        stream.send_window += i64::from(increment);
        if stream.send_window > WINDOW_MAX {
            return Err(StreamError::new(ErrorCode::FLOW_CONTROL_ERROR, "window too large"));
        }
        self.wake(key);
        Ok(())
    }
}
