//! Frames in, a transcript of events and of the frames that answer out; whole, byte by byte, and cut at every byte.

mod flow;
mod generated;
mod hostile;
mod rules;
mod sending;

use super::frame::{FrameHeader, HEADER_BYTES, flag, kind, push};
use super::*;
use crate::head::{RequestEdits, RequestHead, ResponseEdits, ResponseHead, Span};
use crate::hpack::{Decoder, FieldList};

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, kind, flags, stream, payload);
    out
}

/// Literals that enter no table.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one byte of length");
            block.push(text.chars().count() as u8);
            block.extend(text.chars().map(|byte| byte as u8));
        }
    }
    block
}

pub(super) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
pub(super) const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
pub(super) const OK: [(&str, &str); 1] = [(":status", "200")];

pub(super) fn with<'a>(
    head: &[(&'a str, &'a str)],
    fields: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    [head, fields].concat()
}

/// A whole head in one frame.
pub(super) fn head(id: u32, end: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let end = if end { flag::END_STREAM } else { 0 };
    frame(kind::HEADERS, flag::END_HEADERS | end, id, &block(fields))
}

pub(super) fn data(id: u32, end: bool, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, if end { flag::END_STREAM } else { 0 }, id, bytes)
}

pub(super) fn reset(id: u32, code: ErrorCode) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, id, &code.0.to_be_bytes())
}

pub(super) fn window_update(id: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, id, &increment.to_be_bytes())
}

pub(super) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = values
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(kind::SETTINGS, 0, 0, &payload)
}

/// One end, its scratch space, and the peer's decoder for what it sends.
pub(super) struct End {
    pub connection: Connection,
    pub heads: Heads,
    decoder: Decoder,
    /// What was received and not used.
    input: Vec<u8>,
    /// Take bodies as they come.
    pub consumes: bool,
}

impl End {
    /// Past the exchange of SETTINGS; what was sent until then is not looked at.
    pub fn server(limits: Limits) -> Self {
        let mut end = Self::new(Connection::server(limits));
        end.receive(&[&PREFACE[..], &settings(&[]), &frame(kind::SETTINGS, flag::ACK, 0, &[])].concat());
        end.sent();
        end
    }

    pub fn client(limits: Limits) -> Self {
        let mut end = Self::new(Connection::client(limits));
        end.receive(&[settings(&[]), frame(kind::SETTINGS, flag::ACK, 0, &[])].concat());
        end.sent();
        end
    }

    pub fn new(connection: Connection) -> Self {
        Self {
            connection,
            heads: Heads::default(),
            decoder: Decoder::default(),
            input: Vec::new(),
            consumes: true,
        }
    }

    /// Client: a request as h1 would parse it.
    pub fn request(&mut self, text: &str, end: bool) -> StreamKey {
        let (head, bytes) = parsed_request(text);
        let edits = RequestEdits::default();
        self.connection.send_request(&head, &bytes, &edits, false, end).expect("streams are free")
    }

    /// Events that the bytes make, as text.
    pub fn receive(&mut self, bytes: &[u8]) -> String {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let (mut at, mut text) = (0, String::new());
        loop {
            match self.connection.next(&input, &mut at, &mut self.heads) {
                Ok(Event::NeedMore) => break,
                Ok(event) => text += &self.event(event, &input),
                Err(_) => {
                    at = input.len();
                    break;
                }
            }
        }
        self.input = input[at..].to_vec();
        assert!(self.input.len() < FRAME_BYTES_MAX, "no more than a frame waits");
        text
    }

