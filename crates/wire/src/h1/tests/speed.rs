//! What a request costs the engine. `cargo test --release -p sinew-wire speed -- --ignored --nocapture`

use std::hint::black_box;
use std::time::Instant;

use super::*;

const REQUEST: &[u8] = b"GET /api/v1/orders/1234?expand=items HTTP/1.1\r\nHost: orders:8000\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101\r\nAccept: application/json, text/plain, */*\r\n\
    Accept-Encoding: gzip, deflate, br\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
    x-request-id: 5f1c5a54-0d7e-4f0e-9d4f-4b8d6a0f3b11\r\nConnection: keep-alive\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 1024\r\n\
    Date: Sat, 21 Nov 2026 08:00:00 GMT\r\nServer: example\r\nCache-Control: no-store\r\nVary: Accept\r\n\r\n";

#[test]
#[ignore = "a measurement, for release builds"]
fn speed_of_heads() {
    let mut head = RequestHead::default();
    let mut out = Vec::with_capacity(4096);
    measure("request head: parse", || {
        let mut scan = HeadScan::default();
        black_box(parse_request(black_box(REQUEST), &mut scan, &Limits::DEFAULT, &mut head))
            .expect("well-formed");
    });
    measure("request head: encode", || {
        out.clear();
        let append: &[(&[u8], &[u8])] = &[(b"x-sinew-test", b"0123456789abcdef")];
        let edits = RequestEdits { append, ..RequestEdits::default() };
        black_box(encode_request(black_box(&head), REQUEST, &edits, &mut out));
    });
    let mut exchange = head.exchange(false);
    let mut head = ResponseHead::default();
    measure("response head: parse", || {
        let mut scan = HeadScan::default();
        let parsed =
            parse_response(black_box(RESPONSE), &mut scan, &Limits::DEFAULT, &mut exchange, &mut head);
        black_box(parsed).expect("well-formed");
    });
    measure("response head: encode", || {
        out.clear();
        let edits = ResponseEdits::default();
        black_box(encode_response(black_box(&head), RESPONSE, &exchange, &edits, &mut out));
    });
    let body = [7; 1024];
    measure("body of 1 KiB: relay", || {
        out.clear();
        let mut decoder = BodyDecoder::new(Framing::Length(1024), &Limits::DEFAULT);
        let mut encoder = BodyEncoder::new(Framing::Length(1024));
        black_box(relay(&mut decoder, &mut encoder, black_box(&body), &mut out, 1 << 16))
            .expect("well-formed");
    });
    let mut chunks = Vec::new();
    let mut encoder = BodyEncoder::new(Framing::Chunked);
    for _ in 0..16 {
        encoder.data(&[7; 64], &mut chunks).expect("chunked takes any length");
    }
    encoder.end(std::iter::empty(), &mut chunks).expect("chunked ends anywhere");
    measure("body of 16 chunks of 64 B: relay", || {
        out.clear();
        let mut decoder = BodyDecoder::new(Framing::Chunked, &Limits::DEFAULT);
        let mut encoder = BodyEncoder::new(Framing::Chunked);
        black_box(relay(&mut decoder, &mut encoder, black_box(&chunks), &mut out, 1 << 16))
            .expect("well-formed");
    });
}

/// The best of several rounds: what else the machine does only adds.
fn measure(what: &str, mut work: impl FnMut()) {
    const ROUNDS: u32 = 20;
    const EACH: u32 = 20_000;
    let best = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..EACH {
                work();
            }
            begin.elapsed() / EACH
        })
        .min()
        .expect("some rounds");
    println!("{what:34} {:>6} ns", best.as_nanos());
}
