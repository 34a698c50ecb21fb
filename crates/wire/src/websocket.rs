//! The handshake of WebSocket: what HTTP/1.1 proves by a key (RFC 6455, 4) HTTP/2 says by its framing (RFC 8441), so a proxy
//! between the two makes the one and checks the other. Heads are translated by the encoders of [`crate::h1`] and
//! [`crate::h2`]; frames pass as they are.

mod sha1;

/// Of `Sec-WebSocket-Key`: 16 bytes in base64.
pub const KEY_BYTES: usize = 24;
/// Of `Sec-WebSocket-Accept`: 20 bytes in base64.
pub const ACCEPT_BYTES: usize = 28;

/// The names of the fields in which both stand.
pub const KEY_FIELD: &[u8] = b"sec-websocket-key";
pub const ACCEPT_FIELD: &[u8] = b"sec-websocket-accept";
/// What the protocol is called in `Upgrade` (in any case) and in `:protocol`.
pub const PROTOCOL: &[u8] = b"websocket";

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a value of `Upgrade` or `:protocol` means WebSocket, and nothing beside it.
pub fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(PROTOCOL)
}

/// A value of `Sec-WebSocket-Key`, from bytes that nobody can guess.
pub fn key(random: &[u8; 16]) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    base64(random, &mut key);
    key
}

/// Whether a client's key is one: 24 characters that stand for 16 bytes.
pub fn is_key(key: &[u8]) -> bool {
    let Some((digits, b"==")) = key.split_last_chunk::<2>().map(|(digits, end)| (digits, &end[..])) else {
        return false;
    };
    digits.len() == KEY_BYTES - 2 && digits.iter().all(|digit| DIGITS.contains(digit))
}

/// The value of `Sec-WebSocket-Accept` that answers a key.
pub fn accept(key: &[u8; KEY_BYTES]) -> [u8; ACCEPT_BYTES] {
    let mut text = [0; KEY_BYTES + GUID.len()];
    text[..KEY_BYTES].copy_from_slice(key);
    text[KEY_BYTES..].copy_from_slice(GUID);
    let mut accept = [0; ACCEPT_BYTES];
    base64(&sha1::digest(&text), &mut accept);
    accept
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, 4. `out` has four bytes for three begun ones.
fn base64(bytes: &[u8], out: &mut [u8]) {
    for (group, out) in bytes.chunks(3).zip(out.chunks_exact_mut(4)) {
        let number =
            group.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)) << (8 * (3 - group.len()));
        for (i, digit) in out.iter_mut().enumerate() {
            *digit = if i <= group.len() { DIGITS[number >> (18 - 6 * i) & 63] } else { b'=' };
        }
    }
}

#[cfg(test)]
mod tests;
