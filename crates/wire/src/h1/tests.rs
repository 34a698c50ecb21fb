//! A server's and a client's view of whole byte streams, however they are cut.

mod generated;
mod hostile;
mod speed;

use super::*;

/// What a proxy makes of a client's bytes: each request's head as it goes upstream, then `[body]` and `{trailers}`;
/// `!status` where a request is refused, `...` where more bytes are awaited.
pub(super) fn requests<'a>(parts: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> String {
    let mut buffer = Buffer::new(limits.head_bytes_max + 4096);
    let mut scan = HeadScan::default();
    let mut head = RequestHead::default();
    let mut body: Option<BodyDecoder> = None;
    let mut seen = Transcript::default();
    for part in parts {
        assert_eq!(buffer.extend(part), part.len(), "the buffer holds a head and a part");
        loop {
            if let Some(decoder) = &mut body {
                match seen.body(decoder, &mut buffer) {
                    Ok(true) => body = None,
                    Ok(false) => break,
                    Err(reject) => return seen.refused(reject),
                }
                continue;
            }
            match parse_request(buffer.data(), &mut scan, limits, &mut head) {
                Ok(Parsed::Incomplete) => break,
                Ok(Parsed::Complete { head_bytes }) => {
                    let edits = RequestEdits { upgrade: true, ..RequestEdits::default() };
                    let framing = encode_request(&head, buffer.data(), &edits, &mut seen.bytes);
                    assert_eq!(framing, head.framing);
                    buffer.consume(head_bytes);
                    seen.open();
                    body = Some(BodyDecoder::new(head.framing, limits));
                }
                Err(reject) => return seen.refused(reject),
            }
        }
        buffer.release();
    }
    if body.is_some() || !buffer.is_empty() {
        seen.bytes.extend_from_slice(b"...");
    }
    seen.text()
}

/// The same for an upstream's bytes, which answer one request and then end.
pub(super) fn response<'a>(
    request: &RequestHead,
    parts: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> String {
    let mut exchange = request.exchange(true);
    let mut buffer = Buffer::new(limits.head_bytes_max + 4096);
    let mut scan = HeadScan::default();
    let mut head = ResponseHead::default();
    let mut body: Option<BodyDecoder> = None;
    let mut seen = Transcript::default();
    let mut is_over = false;
    for part in parts {
        assert_eq!(buffer.extend(part), part.len(), "the buffer holds a head and a part");
        while !is_over {
            if let Some(decoder) = &mut body {
                match seen.body(decoder, &mut buffer) {
                    Ok(true) => is_over = true,
                    Ok(false) => break,
                    Err(reject) => return seen.refused(reject),
                }
                continue;
            }
            match parse_response(buffer.data(), &mut scan, limits, &mut exchange, &mut head) {
                Ok(Parsed::Incomplete) => break,
                Ok(Parsed::Complete { head_bytes }) => {
                    let edits = ResponseEdits::default();
                    encode_response(&head, buffer.data(), &exchange, &edits, &mut seen.bytes);
                    buffer.consume(head_bytes);
                    match head.kind {
                        ResponseKind::Interim => {}
                        ResponseKind::Tunnel => {
                            seen.bytes.extend_from_slice(b"<tunnel>");
                            is_over = true;
                        }
                        ResponseKind::Final => {
                            seen.open();
                            body = Some(BodyDecoder::new(head.framing, limits));
                        }
                    }
                }
                Err(reject) => return seen.refused(reject),
            }
        }
    }
    if !is_over {
        match body.as_mut().map(BodyDecoder::eof) {
            Some(Ok(())) => {
                seen.bytes.push(b']');
                is_over = true;
            }
            Some(Err(Truncated)) => seen.bytes.extend_from_slice(b"...cut"),
            None => seen.bytes.extend_from_slice(b"...no answer"),
        }
    }
    if upstream_reusable(&head, true, is_over, buffer.len()) {
        seen.bytes.extend_from_slice(b"<reusable>");
    }
    seen.text()
}

#[derive(Default)]
struct Transcript {
    bytes: Vec<u8>,
    in_body: bool,
}

impl Transcript {
    fn open(&mut self) {
        self.bytes.push(b'[');
        self.in_body = true;
    }