    fn event(&mut self, event: Event, input: &[u8]) -> String {
        let mark = |end| if end { "." } else { "" };
        match event {
            Event::NeedMore => String::new(),
            Event::Request { stream, end } => {
                let head = &self.heads.request;
                let bytes = self.heads.bytes();
                let text = |span: Span| String::from_utf8_lossy(span.of(bytes)).into_owned();
                let mut line = format!(
                    "{} {} {}{}",
                    stream.id,
                    text(head.method_name),
                    text(head.authority),
                    text(head.path)
                );
                for field in head.fields.iter().filter(|field| field.kind.is_passed_on()) {
                    line += &format!(" {}={}", text(field.name), text(field.value));
                }
                line + mark(end) + "\n"
            }
            Event::Response { stream, end } => {
                format!(
                    "{} {:?} {}{}\n",
                    stream.id,
                    self.heads.response.kind,
                    self.heads.response.status,
                    mark(end)
                )
            }
            Event::Data { stream, bytes, end } => {
                if self.consumes {
                    self.connection.consumed(stream, bytes.len());
                }
                format!("{} [{}]{}\n", stream.id, String::from_utf8_lossy(&input[bytes]), mark(end))
            }
            Event::Trailers { stream } => {
                let mut line = format!("{} trailers", stream.id);
                for (name, value) in self.heads.trailers() {
                    line += &format!(" {}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
                }
                line + "\n"
            }
            Event::Reset { stream, code } => format!("{} reset {code:?}\n", stream.id),
            Event::Failed { stream, error } => {
                format!("{} failed {} {}\n", stream.id, error.status, error.reason)
            }
            // As a driver answers.
            Event::Rejected { stream, end, reject } => {
                let _ = self.connection.send_local_response(stream, reject.status, &[], "text/plain", b"");
                self.connection.reset(stream, ErrorCode::NO_ERROR);
                format!("{} rejected {} {}{}\n", stream.id, reject.status, reject.reason, mark(end))
            }
            Event::Refused { id, reject } => format!("{id} refused {} {}\n", reject.status, reject.reason),
            Event::Unprocessed { stream } => format!("{} unprocessed\n", stream.id),
            Event::GoAway { code } => format!("goaway {code:?}\n"),
            Event::Pong { payload } => format!("pong {payload}\n"),
            Event::Settings => "settings\n".to_owned(),
        }
    }

    /// The frames that were sent since the last time, as text.
    pub fn sent(&mut self) -> String {
        let output = self.connection.output().to_vec();
        self.connection.wrote(output.len());
        let mut rest = output.strip_prefix(PREFACE).unwrap_or(&output);
        let mut text = String::new();
        let mut list = FieldList::default();
        while let Some(header) = FrameHeader::parse(rest) {
            let payload = &rest[HEADER_BYTES..HEADER_BYTES + header.len];
            rest = &rest[HEADER_BYTES + header.len..];
            let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four"));
            let mark = if header.has(flag::END_STREAM) { "." } else { "" };
            text += &match header.kind {
                kind::DATA => format!("<{} [{}]{mark}\n", header.stream, String::from_utf8_lossy(payload)),
                kind::HEADERS => {
                    let limits = ListLimits { bytes_max: 1 << 20, fields_max: 1000 };
                    self.decoder.decode(payload, &limits, &mut list).expect("decodes");
                    assert_eq!(list.fault, None, "well-formed");
                    let fields = String::from_utf8_lossy(&list.bytes).replace("\r\n", "|");
                    format!("<{} {fields}{mark}\n", header.stream)
                }
                kind::RST_STREAM => format!("<{} rst {:?}\n", header.stream, ErrorCode(number(0))),
                kind::SETTINGS if header.has(flag::ACK) => "<ack\n".to_owned(),
                kind::SETTINGS => "<settings\n".to_owned(),
                kind::PING if header.has(flag::ACK) => "<pong\n".to_owned(),
                kind::PING => "<ping\n".to_owned(),
                kind::GOAWAY => {
                    let reason = String::from_utf8_lossy(&payload[8..]).into_owned();
                    format!("<goaway {} {:?} {reason}\n", number(0), ErrorCode(number(4)))
                }
                kind::WINDOW_UPDATE => format!("<{} window +{}\n", header.stream, number(0)),
                other => format!("<{} frame {other}\n", header.stream),
            };
        }
        assert!(rest.is_empty(), "whole frames are sent");
        text
    }
}

pub(super) fn parsed_request(text: &str) -> (RequestHead, Vec<u8>) {
    let bytes = text.replace('|', "\r\n").into_bytes();
    let mut head = RequestHead::default();
    crate::h1::parse_request(&bytes, &mut Default::default(), &crate::h1::Limits::DEFAULT, &mut head)
        .expect("well-formed");
    (head, bytes)
}

pub(super) fn parsed_response(request: &RequestHead, text: &str) -> (ResponseHead, Vec<u8>) {
    let bytes = text.replace('|', "\r\n").into_bytes();
    let mut head = ResponseHead::default();
    let mut exchange = request.exchange(false);
    crate::h1::parse_response(
        &bytes,
        &mut Default::default(),
        &crate::h1::Limits::DEFAULT,
        &mut exchange,
        &mut head,
    )
    .expect("well-formed");
    (head, bytes)
}

/// Pieces of one body put together: how they are cut depends on how the input is.
fn joined(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let joins = line.split_once(" [").is_some_and(|(stream, _)| {
            out.lines().last().is_some_and(|last| {
                last.split_once(" [").is_some_and(|(before, _)| before == stream) && last.ends_with(']')
            })
        });
        if joins && !line.starts_with('<') {
            out.truncate(out.len() - 2);
            out += &line[line.find('[').expect("a body") + 1..];
        } else {
            out += line;
        }
        out += "\n";
    }
    out
}

