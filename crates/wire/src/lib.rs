//! Protocol engines of the data plane: bytes in, decisions and bytes out.
//!
//! This crate refuses to know sockets, clocks, async runtimes and policy. A caller reads bytes into a
//! [`h1::Buffer`], asks an engine what they mean, and writes what an engine encoded. How a proxy drives the HTTP/1.1
//! engine is told in `LIFECYCLE.md` next to this crate's manifest, and the HTTP/2 engine in `src/h2/LIFECYCLE.md`. Both
//! fill and write the heads of [`head`].

pub mod detect;
pub mod h1;
pub mod h2;
pub mod head;
pub mod hpack;
pub mod proxy_protocol;
pub mod trace;
pub mod websocket;

mod text;

pub use detect::{Detection, detect};
