//! What of gRPC a proxy has a part in: deadlines and statuses (the protocol's "gRPC over HTTP2" and "HTTP to gRPC Status
//! Code Mapping").

use std::time::Duration;

pub const TIMEOUT_FIELD: &[u8] = b"grpc-timeout";
pub const STATUS_FIELD: &[u8] = b"grpc-status";
pub const CANCELLED: u16 = 1;

/// Deadlines beyond this are none.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Eight digits and a unit.
const TIMEOUT_BYTES: usize = 9;

/// A value of `grpc-timeout`: at most eight digits and a unit. `None`: malformed, or so long that nobody waits for it.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |count, digit| 10 * count + u64::from(digit - b'0'));
    let timeout = match unit {
        b'H' => Duration::from_secs(3600 * count),
        b'M' => Duration::from_secs(60 * count),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    };
    Some(timeout).filter(|timeout| *timeout <= TIMEOUT_MAX)
}

/// A value of `grpc-timeout`.
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    bytes: [u8; TIMEOUT_BYTES],
    start: usize,
}

impl Timeout {
    /// In the finest unit that eight digits have room for.
    pub fn new(left: Duration) -> Self {
        const DIGITS_MAX: u128 = 99_999_999;
        let (mut count, unit) = match () {
            () if left.as_micros() <= DIGITS_MAX => (left.as_micros(), b'u'),
            () if left.as_millis() <= DIGITS_MAX => (left.as_millis(), b'm'),
            () => (u128::from(left.as_secs()).min(DIGITS_MAX), b'S'),
        };
        let mut timeout = Self { bytes: [unit; TIMEOUT_BYTES], start: TIMEOUT_BYTES - 1 };
        loop {
            timeout.start -= 1;
            timeout.bytes[timeout.start] = b'0' + (count % 10) as u8;
            count /= 10;
            if count == 0 {
                return timeout;
            }
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// The number in a value of `grpc-status`; whatever is none counts as unknown.
pub fn status(value: &[u8]) -> u16 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(u16::MAX)
}

/// What a client makes of an answer without a `grpc-status`.
pub const fn status_of_http(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests;
