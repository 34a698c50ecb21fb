//! A connection's state, and what its driver does with it beside receiving and sending messages.

use std::collections::VecDeque;

use super::budget::{Budget, Flood};
use super::error::{ConnectionError, ErrorCode, connection_error};
use super::frame::{PREFACE, flag, kind, push, push_goaway, push_reset, push_window_update};
use super::receive::Receiving;
use super::settings::{Change, InFlight, PeerSettings, WINDOW_INITIAL};
use super::streams::{Ended, Past, Side, Stream, Streams};
use super::{Limits, StreamKey};
use crate::hpack::{Decoder, Encoder};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Server,
    Client,
}

/// One end of a connection. Its output is one buffer, so that a driver writes once per turn; an idle connection that
/// was told to [`Connection::release`] holds its tables only.
#[derive(Debug)]
pub struct Connection {
    pub(super) role: Role,
    pub(super) limits: Limits,
    pub(super) receiving: Receiving,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) streams: Streams,
    pub(super) past: Past,
    /// Streams that are not over in both directions.
    pub(super) open_streams: u32,
    /// Of the peer: the highest identifier it used.
    pub(super) last_peer_id: u32,
    /// Client: the next identifier.
    pub(super) next_id: u32,
    pub(super) peer: PeerSettings,
    pub(super) has_peer_settings: bool,
    pub(super) in_flight: InFlight,
    /// Ours, as acknowledged.
    pub(super) own_window: u32,
    pub(super) own_streams_max: u32,
    pub(super) send_window: i64,
    pub(super) recv_window: i64,
    pub(super) taken: u32,
    /// Windows of streams may be wider than the first.
    pub(super) is_wide: bool,
    /// A block that goes on in CONTINUATION frames.
    pub(super) block: Vec<u8>,
    pub(super) out: Vec<u8>,
    /// How much of `out` is written already.
    pub(super) out_start: usize,
    /// How much of what waits in `out` the peer has provoked; at most that.
    pub(super) provoked: usize,
    pub(super) budget: Budget,
    /// Streams that have more to send and a window for it, in turn.
    pub(super) ready: VecDeque<StreamKey>,
    pub(super) drain: Drain,
    /// Client: streams above this are not processed; the next slot to look at for such.
    pub(super) peer_last: Option<u32>,
    pub(super) sweep: Option<u32>,
    pub(super) failed: Option<ConnectionError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    No,
    /// The peer was told to open no more streams; those on their way are still taken.
    Announced,
    /// Streams above this are ignored.
    Last(u32),
}

const DRAIN_PING: u64 = 0x7369_6e65_7764_7261;

impl Connection {
    /// Its SETTINGS stand in the output at once.
    pub fn server(limits: Limits) -> Self {
        Self::new(Role::Server, limits)
    }

    /// Preface and SETTINGS stand in the output at once; requests may be sent without waiting for the server's.
    pub fn client(limits: Limits) -> Self {
        Self::new(Role::Client, limits)
    }

    fn new(role: Role, limits: Limits) -> Self {
        let mut connection = Self {
            role,
            limits,
            receiving: if role == Role::Server { Receiving::Preface } else { Receiving::Frame },
            decoder: Decoder::default(),
            encoder: Encoder::new(limits.header_table_bytes_max),
            streams: Streams::default(),
            past: Past::default(),
            open_streams: 0,
            last_peer_id: 0,
            next_id: 1,
            peer: PeerSettings::INITIAL,
            has_peer_settings: false,
            in_flight: InFlight::default(),
            own_window: limits.stream_window_bytes.max(WINDOW_INITIAL),
            own_streams_max: limits.concurrent_streams_max,
            send_window: i64::from(WINDOW_INITIAL),
            recv_window: i64::from(limits.connection_window_bytes.max(WINDOW_INITIAL)),
            taken: 0,
            is_wide: true,
            block: Vec::new(),
            out: Vec::new(),
            out_start: 0,
            provoked: 0,
            budget: Budget::new(limits.floods),
            ready: VecDeque::new(),
            drain: Drain::No,
            peer_last: None,
            sweep: None,
            failed: None,
        };
        if role == Role::Client {
            connection.out.extend_from_slice(PREFACE);
        }
        connection.in_flight.send_first(role, &limits, &mut connection.out);
        if limits.connection_window_bytes > WINDOW_INITIAL {
            push_window_update(&mut connection.out, 0, limits.connection_window_bytes - WINDOW_INITIAL);
        }
        connection
    }

    pub const fn role(&self) -> Role {
        self.role
    }

    /// Streams that are not over.
    pub const fn open_streams(&self) -> usize {
        self.open_streams as usize
    }

