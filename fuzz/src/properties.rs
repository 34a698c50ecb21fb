//! What holds for every input. Run by the fuzz targets on what they make up, and by `crates/wire/tests/corpus.rs` on
//! what they kept.
//!
//! The first byte of an input says where the rest is cut in two: how it is cut must not matter.

use sinew_wire::h1::{
    BodyDecoder, BodyEncoder, BodyEvent, Exchange, Framing, HeadScan, Limits, Parsed, RequestEdits,
    RequestHead, ResponseEdits, ResponseHead, ResponseKind, encode_request, encode_response, parse_request,
    parse_response, relay,
};

/// Forwards the requests of a stream; forwards the result once more, which must not change it.
pub fn request(input: &[u8]) {
    let Some((input, cut)) = cut(input) else { return };
    let once = forward_requests(input, input.len());
    assert_eq!(once, forward_requests(input, cut), "cut at {cut}");
    assert_eq!(forward_requests(&once, once.len()), once, "forwarded twice");
}

/// The same for an answer, to requests of several kinds.
pub fn response(input: &[u8]) {
    let Some((input, cut)) = cut(input) else { return };
    for request in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    ] {
        let mut head = RequestHead::default();
        parse_request(request, &mut HeadScan::default(), &Limits::DEFAULT, &mut head).expect("well-formed");
        let exchange = head.exchange(true);
        let once = forward_response(input, input.len(), exchange);
        assert_eq!(once, forward_response(input, cut, exchange), "cut at {cut}");
        if head.version == sinew_wire::h1::Version::Http11 && once.is_whole {
            let twice = forward_response(&once.bytes, once.bytes.len(), exchange);
            assert_eq!(twice.bytes, once.bytes, "forwarded twice");
        }
    }
}

/// A chunked body, as it is and after it was framed anew.
pub fn chunked(input: &[u8]) {
    let Some((input, cut)) = cut(input) else { return };
    let whole = decode(input, input.len());
    assert_eq!(whole, decode(input, cut), "cut at {cut}");
    let Some((body, _)) = whole else { return };
    let mut out = Vec::new();
    let mut decoder = BodyDecoder::new(Framing::Chunked, &Limits::DEFAULT);
    let relayed = relay(&mut decoder, &mut BodyEncoder::new(Framing::Chunked), input, &mut out, usize::MAX);
    assert!(relayed.is_ok_and(|relayed| relayed.ended));
    let (again, consumed) = decode(&out, out.len()).expect("what was written can be read");
    assert_eq!((again, consumed), (body, out.len()));
}

/// A header of the PROXY protocol: fewer bytes are never taken for something else.
pub fn proxy_protocol(input: &[u8]) {
    use sinew_wire::proxy_protocol::{Parsed, parse};
    let Some((input, cut)) = cut(input) else { return };
    let (whole, part) = (parse(input), parse(&input[..cut]));
    assert!(part == Ok(Parsed::Incomplete) || part == whole, "cut at {cut}");
    if let Ok(Parsed::Complete { bytes, .. }) = whole {
        assert!(bytes <= input.len());
        assert_eq!(parse(&input[..bytes]), whole);
        assert_eq!(parse(&input[..bytes - 1]), Ok(Parsed::Incomplete));
    }
}

fn cut(input: &[u8]) -> Option<(&[u8], usize)> {
    let (&at, input) = input.split_first()?;
    Some((input, usize::from(at) % (input.len() + 1)))
}

/// All whole requests until one is refused or not whole. Only `cut` bytes are there at first.
fn forward_requests(input: &[u8], cut: usize) -> Vec<u8> {
    let mut head = RequestHead::default();
    let mut scan = HeadScan::default();
    let mut out = Vec::new();
    let (mut at, mut visible) = (0, cut);
    loop {
        match parse_request(&input[at..visible], &mut scan, &Limits::DEFAULT, &mut head) {
            Ok(Parsed::Complete { head_bytes }) => {
                let begin = out.len();
                let edits = RequestEdits { upgrade: true, ..RequestEdits::default() };
                let framing = encode_request(&head, &input[at..visible], &edits, &mut out);
                at += head_bytes;
                // Chunks are put together, as cuts would show otherwise.
                let Some(body) = decode_as(head.framing, &input[at..], visible.saturating_sub(at)) else {
                    out.truncate(begin);
                    return out;
                };
                encode_body(framing, &body.0, &body.2, &mut out);
                at += body.1;
                visible = visible.max(at);
            }
            Ok(Parsed::Incomplete) if visible < input.len() => visible = input.len(),
            Ok(Parsed::Incomplete) | Err(_) => return out,
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Forwarded {
    bytes: Vec<u8>,
    is_whole: bool,
}

fn forward_response(input: &[u8], cut: usize, mut exchange: Exchange) -> Forwarded {
    let mut head = ResponseHead::default();
    let mut scan = HeadScan::default();
    let mut out = Forwarded::default();
    let (mut at, mut visible) = (0, cut);
    loop {
        match parse_response(&input[at..visible], &mut scan, &Limits::DEFAULT, &mut exchange, &mut head) {
            Ok(Parsed::Complete { head_bytes }) => {
                let bytes = &input[at..visible];
                let sent =
                    encode_response(&head, bytes, &exchange, &ResponseEdits::default(), &mut out.bytes);
                at += head_bytes;
                if head.kind == ResponseKind::Interim {
                    continue;
                }
                if let Some(body) = decode_as(head.framing, &input[at..], visible - at) {
                    encode_body(sent.framing, &body.0, &body.2, &mut out.bytes);
                    out.is_whole = true;
                }
                return out;
            }
            Ok(Parsed::Incomplete) if visible < input.len() => visible = input.len(),
            Ok(Parsed::Incomplete) | Err(_) => return out,
        }
    }
}

type Trailers = Vec<(Vec<u8>, Vec<u8>)>;

fn encode_body(framing: Framing, body: &[u8], trailers: &Trailers, out: &mut Vec<u8>) {
    let mut encoder = BodyEncoder::new(framing);
    encoder.data(body, out).expect("as long as was said");
    encoder
        .end(trailers.iter().map(|(name, value)| (&name[..], &value[..])), out)
        .expect("as long as was said");
}

fn decode(input: &[u8], cut: usize) -> Option<(Vec<u8>, usize)> {
    let (body, consumed, _) = decode_as(Framing::Chunked, input, cut)?;
    Some((body, consumed))
}

/// The body, the bytes it took, its trailers; `None` if it is malformed or not whole.
fn decode_as(framing: Framing, input: &[u8], cut: usize) -> Option<(Vec<u8>, usize, Trailers)> {
    let mut decoder = BodyDecoder::new(framing, &Limits::DEFAULT);
    let (mut body, mut at) = (Vec::new(), 0);
    for visible in [cut, input.len()] {
        loop {
            match decoder.next(&input[..visible], &mut at).ok()? {
                BodyEvent::Data(range) => body.extend_from_slice(&input[range]),
                BodyEvent::NeedMore => break,
                BodyEvent::End => {
                    return Some((body, at, trailers(&decoder)));
                }
            }
        }
        assert_eq!(at, visible, "all of the input is used");
    }
    decoder.eof().ok()?;
    Some((body, at, trailers(&decoder)))
}

fn trailers(decoder: &BodyDecoder) -> Trailers {
    decoder.trailers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}
