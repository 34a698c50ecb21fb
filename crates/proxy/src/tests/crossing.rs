//! Requests of HTTP/2 that would say something else in HTTP/1.1: their stream is reset, the application sees nothing of
//! them, or no more than a part that it cannot take for a whole, and the next request of the same client is served.

use sinew_spec::application::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bridge::{http1_by_head, read_head};
use super::frames::*;
use super::mesh::*;

const PROTOCOL_ERROR: u32 = 1;

/// A field that enters no table.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap();
    [&[0, length(name)], name, &[length(value)], value].concat()
}

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_bytes(), value.as_bytes())).collect()
}

/// `POST /` to `orders` with more fields.
fn post_with(fields: &[(&str, &str)]) -> Vec<u8> {
    [POST_BLOCK, &head(fields)].concat()
}

/// What an application of HTTP/1.1 got that was not a request for `/good`: the head, and all that came behind it.
type Seen = Shared<Vec<(String, Vec<u8>)>>;

async fn application_of_http1(seen: Seen) -> std::net::SocketAddr {
    http1_by_head(move |mut stream, head| {
        let seen = seen.clone();
        async move {
            if head.starts_with("GET /good HTTP/1.1\r\n") {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
                return Some(stream);
            }
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
            seen.borrow_mut().push((head, rest));
            None
        }
    })
    .await
}

struct Client {
    stream: TcpStream,
    reader: Reader,
    id: u32,
}

impl Client {
    /// Sends `frames` of the next stream, which is reset for it; then a good request, which is served.
    async fn is_reset(&mut self, what: &str, frames: impl FnOnce(u32) -> Vec<u8>) {
        self.id += 2;
        let id = self.id;
        self.stream.write_all(&frames(id)).await.unwrap();
        loop {
            let frame = self.reader.next(&mut self.stream).await.expect(what);
            if frame.stream == id && frame.kind == RST_STREAM {
                assert_eq!(frame.payload, PROTOCOL_ERROR.to_be_bytes(), "{what}");
                break;
            }
            assert!(frame.stream == 0 || frame.kind != HEADERS, "{what}: {frame:?}");
        }
        self.id += 2;
        let good =
            head(&[(":method", "GET"), (":scheme", "http"), (":path", "/good"), (":authority", "orders")]);
        self.stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, self.id, &good)).await.unwrap();
        loop {
            let frame = self.reader.next(&mut self.stream).await.expect(what);
            if frame.stream == self.id {
                assert_eq!((frame.kind, frame.flags), (HEADERS, END_HEADERS | END_STREAM), "{what}");
                return;
            }
        }
    }
}

async fn client_of(seen: &Seen) -> (Pair, Client) {
    let address = application_of_http1(seen.clone()).await;
    let declare = |config: &mut sinew_spec::proxy::ProxyConfig| {
        config.inbound.as_mut().unwrap().protocols.insert(address.port(), Protocol::Http1);
    };
    let mesh = Pair::with(address, |_| {}, declare).await;
    let mut stream = mesh.web.dial().await;
    stream.write_all(&start(&[])).await.unwrap();
    (mesh, Client { stream, reader: Reader::default(), id: 1 })
}

