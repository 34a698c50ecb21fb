use super::super::{HeadScan, Limits, RequestHead, parse_request};
use super::*;

fn check(fields: &str, read: bool, left: RequestLeft, expect: Downstream) {
    let text = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{fields}\r\n");
    let mut head = RequestHead::default();
    parse_request(text.as_bytes(), &mut HeadScan::default(), &Limits::DEFAULT, &mut head)
        .expect("well-formed");
    let mut exchange = head.exchange(false);
    exchange.expect_continue &= !read;
    assert_eq!(after_exchange(&exchange, left, 100), expect, "{fields} {left:?}");
}

#[test]
fn what_was_not_read_is_drained_within_a_bound_or_ends_the_connection() {
    check("", true, RequestLeft::Nothing, Downstream::Continue);
    check("Connection: close\r\n", true, RequestLeft::Nothing, Downstream::Close);
    check("", true, RequestLeft::Bytes(100), Downstream::Drain { bytes_max: 100 });
    check("", true, RequestLeft::Bytes(101), Downstream::Close);
    check("", true, RequestLeft::Unknown, Downstream::Drain { bytes_max: 100 });
}

#[test]
fn nobody_knows_what_a_client_sends_that_waits_for_100() {
    check("Expect: 100-continue\r\n", false, RequestLeft::Bytes(5), Downstream::Close);
    check("Expect: 100-continue\r\n", true, RequestLeft::Bytes(5), Downstream::Drain { bytes_max: 5 });
    check("Expect: 100-continue\r\n", false, RequestLeft::Nothing, Downstream::Continue);
}
