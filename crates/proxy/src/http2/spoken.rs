//! What the server behind a port has been found to speak. An exchange goes to it in the version that it came in, where
//! that is spoken; what is declared comes first.

use std::cell::Cell;

use sinew_spec::application::Protocol;

/// Kept with the connections to a port, and found anew when none is left of them.
#[derive(Debug, Default)]
pub struct Spoken {
    http1: Cell<Option<bool>>,
    http2: Cell<Option<bool>>,
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
        self.http2.set(Some(true));
    }

    /// It answered the preface of HTTP/2 with something else, or closed.
    pub fn found_http1_only(&self) {
        self.http1.set(Some(true));
        self.http2.set(Some(false));
    }

    /// It answered a request of HTTP/1.1 with SETTINGS.
    pub fn found_http2_only(&self) {
        self.http1.set(Some(false));
        self.http2.set(Some(true));
    }

    /// Whoever listens there from now on may be another.
    pub fn forget(&self) {
        self.http1.set(None);
        self.http2.set(None);
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

    fn lacks_http1(&self) -> bool {
        self.http1.get() == Some(false)
    }
}