    /// What waits to be written.
    pub fn output(&self) -> &[u8] {
        &self.out[self.out_start..]
    }

    /// The first `count` bytes of the output were written.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn wrote(&mut self, count: usize) {
        assert!(count <= self.out.len() - self.out_start, "more was written than there was");
        self.out_start += count;
        self.provoked = self.provoked.min(self.out.len() - self.out_start);
        if self.out_start == self.out.len() {
            self.out.clear();
            self.out_start = 0;
        } else if self.out_start >= self.out.len() / 2 {
            self.out.copy_within(self.out_start.., 0);
            self.out.truncate(self.out.len() - self.out_start);
            self.out_start = 0;
        }
    }

    /// Whether less waits to be written than the limit. While not, no bodies are taken and a driver sends no heads. It goes
    /// on reading: what a peer can provoke is bounded by itself, and two ends that stop reading because of what they have
    /// to write wait for each other for ever.
    pub fn has_room(&self) -> bool {
        self.out.len() - self.out_start < self.limits.output_bytes_max
    }

    /// Gives memory back that only traffic needs. Call when nothing is left to write and no stream is open.
    pub fn release(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        if self.receiving == Receiving::Frame {
            self.block = Vec::new();
        }
        if self.streams.len() == 0 {
            self.streams = Streams::default();
            self.ready = VecDeque::new();
        }
    }

    /// `seconds` have passed since the last call (or the beginning); about one is right. Refills what floods are
    /// measured by.
    pub fn tick(&mut self, seconds: u32) {
        self.budget.refill(seconds);
    }

    /// Whether the peer's SETTINGS have come. A driver's deadline for the beginning of a connection looks at this.
    pub const fn has_peer_settings(&self) -> bool {
        self.has_peer_settings
    }

    /// Whether the peer has not yet acknowledged SETTINGS of ours: after a time of the driver's choice it calls
    /// [`Connection::close`] with SETTINGS_TIMEOUT.
    pub fn awaits_settings_ack(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether a head or a frame has begun and not ended: a deadline for heads looks at this, and at the bytes that
    /// were left in the driver's buffer.
    pub fn is_within_head(&self) -> bool {
        matches!(self.receiving, Receiving::Preface | Receiving::Continuation { .. })
    }

    /// What streams may send before it is taken; holds for old and new ones when the peer has acknowledged it.
    pub fn set_stream_window(&mut self, bytes: u32) {
        let change = Change { initial_window: Some(bytes.min(i32::MAX as u32)), ..Change::default() };
        self.in_flight.send(change, &[], &mut self.out);
    }

    /// Server: how many streams the peer may have open, when it has acknowledged that.
    pub fn set_concurrent_streams_max(&mut self, count: u32) {
        let change = Change { concurrent_streams_max: Some(count), ..Change::default() };
        self.in_flight.send(change, &[], &mut self.out);
    }

    /// Asks for a sign of life: [`super::Event::Pong`] with the same payload.
    pub fn ping(&mut self, payload: u64) {
        push(&mut self.out, kind::PING, 0, 0, &payload.to_be_bytes());
    }

    pub(super) fn pong(&mut self, payload: u64) -> bool {
        let is_drain = payload == DRAIN_PING && self.drain == Drain::Announced;
        if is_drain {
            self.finish_drain();
        }
        !is_drain
    }

    /// Begins to end the connection without losing a request: the peer is told to open no more streams, those that are
    /// on their way are still taken. When the peer has answered (or the driver has waited long enough,
    /// [`Connection::finish_drain`]) later ones are ignored, which the peer then knows.
    pub fn drain(&mut self) {
        if self.drain == Drain::No && self.failed.is_none() {
            self.drain = Drain::Announced;
            push_goaway(&mut self.out, i32::MAX as u32, ErrorCode::NO_ERROR, "");
            self.ping(DRAIN_PING);
        }
    }

    /// The second step of [`Connection::drain`]; happens by itself when the peer answers.
    pub fn finish_drain(&mut self) {
        self.drain();
        if self.drain == Drain::Announced {
            self.drain = Drain::Last(self.last_peer_id);
            push_goaway(&mut self.out, self.last_peer_id, ErrorCode::NO_ERROR, "");
        }
    }

    /// Nothing is left to do but to write the output and to close.
    pub const fn is_drained(&self) -> bool {
        matches!(self.drain, Drain::Last(_)) && self.open_streams == 0
    }

    /// Ends the connection at once, for a reason of the driver's (a deadline). Nothing is received or sent afterwards.
    pub fn close(&mut self, code: ErrorCode, reason: &'static str) {
        self.fail(connection_error(code, reason));
    }

    /// Why it was ended from here, if it was.
    pub const fn failure(&self) -> Option<ConnectionError> {
        self.failed
    }

    pub(super) fn fail(&mut self, error: ConnectionError) {
        if self.failed.is_none() {
            self.failed = Some(error);
            let last = if let Drain::Last(last) = self.drain { last } else { self.last_peer_id };
            push_goaway(&mut self.out, last, error.code, error.reason);
        }
    }

    /// The consumer has taken `count` bytes of [`super::Event::Data`], so that the peer may send as many more. Also for
    /// streams that are over.
    pub fn consumed(&mut self, key: StreamKey, count: usize) {
        let (first, most) = (self.own_window, self.limits.stream_window_bytes_max);
        let is_wide = self.is_wide;
        let Some(stream) = self.streams.get(key) else { return };
        let count = (count as u32).min(stream.held);
        stream.held -= count;
        if stream.recv == Side::Closed {
            self.forget_if_over(key);
        } else {
            stream.taken += count;
            if let Some(increment) = stream.opened_by(first, most, is_wide) {
                push_window_update(&mut self.out, key.id, increment);
            }
        }
        self.take(count);
    }

    /// Whether streams whose consumer takes all that comes may have more on its way than others. When not, windows that
    /// have grown become the first ones again as their bytes are taken.
    pub const fn allow_wide(&mut self, is_wide: bool) {
        self.is_wide = is_wide;
    }

    /// Gives the peer back so many bytes of the connection's window.
    pub(super) fn take(&mut self, count: u32) {
        self.taken += count;
        if self.taken > 0 && self.taken >= self.limits.connection_window_bytes.max(WINDOW_INITIAL) / 2 {
            self.recv_window += i64::from(self.taken);
            push_window_update(&mut self.out, 0, self.taken);
            self.taken = 0;
        }
    }

    /// Gives a stream up: it is over, what is still received for it is dropped.
    pub fn reset(&mut self, key: StreamKey, code: ErrorCode) {
        if self.streams.get(key).is_some_and(|stream| !stream.is_closed()) {
            push_reset(&mut self.out, key.id, code);
        }
        self.end(key, Ended::ByUs);
    }

    /// A reset that the peer's mistake has led to.
    pub(super) fn reset_provoked(&mut self, id: u32, code: ErrorCode) -> Result<(), ConnectionError> {
        self.budget.spend(Flood::Reset)?;
        push_reset(&mut self.out, id, code);
        self.note_provoked(13)
    }

    /// So many bytes of the output are there because the peer wanted them.
    pub(super) fn note_provoked(&mut self, count: usize) -> Result<(), ConnectionError> {
        self.provoked += count;
        if self.provoked > self.limits.provoked_bytes_max {
            return Err(connection_error(ErrorCode::ENHANCE_YOUR_CALM, "reads nothing of what it asks for"));
        }
        Ok(())
    }

    /// Takes a stream away that was reset, with what was held for it.
    pub(super) fn end(&mut self, key: StreamKey, ended: Ended) {
        let Some(&mut stream) = self.streams.get(key) else { return };
        self.streams.remove(key);
        if !stream.is_closed() {
            self.open_streams -= 1;
            self.past.note(key.id, ended);
        }
        self.take(stream.held);
    }

    /// To be called when a direction of a stream has ended.
    pub(super) fn end_if_closed(&mut self, key: StreamKey) {
        if self.streams.get(key).is_some_and(|stream| stream.is_closed()) {
            self.open_streams -= 1;
            self.past.note(key.id, Ended::ByPeer);
            self.budget.earn_message();
            self.forget_if_over(key);
        }
    }

    /// The slot is free again when nothing is held for the stream any more.
    fn forget_if_over(&mut self, key: StreamKey) {
        if self.streams.get(key).is_some_and(|stream| stream.is_closed() && stream.held == 0) {
            self.streams.remove(key);
        }
    }

    pub(super) fn insert(&mut self, id: u32, recv: Side, is_head: bool, is_connect: bool) -> StreamKey {
        self.open_streams += 1;
        self.streams.insert(Stream {
            id,
            recv,
            send: Side::Head,
            send_window: i64::from(self.peer.initial_window),
            recv_window: i64::from(self.own_window),
            window: self.own_window,
            taken: 0,
            held: 0,
            recv_left: self.limits.body_bytes_max,
            is_recv_declared: false,
            send_left: u64::MAX,
            interim: 0,
            is_head,
            is_connect,
            wants: false,
            is_queued: false,
        })
    }

    pub(super) fn push_ping_ack(&mut self, payload: &[u8]) -> Result<(), ConnectionError> {
        push(&mut self.out, kind::PING, flag::ACK, 0, payload);
        self.note_provoked(17)
    }
}