/// What a new end makes of the frames: events, then what it sent.
pub(super) fn transcript<'a>(mut end: End, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let events: String = parts.into_iter().map(|part| end.receive(part)).collect();
    joined(&events) + &end.sent()
}

fn check(make: impl Fn() -> End, frames: &[Vec<u8>], expect: &str) {
    let input = frames.concat();
    let expect: String = expect
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(transcript(make(), [&input[..]]), expect);
    assert_eq!(transcript(make(), input.chunks(1)), expect, "byte by byte");
    if input.len() < 2000 {
        for cut in 1..input.len() {
            assert_eq!(transcript(make(), [&input[..cut], &input[cut..]]), expect, "cut at {cut}");
        }
    }
}

/// What a server makes of a client's frames behind its preface and SETTINGS.
pub(super) fn check_server(frames: &[Vec<u8>], expect: &str) {
    check(|| End::server(Limits::DEFAULT), frames, expect);
}

/// What a client makes of a server's frames, after it sent GET on 1 and HEAD on 3.
pub(super) fn check_client(frames: &[Vec<u8>], expect: &str) {
    let make = || {
        let mut end = End::client(Limits::DEFAULT);
        end.request("GET / HTTP/1.1|Host: a||", true);
        end.request("HEAD / HTTP/1.1|Host: a||", true);
        end.sent();
        end
    };
    check(make, frames, expect);
}

#[test]
fn a_request_and_its_response() {
    let mut server = End::server(Limits::DEFAULT);
    let mut client = End::client(Limits::DEFAULT);
    let key = client.request("POST /x?y HTTP/1.1|Host: a:1|Content-Length: 5|Accept: */*||", false);
    assert_eq!(client.connection.send_data(key, b"hello", true), Ok(5));
    let events = server.receive(client.connection.output());
    assert_eq!(events, "1 POST a:1/x?y accept=*/*\n1 [hello].\n");
    let stream = StreamKey { id: 1, slot: 0 };
    let (request, _) = parsed_request("POST / HTTP/1.1|Host: a||");
    let (head, bytes) = parsed_response(&request, "HTTP/1.1 200 OK|Content-Length: 2|Server: s||");
    let edits = ResponseEdits { append: &[(b"x-own", b"1")], ..ResponseEdits::default() };
    server.connection.send_response(stream, &head, &bytes, &edits, false).expect("the stream is open");
    assert_eq!(server.connection.send_data(stream, b"ok", true), Ok(2));
    let output = server.connection.output().to_vec();
    assert_eq!(client.receive(&output), "1 Final 200\n1 [ok].\n");
    assert_eq!(server.sent(), "<1 :status: 200|content-length: 2|server: s|x-own: 1|\n<1 [ok].\n");
    assert_eq!((server.connection.open_streams(), client.connection.open_streams()), (0, 0));
    assert_eq!((server.connection.streams.len(), client.connection.streams.len()), (0, 0));
}
