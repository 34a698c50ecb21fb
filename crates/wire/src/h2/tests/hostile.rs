//! Lines of `HOSTILE.md`: what must not be misread, and what must not cost more than it is worth.

use super::*;

fn check_malformed(fields: &[(&str, &str)], reason: &str) {
    check_server(
        &[head(1, true, fields), head(3, true, &GET)],
        &format!(
            "1 refused 400 {reason}
             3 GET a/.
             <1 rst PROTOCOL_ERROR"
        ),
    );
}

/// The same fields in an upstream's answer.
fn check_malformed_response(fields: &[(&str, &str)], reason: &str) {
    check_client(
        &[head(1, true, &with(&OK, fields)), head(3, true, &OK)],
        &format!(
            "1 failed 400 {reason}
             3 Final 200.
             <1 rst PROTOCOL_ERROR"
        ),
    );
}

#[test]
fn control_bytes_and_spaces_in_fields() {
    for byte in ["\0", "\r", "\n", "\x01", "\x7f"] {
        for value in [byte.to_owned(), format!("a{byte}b"), format!("a{byte}")] {
            check_malformed(&with(&GET, &[("x", &value)]), "malformed field value");
            check_malformed_response(&[("x", &value)], "malformed field value");
            for i in 0..GET.len() {
                let mut fields = GET;
                fields[i].1 = &value;
                check_malformed(&fields, "malformed field value");
            }
        }
        check_malformed(&with(&GET, &[(&format!("x{byte}"), "1")]), "malformed field name");
    }
    for value in [" a", "a ", "\ta", "a\t", " "] {
        check_malformed(&with(&GET, &[("x", value)]), "malformed field value");
    }
    for name in ["", " x", "x ", "x y", "x:", "X", "aB", "é"] {
        check_malformed(&with(&GET, &[(name, "1")]), "malformed field name");
        check_malformed_response(&[(name, "1")], "malformed field name");
    }
    check_malformed(&[("a\r\nb", "c"), GET[0], GET[1], GET[2], GET[3]], "malformed field name");
}

#[test]
fn spaces_in_pseudo_fields() {
    check_malformed(&[(":method", "GE T"), GET[1], GET[2], GET[3]], "malformed method");
    check_malformed(&[GET[0], GET[1], (":path", "/a b"), GET[3]], "malformed path");
    check_malformed(&[GET[0], GET[1], GET[2], (":authority", "a b")], "malformed authority");
    check_malformed(&[GET[0], (":scheme", "ht tp"), GET[2], GET[3]], "malformed scheme");
}

#[test]
fn paths_without_a_slash() {
    for path in ["", "x", "http://a/", "*", "?q", "//a\x20"] {
        let reason = if path.ends_with(' ') { "malformed field value" } else { "path without a slash" };
        check_malformed(&[GET[0], GET[1], (":path", path), GET[3]], reason);
    }
    check_malformed(&[GET[0], GET[1], (":path", "/a#b"), GET[3]], "malformed path");
}

#[test]
fn connection_specific_fields() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "x"),
    ] {
        check_malformed(&with(&GET, &[(name, value)]), "connection-specific field");
        check_malformed_response(&[(name, value)], "connection-specific field");
    }
    check_malformed(&with(&GET, &[("te", "gzip")]), "connection-specific field");
    check_malformed(&with(&GET, &[("te", "trailers, gzip")]), "connection-specific field");
    check_server(&[head(1, true, &with(&GET, &[("te", "trailers")]))], "1 GET a/.");
}

#[test]
fn names_that_some_read_as_framing() {
    for name in ["transfer_encoding", "content_length"] {
        check_malformed(&with(&GET, &[(name, "1")]), "field that looks like framing");
        check_client(&[head(1, true, &with(&OK, &[(name, "1")]))], "1 Final 200.");
    }
}

#[test]
fn expectations_that_are_not_known() {
    const KNOWN: (&str, &str) = ("expect", "100-continue");
    for value in ["x", "100-continue, x", ""] {
        let other = ("expect", value);
        for fields in [&[other][..], &[KNOWN, other], &[other, KNOWN]] {
            check_server(
                &[head(1, true, &with(&GET, fields))],
                "1 rejected 417 unknown expectation.
                 <1 :status: 417|content-length: 0|.",
            );
        }
    }
}

