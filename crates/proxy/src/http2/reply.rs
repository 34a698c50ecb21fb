//! What the proxy itself answers. A gRPC call gets an answer of trailers alone, with the status that the failure stands
//! for: its client would take an answer of another sort for a broken server.

use sinew_wire::h2::{Connection as Engine, ErrorCode, SendError, StreamKey};
use sinew_wire::head::{ResponseEdits, ResponseHead, Version};

use super::link::State;
use super::pipe::Pipe;
use crate::failure::{Failure, REASON_HEADER};

/// What does not fit at once waits in `answer`.
pub fn send(
    engine: &mut Engine,
    key: StreamKey,
    failure: Failure,
    is_grpc: bool,
    answer: &mut Pipe,
) -> Result<(), SendError> {
    if is_grpc {
        answer.done();
        return send_trailers_only(engine, key, failure);
    }
    let text = format!("{}\n", failure.text());
    let reason = (REASON_HEADER, failure.reason().as_bytes());
    let retry = failure.retry_after().map(|seconds| (&b"retry-after"[..], seconds.as_bytes()));
    let append = [Some(reason), retry].into_iter().flatten().collect::<Vec<_>>();
    let taken = engine.send_local_response(key, failure.status(), &append, "text/plain", text.as_bytes())?;
    match &text.as_bytes()[taken..] {
        [] => answer.done(),
        rest => answer.push(rest, true),
    }
    Ok(())
}

fn send_trailers_only(engine: &mut Engine, key: StreamKey, failure: Failure) -> Result<(), SendError> {
    let mut head = ResponseHead::default();
    (head.status, head.version) = (200, Version::Http2);
    let append = [
        (&b"content-type"[..], &b"application/grpc"[..]),
        (b"grpc-status", failure.grpc_status().as_bytes()),
        (b"grpc-message", failure.text().as_bytes()),
        (REASON_HEADER, failure.reason().as_bytes()),
    ];
    engine.send_response(key, &head, &[], &ResponseEdits { append: &append, ..Default::default() }, true)
}

/// Ends a gRPC answer that has begun.
pub fn send_status(engine: &mut Engine, key: StreamKey, failure: Failure) -> Result<(), SendError> {
    let trailers = [
        (&b"grpc-status"[..], failure.grpc_status().as_bytes()),
        (b"grpc-message", failure.text().as_bytes()),
    ];
    engine.send_trailers(key, trailers.into_iter())
}

/// A request that there is no route for any more.
pub fn refuse(state: &mut State, key: StreamKey, failure: Failure) {
    let append = [(REASON_HEADER, failure.reason().as_bytes())];
    let _ = state.engine.send_local_response(key, failure.status(), &append, "text/plain", b"");
    state.leave(key, ErrorCode::NO_ERROR);
}
