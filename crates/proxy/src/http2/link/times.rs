//! What a connection's driver knows of the time.

use std::time::Duration;

use tokio::time::Instant;

pub struct Times {
    pub idle_max: Duration,
    pub header_max: Duration,
    pub began: Instant,
    /// When somebody looked at the time, and until when what floods are measured by is refilled.
    pub ticked: Instant,
    pub refilled: Instant,
    /// No stream is open since then.
    pub idle_since: Instant,
    /// The peer's last bytes; whether it was asked for more since.
    pub heard: Instant,
    pub has_asked: bool,
    /// A frame, or a head of several, has begun and not ended.
    pub partial_since: Option<Instant>,
    /// We have said that we leave.
    pub leaving_since: Option<Instant>,
}

impl Times {
    pub fn new(now: Instant, idle_max: Duration, header_max: Duration) -> Self {
        Self {
            idle_max,
            header_max,
            began: now,
            ticked: now,
            refilled: now,
            idle_since: now,
            heard: now,
            has_asked: false,
            partial_since: None,
            leaving_since: None,
        }
    }
}
