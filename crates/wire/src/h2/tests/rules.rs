//! The rules of RFC 9113, section by section.

use super::*;

/// A connection error: what the peer is told.
fn check_goaway(frames: &[Vec<u8>], code: &str) {
    let input = frames.concat();
    for size in [1, input.len()] {
        let sent = transcript(End::server(Limits::DEFAULT), input.chunks(size));
        assert!(
            sent.lines().any(|line| line.starts_with("<goaway") && line.contains(code)),
            "{code}: {sent}"
        );
    }
}

/// A stream error on stream 1.
fn check_reset(frames: &[Vec<u8>], code: &str) {
    let input = frames.concat();
    for size in [1, input.len()] {
        let sent = transcript(End::server(Limits::DEFAULT), input.chunks(size));
        assert!(sent.lines().any(|line| line == format!("<1 rst {code}")), "{code}: {sent}");
        assert!(!sent.contains("<goaway"), "{sent}");
    }
}

#[test]
fn s3_4_preface() {
    let check = |input: &[u8], expect: &str| {
        for size in [1, input.len()] {
            let mut end = End::new(Connection::server(Limits::DEFAULT));
            end.sent();
            assert_eq!(transcript(end, input.chunks(size)), expect);
        }
    };
    check(&[&PREFACE[..], &settings(&[])].concat(), "settings\n<ack\n");
    check(b"GET / HTTP/1.1\r\n\r\n", "<goaway 0 PROTOCOL_ERROR malformed preface\n");
    check(b"PRI * HTTP/2.0\r\n\r\nSN", "<goaway 0 PROTOCOL_ERROR malformed preface\n");
    let first = "<goaway 0 PROTOCOL_ERROR settings expected first\n";
    check(&[&PREFACE[..], &head(1, true, &GET)].concat(), first);
    check(&[&PREFACE[..], &frame(kind::SETTINGS, flag::ACK, 0, &[])].concat(), first);
}

#[test]
fn s4_1_unknown_frames_flags_and_reserved_bits_are_ignored() {
    let mut reserved = head(1, true, &GET);
    reserved[5] |= 0x80;
    check_server(
        &[
            frame(0x16, 0xff, 0, b"12345678"),
            frame(0x16, 0, 7, &[]),
            reserved,
            frame(kind::PING, 0xfe, 0, &[0; 8]),
        ],
        "1 GET a/.
         <pong",
    );
}

#[test]
fn s4_2_frame_sizes() {
    let full = vec![b'x'; 16_384];
    let mut end = End::server(Limits::DEFAULT);
    end.receive(&[head(1, false, &POST), data(1, true, &full)].concat());
    assert_eq!(end.sent(), "");
    check_goaway(&[head(1, false, &POST), data(1, true, &[0; 16_385])], "FRAME_SIZE_ERROR");
    check_goaway(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &[0; 16_385])], "FRAME_SIZE_ERROR");
    check_goaway(&[frame(0x16, 0, 0, &[0; 16_385])], "FRAME_SIZE_ERROR");
}

#[test]
fn s4_3_field_blocks() {
    check_goaway(&[frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xff])], "COMPRESSION_ERROR");
    let begun = frame(kind::HEADERS, 0, 1, &block(&GET));
    for other in [
        frame(kind::PRIORITY, 0, 1, &[0; 5]),
        head(3, true, &GET),
        data(1, true, b"x"),
        frame(kind::CONTINUATION, flag::END_HEADERS, 3, &[]),
        frame(0x16, 0, 1, &[]),
    ] {
        check_goaway(&[begun.clone(), other], "PROTOCOL_ERROR");
    }
    let block = block(&GET);
    let (first, rest) = block.split_at(10);
    let (second, third) = rest.split_at(1);
    check_server(
        &[
            frame(kind::HEADERS, flag::END_STREAM, 1, first),
            frame(kind::CONTINUATION, 0, 1, second),
            frame(kind::CONTINUATION, 0, 1, &[]),
            frame(kind::CONTINUATION, flag::END_HEADERS, 1, third),
        ],
        "1 GET a/.",
    );
}

#[test]
fn s5_1_idle_streams() {
    for frame in
        [data(1, true, b"x"), reset(1, ErrorCode::CANCEL), window_update(1, 1), reset(2, ErrorCode::CANCEL)]
    {
        check_goaway(&[frame], "PROTOCOL_ERROR");
    }
    check_goaway(&[frame(kind::CONTINUATION, flag::END_HEADERS, 1, &[])], "PROTOCOL_ERROR");
    check_server(&[frame(kind::PRIORITY, 0, 1, &[0; 5])], "");
}

