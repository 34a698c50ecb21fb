//! Why a message is not passed on.

/// Why a message is refused. After one the connection it came on is closed: nobody knows where the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// What a client is answered: 400, 413, 414, 417, 431, 501 or 505. A refused *response* is 502 to the client,
    /// whatever stands here.
    pub status: u16,
    /// In words, for logs and metric labels: a closed set, never what a client sent.
    pub reason: &'static str,
}

impl Reject {
    pub(crate) const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }

    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self::new(400, reason)
    }
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.reason, self.status)
    }
}

impl std::error::Error for Reject {}