    /// Whether the body is over.
    fn body(&mut self, decoder: &mut BodyDecoder, buffer: &mut Buffer) -> Result<bool, Reject> {
        let mut at = 0;
        let is_over = loop {
            match decoder.next(buffer.data(), &mut at)? {
                BodyEvent::Data(range) => self.bytes.extend_from_slice(&buffer.data()[range]),
                BodyEvent::NeedMore => break false,
                BodyEvent::End => break true,
            }
        };
        buffer.consume(at);
        if is_over {
            self.in_body = false;
            self.bytes.push(b']');
            for (name, value) in decoder.trailers() {
                self.bytes.extend_from_slice(&[b"{", name, b"=", value, b"}"].concat());
            }
        }
        Ok(is_over)
    }

    fn refused(mut self, reject: Reject) -> String {
        self.bytes.extend_from_slice(format!("!{}", reject.status).as_bytes());
        self.text()
    }

    fn text(self) -> String {
        self.bytes.escape_ascii().to_string().replace("\\r\\n", "|").replace("\\\"", "\"").replace("\\'", "'")
    }
}

/// `input` at once, in every two parts, and byte by byte: always `expect`. In `expect`, `|` is a line end.
pub(super) fn check_requests(input: impl AsRef<[u8]>, expect: &str) {
    let input = input.as_ref();
    check_splits(input, expect, |parts| requests(parts.iter().copied(), &Limits::DEFAULT));
}

