//! What a peer may do that moves nothing forward. Each kind of frame that makes work without being work has an allowance
//! that ticks of the caller's clock refill. Beside it, what was done to its end earns credit, so that what comes with
//! traffic is never too much: whole messages pay for every kind (some cancelled requests among many), data that was sent
//! for the WINDOW_UPDATE and the PING (a measurement) that answer it. Bytes that a peer sends earn nothing: they would
//! pay for giving up the request that they belong to.

use super::error::{ConnectionError, ErrorCode, connection_error};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Requests given up by the client, and those that it makes the engine reset.
    Reset,
    Ping,
    Settings,
    Priority,
    WindowUpdate,
    /// DATA without a byte that does not end its stream.
    EmptyData,
    /// CONTINUATION without a byte, frames of unknown types or on streams that are over.
    Stray,
}

const KINDS: usize = 7;

/// Frames allowed at once, and refilled in ten seconds; see [`super::Connection::tick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloodLimits {
    /// In the order of [`Flood`].
    pub allowed: [u32; KINDS],
    /// How much credit of each sort can be collected.
    pub credit_max: u32,
}

impl FloodLimits {
    pub const DEFAULT: Self = Self { allowed: [200, 200, 50, 500, 1000, 100, 1000], credit_max: 1000 };
}

#[derive(Debug)]
pub(super) struct Budget {
    left: [u32; KINDS],
    messages: u32,
    data: u32,
    limits: FloodLimits,
}

impl Budget {
    pub(super) const fn new(limits: FloodLimits) -> Self {
        Self { left: limits.allowed, messages: 0, data: 0, limits }
    }

    pub(super) fn spend(&mut self, kind: Flood) -> Result<(), ConnectionError> {
        const REASONS: [&str; KINDS] = [
            "too many resets",
            "too many pings",
            "too many settings",
            "too many priorities",
            "too many window updates",
            "too much empty data",
            "too many stray frames",
        ];
        let is_answer = matches!(kind, Flood::WindowUpdate | Flood::Ping);
        let own = &mut self.left[kind as usize];
        let purse = if *own > 0 {
            own
        } else if is_answer && self.data > 0 {
            &mut self.data
        } else {
            &mut self.messages
        };
        *purse = purse
            .checked_sub(1)
            .ok_or(connection_error(ErrorCode::ENHANCE_YOUR_CALM, REASONS[kind as usize]))?;
        Ok(())
    }

    /// A stream has ended as it should.
    pub(super) fn earn_message(&mut self) {
        self.messages = (self.messages + 2).min(self.limits.credit_max);
    }

    /// A frame of data was sent.
    pub(super) fn earn_data(&mut self) {
        self.data = (self.data + 2).min(self.limits.credit_max);
    }

    pub(super) fn refill(&mut self, seconds: u32) {
        for (left, allowed) in self.left.iter_mut().zip(self.limits.allowed) {
            *left = left.saturating_add(seconds.saturating_mul(allowed.div_ceil(10))).min(allowed);
        }
    }
}
