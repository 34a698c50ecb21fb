//! What is sent, from heads of either engine.

use super::*;

fn check_request(text: &str, edits: &RequestEdits<'_>, expect: &str) {
    let (head, bytes) = parsed_request(text);
    let mut client = End::client(Limits::DEFAULT);
    client.connection.send_request(&head, &bytes, edits, true, true).expect("streams are free");
    assert_eq!(client.sent(), format!("<1 {expect}.\n"));
}

#[test]
fn requests_of_http1() {
    let edits = RequestEdits::default();
    check_request(
        "GET /a?b HTTP/1.1|Host: x:1|X-Upper: V|Connection: x-hop, te|X-Hop: 1|Keep-Alive: 2|TE: trailers|cookie: c||",
        &edits,
        ":method: GET|:scheme: https|:authority: x:1|:path: /a?b|te: trailers|x-upper: V|cookie: c|",
    );
    check_request(
        "DELETE http://x?q HTTP/1.1|Host: x|Transfer-Encoding: chunked|Expect: 100-continue||",
        &edits,
        ":method: DELETE|:scheme: https|:authority: x|:path: /?q|expect: 100-continue|",
    );
    check_request(
        "OPTIONS * HTTP/1.1|Host: x||",
        &edits,
        ":method: OPTIONS|:scheme: https|:authority: x|:path: *|",
    );
    check_request("CONNECT x:1 HTTP/1.1|Host: x:1||", &edits, ":method: CONNECT|:authority: x:1|");
    let long = "X".repeat(100);
    check_request(
        &format!("GET / HTTP/1.1|Host: x|{long}: y||"),
        &RequestEdits {
            host: Some(b"z"),
            path: Some(b"/new"),
            append: &[(b"X-Own", b"1"), (b"bad name", b"1"), (b"bad", b"\n")],
            ..edits
        },
        &format!(
            ":method: GET|:scheme: https|:authority: z|:path: /new|{}: y|x-own: 1|",
            long.to_lowercase()
        ),
    );
}

#[test]
fn responses_of_http1() {
    let check = |method: &str, text: &str, end: bool, expect: &str| {
        let mut server = End::server(Limits::DEFAULT);
        server.receive(&head(1, true, &[(":method", method), GET[1], GET[2], GET[3]]));
        let (request, _) = parsed_request(&format!("{method} / HTTP/1.1|Host: a||"));
        let (head, bytes) = parsed_response(&request, text);
        let edits = ResponseEdits { remove: &[b"server"], ..ResponseEdits::default() };
        let key = StreamKey { id: 1, slot: 0 };
        server.connection.send_response(key, &head, &bytes, &edits, end).expect("open");
        assert_eq!(server.sent(), format!("<1 {expect}\n"));
    };
    check(
        "GET",
        "HTTP/1.1 200 OK|Server: s|Content-Length: 3|Connection: close||",
        false,
        ":status: 200|content-length: 3|",
    );
    check("HEAD", "HTTP/1.1 200 OK|Content-Length: 3||", true, ":status: 200|content-length: 3|.");
    check(
        "GET",
        "HTTP/1.1 304 No|Content-Length: 3|ETag: e||",
        true,
        ":status: 304|content-length: 3|etag: e|.",
    );
    check("GET", "HTTP/1.1 204 No|Host: h||", true, ":status: 204|host: h|.");
    check(
        "GET",
        "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Set-Cookie: a|Set-Cookie: b||",
        false,
        ":status: 200|set-cookie: a|set-cookie: b|",
    );
    check("GET", "HTTP/1.1 103 Early|Link: l||", true, ":status: 103|link: l|");
    check("GET", "HTTP/1.1 599 Own||", true, ":status: 599|.");
}

#[test]
fn large_heads_are_continued() {
    let value = "v".repeat(20_000);
    let (request, bytes) = parsed_request(&format!("GET / HTTP/1.1|Host: x|One: {value}|Two: {value}||"));
    let mut client = End::client(Limits::DEFAULT);
    client.connection.send_request(&request, &bytes, &RequestEdits::default(), false, true).expect("free");
    let output = client.connection.output().to_vec();
    let kinds: Vec<(u8, u8)> = {
        let mut rest = &output[..];
        let mut kinds = Vec::new();
        while let Some(header) = FrameHeader::parse(rest) {
            kinds.push((header.kind, header.flags));
            rest = &rest[HEADER_BYTES + header.len..];
        }
        kinds
    };
    assert_eq!(
        kinds,
        [(kind::HEADERS, flag::END_STREAM), (kind::CONTINUATION, 0), (kind::CONTINUATION, flag::END_HEADERS)]
    );
    let mut server = End::server(Limits::DEFAULT);
    assert_eq!(server.receive(&output), format!("1 GET x/ one={value} two={value}.\n"));
}

