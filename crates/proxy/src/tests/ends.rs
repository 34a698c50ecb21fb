//! Exchanges that end before their time, on either side, and what is counted of them.

use std::io::ErrorKind;
use std::rc::Rc;

use sinew_spec::application::Protocol;
use sinew_spec::proxy::HopAddress;
use sinew_transport::tls::{Alpn, Tls};
use sinew_transport::{Stream, hop};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};

use super::mesh::*;
use crate::HostNetwork;

/// A client that stands where the sidecar of `web` does.
async fn dial_hop(mesh: &Pair, port: u16) -> Stream {
    let tls = Tls::new(&mesh.ca.identity("web", "web-9")).unwrap();
    let raw = hop::dial(&HopAddress::Unix(mesh.folder.path("orders-1.hop"))).await.unwrap();
    tls.connect(raw, &format!("{port}.orders.test"), Alpn::Http, |_| true).await.unwrap()
}

async fn in_flight(mesh: &Pair) -> u64 {
    let inbound: u64 = mesh.orders.stats().await.inbound.values().map(|port| port.in_flight).sum();
    inbound + mesh.web.stats().await.outbound.get("orders").map_or(0, |route| route.in_flight)
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_does_not_end_with_a_reset() {
    in_mesh(async {
        let reset = Rc::new(Notify::new());
        let address = {
            let reset = reset.clone();
            application(move |mut stream, _| {
                let reset = reset.clone();
                async move {
                    read_message(&mut stream).await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
                    reset.notified().await;
                    stream.set_zero_linger().unwrap();
                }
            })
            .await
        };
        let mesh = Pair::new(address).await;
        for version in ["1.1", "1.0"] {
            let mut client = mesh.web.dial().await;
            let request = format!("GET / HTTP/{version}\r\nhost: orders\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.windows(4).any(|bytes| bytes == b"half") {
                assert!(client.read_buf(&mut answer).await.unwrap() > 0);
            }
            reset.notify_one();
            let result = client.read_to_end(&mut answer).await;
            let text = String::from_utf8_lossy(&answer);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset, "HTTP/{version}: {text}");
            assert!(!text.ends_with("0\r\n\r\n"), "{text}");
        }
        assert_eq!(mesh.web.stats().await.outbound["orders"].errors, 2);
    })
    .await;
}

#[tokio::test]
async fn an_answer_of_the_proxy_never_begins_inside_of_another() {
    in_mesh(async {
        // 16 are more than sockets and proxy hold for a client that does not read.
        for length in [61_000, 50_000, 41_000] {
            let interim = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(length));
            refused_amid(interim).await;
        }
    })
    .await;
}

