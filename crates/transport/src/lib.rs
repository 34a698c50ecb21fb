//! From socket to authenticated stream: original destinations, the mutual TLS of the hop, byte copying with half-close,
//! what the kernel tells about refused packets, and descriptors that move between processes.
//!
//! This crate refuses to know services, routes and configuration: it is told which address to dial and which identity
//! to expect.

pub mod bulk;
pub mod copy;
pub mod descriptors;
pub mod dial;
pub mod frame;
pub mod handover;
pub mod hop;
pub mod nflog;
pub mod original;
pub mod seal;
pub mod stream;
pub mod tls;

#[cfg(target_os = "linux")]
mod sys;

pub use stream::Stream;
