//! What the server behind a port has been found to speak. An exchange goes to it in the version that it came in, where
//! that is spoken; what is declared comes first.

use std::cell::Cell;
use std::time::Duration;

use sinew_spec::application::Protocol;
use tokio::time::Instant;

/// How long it is known of a port that nobody is connected to.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Kept with the connections to a port, and for a while after the last of them.
#[derive(Debug, Default)]
pub struct Spoken {
    http1: Cell<Option<bool>>,
    http2: Cell<Option<bool>>,
    found_at: Cell<Option<Instant>>,
}

/// How a server is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Http1,
    Http2,
    /// HTTP/2 if it says so before anything is sent, else HTTP/1.1.
    Unknown,
}

impl Spoken {
    /// Its SETTINGS have come.
    pub fn found_http2(&self) {
        self.found(self.http1.get(), true);
    }

    /// It answered the preface of HTTP/2 with something else, or closed.
    pub fn found_http1_only(&self) {
        self.found(Some(true), false);
    }

    /// It answered a request of HTTP/1.1 with SETTINGS.
    pub fn found_http2_only(&self) {
        self.found(Some(false), true);
    }

    fn found(&self, http1: Option<bool>, http2: bool) {
        self.http1.set(http1);
        self.http2.set(Some(http2));
        self.found_at.set(Some(Instant::now()));
    }

    /// It was found out not long ago.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.found_at.get().is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED)
    }

    /// Whoever listens there from now on may be another.
    pub fn forget(&self) {
        self.http1.set(None);
        self.http2.set(None);
        self.found_at.set(None);
    }

    pub fn speaks_http2(&self) -> bool {
        self.http2.get() == Some(true)
    }

    pub fn lacks_http2(&self) -> bool {
        self.http2.get() == Some(false)
    }

    /// For a request that came over HTTP/2. `is_tunnel`: what speaks both opens tunnels over HTTP/1.1, as few servers offer
    /// them over HTTP/2.
    pub fn way(&self, declared: Option<Protocol>, is_tunnel: bool) -> Way {
        match declared {
            Some(Protocol::Http1) => Way::Http1,
            Some(protocol) if protocol.is_http2_only() => Way::Http2,
            _ if is_tunnel => {
                if self.lacks_http1() {
                    Way::Http2
                } else {
                    Way::Http1
                }
            }
            _ => match self.http2.get() {
                Some(true) => Way::Http2,
                Some(false) => Way::Http1,
                None => Way::Unknown,
            },
        }
    }

    /// Whether a request that came over HTTP/1.1 goes on over HTTP/2.
    pub fn wants_http2(&self, declared: Option<Protocol>) -> bool {
        match declared {
            Some(protocol) if protocol.is_http2_only() => true,
            Some(Protocol::Http1) => false,
            _ => self.lacks_http1(),
        }
    }

    pub fn lacks_http1(&self) -> bool {
        self.http1.get() == Some(false)
    }
}
