//! What holds where a proxy translates between versions: a message that goes over HTTP/2 in between is the one that
//! HTTP/1.1 alone would have passed on, and a handshake of WebSocket stays one.
//!
//! The first byte of an input says nothing here; it is there so that the corpora of all targets look the same.

use sinew_wire::h1::{
    BodyDecoder, BodyEncoder, BodyEvent, Exchange, Field, FieldKind, Framing, HEAD_FIELDS_CEILING, HeadScan,
    Limits, Method, Parsed, RequestEdits, RequestHead, ResponseEdits, ResponseHead, ResponseKind, Version,
    encode_request, encode_response, parse_request, parse_response,
};
use sinew_wire::h2::{self, Connection, Event, Heads, StreamKey};
use sinew_wire::websocket::{self, ACCEPT_FIELD, KEY_FIELD};

const LIMITS: h2::Limits = h2::Limits {
    head_bytes_max: 1 << 20,
    head_fields_max: 1000,
    target_bytes_max: 1 << 20,
    trailer_bytes_max: 1 << 20,
    trailer_fields_max: 1000,
    block_bytes_max: 1 << 20,
    continuations_max: 1000,
    stream_window_bytes: 1 << 30,
    connection_window_bytes: 1 << 30,
    output_bytes_max: 1 << 30,
    ..h2::Limits::DEFAULT
};

/// Of what a proxy has made of a message, which may be more than it would take.
const WIDE: Limits =
    Limits { head_fields_max: HEAD_FIELDS_CEILING, head_bytes_max: usize::MAX, ..Limits::DEFAULT };

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A message as HTTP/1.1 passes it on: its start line, its fields with their names in lower case, and its body.
#[derive(Debug, Default, PartialEq)]
struct Passed {
    start: Vec<Vec<u8>>,
    fields: Fields,
    body: Vec<u8>,
    trailers: Fields,
}

/// The first request of a stream, and the first answer.
pub fn differential(input: &[u8]) {
    let Some((_, input)) = input.split_first() else { return };
    request(input);
    for method in [Method::Get, Method::Head] {
        response(input, method);
    }
}

fn request(input: &[u8]) {
    let Some((head, head_bytes)) = parsed_request(input) else { return };
    if head.method == Method::Connect || head.authority.is_empty() {
        return;
    }
    let Some((body, trailers)) = body(head.framing, &input[head_bytes..]) else { return };
    let mut between = Between::new();
    let end = !head.framing.has_body();
    let edits = RequestEdits::default();
    let key = between.client.send_request(&head, input, &edits, false, end).expect("it can be opened");
    if !end {
        send(&mut between.client, key, &body, &trailers);
    }
    let got = between.at_server();
    let bytes = got.bytes;
    let direct = passed_request(&head, input, body, trailers);
    let bridged = passed_request(&got.request.expect("it is well-formed"), &bytes, got.body, got.trailers);
    assert_eq!(bridged, direct);
}

