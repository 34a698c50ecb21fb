//! What happens to traffic when configuration, certificates or the process itself change.

use std::time::Duration;

use sinew_spec::name::ServiceName;
use sinew_spec::proxy::{ProxyConfig, Published};
use sinew_transport::hop;
use sinew_transport::tls::{Alpn, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::mesh::*;
use crate::HostNetwork;

/// An application whose first answer waits for a word; `GET`s come one per connection.
async fn held_application() -> (std::net::SocketAddr, oneshot::Sender<()>) {
    let (release, released) = oneshot::channel::<()>();
    let released: Shared<Option<oneshot::Receiver<()>>> = Shared::new(Some(released).into());
    let address = application(move |mut stream, _| {
        let released = released.clone();
        async move {
            while read_message(&mut stream).await.is_some() {
                let wait = released.borrow_mut().take();
                if let Some(wait) = wait {
                    wait.await.unwrap();
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    (address, release)
}

async fn in_flight(proxy: &Proxy) -> u64 {
    proxy.stats().await.inbound.values().map(|port| port.in_flight).sum()
}

#[tokio::test]
async fn a_new_configuration_drops_nothing_and_is_met_by_the_next_request() {
    in_mesh(async {
        let (address, release) = held_application().await;
        let mut mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        until(async || in_flight(&mesh.orders).await == 1).await;

        // The endpoint leaves: what is in flight goes on, what comes next is refused.
        let mut config = mesh.caller(2);
        config.destinations[0].endpoints.clear();
        mesh.web.apply(config).await;
        assert_eq!(mesh.web.applied.borrow().revision, 2);
        assert_eq!(status(&mesh.web.call(GET).await), 503);
        release.send(()).unwrap();
        assert_eq!(status(&read_message(&mut client).await.unwrap()), 200);

        mesh.web.apply(mesh.caller(3)).await;
        assert_eq!(status(&exchange(&mut client, GET).await), 200, "on the connection from before");
    })
    .await;
}

#[tokio::test]
async fn idle_connections_of_an_endpoint_that_left_are_closed() {
    in_mesh(async {
        let mut mesh = Pair::new(echo_application().await).await;
        assert_eq!(status(&mesh.web.call(GET).await), 200);
        assert_eq!(mesh.orders.stats().await.connections_open, 1);
        let mut config = mesh.caller(2);
        config.destinations[0].endpoints.clear();
        mesh.web.apply(config).await;
        until(async || mesh.orders.stats().await.connections_open == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_bad_configuration_is_refused_whole_and_the_last_good_one_serves() {
    in_mesh(async {
        let mut mesh = Pair::new(echo_application().await).await;
        let mut config = mesh.caller(2);
        config.limits.head_bytes_max = 0;
        mesh.web.apply(config).await;
        let applied = mesh.web.applied.borrow().clone();
        assert_eq!(applied.revision, 1);
        assert_eq!(
            applied.rejected,
            Some((2, "limits.head_bytes_max is 0, which would let nothing through".into()))
        );
        assert_eq!(status(&mesh.web.call(GET).await), 200);
    })
    .await;
}

#[tokio::test]
async fn a_draining_instance_says_so_and_closes_what_is_idle() {
    in_mesh(async {
        let (address, release) = held_application().await;
        let mut mesh = Pair::new(address).await;
        let tls = Tls::new(&mesh.ca.identity("web", "web-9")).unwrap();
        let hop = sinew_spec::proxy::HopAddress::Unix(mesh.folder.path("orders-1.hop"));
        let dial = async || {
            let raw = hop::dial(&hop).await.unwrap();
            let name = format!("{}.orders.test", address.port());
            tls.connect(raw, &name, Alpn::Http, |_| true).await.unwrap()
        };
        let (mut busy, mut idle) = (dial().await, dial().await);
        busy.write_all(GET.as_bytes()).await.unwrap();
        until(async || in_flight(&mesh.orders).await == 1).await;

        let mut config = ProxyConfig { revision: 2, ..callee("orders-1") };
        config.inbound.as_mut().unwrap().draining = true;
        mesh.orders.apply(config).await;
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "closed in order, without a byte");

        release.send(()).unwrap();
        let mut answer = String::new();
        busy.read_to_string(&mut answer).await.unwrap();
        assert_eq!(status(&answer), 200);
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        // Who was not told in time is served nevertheless.
        assert_eq!(status(&mesh.web.call(GET).await), 200);
        assert_eq!(status(&mesh.web.call(GET).await), 200);
    })
    .await;
}

#[tokio::test]
async fn a_new_certificate_serves_connections_made_later_and_cuts_none() {
    in_mesh(async {
        let mesh = Pair::new(echo_application().await).await;
        let mut client = mesh.web.dial().await;
        assert_eq!(status(&exchange(&mut client, GET).await), 200);
        mesh.orders.identity.send_replace(Some(mesh.ca.identity("orders", "orders-1")));
        mesh.web.identity.send_replace(Some(mesh.ca.identity("web", "web-1")));
        for _ in 0..3 {
            assert_eq!(status(&exchange(&mut client, GET).await), 200);
        }
        assert_eq!(mesh.orders.stats().await.inbound.values().next().unwrap().connections, 1);
    })
    .await;
}

#[tokio::test]
async fn at_the_end_of_the_process_what_is_in_flight_is_answered() {
    in_mesh(async {
        let (address, release) = held_application().await;
        let mesh = Pair::new(address).await;
        let (mut busy, mut idle) = (mesh.web.dial().await, mesh.web.dial().await);
        busy.write_all(GET.as_bytes()).await.unwrap();
        idle.write_all(b"G").await.unwrap();
        until(async || in_flight(&mesh.orders).await == 1).await;
        mesh.web.shutdown.send_replace(true);
        release.send(()).unwrap();
        let answer = read_message(&mut busy).await.unwrap();
        assert_eq!(status(&answer), 200);
        assert!(answer.contains("connection: close"), "{answer}");
        drop(idle);
        mesh.web.task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn connections_that_arrive_while_a_sidecar_is_away_wait() {
    in_mesh(async {
        let address = echo_application().await;
        let (ca, folder) = (Ca::new(), Folder::new());
        // The listener stands, as the seal's init holds it; nobody accepts.
        let listener = std::os::unix::net::UnixListener::bind(folder.path("orders-1.hop")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let web = web(&ca, &folder, address, 1, |_| {}).await;
        let mut client = web.dial().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        until(async || web.stats().await.outbound["orders"].in_flight == 1).await;

        let (config, config_view) = tokio::sync::watch::channel(Some(callee("orders-1").into()));
        let (identity, identity_view) = tokio::sync::watch::channel(Some(ca.identity("orders", "orders-1")));
        let (applied, _applied) = tokio::sync::watch::channel(crate::Applied::default());
        let (shutdown, shutdown_view) = tokio::sync::watch::channel(false);
        let hop = crate::HopListener::Unix(tokio::net::UnixListener::from_std(listener).unwrap());
        tokio::task::spawn_local(crate::run(crate::ProxyInputs {
            config: config_view,
            identity: identity_view,
            sockets: crate::Sockets { hop: Some(hop), ..crate::Sockets::default() },
            inside: Some(Box::new(HostNetwork)),
            admin: None,
            applied,
            shutdown: shutdown_view,
            memory: memory(None),
            threads: crate::Threads::default(),
            drain_max: Duration::from_secs(1),
            published: crate::PublishedSockets::default(),
            flows: Vec::new(),
            handovers: tokio::sync::mpsc::channel(1).1,
            gate: None,
        }));
        assert_eq!(status(&read_message(&mut client).await.unwrap()), 200);
        drop((config, identity, shutdown));
    })
    .await;
}

#[tokio::test]
async fn a_gateway_serves_published_ports_and_names_those_it_cannot_bind() {
    in_mesh(async {
        let address = echo_application().await;
        let (ca, folder) = (Ca::new(), Folder::new());
        let _orders = orders(&ca, &folder, 1, Box::new(HostNetwork), |config| {
            config.inbound.as_mut().unwrap().callers.push("_gateway".into());
        })
        .await;
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let publish = |listen| Published {
            listen,
            service: ServiceName::from("orders"),
            port: address.port(),
            protocol: None,
            accept_proxy: Vec::new(),
        };
        let mut config = caller(&[&folder.path("orders-1.hop")]);
        config.service = "_gateway".into();
        config.instance = "_gateway-1".into();
        config.published = vec![publish(taken.local_addr().unwrap()), publish(free)];
        let identity = ca.identity("_gateway", "_gateway-1");
        let mut gateway = Proxy::start(&folder, identity, config.clone(), Start::default()).await;
        let (revision, reason) = gateway.applied.borrow().rejected.clone().unwrap();
        assert_eq!(revision, 1);
        assert!(
            reason.contains(&taken.local_addr().unwrap().to_string()) && reason.contains("in use"),
            "{reason}"
        );
        let mut client = TcpStream::connect(free).await.unwrap();
        let answer = exchange(&mut client, GET).await;
        assert_eq!(status(&answer), 200, "{answer}");

        config.revision = 2;
        config.published = vec![publish(free)];
        gateway.apply(config.clone()).await;
        assert_eq!(*gateway.applied.borrow(), crate::Applied { revision: 2, rejected: None });
        config.revision = 3;
        config.published.clear();
        gateway.apply(config).await;
        // The accept task has to be dropped before its listener is.
        until(async || TcpStream::connect(free).await.is_err()).await;
        assert_eq!(status(&exchange(&mut client, GET).await), 200, "a connection outlives its listener");
    })
    .await;
}
