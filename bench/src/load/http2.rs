//! HTTP/2 as load and origin speak it, by the engine of `sinew_wire`: small calls in the shape of gRPC, many on one
//! connection. What a turn has sent is one write.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use memchr::memmem;
use sinew_wire::h1::{self, HeadScan};
use sinew_wire::h2::{Connection, ErrorCode, Event, FloodLimits, Heads, Limits, SendError, StreamKey};
use sinew_wire::head::{RequestEdits, RequestHead, ResponseEdits, ResponseHead};

use crate::link::Link;
use crate::origin::Seen;

/// Request and answer that everybody sends.
pub struct Messages {
    request: RequestHead,
    request_bytes: Vec<u8>,
    request_body: Vec<u8>,
    answer: ResponseHead,
    answer_bytes: Vec<u8>,
    answer_body: Vec<u8>,
}

impl Messages {
    pub fn new(request_body: usize, answer_body: usize) -> Self {
        let request_bytes = format!(
            "POST /api/v7/users.Users/Get HTTP/1.1\r\nhost: svc7.example.com\r\ntransfer-encoding: chunked\r\n\
             te: trailers\r\ncontent-type: application/grpc\r\nuser-agent: grpc-go/1.60.0\r\n\
             authorization: Bearer {:a<80}\r\nx-tenant: acme-production\r\n\r\n",
            ""
        )
        .into_bytes();
        let answer_bytes =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: application/grpc\r\n\
            grpc-accept-encoding: gzip\r\n\r\n"
                .to_vec();
        let (mut request, mut answer) = (RequestHead::default(), ResponseHead::default());
        let limits = &h1::Limits::DEFAULT;
        h1::parse_request(&request_bytes, &mut HeadScan::default(), limits, &mut request)
            .expect("a well-formed head");
        let mut exchange = request.exchange(false);
        h1::parse_response(&answer_bytes, &mut HeadScan::default(), limits, &mut exchange, &mut answer)
            .expect("a well-formed head");
        Self {
            request,
            request_bytes,
            request_body: vec![b'y'; request_body],
            answer,
            answer_bytes,
            answer_body: vec![b'x'; answer_body],
        }
    }
}

/// Nothing that a proxy does in a run is too much.
const LIMITS: Limits = Limits {
    concurrent_streams_max: 1024,
    floods: FloodLimits { allowed: [u32::MAX; 7], credit_max: 1000 },
    extended_connect: false,
    ..Limits::DEFAULT
};

/// One end of a connection.
struct Session {
    link: Link,
    engine: Connection,
    heads: Heads,
    /// The beginning of a frame.
    input: Vec<u8>,
    /// Bodies of which a window has taken a part: the stream, and how much is left.
    unsent: Vec<(StreamKey, usize)>,
}

impl Session {
    fn new(link: Link, engine: Connection) -> Self {
        Self { link, engine, heads: Heads::default(), input: Vec::new(), unsent: Vec::new() }
    }

    /// Reads what is there and hands every event to `on`. False: the peer has ended.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        mut on: impl FnMut(&mut Self, Event) -> io::Result<()>,
    ) -> io::Result<bool> {
        loop {
            let count = match self.link.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                result => result?,
            };
            if count == 0 {
                return Ok(false);
            }
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(&buffer[..count]);
            let mut at = 0;
            loop {
                let event = self.engine.next(&input, &mut at, &mut self.heads);
                match event.map_err(|error| io::Error::other(format!("{error:?}")))? {
                    Event::NeedMore => break,
                    Event::Data { stream, bytes, end } => {
                        self.engine.consumed(stream, bytes.len());
                        on(self, Event::Data { stream, bytes, end })?;
                    }
                    event => on(self, event)?,
                }
            }
            input.drain(..at);
            self.input = input;
        }
    }

    fn send_body(&mut self, key: StreamKey, body: &[u8], end: bool) -> Result<bool, SendError> {
        let taken = self.engine.send_data(key, body, end)?;
        if taken < body.len() {
            self.unsent.push((key, body.len() - taken));
        }
        Ok(taken == body.len())
    }

    /// Sends what windows allow by now of bodies that had to wait, then all that is to be written. `done`: a body is out.
    fn write(
        &mut self,
        body: &[u8],
        end: bool,
        done: impl Fn(&mut Connection, StreamKey) -> Result<(), SendError>,
    ) -> io::Result<()> {
        while let Some(key) = self.engine.next_writable() {
            let Some(at) = self.unsent.iter().position(|(other, _)| *other == key) else { continue };
            let left = self.unsent.swap_remove(at).1;
            let rest = &body[body.len() - left..];
            let sent = self.send_body(key, rest, end).and_then(|is_whole| match is_whole {
                true => done(&mut self.engine, key),
                false => Ok(()),
            });
            sent.map_err(gone)?;
        }
        while !self.engine.output().is_empty() {
            match self.link.write(self.engine.output())? {
                0 => return Ok(()),
                count => self.engine.wrote(count),
            }
        }
        self.link.flush()
    }
}

