//! What holds for every input of the HTTP/2 engine. Run by fuzz targets and by `crates/wire/tests/corpus.rs`, as
//! `properties.rs` is; the first byte of an input says where the rest is cut in two.

use sinew_wire::h1::{self, HeadScan, Parsed};
use sinew_wire::h2::{Connection, ErrorCode, Event, FRAME_BYTES_MAX, Heads, Limits, PREFACE};
use sinew_wire::head::{FieldKind, Framing, RequestEdits, RequestHead, ResponseEdits, ResponseHead};
use sinew_wire::hpack::{Decoder, Encoder, FieldList, ListLimits};

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const LIMITS: Limits = Limits {
    head_bytes_max: 2000,
    head_fields_max: 20,
    target_bytes_max: 100,
    body_bytes_max: 1000,
    concurrent_streams_max: 4,
    ..Limits::DEFAULT
};

/// A client's frames, behind its preface and SETTINGS.
pub fn server(input: &[u8]) {
    check(input, || {
        let mut end = End::new(Connection::server(LIMITS));
        end.feed(&[&PREFACE[..], SETTINGS].concat());
        end
    });
}

/// A server's frames, behind its SETTINGS, after requests of several kinds.
pub fn client(input: &[u8]) {
    check(input, || {
        let mut end = End::new(Connection::client(LIMITS));
        end.feed(SETTINGS);
        for request in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            let head = parse(request.as_bytes()).expect("well-formed");
            let is_over = request.starts_with("GET") || request.starts_with("HEAD");
            let edits = RequestEdits::default();
            end.connection.send_request(&head, request.as_bytes(), &edits, false, is_over).expect("free");
        }
        end
    });
}

fn parse(bytes: &[u8]) -> Option<RequestHead> {
    let mut head = RequestHead::default();
    let parsed = h1::parse_request(bytes, &mut HeadScan::default(), &h1::Limits::DEFAULT, &mut head);
    matches!(parsed, Ok(Parsed::Complete { head_bytes }) if head_bytes == bytes.len()).then_some(head)
}

/// How the input is cut does not matter, to events and to output.
fn check(input: &[u8], make: impl Fn() -> End) {
    let Some((&at, input)) = input.split_first() else { return };
    let cut = usize::from(at) % (input.len() + 1);
    let mut whole = make();
    whole.feed(input);
    let mut parts = make();
    parts.feed(&input[..cut]);
    parts.feed(&input[cut..]);
    whole.forget_cuts();
    parts.forget_cuts();
    assert_eq!(whole.seen, parts.seen, "cut at {cut}");
    assert_eq!(whole.connection.output(), parts.connection.output(), "cut at {cut}");
}

struct End {
    connection: Connection,
    heads: Heads,
    unused: Vec<u8>,
    seen: Vec<(String, Vec<u8>)>,
    is_over: bool,
}

impl End {
    fn new(connection: Connection) -> Self {
        Self { connection, heads: Heads::default(), unused: Vec::new(), seen: Vec::new(), is_over: false }
    }

    fn feed(&mut self, input: &[u8]) {
        self.unused.extend_from_slice(input);
        let input = std::mem::take(&mut self.unused);
        let mut at = 0;
        while !self.is_over {
            match self.connection.next(&input, &mut at, &mut self.heads) {
                Ok(Event::NeedMore) => break,
                Ok(event) => self.note(event, &input),
                Err(error) => {
                    self.seen.push((error.to_string(), Vec::new()));
                    self.is_over = true;
                    return;
                }
            }
            assert!(self.connection.open_streams() <= 4);
        }
        self.unused = input[at..].to_vec();
        assert!(self.unused.len() < FRAME_BYTES_MAX);
        assert!(self.connection.output().len() < LIMITS.output_bytes_max + LIMITS.provoked_bytes_max);
    }

    fn note(&mut self, event: Event, input: &[u8]) {
        match event {
            Event::Data { stream, bytes, end } => {
                self.seen.push((format!("data {}", stream.id), input[bytes.clone()].to_vec()));
                if end {
                    self.seen.push((format!("end {}", stream.id), Vec::new()));
                }
                // Some are never taken.
                if stream.id % 8 != 7 {
                    self.connection.consumed(stream, bytes.len());
                }
                return;
            }
            Event::Request { stream, end } => {
                forward_request(&self.heads, end);
                let _ = self.connection.send_local_response(stream, 200, &[], "text/plain", b"ok");
            }
            Event::Rejected { stream, reject, .. } => {
                let _ = self.connection.send_local_response(stream, reject.status, &[], "text/plain", b"no");
                self.connection.reset(stream, ErrorCode::NO_ERROR);
            }
            Event::Response { end, .. } => forward_response(&self.heads, end),
            _ => {}
        }
        self.seen.push((format!("{event:?}"), self.heads.bytes().to_vec()));
    }

    /// Pieces of one body are put together.
    fn forget_cuts(&mut self) {
        let mut joined: Vec<(String, Vec<u8>)> = Vec::new();
        for (what, bytes) in self.seen.drain(..) {
            match joined.last_mut() {
                Some((last, all)) if *last == what && what.starts_with("data") => all.extend(bytes),
                _ => joined.push((what, bytes)),
            }
        }
        // A frame without bytes ends a body with or without a piece before.
        joined.retain(|(what, bytes)| !what.starts_with("data") || !bytes.is_empty());
        self.seen = joined;
    }
}

