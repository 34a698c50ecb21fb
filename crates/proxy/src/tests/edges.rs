//! Names, destinations outside the mesh, what is refused, and what a proxy tells about itself.

use std::net::{Ipv4Addr, SocketAddr};

use sinew_spec::proxy::{EgressDestination, EgressMatch, ProxyConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use super::mesh::*;

pub fn egress(label: &str, port: u16, matches: EgressMatch) -> EgressDestination {
    EgressDestination { label: label.into(), host: None, port, matches }
}

async fn start(config: ProxyConfig, start: Start) -> (Folder, Proxy) {
    let folder = Folder::new();
    let proxy = Proxy::start(&folder, Ca::new().identity("web", "web-1"), config, start).await;
    (folder, proxy)
}

#[tokio::test]
async fn names_are_answered_over_udp_and_tcp() {
    in_mesh(async {
        let resolver = SocketAddr::from((sinew_spec::proxy::RESOLVER_ADDRESS, 53));
        let (_folder, web) =
            start(caller(&[]), Start { outbound: Some(resolver), dns: true, ..Start::default() }).await;
        // Asks for A of "orders", in mixed case.
        let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06OrDers\x00\x00\x01\x00\x01";
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(query, web.dns.unwrap()).await.unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).await.unwrap();
        assert_eq!(answer[..2], [0x12, 0x34]);
        assert!(answer[..length].ends_with(&VIRTUAL.octets()), "{:?}", &answer[..length]);

        let mut stream = web.dial().await;
        stream.write_u16(query.len() as u16).await.unwrap();
        stream.write_all(query).await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(answer.ends_with(&VIRTUAL.octets()));
    })
    .await;
}

#[tokio::test]
async fn what_is_not_declared_is_reset_and_counted() {
    in_mesh(async {
        let meant = SocketAddr::from(([10, 0, 0, 7], 502));
        let (_folder, web) = start(caller(&[]), Start { outbound: Some(meant), ..Start::default() }).await;
        for _ in 0..2 {
            let mut bytes = Vec::new();
            assert!(web.dial().await.read_to_end(&mut bytes).await.is_err(), "reset");
        }
        assert_eq!(web.stats().await.refused["10.0.0.7:502/tcp"], 2);
    })
    .await;
}

#[tokio::test]
async fn declared_egress_is_dialed_and_measured() {
    in_mesh(async {
        let server = application(|mut stream, _| async move {
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        })
        .await;
        let mut config = caller(&[]);
        let network = Ipv4Addr::new(198, 18, 1, 1);
        let matches = EgressMatch::Tcp { network: network.into(), prefix: 32 };
        config.egress = vec![EgressDestination {
            host: Some("127.0.0.1".into()),
            ..egress("plc", server.port(), matches)
        }];
        let outbound = Some(SocketAddr::from((network, server.port())));
        let (_folder, web) = start(config, Start { outbound, ..Start::default() }).await;
        let mut stream = web.dial().await;
        stream.write_all(b"ping").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "ping");
        drop(stream);
        until(async || web.stats().await.egress["plc"].requests == 1).await;
        assert_eq!(web.stats().await.egress["plc"].errors, 0);
    })
    .await;
}

#[tokio::test]
async fn datagrams_find_their_way_out_and_back() {
    in_mesh(async {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let remote = server.local_addr().unwrap();
        let mut config = caller(&[]);
        config.egress =
            vec![egress("syslog", remote.port(), EgressMatch::Udp { socket: 0, address: remote.ip() })];
        let (_folder, web) = start(config, Start { udp_egress: 1, ..Start::default() }).await;
        let clients =
            [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
        for (number, client) in clients.iter().enumerate() {
            client.send_to(&[number as u8], web.udp[0]).await.unwrap();
            let mut datagram = [0; 16];
            let (length, from) = server.recv_from(&mut datagram).await.unwrap();
            assert_eq!(datagram[..length], [number as u8]);
            server.send_to(&[number as u8 + 10], from).await.unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            let mut datagram = [0; 16];
            let (length, from) = client.recv_from(&mut datagram).await.unwrap();
            assert_eq!((&datagram[..length], from), (&[number as u8 + 10][..], web.udp[0]));
        }
        assert_eq!(web.stats().await.egress["syslog"].in_flight, 2);
    })
    .await;
}

#[tokio::test]
async fn a_proxy_tells_about_itself() {
    in_mesh(async {
        let mesh = Pair::new(echo_application().await).await;
        mesh.web.call(GET).await;
        assert_eq!(status(&mesh.web.admin("/ready").await), 200);
        assert!(mesh.web.admin("/config").await.contains(r#""service":"orders""#));
        let metrics = mesh.web.admin("/metrics").await;
        assert!(metrics.contains(r#"direction="outbound",route="orders""#), "{metrics}");
        assert_eq!(status(&mesh.web.admin("/nothing").await), 404);
    })
    .await;
}
