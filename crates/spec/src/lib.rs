//! The language of Sinew: everything that is written by people, stored, sent between processes and shown.
//!
//! This crate refuses to know files' contents other than the text it is handed, sockets, async and clocks: it does no
//! I/O (reading of included files goes through a trait of the caller's). What requests meet is compiled from these
//! types elsewhere; only these are serialized.

pub mod name;

pub mod admin;
pub mod application;
pub mod bundle;
pub mod compose;
pub mod digest;
pub mod egress;
pub mod handover;
pub mod hidden;
pub mod log;
pub mod proxy;
pub mod seal;
pub mod status;
pub mod time;
pub mod update;
