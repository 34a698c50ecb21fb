//! Input made to be misread. `HOSTILE.md` next to this crate's manifest says which line of the list each test holds.

use super::*;

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

const CHUNKED_HEAD: &str = "POST / HTTP/1.1|host: a|transfer-encoding: chunked||[";

#[test]
fn content_length_with_transfer_encoding() {
    check_requests(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "!400");
    check_requests(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), "!400");
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check_response(GET, both, "!400");
}

#[test]
fn differing_or_repeated_content_length() {
    for fields in ["Content-Length: 1\r\nContent-Length: 2\r\n", "Content-Length: 1\r\nContent-Length: 1\r\n"]
    {
        check_requests(post(fields, "x"), "!400");
        check_response(GET, format!("HTTP/1.1 200 OK\r\n{fields}\r\nx"), "!400");
    }
    check_requests(post("Content-Length: 1, 1\r\n", "x"), "!400");
}

#[test]
fn malformed_content_length() {
    for value in ["+1", "-1", "0x1", "1_0", "", " ", "1 0", "1.0", "1e1", "\u{ff11}", "0xA", "1;", "\"1\""] {
        check_requests(post(&format!("Content-Length: {value}\r\n"), "x"), "!400");
        check_response(GET, format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\nx"), "!400");
    }
    for value in ["9223372036854775808", "18446744073709551616", "99999999999999999999999999999999"] {
        check_requests(post(&format!("Content-Length: {value}\r\n"), "x"), "!400");
    }
    check_requests(post("Content-Length: 9223372036854775807\r\n", "x"), {
        "POST / HTTP/1.1|host: a|content-length: 9223372036854775807||[x..."
    });
    check_requests(post("Content-Length: 0001\r\n", "x"), "POST / HTTP/1.1|host: a|content-length: 1||[x]");
}

#[test]
fn transfer_encoding_other_than_chunked() {
    for value in [
        "gzip",
        "chunked, gzip",
        "gzip, chunked",
        "chunked, chunked",
        "identity",
        "",
        "xchunked",
        "chunked;a=b",
        "chunked,",
        ",chunked",
        "\"chunked\"",
        "chun\tked",
        "chunked\u{b}",
    ] {
        let expect = if value.trim_end_matches(',').rsplit([',', ' ']).next() == Some("chunked") {
            "!501"
        } else {
            "!400"
        };
        check_requests(post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n"), expect);
    }
    for value in ["chunked", "Chunked", "CHUNKED", "\tchunked ", "chunkeD"] {
        check_requests(
            post(&format!("Transfer-Encoding:{value}\r\n"), "0\r\n\r\n"),
            &format!("{CHUNKED_HEAD}]"),
        );
    }
    check_requests(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "!400");
    check_requests(
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        "!400",
    );
}

#[test]
fn names_that_some_read_as_framing() {
    for name in ["Transfer_Encoding", "transfer_encoding", "Content_Length", "CONTENT_LENGTH"] {
        check_requests(post(&format!("{name}: 1\r\n"), ""), "!400");
        let answer = format!("HTTP/1.1 200 OK\r\n{name}: 1\r\nContent-Length: 0\r\n\r\n");
        check_response(GET, answer, "HTTP/1.1 200 OK|content-length: 0||[]<reusable>");
    }
}

#[test]
fn expectations_that_are_not_known() {
    const BODY: &str = "Content-Length: 1\r\n";
    for value in
        ["", "x", "100-continue, x", "x 100-continue", "100-continue, 100-continue", "\"100-continue\""]
    {
        check_requests(post(&format!("Expect: {value}\r\n{BODY}"), "x"), "!417");
        for (one, other) in [("100-continue", value), (value, "100-continue")] {
            check_requests(post(&format!("Expect: {one}\r\nExpect: {other}\r\n{BODY}"), "x"), "!417");
        }
    }
}

#[test]
fn transfer_encoding_in_http10() {
    check_requests("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!400");
    check_response(GET, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "!400");
}

#[test]
fn malformed_chunk_sizes() {
    for size in [
        "0x5",
        "+5",
        "-5",
        "5_0",
        "",
        " 5",
        "5 ",
        "g",
        "\t5",
        "5,",
        "8000000000000000",
        "ffffffffffffffff",
        "10000000000000000",
        "00000000000000005",
    ] {
        check_requests(chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")), &format!("{CHUNKED_HEAD}!400"));
    }
    check_requests(chunked("0000000000000005\r\nhello\r\n0\r\n\r\n"), &format!("{CHUNKED_HEAD}hello]"));
    check_requests(chunked("7fffffffffffffff\r\nhello"), &format!("{CHUNKED_HEAD}hello..."));
}

#[test]
fn malformed_chunk_line_ends() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello",
        "5\r\r\nhello",
        "5;a\nhello",
        "5;a\rb\r\nhello",
        "5;a=\"\n\"\r\nhello",
        "5;\0\r\nhello",
        "5;\x7f\r\nhello",
    ] {
        check_requests(chunked(body), &format!("{CHUNKED_HEAD}!400"));
    }
    for body in [
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r0\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\n\rX",
    ] {
        check_requests(chunked(body), &format!("{CHUNKED_HEAD}hello!400"));
    }
}

#[test]
fn malformed_trailers() {
    for trailer in
        ["x\r\n", ": 1\r\n", "x : 1\r\n", "x: 1\n", "x: \0\r\n", " x: 1\r\n", "x: 1\r\n y\r\n", "x: a\rb\r\n"]
    {
        check_requests(chunked(&format!("0\r\n{trailer}\r\n")), &format!("{CHUNKED_HEAD}!400"));
    }
}

#[test]
fn trailers_that_frame_or_route_are_not_forwarded() {
    let body = b"0\r\nx-sum: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nAuthorization: x\r\n\
        Connection: close\r\nSet-Cookie: a\r\n\r\n";
    let mut decoder = BodyDecoder::new(Framing::Chunked, &Limits::DEFAULT);
    let mut out = Vec::new();
    let relayed = relay(&mut decoder, &mut BodyEncoder::new(Framing::Chunked), body, &mut out, 1 << 16);
    assert_eq!(relayed, Ok(Relayed { consumed: body.len(), body_bytes: 0, ended: true }));
    assert_eq!(out, b"0\r\nx-sum: 1\r\n\r\n");
}

#[test]
fn what_frames_a_body_is_not_counted_as_body() {
    let body = b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n";
    let mut decoder = BodyDecoder::new(Framing::Chunked, &Limits::DEFAULT);
    let mut out = Vec::new();
    let relayed = relay(&mut decoder, &mut BodyEncoder::new(Framing::Chunked), body, &mut out, 1 << 16);
    assert_eq!(relayed, Ok(Relayed { consumed: body.len(), body_bytes: 5, ended: true }));
}

#[test]
fn chunk_overhead_is_bounded() {
    let extension = "x".repeat(2000);
    check_once(&chunked(&format!("1;{extension}\r\na\r\n0\r\n\r\n")), &format!("{CHUNKED_HEAD}!400"));
    let many = format!("1;{}\r\na\r\n", "x".repeat(500)).repeat(40);
    let expect = format!("{CHUNKED_HEAD}{}!400", "a".repeat(32));
    check_once(&chunked(&format!("{many}0\r\n\r\n")), &expect);
    check_once(&chunked(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(9000))), &format!("{CHUNKED_HEAD}!431"));
    check_once(&chunked(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(33))), &format!("{CHUNKED_HEAD}!431"));
}