fn response(input: &[u8], method: Method) {
    let exchange = Exchange { method, ..asked(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").exchange(false) };
    let mut head = ResponseHead::default();
    let (mut after, mut at) = (exchange, 0);
    let mut between = Between::new();
    let name: &[u8] = if method == Method::Head {
        b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n"
    } else {
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    };
    let request = asked(name);
    between
        .client
        .send_request(&request, name, &RequestEdits::default(), false, true)
        .expect("it can be opened");
    let key = between.at_server().stream.expect("a request");
    loop {
        let mut scan = HeadScan::default();
        let parsed = parse_response(&input[at..], &mut scan, &Limits::DEFAULT, &mut after, &mut head);
        let Ok(Parsed::Complete { head_bytes }) = parsed else { return };
        let bytes = &input[at..at + head_bytes];
        at += head_bytes;
        let is_interim = head.kind == ResponseKind::Interim;
        let Some((body, trailers)) =
            (if is_interim { Some(Default::default()) } else { body(head.framing, &input[at..]) })
        else {
            return;
        };
        let end = !is_interim && !head.framing.has_body();
        between.server.send_response(key, &head, bytes, &ResponseEdits::default(), end).expect("its turn");
        if !is_interim && !end {
            send(&mut between.server, key, &body, &trailers);
        }
        let got = between.at_client();
        let direct = passed_response(&head, bytes, &exchange, body, trailers);
        let head = got.response.expect("it is well-formed");
        assert_eq!(passed_response(&head, &got.bytes, &exchange, got.body, got.trailers), direct);
        if !is_interim {
            return;
        }
    }
}

/// A request with `Upgrade: websocket`, over HTTP/2 to an application of HTTP/1.1, and the answer behind it back.
pub fn handshake(input: &[u8]) {
    let Some((_, input)) = input.split_first() else { return };
    let Some((head, head_bytes)) = parsed_request(input) else { return };
    let is_websocket = head.upgrade.is_some_and(|upgrade| websocket::is_websocket(upgrade.of(input)));
    let key = head.value(input, KEY_FIELD).filter(|key| websocket::is_key(key));
    let (Some(key), true) = (key.and_then(|key| key.try_into().ok()), is_websocket) else { return };
    if head.authority.is_empty() || head.method == Method::Connect {
        return;
    }
    let mut between = Between::new();
    let edits = RequestEdits { upgrade: true, ..RequestEdits::default() };
    between.client.send_request(&head, input, &edits, false, false).expect("it can be opened");
    let got = between.at_server();
    let (stream, connect) = (got.stream.expect("a request"), got.request.expect("it is well-formed"));
    assert_eq!(
        (connect.method, connect.protocol.map(|name| name.of(&got.bytes))),
        (Method::Connect, Some(&b"websocket"[..]))
    );
    let own = websocket::key(&[7; 16]);
    let append = [(KEY_FIELD, &own[..])];
    let mut out = Vec::new();
    encode_request(&connect, &got.bytes, &RequestEdits { append: &append, ..edits }, &mut out);
    let (again, _) = parsed_request(&out).expect("what was encoded can be parsed");
    assert_eq!(
        (again.method, again.upgrade.map(|name| name.of(&out))),
        (Method::Get, Some(&b"websocket"[..]))
    );
    assert_eq!(again.authority.of(&out), head.authority.of(input));
    let keys = again.fields.iter().filter(|field| field.kind == FieldKind::WebSocketKey);
    assert_eq!(keys.map(|field| field.value.of(&out)).collect::<Vec<_>>(), [&own[..]]);

    let (mut answer, answer_bytes) = (ResponseHead::default(), &input[head_bytes..]);
    let mut exchange = connect.exchange(true);
    let parsed =
        parse_response(answer_bytes, &mut HeadScan::default(), &Limits::DEFAULT, &mut exchange, &mut answer);
    if !matches!(parsed, Ok(Parsed::Complete { .. })) || answer.kind != ResponseKind::Tunnel {
        return;
    }
    between
        .server
        .send_response(stream, &answer, answer_bytes, &ResponseEdits::default(), false)
        .expect("its turn");
    let got = between.at_client();
    let granted = got.response.expect("it is well-formed");
    assert_eq!((granted.status, granted.kind), (200, ResponseKind::Tunnel));
    let accept = websocket::accept(&key);
    let append = [(ACCEPT_FIELD, &accept[..])];
    let mut out = Vec::new();
    let edits = ResponseEdits { append: &append, ..ResponseEdits::default() };
    let mut exchange = head.exchange(true);
    encode_response(&granted, &got.bytes, &exchange, &edits, &mut out);
    let mut last = ResponseHead::default();
    parse_response(&out, &mut HeadScan::default(), &WIDE, &mut exchange, &mut last)
        .expect("what was encoded can be parsed");
    assert_eq!((last.status, last.kind), (101, ResponseKind::Tunnel));
    let accepts = last.fields.iter().filter(|field| field.kind == FieldKind::WebSocketAccept);
    assert_eq!(accepts.map(|field| field.value.of(&out)).collect::<Vec<_>>(), [&accept[..]]);
}

fn asked(text: &[u8]) -> RequestHead {
    parsed_request(text).expect("well-formed").0
}

fn parsed_request(input: &[u8]) -> Option<(RequestHead, usize)> {
    parsed_within(input, &Limits::DEFAULT)
}

fn parsed_again(encoded: &[u8]) -> (RequestHead, usize) {
    parsed_within(encoded, &WIDE).expect("what was encoded can be parsed")
}

fn parsed_within(input: &[u8], limits: &Limits) -> Option<(RequestHead, usize)> {
    let mut head = RequestHead::default();
    match parse_request(input, &mut HeadScan::default(), limits, &mut head) {
        Ok(Parsed::Complete { head_bytes }) => Some((head, head_bytes)),
        _ => None,
    }
}

fn body(framing: Framing, input: &[u8]) -> Option<(Vec<u8>, Fields)> {
    let mut decoder = BodyDecoder::new(framing, &Limits::DEFAULT);
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        match decoder.next(input, &mut at).ok()? {
            BodyEvent::Data(range) => body.extend_from_slice(&input[range]),
            BodyEvent::NeedMore => break,
            BodyEvent::End => return Some((body, fields(decoder.trailers()))),
        }
    }
    decoder.eof().ok()?;
    Some((body, Vec::new()))
}

/// With names in lower case.
fn fields<'a>(all: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Fields {
    all.map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect()
}

