//! Clients of one version of HTTP and applications of the other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use sinew_spec::application::Protocol;
use sinew_wire::h2::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::mesh::*;
use super::peer::*;

/// As an application that speaks HTTP/1.1 alone answers the preface of HTTP/2, and others.
const UNSUPPORTED: &str =
    "HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// An application that speaks HTTP/1.1 alone; `answer` gets every message and what it came on.
async fn http1_application<F, S>(answer: F) -> std::net::SocketAddr
where
    F: Fn(TcpStream, String, usize) -> S + Clone + 'static,
    S: Future<Output = Option<TcpStream>> + 'static,
{
    application(move |mut stream, number| {
        let answer = answer.clone();
        async move {
            while let Some(message) = read_message(&mut stream).await {
                if message.starts_with("PRI ") {
                    stream.write_all(UNSUPPORTED.as_bytes()).await.ok();
                    return;
                }
                let Some(open) = answer(stream, message, number).await else { return };
                stream = open;
            }
        }
    })
    .await
}

/// The same, where a message is its head; the rest is for `answer` to read.
pub async fn http1_by_head<F, S>(answer: F) -> std::net::SocketAddr
where
    F: Fn(TcpStream, String) -> S + Clone + 'static,
    S: Future<Output = Option<TcpStream>> + 'static,
{
    application(move |mut stream, _| {
        let answer = answer.clone();
        async move {
            while let Some(head) = read_head(&mut stream).await {
                if head.starts_with("PRI ") {
                    stream.write_all(UNSUPPORTED.as_bytes()).await.ok();
                    return;
                }
                let Some(open) = answer(stream, head).await else { return };
                stream = open;
            }
        }
    })
    .await
}

