//! Flow control (RFC 9113, 5.2 and 6.9), both ways, on both levels.

use super::*;

const KEY: StreamKey = StreamKey { id: 1, slot: 0 };

fn limits(stream: u32) -> Limits {
    Limits { stream_window_bytes: stream, connection_window_bytes: 100_000, ..Limits::DEFAULT }
}

/// A server with an open stream that has a body.
fn posting(limits: Limits) -> End {
    let mut end = End::server(limits);
    end.consumes = false;
    end.receive(&head(1, false, &POST));
    end
}

/// Windows open only as the consumer takes bytes.
#[test]
fn receive_windows_open_as_bytes_are_taken() {
    let mut end = posting(limits(70_000));
    end.receive(
        &[data(1, false, &[0; 16_000]), data(1, false, &[0; 16_000]), data(1, false, &[0; 16_000])].concat(),
    );
    assert_eq!(end.sent(), "");
    end.connection.consumed(KEY, 34_999);
    assert_eq!(end.sent(), "");
    end.connection.consumed(KEY, 1);
    assert_eq!(end.sent(), "<1 window +35000\n");
    end.connection.consumed(KEY, 13_000);
    assert_eq!(end.sent(), "");
    // More than was handed out cannot be taken.
    end.connection.consumed(KEY, 1 << 20);
    assert_eq!(end.sent(), "");
    end.receive(&data(1, false, &[0; 16_000]));
    end.connection.consumed(KEY, 16_000);
    assert_eq!(end.sent(), "<0 window +64000\n");
}

/// A consumer that takes all that comes gets more at once, up to a bound; where that is not allowed any more, windows
/// become the first ones again, and none of it stops a stream.
#[test]
fn windows_grow_with_use_and_shrink_again() {
    let most = Limits { stream_window_bytes_max: 50_000, ..limits(20_000) };
    let mut end = posting(Limits { connection_window_bytes: 1 << 20, ..most });
    let mut pass = |count: usize, taken: usize| {
        end.receive(&data(1, false, &vec![0; count]));
        end.connection.consumed(KEY, taken);
        end.sent()
    };
    assert_eq!(pass(10_000, 10_000), "<1 window +30000\n", "20000 more than was taken");
    assert_eq!(pass(10_000, 10_000), "");
    assert_eq!(pass(12_000, 11_000), "<1 window +21000\n", "some of it waits: no more than was taken");
    assert_eq!(pass(16_000, 17_000), "");
    assert_eq!(pass(10_000, 10_000), "<1 window +37000\n", "no more than may be");
    end.connection.allow_wide(false);
    let mut pass = |count: usize, taken: usize| {
        end.receive(&data(1, false, &vec![0; count]));
        end.connection.consumed(KEY, taken);
        end.sent()
    };
    assert_eq!(pass(15_000, 15_000), "");
    assert_eq!(pass(15_000, 15_000), "", "30000 are taken, by which it is narrower");
    assert_eq!(pass(10_000, 10_000), "<1 window +10000\n");
    assert_eq!(pass(10_000, 10_000), "<1 window +10000\n");
    let stream = *end.connection.streams.get(KEY).expect("open");
    assert_eq!((stream.window, stream.recv_window, stream.held), (20_000, 20_000, 0));
}

#[test]
fn windows_that_are_overrun() {
    let mut end = posting(limits(70_000));
    let mut events = String::new();
    for _ in 0..5 {
        events = end.receive(&data(1, false, &[b'x'; 15_000]));
    }
    assert!(events.starts_with("1 failed 400 stream window overrun"), "{events}");
    // The connection gets all of it back.
    assert_eq!(end.sent(), "<0 window +75000\n<1 rst FLOW_CONTROL_ERROR\n");
    let mut end = posting(limits(1 << 20));
    for _ in 0..7 {
        end.receive(&data(1, false, &[b'x'; 15_000]));
    }
    assert_eq!(end.sent(), "<goaway 1 FLOW_CONTROL_ERROR connection window overrun\n");
}

