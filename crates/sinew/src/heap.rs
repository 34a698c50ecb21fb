//! How much memory this process has asked of its allocator and not given back: what a proxy's budget is measured by. All
//! of Rust's memory is in it, whoever asked: buffers, heads, windows in use, TLS sessions. What C code asks for itself
//! (cryptography, during handshakes) and what lies between allocations is not.

mod sys;

pub use sys::{batch, bytes_in_use, settle};

#[cfg(test)]
mod tests;
