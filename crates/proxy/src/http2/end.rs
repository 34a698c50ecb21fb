//! One of the two sides of an exchange: a stream of an HTTP/2 connection, or an HTTP/1.1 connection for as long as the
//! exchange lasts. This is where the two protocols meet: an exchange does not ask which it is.

use std::rc::Rc;

use sinew_wire::h2::{Connection as Engine, ErrorCode, SendError, StreamKey};
use sinew_wire::head::{ResponseEdits, ResponseHead};

use super::link::Link;
use super::pipe::Pipe;
use super::reply;
use super::single::{self, Single};
use crate::failure::Failure;

pub enum End {
    Http2 { link: Rc<Link>, key: StreamKey },
    Http1(Rc<Single>),
}

/// What an end is sent through. Borrowed for a moment only.
pub enum Sink<'a> {
    Http2(&'a mut Engine, StreamKey),
    Http1(&'a mut single::State),
}

impl End {
    /// Sends, and has it written.
    pub fn send<T>(&self, send: impl FnOnce(&mut Sink<'_>) -> T) -> T {
        match self {
            Self::Http2 { link, key } => {
                let mut state = link.state();
                let sent = send(&mut Sink::Http2(&mut state.engine, *key));
                state.wake();
                sent
            }
            Self::Http1(single) => {
                let mut state = single.state();
                let sent = send(&mut Sink::Http1(&mut state));
                state.wake();
                sent
            }
        }
    }

    /// A connection of many streams.
    pub fn link(&self) -> Option<&Rc<Link>> {
        match self {
            Self::Http2 { link, .. } => Some(link),
            Self::Http1(_) => None,
        }
    }

    /// So many bytes that came from here are out of our hands: as many more may come.
    pub fn consumed(&self, count: usize) {
        match self {
            Self::Http2 { link, key } => {
                let mut state = link.state();
                state.engine.consumed(*key, count);
                state.wake();
            }
            Self::Http1(single) => single.state().consumed(count),
        }
    }

    /// Whether a head may be sent now.
    pub fn has_room(&self) -> bool {
        match self {
            Self::Http2 { link, .. } => link.state().engine.has_room(),
            Self::Http1(single) => single.state().has_room(),
        }
    }

    /// The exchange is asked for its answer again when there is room for it.
    pub fn wait_for_room(&self) {
        match self {
            Self::Http2 { link, key } => link.state().wait_for_room(*key),
            Self::Http1(single) => single.state().wait_for_room(),
        }
    }

    /// The exchange is over: whatever is left of it here is too.
    pub fn leave(&self, code: ErrorCode) {
        match self {
            Self::Http2 { link, key } => link.state().leave(*key, code),
            Self::Http1(single) => single.state().leave(),
        }
    }

    /// An upstream that is gone has surely done nothing for the request.
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Http2 { link, key } => {
                let state = link.state();
                state.is_unwritten(*key) || !state.engine.has_peer_settings()
            }
            Self::Http1(single) => single.state().is_stale() && single.state().is_unwritten(),
        }
    }

    /// An upstream that is gone may have been about to close before the request came.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Http2 { .. } => true,
            Self::Http1(single) => single.state().is_stale(),
        }
    }
}

impl Sink<'_> {
    /// As much of `data` as is taken now. `end`: nothing follows; holds only when all of it was taken.
    pub fn data(&mut self, data: &[u8], end: bool) -> Result<usize, SendError> {
        match self {
            Self::Http2(engine, key) => engine.send_data(*key, data, end),
            Self::Http1(single) => single.send_data(data, end),
        }
    }

    pub fn trailers<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), SendError> {
        match self {
            Self::Http2(engine, key) => engine.send_trailers(*key, trailers),
            Self::Http1(single) => single.send_trailers(trailers),
        }
    }

    pub fn response(
        &mut self,
        head: &ResponseHead,
        bytes: &[u8],
        edits: &ResponseEdits<'_>,
        end: bool,
    ) -> Result<(), SendError> {
        match self {
            Self::Http2(engine, key) => engine.send_response(*key, head, bytes, edits, end),
            Self::Http1(single) => single.send_response(head, bytes, edits, end),
        }
    }

    /// The proxy's own answer. What does not fit at once waits in `answer`.
    pub fn own(&mut self, failure: Failure, is_grpc: bool, answer: &mut Pipe) -> Result<(), SendError> {
        match self {
            Self::Http2(engine, key) => reply::send(engine, *key, failure, is_grpc, answer),
            Self::Http1(single) => {
                answer.done();
                single.send_own(failure)
            }
        }
    }

    /// Ends a gRPC answer that has begun. False: that is not possible.
    pub fn status(&mut self, failure: Failure) -> bool {
        match self {
            Self::Http2(engine, key) => reply::send_status(engine, *key, failure).is_ok(),
            Self::Http1(_) => false,
        }
    }
}