fn send(engine: &mut Connection, key: StreamKey, body: &[u8], trailers: &Fields) {
    assert_eq!(engine.send_data(key, body, false), Ok(body.len()));
    let trailers = trailers.iter().map(|(name, value)| (&name[..], &value[..]));
    engine.send_trailers(key, trailers).expect("its turn");
}

fn passed_request(head: &RequestHead, bytes: &[u8], body: Vec<u8>, trailers: Fields) -> Passed {
    let mut out = Vec::new();
    let framing = encode_request(head, bytes, &RequestEdits::default(), &mut out);
    let (again, _) = parsed_again(&out);
    assert_eq!(again.framing, framing);
    let start = vec![again.method_name.of(&out).to_vec(), again.path.of(&out).to_vec()];
    passed(start, &again.fields, &out, body, trailers)
}

fn passed_response(
    head: &ResponseHead,
    bytes: &[u8],
    exchange: &Exchange,
    body: Vec<u8>,
    trailers: Fields,
) -> Passed {
    let mut out = Vec::new();
    encode_response(head, bytes, exchange, &ResponseEdits::default(), &mut out);
    let (mut exchange, mut again) = (*exchange, ResponseHead::default());
    parse_response(&out, &mut HeadScan::default(), &WIDE, &mut exchange, &mut again)
        .expect("what was encoded can be parsed");
    assert_eq!(again.version, Version::Http11);
    passed(vec![again.status.to_string().into()], &again.fields, &out, body, trailers)
}

/// Cookies are one field, as HTTP/2 makes them one; what is of HTTP/1.1 alone is left out.
fn passed(start: Vec<Vec<u8>>, all: &[Field], bytes: &[u8], body: Vec<u8>, trailers: Fields) -> Passed {
    let is_of_both =
        |field: &&Field| !matches!(field.kind, FieldKind::WebSocketKey | FieldKind::WebSocketAccept);
    let mut fields =
        fields(all.iter().filter(is_of_both).map(|field| (field.name.of(bytes), field.value.of(bytes))));
    let cookies: Vec<_> =
        fields.iter().filter(|(name, _)| name == b"cookie").map(|(_, value)| value.clone()).collect();
    if cookies.len() > 1 {
        fields.retain(|(name, _)| name != b"cookie");
        let filled: Vec<_> = cookies.into_iter().filter(|value| !value.is_empty()).collect();
        fields.push((b"cookie".to_vec(), filled.join(&b"; "[..])));
    }
    Passed { start, fields, body, trailers: passed_trailers(&trailers) }
}

/// Without those that must not come behind a body.
fn passed_trailers(trailers: &Fields) -> Fields {
    let mut out = Vec::new();
    let trailers = trailers.iter().map(|(name, value)| (&name[..], &value[..]));
    BodyEncoder::new(Framing::Chunked).end(trailers, &mut out).expect("nothing was announced");
    body(Framing::Chunked, &out).expect("what was encoded can be decoded").1
}

/// A connection of HTTP/2 between two proxies.
struct Between {
    client: Connection,
    server: Connection,
    heads: Heads,
}

/// What has come on it.
#[derive(Default)]
struct Got {
    stream: Option<StreamKey>,
    request: Option<RequestHead>,
    response: Option<ResponseHead>,
    /// Of the head.
    bytes: Vec<u8>,
    body: Vec<u8>,
    trailers: Fields,
}

impl Between {
    fn new() -> Self {
        let mut between = Self {
            client: Connection::client(LIMITS),
            server: Connection::server(LIMITS),
            heads: Heads::default(),
        };
        between.at_server();
        between.at_client();
        between.at_server();
        between
    }

    fn at_server(&mut self) -> Got {
        moved(&mut self.client, &mut self.server, &mut self.heads)
    }

    fn at_client(&mut self) -> Got {
        moved(&mut self.server, &mut self.client, &mut self.heads)
    }
}

fn moved(from: &mut Connection, to: &mut Connection, heads: &mut Heads) -> Got {
    let input = from.output().to_vec();
    from.wrote(input.len());
    let (mut got, mut at) = (Got::default(), 0);
    loop {
        match to.next(&input, &mut at, heads).expect("our own bytes are well-formed") {
            Event::NeedMore => return got,
            Event::Request { stream, .. } => {
                got.stream = Some(stream);
                got.bytes = heads.bytes().to_vec();
                got.request = Some(std::mem::take(&mut heads.request));
            }
            Event::Response { .. } => {
                got.bytes = heads.bytes().to_vec();
                got.response = Some(std::mem::take(&mut heads.response));
            }
            Event::Data { stream, bytes, .. } => {
                got.body.extend_from_slice(&input[bytes.clone()]);
                to.consumed(stream, bytes.len());
            }
            Event::Trailers { .. } => got.trailers = fields(heads.trailers()),
            Event::Settings => {}
            other => panic!("{other:?}"),
        }
    }
}