fn check_once(input: &str, expect: &str) {
    assert_eq!(requests([input.as_bytes()], &Limits::DEFAULT), expect);
    assert_eq!(requests(input.as_bytes().chunks(7), &Limits::DEFAULT), expect);
}

#[test]
fn control_bytes_in_values() {
    for byte in (0..=0x1fu8).chain([0x7f]).filter(|byte| *byte != b'\t') {
        let input = [b"GET / HTTP/1.1\r\nHost: a\r\nx: a", &[byte][..], b"b\r\n\r\n"].concat();
        check_requests(input, "!400");
        let input = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx: a", &[byte][..], b"b\r\n\r\n"].concat();
        check_response(GET, input, "!400");
        let input = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        check_requests(input, "!400");
    }
}

#[test]
fn malformed_names() {
    for field in [
        ": 1",
        " : 1",
        "x : 1",
        "x\t: 1",
        "x y: 1",
        "x\0: 1",
        "x",
        "(x): 1",
        "x\u{e9}: 1",
        "\"x\": 1",
        "Content-Length : 1",
    ] {
        check_requests(get(&format!("{field}\r\n")), "!400");
        check_response(GET, format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n"), "!400");
    }
}

#[test]
fn folded_lines() {
    check_requests(get("x: 1\r\n 2\r\n"), "!400");
    check_requests(get("x: 1\r\n\t2\r\n"), "!400");
    check_requests("GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", "!400");
    check_response(GET, "HTTP/1.1 200 OK\r\nx: 1\r\n 2\r\n\r\n", "!400");
}

#[test]
fn hosts() {
    check_requests("GET / HTTP/1.1\r\n\r\n", "!400");
    check_requests("GET http://a/ HTTP/1.1\r\n\r\n", "!400");
    check_requests("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "!400");
    check_requests("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", "!400");
    for host in [
        "a b", "a,b", "a/b", "u@a", "a#", "a:80:80", "a:x", "a:123456", "[::1", "::1", "a?", "a\\b", ":80",
        "http://a",
    ] {
        check_requests(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), "!400");
    }
}

#[test]
fn target_that_differs_from_host() {
    for (target, host) in [
        ("http://a/", "b"),
        ("http://a/", "a:81"),
        ("http://a:443/", "a"),
        ("https://a:80/", "a"),
        ("http://a/", ""),
    ] {
        check_requests(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"), "!400");
    }
    check_requests("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "!400");
}

#[test]
fn bare_line_feeds() {
    for input in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nx: 1\ny: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nx:\ny: 2\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        check_requests(input, "!400");
    }
    check_response(GET, "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", "!400");
    check_response(GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n", "!400");
    check_response(GET, "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "!400");
}

#[test]
fn request_lines() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /",
        "GET / HTTP/1.1x",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1",
        "/ HTTP/1.1",
        "GET / / HTTP/1.1",
        "\u{0}",
    ] {
        let text = requests([format!("{line}\r\nHost: a\r\n\r\n").as_bytes()], &Limits::DEFAULT);
        assert!(text == "!400" || (text == "!505" && line.ends_with("HTTP/1")), "{line}: {text}");
    }
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3"] {
        check_requests(format!("GET / {version}\r\nHost: a\r\n\r\n"), "!505");
    }
}

#[test]
fn heads_over_a_limit() {
    check_once(&get(&"x: y\r\n".repeat(99)), &format!("GET / HTTP/1.1|host: a|{}|[]", "x: y|".repeat(99)));
    check_once(&get(&"x: y\r\n".repeat(100)), "!431");
    check_once(&get(&format!("x: {}\r\n", "y".repeat(64 * 1024))), "!431");
    check_once(&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(16 * 1024)), "!414");
    check_once(&format!("GET /{}", "a".repeat(16 * 1024)), "!414");
    check_once(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(33)), "!501");
    check_once(&get(&format!("Connection: {}\r\n", "a,".repeat(33))), "!400");
    let limits = Limits { body_bytes_max: 4, ..Limits::DEFAULT };
    let small = |input: String| requests([input.as_bytes()], &limits);
    assert_eq!(small(post("Content-Length: 5\r\n", "hello")), "!413");
    assert_eq!(small(chunked("5\r\nhello\r\n0\r\n\r\n")), format!("{CHUNKED_HEAD}!413"));
    assert_eq!(small(chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")), format!("{CHUNKED_HEAD}he!413"));
}

#[test]
fn early_bytes_are_not_parts_of_the_message() {
    // The bytes behind an upgrade stay where they are: the engine reads one head and consumes only that.
    let mut head = RequestHead::default();
    let input = [UPGRADE.as_bytes(), b"EARLY"].concat();
    let parsed = parse_request(&input, &mut HeadScan::default(), &Limits::DEFAULT, &mut head);
    assert_eq!(parsed, Ok(Parsed::Complete { head_bytes: UPGRADE.len() }));
    assert!(head.upgrade.is_some());
    // With a body it is no upgrade at all.
    let input =
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\ncontent-length: 5\r\n\r\n";
    assert!(request_head(input).upgrade.is_none());
    check_requests("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\nhello", "!400");
}

#[test]
fn bytes_after_the_answer_keep_the_connection_out_of_the_pool() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(
        response(&request_head(GET), [answer.as_bytes()], &Limits::DEFAULT),
        "HTTP/1.1 200 OK|content-length: 2||[hi]"
    );
    let answer = "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(response(&request_head(GET), [answer.as_bytes()], &Limits::DEFAULT), "HTTP/1.1 204 No||[]");
}