fn check_splits(input: &[u8], expect: &str, run: impl Fn(&[&[u8]]) -> String) {
    assert_eq!(run(&[input]), expect, "{}", input.escape_ascii());
    for at in 1..input.len() {
        assert_eq!(run(&[&input[..at], &input[at..]]), expect, "{} cut at {at}", input.escape_ascii());
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(run(&bytes), expect, "{} byte by byte", input.escape_ascii());
}

/// The same for the answer to `request`.
pub(super) fn check_response(request: &str, input: impl AsRef<[u8]>, expect: &str) {
    let head = request_head(request);
    check_splits(input.as_ref(), expect, |parts| response(&head, parts.iter().copied(), &Limits::DEFAULT));
}

pub(super) fn request_head(text: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let parsed = parse_request(text.as_bytes(), &mut HeadScan::default(), &Limits::DEFAULT, &mut head);
    assert!(matches!(parsed, Ok(Parsed::Complete { .. })), "{text}: {parsed:?}");
    head
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const GET10: &str = "GET / HTTP/1.0\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n";
const CONNECT: &str = "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

#[test]
fn plain_requests() {
    check_requests("", "");
    check_requests("GET", "...");
    check_requests("GET / HTTP/1.1\r\nHost: a.b:80\r\n\r\n", "GET / HTTP/1.1|host: a.b:80||[]");
    check_requests("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1|host: a||[]");
    check_requests(
        "DELETE /x?y=1 HTTP/1.1\r\nX-One: 1 \r\nhost:\t a \r\nX-Two:\r\nX-Three:   \r\n\r\n",
        "DELETE /x?y=1 HTTP/1.1|host: a|X-One: 1 |X-Two:|X-Three:   ||[]",
    );
    check_requests("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1|host: ||[]");
    check_requests("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", "BREW /pot HTTP/1.1|host: a||[]");
    check_requests("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", "!400");
    check_requests(
        "GET / HTTP/1.1\r\nHost: a\r\nx: \u{e9}\r\n\r\n",
        r"GET / HTTP/1.1|host: a|x: \xc3\xa9||[]",
    );
}

#[test]
fn bodies_and_pipelining() {
    check_requests(
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST /2 HTTP/1.1\r\nHost: a\r\n\
         Content-Length: 0\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /1 HTTP/1.1|host: a|content-length: 5||[hello]POST /2 HTTP/1.1|host: a|content-length: 0||[]\
         GET /3 HTTP/1.1|host: a||[]",
    );
    check_requests(
        "PUT /1 HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\nTrailer: x\r\n\r\n5;a=\"b\"\r\nhello\r\n\
         00A\r\n0123456789\r\n0\r\nx: 1\r\nY:  2 \r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT /1 HTTP/1.1|host: a|transfer-encoding: chunked|Trailer: x||[hello0123456789]{x=1}{Y=2}\
         GET /2 HTTP/1.1|host: a||[]",
    );
    check_requests("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell", {
        "POST / HTTP/1.1|host: a|content-length: 5||[hell..."
    });
}

#[test]
fn target_forms() {
    check_requests("GET http://a/b?c HTTP/1.1\r\nHost: A\r\n\r\n", "GET /b?c HTTP/1.1|host: a||[]");
    check_requests("GET http://a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1|host: a:80||[]");
    check_requests("GET HTTPS://a?q HTTP/1.1\r\nHost: a:443\r\n\r\n", "GET /?q HTTP/1.1|host: a||[]");
    check_requests("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1|host: a||[]");
    check_requests("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1|host: a||[]");
    check_requests("GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", "GET / HTTP/1.1|host: [::1]:8000||[]");
    check_requests("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "CONNECT a:443 HTTP/1.1|host: a:443||[]");
    for target in ["*", "a", "a/b", "/a#b", "ftp://a/", "http://", "http:///a", "http://u@a/", "//\x7f"] {
        check_requests(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), "!400");
    }
    for target in ["/", "a", "a:", "http://a:1/", "u@a:1", "[::1:1", "a:b:1", ":1"] {
        check_requests(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"), "!400");
    }
}

#[test]
fn what_is_of_one_connection_stays_there() {
    check_requests(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nx-mine: 1\r\n\
         TE: gzip\r\nUpgrade: foo\r\nTrailer: x\r\nx-stays: 1\r\nConnection: x-other\r\nX-OTHER: 2\r\nlast: 1\r\n\r\n",
        "GET / HTTP/1.1|host: a|x-stays: 1|last: 1||[]",
    );
    check_requests(
        "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=1, Trailers\r\nConnection: TE\r\n\r\n",
        "GET / HTTP/1.1|host: a|connection: te|te: trailers||[]",
    );
    check_requests(UPGRADE, "GET / HTTP/1.1|host: a|connection: upgrade|upgrade: websocket||[]");
    let h2c = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
    check_requests(h2c, "GET / HTTP/1.1|host: a||[]");
    // A listed field that frames or routes is the engine's, not the connection's.
    check_requests(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1|host: a|content-length: 1||[x]",
    );
}

#[test]
fn expectations() {
    let body = |expect: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: {expect}\r\nContent-Length: 1\r\n\r\nx")
    };
    check_requests(
        body("100-Continue"),
        "POST / HTTP/1.1|host: a|content-length: 1|Expect: 100-Continue||[x]",
    );
    check_requests(body("tea"), "!417");
    check_requests(
        "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1|host: a|content-length: 1||[x]",
    );
}

#[test]
fn plain_responses() {
    check_response(GET, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\n\r\nhi", {
        "HTTP/1.1 200 OK|content-length: 2|X: 1||[hi]<reusable>"
    });
    check_response(
        GET,
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 |content-length: 0||[]<reusable>",
    );
    check_response(GET, "HTTP/1.1 404 Not \u{b5} F\r\nContent-Length: 0\r\n\r\n", {
        "HTTP/1.1 404 |content-length: 0||[]<reusable>"
    });
    check_response(GET, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content||[]<reusable>");
    check_response(GET, "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 204 No||[]<reusable>");
    check_response(GET, "HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n", {
        "HTTP/1.1 304 N|content-length: 5||[]<reusable>"
    });
    check_response(HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", {
        "HTTP/1.1 200 OK|content-length: 5||[]<reusable>"
    });
    check_response(
        HEAD,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK||[]<reusable>",
    );
}

#[test]
fn response_bodies() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: 1\r\n\r\n";
    check_response(GET, chunked, "HTTP/1.1 200 OK|transfer-encoding: chunked||[abc]{t=1}<reusable>");
    check_response(GET10, chunked, "HTTP/1.1 200 OK|connection: close||[abc]{t=1}<reusable>");
    check_response(GET, "HTTP/1.1 200 OK\r\n\r\nabc", "HTTP/1.1 200 OK|transfer-encoding: chunked||[abc]");
    check_response(GET10, "HTTP/1.0 200 OK\r\n\r\nabc", "HTTP/1.1 200 OK|connection: close||[abc]");
    check_response(GET, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", {
        "HTTP/1.1 200 OK|content-length: 4||[abc...cut"
    });
    check_response(GET, &chunked[..chunked.len() - 2], {
        "HTTP/1.1 200 OK|transfer-encoding: chunked||[abc...cut"
    });
    check_response(GET, "HTTP/1.1 200 OK\r\nConte", "...no answer");
}

