//! SETTINGS (RFC 9113, 6.5): the peer's, and ours on their way to be acknowledged.

use std::collections::VecDeque;

use super::error::{ConnectionError, ErrorCode, connection_error, frame_size_error, protocol_error};
use super::frame::{flag, kind, push};
use super::{Limits, Role};

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;
const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

pub(super) const WINDOW_INITIAL: u32 = 65_535;
pub(super) const WINDOW_MAX: i64 = (1 << 31) - 1;

/// The peer's, as far as they matter. In one frame the last value of each holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerSettings {
    pub header_table_bytes: u32,
    pub concurrent_streams_max: u32,
    pub initial_window: u32,
    pub frame_payload_max: u32,
    pub extended_connect: bool,
}

impl PeerSettings {
    /// Before the first SETTINGS. Streams have no limit then; a client that opens as many as it wants has most of them
    /// refused, so a careful number stands here.
    pub(super) const INITIAL: Self = Self {
        header_table_bytes: 4096,
        concurrent_streams_max: 100,
        initial_window: WINDOW_INITIAL,
        frame_payload_max: 16_384,
        extended_connect: false,
    };

    /// What holds after a frame with this payload.
    pub(super) fn with(mut self, payload: &[u8], role: Role) -> Result<Self, ConnectionError> {
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(frame_size_error("settings cut off"));
        }
        for &[a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([c, d, e, f]);
            match u16::from_be_bytes([a, b]) {
                HEADER_TABLE_SIZE => self.header_table_bytes = value,
                // A server may send 0 only (6.5.2).
                ENABLE_PUSH if value > 1 || (value == 1 && role == Role::Client) => {
                    return Err(protocol_error("malformed enable-push"));
                }
                MAX_CONCURRENT_STREAMS => self.concurrent_streams_max = value,
                INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_MAX => {
                    return Err(connection_error(ErrorCode::FLOW_CONTROL_ERROR, "initial window too large"));
                }
                INITIAL_WINDOW_SIZE => self.initial_window = value,
                MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => {
                    return Err(protocol_error("malformed max-frame-size"));
                }
                MAX_FRAME_SIZE => self.frame_payload_max = value,
                // RFC 8441, 3: once offered it stays.
                ENABLE_CONNECT_PROTOCOL if value > 1 || (value == 0 && self.extended_connect) => {
                    return Err(protocol_error("malformed enable-connect-protocol"));
                }
                ENABLE_CONNECT_PROTOCOL => self.extended_connect = value == 1,
                _ => {}
            }
        }
        Ok(self)
    }
}

/// What is to hold once the peer has acknowledged it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub header_table_bytes: Option<u32>,
    pub concurrent_streams_max: Option<u32>,
    pub initial_window: Option<u32>,
}

/// Ours that were sent and not yet acknowledged, in order.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    changes: VecDeque<Change>,
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The first SETTINGS of a connection.
    pub(super) fn send_first(&mut self, role: Role, limits: &Limits, out: &mut Vec<u8>) {
        let change = Change {
            header_table_bytes: Some(limits.header_table_bytes_max as u32),
            concurrent_streams_max: (role == Role::Server).then_some(limits.concurrent_streams_max),
            initial_window: Some(limits.stream_window_bytes),
        };
        let mut others = vec![(MAX_HEADER_LIST_SIZE, limits.head_bytes_max as u32)];
        match role {
            Role::Client => others.push((ENABLE_PUSH, 0)),
            Role::Server if limits.extended_connect => others.push((ENABLE_CONNECT_PROTOCOL, 1)),
            Role::Server => {}
        }
        self.send(change, &others, out);
    }

    pub(super) fn send(&mut self, change: Change, others: &[(u16, u32)], out: &mut Vec<u8>) {
        let known = [
            (HEADER_TABLE_SIZE, change.header_table_bytes),
            (MAX_CONCURRENT_STREAMS, change.concurrent_streams_max),
            (INITIAL_WINDOW_SIZE, change.initial_window),
        ];
        let known = known.into_iter().filter_map(|(id, value)| Some((id, value?)));
        let mut payload = Vec::new();
        for (id, value) in known.chain(others.iter().copied()) {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        push(out, kind::SETTINGS, 0, 0, &payload);
        self.changes.push_back(change);
    }

    pub(super) fn acknowledged(&mut self) -> Result<Change, ConnectionError> {
        self.changes.pop_front().ok_or(protocol_error("acknowledgement of nothing"))
    }
}

pub(super) fn push_ack(out: &mut Vec<u8>) {
    push(out, kind::SETTINGS, flag::ACK, 0, &[]);
}