/// What one engine takes the other takes too, and reads the same: nothing can be smuggled from one to the other.
fn forward_request(heads: &Heads, end: bool) {
    let (head, bytes) = (&heads.request, heads.bytes());
    let mut lines = Vec::new();
    // Of RFC 8441: becomes an upgrade, which is not for this engine to say.
    if head.protocol.is_none() {
        h1::encode_request(head, bytes, &RequestEdits::default(), &mut lines);
        let Some(again) = parse(&lines) else {
            panic!("refused by HTTP/1.1: {}", String::from_utf8_lossy(&lines));
        };
        assert_eq!(again.method_name.of(&lines), head.method_name.of(bytes));
        assert_eq!(again.authority.of(&lines), head.authority.of(bytes));
        assert_eq!(again.path.of(&lines), head.path.of(bytes));
        assert_eq!(again.framing, head.framing);
        again_over_h2(&again, &lines, end, head, bytes);
    }
}

/// Back again, the peer sees the head that came first.
fn again_over_h2(again: &RequestHead, lines: &[u8], end: bool, head: &RequestHead, bytes: &[u8]) {
    let mut client = Connection::client(Limits::DEFAULT);
    client.send_request(again, lines, &RequestEdits::default(), false, end).expect("free");
    let mut server = Connection::server(Limits::DEFAULT);
    let (mut heads, mut at) = (Heads::default(), 0);
    loop {
        match server.next(client.output(), &mut at, &mut heads) {
            Ok(Event::Settings) => {}
            Ok(Event::Request { .. }) => break,
            // A body that was declared and never comes is a mistake that only the end of the stream shows.
            other => panic!("not taken back: {other:?}"),
        }
    }
    let (got, got_bytes) = (&heads.request, heads.bytes());
    assert_eq!(got.method_name.of(got_bytes), head.method_name.of(bytes));
    assert_eq!(got.path.of(got_bytes), head.path.of(bytes));
    assert_eq!(got.authority.of(got_bytes), head.authority.of(bytes));
    assert_eq!(got.framing, head.framing);
    let fields = |head: &RequestHead, bytes: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
        let passed = head.fields.iter().filter(|field| field.kind == FieldKind::EndToEnd);
        passed.map(|field| (field.name.of(bytes).to_vec(), field.value.of(bytes).to_vec())).collect()
    };
    assert_eq!(fields(got, got_bytes), fields(head, bytes));
}

fn forward_response(heads: &Heads, end: bool) {
    let (head, bytes) = (&heads.response, heads.bytes());
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut exchange = parse(request).expect("well-formed").exchange(false);
    let mut lines = Vec::new();
    h1::encode_response(head, bytes, &exchange, &ResponseEdits::default(), &mut lines);
    let mut again = ResponseHead::default();
    let parsed =
        h1::parse_response(&lines, &mut HeadScan::default(), &h1::Limits::DEFAULT, &mut exchange, &mut again);
    let Ok(Parsed::Complete { head_bytes }) = parsed else {
        panic!("refused by HTTP/1.1: {}", String::from_utf8_lossy(&lines));
    };
    assert_eq!((head_bytes, again.status), (lines.len(), head.status));
    assert!(end || head.framing != Framing::UntilClose);
}

/// Field blocks, each behind its length in a byte; 255 stands for a change of the table's size.
pub fn hpack(input: &[u8]) {
    let limits = ListLimits { bytes_max: 2000, fields_max: 20 };
    let (mut decoder, mut encoder, mut second) = (Decoder::default(), Encoder::new(4096), Decoder::default());
    let (mut list, mut again) = (FieldList::default(), FieldList::default());
    let mut rest = input;
    while let Some((&length, after)) = rest.split_first() {
        if length == 255 {
            let limit = 16 * after.first().copied().map_or(0, usize::from);
            decoder.set_limit(limit);
            second.set_limit(limit);
            encoder.set_limit(limit);
            rest = after;
            continue;
        }
        let (block, after) = after.split_at(after.len().min(usize::from(length)));
        rest = after;
        if decoder.decode(block, &limits, &mut list).is_err() {
            return;
        }
        assert!(list.fields.len() <= 21 && list.bytes.len() <= 2 * 2000 + 8 * 20);
        let mut coded = Vec::new();
        encoder.begin(&mut coded);
        let fields = list.fields.iter().filter(|field| field.kind != FieldKind::Crumb);
        let pairs: Vec<(&[u8], &[u8])> =
            fields.map(|field| (field.name.of(&list.bytes), field.value.of(&list.bytes))).collect();
        for (name, value) in &pairs {
            encoder.field(name, value, false, &mut coded);
        }
        let roomy = ListLimits { bytes_max: 10_000, fields_max: 100 };
        second.decode(&coded, &roomy, &mut again).expect("what was coded can be read");
        let got =
            again.fields.iter().map(|field| (field.name.of(&again.bytes), field.value.of(&again.bytes)));
        assert_eq!(got.collect::<Vec<_>>(), pairs);
        assert!(!again.is_too_large);
    }
}
