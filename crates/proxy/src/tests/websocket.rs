//! WebSocket between clients and applications of either version.

use sinew_spec::application::Protocol;
use sinew_spec::proxy::ProxyConfig;
use sinew_wire::h2::{Connection, ErrorCode, Limits};
use sinew_wire::websocket::{KEY_BYTES, accept};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::bridge::{http1_by_head, read_head};
use super::mesh::*;
use super::peer::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn handshake(more: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// The answer that a head asks for.
fn switching(head: &str) -> String {
    let (_, rest) = head.split_once("sec-websocket-key: ").expect("it has a key");
    let key: &[u8; KEY_BYTES] = rest.as_bytes()[..KEY_BYTES].try_into().unwrap();
    let accept = String::from_utf8(accept(key).to_vec()).unwrap();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\nsec-websocket-protocol: chat\r\n\r\n"
    )
}

/// Repeats what it gets in a tunnel, and says good-bye. Opens one when `may_open`.
async fn chat(mut stream: TcpStream, head: String, mut may_open: watch::Receiver<bool>) -> Option<TcpStream> {
    if !head.starts_with("GET /chat ") {
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
        return Some(stream);
    }
    assert!(head.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
    assert_eq!(head.matches("sec-websocket-key").count(), 1, "{head}");
    may_open.wait_for(|may| *may).await.ok()?;
    let mut early = [0; 16];
    assert!(stream.try_read(&mut early).is_err(), "nothing comes before the tunnel is open: {early:?}");
    stream.write_all(format!("{}welcome ", switching(&head)).as_bytes()).await.ok()?;
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        stream.write_all(&buffer[..count]).await.ok()?;
    }
    stream.write_all(b" bye").await.ok()?;
    None
}

/// What comes on a stream until it has all of `expected`.
async fn expect(client: &mut Peer, expected: &[u8]) {
    let mut bytes = Vec::new();
    while bytes.len() < expected.len() {
        match client.next().await {
            Got::Data(_, data, _) => bytes.extend(data),
            got => panic!("{got:?} after {bytes:?}"),
        }
    }
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(expected));
}

fn declared(address: std::net::SocketAddr, protocol: Protocol) -> impl FnOnce(&mut ProxyConfig) {
    move |config| {
        config.inbound.as_mut().unwrap().protocols.insert(address.port(), protocol);
    }
}

