//! Small questions about bytes of header text, shared by the engines.

/// RFC 9110 `tchar`.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || byte.is_ascii_alphanumeric()
}

/// [`is_token_byte`], looked up.
static IS_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_token_byte(byte as u8);
        byte += 1;
    }
    table
};

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| IS_TOKEN[usize::from(byte)])
}

/// What may stand in a field value: visible bytes, `obs-text`, space and tab. Never NUL, CR, LF or another control.
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    let is_good = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    let (words, rest) = bytes.as_chunks::<8>();
    let is_good_word = |word: &[u8; 8]| !has_control(u64::from_ne_bytes(*word)) || word.iter().all(is_good);
    words.iter().all(is_good_word) && rest.iter().all(is_good)
}

/// Whether any of eight bytes is below a space, or DEL. By arithmetic on all of them at once: in a build for size no
/// compiler makes that of a loop.
fn has_control(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = 0x80 * ONES;
    let below_space = word.wrapping_sub(0x20 * ONES) & !word;
    let del = word ^ (0x7f * ONES);
    let is_del = del.wrapping_sub(ONES) & !del;
    (below_space | is_del) & TOPS != 0
}

/// Without the spaces and tabs (RFC 9110 `OWS`) at both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The non-empty members of a comma-separated list, trimmed. Knows no quoted strings: for lists of tokens only.
pub(crate) fn list(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Appends a number in decimal without an allocation.
pub(crate) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(decimal(number, &mut [0; 20]));
}

/// A number in decimal, at the end of `digits`.
pub(crate) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// Appends a number in lower-case hexadecimal without leading zeros.
pub(crate) fn push_hex(out: &mut Vec<u8>, number: u64) {
    let digits = (67 - (number | 1).leading_zeros() as usize) / 4;
    for i in (0..digits).rev() {
        out.push(HEX[(number >> (4 * i)) as usize & 15]);
    }
}

pub(crate) const HEX: &[u8; 16] = b"0123456789abcdef";

/// The two digits of a byte.
pub(crate) static HEX_PAIRS: [[u8; 2]; 256] = {
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = [HEX[byte >> 4], HEX[byte & 15]];
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
