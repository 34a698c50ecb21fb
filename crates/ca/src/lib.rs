//! Issues workload certificates: one root per application, one X.509-SVID per instance.
//!
//! Alone touches signing keys. It refuses to know who asks: the caller has established the identity (by the socket
//! that a request came over) and hands it in; of a certificate signing request only the public key is used. It reads
//! no clock: time is passed in.

mod authority;
mod key_file;

pub use authority::{Authority, Error, LIFETIME_DEFAULT, Leaf};
