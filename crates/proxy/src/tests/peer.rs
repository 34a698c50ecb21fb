//! A client or an application that speaks HTTP/2, by the engine of `wire`.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;

use sinew_wire::h1::{self, Buffer, HeadScan, parse_request};
use sinew_wire::h2::{Connection, ErrorCode, Event, FRAME_BYTES_MAX, Heads, Limits, StreamKey};
use sinew_wire::head::{Framing, RequestEdits, RequestHead, ResponseEdits, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::mesh::application;

pub struct Peer {
    stream: TcpStream,
    pub engine: Connection,
    heads: Heads,
    input: Buffer,
    at: usize,
    is_ended: bool,
    /// By stream.
    unsent: BTreeMap<u32, Unsent>,
}

struct Unsent {
    key: StreamKey,
    bytes: Vec<u8>,
    sent: usize,
    end: bool,
    /// The end, with a status.
    status: Option<&'static str>,
}

/// What has come. `end`: nothing follows on the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    /// Lines of `name: value`, `:method` and `:path` first.
    Request(StreamKey, String, bool),
    /// Lines, `:status` first.
    Response(StreamKey, String, bool),
    Data(StreamKey, Vec<u8>, bool),
    Trailers(StreamKey, String),
    Reset(StreamKey, ErrorCode),
    Unprocessed(StreamKey),
    GoAway(ErrorCode),
    Closed,
}

/// An answer as a whole.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.strip_prefix(":status: ").and_then(|rest| rest[..3].parse().ok()).unwrap_or(0)
    }
}

impl Peer {
    pub fn client(stream: TcpStream) -> Self {
        Self::new(stream, Connection::client(Limits::DEFAULT))
    }

    pub fn server(stream: TcpStream) -> Self {
        Self::new(stream, Connection::server(Limits::DEFAULT))
    }

    pub fn new(stream: TcpStream, engine: Connection) -> Self {
        let input = Buffer::new(4 * FRAME_BYTES_MAX);
        Self {
            stream,
            engine,
            heads: Heads::default(),
            input,
            at: 0,
            is_ended: false,
            unsent: BTreeMap::new(),
        }
    }

    /// Sends a request whose further fields are `fields`, each with its line end.
    pub fn request(&mut self, method: &str, path: &str, fields: &str, end: bool) -> StreamKey {
        let framing = if end { "" } else { "transfer-encoding: chunked\r\n" };
        let text = format!("{method} {path} HTTP/1.1\r\nhost: orders\r\n{fields}{framing}\r\n");
        let mut head = RequestHead::default();
        parse_request(text.as_bytes(), &mut HeadScan::default(), &h1::Limits::DEFAULT, &mut head).unwrap();
        let edits = RequestEdits::default();
        self.engine.send_request(&head, text.as_bytes(), &edits, false, end).unwrap()
    }

    /// Asks for WebSocket by an extended CONNECT, as soon as that is offered.
    pub async fn tunnel(&mut self, path: &str, fields: &str) -> StreamKey {
        while !self.engine.takes_extended_connect() {
            self.turn().await;
            assert_eq!(self.event(), None);
        }
        let text = format!(
            "GET {path} HTTP/1.1\r\nhost: orders\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\n{fields}\r\n"
        );
        self.send_head(&text, RequestEdits { upgrade: true, ..RequestEdits::default() })
    }

    pub fn connect(&mut self, authority: &str) -> StreamKey {
        let text = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
        self.send_head(&text, RequestEdits::default())
    }

    fn send_head(&mut self, text: &str, edits: RequestEdits<'_>) -> StreamKey {
        let mut head = RequestHead::default();
        parse_request(text.as_bytes(), &mut HeadScan::default(), &h1::Limits::DEFAULT, &mut head).unwrap();
        self.engine.send_request(&head, text.as_bytes(), &edits, false, false).unwrap()
    }

    pub fn respond(&mut self, key: StreamKey, status: u16, fields: &[(&str, &str)], end: bool) {
        let framing = if end { Framing::None } else { Framing::Chunked };
        let mut head = ResponseHead::default();
        (head.status, head.framing) = (status, framing);
        let append: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        let edits = ResponseEdits { append: &append, ..ResponseEdits::default() };
        self.engine.send_response(key, &head, &[], &edits, end).unwrap();
    }

    pub fn send(&mut self, key: StreamKey, data: &[u8], end: bool) {
        let unsent = self.unsent.entry(key.id);
        let unsent =
            unsent.or_insert_with(|| Unsent { key, bytes: Vec::new(), sent: 0, end: false, status: None });
        unsent.bytes.extend_from_slice(data);
        unsent.end |= end;
        self.send_on();
    }

    /// Ends an answer behind what is still to be sent of it.
    pub fn end_with_status(&mut self, key: StreamKey, status: &'static str) {
        let unsent = Unsent { key, bytes: Vec::new(), sent: 0, end: false, status: None };
        self.unsent.entry(key.id).or_insert(unsent).status = Some(status);
        self.send_on();
    }

    fn send_on(&mut self) {
        while self.engine.next_writable().is_some() {}
        self.unsent.retain(|_, unsent| {
            let rest = &unsent.bytes[unsent.sent..];
            let Ok(count) = self.engine.send_data(unsent.key, rest, unsent.end) else { return false };
            unsent.sent += count;
            let is_all = unsent.sent == unsent.bytes.len();
            if is_all && let Some(status) = unsent.status {
                let trailers = [(&b"grpc-status"[..], status.as_bytes())];
                self.engine.send_trailers(unsent.key, trailers.into_iter()).unwrap();
            }
            !is_all
        });
    }

