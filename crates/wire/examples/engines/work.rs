//! Small requests and responses as services send them, through the engines and nothing else.

use std::hint::black_box;

use sinew_wire::h1::{self, HeadScan, parse_request, parse_response};
use sinew_wire::h2::{Connection, Event, Heads, Limits, StreamKey};
use sinew_wire::head::{RequestEdits, RequestHead, ResponseEdits, ResponseHead};
use sinew_wire::hpack::{Decoder, Encoder, FieldList, ListLimits};

const REQUEST: &[u8] = b"GET /api/v1/orders/1234?expand=items HTTP/1.1\r\nHost: orders:8000\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101\r\nAccept: application/json, text/plain, */*\r\n\
    Accept-Encoding: gzip, deflate, br\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
    x-request-id: 5f1c5a54-0d7e-4f0e-9d4f-4b8d6a0f3b11\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 64\r\n\
    Date: Sat, 21 Nov 2026 08:00:00 GMT\r\nServer: example\r\nCache-Control: no-store\r\nVary: Accept\r\n\r\n";
const BODY: [u8; 64] = [7; 64];

fn request() -> RequestHead {
    let mut head = RequestHead::default();
    parse_request(REQUEST, &mut HeadScan::default(), &h1::Limits::DEFAULT, &mut head).expect("well-formed");
    head
}

fn response(request: &RequestHead) -> ResponseHead {
    let mut head = ResponseHead::default();
    let mut exchange = request.exchange(false);
    parse_response(RESPONSE, &mut HeadScan::default(), &h1::Limits::DEFAULT, &mut exchange, &mut head)
        .expect("well-formed");
    head
}

/// Request ids differ each time: so many are used in turn, more than an encoder remembers.
const TURNS: usize = 1024;

fn identifiers() -> Vec<String> {
    (0..TURNS).map(|i| format!("5f1c5a54-0d7e-4f0e-9d4f-{:012x}", i * 0x1234_5677)).collect()
}

pub struct H1 {
    request: RequestHead,
    response: ResponseHead,
    upstream: Vec<u8>,
    downstream: Vec<u8>,
}

impl H1 {
    pub fn new() -> Self {
        let (upstream, downstream) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
        Self { request: RequestHead::default(), response: ResponseHead::default(), upstream, downstream }
    }

    /// What a proxy has the engine do: request parsed and written anew, response too, with its body.
    pub fn request(&mut self) {
        self.upstream.clear();
        self.downstream.clear();
        let limits = &h1::Limits::DEFAULT;
        parse_request(black_box(REQUEST), &mut HeadScan::default(), limits, &mut self.request)
            .expect("well-formed");
        h1::encode_request(&self.request, REQUEST, &RequestEdits::default(), &mut self.upstream);
        let mut exchange = self.request.exchange(false);
        parse_response(
            black_box(RESPONSE),
            &mut HeadScan::default(),
            limits,
            &mut exchange,
            &mut self.response,
        )
        .expect("well-formed");
        let edits = ResponseEdits::default();
        let sent = h1::encode_response(&self.response, RESPONSE, &exchange, &edits, &mut self.downstream);
        let mut decoder = h1::BodyDecoder::new(self.response.framing, limits);
        let mut encoder = h1::BodyEncoder::new(sent.framing);
        h1::relay(&mut decoder, &mut encoder, black_box(&BODY), &mut self.downstream, 1 << 16)
            .expect("well-formed");
        black_box((&self.upstream, &self.downstream));
    }
}

/// A connection's two ends, which are what a proxy pays for a request that comes in over HTTP/2 and leaves over it.
pub struct H2 {
    client: Connection,
    server: Connection,
    heads: Heads,
    request: RequestHead,
    response: ResponseHead,
    identifiers: Vec<String>,
    open: Vec<StreamKey>,
    streams: usize,
    turn: usize,
}

impl H2 {
    pub fn new(streams: usize) -> Self {
        let request = request();
        let response = response(&request);
        let mut both = Self {
            client: Connection::client(Limits::DEFAULT),
            server: Connection::server(Limits::DEFAULT),
            heads: Heads::default(),
            request,
            response,
            identifiers: identifiers(),
            open: Vec::new(),
            streams,
            turn: 0,
        };
        (0..4).for_each(|_| both.round());
        both
    }