/// A request that turns out to be malformed while its client does not read the interim answers to it.
async fn refused_amid(interim: String) {
    let expected = interim.clone();
    let address = application(move |mut stream, _| {
        let interim = interim.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            for _ in 0..16 {
                if stream.write_all(interim.as_bytes()).await.is_err() {
                    return;
                }
            }
            stream.read_u8().await.ok();
        }
    })
    .await;
    let mesh = Pair::new(address).await;
    let mut client = dial_hop(&mesh, address.port()).await;
    let head = "POST / HTTP/1.1\r\nhost: orders\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    for _ in 0..100 {
        // Each is several turns of the loop: until then everything that can move has moved.
        mesh.orders.stats().await;
    }
    client.write_all(b"not a chunk").await.unwrap();
    client.flush().await.unwrap();
    // Refused while nothing is read.
    until(async || mesh.orders.stats().await.inbound.values().any(|port| port.requests == 1)).await;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8(answer).unwrap();
    let mut rest = text.as_str();
    let mut count = 0;
    while let Some(next) = rest.strip_prefix(expected.as_str()) {
        (rest, count) = (next, count + 1);
    }
    assert_eq!(status(rest), 400, "after {count} whole ones: {}", rest.get(..200).unwrap_or(rest));
    assert!((1..16).contains(&count), "{count}: all had room, so nothing was tested");
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_connection_upstream() {
    in_mesh(async {
        let (ended_in, mut ended) = mpsc::unbounded_channel();
        let address = application(move |mut stream, _| {
            let ended_in = ended_in.clone();
            async move {
                read_message(&mut stream).await;
                let mut byte = [0; 1];
                ended_in.send(stream.read(&mut byte).await.unwrap_or(0)).unwrap();
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        until(async || in_flight(&mesh).await == 2).await;
        client.set_zero_linger().unwrap();
        drop(client);
        assert_eq!(ended.recv().await, Some(0), "the application is not told");
        until(async || in_flight(&mesh).await == 0).await;
        assert_eq!(mesh.web.stats().await.outbound["orders"].errors, 0, "it is no error of the route");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_ends_its_side_still_gets_its_answer() {
    in_mesh(async {
        let go = Rc::new(Notify::new());
        let address = {
            let go = go.clone();
            application(move |mut stream, _| {
                let go = go.clone();
                async move {
                    read_message(&mut stream).await;
                    go.notified().await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
            })
            .await
        };
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        until(async || in_flight(&mesh).await == 2).await;
        go.notify_one();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    })
    .await;
}

/// Passes bytes on and says how many TLS records went to the client.
async fn tap(listener: UnixListener, to: std::path::PathBuf, records: mpsc::UnboundedSender<u8>) {
    let (client, _) = listener.accept().await.unwrap();
    let server = UnixStream::connect(to).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::task::spawn_local(async move { tokio::io::copy(&mut from_client, &mut to_server).await.ok() });
    let mut head = [0; 5];
    while from_server.read_exact(&mut head).await.is_ok() {
        let mut record = vec![0; u16::from_be_bytes([head[3], head[4]]).into()];
        from_server.read_exact(&mut record).await.unwrap();
        records.send(head[0]).unwrap();
        to_client.write_all(&[&head[..], &record].concat()).await.unwrap();
    }
}

#[tokio::test]
async fn a_small_answer_is_one_write() {
    in_mesh(async {
        let address = echo_application().await;
        let (ca, folder) = (Ca::new(), Folder::new());
        let _orders = orders(&ca, &folder, 1, Box::new(HostNetwork), |_| {}).await;
        let tapped = UnixListener::bind(folder.path("orders-2.hop")).unwrap();
        let (records_in, mut records) = mpsc::unbounded_channel();
        tokio::task::spawn_local(tap(tapped, folder.path("orders-1.hop"), records_in));
        let config = caller(&[&folder.path("orders-2.hop")]);
        let outbound = Some(std::net::SocketAddr::from((VIRTUAL, address.port())));
        let start = Start { outbound, ..Start::default() };
        let web = Proxy::start(&folder, ca.identity("web", "web-1"), config, start).await;
        let mut client = web.dial().await;
        exchange(&mut client, GET).await;
        while records.try_recv().is_ok() {}
        for _ in 0..3 {
            assert_eq!(status(&exchange(&mut client, GET).await), 200);
            assert_eq!(records.try_recv(), Ok(23));
            assert!(records.try_recv().is_err(), "head and body went in records of their own");
        }
    })
    .await;
}

#[tokio::test]
async fn connections_of_bytes_are_counted_and_have_no_latency() {
    in_mesh(async {
        let address = application(|mut stream: TcpStream, _| async move {
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.ok();
            stream.write_all(&word).await.ok();
        })
        .await;
        let declared = |config: &mut sinew_spec::proxy::ProxyConfig| {
            config.destinations[0].protocols.extend([(address.port(), Protocol::Tcp)]);
        };
        for is_declared in [true, false] {
            let mesh = Pair::with(
                address,
                |config| {
                    if is_declared {
                        declared(config)
                    }
                },
                |_| {},
            )
            .await;
            let mut client = mesh.web.dial().await;
            client.write_all(b"\x10\x02ab").await.unwrap();
            let mut word = [0; 4];
            client.read_exact(&mut word).await.unwrap();
            drop(client);
            until(async || mesh.orders.stats().await.inbound.values().any(|port| port.requests == 1)).await;
            until(async || mesh.web.stats().await.outbound["orders"].requests == 1).await;
            let (web, orders) = (mesh.web.stats().await, mesh.orders.stats().await);
            for route in [&web.outbound["orders"], orders.inbound.values().next().unwrap()] {
                assert_eq!((route.connections, route.latency_us.len()), (1, 0), "{route:?}");
            }
        }
    })
    .await;
}