#[test]
fn s5_1_half_closed_and_closed_streams() {
    check_reset(&[head(1, true, &GET), data(1, true, b"x")], "STREAM_CLOSED");
    check_reset(&[head(1, true, &GET), head(1, true, &GET)], "STREAM_CLOSED");
    check_server(
        &[head(1, true, &GET), window_update(1, 1), frame(kind::PRIORITY, 0, 1, &[0; 5])],
        "1 GET a/.",
    );
    let given_up = [head(1, false, &POST), reset(1, ErrorCode::CANCEL)].concat();
    check_goaway(&[given_up.clone(), data(1, true, b"x")], "STREAM_CLOSED");
    check_goaway(&[given_up.clone(), head(1, true, &GET)], "STREAM_CLOSED");
    check_server(
        &[given_up, window_update(1, 1), reset(1, ErrorCode::CANCEL), frame(kind::PRIORITY, 0, 1, &[0; 5])],
        "1 POST a/
         1 reset CANCEL",
    );
}

/// Frames that were on their way when the stream was reset.
#[test]
fn s5_1_frames_behind_our_reset_are_ignored() {
    let indexed = {
        // Enters the table although nobody wants it: the next request needs it.
        let mut block = block(&[("x", "y")]);
        block[0] = 0x40;
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block)
    };
    let mut next = block(&GET);
    next.push(0xbe);
    check_server(
        &[
            head(1, false, &with(&POST, &[("content-length", "1")])),
            data(1, false, b"xx"),
            data(1, false, b"xx"),
            indexed,
            window_update(1, 1),
            reset(1, ErrorCode::CANCEL),
            frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &next),
        ],
        "1 POST a/
         1 failed 400 body differs from its declared length
         3 GET a/ x=y.
         <1 rst PROTOCOL_ERROR",
    );
}

#[test]
fn s5_1_1_identifiers() {
    check_goaway(&[head(2, true, &GET)], "PROTOCOL_ERROR");
    check_goaway(&[head(0, true, &GET)], "PROTOCOL_ERROR");
    check_goaway(&[head(5, true, &GET), head(3, true, &GET)], "PROTOCOL_ERROR");
    check_server(
        &[head(5, true, &GET), head(9, true, &GET)],
        "5 GET a/.
         9 GET a/.",
    );
}

#[test]
fn s5_1_2_concurrency() {
    let limits = Limits { concurrent_streams_max: 2, ..Limits::DEFAULT };
    let frames = [1, 3, 5].map(|id| head(id, true, &GET)).concat();
    let mut end = End::server(limits);
    let events = end.receive(&frames);
    assert_eq!(events, "1 GET a/.\n3 GET a/.\n5 refused 503 too many streams\n");
    assert_eq!(end.sent(), "<5 rst REFUSED_STREAM\n");
    end.connection.send_local_response(StreamKey { id: 1, slot: 0 }, 200, &[], "", b"").expect("open");
    assert_eq!(end.receive(&head(7, true, &GET)), "7 GET a/.\n");
}

/// Of RFC 7540 still: self-dependencies.
#[test]
fn s5_3_priorities() {
    let flags = flag::END_HEADERS | flag::END_STREAM | flag::PRIORITY;
    let with_priority =
        |parent: u8| frame(kind::HEADERS, flags, 1, &[&[0x80, 0, 0, parent, 9][..], &block(&GET)].concat());
    check_server(&[with_priority(3)], "1 GET a/.");
    check_reset(&[with_priority(1)], "PROTOCOL_ERROR");
    check_reset(&[head(1, false, &POST), frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 0])], "PROTOCOL_ERROR");
    check_reset(&[head(1, false, &POST), frame(kind::PRIORITY, 0, 1, &[0; 4])], "FRAME_SIZE_ERROR");
    check_goaway(&[frame(kind::PRIORITY, 0, 0, &[0; 5])], "PROTOCOL_ERROR");
    check_goaway(&[frame(kind::HEADERS, flags, 1, &[0; 4])], "FRAME_SIZE_ERROR");
}

