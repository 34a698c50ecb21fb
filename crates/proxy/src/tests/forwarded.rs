//! Published ports behind a load balancer that speaks the PROXY protocol: who the client is, and what is not believed.

use std::net::SocketAddr;
use std::time::Duration;

use sinew_spec::application::{Protocol, ProxyHeader};
use sinew_spec::proxy::{Network, ProxyConfig, Published};
use sinew_wire::proxy_protocol::{Origin, Parsed, parse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::mesh::{Pair, application, in_mesh, read_message, status, until};

const GET: &str = "GET / HTTP/1.1\r\nhost: edge\r\n\r\n";

/// `web` as a gateway with one published port, before an application that answers with the head that it was sent.
async fn published(believed: &'static [(&'static str, u8)]) -> (Pair, SocketAddr) {
    let address = application(|mut stream, _| async move {
        while let Some(head) = read_message(&mut stream).await {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let publish = |config: &mut ProxyConfig| {
        let network =
            |(address, prefix): &(&str, u8)| Network { address: address.parse().unwrap(), prefix: *prefix };
        config.published = vec![Published {
            listen,
            service: "orders".into(),
            port: address.port(),
            protocol: Some(Protocol::Http),
            accept_proxy: believed.iter().map(network).collect(),
        }];
        config.limits.header_timeout_ms = 1_000;
    };
    (Pair::with(address, publish, |_| {}).await, listen)
}

/// The answer to a request after these bytes; `None`: there is none.
async fn ask(to: SocketAddr, header: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(&[header, GET.as_bytes()].concat()).await.ok()?;
    read_message(&mut stream).await
}

fn forwarded(answer: &str) -> Vec<&str> {
    answer.lines().filter_map(|line| line.strip_prefix("x-forwarded-for: ")).collect()
}

#[tokio::test]
async fn a_service_is_told_who_called() {
    in_mesh(async {
        let (mesh, listen) = published(&[("127.0.0.0", 8)]).await;
        let check = async |header: &[u8], expected: &str| {
            let answer = ask(listen, header).await.unwrap();
            assert_eq!(forwarded(&answer), [expected], "{answer}");
        };
        check(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", "192.0.2.7").await;
        check(b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n", "2001:db8::7").await;
        check(b"PROXY TCP6 ::ffff:192.0.2.9 ::1 1 2\r\n", "192.0.2.9").await;
        check(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x7f\0\0\x01\0\x01\0\x02", "192.0.2.8").await;
        // Health checks of the balancer itself.
        check(b"PROXY UNKNOWN\r\n", "127.0.0.1").await;
        check(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "127.0.0.1").await;
        let metrics = mesh.web.admin("/metrics").await;
        assert!(metrics.contains("\nsinew_proxy_headers_rejected_total 0\n"), "{metrics}");
    })
    .await;
}

#[tokio::test]
async fn nobody_else_is_believed() {
    in_mesh(async {
        let (_mesh, listen) = published(&[("10.0.0.0", 8), ("2001:db8::", 32)]).await;
        let answer = ask(listen, b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n").await.unwrap();
        assert_eq!(status(&answer), 400, "{answer}");
        assert_eq!(forwarded(&ask(listen, b"").await.unwrap()), ["127.0.0.1"]);
        // What a client says of itself stands before what we say.
        let mut stream = TcpStream::connect(listen).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: edge\r\nx-forwarded-for: 8.8.8.8\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(forwarded(&read_message(&mut stream).await.unwrap()), ["8.8.8.8", "127.0.0.1"]);
    })
    .await;
}

/// What an application is told that wants the header.
#[tokio::test]
async fn an_application_is_told_in_a_header_who_called() {
    in_mesh(async {
        for (version, with_header) in [(ProxyHeader::V1, true), (ProxyHeader::V2, false)] {
            let (seen, mut told) = mpsc::unbounded_channel();
            let address = application(move |mut stream, _| {
                let seen = seen.clone();
                async move {
                    let mut bytes = Vec::new();
                    // The client's first bytes follow the header.
                    while !bytes.ends_with(b"hello") {
                        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "{bytes:?}");
                    }
                    let Ok(Parsed::Complete { origin, bytes: length }) = parse(&bytes) else { panic!() };
                    assert_eq!(&bytes[length..], b"hello");
                    seen.send(origin).unwrap();
                }
            })
            .await;
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let listen = free.local_addr().unwrap();
            drop(free);
            let believed = Network { address: listen.ip(), prefix: 8 };
            let publish = |config: &mut ProxyConfig| {
                config.destinations[0].send_proxy.insert(address.port(), version);
                config.published = vec![Published {
                    listen,
                    service: "orders".into(),
                    port: address.port(),
                    // The destination knows better.
                    protocol: Some(Protocol::Http),
                    accept_proxy: if with_header { vec![believed] } else { Vec::new() },
                }];
            };
            let mesh = Pair::with(address, publish, |_| {}).await;
            let header: &[u8] =
                if with_header { b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n" } else { b"" };
            let mut client = TcpStream::connect(listen).await.unwrap();
            client.write_all(&[header, b"hello"].concat()).await.unwrap();
            let (source, destination) = match with_header {
                true => ("192.0.2.7:56324".parse().unwrap(), "198.51.100.1:443".parse().unwrap()),
                false => (client.local_addr().unwrap(), listen),
            };
            assert_eq!(told.recv().await, Some(Origin::Client { source, destination }));
            // A service has no address that says who it is.
            let mut caller = mesh.web.dial().await;
            caller.write_all(b"hello").await.unwrap();
            assert_eq!(told.recv().await, Some(Origin::Itself));
        }
    })
    .await;
}

#[tokio::test]
async fn malformed_headers_are_closed_and_counted() {
    in_mesh(async {
        let (mesh, listen) = published(&[("127.0.0.1", 32)]).await;
        let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 5000]].concat();
        let headers: [&[u8]; 6] = [
            b"",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\x01\x02\x03\x04",
            &long,
        ];
        for header in headers {
            assert_eq!(ask(listen, header).await, None, "{:?}", String::from_utf8_lossy(header));
        }
        // One that does not come: after the time for a head.
        let mut silent = TcpStream::connect(listen).await.unwrap();
        silent.write_all(b"PROXY TCP4").await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut [0; 1])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
        // One that only looks whether somebody listens is no error.
        drop(TcpStream::connect(listen).await.unwrap());
        let counted = "\nsinew_proxy_headers_rejected_total 7\n";
        until(async || mesh.web.admin("/metrics").await.contains(counted)).await;
        // And the next client is served.
        let answer = ask(listen, b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n").await.unwrap();
        assert_eq!((status(&answer), forwarded(&answer)), (200, vec!["192.0.2.7"]));
    })
    .await;
}
