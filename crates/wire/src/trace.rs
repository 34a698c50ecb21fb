//! Trace context (W3C, level 1) and request ids.
//!
//! A proxy that records no spans of its own passes a valid `traceparent` through unchanged: a span id that nobody
//! recorded would tear the caller's and the callee's spans apart. It makes a new one only where there is none or
//! where it is invalid.

use crate::text::HEX_PAIRS;

/// A parsed `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Never zero.
    pub trace_id: u128,
    /// Never zero.
    pub parent_id: u64,
    pub flags: u8,
}

pub const TRACEPARENT_BYTES: usize = 55;
pub const REQUEST_ID_BYTES: usize = 36;

impl TraceParent {
    /// Strict by level 1: lower-case hexadecimal; version `ff` and zero ids are invalid; version `00` has exactly four
    /// parts, a later version may have more behind a further dash.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
        if head[2] != b'-' || head[35] != b'-' || head[52] != b'-' {
            return None;
        }
        let version = hex(&head[..2])?;
        let well_formed = match version {
            0xff => false,
            0 => rest.is_empty(),
            _ => rest.is_empty() || rest[0] == b'-',
        };
        if !well_formed {
            return None;
        }
        let trace_id = hex(&head[3..35])?;
        let parent_id = hex(&head[36..52])? as u64;
        let flags = hex(&head[53..])? as u8;
        (trace_id != 0 && parent_id != 0).then_some(Self { trace_id, parent_id, flags })
    }

    /// A new trace. `random` is 24 bytes from the caller's source. Not sampled unless `sampled`.
    pub fn generate(random: &[u8; 24], sampled: bool) -> Self {
        let [trace @ .., _, _, _, _, _, _, _, _] = *random;
        let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, parent @ ..] = *random;
        let (trace_id, parent_id) = (u128::from_be_bytes(trace), u64::from_be_bytes(parent));
        Self { trace_id: trace_id.max(1), parent_id: parent_id.max(1), flags: u8::from(sampled) }
    }

    /// The same trace with another parent: for a hop that records a span.
    pub fn child(self, random: [u8; 8]) -> Self {
        Self { parent_id: u64::from_be_bytes(random).max(1), ..self }
    }

    pub fn encode(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut out = [b'-'; TRACEPARENT_BYTES];
        put_hex(&mut out[..2], &[0]);
        put_hex(&mut out[3..35], &self.trace_id.to_be_bytes());
        put_hex(&mut out[36..52], &self.parent_id.to_be_bytes());
        put_hex(&mut out[53..], &[self.flags]);
        out
    }
}

/// An `x-request-id` in the form of a random UUID (version 4), from 16 bytes of the caller's source.
pub fn request_id(random: &[u8; 16]) -> [u8; REQUEST_ID_BYTES] {
    let mut bytes = *random;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut out = [b'-'; REQUEST_ID_BYTES];
    put_hex(&mut out[..8], &bytes[..4]);
    put_hex(&mut out[9..13], &bytes[4..6]);
    put_hex(&mut out[14..18], &bytes[6..8]);
    put_hex(&mut out[19..23], &bytes[8..10]);
    put_hex(&mut out[24..], &bytes[10..]);
    out
}

/// Whether a request id that came with a request is kept: 1 to 128 visible ASCII bytes. Others are replaced, so that
/// logs and metrics never carry what a client made up to break them.
pub fn is_request_id(value: &[u8]) -> bool {
    (1..=128).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |number, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Two digits for each byte.
fn put_hex(out: &mut [u8], bytes: &[u8]) {
    for (place, &byte) in out.chunks_exact_mut(2).zip(bytes) {
        place.copy_from_slice(&HEX_PAIRS[usize::from(byte)]);
    }
}

#[cfg(test)]
mod tests;