#[test]
fn s6_1_data() {
    check_goaway(&[data(0, true, b"x")], "PROTOCOL_ERROR");
    let padded = |payload: &[u8], end: u8| frame(kind::DATA, flag::PADDED | end, 1, payload);
    let post = head(1, false, &POST);
    check_server(
        &[post.clone(), padded(&[3, b'a', b'b', 0, 0, 0], 0), padded(&[2, 0, 0], flag::END_STREAM)],
        "1 POST a/
         1 [ab].",
    );
    check_server(
        &[post.clone(), padded(&[1, b'a', 0], flag::END_STREAM)],
        "1 POST a/
         1 [a].",
    );
    check_goaway(&[post.clone(), padded(&[2, 0], 0)], "PROTOCOL_ERROR");
    check_goaway(&[post, padded(&[], 0)], "FRAME_SIZE_ERROR");
}

#[test]
fn s6_2_headers() {
    let flags = flag::END_HEADERS | flag::END_STREAM | flag::PADDED;
    check_server(&[frame(kind::HEADERS, flags, 1, &[&[2][..], &block(&GET), &[0, 0]].concat())], "1 GET a/.");
    check_goaway(&[frame(kind::HEADERS, flags, 1, &[200, 0])], "PROTOCOL_ERROR");
    check_goaway(&[frame(kind::HEADERS, flags, 1, &[])], "FRAME_SIZE_ERROR");
}

#[test]
fn s6_4_resets() {
    check_goaway(&[reset(0, ErrorCode::CANCEL)], "PROTOCOL_ERROR");
    check_goaway(&[head(1, false, &POST), frame(kind::RST_STREAM, 0, 1, &[0; 3])], "FRAME_SIZE_ERROR");
    check_server(
        &[head(1, false, &POST), reset(1, ErrorCode(77))],
        "1 POST a/
         1 reset _other",
    );
}

#[test]
fn s6_5_settings() {
    check_goaway(&[frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])], "FRAME_SIZE_ERROR");
    check_goaway(&[frame(kind::SETTINGS, 0, 1, &[])], "PROTOCOL_ERROR");
    check_goaway(&[frame(kind::SETTINGS, 0, 0, &[0; 5])], "FRAME_SIZE_ERROR");
    check_goaway(&[settings(&[(2, 2)])], "PROTOCOL_ERROR");
    check_goaway(&[settings(&[(4, 1 << 31)])], "FLOW_CONTROL_ERROR");
    check_goaway(&[settings(&[(5, 16_383)])], "PROTOCOL_ERROR");
    check_goaway(&[settings(&[(5, 1 << 24)])], "PROTOCOL_ERROR");
    check_goaway(&[settings(&[(8, 2)])], "PROTOCOL_ERROR");
    check_goaway(&[settings(&[(8, 1)]), settings(&[(8, 0)])], "PROTOCOL_ERROR");
    check_goaway(&[frame(kind::SETTINGS, flag::ACK, 0, &[])], "PROTOCOL_ERROR");
    check_server(
        &[settings(&[(99, 7), (2, 1), (4, 1), (4, 2), (5, 16_384)])],
        "settings
         <ack",
    );
}

#[test]
fn s6_6_push_promise() {
    check_goaway(&[frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2])], "PROTOCOL_ERROR");
    check_client(
        &[frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2])],
        "<goaway 0 PROTOCOL_ERROR push promise",
    );
    check_client(&[settings(&[(2, 1)])], "<goaway 0 PROTOCOL_ERROR malformed enable-push");
}

#[test]
fn s6_7_pings() {
    check_goaway(&[frame(kind::PING, 0, 1, &[0; 8])], "PROTOCOL_ERROR");
    check_goaway(&[frame(kind::PING, 0, 0, &[0; 7])], "FRAME_SIZE_ERROR");
    check_server(
        &[frame(kind::PING, 0, 0, &[7; 8]), frame(kind::PING, flag::ACK, 0, &5u64.to_be_bytes())],
        "pong 5
         <pong",
    );
}

