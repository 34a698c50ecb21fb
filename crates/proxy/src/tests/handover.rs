//! Another process takes the place of this one: what is accepted, what lives on, and for how long.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sinew_spec::handover::UdpFlow;
use sinew_spec::proxy::{EgressMatch, ProxyConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::edges::egress;
use super::mesh::{
    Ca, Folder, Pair, Proxy, Start, application, caller, in_mesh, read_message, status, until,
};
use crate::Handover;

const GET: &str = "GET / HTTP/1.1\r\nhost: orders\r\n\r\n";
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// Asks a proxy to pause; it has when this returns.
async fn pause(proxy: &Proxy) -> oneshot::Sender<bool> {
    pause_with_flows(proxy).await.0
}

async fn pause_with_flows(proxy: &Proxy) -> (oneshot::Sender<bool>, Vec<(UdpFlow, OwnedFd)>) {
    let (paused, is_paused) = oneshot::channel();
    let (outcome, outcome_out) = oneshot::channel();
    proxy.handovers.send(Handover { paused, outcome: outcome_out }).await.unwrap();
    let flows = is_paused.await.unwrap();
    (outcome, flows)
}

/// A client of a declared destination of datagrams, which keeps the port that it was known by there.
#[tokio::test]
async fn flows_of_datagrams_move_and_lose_none() {
    in_mesh(async {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let remote = server.local_addr().unwrap();
        let configure = || {
            let mut config = caller(&[]);
            let matches = EgressMatch::Udp { socket: 0, address: remote.ip() };
            config.egress = vec![egress("syslog", remote.port(), matches)];
            config
        };
        let (ca, folder) = (Ca::new(), Folder::new());
        let standing = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inside = standing.local_addr().unwrap();
        let start = |flows| {
            let udp_shared = vec![standing.try_clone().unwrap()];
            let start = Start { udp_shared, flows, ..Start::default() };
            Proxy::start(&folder, ca.identity("web", "web-1"), configure(), start)
        };
        let old = start(Vec::new()).await;
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"one", inside).await.unwrap();
        let (text, from) = datagram(&server).await;
        assert_eq!(text, "one");

        // Another process asks twice; the first one fails.
        let (outcome, flows) = pause_with_flows(&old).await;
        let expected = UdpFlow { socket: 0, client: client.local_addr().unwrap() };
        assert_eq!(flows.iter().map(|(flow, _)| *flow).collect::<Vec<_>>(), [expected]);
        outcome.send(false).unwrap();
        drop(flows);
        client.send_to(b"two", inside).await.unwrap();
        assert_eq!(datagram(&server).await, ("two".to_owned(), from));

        let (outcome, flows) = pause_with_flows(&old).await;
        client.send_to(b"three", inside).await.unwrap();
        outcome.send(true).unwrap();
        // It has nothing left: it does not wait for a flow to be idle.
        timeout(Duration::from_secs(10), old.task).await.unwrap().unwrap();
        server.send_to(b"an answer in between", from).await.unwrap();
        std::fs::remove_file(folder.path("web-1.admin")).unwrap();
        let new = start(flows).await;
        assert_eq!(datagram(&client).await.0, "an answer in between");
        assert_eq!(datagram(&server).await, ("three".to_owned(), from));
        client.send_to(b"four", inside).await.unwrap();
        assert_eq!(datagram(&server).await, ("four".to_owned(), from));
        assert_eq!(new.stats().await.egress["syslog"].in_flight, 1);
    })
    .await;
}

async fn datagram(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut bytes = [0; 64];
    let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
    (String::from_utf8(bytes[..length].to_vec()).unwrap(), from)
}

#[tokio::test]
async fn who_connects_meanwhile_waits_and_is_served_by_whoever_goes_on() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            while read_message(&mut stream).await.is_some() {
                stream.write_all(ANSWER.as_bytes()).await.unwrap();
            }
        })
        .await;
        let Pair { web, orders: _orders, folder: _folder, .. } = Pair::new(address).await;
        let mut kept = web.dial().await;
        kept.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(status(&read_message(&mut kept).await.unwrap()), 200);

        let outcome = pause(&web).await;
        let mut waiting = web.dial().await;
        waiting.write_all(GET.as_bytes()).await.unwrap();
        // What was open before goes on as if nothing were.
        kept.write_all(GET.as_bytes()).await.unwrap();
        let answer = read_message(&mut kept).await.unwrap();
        assert!(!answer.contains("connection: close"), "{answer}");
        assert_eq!(web.stats().await.outbound["orders"].requests, 2, "nobody was accepted");

        // The other one failed.
        outcome.send(false).unwrap();
        assert_eq!(status(&read_message(&mut waiting).await.unwrap()), 200);
        assert_eq!(status(&web.call(GET).await), 200);
    })
    .await;
}

#[tokio::test]
async fn after_a_handover_each_connection_ends_with_its_next_answer() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            while read_message(&mut stream).await.is_some() {
                stream.write_all(ANSWER.as_bytes()).await.unwrap();
            }
        })
        .await;
        let Pair { web, orders: _orders, folder: _folder, .. } = Pair::new(address).await;
        let mut kept = web.dial().await;
        kept.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(status(&read_message(&mut kept).await.unwrap()), 200);

        pause(&web).await.send(true).unwrap();
        until(async || tokio::net::TcpStream::connect(web.outbound.unwrap()).await.is_err()).await;
        // Not closed at once: this request may have been on its way.
        kept.write_all(GET.as_bytes()).await.unwrap();
        let answer = read_message(&mut kept).await.unwrap();
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(kept.read(&mut [0; 1]).await.unwrap(), 0);
        web.task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_lives_on_until_the_drain_limit() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            read_message(&mut stream).await;
            let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
            stream.write_all(switch.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await;
        let briefly = |config: &mut ProxyConfig| config.limits.handover_drain_ms = 300;
        let Pair { web, orders: _orders, folder: _folder, .. } = Pair::with(address, briefly, |_| {}).await;
        let mut tunnel = web.dial().await;
        let ask = "GET / HTTP/1.1\r\nhost: orders\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        tunnel.write_all(ask.as_bytes()).await.unwrap();
        assert_eq!(status(&read_message(&mut tunnel).await.unwrap()), 101);

        pause(&web).await.send(true).unwrap();
        until(async || tokio::net::TcpStream::connect(web.outbound.unwrap()).await.is_err()).await;
        tunnel.write_all(b"hello").await.unwrap();
        let mut echo = [0; 5];
        tunnel.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"hello");
        // Nothing ends it but the limit.
        timeout(Duration::from_secs(10), web.task).await.unwrap().unwrap();
    })
    .await;
}
