//! HTTP/2 (RFC 9113) for a proxy, without sockets, clocks and tasks: bytes in, [`Event`]s and bytes out, both ends.
//!
//! Heads come out in the types of [`crate::head`], the same that the HTTP/1.1 engine fills, and go in as those, whichever
//! engine filled them. How a proxy drives a connection is told in `h2/LIFECYCLE.md`.

mod budget;
mod connection;
mod control;
mod error;
mod frame;
mod headers;
mod heads;
mod receive;
mod send;
mod settings;
mod streams;

use std::ops::Range;

pub use budget::{Flood, FloodLimits};
pub use connection::{Connection, Role};
pub use error::{ConnectionError, ErrorCode, StreamError};
pub use frame::{FRAME_BYTES_MAX, PREFACE};
pub use heads::Heads;
pub use send::{OpenError, SendError};

use crate::head::Reject;
use crate::hpack::ListLimits;

/// Every bound of the engine. `_max` is inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Names, values and 32 for each field of a head. More: 431.
    pub head_bytes_max: usize,
    /// Pseudo-fields included. More: 431.
    pub head_fields_max: usize,
    /// `:path`. More: 414.
    pub target_bytes_max: usize,
    /// Declared or received length of a body. More: 413.
    pub body_bytes_max: u64,
    pub trailer_bytes_max: usize,
    pub trailer_fields_max: usize,
    /// A field block as it is sent, over all its frames.
    pub block_bytes_max: usize,
    /// CONTINUATION frames of one block.
    pub continuations_max: u32,
    /// 1xx answers before a final one.
    pub interim_responses_max: u8,
    /// Streams that the peer may have open.
    pub concurrent_streams_max: u32,
    /// What the peer may send on a stream before the consumer has taken any of it, at first. At most 2^31 - 1.
    pub stream_window_bytes: u32,
    /// What that grows to, doubled as long as the consumer takes all that comes; see [`Connection::allow_wide`].
    pub stream_window_bytes_max: u32,
    /// The same for the whole connection; at least 65535.
    pub connection_window_bytes: u32,
    /// Of the peer's table for our decoder, and of our encoder's.
    pub header_table_bytes_max: usize,
    /// Bodies are taken for sending as long as less than this waits to be written.
    pub output_bytes_max: usize,
    /// What the peer may make us say (acknowledgements, resets) without reading any of it.
    pub provoked_bytes_max: usize,
    /// Server: offers extended CONNECT (RFC 8441).
    pub extended_connect: bool,
    pub floods: FloodLimits,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        head_bytes_max: 64 * 1024,
        head_fields_max: 100,
        target_bytes_max: 16 * 1024,
        body_bytes_max: i64::MAX as u64,
        trailer_bytes_max: 8 * 1024,
        trailer_fields_max: 32,
        block_bytes_max: 80 * 1024,
        continuations_max: 16,
        interim_responses_max: 16,
        concurrent_streams_max: 128,
        stream_window_bytes: 128 * 1024,
        stream_window_bytes_max: 128 * 1024,
        connection_window_bytes: 1024 * 1024,
        header_table_bytes_max: 4096,
        output_bytes_max: 64 * 1024,
        provoked_bytes_max: 16 * 1024,
        extended_connect: true,
        floods: FloodLimits::DEFAULT,
    };

    const fn heads(&self) -> ListLimits {
        ListLimits { bytes_max: self.head_bytes_max, fields_max: self.head_fields_max }
    }

    const fn trailers(&self) -> ListLimits {
        ListLimits { bytes_max: self.trailer_bytes_max, fields_max: self.trailer_fields_max }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Names a stream of one connection. One that is over is recognised: its identifier is never used again, and what is
/// asked of it is refused or without effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    pub id: u32,
    /// Small and dense, given anew when the stream is over: for a caller's own table of exchanges.
    pub slot: u32,
}

/// What the peer's bytes mean. `end`: the peer sends nothing more on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The input is used up but for the beginning of a frame: call again with that and more behind it.
    NeedMore,
    /// Server: the head is in [`Heads::request`].
    Request { stream: StreamKey, end: bool },
    /// Client: the head is in [`Heads::response`]. Others follow an interim one.
    Response { stream: StreamKey, end: bool },
    /// These bytes of the input are body. They count as held until [`Connection::consumed`] is told of them.
    Data { stream: StreamKey, bytes: Range<usize>, end: bool },
    /// In [`Heads::trailers`]. The peer sends nothing more on the stream.
    Trailers { stream: StreamKey },
    /// The peer gave the stream up. It is over, in both directions.
    Reset { stream: StreamKey, code: ErrorCode },
    /// The peer broke a rule or a limit on the stream, which the engine has reset. It is over. `reject`: what the
    /// client of a proxy is answered if it has no answer yet; of a response always 502.
    Failed { stream: StreamKey, error: StreamError },
    /// Server: a request that was reset by the engine and never announced. For counting.
    Refused { id: u32, reject: Reject },
    /// Server: a request is over a limit, or asks for what nobody does: by its head, which was not announced, or by what
    /// has come of its body. The driver answers it with `reject` unless it has an answer, and resets the stream; until then
    /// the rest of its body goes on coming.
    Rejected { stream: StreamKey, end: bool, reject: Reject },
    /// Client: the server says that it has done nothing for this request. It is over, and may be sent elsewhere.
    Unprocessed { stream: StreamKey },
    /// The peer takes no new streams (as a server), or opens none (as a client).
    GoAway { code: ErrorCode },
    /// The answer to [`Connection::ping`].
    Pong { payload: u64 },
    /// The peer's SETTINGS were received and hold.
    Settings,
}

#[cfg(test)]
mod tests;