fn gone(error: SendError) -> io::Error {
    io::Error::other(format!("a stream is over too early: {error:?}"))
}

/// A client's connection.
pub struct Client {
    session: Session,
    /// When the request on a stream was due, by the stream's slot.
    due: Vec<Option<Instant>>,
}

impl Client {
    pub fn new(link: Link) -> Self {
        Self { session: Session::new(link, Connection::client(LIMITS)), due: Vec::new() }
    }

    /// Requests that have no answer.
    pub fn under_way(&self) -> usize {
        self.due.iter().flatten().count()
    }

    /// Opens a stream; it is out with the next [`Client::write`].
    pub fn fire(&mut self, messages: &Messages, due: Instant) -> io::Result<()> {
        let engine = &mut self.session.engine;
        let edits = RequestEdits::default();
        let opened = engine.send_request(&messages.request, &messages.request_bytes, &edits, false, false);
        let key = opened.map_err(|error| io::Error::other(format!("no stream can be opened: {error:?}")))?;
        let slot = key.slot as usize;
        if self.due.len() <= slot {
            self.due.resize(slot + 1, None);
        }
        self.due[slot] = Some(due);
        self.session.send_body(key, &messages.request_body, true).map_err(gone)?;
        Ok(())
    }

    pub fn write(&mut self, messages: &Messages) -> io::Result<()> {
        self.session.write(&messages.request_body, true, |_, _| Ok(()))
    }

    /// Puts the times at which requests were due that are answered now into `answered`.
    pub fn receive(&mut self, buffer: &mut [u8], answered: &mut Vec<Instant>) -> io::Result<()> {
        let due = &mut self.due;
        let mut over = |stream: StreamKey| {
            answered.extend(due.get_mut(stream.slot as usize).and_then(Option::take));
        };
        let goes_on = self.session.receive(buffer, |session, event| {
            match event {
                Event::Response { stream, end } => {
                    let status = session.heads.response.status;
                    if status != 200 {
                        return Err(io::Error::other(format!("answered {status}")));
                    }
                    if end {
                        over(stream);
                    }
                }
                Event::Data { stream, end: true, .. } | Event::Trailers { stream } => over(stream),
                Event::Data { .. } | Event::Settings | Event::Pong { .. } => {}
                Event::GoAway { code } if code == ErrorCode::NO_ERROR => {}
                other => return Err(io::Error::other(format!("{other:?}"))),
            }
            Ok(())
        })?;
        if goes_on { Ok(()) } else { Err(io::Error::other("closed")) }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.session.link.as_fd()
    }
}

/// A proxy's connection to the origin.
pub struct Served(Session);

impl Served {
    pub fn new(link: Link) -> Self {
        Self(Session::new(link, Connection::server(LIMITS)))
    }

    /// Reads and answers as far as that goes without waiting. False: the connection has ended.
    pub fn turn(&mut self, buffer: &mut [u8], messages: &Messages, seen: &mut Seen) -> bool {
        let received = self.0.receive(buffer, |session, event| match event {
            Event::Request { stream, end } => {
                seen.count(|| is_marked(session.heads.bytes()));
                if end { answer(session, stream, messages).map_err(gone) } else { Ok(()) }
            }
            Event::Data { stream, end: true, .. } | Event::Trailers { stream } => {
                answer(session, stream, messages).map_err(gone)
            }
            _ => Ok(()),
        });
        matches!(received, Ok(true)) && self.0.write(&messages.answer_body, false, end).is_ok()
    }
}

impl AsFd for Served {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.link.as_fd()
    }
}

fn answer(session: &mut Session, key: StreamKey, messages: &Messages) -> Result<(), SendError> {
    let edits = ResponseEdits::default();
    session.engine.send_response(key, &messages.answer, &messages.answer_bytes, &edits, false)?;
    if session.send_body(key, &messages.answer_body, false)? {
        end(&mut session.engine, key)?;
    }
    Ok(())
}

fn end(engine: &mut Connection, key: StreamKey) -> Result<(), SendError> {
    engine.send_trailers(key, [(&b"grpc-status"[..], &b"0"[..])].into_iter())
}

/// Lines in lower case.
fn is_marked(head: &[u8]) -> bool {
    memmem::find(head, b"\r\nx-request-id: ").is_some()
        && memmem::find(head, b"\r\ntraceparent: 00-").is_some()
}