#[test]
fn floods_of_interim_responses() {
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(17);
    let expect = format!("{}!400", "HTTP/1.1 100 Continue||".repeat(16));
    check_response(GET, flood, &expect);
}

#[test]
fn status_lines() {
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1  200 OK",
        "HTTP/2 200",
        "ICY 200 OK",
        "200 OK",
        "HTTP/1.1 -20 OK",
    ] {
        check_response(GET, format!("{line}\r\nContent-Length: 0\r\n\r\n"), "!400");
    }
}

/// One byte at a time costs a pass over the bytes, not a parse for each of them.
#[test]
fn a_head_in_single_bytes_is_cheap() {
    let fields = "x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(90);
    let input = get(&fields);
    let mut scan = HeadScan::default();
    let due = (1..=input.len()).filter(|&end| scan.is_due(&input.as_bytes()[..end])).count();
    assert!(due < 20, "{due} parses of {} bytes", input.len());
}

/// HTTP/2 without TLS begins with its preface, never with an upgrade (RFC 9113, 3.1).
#[test]
fn h2c_is_not_granted() {
    let fields =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    check_requests(get(fields), "GET / HTTP/1.1|host: a||[]");
    check_requests(get(&fields.replace("h2c", "x, H2C")), "GET / HTTP/1.1|host: a||[]");
}
