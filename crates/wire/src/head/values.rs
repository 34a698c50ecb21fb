//! What the values of a few fields mean, the same in every version of the protocol.

use super::{Reject, Span};

/// `host[:port]`: registered names and IPv4 addresses of the bytes that are in use for them, IPv6 in brackets. No user
/// information, no list.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let inside = &rest[..end];
            if inside.is_empty()
                || !inside.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
            {
                return false;
            }
            (&b"literal"[..], &rest[end + 1..])
        }
        _ => text.split_at(memchr::memchr(b':', text).unwrap_or(text.len())),
    };
    let host_fits = host
        .iter()
        .all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%'));
    let port_fits = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_fits && port_fits && (!host.is_empty() || port.is_empty())
}

/// Whether two authorities name the same. `default_port` (`:80`) may be left out in either, and a colon without a port
/// means nothing.
pub(crate) fn authorities_agree(one: &[u8], other: &[u8], default_port: &[u8]) -> bool {
    plain(one, default_port).eq_ignore_ascii_case(plain(other, default_port))
}

fn plain<'a>(authority: &'a [u8], default_port: &[u8]) -> &'a [u8] {
    authority.strip_suffix(default_port).or_else(|| authority.strip_suffix(b":")).unwrap_or(authority)
}

/// Digits only, at most 2^63 - 1: more than that is a negative number to somebody.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Reject> {
    const MALFORMED: Reject = Reject::bad("malformed content-length");
    if value.is_empty() {
        return Err(MALFORMED);
    }
    let length = value.iter().try_fold(0u64, |number, &digit| {
        let digit = digit.is_ascii_digit().then_some(u64::from(digit.wrapping_sub(b'0')))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    length.filter(|&length| length <= i64::MAX as u64).ok_or(MALFORMED)
}

/// A field that counts only if there is one of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Once {
    count: u32,
    value: Span,
}

impl Once {
    pub(crate) fn note(&mut self, value: Span) {
        *self = Self { count: self.count + 1, value };
    }

    pub(crate) fn value(self) -> Option<Span> {
        (self.count == 1).then_some(self.value)
    }
}
