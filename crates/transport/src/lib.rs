//! from socket to authenticated stream

pub mod descriptors;
pub mod seal;
pub mod frame;