#[test]
fn pseudo_fields_out_of_place() {
    check_malformed(&with(&[("x", "1")], &GET), "pseudo-field behind a field");
    check_malformed(&with(&GET, &[("x", "1"), (":path", "/")]), "repeated pseudo-field");
    check_malformed(&with(&GET, &[(":own", "1")]), "unknown pseudo-field");
    for pair in GET {
        check_malformed(&with(&GET, &[pair]), "repeated pseudo-field");
    }
    for trailer in [(":path", "/"), (":status", "200"), (":own", "1")] {
        let reason = if trailer.0 == ":own" { "unknown pseudo-field" } else { "pseudo-field in trailers" };
        check_server(
            &[head(1, false, &POST), head(1, true, &[trailer])],
            &format!(
                "1 POST a/
                 1 failed 400 {reason}
                 <1 rst PROTOCOL_ERROR"
            ),
        );
    }
}

#[test]
fn content_length_that_differs_from_data() {
    let post = |length: &str| head(1, false, &with(&POST, &[("content-length", length)]));
    let expect = "failed 400 body differs from its declared length";
    let failed = |seen: &str| format!("1 POST a/\n{seen}\n1 {expect}\n<1 rst PROTOCOL_ERROR");
    check_server(&[post("3"), data(1, true, b"ab")], &failed(""));
    check_server(&[post("3"), data(1, false, b"ab"), data(1, true, b"cd")], &failed("1 [ab]"));
    check_server(&[post("3"), data(1, false, b"ab"), data(1, true, b"")], &failed("1 [ab]"));
    check_server(&[post("0"), data(1, true, b"a")], &failed(""));
    check_server(&[post("3"), data(1, false, b"ab"), head(1, true, &[("x", "y")])], &failed("1 [ab]"));
    let declared = with(&GET, &[("content-length", "1")]);
    check_malformed(&declared, "body differs from its declared length");
    for value in ["+1", "0x1", "1_0", "", "-1", "1,1", "9223372036854775808", "99999999999999999999"] {
        check_malformed(&with(&GET, &[("content-length", value)]), "malformed content-length");
        check_malformed_response(&[("content-length", value)], "malformed content-length");
    }
    let twice = [("content-length", "0"), ("content-length", "0")];
    check_malformed(&with(&GET, &twice), "more than one content-length");
    check_malformed_response(&twice, "more than one content-length");
}

#[test]
fn authority_that_differs_from_host() {
    for host in ["b", "a:81", "aa", ""] {
        check_server(
            &[head(1, true, &with(&GET, &[("host", host)])), head(3, false, &with(&GET, &[("host", host)]))],
            "1 rejected 400 host differs from the authority.
             3 rejected 400 host differs from the authority
             <1 :status: 400|content-length: 0|.
             <3 :status: 400|content-length: 0|.
             <3 rst NO_ERROR",
        );
    }
}

#[test]
fn heads_over_a_limit() {
    let many: Vec<(&str, &str)> = std::iter::repeat_n(("x", "y"), 97).collect();
    check_server(&[head(1, true, &with(&GET, &many[..96]))], &format!("1 GET a/{}.", " x=y".repeat(96)));
    check_server(
        &[head(1, true, &with(&GET, &many)), head(3, true, &GET)],
        "1 rejected 431 head too large.
         3 GET a/.
         <1 :status: 431|content-length: 0|.",
    );
    let limits = Limits { head_bytes_max: 300, target_bytes_max: 10, body_bytes_max: 3, ..Limits::DEFAULT };
    let check = |frames: &[Vec<u8>], expect: &str| {
        check(|| End::server(limits), frames, expect);
    };
    check(
        &[head(1, true, &with(&GET, &[("x", &"y".repeat(120))]))],
        "1 rejected 431 head too large.
         <1 :status: 431|content-length: 0|.",
    );
    check(
        &[head(1, true, &[GET[0], GET[1], (":path", "/1234567890"), GET[3]])],
        "1 rejected 414 target too long.
         <1 :status: 414|content-length: 0|.",
    );
    check(
        &[head(1, false, &with(&POST, &[("content-length", "4")])), data(1, true, b"abcd")],
        "1 rejected 413 body too large
         <1 :status: 413|content-length: 0|.
         <1 rst NO_ERROR",
    );
    check(
        &[head(1, false, &POST), data(1, false, b"ab"), data(1, true, b"cd")],
        "1 POST a/
         1 [ab]
         1 rejected 413 body too large
         <1 :status: 413|content-length: 0|.
         <1 rst NO_ERROR",
    );
}