#[tokio::test]
async fn a_client_of_http2_reaches_an_application_by_upgrade() {
    in_mesh(async {
        let (open, may_open) = watch::channel(false);
        let address = http1_by_head(move |stream, head| chat(stream, head, may_open.clone())).await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let key = client.tunnel("/chat", "x-mine: yes\r\n").await;
        client.send(key, b"early ", false);
        // The same way, behind it: when this is answered the application's sidecar has what was early.
        let other = client.request("GET", "/other", "", true);
        assert_eq!(client.next().await, Got::Response(other, ":status: 204\n".to_owned(), true));
        open.send_replace(true);
        let Got::Response(stream, head, false) = client.next().await else { panic!("no answer") };
        assert_eq!((stream, &*head), (key, ":status: 200\nsec-websocket-protocol: chat\n"));
        expect(&mut client, b"welcome early ").await;
        for word in [&b"one"[..], b"two"] {
            client.send(key, word, false);
            expect(&mut client, word).await;
        }
        let large = vec![7; 1024 * 1024];
        client.send(key, &large, false);
        expect(&mut client, &large).await;
        client.send(key, b"", true);
        expect(&mut client, b" bye").await;
        assert_eq!(client.next().await, Got::Data(key, Vec::new(), true));
        until(async || mesh.orders.stats().await.inbound.values().all(|port| port.in_flight == 0)).await;
        assert_eq!(mesh.web.stats().await.outbound["orders"].errors, 0);
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_that_is_not_granted_is_none() {
    in_mesh(async {
        let address = http1_by_head(|mut stream, head| async move {
            let answer = match () {
                () if head.contains("/forged") => switching(&head).replace("accept: ", "accept: x"),
                () if head.contains("/other") => {
                    switching(&head).replace("upgrade: websocket", "upgrade: other")
                }
                () if head.contains("/plain") => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
                () => "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_owned(),
            };
            stream.write_all(answer.as_bytes()).await.ok()?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
            assert_eq!(rest, b"", "it is used for nothing else, and nothing was passed on");
            None
        })
        .await;
        let mesh = Pair::with(address, |_| {}, declared(address, Protocol::Http1)).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for (path, status, reason) in [
            ("/forged", 502, "upstream-malformed"),
            ("/other", 502, "upstream-malformed"),
            ("/plain", 502, "not-tunnelled"),
            ("/forbidden", 403, ""),
        ] {
            let key = client.tunnel(path, "").await;
            client.send(key, b"early", false);
            let answer = client.answer(key).await;
            assert_eq!(answer.status(), status, "{path}: {answer:?}");
            assert_eq!(
                answer.head.contains(&format!("x-sinew-reason: {reason}")),
                status == 502,
                "{path}: {answer:?}"
            );
            assert_eq!(client.next().await, Got::Reset(key, ErrorCode::NO_ERROR), "{path}");
        }
        until(async || mesh.orders.stats().await.inbound.values().all(|port| port.in_flight == 0)).await;
    })
    .await;
}

#[tokio::test]
async fn who_leaves_ends_the_tunnel() {
    in_mesh(async {
        let (told, mut ended) = watch::channel(0);
        let address = http1_by_head(move |mut stream, head| {
            let told = told.clone();
            async move {
                stream.write_all(switching(&head).as_bytes()).await.ok()?;
                if !head.contains("/leaves") {
                    stream.read_to_end(&mut Vec::new()).await.ok();
                    told.send_modify(|count| *count += 1);
                }
                None
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let key = client.tunnel("/chat", "").await;
        assert!(matches!(client.next().await, Got::Response(_, _, false)));
        client.engine.reset(key, ErrorCode::CANCEL);
        client.flush().await;
        ended.wait_for(|count| *count == 1).await.unwrap();
        let key = client.tunnel("/leaves", "").await;
        assert!(matches!(client.next().await, Got::Response(_, _, false)));
        assert_eq!(client.next().await, Got::Data(key, Vec::new(), true));
        assert_eq!(
            client.next().await,
            Got::Reset(key, ErrorCode::NO_ERROR),
            "what is said now goes nowhere"
        );
        client.tunnel("/chat", "").await;
        assert!(matches!(client.next().await, Got::Response(_, _, false)));
        drop(client);
        ended.wait_for(|count| *count == 2).await.unwrap();
        until(async || mesh.orders.stats().await.inbound.values().all(|port| port.in_flight == 0)).await;
    })
    .await;
}

/// An application of HTTP/2 that opens tunnels.
async fn chat_over_http2(limits: Limits) -> std::net::SocketAddr {
    application(move |mut stream, _| async move {
        let mut first = [0; 3];
        stream.peek(&mut first).await.ok();
        if &first != b"PRI" {
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.ok();
            return;
        }
        let mut peer = Peer::new(stream, Connection::server(limits));
        loop {
            match peer.next().await {
                Got::Request(key, head, false) if head.contains("/chat") => {
                    assert!(head.starts_with(":method: CONNECT\n:path: /chat\n"), "{head}");
                    assert!(head.contains("\nsec-websocket-version: 13\n"), "{head}");
                    assert!(!head.contains("sec-websocket-key") && !head.contains("upgrade"), "{head}");
                    peer.respond(key, 200, &[("sec-websocket-protocol", "chat")], false);
                    peer.send(key, b"welcome ", false);
                }
                Got::Request(key, ..) => peer.respond(key, 403, &[], true),
                Got::Data(key, bytes, end) => {
                    peer.send(key, &bytes, false);
                    if end {
                        peer.send(key, b" bye", true);
                    }
                }
                Got::Closed => return,
                _ => {}
            }
        }
    })
    .await
}

async fn read_exactly(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(expected));
}

#[tokio::test]
async fn a_client_of_http1_reaches_an_application_of_http2() {
    in_mesh(async {
        let address = chat_over_http2(Limits::DEFAULT).await;
        for declare in [None, Some(Protocol::Http2)] {
            let mesh = Pair::with(
                address,
                |_| {},
                |config| {
                    if let Some(protocol) = declare {
                        declared(address, protocol)(config);
                    }
                },
            )
            .await;
            let mut client = mesh.web.dial().await;
            client.write_all(format!("{}early ", handshake("")).as_bytes()).await.unwrap();
            let head = read_head(&mut client).await.unwrap().to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
            assert!(head.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
            assert!(
                head.contains(&format!("\r\nsec-websocket-accept: {}\r\n", ACCEPT.to_ascii_lowercase())),
                "{head}"
            );
            assert!(head.contains("\r\nsec-websocket-protocol: chat\r\n"), "{head}");
            read_exactly(&mut client, b"welcome early ").await;
            client.write_all(b"one").await.unwrap();
            read_exactly(&mut client, b"one").await;
            client.shutdown().await.unwrap();
            let mut rest = String::new();
            client.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, " bye");
            let refused = mesh.web.call(&handshake("").replace("/chat", "/no")).await;
            assert_eq!(status(&refused), 403, "{refused}");
            until(async || mesh.orders.stats().await.inbound.values().all(|port| port.in_flight == 0)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_application_of_http2_without_tunnels_is_named() {
    in_mesh(async {
        let address = chat_over_http2(Limits { extended_connect: false, ..Limits::DEFAULT }).await;
        let mesh = Pair::new(address).await;
        let answer = mesh.web.call(&handshake("")).await;
        assert_eq!(status(&answer), 502, "{answer}");
        assert!(answer.contains("\r\nx-sinew-reason: not-tunnelled\r\n"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn tunnels_pass_from_http2_to_http2() {
    in_mesh(async {
        let address = chat_over_http2(Limits::DEFAULT).await;
        let mesh = Pair::with(address, |_| {}, declared(address, Protocol::Http2)).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for _ in 0..2 {
            let key = client.tunnel("/chat", "").await;
            client.send(key, b"early ", false);
            assert!(matches!(client.next().await, Got::Response(_, head, false) if head.starts_with(":status: 200\n")));
            expect(&mut client, b"welcome early ").await;
            client.send(key, b"one", true);
            expect(&mut client, b"one bye").await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_ordinary_connect_is_refused() {
    in_mesh(async {
        let mesh = Pair::new(echoing_application().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let key = client.connect("other:80");
        let answer = client.answer(key).await;
        assert_eq!(answer.status(), 405, "{answer:?}");
        assert!(answer.head.contains("\nx-sinew-reason: method-refused\n"), "{answer:?}");
    })
    .await;
}