pub async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Repeats each message as the body of its answer.
async fn http1_echo() -> std::net::SocketAddr {
    http1_application(|mut stream, message, number| async move {
        let body = format!("#{number}\n{message}");
        let answer =
            format!("HTTP/1.1 200 OK\r\nX-Kind: Echo\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.ok()?;
        Some(stream)
    })
    .await
}

/// Answers everything with fixed bytes and goes on.
async fn http1_fixed(answer: &'static str) -> std::net::SocketAddr {
    http1_application(move |mut stream, _, _| async move {
        stream.write_all(answer.as_bytes()).await.ok()?;
        Some(stream)
    })
    .await
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

#[tokio::test]
async fn a_call_over_http2_reaches_an_application_of_http1() {
    in_mesh(async {
        let mesh = Pair::new(http1_echo().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let mut connections = Vec::new();
        for _ in 0..3 {
            let key = client.request("GET", "/a?b=c", "cookie: a=1\r\nx-mine: yes\r\n", true);
            let answer = client.answer(key).await;
            assert_eq!(answer.status(), 200, "{answer:?}");
            assert!(answer.head.contains("\nx-kind: Echo\n"), "{answer:?}");
            let body = text(&answer);
            let (number, request) = body.split_once('\n').unwrap();
            connections.push(number.to_owned());
            assert!(request.starts_with("GET /a?b=c HTTP/1.1\r\nhost: orders\r\n"), "{body}");
            assert!(
                request.contains("\r\nx-mine: yes\r\n") && request.contains("\r\ncookie: a=1\r\n"),
                "{body}"
            );
            assert!(
                request.contains("\r\nx-request-id: ") && request.contains("\r\ntraceparent: 00-"),
                "{body}"
            );
            assert!(!request.contains("transfer-encoding") && !request.contains("content-length"), "{body}");
        }
        // The first connection found out what it speaks; the second serves all calls, one after the other.
        assert_eq!(connections, ["#1", "#1", "#1"]);
        let inbound = mesh.orders.stats().await.inbound;
        let port = inbound.values().next().unwrap();
        assert_eq!((port.requests, port.errors, port.in_flight), (3, 0, 0));
        assert_eq!(mesh.web.stats().await.outbound["orders"].errors, 0);
    })
    .await;
}

#[tokio::test]
async fn the_call_that_finds_it_out_is_not_lost_whatever_its_size() {
    in_mesh(async {
        let mesh = Pair::new(http1_echo().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        // More than could be sent again, and as much of it as may come before anybody knows.
        let sent = "x".repeat(100_000);
        let key = client.request("POST", "/a", "", false);
        client.send(key, sent.as_bytes(), true);
        let answer = client.answer(key).await;
        assert_eq!(answer.status(), 200, "{:?}", answer.head);
        let body = text(&answer);
        let (_, echoed) = body.split_once("\r\n\r\n").expect("a head");
        assert_eq!(echoed.matches('x').count(), sent.len(), "whole, whatever frames it");
    })
    .await;
}

#[tokio::test]
async fn what_is_declared_is_not_asked() {
    in_mesh(async {
        let address = http1_echo().await;
        let declare = |config: &mut sinew_spec::proxy::ProxyConfig| {
            config.inbound.as_mut().unwrap().protocols.insert(address.port(), Protocol::Http1);
        };
        let mesh = Pair::with(address, |_| {}, declare).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let key = client.request("GET", "/a", "", true);
        assert!(text(&client.answer(key).await).starts_with("#0\n"), "the first connection serves");
    })
    .await;
}

#[tokio::test]
async fn a_wrong_declaration_is_named() {
    in_mesh(async {
        let address = http1_echo().await;
        let declare = |config: &mut sinew_spec::proxy::ProxyConfig| {
            config.inbound.as_mut().unwrap().protocols.insert(address.port(), Protocol::Grpc);
        };
        let mesh = Pair::with(address, |_| {}, declare).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let answer = client.call(b"hello").await;
        assert!(answer.head.contains("\nx-sinew-reason: not-http2\n"), "{answer:?}");
        assert!(answer.head.contains("\ngrpc-status: 12\n"), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn whatever_answers_the_preface_otherwise_is_named() {
    in_mesh(async {
        for (words, retries) in
            [(&b"<!DOCTYPE html>\n<p>Bad request version"[..], 0), (b"400\n", 0), (b"", 2)]
        {
            let address = application(move |mut stream, _| async move {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).await.unwrap();
                stream.write_all(words).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
            })
            .await;
            let declare = |config: &mut sinew_spec::proxy::ProxyConfig| {
                config.inbound.as_mut().unwrap().protocols.insert(address.port(), Protocol::Http2);
            };
            let mesh = Pair::with(address, |_| {}, declare).await;
            let answer = mesh.web.call("GET / HTTP/1.1\r\nhost: orders\r\n\r\n").await;
            assert!(answer.contains("\r\nx-sinew-reason: not-http2\r\n"), "{answer}");
            assert_eq!(status(&answer), 502);
            let metrics = mesh.orders.admin("/metrics").await;
            let sample = metrics.lines().find(|line| line.starts_with("sinew_request_retries_total{"));
            assert!(sample.unwrap().ends_with(&format!(" {retries}")), "{words:?} {metrics}");
        }
    })
    .await;
}

#[tokio::test]
async fn bodies_stream_both_ways_with_their_trailers() {
    in_mesh(async {
        let address = http1_by_head(|mut stream, head| async move {
            assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
            assert!(head.contains("\r\nconnection: te\r\nte: trailers\r\n"), "{head}");
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            for word in ["one", "two"] {
                let mut chunk = [0; 8];
                stream.read_exact(&mut chunk).await.ok()?;
                assert_eq!(chunk, format!("3\r\n{word}\r\n").as_bytes());
                stream.write_all(&chunk).await.ok()?;
            }
            let mut end = [0; 13];
            stream.read_exact(&mut end).await.ok()?;
            assert_eq!(&end, b"0\r\nx-sum: 6\r\n");
            stream.read_exact(&mut end[..2]).await.ok()?;
            stream.write_all(b"0\r\nX-Sum: 6\r\ncontent-length: 9\r\n\r\n").await.ok()?;
            Some(stream)
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for _ in 0..2 {
            let key = client.request("POST", "/chat", "te: trailers\r\n", false);
            assert!(matches!(client.next().await, Got::Response(_, _, false)));
            for word in [&b"one"[..], b"two"] {
                client.send(key, word, false);
                assert_eq!(client.next().await, Got::Data(key, word.to_vec(), false));
            }
            client.engine.send_trailers(key, [(&b"x-sum"[..], &b"6"[..])].into_iter()).unwrap();
            assert_eq!(
                client.next().await,
                Got::Trailers(key, "x-sum: 6\n".to_owned()),
                "no length behind a body"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn interim_answers_pass_and_a_body_may_wait_for_one() {
    in_mesh(async {
        let address = http1_by_head(|mut stream, head| async move {
            assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
            let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
            stream.write_all(early.as_bytes()).await.ok()?;
            let mut body = [0; 5];
            stream.read_exact(&mut body).await.ok()?;
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
            Some(stream)
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for _ in 0..2 {
            let key = client.request("PUT", "/a", "expect: 100-continue\r\n", false);
            let hints = Got::Response(key, ":status: 103\nlink: </a>\n".to_owned(), false);
            assert_eq!(client.next().await, hints);
            assert_eq!(client.next().await, Got::Response(key, ":status: 100\n".to_owned(), false));
            // In the framing that it was announced in.
            client.send(key, b"", false);
            client.engine.send_data(key, b"", true).unwrap();
            assert_eq!(client.next().await, Got::Response(key, ":status: 204\n".to_owned(), true));
        }
    })
    .await;
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    in_mesh(async {
        for (method, answer, expected) in [
            ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", ":status: 200\ncontent-length: 7\n"),
            ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", ":status: 200\n"),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", ":status: 204\n"),
            (
                "GET",
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
                ":status: 304\ncontent-length: 7\n",
            ),
            ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ":status: 200\ncontent-length: 0\n"),
        ] {
            let mesh = Pair::new(http1_fixed(answer).await).await;
            let mut client = Peer::client(mesh.web.dial().await);
            for _ in 0..2 {
                let key = client.request(method, "/a", "", true);
                assert_eq!(
                    client.next().await,
                    Got::Response(key, expected.to_owned(), true),
                    "{method} {answer}"
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_whole() {
    in_mesh(async {
        let address = http1_by_head(|mut stream, _| async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end").await.ok()?;
            stream.shutdown().await.ok();
            None
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for _ in 0..3 {
            let key = client.request("GET", "/a", "", true);
            let answer = client.answer(key).await;
            assert_eq!((&*answer.head, &*answer.body), (":status: 200\n", &b"until the end"[..]));
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_may_come_before_the_body_and_costs_the_connection() {
    in_mesh(async {
        let count = Rc::new(Cell::new(0));
        let seen = count.clone();
        let address = application(move |mut stream, number| {
            seen.set(number);
            async move {
                let Some(head) = read_head(&mut stream).await else { return };
                if head.starts_with("PRI ") {
                    stream.write_all(UNSUPPORTED.as_bytes()).await.ok();
                    return;
                }
                let answer = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\nlarge";
                stream.write_all(answer).await.ok();
                // Nothing of the next request may come behind half of this one's body.
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.ok();
                assert!(!rest.windows(4).any(|bytes| bytes == b"POST"));
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for number in 1..=3 {
            let key = client.request("POST", "/a", "", false);
            client.send(key, b"some of it", false);
            let answer = client.answer(key).await;
            assert_eq!((answer.status(), &*answer.body), (413, &b"large"[..]));
            assert_eq!(client.next().await, Got::Reset(key, ErrorCode::NO_ERROR), "the rest is not wanted");
            assert_eq!(count.get(), number);
        }
    })
    .await;
}

#[tokio::test]
async fn who_gives_up_costs_the_connection_and_nobody_else() {
    in_mesh(async {
        let (told, ended) = oneshot::channel();
        let told = RefCell::new(Some(told));
        let address = application(move |mut stream, number| {
            let told = if number == 1 { told.borrow_mut().take() } else { None };
            async move {
                while let Some(head) = read_head(&mut stream).await {
                    if head.starts_with("PRI ") {
                        stream.write_all(UNSUPPORTED.as_bytes()).await.ok();
                        return;
                    }
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.ok();
                    if let Some(told) = told {
                        stream.read_to_end(&mut Vec::new()).await.ok();
                        return told.send(()).unwrap();
                    }
                    stream.write_all(b"whole").await.ok();
                }
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let key = client.request("GET", "/a", "", true);
        assert!(matches!(client.next().await, Got::Response(_, _, false)));
        client.engine.reset(key, ErrorCode::CANCEL);
        client.flush().await;
        ended.await.unwrap();
        let key = client.request("GET", "/a", "", true);
        assert_eq!(client.answer(key).await.body, b"whole");
        until(async || mesh.orders.stats().await.inbound.values().all(|port| port.in_flight == 0)).await;
    })
    .await;
}

#[tokio::test]
async fn a_malformed_or_cut_answer_is_never_a_whole_one() {
    in_mesh(async {
        for (answer, reason) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc", "upstream-malformed"),
            ("HTTP/1.1 200 OK\r\nname : value\r\n\r\n", "upstream-malformed"),
            (
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: a\r\nconnection: upgrade\r\n\r\n",
                "upstream-malformed",
            ),
            ("what?\r\n\r\n", "upstream-malformed"),
            ("HTTP/1.1 20", "upstream-gone"),
        ] {
            let address = http1_by_head(move |mut stream, _| async move {
                stream.write_all(answer.as_bytes()).await.ok()?;
                None
            })
            .await;
            let mesh = Pair::new(address).await;
            let mut client = Peer::client(mesh.web.dial().await);
            let key = client.request("GET", "/a", "", true);
            let got = client.answer(key).await;
            assert_eq!(got.status(), 502, "{answer:?}: {got:?}");
            assert!(got.head.contains(&format!("\nx-sinew-reason: {reason}\n")), "{answer:?}: {got:?}");
        }
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n",
        ] {
            let address = http1_by_head(move |mut stream, _| async move {
                stream.write_all(answer.as_bytes()).await.ok()?;
                None
            })
            .await;
            let mesh = Pair::new(address).await;
            let mut client = Peer::client(mesh.web.dial().await);
            client.request("GET", "/a", "", true);
            loop {
                match client.next().await {
                    Got::Reset(_, ErrorCode::INTERNAL_ERROR) => break,
                    Got::Response(_, _, false) | Got::Data(_, _, false) => {}
                    got => panic!("{answer:?}: {got:?}"),
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_with_bytes_behind_it_is_refused_or_its_connection_left() {
    in_mesh(async {
        let address = http1_by_head(|mut stream, head| async move {
            let both = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            let later = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
            let answer = if head.contains("/both") { both } else { later };
            stream.write_all(answer.as_bytes()).await.ok()?;
            Some(stream)
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for _ in 0..3 {
            let key = client.request("GET", "/both", "", true);
            assert_eq!(client.answer(key).await.status(), 502);
            let key = client.request("GET", "/later", "", true);
            assert_eq!(client.answer(key).await.body, b"x");
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_that_ended_costs_no_call() {
    in_mesh(async {
        // One answer for each connection, and the second is never read.
        let address = http1_application(|mut stream, _, number| async move {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
            stream.write_all(answer.as_bytes()).await.ok()?;
            read_head(&mut stream).await;
            None
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for number in 1..=3 {
            let key = client.request("GET", "/a", "", true);
            assert_eq!(text(&client.answer(key).await), number.to_string());
        }
        // What may have done something is not sent twice.
        let key = client.request("POST", "/a", "", true);
        assert_eq!(client.answer(key).await.status(), 502);
    })
    .await;
}

#[tokio::test]
async fn slow_readers_hold_bounded_memory_on_both_sides() {
    in_mesh(async {
        const SIZE: usize = 16 * 1024 * 1024;
        let written = Rc::new(Cell::new(0));
        let shown = written.clone();
        let address = http1_by_head(move |mut stream, head| {
            let shown = shown.clone();
            async move {
                if !head.contains("/large") {
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
                    return Some(stream);
                }
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.ok()?;
                for _ in 0..SIZE / 4096 {
                    stream.write_all(&[7; 4096]).await.ok()?;
                    shown.set(shown.get() + 4096);
                }
                Some(stream)
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut slow = Peer::client(mesh.web.dial().await);
        let key = slow.request("GET", "/large", "", true);
        slow.flush().await;
        // Until nothing moves any more, as far as a busy machine shows that.
        let mut before = usize::MAX;
        while before != written.get() || before == 0 {
            before = written.get();
            let mut other = Peer::client(mesh.web.dial().await);
            for _ in 0..20 {
                let key = other.request("GET", "/a", "", true);
                assert_eq!(other.answer(key).await.status(), 204);
            }
        }
        assert!(written.get() < SIZE / 2, "{} of {SIZE} are on the way", written.get());
        // And it is all there when it reads.
        assert_eq!(slow.answer(key).await.body.len(), SIZE);
    })
    .await;
}

#[tokio::test]
async fn who_speaks_http1_reaches_an_application_of_http2_alone() {
    in_mesh(async {
        let address = http2_only().await;
        for protocol in [None, Some(Protocol::Http2), Some(Protocol::Grpc)] {
            let declare = |config: &mut sinew_spec::proxy::ProxyConfig| {
                if let Some(protocol) = protocol {
                    config.inbound.as_mut().unwrap().protocols.insert(address.port(), protocol);
                }
            };
            let mesh = Pair::with(address, |_| {}, declare).await;
            let mut client = mesh.web.dial().await;
            for _ in 0..3 {
                let request = "POST /a?b HTTP/1.1\r\nHost: orders\r\nTE: trailers\r\nConnection: te\r\nX-Mine: yes\r\ncontent-length: 5\r\n\r\nhello";
                client.write_all(request.as_bytes()).await.unwrap();
                let answer = read_chunks(&mut client).await;
                assert_eq!(status(&answer), 200, "{answer}");
                assert!(answer.contains("\r\ntransfer-encoding: chunked\r\n"), "{answer}");
                assert!(answer.contains(":method: POST\n:path: /a?b\nte: trailers\n"), "{answer}");
                assert!(answer.contains("\nx-mine: yes\n") && answer.contains("\ncontent-length: 5\n"), "{answer}");
                assert!(answer.contains("\nx-request-id: ") && answer.contains("hello"), "{answer}");
                assert!(!answer.contains("\r\nconnection:"), "{answer}");
            }
            let figures = &mesh.web.stats().await.outbound["orders"];
            assert_eq!((figures.requests, figures.errors, figures.in_flight), (3, 0, 0));
        }
    })
    .await;
}

#[tokio::test]
async fn trailers_of_http2_are_chunked_trailers_for_who_takes_them() {
    in_mesh(async {
        let mesh = Pair::new(http2_only().await).await;
        for (te, ending) in
            [("connection: te\r\nte: trailers\r\n", "\r\n0\r\ngrpc-status: 0\r\n\r\n"), ("", "\r\n0\r\n\r\n")]
        {
            let mut client = mesh.web.dial().await;
            let request = format!(
                "POST /a HTTP/1.1\r\nhost: orders\r\n{te}connection: close\r\ncontent-length: 0\r\n\r\n"
            );
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with(ending), "{answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_in_chunks_finds_out_and_is_not_lost() {
    in_mesh(async {
        let mesh = Pair::new(http2_only().await).await;
        let mut client = mesh.web.dial().await;
        let head = "POST /a HTTP/1.1\r\nhost: orders\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        // The application has the beginning, over HTTP/2, before the rest is sent.
        let mut seen = Vec::new();
        while !seen.windows(3).any(|bytes| bytes == b"one") {
            seen.push(client.read_u8().await.unwrap());
        }
        client.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
        while !seen.ends_with(b"\r\n0\r\n\r\n") {
            seen.push(client.read_u8().await.unwrap());
        }
        assert!(seen.windows(3).any(|bytes| bytes == b"two"));
    })
    .await;
}

#[tokio::test]
async fn answers_of_http2_without_a_body_are_framed_for_http1() {
    in_mesh(async {
        let address = http2_application(|mut peer, _| async move {
            loop {
                match peer.next().await {
                    Got::Request(key, head, _) if head.contains("/early") => {
                        peer.respond(key, 413, &[], true);
                        peer.engine.reset(key, ErrorCode::NO_ERROR);
                    }
                    Got::Request(key, head, _) if head.contains("/reset") => {
                        peer.engine.reset(key, ErrorCode::INTERNAL_ERROR);
                    }
                    Got::Request(key, head, _) if head.contains("/204") => peer.respond(key, 204, &[], true),
                    Got::Request(key, ..) => {
                        let mut head = sinew_wire::head::ResponseHead::default();
                        head.status = 200;
                        let fields = [(&b"grpc-status"[..], &b"5"[..])];
                        let edits = sinew_wire::head::ResponseEdits { append: &fields, ..Default::default() };
                        peer.engine.send_response(key, &head, &[], &edits, true).unwrap();
                    }
                    Got::Closed => return,
                    _ => {}
                }
            }
        })
        .await;
        let declare = |config: &mut sinew_spec::proxy::ProxyConfig| {
            config.inbound.as_mut().unwrap().protocols.insert(address.port(), Protocol::Http2);
        };
        let mesh = Pair::with(address, |_| {}, declare).await;
        let mut client = mesh.web.dial().await;
        for _ in 0..2 {
            let answer = exchange(&mut client, "GET /a HTTP/1.1\r\nhost: orders\r\n\r\n").await;
            assert!(
                answer.contains("\r\ncontent-length: 0\r\n") && answer.contains("\r\ngrpc-status: 5\r\n"),
                "{answer}"
            );
            let answer = exchange(&mut client, "GET /204 HTTP/1.1\r\nhost: orders\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 204 ") && !answer.contains("content-length"), "{answer}");
            let answer = exchange(&mut client, "GET /reset HTTP/1.1\r\nhost: orders\r\n\r\n").await;
            assert_eq!(status(&answer), 502, "{answer}");
            assert!(answer.contains("\r\nx-sinew-reason: upstream-gone\r\n"), "{answer}");
        }
        let early =
            exchange(&mut client, "POST /early HTTP/1.1\r\nhost: orders\r\ncontent-length: 9\r\n\r\nsome")
                .await;
        assert_eq!(status(&early), 413, "{early}");
        // The rest of the body is read for nothing, and the next request is found behind it.
        let request = "+restGET /204 HTTP/1.1\r\nhost: orders\r\n\r\n";
        assert_eq!(status(&exchange(&mut client, request).await), 204);
    })
    .await;
}

/// An answer in chunks, with its trailers.
pub async fn read_chunks(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    while !answer.contains("\r\n0\r\n") || !answer.ends_with("\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap().into());
    }
    answer
}

/// Takes HTTP/2 alone, as servers of gRPC do: whoever says anything else gets SETTINGS and the end.
pub async fn http2_only() -> std::net::SocketAddr {
    application(|mut stream, number| async move {
        let mut first = [0; 3];
        stream.peek(&mut first).await.ok();
        if &first != b"PRI" {
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.ok();
            return;
        }
        echo_calls(Peer::server(stream), number).await;
    })
    .await
}