#[test]
fn bodies_are_as_long_as_their_heads_say() {
    let mut client = End::client(Limits::DEFAULT);
    let text = "POST / HTTP/1.1|Host: a|Content-Length: 5||";
    let key = client.request(text, false);
    assert_eq!(client.connection.send_data(key, b"toolong", true), Err(SendError::Mismatch));
    assert_eq!(client.connection.send_data(key, b"abc", false), Ok(3));
    assert_eq!(client.connection.send_data(key, b"d", true), Err(SendError::Mismatch));
    assert_eq!(client.connection.send_trailers(key, std::iter::empty()), Err(SendError::Mismatch));
    assert_eq!(client.connection.send_data(key, b"de", true), Ok(2));
    assert_eq!(client.connection.send_data(key, b"", true), Err(SendError::Gone));
    client.connection.reset(key, ErrorCode::CANCEL);
    assert_eq!(client.connection.send_data(key, b"", true), Err(SendError::Gone));
    client.connection.reset(key, ErrorCode::CANCEL);
    client.sent();
    assert_eq!(client.connection.open_streams(), 0);
}

#[test]
fn trailers() {
    let mut client = End::client(Limits::DEFAULT);
    let first = client.request("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||", false);
    let second = client.request("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||", false);
    client.sent();
    let trailers: [(&[u8], &[u8]); 2] = [(b"Grpc-Status", b"0"), (b"content-length", b"9")];
    client.connection.send_trailers(first, trailers.into_iter()).expect("open");
    client.connection.send_trailers(second, trailers.into_iter().skip(1)).expect("open");
    assert_eq!(client.sent(), "<1 grpc-status: 0|.\n<3 [].\n");
}

#[test]
fn local_responses() {
    let mut server = End::server(Limits::DEFAULT);
    let head_only = [(":method", "HEAD"), GET[1], GET[2], GET[3]];
    server.receive(&[head(1, true, &GET), head(3, true, &head_only), head(5, true, &GET)].concat());
    for (slot, status) in [(0, 404), (1, 404), (2, 204)] {
        let key = StreamKey { id: 2 * slot + 1, slot };
        let append: &[(&[u8], &[u8])] = &[(b"retry-after", b"1")];
        assert_eq!(
            server.connection.send_local_response(key, status, append, "text/plain", b"none\n"),
            Ok(5)
        );
        let again = server.connection.send_local_response(key, status, append, "text/plain", b"none\n");
        assert_eq!(again, Err(SendError::Gone));
    }
    let head = ":status: 404|content-length: 5|content-type: text/plain|retry-after: 1|";
    assert_eq!(
        server.sent(),
        format!("<1 {head}\n<1 [none\n].\n<3 {head}.\n<5 :status: 204|retry-after: 1|.\n")
    );
}

#[test]
fn clients_open_as_many_streams_as_they_may() {
    let mut client = End::client(Limits::DEFAULT);
    client.receive(&settings(&[(3, 2)]));
    assert_eq!(client.connection.free_streams(), 2);
    let text = "GET / HTTP/1.1|Host: a||";
    assert_eq!(client.request(text, true).id, 1);
    assert_eq!(client.request(text, true).id, 3);
    assert_eq!((client.connection.can_open(), client.connection.free_streams()), (Err(OpenError::Full), 0));
    assert_eq!(client.receive(&head(1, true, &OK)), "1 Final 200.\n");
    assert_eq!(client.request(text, true).id, 5);
    client.connection.next_id = i32::MAX as u32;
    client.receive(&head(3, true, &OK));
    assert_eq!(client.request(text, true).id, i32::MAX as u32);
    client.receive(&head(5, true, &OK));
    assert_eq!(client.connection.can_open(), Err(OpenError::Ending));
}

/// Fields that came as never-indexed go on as such, whatever their name (RFC 7541, 6.2.3).
#[test]
fn never_indexed_fields_stay_so() {
    let mut server = End::server(Limits::DEFAULT);
    let mut block = block(&GET);
    block.extend([0x10, 1, b'x', 1, b'y']);
    server.receive(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block));
    let mut client = End::client(Limits::DEFAULT);
    let edits = RequestEdits::default();
    client
        .connection
        .send_request(&server.heads.request, server.heads.bytes(), &edits, false, true)
        .expect("free");
    assert!(client.connection.output().ends_with(&[0x10, 1, b'x', 1, b'y']));
}

/// The same head forwarded from HTTP/2 to HTTP/1.1: one set of types.
#[test]
fn heads_of_http2_go_to_http1() {
    let mut server = End::server(Limits::DEFAULT);
    let fields = [("cookie", "a=1"), ("te", "trailers"), ("x-one", "1"), ("cookie", "b=2"), ("x-two", "2")];
    server.receive(&head(1, false, &with(&POST, &fields)));
    let mut out = Vec::new();
    let framing = crate::h1::encode_request(
        &server.heads.request,
        server.heads.bytes(),
        &RequestEdits::default(),
        &mut out,
    );
    assert_eq!(framing, crate::head::Framing::Chunked);
    assert_eq!(
        String::from_utf8(out).expect("text").replace("\r\n", "|"),
        "POST / HTTP/1.1|host: a|transfer-encoding: chunked|connection: te|te: trailers|x-one: 1|x-two: 2|cookie: a=1; b=2||"
    );
}
