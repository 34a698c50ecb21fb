//! HTTP/1.1 for a proxy (RFC 9110, RFC 9112), without sockets: heads are parsed into byte ranges over the caller's
//! buffer, bodies are decoded and framed anew, heads are written anew without what belongs to one connection only.
//!
//! What is ambiguous is refused, never repaired: two readings of one message are how requests are smuggled.

mod body;
mod buffer;
mod encode;
mod parse;
mod reuse;

pub use body::{
    BodyDecoder, BodyEncoder, BodyEvent, Relayed, Truncated, relay, unframed_left, unframed_passed,
};
pub use buffer::{Buffer, BufferPool};
pub use encode::{
    SentResponse, encode_local_response, encode_request, encode_response, push_field, reason_phrase,
};
pub use parse::{HeadScan, Parsed, parse_request, parse_response};
pub use reuse::{Downstream, RequestLeft, after_exchange, upstream_reusable};

pub use crate::head::{
    Exchange, Field, FieldKind, Framing, Method, Reject, RequestEdits, RequestHead, ResponseEdits,
    ResponseHead, ResponseKind, Span, Target, Version,
};

/// Every bound of the engine. `_max` is inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Start line and fields with their line ends. More: 431.
    pub head_bytes_max: usize,
    /// More: 431. At most [`HEAD_FIELDS_CEILING`].
    pub head_fields_max: usize,
    /// Request target. More: 414.
    pub target_bytes_max: usize,
    /// Declared or decoded length of a body. More: 413.
    pub body_bytes_max: u64,
    /// One chunk-size line with its extensions, without the line end.
    pub chunk_line_bytes_max: usize,
    /// All chunk extensions of one body together.
    pub chunk_extension_bytes_max: usize,
    /// The whole trailer section.
    pub trailer_bytes_max: usize,
    pub trailer_fields_max: usize,
    /// 1xx answers before a final one (see [`Exchange::interim`]).
    pub interim_responses_max: u8,
}

/// Heads are tokenised in an array on the stack, which bounds what a configuration may ask for.
pub const HEAD_FIELDS_CEILING: usize = 256;

impl Limits {
    pub const DEFAULT: Self = Self {
        head_bytes_max: 64 * 1024,
        head_fields_max: 100,
        target_bytes_max: 16 * 1024,
        body_bytes_max: i64::MAX as u64,
        chunk_line_bytes_max: 1024,
        chunk_extension_bytes_max: 16 * 1024,
        trailer_bytes_max: 8 * 1024,
        trailer_fields_max: 32,
        interim_responses_max: 16,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests;
