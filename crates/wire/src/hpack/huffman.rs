//! The static Huffman code (RFC 7541, 5.2 and appendix B). It is canonical, codes of one length follow each other in the
//! order of their symbols, so everything here is computed from the lengths of the codes.

use super::{CompressionError, error};

/// Bits of the code of each byte, and of EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6,
    6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6,
    6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23,
    22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22,
    23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22,
    25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const EOS: usize = 256;
const LENGTH_MIN: usize = 5;
const LENGTH_MAX: usize = 30;

/// The code of each symbol, in its lowest bits.
static CODES: [u32; 257] = codes();

const fn codes() -> [u32; 257] {
    let mut codes = [0; 257];
    let (mut code, mut length) = (0, LENGTH_MIN);
    while length <= LENGTH_MAX {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                codes[symbol] = code;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    codes
}

/// Codes of at most so many bits are found by one look into [`SHORT`]; they are those of nearly all text.
const SHORT_BITS: usize = 10;

/// By the next ten bits: the symbol and the length of its code; length 0 for longer codes.
static SHORT: [(u8, u8); 1 << SHORT_BITS] = short();

const fn short() -> [(u8, u8); 1 << SHORT_BITS] {
    let codes = codes();
    let mut table = [(0, 0); 1 << SHORT_BITS];
    let mut symbol = 0;
    while symbol < 256 {
        let length = LENGTHS[symbol] as usize;
        if length <= SHORT_BITS {
            let free = SHORT_BITS - length;
            let mut rest = 0;
            while rest < 1 << free {
                table[((codes[symbol] as usize) << free) | rest] = (symbol as u8, LENGTHS[symbol]);
                rest += 1;
            }
        }
        symbol += 1;
    }
    table
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Length {
    /// The code behind the last, moved to the left of 32 bits.
    end: u64,
    /// The first code, and where its symbol stands in [`SORTED`].
    first: u32,
    position: u32,
}

static LONG: [Length; LENGTH_MAX + 1] = long();

const fn long() -> [Length; LENGTH_MAX + 1] {
    let mut table = [Length { end: 0, first: 0, position: 0 }; LENGTH_MAX + 1];
    let (mut code, mut position, mut length) = (0u32, 0, LENGTH_MIN);
    while length <= LENGTH_MAX {
        let mut count = 0;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            count += (LENGTHS[symbol] as usize == length) as u32;
            symbol += 1;
        }
        table[length] = Length { end: ((code + count) as u64) << (32 - length), first: code, position };
        code = (code + count) << 1;
        position += count;
        length += 1;
    }
    table
}

/// Symbols in the order of their codes.
static SORTED: [u16; 257] = sorted();

const fn sorted() -> [u16; 257] {
    let mut sorted = [0; 257];
    let (mut position, mut length) = (0, LENGTH_MIN);
    while length <= LENGTH_MAX {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                sorted[position] = symbol as u16;
                position += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    sorted
}

/// Appends the decoded bytes to `out`, at most `bytes_max` of them; false when there would be more.
pub(super) fn decode(input: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<bool, CompressionError> {
    out.reserve(bytes_max.min(input.len() * 8 / LENGTH_MIN));
    let end = out.len().saturating_add(bytes_max);
    // The next bits stand at the left; behind the last are zeros.
    let (mut bits, mut count) = (0u64, 0u32);
    let mut rest = input;
    loop {
        while count <= 56 {
            let [byte, after @ ..] = rest else { break };
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
            rest = after;
        }
        // As many symbols as surely are whole.
        loop {
            let (symbol, length) = SHORT[(bits >> (64 - SHORT_BITS)) as usize];
            let length = u32::from(length);
            if length == 0 || length > count {
                break;
            }
            if out.len() == end {
                return Ok(false);
            }
            out.push(symbol);
            bits <<= length;
            count -= length;
        }
        if count >= LENGTH_MAX as u32 || rest.is_empty() {
            let (symbol, length) = decode_long((bits >> 32) as u32);
            if length > count {
                return padding(bits, count);
            }
            if symbol == EOS {
                return Err(error("end of string within a string"));
            }
            if out.len() == end {
                return Ok(false);
            }
            out.push(symbol as u8);
            bits <<= length;
            count -= length;
        }
    }
}

/// The symbol that the bits begin with, and its length.
fn decode_long(bits: u32) -> (usize, u32) {
    let length = (LENGTH_MIN..LENGTH_MAX).find(|&length| u64::from(bits) < LONG[length].end);
    let length = length.unwrap_or(LENGTH_MAX);
    let Length { first, position, .. } = LONG[length];
    let at = position + ((bits >> (32 - length)) - first);
    (usize::from(SORTED[at as usize]), length as u32)
}

/// What is left must be the beginning of EOS, shorter than a byte.
fn padding(bits: u64, count: u32) -> Result<bool, CompressionError> {
    if count > 7 {
        return Err(error("padding longer than seven bits"));
    }
    if count > 0 && bits >> (64 - count) != (1 << count) - 1 {
        return Err(error("padding that is no end of string"));
    }
    Ok(true)
}

/// Length in bytes of what [`encode`] appends.
pub(super) fn encoded_len(input: &[u8]) -> usize {
    let bits: usize = input.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum();
    bits.div_ceil(8)
}

pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut count) = (0u64, 0u32);
    for &byte in input {
        let length = u32::from(LENGTHS[usize::from(byte)]);
        bits = (bits << length) | u64::from(CODES[usize::from(byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | (0xff >> count));
    }
}

#[cfg(test)]
mod tests;
