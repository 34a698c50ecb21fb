//! Integers with a prefix (RFC 7541, 5.1).

use super::{CompressionError, error};

/// More than any index, length or size that is ever accepted.
const VALUE_MAX: u64 = 1 << 28;
const TRUNCATED: CompressionError = error("block ends within an integer");

/// The integer whose first byte, at `*at`, has `prefix` bits of it; `at` moves behind it. At most five bytes follow the
/// first, also where they only add zeros.
#[inline]
pub(super) fn decode(block: &[u8], at: &mut usize, prefix: u32) -> Result<usize, CompressionError> {
    let mask = (1u64 << prefix) - 1;
    let value = u64::from(*block.get(*at).ok_or(TRUNCATED)?) & mask;
    *at += 1;
    if value < mask {
        return Ok(value as usize);
    }
    decode_rest(block, at, value)
}

fn decode_rest(block: &[u8], at: &mut usize, mut value: u64) -> Result<usize, CompressionError> {
    for shift in [0, 7, 14, 21, 28] {
        let byte = *block.get(*at).ok_or(TRUNCATED)?;
        *at += 1;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return if value <= VALUE_MAX { Ok(value as usize) } else { Err(error("integer too large")) };
        }
    }
    Err(error("integer too long"))
}

/// `first` has the bits of the first byte that are not the integer's.
#[inline]
pub(super) fn encode(first: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        out.push(first | value as u8);
    } else {
        encode_long(first, mask, value, out);
    }
}

fn encode_long(first: u8, mask: usize, value: usize, out: &mut Vec<u8>) {
    out.push(first | mask as u8);
    let mut value = value - mask;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
