//! What becomes of the two connections after an exchange.

use crate::head::{Exchange, ResponseHead};

/// How much of a request's body has not been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLeft {
    Nothing,
    Bytes(u64),
    /// Chunked.
    Unknown,
}

/// Whether another request may be sent on the upstream connection.
///
/// `request_sent`: the whole request, its end included, was handed to the kernel. `response_done`: the whole body of
/// the final response was decoded. `unread`: bytes received behind it; there is no request that they could answer, so
/// whoever sent them would have the next client get them.
pub fn upstream_reusable(
    response: &ResponseHead,
    request_sent: bool,
    response_done: bool,
    unread: usize,
) -> bool {
    response.keep_alive && request_sent && response_done && unread == 0
}

/// What to do with the client's connection once it has its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Downstream {
    /// Parse the next request.
    Continue,
    /// Read and discard the rest of the body with its decoder, at most so many bytes, then continue; close if it is
    /// longer.
    Drain { bytes_max: u64 },
    /// Say `Connection: close` if the head is not out yet, write the response, shut down writing, discard what
    /// arrives for a moment (or the client's kernel throws the response away), close.
    Close,
}

/// Decides when the final response's head is about to be written, so that it can say `Connection: close`. `left`: what
/// of the request's body was not read ([`super::BodyDecoder::left`]). `drain_bytes_max`: the most that is worth
/// reading to keep a connection.
pub fn after_exchange(exchange: &Exchange, left: RequestLeft, drain_bytes_max: u64) -> Downstream {
    match left {
        _ if !exchange.keep_alive => Downstream::Close,
        RequestLeft::Nothing => Downstream::Continue,
        // A client that waits for 100 may send its body or not (RFC 9110, 10.1.1): nobody knows what comes next.
        _ if exchange.expect_continue => Downstream::Close,
        RequestLeft::Bytes(bytes) if bytes > drain_bytes_max => Downstream::Close,
        RequestLeft::Bytes(bytes) => Downstream::Drain { bytes_max: bytes },
        RequestLeft::Unknown => Downstream::Drain { bytes_max: drain_bytes_max },
    }
}

#[cfg(test)]
mod tests;
