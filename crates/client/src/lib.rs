//! Typed client of the control plane: feeds proxies, serves the CLI. It knows sockets and the words of `spec`; it
//! refuses to know what is done with an answer.

pub mod admin;
pub mod feed;
