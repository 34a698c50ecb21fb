//! What a proxy is to others.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A certificate with its key, and whom to trust. All PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Leaf first.
    pub chain_pem: String,
    /// PKCS #8. Stays in this process and in the last-good file.
    pub key_pem: String,
    pub bundle_pem: String,
    pub issued_at: SystemTime,
    pub not_after: SystemTime,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("chain_pem", &self.chain_pem)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
