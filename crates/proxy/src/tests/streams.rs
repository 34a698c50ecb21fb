use sinew_spec::application::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::mesh::*;
use crate::HostNetwork;

/// Speaks first, then repeats what it gets, as MariaDB or NATS do.
async fn greeting_application() -> std::net::SocketAddr {
    application(|mut stream, _| async move {
        stream.write_all(b"INFO hello\r\n").await.unwrap();
        let mut buffer = [0; 1024];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => stream.write_all(&buffer[..count]).await.unwrap(),
            }
        }
        stream.write_all(b"bye").await.unwrap();
    })
    .await
}

async fn read_exactly(stream: &mut tokio::net::TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, expected);
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    in_mesh(async {
        let mesh = Pair::new(greeting_application().await).await;
        let mut client = mesh.web.dial().await;
        read_exactly(&mut client, b"INFO hello\r\n").await;
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        read_exactly(&mut client, b"GET / HTTP/1.1\r\n\r\n").await;
        // The end of one direction is passed on, and the other goes on.
        client.shutdown().await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "bye");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_speaks_first_is_tcp_when_it_is_not_http() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            let mut connect = [0; 14];
            stream.read_exact(&mut connect).await.unwrap();
            stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        client.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00").await.unwrap();
        read_exactly(&mut client, &[0x20, 2, 0, 0]).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_silent_at_first_may_still_speak_http() {
    in_mesh(async {
        let mesh = Pair::new(echo_application().await).await;
        let mut client = mesh.web.dial().await;
        until(async || mesh.orders.stats().await.inbound.values().any(|port| port.connections == 1)).await;
        for _ in 0..3 {
            let answer = exchange(&mut client, GET).await;
            assert_eq!(status(&answer), 200, "{answer}");
            assert!(answer.contains("x-request-id"), "it was not seen as HTTP: {answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_declared_port_has_no_way_around_its_protocol() {
    in_mesh(async {
        let address = greeting_application().await;
        // The caller believes that it is TCP; the callee knows better.
        let mesh = Pair::with(
            address,
            |config| config.destinations[0].protocols.extend([(address.port(), Protocol::Tcp)]),
            |config| config.inbound.as_mut().unwrap().protocols.extend([(address.port(), Protocol::Http)]),
        )
        .await;
        let mut client = mesh.web.dial().await;
        let mut bytes = Vec::new();
        assert!(client.read_to_end(&mut bytes).await.is_err(), "reset, not {bytes:?}");
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_does_not_accept_costs_no_connection() {
    in_mesh(async {
        let address = greeting_application().await;
        let (ca, folder) = (Ca::new(), Folder::new());
        let _ready = orders(&ca, &folder, 1, Box::new(HostNetwork), |_| {}).await;
        let _unready = orders(&ca, &folder, 2, Box::new(EmptySeal), |_| {}).await;
        // Nobody listens at the hop of orders-3.
        let web = web(&ca, &folder, address, 3, |_| {}).await;
        for _ in 0..20 {
            read_exactly(&mut web.dial().await, b"INFO hello\r\n").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_is_not_allowed_is_reset() {
    in_mesh(async {
        let address = greeting_application().await;
        let mesh =
            Pair::with(address, |_| {}, |config| config.inbound.as_mut().unwrap().callers.clear()).await;
        let mut client = mesh.web.dial().await;
        let mut bytes = Vec::new();
        assert!(client.read_to_end(&mut bytes).await.is_err(), "reset, not {bytes:?}");
    })
    .await;
}

#[tokio::test]
async fn much_data_passes_and_arrives_whole() {
    in_mesh(async {
        const SIZE: usize = 8 * 1024 * 1024;
        let address = application(|mut stream, _| async move {
            let mut sum = 0u64;
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match stream.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => sum += buffer[..count].iter().map(|byte| u64::from(*byte)).sum::<u64>(),
                }
            }
            stream.write_all(&sum.to_be_bytes()).await.unwrap();
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        client.write_all(&vec![3; SIZE]).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(client.read_u64().await.unwrap(), 3 * SIZE as u64);
    })
    .await;
}