/// A smaller window than the initial one holds once it is acknowledged.
#[test]
fn settings_hold_when_they_are_acknowledged() {
    let mut end = End::new(Connection::server(limits(1000)));
    end.consumes = false;
    let mut input = [&PREFACE[..], &settings(&[])].concat();
    input.extend([head(1, false, &POST), data(1, false, &[0; 3000])].concat());
    end.receive(&input);
    assert!(end.connection.awaits_settings_ack());
    assert_eq!(end.sent(), "<settings\n<0 window +34465\n<ack\n");
    end.receive(&frame(kind::SETTINGS, flag::ACK, 0, &[]));
    assert!(!end.connection.awaits_settings_ack());
    assert_eq!(end.receive(&data(1, false, b"x")), "1 failed 400 stream window overrun\n");
    end.receive(&[head(3, false, &POST), data(3, false, &[0; 1000])].concat());
    assert_eq!(end.sent(), "<1 rst FLOW_CONTROL_ERROR\n");
    // And again, while it runs.
    end.connection.set_stream_window(2000);
    end.connection.set_concurrent_streams_max(1);
    assert_eq!(end.sent(), "<settings\n<settings\n");
    let ack = frame(kind::SETTINGS, flag::ACK, 0, &[]);
    end.receive(&ack);
    assert!(end.connection.awaits_settings_ack());
    assert!(end.receive(&data(3, false, &[b'x'; 1000])).starts_with("3 [x"));
    end.receive(&ack);
    assert_eq!(end.receive(&head(5, true, &GET)), "5 refused 503 too many streams\n");
}

/// What nobody will take any more goes back to the connection's window.
#[test]
fn bytes_of_streams_that_are_over_go_back() {
    let mut end = posting(limits(70_000));
    end.receive(&[data(1, false, &[0; 15_000]), data(1, false, &[0; 15_000])].concat());
    end.receive(&reset(1, ErrorCode::CANCEL));
    assert_eq!(end.connection.taken, 30_000);
    end.receive(&[head(3, false, &POST), data(3, false, &[0; 15_000])].concat());
    let key = end.connection.streams.find(3).expect("open");
    end.connection.reset(key, ErrorCode::CANCEL);
    assert_eq!(end.connection.taken, 45_000);
    end.receive(&data(3, true, &[0; 10_000]));
    assert_eq!(end.sent(), "<3 rst CANCEL\n<0 window +55000\n");
    // The driver gives up while a frame is on its way.
    end.receive(&head(5, false, &POST));
    let key = end.connection.streams.find(5).expect("open");
    let frame = data(5, false, &[0; 10_000]);
    end.receive(&frame[..5000]);
    end.connection.reset(key, ErrorCode::CANCEL);
    end.receive(&frame[5000..]);
    assert_eq!(end.connection.taken, 10_000);
}

/// A stream that is over in both directions stays until its bytes are taken, as they still occupy memory.
#[test]
fn a_finished_stream_holds_its_bytes() {
    let mut end = posting(limits(70_000));
    end.receive(&data(1, true, &[0; 10_000]));
    end.connection.send_local_response(KEY, 200, &[], "", b"").expect("open");
    assert_eq!((end.connection.open_streams(), end.connection.streams.len()), (0, 1));
    assert_eq!(end.receive(&reset(1, ErrorCode::NO_ERROR)), "");
    end.connection.consumed(KEY, 10_000);
    assert_eq!((end.connection.taken, end.connection.streams.len()), (10_000, 0));
}

