use super::{Detection, HTTP2_PREFACE, METHODS, detect};

/// The answer for `bytes`, and that every shorter prefix either says the same or asks for more.
fn check(bytes: &[u8], expect: Detection) {
    assert_eq!(detect(bytes), expect, "{:?}", bytes.escape_ascii().to_string());
    for end in 0..bytes.len() {
        let early = detect(&bytes[..end]);
        assert!(
            matches!(early, Detection::NeedMore | Detection::MayBeHttp) || early == expect,
            "{:?}: {early:?}",
            bytes[..end].escape_ascii()
        );
    }
}

#[test]
fn every_method_is_http1() {
    for method in METHODS {
        for target in ["/", "*", "http://a/", "a:80", "[::1]:80", "9.9.9.9:1"] {
            check(&[method, target.as_bytes()].concat(), Detection::Http1);
        }
    }
    check(b"\r\nGET / HTTP/1.1\r\n", Detection::Http1);
}

#[test]
fn prefixes_ask_for_more() {
    for text in ["G", "GE", "GET", "GET ", "P", "PR", "PRI", "PRI * HTTP/2.0\r\n", "\r\nPOST", "M-"] {
        check(text.as_bytes(), Detection::MayBeHttp);
    }
    for text in ["", "\r", "\r\n"] {
        check(text.as_bytes(), Detection::NeedMore);
    }
    check(b"\x16\x03\x01\x02\x00", Detection::NeedMore);
}

#[test]
fn http2_needs_its_whole_preface() {
    check(HTTP2_PREFACE, Detection::Http2);
    check(&[HTTP2_PREFACE, b"\x00\x00\x00"].concat(), Detection::Http2);
    check(b"PRI * HTTP/2.0\r\n\r\nXX", Detection::Other);
    check(b"PROPFIND /", Detection::Http1);
}

#[test]
fn tls_is_a_client_hello() {
    check(b"\x16\x03\x01\x02\x00\x01\x00", Detection::Tls);
    check(b"\x16\x03\x03\x00\xf0\x01", Detection::Tls);
    check(b"\x16\x03\x01\x02\x00\x02", Detection::Other);
    check(b"\x16\x02", Detection::Other);
    check(b"\x16\x03\x01\x50", Detection::Other);
}

#[test]
fn other_protocols_are_other() {
    for bytes in [
        &b"\x10\x10\x00\x04MQTT"[..],
        b"SSH-2.0-OpenSSH",
        b"INFO {\"server_id\"",
        b"CONNECT {\"verbose\":false}",
        b"SUB foo 1\r\n",
        b"PING\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n",
        b"EHLO mail",
        b"USER x",
        b"get / HTTP/1.1",
        b"GET\t/",
        b"GET  /",
        b"GET \r\n",
        b"GETX /",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\xff",
        b"\x80\x2e\x01",
        b"PRINT",
    ] {
        check(bytes, Detection::Other);
    }
}