#[test]
fn s6_8_goaway() {
    let goaway =
        |last: u32, stream| frame(kind::GOAWAY, 0, stream, &[&last.to_be_bytes()[..], &[0; 6]].concat());
    check_goaway(&[goaway(1, 1)], "PROTOCOL_ERROR");
    check_goaway(&[frame(kind::GOAWAY, 0, 0, &[0; 7])], "FRAME_SIZE_ERROR");
    check_goaway(&[goaway(1, 0), goaway(3, 0)], "PROTOCOL_ERROR");
    check_client(
        &[goaway(1, 0), head(1, true, &OK)],
        "goaway NO_ERROR
         3 unprocessed
         1 Final 200.",
    );
    let mut client = End::client(Limits::DEFAULT);
    client.receive(&goaway(0, 0));
    assert_eq!(client.connection.can_open(), Err(OpenError::Ending));
}

#[test]
fn s6_8_drain_in_two_steps() {
    let mut server = End::server(Limits::DEFAULT);
    server.receive(&head(1, true, &GET));
    server.connection.drain();
    assert_eq!(server.sent(), "<goaway 2147483647 NO_ERROR \n<ping\n");
    // On its way when the client heard of it.
    assert_eq!(server.receive(&head(3, true, &GET)), "3 GET a/.\n");
    let payload = 0x7369_6e65_7764_7261u64.to_be_bytes();
    assert_eq!(server.receive(&frame(kind::PING, flag::ACK, 0, &payload)), "");
    assert_eq!(server.sent(), "<goaway 3 NO_ERROR \n");
    let late = [head(5, false, &POST), data(5, true, b"x")].concat();
    assert_eq!(server.receive(&late), "");
    assert_eq!(server.sent(), "");
    for slot in [0, 1] {
        assert!(!server.connection.is_drained());
        let key = StreamKey { id: 1 + 2 * slot, slot };
        server.connection.send_local_response(key, 200, &[], "", b"").expect("open");
    }
    assert!(server.connection.is_drained());
}

#[test]
fn s6_9_window_updates() {
    check_goaway(&[window_update(0, 0)], "PROTOCOL_ERROR");
    check_goaway(&[frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])], "FRAME_SIZE_ERROR");
    check_goaway(&[window_update(0, i32::MAX as u32)], "FLOW_CONTROL_ERROR");
    check_reset(&[head(1, true, &GET), window_update(1, 0)], "PROTOCOL_ERROR");
    check_reset(&[head(1, true, &GET), window_update(1, i32::MAX as u32)], "FLOW_CONTROL_ERROR");
}

#[test]
fn s8_1_messages() {
    check_server(
        &[
            head(1, false, &POST),
            data(1, false, b"x"),
            head(1, true, &[("x-sum", "1"), ("content-type", "no")]),
        ],
        "1 POST a/
         1 [x]
         1 trailers x-sum=1",
    );
    check_reset(&[head(1, false, &POST), head(1, false, &[("x-sum", "1")])], "PROTOCOL_ERROR");
    check_client(
        &[head(1, false, &[(":status", "103")]), head(1, false, &OK), head(1, true, &[("grpc-status", "0")])],
        "1 Interim 103
         1 Final 200
         1 trailers grpc-status=0",
    );
    let failed = |reason: &str| format!("1 failed 400 {reason}\n<1 rst PROTOCOL_ERROR");
    check_client(&[data(1, true, b"x")], &failed("data before a head"));
    check_client(&[head(1, true, &[(":status", "103")])], &failed("interim response that ends its stream"));
    check_client(&[head(1, true, &[(":status", "101")])], &failed("switch of protocols"));
    for status in ["", "20", "2000", "099", "+20", "2x0"] {
        check_client(&[head(1, true, &[(":status", status)])], &failed("malformed status"));
    }
    check_client(&[head(1, true, &[("server", "x")])], &failed("missing pseudo-field"));
    check_client(&[head(1, true, &with(&OK, &[]))], "1 Final 200.");
    check_client(
        &[head(1, true, &[(":status", "200"), (":path", "/")])],
        &failed("pseudo-field that does not belong here"),
    );
}

#[test]
fn s8_1_1_bodies_of_head_and_304() {
    check_client(&[head(3, true, &with(&OK, &[("content-length", "7")]))], "3 Final 200.");
    check_client(
        &[head(3, false, &with(&OK, &[("content-length", "7")])), data(3, true, b"")],
        "3 Final 200
         3 [].",
    );
    let mismatch = "failed 400 body differs from its declared length";
    check_client(
        &[head(3, false, &OK), data(3, true, b"x")],
        &format!("3 Final 200\n3 {mismatch}\n<3 rst PROTOCOL_ERROR"),
    );
    check_client(&[head(1, true, &[(":status", "304"), ("content-length", "7")])], "1 Final 304.");
    check_client(
        &[head(1, false, &[(":status", "204")]), data(1, true, b"x")],
        &format!("1 Final 204\n1 {mismatch}\n<1 rst PROTOCOL_ERROR"),
    );
    check_client(
        &[head(1, true, &with(&OK, &[("content-length", "7")]))],
        &format!("1 {mismatch}\n<1 rst PROTOCOL_ERROR"),
    );
}

