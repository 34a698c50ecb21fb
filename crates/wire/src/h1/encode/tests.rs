use super::super::{HeadScan, Limits, parse_request, parse_response};
use super::*;

const REQUEST: &str = "POST http://a/b?c HTTP/1.1\r\nHost: a\r\nOne: 1\r\nX-Request-Id: \x21\r\ntwo: 2\r\n\
    Content-Length: 3\r\nThree: 3\r\n\r\n";

fn head(text: &str) -> RequestHead {
    let mut head = RequestHead::default();
    parse_request(text.as_bytes(), &mut HeadScan::default(), &Limits::DEFAULT, &mut head)
        .expect("well-formed");
    head
}

fn check_request(edits: RequestEdits<'_>, expect: &str) {
    let mut out = Vec::new();
    encode_request(&head(REQUEST), REQUEST.as_bytes(), &edits, &mut out);
    assert_eq!(String::from_utf8(out).expect("text").replace("\r\n", "|"), expect);
}

#[test]
fn request_edits() {
    let all = "One: 1|X-Request-Id: !|two: 2|Three: 3|";
    check_request(RequestEdits::default(), &format!("POST /b?c HTTP/1.1|host: a|content-length: 3|{all}|"));
    check_request(
        RequestEdits { host: Some(b"b:1"), path: Some(b"/x"), ..RequestEdits::default() },
        &format!("POST /x HTTP/1.1|host: b:1|content-length: 3|{all}|"),
    );
    check_request(
        RequestEdits { close: true, upgrade: true, ..RequestEdits::default() },
        &format!("POST /b?c HTTP/1.1|host: a|content-length: 3|connection: close|{all}|"),
    );
    let append: &[(&[u8], &[u8])] = &[(b"x-request-id", b"7"), (b"bad", b"a\r\nb"), (b"b d", b"x")];
    check_request(
        RequestEdits { remove: &[b"x-request-ID", b"THREE"], append, ..RequestEdits::default() },
        "POST /b?c HTTP/1.1|host: a|content-length: 3|One: 1|two: 2|x-request-id: 7||",
    );
}

#[test]
fn response_edits() {
    let exchange = &mut head(REQUEST).exchange(false);
    let text = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\nHost: y\r\n\r\n";
    let mut head = ResponseHead::default();
    parse_response(text, &mut HeadScan::default(), &Limits::DEFAULT, exchange, &mut head)
        .expect("well-formed");
    let mut out = Vec::new();
    let append: &[(&[u8], &[u8])] = &[(b"x-new", b"1")];
    let edits = ResponseEdits { close: true, remove: &[b"server"], append };
    let sent = encode_response(&head, text, exchange, &edits, &mut out);
    assert_eq!(sent, SentResponse { framing: Framing::Length(3), keep_alive: false });
    assert_eq!(
        String::from_utf8(out).expect("text").replace("\r\n", "|"),
        "HTTP/1.1 200 OK|content-length: 3|connection: close|Host: y|x-new: 1||"
    );
}

fn check_local(status: u16, request: Option<&str>, body: &str, expect: &str, keeps_alive: bool) {
    let exchange = request.map(|request| head(request).exchange(false));
    let mut out = Vec::new();
    let edits = ResponseEdits::default();
    let kept =
        encode_local_response(status, exchange.as_ref(), &edits, "text/plain", body.as_bytes(), &mut out);
    assert_eq!(String::from_utf8(out).expect("text").replace("\r\n", "|"), expect);
    assert_eq!(kept, keeps_alive);
}

#[test]
fn local_responses() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let full = "HTTP/1.1 503 Service Unavailable|content-length: 2|content-type: text/plain|";
    check_local(503, Some(get), "no", &format!("{full}|no"), true);
    check_local(503, Some(&get.replace("GET", "HEAD")), "no", &format!("{full}|"), true);
    check_local(503, Some(&get.replace("1.1", "1.0")), "no", &format!("{full}connection: close||no"), false);
    check_local(400, None, "", "HTTP/1.1 400 Bad Request|content-length: 0|connection: close||", false);
    check_local(204, Some(get), "", "HTTP/1.1 204 No Content||", true);
}