    /// A request and its response on each stream; one write each way.
    pub fn round(&mut self) {
        let remove: &[&[u8]] = &[b"x-request-id"];
        for _ in 0..self.streams {
            self.turn = (self.turn + 1) % TURNS;
            let append: &[(&[u8], &[u8])] = &[(b"x-request-id", self.identifiers[self.turn].as_bytes())];
            let edits = RequestEdits { remove, append, ..RequestEdits::default() };
            self.client.send_request(&self.request, REQUEST, &edits, false, true).expect("streams are free");
        }
        let edits = ResponseEdits::default();
        receive(&mut self.client, &mut self.server, &mut self.heads, |_, event| {
            if let Event::Request { stream, .. } = event {
                self.open.push(stream);
            }
        });
        for key in self.open.drain(..) {
            self.server.send_response(key, &self.response, RESPONSE, &edits, false).expect("open");
            self.server.send_data(key, &BODY, true).expect("open");
        }
        let mut answered = 0;
        receive(&mut self.server, &mut self.client, &mut self.heads, |client, event| {
            if let Event::Data { stream, bytes, end } = event {
                client.consumed(stream, bytes.len());
                answered += usize::from(end);
            }
        });
        assert_eq!(answered, self.streams);
        self.client.tick(1);
        self.server.tick(1);
    }
}

fn receive(
    from: &mut Connection,
    to: &mut Connection,
    heads: &mut Heads,
    mut on: impl FnMut(&mut Connection, Event),
) {
    let output = from.output();
    let (mut at, len) = (0, output.len());
    loop {
        match to.next(output, &mut at, heads).expect("well-formed") {
            Event::NeedMore => break,
            event => on(to, event),
        }
    }
    assert_eq!(at, len);
    from.wrote(len);
}

pub struct Hpack {
    encoder: Encoder,
    decoder: Decoder,
    list: FieldList,
    fields: Vec<(&'static [u8], &'static [u8])>,
    identifiers: Vec<String>,
    turn: usize,
    out: Vec<u8>,
    repeated: Vec<u8>,
    literals: Vec<u8>,
}

const LIST_LIMITS: ListLimits = ListLimits { bytes_max: 64 * 1024, fields_max: 100 };

impl Hpack {
    pub fn new() -> Self {
        let fields: Vec<(&[u8], &[u8])> = vec![
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"orders:8000"),
            (b":path", b"/api/v1/orders/1234?expand=items"),
            (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101"),
            (b"accept", b"application/json, text/plain, */*"),
            (b"accept-encoding", b"gzip, deflate, br"),
            (b"content-type", b"application/json"),
        ];
        let mut new = Self {
            encoder: Encoder::new(4096),
            decoder: Decoder::default(),
            list: FieldList::default(),
            fields,
            identifiers: identifiers(),
            turn: 0,
            out: Vec::with_capacity(4096),
            repeated: Vec::new(),
            literals: Vec::new(),
        };
        for _ in 0..3 {
            new.encode();
            new.decoder.decode(&new.out, &LIST_LIMITS, &mut new.list).expect("decodes");
        }
        new.repeated = new.out.clone();
        // What enters a table is Huffman-coded; decoded into a table of no size it is a literal each time.
        let mut encoder = Encoder::new(4096);
        for _ in 0..2 {
            new.literals.clear();
            for (name, value) in &new.fields {
                encoder.field(name, value, false, &mut new.literals);
            }
        }
        new
    }

    pub fn fields(&self) -> usize {
        self.fields.len() + 1
    }

    pub fn block(&self) -> usize {
        self.repeated.len()
    }

    pub fn encode(&mut self) {
        self.out.clear();
        self.encoder.begin(&mut self.out);
        for (name, value) in black_box(&self.fields) {
            self.encoder.field(name, value, false, &mut self.out);
        }
        self.turn = (self.turn + 1) % TURNS;
        self.encoder.field(b"x-request-id", self.identifiers[self.turn].as_bytes(), false, &mut self.out);
        black_box(&self.out);
    }

    pub fn decode(&mut self) {
        self.decoder.decode(black_box(&self.repeated), &LIST_LIMITS, &mut self.list).expect("decodes");
        black_box(&self.list);
    }

    pub fn encode_anew(&mut self) {
        self.encoder = Encoder::new(4096);
        self.encode();
    }

    pub fn decode_literals(&mut self) {
        let mut decoder = Decoder::default();
        decoder.decode(black_box(&self.literals), &LIST_LIMITS, &mut self.list).expect("decodes");
        black_box(&self.list);
    }
}