fn answering(settings_first: &[(u16, u32)]) -> End {
    let mut end = End::server(Limits::DEFAULT);
    end.receive(&[settings(settings_first), head(1, true, &GET), head(3, true, &GET)].concat());
    let (request, _) = parsed_request("GET / HTTP/1.1|Host: a||");
    let (head, bytes) = parsed_response(&request, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||");
    for key in [KEY, StreamKey { id: 3, slot: 1 }] {
        end.connection.send_response(key, &head, &bytes, &ResponseEdits::default(), false).expect("open");
    }
    end.sent();
    end
}

#[test]
fn send_windows_are_kept() {
    let mut end = answering(&[(4, 5)]);
    assert_eq!(end.connection.sendable(KEY), 5);
    assert_eq!(end.connection.send_data(KEY, b"abcdefgh", true), Ok(5));
    assert_eq!(end.sent(), "<1 [abcde]\n");
    assert_eq!(end.connection.send_data(KEY, b"fgh", true), Ok(0));
    assert_eq!((end.sent(), end.connection.next_writable()), (String::new(), None));
    end.receive(&window_update(1, 2));
    assert_eq!(end.connection.next_writable(), Some(KEY));
    assert_eq!(end.connection.send_data(KEY, b"fgh", true), Ok(2));
    end.receive(&window_update(1, 1));
    assert_eq!(end.connection.next_writable(), Some(KEY));
    assert_eq!(end.connection.next_writable(), None);
    assert_eq!(end.connection.send_data(KEY, b"h", true), Ok(1));
    assert_eq!(end.sent(), "<1 [fg]\n<1 [h].\n");
    // The end of a body needs no window.
    let other = StreamKey { id: 3, slot: 1 };
    assert_eq!(end.connection.send_data(other, b"12345", false), Ok(5));
    assert_eq!(end.connection.send_data(other, b"", true), Ok(0));
    assert_eq!(end.sent(), "<3 [12345]\n<3 [].\n");
}

/// RFC 9113, 6.9.2: a changed initial window changes those of all streams, below zero too.
#[test]
fn send_windows_follow_settings() {
    let mut end = answering(&[]);
    assert_eq!(end.connection.send_data(KEY, &[b'x'; 1000], false), Ok(1000));
    end.receive(&settings(&[(4, 0)]));
    assert_eq!(end.connection.send_data(KEY, b"y", false), Ok(0));
    assert_eq!(end.connection.sendable(KEY), 0);
    end.receive(&window_update(1, 1000));
    assert_eq!(end.connection.next_writable(), None);
    end.receive(&settings(&[(4, 3)]));
    assert_eq!(end.connection.next_writable(), Some(KEY));
    assert_eq!(end.connection.sendable(KEY), 3);
    // Over 2^31 - 1 (6.9.2): the connection ends.
    end.receive(&window_update(1, i32::MAX as u32 - 10));
    end.sent();
    end.receive(&settings(&[(4, 100)]));
    assert_eq!(end.sent(), "<goaway 3 FLOW_CONTROL_ERROR window too large\n");
}

/// The connection's window is shared in turn.
#[test]
fn streams_take_turns() {
    let mut end = answering(&[(4, 1 << 20), (5, 20_000)]);
    let other = StreamKey { id: 3, slot: 1 };
    assert_eq!(end.connection.send_data(KEY, &[b'x'; 70_000], false), Ok(65_535));
    let sent = end.sent();
    let sizes: Vec<usize> = sent.lines().map(|line| line.len() - 5).collect();
    assert_eq!(sizes, [20_000, 20_000, 20_000, 5535]);
    assert_eq!(end.connection.send_data(other, b"abc", true), Ok(0));
    assert_eq!(end.connection.next_writable(), None);
    end.receive(&window_update(0, 10));
    assert_eq!(end.connection.next_writable(), Some(KEY));
    assert_eq!(end.connection.send_data(KEY, b"12345", false), Ok(5));
    assert_eq!(end.connection.next_writable(), Some(other));
    assert_eq!(end.connection.send_data(other, b"abc", true), Ok(3));
    assert_eq!(end.connection.next_writable(), None);
}

/// A peer that does not read makes the output grow up to its limit.
#[test]
fn output_is_bounded() {
    let mut end = answering(&[(4, 1 << 30)]);
    end.receive(&window_update(0, 1 << 30));
    let limit = end.connection.limits.output_bytes_max;
    let taken = end.connection.send_data(KEY, &vec![0; 1 << 20], false).expect("open");
    assert!(taken < limit + 100 && end.connection.output().len() < limit + 100, "{taken}");
    assert!(!end.connection.has_room());
    assert_eq!(end.connection.next_writable(), None);
    end.connection.wrote(50_000);
    assert_eq!(end.connection.next_writable(), Some(KEY));
    assert!(end.connection.send_data(KEY, &vec![0; 1 << 20], false).expect("open") > 40_000);
}
