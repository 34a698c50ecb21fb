//! What is done while memory is short, and out. How much a process has is told by the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::mesh::*;
use super::peer::*;
use crate::HostNetwork;

const SHORT: usize = MEMORY_MAX * 9 / 10;

struct Scarce {
    web: Proxy,
    /// Of `web`.
    in_use: Arc<AtomicUsize>,
    _orders: Proxy,
    _folder: Folder,
}

impl Scarce {
    async fn new(application: SocketAddr) -> Self {
        let (ca, folder) = (Ca::new(), Folder::new());
        let orders = orders(&ca, &folder, 1, Box::new(HostNetwork), |_| {}).await;
        let in_use = Arc::new(AtomicUsize::new(0));
        let outbound = Some(SocketAddr::from((VIRTUAL, application.port())));
        let start = Start { outbound, memory: Some(in_use.clone()), ..Start::default() };
        let config = caller(&[&folder.path("orders-1.hop")]);
        let web = Proxy::start(&folder, ca.identity("web", "web-1"), config, start).await;
        Self { web, in_use, _orders: orders, _folder: folder }
    }

    async fn metric(&self, name: &str) -> u64 {
        let metrics = self.web.admin("/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    }
}

/// Answers each request when it is let.
async fn gated_application(go: watch::Receiver<bool>) -> SocketAddr {
    application(move |mut stream, _| {
        let mut go = go.clone();
        async move {
            while read_message(&mut stream).await.is_some() {
                go.wait_for(|go| *go).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.ok();
            }
        }
    })
    .await
}

#[tokio::test]
async fn new_requests_are_refused_and_those_under_way_go_on() {
    in_mesh(async {
        let (go, gone) = watch::channel(false);
        let mesh = Scarce::new(gated_application(gone).await).await;
        let mut under_way = mesh.web.dial().await;
        under_way.write_all(GET.as_bytes()).await.unwrap();
        until(async || mesh.web.stats().await.outbound["orders"].in_flight == 1).await;

        mesh.in_use.store(SHORT, Relaxed);
        let answer = mesh.web.call(GET).await;
        assert_eq!(status(&answer), 503, "{answer}");
        assert!(answer.contains("\r\nx-sinew-reason: overload\r\n"), "{answer}");
        assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        let mut client = Peer::client(mesh.web.dial().await);
        let call = client.call(b"hello").await;
        assert!(call.head.contains("\ngrpc-status: 14\n"), "{call:?}");
        assert!(call.head.contains("\nx-sinew-reason: overload\n"), "{call:?}");
        let key = client.request("GET", "/", "", true);
        let answer = client.answer(key).await;
        assert_eq!(answer.status(), 503, "{answer:?}");
        assert!(answer.head.contains("\nretry-after: 1\n"), "{answer:?}");
        // What is not HTTP cannot be told.
        let mut tcp = mesh.web.dial().await;
        tcp.write_all(b"\0\0\0\x01binary").await.unwrap();
        assert!(tcp.read_to_end(&mut Vec::new()).await.is_err(), "reset");

        go.send_replace(true);
        assert_eq!(status(&read_message(&mut under_way).await.unwrap()), 200);
        mesh.in_use.store(0, Relaxed);
        assert_eq!(status(&mesh.web.call(GET).await), 200);
        assert_eq!(mesh.metric("sinew_requests_shed_total").await, 4);
        assert_eq!(mesh.metric("sinew_memory_max_bytes").await, MEMORY_MAX as u64);
    })
    .await;
}

#[tokio::test]
async fn new_connections_are_refused_when_there_is_no_memory() {
    in_mesh(async {
        let (go, gone) = watch::channel(false);
        let mesh = Scarce::new(gated_application(gone).await).await;
        let mut under_way = mesh.web.dial().await;
        under_way.write_all(GET.as_bytes()).await.unwrap();
        until(async || mesh.web.stats().await.outbound["orders"].in_flight == 1).await;
        mesh.in_use.store(MEMORY_MAX, Relaxed);
        for _ in 0..3 {
            let mut refused = mesh.web.dial().await;
            refused.write_all(GET.as_bytes()).await.ok();
            assert_eq!(refused.read(&mut [0; 1]).await.unwrap_or(0), 0, "it was told something");
        }
        assert_eq!(mesh.metric("sinew_client_connections_shed_total").await, 3);
        go.send_replace(true);
        assert_eq!(status(&read_message(&mut under_way).await.unwrap()), 200);
        mesh.in_use.store(0, Relaxed);
        assert_eq!(status(&mesh.web.call(GET).await), 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn clients_that_wait_are_closed_longest_first() {
    in_patient_mesh(async {
        let (_go, gone) = watch::channel(true);
        let mesh = Scarce::new(gated_application(gone).await).await;
        let mut first = mesh.web.dial().await;
        assert_eq!(status(&exchange(&mut first, GET).await), 200);
        let mut calm = Peer::client(mesh.web.dial().await);
        let key = calm.request("GET", "/", "", true);
        calm.answer(key).await;
        sleep(Duration::from_secs(20)).await;
        let mut second = mesh.web.dial().await;
        assert_eq!(status(&exchange(&mut second, GET).await), 200);

        mesh.in_use.store(SHORT, Relaxed);
        let began = Instant::now();
        assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(calm.next().await, Got::GoAway(sinew_wire::h2::ErrorCode::NO_ERROR));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        // Enough was given back: the other goes on.
        mesh.in_use.store(0, Relaxed);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(status(&exchange(&mut second, GET).await), 200);
        // It stays short: everybody who waits goes.
        mesh.in_use.store(SHORT, Relaxed);
        let began = Instant::now();
        assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_nobody_reads_are_given_up_when_there_is_no_memory() {
    in_patient_mesh(async {
        let address = http2_application(|mut peer, _| async move {
            loop {
                match peer.next().await {
                    Got::Request(key, head, _) => {
                        peer.respond(key, 200, &[], false);
                        let size = if head.contains("/large") { 1024 * 1024 } else { 1 };
                        peer.send(key, &vec![7; size], head.contains("/small") || size > 1);
                    }
                    Got::Closed => return,
                    _ => {}
                }
            }
        })
        .await;
        let mesh = Scarce::new(address).await;
        let mut slow = Peer::client(mesh.web.dial().await);
        slow.request("GET", "/large", "", true);
        slow.request("GET", "/large", "", true);
        // From now on it reads nothing.
        slow.flush().await;
        let mut other = Peer::client(mesh.web.dial().await);
        // A stream that is read, and stays.
        let key = other.request("GET", "/stays", "", true);
        assert!(matches!(other.next().await, Got::Response(_, _, false)));
        assert!(matches!(other.next().await, Got::Data(..)));
        sleep(Duration::from_secs(5)).await;
        assert_eq!(mesh.web.stats().await.outbound["orders"].in_flight, 3);
        mesh.in_use.store(MEMORY_MAX, Relaxed);
        while mesh.web.stats().await.outbound["orders"].in_flight > 1 {
            sleep(Duration::from_millis(500)).await;
        }
        mesh.in_use.store(0, Relaxed);
        assert_eq!(mesh.metric("sinew_requests_shed_total").await, 2);
        let small = other.request("GET", "/small", "", true);
        assert_eq!(other.answer(small).await.body, [7]);
        other.engine.reset(key, sinew_wire::h2::ErrorCode::CANCEL);
    })
    .await;
}

/// A body goes on while there is no memory, piece by piece.
#[tokio::test]
async fn a_body_under_way_goes_on_in_small_pieces() {
    in_mesh(async {
        const SIZE: usize = 2 * 1024 * 1024;
        let address = application(|mut stream, _| async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let mut body = vec![0; SIZE];
            stream.read_exact(&mut body).await.unwrap();
            assert!(body.iter().enumerate().all(|(i, byte)| *byte == (i % 251) as u8));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        })
        .await;
        let mesh = Scarce::new(address).await;
        let mut client = mesh.web.dial().await;
        let head = format!("POST / HTTP/1.1\r\nhost: orders\r\ncontent-length: {SIZE}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        until(async || mesh.web.stats().await.outbound["orders"].in_flight == 1).await;
        mesh.in_use.store(MEMORY_MAX, Relaxed);
        let body: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
        client.write_all(&body).await.unwrap();
        assert_eq!(status(&read_message(&mut client).await.unwrap()), 200);
    })
    .await;
}