#[tokio::test]
async fn heads_that_would_be_another_in_http1_are_reset() {
    in_mesh(async {
        let seen = Seen::default();
        let (_mesh, mut client) = client_of(&seen).await;
        for (name, value) in [
            ("x-a", "b\r\nx-c: d"),
            ("x-a", "b\rc"),
            ("x-a", "b\nc"),
            ("x-a", "b\0c"),
            ("x-a", " b"),
            ("x-a", "b "),
            ("x-a", "b\x7f"),
            ("x a", "b"),
            ("x-a\r\nx-b", "c"),
            ("x-a\0", "b"),
            ("x-a:", "b"),
            ("X-A", "b"),
            ("", "b"),
            ("connection", "close"),
            ("connection", "x-request-id"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
            ("te", "gzip"),
            ("content-length", "+1"),
            ("content-length", "1, 1"),
            ("content-length", ""),
            (":path", "/other"),
            (":unknown", "x"),
            (":status", "200"),
        ] {
            client
                .is_reset(&format!("{name:?}: {value:?}"), |id| {
                    frame(HEADERS, END_HEADERS | END_STREAM, id, &post_with(&[(name, value)]))
                })
                .await;
        }
        for (method, path, authority) in [
            ("GE T", "/", "orders"),
            ("GET / HTTP/1.1\r\nx:", "/", "orders"),
            ("", "/", "orders"),
            ("GET", "", "orders"),
            ("GET", "good", "orders"),
            ("GET", "*", "orders"),
            ("GET", "http://orders/", "orders"),
            ("GET", "/ HTTP/1.1\r\nhost: other\r\n\r\n", "orders"),
            ("GET", "/a b", "orders"),
            ("GET", "/a\0", "orders"),
            ("GET", "/a#b", "orders"),
            ("GET", "/", "orders other"),
            ("GET", "/", "orders\r\nx-a: b"),
            ("GET", "/", "user@orders"),
            ("GET", "/", ""),
        ] {
            let pseudo =
                head(&[(":method", method), (":scheme", "http"), (":path", path), (":authority", authority)]);
            client
                .is_reset(&format!("{method:?} {path:?} {authority:?}"), |id| {
                    frame(HEADERS, END_HEADERS | END_STREAM, id, &pseudo)
                })
                .await;
        }
        assert_eq!(*seen.borrow(), [], "nothing of them reaches the application");
    })
    .await;
}

#[tokio::test]
async fn bodies_and_trailers_that_would_be_another_request_are_reset() {
    in_mesh(async {
        let seen = Seen::default();
        let (_mesh, mut client) = client_of(&seen).await;
        let declared =
            |id, length| frame(HEADERS, END_HEADERS, id, &post_with(&[("content-length", length)]));
        client
            .is_reset("a length without a body", |id| {
                frame(HEADERS, END_HEADERS | END_STREAM, id, &post_with(&[("content-length", "5")]))
            })
            .await;
        let smuggled = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        client
            .is_reset("more than declared", |id| [declared(id, "3"), frame(DATA, 0, id, smuggled)].concat())
            .await;
        client
            .is_reset("less than declared", |id| {
                [declared(id, "9"), frame(DATA, END_STREAM, id, b"four")].concat()
            })
            .await;
        client
            .is_reset("less than declared, and trailers", |id| {
                let trailers = frame(HEADERS, END_HEADERS | END_STREAM, id, &head(&[("x-sum", "4")]));
                [declared(id, "9"), frame(DATA, 0, id, b"four"), trailers].concat()
            })
            .await;
        let trailers: &[(&str, &str)] = &[
            (":path", "/other"),
            (":status", "200"),
            (":x", "y"),
            ("connection", "close"),
            ("x-a", "b\r\nc: d"),
            ("X-A", "b"),
        ];
        for (name, value) in trailers {
            client
                .is_reset(&format!("trailer {name:?}: {value:?}"), |id| {
                    let trailers = head(&[("x-sum", "4"), (name, value)]);
                    let end = frame(HEADERS, END_HEADERS | END_STREAM, id, &trailers);
                    [post(id), frame(DATA, 0, id, b"four"), end].concat()
                })
                .await;
        }
        client
            .is_reset("a second head within the body", |id| {
                [post(id), frame(DATA, 0, id, b"four"), frame(HEADERS, END_HEADERS, id, GET_BLOCK)].concat()
            })
            .await;
        // Whatever the application has of them is no whole request, and nothing comes behind it.
        until(async || seen.borrow().iter().all(|(head, _)| head.starts_with("POST / "))).await;
        for (head, rest) in seen.borrow().iter() {
            let rest = String::from_utf8_lossy(rest);
            assert!(!rest.contains("HTTP/1.1") && !rest.contains("0\r\n"), "{head}{rest}");
            assert!(!head.contains("content-length: 3\r\n") || rest.len() < 3, "{head}{rest}");
            assert!(!head.contains("content-length: 9\r\n") || rest.len() < 9, "{head}{rest}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_to_http2_is_not_granted() {
    in_mesh(async {
        let address = http1_by_head(|mut stream, head| async move {
            let body = head.to_ascii_lowercase();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.ok()?;
            Some(stream)
        })
        .await;
        let mesh = Pair::new(address).await;
        let request = "GET / HTTP/1.1\r\nhost: orders\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
                       http2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
        let answer = mesh.web.call(request).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(!answer.contains("h2c") && !answer.contains("http2-settings"), "{answer}");
        let mut client = mesh.web.dial().await;
        client.write_all(request.as_bytes()).await.unwrap();
        assert!(read_head(&mut client).await.unwrap().starts_with("HTTP/1.1 200 "));
    })
    .await;
}

#[tokio::test]
async fn the_preface_is_none_behind_a_request() {
    in_mesh(async {
        let address = http1_by_head(|mut stream, _| async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
            Some(stream)
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        let sent = [&b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n"[..], &sinew_wire::h2::PREFACE[..]].concat();
        client.write_all(&sent).await.unwrap();
        assert!(read_head(&mut client).await.unwrap().starts_with("HTTP/1.1 200 "));
        assert!(read_head(&mut client).await.unwrap().starts_with("HTTP/1.1 505 "));
    })
    .await;
}