#[test]
fn persistence() {
    let ok = |version: &str, connection: &str| {
        format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\nConnection: {connection}\r\n\r\n")
    };
    check_response(GET, ok("1.1", "close"), "HTTP/1.1 200 OK|content-length: 0||[]");
    check_response(GET, ok("1.1", "x, CLOSE"), "HTTP/1.1 200 OK|content-length: 0||[]");
    check_response(GET, ok("1.0", ""), "HTTP/1.1 200 OK|content-length: 0||[]");
    check_response(GET, ok("1.0", "keep-alive"), "HTTP/1.1 200 OK|content-length: 0||[]<reusable>");
    check_response("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", ok("1.1", ""), {
        "HTTP/1.1 200 OK|content-length: 0|connection: close||[]<reusable>"
    });
    check_response("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", ok("1.1", ""), {
        "HTTP/1.1 200 OK|content-length: 0|connection: keep-alive||[]<reusable>"
    });
}

#[test]
fn interim_responses_and_tunnels() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    check_response(GET, interim, {
        "HTTP/1.1 100 Continue||HTTP/1.1 103 Hints|Link: x||HTTP/1.1 200 OK|content-length: 0||[]<reusable>"
    });
    check_response(GET10, interim, "HTTP/1.1 200 OK|content-length: 0|connection: close||[]<reusable>");
    let switch = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nsec: 1\r\n\r\nRAW";
    check_response(UPGRADE, switch, {
        "HTTP/1.1 101 Switching|connection: upgrade|upgrade: websocket|sec: 1||<tunnel>"
    });
    check_response(GET, switch, "!400");
    check_response(UPGRADE, "HTTP/1.1 101 Switching\r\n\r\n", "!400");
    check_response(UPGRADE, "HTTP/1.1 403 No\r\nContent-Length: 1\r\n\r\nx", {
        "HTTP/1.1 403 No|content-length: 1||[x]<reusable>"
    });
    check_response(CONNECT, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nRAW", "HTTP/1.1 200 OK||<tunnel>");
    check_response(CONNECT, "HTTP/1.1 502 No\r\nContent-Length: 1\r\n\r\nx", {
        "HTTP/1.1 502 No|content-length: 1||[x]<reusable>"
    });
}

#[test]
fn ids_count_only_when_there_is_one() {
    let head = |fields: &str| request_head(&format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
    let one = head("X-Request-ID: 1\r\nTraceparent: 2\r\n");
    assert!(one.request_id.is_some() && one.traceparent.is_some());
    let two = head("x-request-id: 1\r\ntraceparent: 2\r\nx-request-id: 1\r\ntraceparent: 2\r\n");
    assert!(two.request_id.is_none() && two.traceparent.is_none());
}

#[test]
fn a_body_passes_unframed_only_from_length_to_the_same_length() {
    let limits = Limits::default();
    let left = |from, to| unframed_left(&BodyDecoder::new(from, &limits), &BodyEncoder::new(to));
    assert_eq!(left(Framing::Length(9), Framing::Length(9)), Some(9));
    for (from, to) in [
        (Framing::Length(9), Framing::Length(8)),
        (Framing::Length(9), Framing::Chunked),
        (Framing::Chunked, Framing::Chunked),
        (Framing::UntilClose, Framing::UntilClose),
        (Framing::Length(0), Framing::Length(0)),
        (Framing::None, Framing::None),
    ] {
        assert_eq!(left(from, to), None, "{from:?} to {to:?}");
    }
    let mut decoder = BodyDecoder::new(Framing::Length(9), &limits);
    let mut encoder = BodyEncoder::new(Framing::Length(9));
    assert!(!unframed_passed(&mut decoder, &mut encoder, 4));
    let mut out = Vec::new();
    let relayed = relay(&mut decoder, &mut encoder, b"12345GET /", &mut out, 100).unwrap();
    assert_eq!((relayed.consumed, relayed.ended), (5, true), "the two ways of passing count together");
    let mut decoder = BodyDecoder::new(Framing::Length(2), &limits);
    let mut encoder = BodyEncoder::new(Framing::Length(2));
    assert!(unframed_passed(&mut decoder, &mut encoder, 2) && decoder.is_done());
}
