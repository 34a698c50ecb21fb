//! Whole proxies in this process: real sockets, real mutual TLS, scripted applications.

pub mod mesh;
pub mod peer;

mod begun;
mod bridge;
mod calls;
mod change;
mod crossing;
mod deadlines;
mod dials;
mod edges;
mod ends;
mod floods;
mod forwarded;
mod frames;
mod handover;
mod hostile;
mod known;
mod list;
mod memory;
mod pace;
mod pieces;
mod reasons;
mod requests;
mod slowness;
mod streams;
mod too_large;
mod websocket;
mod workers;