    /// How much waits to be sent.
    pub fn unsent(&self) -> usize {
        self.unsent.values().map(|unsent| unsent.bytes.len() - unsent.sent).sum()
    }

    /// What comes next. What was sent is written meanwhile.
    pub async fn next(&mut self) -> Got {
        loop {
            if let Some(got) = self.event() {
                return got;
            }
            if self.is_ended {
                return Got::Closed;
            }
            self.turn().await;
        }
    }

    /// Writes all that can be sent.
    pub async fn flush(&mut self) {
        self.stream.write_all(self.engine.output()).await.unwrap();
        let count = self.engine.output().len();
        self.engine.wrote(count);
    }

    async fn turn(&mut self) {
        self.send_on();
        let (mut reader, mut writer) = self.stream.split();
        let has_output = !self.engine.output().is_empty();
        tokio::select! {
            count = writer.write(self.engine.output()), if has_output => match count {
                Ok(count) => self.engine.wrote(count),
                Err(_) => self.is_ended = true,
            },
            count = reader.read(self.input.spare()) => match count {
                Ok(0) | Err(_) => self.is_ended = true,
                Ok(count) => self.input.filled(count),
            },
        }
    }

    fn event(&mut self) -> Option<Got> {
        loop {
            let event = self.engine.next(self.input.data(), &mut self.at, &mut self.heads);
            let got = match event.unwrap() {
                Event::NeedMore => {
                    self.input.consume(std::mem::take(&mut self.at));
                    return None;
                }
                Event::Request { stream, end } => Got::Request(stream, self.head_of_request(), end),
                Event::Response { stream, end } => Got::Response(stream, self.head_of_response(), end),
                Event::Data { stream, bytes, end } => {
                    let bytes = self.input.data()[bytes].to_vec();
                    self.engine.consumed(stream, bytes.len());
                    Got::Data(stream, bytes, end)
                }
                Event::Trailers { stream } => Got::Trailers(stream, lines(self.heads.trailers())),
                Event::Reset { stream, code } => Got::Reset(stream, code),
                Event::Unprocessed { stream } => Got::Unprocessed(stream),
                Event::GoAway { code } => Got::GoAway(code),
                Event::Settings | Event::Pong { .. } => continue,
                other => panic!("{other:?}"),
            };
            return Some(got);
        }
    }

    fn head_of_request(&self) -> String {
        let (head, bytes) = (&self.heads.request, self.heads.bytes());
        let (method, path) = (head.method_name.of(bytes), head.path.of(bytes));
        let pseudo = lines([(&b":method"[..], method), (b":path", path)].into_iter());
        let te = if head.trailers { "te: trailers\n" } else { "" };
        let fields = head.fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes)));
        format!("{pseudo}{te}{}", lines(fields))
    }

    fn head_of_response(&self) -> String {
        let (head, bytes) = (&self.heads.response, self.heads.bytes());
        let fields = head.fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes)));
        format!(":status: {}\n{}", head.status, lines(fields))
    }

    /// The answer on one stream; what comes on others is dropped.
    pub async fn answer(&mut self, key: StreamKey) -> Answer {
        let mut answer = Answer::default();
        loop {
            match self.next().await {
                Got::Response(stream, head, end) if stream == key => {
                    answer.head = head;
                    if end {
                        return answer;
                    }
                }
                Got::Data(stream, bytes, end) if stream == key => {
                    answer.body.extend(bytes);
                    if end {
                        return answer;
                    }
                }
                Got::Trailers(stream, trailers) if stream == key => {
                    answer.trailers = trailers;
                    return answer;
                }
                Got::Reset(stream, code) if stream == key => panic!("reset: {code:?} after {answer:?}"),
                Got::Closed => panic!("closed after {answer:?}"),
                _ => {}
            }
        }
    }

    /// A gRPC call with one message, and its answer.
    pub async fn call(&mut self, message: &[u8]) -> Answer {
        let key = self.request("POST", "/pkg.Service/Method", GRPC, false);
        self.send(key, message, true);
        self.answer(key).await
    }
}

pub const GRPC: &str = "content-type: application/grpc\r\nte: trailers\r\n";

fn lines<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> String {
    let line = |(name, value): (&[u8], &[u8])| {
        format!("{}: {}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
    };
    fields.map(line).collect()
}

/// An application that speaks HTTP/2: `serve` gets each connection and its number.
pub async fn http2_application<F, S>(serve: F) -> SocketAddr
where
    F: Fn(Peer, usize) -> S + 'static,
    S: Future<Output = ()> + 'static,
{
    application(move |stream, number| serve(Peer::server(stream), number)).await
}

/// Answers each call with its head, what it sent, and a status behind it.
pub async fn echoing_application() -> SocketAddr {
    http2_application(echo_calls).await
}

pub async fn echo_calls(mut peer: Peer, number: usize) {
    loop {
        match peer.next().await {
            Got::Request(key, head, end) => {
                let number = number.to_string();
                let fields = [("content-type", "application/grpc"), ("x-connection", &number)];
                peer.respond(key, 200, &fields, false);
                peer.send(key, head.as_bytes(), false);
                if end {
                    peer.end_with_status(key, "0");
                }
            }
            Got::Data(key, bytes, end) => {
                peer.send(key, &bytes, false);
                if end {
                    peer.end_with_status(key, "0");
                }
            }
            Got::Closed => return,
            _ => {}
        }
    }
}
