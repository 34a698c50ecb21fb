//! Properties over generated input.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Pieces that make up requests, well-formed and not; strings of them reach deeper than random bytes.
const PIECES: &[&str] = &[
    "GET ",
    "POST ",
    "HEAD ",
    "CONNECT ",
    "OPTIONS ",
    "/",
    "/a?b",
    "*",
    "http://a",
    "a:1",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "Host: a\r\n",
    "Host: a:1\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: x\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: upgrade, x\r\n",
    "Upgrade: websocket\r\n",
    "x: 1\r\n",
    "X-Y:  \t z \r\n",
    "TE: trailers\r\n",
    "Expect: 100-continue\r\n",
    "Trailer: x\r\n",
    "\r\n",
    "abc",
    "3\r\nabc\r\n",
    "0\r\n\r\n",
    "0\r\nx: 1\r\n\r\n",
    "3;a=b\r\nabc\r\n",
    "\n",
    "\r",
    " ",
    ":",
    "\0",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 C\r\n",
    "HTTP/1.0 404 \r\n",
    "HTTP/1.1 101 S\r\n",
    "HTTP/1.1 204 N\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
];

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    let pieces = || vec(piece.clone(), 0..12).prop_map(|pieces| pieces.concat());
    let fields = vec(proptest::sample::select(FIELDS), 0..5).prop_map(|fields| fields.concat().into_bytes());
    let request = (fields, pieces())
        .prop_map(|(fields, rest)| [b"POST / HTTP/1.1\r\nHost: a\r\n", &fields[..], b"\r\n", &rest].concat());
    let answer = (vec(proptest::sample::select(FIELDS), 0..5), pieces()).prop_map(|(fields, rest)| {
        [b"HTTP/1.1 200 OK\r\n", fields.concat().as_bytes(), b"\r\n", &rest].concat()
    });
    // An end of head at the end: garbage in an unfinished one may be noticed sooner or later, depending on the cuts.
    let streams = prop_oneof![pieces(), answer, vec(request, 0..3).prop_map(|requests| requests.concat())];
    streams.prop_map(|stream| [&stream[..], b"\r\n\r\n"].concat())
}

const FIELDS: &[&str] = &[
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: x, upgrade\r\n",
    "Connection: close\r\n",
    "Upgrade: websocket\r\n",
    "Keep-Alive: 1\r\n",
    "TE: trailers\r\n",
    "Trailer: y\r\n",
    "Expect: 100-continue\r\n",
    "x: 1\r\n",
    "Y:  \t2 \r\n",
    "x-request-id: 5\r\n",
];

fn cut(input: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    places.sort_unstable();
    let mut parts = Vec::new();
    let mut from = 0;
    for place in places.into_iter().chain([input.len()]) {
        parts.push(input[from..place].to_vec());
        from = place;
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(input in vec(any::<u8>(), 0..300)) {
        requests([&input[..]], &Limits::DEFAULT);
        response(&request_head(GET), [&input[..]], &Limits::DEFAULT);
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        requests([head, &input[..]], &Limits::DEFAULT);
        crate::detect(&input);
        crate::trace::TraceParent::parse(&input);
    }

    #[test]
    fn how_it_is_cut_does_not_matter(input in stream(), cuts in vec(any::<prop::sample::Index>(), 0..6)) {
        let parts = cut(&input, &cuts);
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(
            requests([&input[..]], &Limits::DEFAULT),
            requests(parts.iter().copied(), &Limits::DEFAULT)
        );
        for request in [GET, HEAD, CONNECT, UPGRADE, GET10] {
            let request = request_head(request);
            prop_assert_eq!(
                response(&request, [&input[..]], &Limits::DEFAULT),
                response(&request, parts.iter().copied(), &Limits::DEFAULT)
            );
        }
    }

    /// What one engine sends, another reads as the same: forwarding twice is forwarding once.
    #[test]
    fn forwarding_twice_is_forwarding_once(input in stream()) {
        let once = forward(&input);
        prop_assert_eq!(forward(&once), once);
    }

    #[test]
    fn a_relayed_body_is_the_same_body(
        body in vec(vec(any::<u8>(), 0..40), 0..10),
        cuts in vec(any::<prop::sample::Index>(), 0..6),
        out_max in 1usize..200,
    ) {
        let mut encoder = BodyEncoder::new(Framing::Chunked);
        let mut sent = Vec::new();
        for piece in &body {
            encoder.data(piece, &mut sent).expect("chunked takes any length");
        }
        encoder.end([(&b"x-sum"[..], &b"1"[..])].into_iter(), &mut sent).expect("chunked ends anywhere");
        let mut decoder = BodyDecoder::new(Framing::Chunked, &Limits::DEFAULT);
        let mut encoder = BodyEncoder::new(Framing::Chunked);
        let mut relayed = Vec::new();
        for part in cut(&sent, &cuts) {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let mut out = Vec::new();
                let done = relay(&mut decoder, &mut encoder, rest, &mut out, out_max).expect("well-formed");
                prop_assert!(out.len() <= out_max + 32, "{} of {out_max}", out.len());
                rest = &rest[done.consumed..];
                relayed.extend(out);
            }
        }
        prop_assert!(decoder.is_done());
        prop_assert_eq!(plain(&relayed), (body.concat(), 1));
    }
}

/// A chunked body as its bytes and the number of its trailers.
fn plain(sent: &[u8]) -> (Vec<u8>, usize) {
    let mut decoder = BodyDecoder::new(Framing::Chunked, &Limits::DEFAULT);
    let (mut at, mut body) = (0, Vec::new());
    loop {
        match decoder.next(sent, &mut at).expect("well-formed") {
            BodyEvent::Data(range) => body.extend_from_slice(&sent[range]),
            BodyEvent::NeedMore => panic!("cut"),
            BodyEvent::End => break,
        }
    }
    assert_eq!(at, sent.len());
    (body, decoder.trailers().count())
}

/// All whole requests of a stream as they go upstream, until one is refused or cut.
fn forward(input: &[u8]) -> Vec<u8> {
    let mut head = RequestHead::default();
    let mut out = Vec::new();
    let mut at = 0;
    while let Ok(Parsed::Complete { head_bytes }) =
        parse_request(&input[at..], &mut HeadScan::default(), &Limits::DEFAULT, &mut head)
    {
        let begin = out.len();
        let edits = RequestEdits { upgrade: true, ..RequestEdits::default() };
        let framing = encode_request(&head, &input[at..], &edits, &mut out);
        at += head_bytes;
        let mut decoder = BodyDecoder::new(head.framing, &Limits::DEFAULT);
        match relay(&mut decoder, &mut BodyEncoder::new(framing), &input[at..], &mut out, usize::MAX) {
            Ok(Relayed { consumed, ended: true, .. }) => at += consumed,
            _ => {
                out.truncate(begin);
                break;
            }
        }
    }
    out
}
