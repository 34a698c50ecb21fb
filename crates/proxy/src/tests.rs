//! Whole proxies in this process: real sockets, real mutual TLS, scripted applications.

pub mod mesh;

mod change;
mod edges;
mod requests;
mod streams;