#[test]
fn s8_3_1_requests() {
    let malformed = |fields: &[(&str, &str)]| check_reset(&[head(1, true, fields)], "PROTOCOL_ERROR");
    for missing in 0..3 {
        let mut fields = GET.to_vec();
        fields.remove(missing);
        malformed(&fields);
    }
    malformed(&GET[..3]);
    malformed(&with(&GET[..3], &[(":authority", "")]));
    malformed(&with(&GET, &[(":status", "200")]));
    malformed(&with(&GET, &[(":protocol", "websocket")]));
    malformed(&with(&GET, &[("host", "a"), ("host", "a")]));
    check_server(&[head(1, true, &with(&GET[..3], &[("host", "b")]))], "1 GET b/.");
    check_server(&[head(1, true, &with(&GET, &[("host", "A:80")]))], "1 GET a/.");
    let options = [(":method", "OPTIONS"), (":scheme", "https"), (":path", "*"), (":authority", "a:1")];
    check_server(&[head(1, true, &options)], "1 OPTIONS a:1*.");
    for authority in ["u@a", "a,b", "a b", "a:x", "a/", ":1"] {
        malformed(&with(&GET[..3], &[(":authority", authority)]));
        malformed(&with(&GET[..3], &[("host", authority)]));
    }
    for scheme in ["", "1http", "ht tp"] {
        malformed(&[GET[0], (":scheme", scheme), GET[2], GET[3]]);
    }
    for method in ["", "G T", "GET:"] {
        malformed(&[(":method", method), GET[1], GET[2], GET[3]]);
    }
}

#[test]
fn s8_5_connect() {
    let connect = [(":method", "CONNECT"), (":authority", "a:1")];
    check_server(
        &[head(1, false, &connect), data(1, false, b"x"), data(1, true, b"y")],
        "1 CONNECT a:1
         1 [xy].",
    );
    for fields in [
        with(&connect, &[(":path", "/")]),
        with(&connect, &[(":scheme", "http")]),
        connect[..1].to_vec(),
        vec![connect[0], (":authority", "a")],
        with(&connect, &[("content-length", "3")]),
    ] {
        check_reset(&[head(1, false, &fields)], "PROTOCOL_ERROR");
    }
}

/// RFC 8441.
#[test]
fn extended_connect() {
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a"),
    ];
    check_server(&[head(1, false, &fields)], "1 CONNECT a/chat");
    check_reset(&[head(1, false, &fields[..4])], "PROTOCOL_ERROR");
    let mut refusing = End::server(Limits { extended_connect: false, ..Limits::DEFAULT });
    refusing.receive(&head(1, false, &fields));
    assert_eq!(refusing.sent(), "<1 rst PROTOCOL_ERROR\n");
    // The client asks only where it was offered.
    let mut server = End::server(Limits::DEFAULT);
    server.receive(&head(1, false, &fields));
    let mut client = End::client(Limits::DEFAULT);
    let (head, bytes) = (&server.heads.request, server.heads.bytes());
    let send =
        |client: &mut End| client.connection.send_request(head, bytes, &RequestEdits::default(), true, false);
    assert_eq!(send(&mut client), Err(OpenError::NoExtendedConnect));
    client.receive(&settings(&[(8, 1)]));
    assert!(send(&mut client).is_ok());
    assert_eq!(
        client.sent(),
        "<ack\n<1 :method: CONNECT|:scheme: https|:authority: a|:path: /chat|:protocol: websocket|\n"
    );
}

#[test]
fn s8_6_expectations_and_interim_answers() {
    let mut server = End::server(Limits::DEFAULT);
    server.receive(&head(1, false, &with(&POST, &[("expect", "100-continue")])));
    assert!(server.heads.request.expect_continue);
    check_server(
        &[head(1, true, &with(&GET, &[("expect", "tea")]))],
        "1 rejected 417 unknown expectation.
         <1 :status: 417|content-length: 0|.",
    );
}
