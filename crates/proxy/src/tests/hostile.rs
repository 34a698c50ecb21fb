//! Input made to be misread or to be a burden, over HTTP/1.1 and from the hop, through whole sidecars. What the engine
//! makes of each byte is tested in `wire`; here is what becomes of connections: who is answered what, what reaches the
//! application, and that others are served.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use sinew_spec::application::Protocol;
use sinew_spec::proxy::ProxyConfig;
use sinew_transport::stream::Raw;
use sinew_transport::tls::{Alpn, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::mesh::*;

/// What an application got, of each of its connections.
type Received = Rc<RefCell<Vec<Vec<u8>>>>;

/// Says `answer` once whenever a request's head has come, and keeps every byte it gets.
async fn recording_application(answer: &'static str) -> (SocketAddr, Received) {
    let received = Received::default();
    let kept = received.clone();
    let address = application(move |mut stream, number| {
        let kept = kept.clone();
        async move {
            kept.borrow_mut().push(Vec::new());
            let (mut buffer, mut heads) = ([0; 4096], 0);
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                kept.borrow_mut()[number].extend(&buffer[..count]);
                let seen = kept.borrow()[number].windows(4).filter(|piece| piece == b"\r\n\r\n").count();
                while heads < seen {
                    heads += 1;
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
    .await;
    (address, received)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn declared(config: &mut ProxyConfig) {
    config.destinations[0].protocols.extend((1..=u16::MAX).map(|port| (port, Protocol::Http)));
}

/// Everything that comes until the end; a reset is one too.
async fn until_closed(stream: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        bytes.extend(&buffer[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends what a client must not send, and looks that it is refused and closed, and that others go on: one that was there
/// before, and one that comes after.
async fn refused(mesh: &Pair, other: &mut tokio::net::TcpStream, input: &[u8], expected: u16) {
    let shown = String::from_utf8_lossy(&input[..input.len().min(200)]).into_owned();
    let mut hostile = mesh.web.dial().await;
    hostile.write_all(input).await.ok();
    let answer = until_closed(&mut hostile).await;
    assert_eq!(status(&answer), expected, "{shown:?}: {answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{shown:?}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one answer: {answer}");
    assert_eq!(status(&exchange(other, GET).await), 200, "after {shown:?}");
    assert_eq!(status(&mesh.web.call(GET).await), 200, "after {shown:?}");
}

async fn all_refused(cases: &[(Vec<u8>, u16)]) {
    let (address, received) = recording_application(OK).await;
    let mesh = Pair::with(address, declared, |_| {}).await;
    let mut other = mesh.web.dial().await;
    for (input, expected) in cases {
        refused(&mesh, &mut other, input, *expected).await;
    }
    let stats = mesh.web.stats().await;
    assert_eq!(stats.outbound["orders"].in_flight, 0);
    // Whatever went on of them was not a whole request, nor raw bytes.
    let got =
        received.borrow().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect::<String>();
    assert!(!got.contains("smuggled"), "{got}");
}

fn head(fields: &str) -> Vec<u8> {
    format!("POST /a HTTP/1.1\r\nhost: orders\r\n{fields}\r\n").into_bytes()
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: orders\r\n\r\n";

#[tokio::test]
async fn framing_that_can_be_misread_is_refused() {
    in_mesh(async {
        let cases = [
            ("content-length: 5\r\ntransfer-encoding: chunked\r\n", 400),
            ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", 400),
            ("content-length: 0\r\ncontent-length: 43\r\n", 400),
            ("content-length: 5\r\ncontent-length: 5\r\n", 400),
            ("content-length: 5, 5\r\n", 400),
            ("content-length: +1\r\n", 400),
            ("content-length: 0x5\r\n", 400),
            ("content-length: 1_0\r\n", 400),
            ("content-length:\r\n", 400),
            ("content-length: -1\r\n", 400),
            ("content-length: 9223372036854775808\r\n", 400),
            ("content-length: 99999999999999999999\r\n", 400),
            ("transfer-encoding: gzip\r\n", 400),
            ("transfer-encoding: gzip, chunked\r\n", 501),
            ("transfer-encoding: chunked, chunked\r\n", 501),
            ("transfer-encoding: \x0bchunked\r\n", 400),
            ("transfer-encoding: xchunked\r\n", 400),
            ("transfer-encoding: identity\r\n", 400),
            ("transfer_encoding: chunked\r\n", 400),
            ("content_length: 5\r\n", 400),
            ("expect: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n", 417),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", 400),
            ("transfer-encoding : chunked\r\n", 400),
        ];
        let case = |(fields, status)| ([head(fields), SMUGGLED.into()].concat(), status);
        let mut cases: Vec<_> = cases.into_iter().map(case).collect();
        let old = format!(
            "POST / HTTP/1.0\r\nhost: orders\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
        );
        cases.push((old.into_bytes(), 400));
        all_refused(&cases).await;
    })
    .await;
}

#[tokio::test]
async fn malformed_chunks_are_refused() {
    in_mesh(async {
        let bodies: [&str; 14] = [
            "0x5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0_5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
            "8000000000000000\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nx y: z\r\n\r\n",
        ];
        let case = |body: &&str| {
            ([head("transfer-encoding: chunked\r\n"), (*body).into(), SMUGGLED.into()].concat(), 400)
        };
        // The answer to the head may be there already: an application that does not wait for the body.
        let (address, received) = recording_silently().await;
        let mesh = Pair::with(address, declared, |_| {}).await;
        for (input, expected) in bodies.iter().map(case) {
            let mut hostile = mesh.web.dial().await;
            hostile.write_all(&input).await.unwrap();
            let answer = until_closed(&mut hostile).await;
            let shown = String::from_utf8_lossy(&input);
            assert_eq!(status(&answer), expected, "{shown:?}: {answer}");
            assert!(answer.contains("connection: close"), "{shown:?}: {answer}");
            assert_eq!(status(&mesh.web.call("GET /whole HTTP/1.1\r\nhost: orders\r\n\r\n").await), 200);
        }
        let got: String =
            received.borrow().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
        assert!(!got.contains("smuggled") && !got.contains("\r\n0\r\n\r\n"), "{got}");
    })
    .await;
}

/// Answers requests without a body; others it reads for ever.
async fn recording_silently() -> (SocketAddr, Received) {
    let received = Received::default();
    let kept = received.clone();
    let address = application(move |mut stream, number| {
        let kept = kept.clone();
        async move {
            kept.borrow_mut().push(Vec::new());
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                kept.borrow_mut()[number].extend(&buffer[..count]);
                if buffer.starts_with(b"GET /whole") {
                    stream.write_all(OK.as_bytes()).await.ok();
                }
            }
        }
    })
    .await;
    (address, received)
}

#[tokio::test]
async fn heads_that_can_be_misread_are_refused() {
    in_mesh(async {
        let fields: [&[u8]; 15] = [
            b"x: a\0b\r\n",
            b"x: a\rb\r\n",
            b"x: a\x01b\r\n",
            b"x: a\x7fb\r\n",
            b": a\r\n",
            b"x : a\r\n",
            b"x\t: a\r\n",
            b"x y: a\r\n",
            b"x\0: a\r\n",
            b"x: a\r\n b\r\n",
            b"x: a\r\n\tb\r\n",
            b"host: orders\r\n",
            b"host: other\r\n",
            b"x\r\n",
            b" x: a\r\n",
        ];
        let mut cases: Vec<(Vec<u8>, u16)> = fields
            .iter()
            .map(|fields| {
                (
                    [b"GET /a HTTP/1.1\r\nhost: orders\r\n", *fields, b"\r\n", SMUGGLED.as_bytes()].concat(),
                    400,
                )
            })
            .collect();
        for whole in [
            "GET /a HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET /a HTTP/1.1\r\nhost: user@orders\r\n\r\n",
            "GET http://other/ HTTP/1.1\r\nhost: orders\r\n\r\n",
            "GET /a b HTTP/1.1\r\nhost: orders\r\n\r\n",
            "GET  /a HTTP/1.1\r\nhost: orders\r\n\r\n",
            "GET /a\0 HTTP/1.1\r\nhost: orders\r\n\r\n",
            "GET a HTTP/1.1\r\nhost: orders\r\n\r\n",
            "GET /a HTTP/1.1\nhost: orders\n\n",
            "GET /a HTTP/1.1 \r\nhost: orders\r\n\r\n",
            "G(T /a HTTP/1.1\r\nhost: orders\r\n\r\n",
        ] {
            cases.push(([whole.as_bytes(), SMUGGLED.as_bytes()].concat(), 400));
        }
        cases.push((b"GET /a HTTP/1,1\r\nhost: orders\r\n\r\n".to_vec(), 505));
        cases.push((b"GET /a HTTP/3.0\r\nhost: orders\r\n\r\n".to_vec(), 505));
        cases.push((b"CONNECT orders:1 HTTP/1.1\r\nhost: orders:1\r\n\r\nsmuggled".to_vec(), 405));
        all_refused(&cases).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused() {
    in_mesh(async {
        let fields = |count: usize| "x: y\r\n".repeat(count);
        let get = |path: &str, fields: &str| {
            format!("GET {path} HTTP/1.1\r\nhost: orders\r\n{fields}\r\n").into_bytes()
        };
        all_refused(&[
            (get("/a", &fields(100)), 431),
            (get("/a", &format!("x: {}\r\n", "y".repeat(64 * 1024))), 431),
            (get("/a", &format!("x: {}\r\n", "y".repeat(30_000)).repeat(3)), 431),
            (get(&format!("/{}", "a".repeat(16 * 1024)), ""), 414),
            ([b"M".repeat(64), b" / HTTP/1.1\r\nhost: orders\r\n\r\n".to_vec()].concat(), 501),
        ])
        .await;
        // Just below them.
        let (address, _received) = recording_application(OK).await;
        let small = |config: &mut ProxyConfig| config.limits.body_bytes_max = 1000;
        let mesh = Pair::with(address, small, |_| {}).await;
        let mut other = mesh.web.dial().await;
        for fine in [get("/a", &fields(99)), get("/a", &format!("x: {}\r\n", "y".repeat(60_000)))] {
            assert_eq!(status(&exchange(&mut other, &String::from_utf8(fine).unwrap()).await), 200);
        }
        refused(&mesh, &mut other, &head("content-length: 1001\r\n"), 413).await;
        let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
        let chunked = [head("transfer-encoding: chunked\r\n"), chunk.into_bytes()].concat();
        let mut hostile = mesh.web.dial().await;
        hostile.write_all(&chunked).await.unwrap();
        let answer = until_closed(&mut hostile).await;
        // The application may have answered before.
        assert!([200, 413].contains(&status(&answer)), "{answer}");
        assert_eq!(status(&mesh.web.call(GET).await), 200);
    })
    .await;
}

#[tokio::test]
async fn bodies_are_framed_anew() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"x-left: y\r\n\r\n") {
                bytes.push(stream.read_u8().await.unwrap());
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
            stream.write_all(&[head.into_bytes(), bytes].concat()).await.unwrap();
        })
        .await;
        let mesh = Pair::new(address).await;
        let odd = "POST / HTTP/1.1\r\nhost: orders\r\ntransfer-encoding: Chunked\r\n\r\n\
                   00003;a=b\r\nabc\r\n0002;c=\"d\"\r\nde\r\n000;e\r\ncontent-length: 7\r\nx-left: y\r\n\r\n";
        let answer = mesh.web.call(odd).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.contains("\r\ntransfer-encoding: chunked\r\n"), "{body}");
        assert!(!body.contains("a=b") && !body.contains("0003") && !body.contains(";e"), "{body}");
        assert!(!body.contains("content-length"), "a trailer that frames: {body}");
    })
    .await;
}

#[tokio::test]
async fn early_bytes_wait_for_the_upgrade() {
    in_mesh(async {
        // Declines: a connection on which an upgrade was asked for serves nobody else.
        let (address, received) = recording_application(OK).await;
        let mesh = Pair::new(address).await;
        let mut hostile = mesh.web.dial().await;
        let upgrade =
            "GET /live HTTP/1.1\r\nhost: orders\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        hostile.write_all(format!("{upgrade}\u{1}early").as_bytes()).await.unwrap();
        let answer = until_closed(&mut hostile).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains("HTTP/1.1 400 "), "what is no request is refused: {answer}");
        assert_eq!(status(&mesh.web.call(GET).await), 200);
        {
            let received = received.borrow();
            assert_eq!(received.len(), 2, "the connection was used again");
            assert!(!received.iter().any(|bytes| bytes.windows(5).any(|piece| piece == b"early")));
        }

        // Agrees, after a while: then they follow.
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let gone = Cell::new(Some(gone));
        let seen = Rc::new(Cell::new(false));
        let told = seen.clone();
        let address = application(move |mut stream, _| {
            let (gone, told) = (gone.take(), told.clone());
            async move {
                let head = read_message(&mut stream).await.unwrap();
                assert!(head.contains("upgrade: websocket"), "{head}");
                told.set(true);
                let mut buffer = [0; 5];
                tokio::select! {
                    read = stream.read(&mut buffer) => panic!("{read:?} before 101"),
                    go = gone.unwrap() => go.unwrap(),
                }
                let agreed =
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                stream.write_all(agreed).await.unwrap();
                stream.read_exact(&mut buffer).await.unwrap();
                stream.write_all(&buffer).await.unwrap();
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        client.write_all(format!("{upgrade}early").as_bytes()).await.unwrap();
        until(async || seen.get()).await;
        // Others are served meanwhile; many turns of the loop.
        for _ in 0..50 {
            mesh.web.stats().await;
        }
        go.send(()).unwrap();
        let answer = until_closed(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("early"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn local_answers_drain_or_close() {
    in_mesh(async {
        let nobody = |config: &mut ProxyConfig| config.destinations[0].endpoints.clear();
        let mesh = Pair::with(echo_application().await, nobody, |_| {}).await;
        // What is left is small: the next request on the connection is read as one.
        let mut client = mesh.web.dial().await;
        for body in
            ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
        {
            let request = format!("POST /a HTTP/1.1\r\nhost: orders\r\n{body}");
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = read_message(&mut client).await.unwrap();
            assert_eq!(status(&answer), 503, "{answer}");
            if answer.contains("connection: close") {
                assert_eq!(until_closed(&mut client).await, "");
                client = mesh.web.dial().await;
            }
        }
        // What is left never ends: the client has its answer, and a bound.
        let mut hostile = mesh.web.dial().await;
        hostile.write_all(&head("content-length: 99999999999\r\n")).await.unwrap();
        let (mut from, mut to) = hostile.into_split();
        let sending = tokio::task::spawn_local(async move {
            let mut sent = 0_usize;
            while to.write_all(&[7; 16 * 1024]).await.is_ok() {
                sent += 16 * 1024;
            }
            sent
        });
        let mut answer = [0; 12];
        from.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 503");
        let sent = sending.await.unwrap();
        assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken");
        assert_eq!(status(&mesh.web.call(GET).await), 503, "the next one is told the same");
    })
    .await;
}

#[tokio::test]
async fn hostile_answers_are_502_and_their_connections_end() {
    in_mesh(async {
        let floods = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20);
        let flood: &'static str = Box::leak(format!("{floods}{OK}").into_boxed_str());
        let answers: [&'static str; 13] = [
            flood,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 9\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged",
            "HTTP/1.1 204 No Content\r\n\r\nforged",
        ];
        for answer in answers {
            let connections = Rc::new(Cell::new(0));
            let count = connections.clone();
            // Hostile on its first connection, as it should be on others.
            let address = application(move |mut stream, number| {
                count.set(number + 1);
                async move {
                    while read_message(&mut stream).await.is_some() {
                        let said = if number == 0 { answer } else { OK };
                        if stream.write_all(said.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            })
            .await;
            let mesh = Pair::new(address).await;
            let mut client = mesh.web.dial().await;
            let mut told = exchange(&mut client, GET).await;
            while status(&told) / 100 == 1 {
                told = read_message(&mut client).await.unwrap_or_default();
            }
            assert_eq!(status(&told), 502, "{answer:?}: {told}");
            assert!(told.contains("x-sinew-reason: upstream-malformed"), "{answer:?}: {told}");
            assert!(!told.contains("forged"), "{told}");
            for _ in 0..2 {
                let next = mesh.web.call(GET).await;
                assert!(next.ends_with("\r\n\r\nok"), "after {answer:?}: {next}");
            }
            assert_eq!(connections.get(), 2, "{answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_breaks_in_its_body_is_cut() {
    in_mesh(async {
        for body in
            ["5\r\nhello\r\n0x0\r\n\r\n", "5\r\nhello\r\n0\r\nx y: z\r\n\r\n", "5\r\nhelloworld\r\n0\r\n\r\n"]
        {
            let address = application(move |mut stream, number| async move {
                while read_message(&mut stream).await.is_some() {
                    let answer = match number {
                        0 => format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}"),
                        _ => OK.to_owned(),
                    };
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            })
            .await;
            let mesh = Pair::new(address).await;
            let mut client = mesh.web.dial().await;
            // Told, or cut: never an answer that seems whole.
            let answer = exchange(&mut client, GET).await;
            assert!([0, 502].contains(&status(&answer)), "{body:?}: {answer}");
            assert_eq!(status(&mesh.web.call(GET).await), 200);
        }
    })
    .await;
}

#[tokio::test]
async fn names_that_clients_choose_become_no_labels() {
    in_mesh(async {
        let mesh = Pair::new(fixed_application(OK).await).await;
        let lines = async |proxy: &Proxy| proxy.admin("/metrics").await.lines().filter(|line| !line.contains("_bucket")).count();
        let mut client = mesh.web.dial().await;
        let mut ask = async |number: usize| {
            let request = format!("GET /{number}?q={number} HTTP/1.1\r\nhost: h{number}.example\r\nx-request-id: r{number}\r\n\r\n");
            assert_eq!(status(&exchange(&mut client, &request).await), 200);
        };
        ask(0).await;
        let before = (lines(&mesh.web).await, lines(&mesh.orders).await);
        for number in 1..1000 {
            ask(number).await;
        }
        assert_eq!((lines(&mesh.web).await, lines(&mesh.orders).await), before);
    })
    .await;
}

#[tokio::test]
async fn server_names_that_clients_choose_become_no_labels() {
    in_mesh(async {
        let mesh = Pair::new(fixed_application(OK).await).await;
        assert_eq!(status(&mesh.web.call(GET).await), 200);
        let tls = Tls::new(&mesh.ca.identity("web", "web-2")).unwrap();
        let hop = mesh.folder.path("orders-1.hop");
        let call = async |name: &str| {
            let raw = Raw::Unix(UnixStream::connect(&hop).await.unwrap());
            // Refused after the handshake, as far as the client can see.
            let mut stream = tls.connect(raw, name, Alpn::Http, |_| true).await.unwrap();
            stream.write_all(GET.as_bytes()).await.ok();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.ok();
            bytes
        };
        let before = mesh.orders.admin("/metrics").await.lines().count();
        for number in 0..100 {
            assert_eq!(call(&format!("8000.h{number}.example")).await, b"");
        }
        let metrics = mesh.orders.admin("/metrics").await;
        assert_eq!(metrics.lines().count(), before, "{metrics}");
        assert!(metrics.contains("\nsinew_handshakes_failed_total 100\n"), "{metrics}");
        assert_eq!(status(&mesh.web.call(GET).await), 200);
    })
    .await;
}

#[tokio::test]
async fn garbage_at_the_hop_is_counted_and_closed() {
    in_mesh(async {
        let mesh = Pair::new(fixed_application(OK).await).await;
        let stranger = Tls::new(&Ca::new().identity("web", "web-1")).unwrap();
        let hop = mesh.folder.path("orders-1.hop");
        for garbage in [&b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n"[..], &[0; 100], b"\x16\x03\x01\xff\xff"] {
            let mut raw = UnixStream::connect(&hop).await.unwrap();
            raw.write_all(garbage).await.unwrap();
            raw.shutdown().await.unwrap();
            let mut bytes = Vec::new();
            raw.read_to_end(&mut bytes).await.ok();
        }
        let raw = Raw::Unix(UnixStream::connect(&hop).await.unwrap());
        assert!(stranger.connect(raw, "8000.orders.test", Alpn::Http, |_| true).await.is_err());
        until(async || mesh.orders.admin("/metrics").await.contains("\nsinew_handshakes_failed_total 4\n"))
            .await;
        assert_eq!(status(&mesh.web.call(GET).await), 200);
    })
    .await;
}