/// Sends frames again and again until the connection ends; how often that was, and why. Nothing that is sent is read.
fn flood(mut end: End, start: &[u8], mut each: impl FnMut(u32) -> Vec<u8>) -> (u32, &'static str) {
    end.receive(start);
    for count in 1..20_000 {
        end.receive(&each(count));
        assert!(end.connection.output().len() < 40 * 1024, "the output stays small");
        assert!(end.connection.streams.len() <= 256);
        if let Some(error) = end.connection.failed {
            assert_eq!(error.code, ErrorCode::ENHANCE_YOUR_CALM);
            let sent = end.sent();
            assert!(sent.lines().last().is_some_and(|line| line.contains("ENHANCE_YOUR_CALM")), "{sent}");
            return (count, error.reason);
        }
    }
    (20_000, "never")
}

fn server() -> End {
    End::server(Limits::DEFAULT)
}

#[test]
fn rapid_resets() {
    let each = |count: u32| {
        let id = 2 * count - 1;
        [head(id, true, &GET), reset(id, ErrorCode::CANCEL)].concat()
    };
    assert_eq!(flood(server(), &[], each), (201, "too many resets"));
    // Data that comes with them pays for nothing.
    let each = |count: u32| {
        let id = 2 * count - 1;
        [head(id, false, &POST), data(id, false, b"x"), reset(id, ErrorCode::CANCEL)].concat()
    };
    assert_eq!(flood(server(), &[], each), (201, "too many resets"));
}

#[test]
fn resets_provoked_from_the_server() {
    let reasons: [fn(u32) -> Vec<u8>; 6] = [
        |id| window_update(id, 0),
        |id| window_update(id, i32::MAX as u32),
        |id| data(id, false, b"x"),
        |id| head(id, true, &[("x", "y")]),
        |id| frame(kind::PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[0]].concat()),
        |id| frame(kind::PRIORITY, 0, id, &[0; 4]),
    ];
    for provoke in reasons {
        let each = |count: u32| {
            let id = 2 * count - 1;
            [head(id, true, &GET), provoke(id)].concat()
        };
        assert_eq!(flood(server(), &[], each), (201, "too many resets"));
    }
    // Malformed from the beginning, and one too many at once.
    assert_eq!(flood(server(), &[], |count| head(2 * count - 1, true, &GET[..3])), (201, "too many resets"));
    let busy: Vec<u8> = (0..128).flat_map(|i| head(2 * i + 1, true, &GET)).collect();
    let refused = flood(server(), &busy, |count| head(2 * (128 + count) - 1, true, &GET));
    assert_eq!(refused, (201, "too many resets"));
}

#[test]
fn continuation_floods() {
    let start = frame(kind::HEADERS, 0, 1, &block(&GET));
    let piece = frame(kind::CONTINUATION, 0, 1, &block(&[("x", "y")]));
    assert_eq!(flood(server(), &start, |_| piece.clone()), (17, "too many continuations"));
    let empty = frame(kind::CONTINUATION, 0, 1, &[]);
    assert_eq!(flood(server(), &start, |_| empty.clone()), (17, "too many continuations"));
    let large = frame(kind::CONTINUATION, 0, 1, &[0; 16_384]);
    assert_eq!(flood(server(), &start, |_| large.clone()), (5, "field block too large"));
}

#[test]
fn header_bombs() {
    let mut end = server();
    // An entry of 4 KiB, then references to it, all the block can hold, and crumbs of cookies; no window is ever open.
    let mut filling = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    filling.extend([b'y'; 4000]);
    // Twice as much as may be is refused, again and again.
    for count in 0..200 {
        let id = 2 * count + 1;
        let bomb = if count % 2 == 0 { vec![0xbe; 32] } else { [0x60, 1, b'c'].repeat(3000) };
        let frames =
            [frame(kind::HEADERS, 0, id, &filling), frame(kind::CONTINUATION, flag::END_HEADERS, id, &bomb)];
        assert_eq!(end.receive(&frames.concat()), format!("{id} rejected 431 head too large\n"));
        end.sent();
    }
    let list = &end.heads.list;
    assert!(list.bytes.capacity() <= 256 * 1024 && list.fields.capacity() <= 256);
    assert_eq!(end.receive(&head(1001, true, &GET)), "1001 GET a/.\n");
    // Hundreds of times as much ends the connection, before all of it is looked at.
    for bomb in [vec![0xbe; 16_000], [0x60, 1, b'c'].repeat(5000)] {
        let mut frames = frame(kind::HEADERS, 0, 1, &filling);
        for _ in 0..3 {
            frames.extend(frame(kind::CONTINUATION, 0, 1, &bomb));
        }
        frames.extend(frame(kind::CONTINUATION, flag::END_HEADERS, 1, &bomb));
        let told = flood(server(), &[], |_| frames.clone());
        assert_eq!(told, (1, "field block unpacks to far more than is allowed"));
    }
}

#[test]
fn floods_of_frames_that_carry_nothing() {
    let post = head(1, false, &POST);
    assert_eq!(flood(server(), &post, |_| data(1, false, b"")), (101, "too much empty data"));
    let padded = frame(kind::DATA, flag::PADDED, 1, &[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(flood(server(), &post, |_| padded.clone()), (101, "too much empty data"));
    assert_eq!(flood(server(), &[], |_| frame(kind::PING, 0, 0, &[0; 8])), (201, "too many pings"));
    assert_eq!(flood(server(), &[], |_| frame(kind::PING, flag::ACK, 0, &[0; 8])), (201, "too many pings"));
    assert_eq!(flood(server(), &[], |_| settings(&[(4, 1000)])), (50, "too many settings"));
    assert_eq!(flood(server(), &post, |_| window_update(1, 1)), (1001, "too many window updates"));
    assert_eq!(flood(server(), &[], |_| window_update(0, 1)), (1001, "too many window updates"));
    assert_eq!(flood(server(), &[], |_| frame(kind::PRIORITY, 0, 7, &[0; 5])), (501, "too many priorities"));
    assert_eq!(flood(server(), &[], |_| frame(0x77, 0, 0, &[])), (1001, "too many stray frames"));
    let given_up = [head(1, true, &GET), data(1, false, b"")].concat();
    assert_eq!(flood(server(), &given_up, |_| data(1, false, b"x")), (1001, "too many stray frames"));
    let goaway = frame(kind::GOAWAY, 0, 0, &[0; 8]);
    assert_eq!(flood(server(), &[], |_| goaway.clone()), (50, "too many settings"));
}

/// What a peer provokes and does not read, spread so thin that no count is reached.
#[test]
fn answers_that_nobody_reads() {
    let mut end = server();
    for count in 1..100_000u32 {
        end.connection.tick(1);
        end.receive(&frame(kind::PING, 0, 0, &[0; 8]));
        assert!(end.connection.output().len() < 20 * 1024);
        if let Some(error) = end.connection.failed {
            assert_eq!(error.code, ErrorCode::ENHANCE_YOUR_CALM);
            assert_eq!((count, error.reason), (964, "reads nothing of what it asks for"));
            return;
        }
    }
    panic!("the output grows for ever");
}

/// What comes with traffic is no flood.
#[test]
fn lively_clients_are_left_alone() {
    let mut end = server();
    for count in 0..20_000u32 {
        let id = 2 * count + 1;
        let mut frames = [
            head(id, false, &POST),
            window_update(id, 100),
            frame(kind::PRIORITY, 0, id, &[0; 5]),
            data(id, false, b"x"),
            data(id, true, b""),
        ]
        .concat();
        if count % 4 == 0 {
            frames.extend(frame(kind::PING, 0, 0, &[0; 8]));
        }
        end.receive(&frames);
        let key = end.connection.streams.find(id).expect("open");
        if count % 4 == 1 {
            end.receive(&reset(id, ErrorCode::CANCEL));
        } else {
            end.connection.send_local_response(key, 200, &[], "text/plain", b"ok").expect("open");
        }
        end.sent();
        if count % 100 == 0 {
            end.connection.tick(1);
            end.receive(&window_update(0, 200));
        }
        assert_eq!(end.connection.failed, None, "request {count}");
    }
    assert_eq!(end.connection.streams.len(), 0);
}

#[test]
fn upstream_floods_of_interim_responses() {
    let interim = head(1, false, &[(":status", "103")]);
    let mut frames = vec![interim; 17];
    frames.push(head(3, true, &OK));
    check_client(
        &frames,
        &format!(
            "{}1 failed 400 too many interim responses
             3 Final 200.
             <1 rst PROTOCOL_ERROR",
            "1 Interim 103\n".repeat(16)
        ),
    );
}

#[test]
fn bytes_after_the_answer() {
    check_client(
        &[head(1, true, &OK), data(1, false, b"x")],
        "1 Final 200.
         <goaway 0 STREAM_CLOSED frame on a stream that has ended",
    );
}

/// A frame in single bytes costs no more than one look at its header for each.
#[test]
fn a_head_in_single_bytes_is_not_copied() {
    let mut end = server();
    let input = head(1, true, &with(&GET, &[("x", &"y".repeat(120))]));
    for byte in &input[..input.len() - 1] {
        assert_eq!(end.receive(std::slice::from_ref(byte)), "");
        assert_eq!(end.connection.block.capacity(), 0);
    }
    assert!(end.receive(&input[input.len() - 1..]).starts_with("1 GET"));
}
