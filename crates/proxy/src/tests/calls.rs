//! Calls over HTTP/2 through two sidecars.

use std::cell::Cell;
use std::rc::Rc;

use sinew_wire::h2::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::mesh::*;
use super::peer::*;
use crate::HostNetwork;

#[tokio::test]
async fn a_call_goes_through_two_sidecars_and_gets_its_ids() {
    in_mesh(async {
        let mesh = Pair::new(echoing_application().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for _ in 0..3 {
            let answer = client.call(b"hello").await;
            assert_eq!(answer.status(), 200, "{answer:?}");
            assert_eq!(answer.trailers, "grpc-status: 0\n");
            let body = String::from_utf8(answer.body).unwrap();
            assert!(body.starts_with(":method: POST\n:path: /pkg.Service/Method\nte: trailers\n"), "{body}");
            assert!(body.contains("\nx-request-id: ") && body.contains("\ntraceparent: 00-"), "{body}");
            assert!(body.ends_with("\nhello"), "{body}");
        }
        let figures = &mesh.web.stats().await.outbound["orders"];
        assert_eq!((figures.requests, figures.errors, figures.in_flight), (3, 0, 0));
        let inbound = mesh.orders.stats().await.inbound;
        let port = inbound.values().next().unwrap();
        assert_eq!((port.requests, port.connections, port.in_flight), (3, 1, 0));
    })
    .await;
}

#[tokio::test]
async fn what_a_call_has_of_ids_and_deadlines_stays() {
    in_mesh(async {
        let mesh = Pair::new(echoing_application().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let fields = format!(
            "{GRPC}grpc-timeout: 5S\r\nx-request-id: mine\r\ntraceparent: {trace}\r\nx-sinew-reason: forged\r\n"
        );
        // One that has to wait for a connection has less time left.
        client.call(b"first").await;
        let key = client.request("POST", "/a", &fields, false);
        client.send(key, b"", true);
        let answer = client.answer(key).await;
        let body = String::from_utf8(answer.body).unwrap();
        assert!(body.contains("\ngrpc-timeout: 5S\n"), "{body}");
        assert_eq!(body.matches("x-request-id: mine\n").count(), 1, "{body}");
        assert_eq!(body.matches(&format!("traceparent: {trace}\n")).count(), 1, "{body}");
        assert_eq!(body.matches("traceparent").count(), 1, "{body}");
        assert!(!body.contains("forged"), "{body}");
    })
    .await;
}

#[tokio::test]
async fn both_protocols_of_one_service_go_their_own_ways() {
    in_mesh(async {
        // One port, one protocol after the other: a server that looks at the first bytes.
        let address = application(|mut stream, number| async move {
            let mut first = [0; 3];
            stream.peek(&mut first).await.unwrap();
            if &first == b"PRI" {
                let mut peer = Peer::server(stream);
                while let Got::Request(key, ..) = peer.next().await {
                    peer.respond(key, 204, &[], true);
                }
            } else {
                while read_message(&mut stream).await.is_some() {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let mut other = mesh.web.dial().await;
        for _ in 0..3 {
            let key = client.request("GET", "/", "", true);
            assert_eq!(client.answer(key).await.status(), 204);
            assert_eq!(status(&exchange(&mut other, GET).await), 200);
        }
    })
    .await;
}

#[tokio::test]
async fn each_call_of_one_connection_is_balanced_on_its_own() {
    in_mesh(async {
        let address = echoing_application().await;
        let (ca, folder) = (Ca::new(), Folder::new());
        let mut callees = Vec::new();
        for number in 1..=3 {
            callees.push(orders(&ca, &folder, number, Box::new(HostNetwork), |_| {}).await);
        }
        let web = web(&ca, &folder, address, 3, |_| {}).await;
        let mut client = Peer::client(web.dial().await);
        // At once: the least loaded of two is chosen, so that they spread evenly.
        let keys: Vec<_> = (0..60).map(|_| client.request("POST", "/a", GRPC, false)).collect();
        for key in &keys {
            client.send(*key, b"x", true);
        }
        let mut ended = 0;
        while ended < keys.len() {
            ended += usize::from(matches!(client.next().await, Got::Trailers(..)));
        }
        for callee in &callees {
            let stats = callee.stats().await;
            let requests = stats.inbound.values().next().map_or(0, |port| port.requests);
            assert!((10..=30).contains(&requests), "{requests} of 60 on one of three");
        }
    })
    .await;
}

#[tokio::test]
async fn large_messages_pass_both_ways_whole() {
    in_mesh(async {
        const SIZE: usize = 8 * 1024 * 1024;
        let mesh = Pair::new(echoing_application().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let sent: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
        let answer = client.call(&sent).await;
        assert!(answer.body.ends_with(&sent), "the body came back changed");
        assert_eq!(answer.trailers, "grpc-status: 0\n");
    })
    .await;
}

#[tokio::test]
async fn both_ends_of_a_stream_speak_in_turn() {
    in_mesh(async {
        let mesh = Pair::new(echoing_application().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let key = client.request("POST", "/chat", GRPC, false);
        assert!(matches!(client.next().await, Got::Response(_, _, false)));
        assert!(matches!(client.next().await, Got::Data(_, _, false)));
        for word in [&b"one"[..], b"two", b"three"] {
            client.send(key, word, false);
            assert_eq!(client.next().await, Got::Data(key, word.to_vec(), false));
        }
        client.send(key, b"", true);
        assert_eq!(client.next().await, Got::Trailers(key, "grpc-status: 0\n".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_application() {
    in_mesh(async {
        let (told, code) = tokio::sync::oneshot::channel();
        let told = Cell::new(Some(told));
        let address = http2_application(move |mut peer, _| {
            let told = told.take();
            async move {
                loop {
                    match peer.next().await {
                        Got::Request(key, ..) => peer.respond(key, 200, &[], false),
                        Got::Reset(_, code) => return told.unwrap().send(code).unwrap(),
                        Got::Closed => return,
                        _ => {}
                    }
                }
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let key = client.request("POST", "/a", GRPC, false);
        assert!(matches!(client.next().await, Got::Response(..)));
        client.engine.reset(key, ErrorCode::CANCEL);
        client.flush().await;
        assert_eq!(code.await.unwrap(), ErrorCode::CANCEL);
        until(async || mesh.orders.stats().await.inbound.values().all(|port| port.in_flight == 0)).await;
        assert_eq!(mesh.web.stats().await.outbound["orders"].errors, 0, "the client's own doing");
    })
    .await;
}

#[tokio::test]
async fn a_reset_of_the_application_reaches_the_client_as_it_is() {
    in_mesh(async {
        let address = http2_application(|mut peer, _| async move {
            loop {
                match peer.next().await {
                    Got::Request(key, ..) => peer.engine.reset(key, ErrorCode::ENHANCE_YOUR_CALM),
                    Got::Closed => return,
                    _ => {}
                }
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let key = client.request("POST", "/a", GRPC, false);
        assert_eq!(client.next().await, Got::Reset(key, ErrorCode::ENHANCE_YOUR_CALM));
    })
    .await;
}

#[tokio::test]
async fn what_the_sidecar_says_itself_is_a_grpc_status() {
    in_mesh(async {
        let address = echoing_application().await;
        let mesh = Pair::with(address, |config| config.destinations[0].endpoints.clear(), |_| {}).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let answer = client.call(b"hello").await;
        assert_eq!((answer.status(), &*answer.trailers), (200, ""), "{answer:?}");
        assert!(answer.head.contains("\ngrpc-status: 14\n"), "{answer:?}");
        assert!(answer.head.contains("\ncontent-type: application/grpc\n"), "{answer:?}");
        assert!(answer.head.contains("\nx-sinew-reason: no-endpoint\n"), "{answer:?}");
        // Whoever does not speak gRPC is told by HTTP.
        let key = client.request("GET", "/", "", true);
        let answer = client.answer(key).await;
        assert_eq!(answer.status(), 503, "{answer:?}");
        assert!(answer.body.starts_with(b"no healthy instance"), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_is_not_allowed_is_told_so() {
    in_mesh(async {
        let address = echoing_application().await;
        let deny = |config: &mut sinew_spec::proxy::ProxyConfig| {
            config.inbound.as_mut().unwrap().callers.clear();
        };
        let mesh = Pair::with(address, |_| {}, deny).await;
        let answer = Peer::client(mesh.web.dial().await).call(b"hello").await;
        assert!(answer.head.contains("\ngrpc-status: 7\n"), "{answer:?}");
        assert!(answer.head.contains("\nx-sinew-reason: caller-refused\n"), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn an_instance_whose_application_is_away_costs_no_call() {
    in_mesh(async {
        let address = echoing_application().await;
        let (ca, folder) = (Ca::new(), Folder::new());
        let _ready = orders(&ca, &folder, 1, Box::new(HostNetwork), |_| {}).await;
        let _unready = orders(&ca, &folder, 2, Box::new(EmptySeal), |_| {}).await;
        // Nobody listens at the hop of orders-3.
        let web = web(&ca, &folder, address, 3, |_| {}).await;
        let mut client = Peer::client(web.dial().await);
        for _ in 0..30 {
            let answer = client.call(b"hello").await;
            assert_eq!(answer.trailers, "grpc-status: 0\n", "{answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn calls_that_an_application_refuses_go_to_another_connection() {
    in_mesh(async {
        let served = Rc::new(Cell::new(0));
        let count = served.clone();
        // Each connection serves two calls and then leaves; what comes later was not processed.
        let address = http2_application(move |mut peer, _| {
            let count = count.clone();
            async move {
                for number in 0.. {
                    let key = loop {
                        match peer.next().await {
                            Got::Request(key, ..) => break key,
                            Got::Closed => return,
                            _ => {}
                        }
                    };
                    if number < 2 {
                        count.set(count.get() + 1);
                        peer.respond(key, 200, &[], true);
                        peer.engine.reset(key, ErrorCode::NO_ERROR);
                    } else if number == 2 {
                        peer.engine.reset(key, ErrorCode::REFUSED_STREAM);
                        peer.engine.drain();
                        peer.engine.finish_drain();
                    }
                }
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for _ in 0..20 {
            let key = client.request("POST", "/a", GRPC, false);
            client.send(key, b"hello", true);
            let answer = client.answer(key).await;
            assert_eq!((answer.status(), &*answer.head), (200, ":status: 200\n"), "{answer:?}");
        }
        assert_eq!(served.get(), 20);
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_drains_ends_its_connections_after_their_calls() {
    in_mesh(async {
        let address = echoing_application().await;
        let (ca, folder) = (Ca::new(), Folder::new());
        let mut first = orders(&ca, &folder, 1, Box::new(HostNetwork), |_| {}).await;
        let mut web = web(&ca, &folder, address, 1, |_| {}).await;
        let mut client = Peer::client(web.dial().await);
        let long = client.request("POST", "/long", GRPC, false);
        assert!(matches!(client.next().await, Got::Response(..)));
        assert!(matches!(client.next().await, Got::Data(..)));
        // Out of routing, then draining, as when an instance is replaced.
        let _second = orders(&ca, &folder, 2, Box::new(HostNetwork), |_| {}).await;
        let mut config = caller(&[&folder.path("orders-2.hop")]);
        config.destinations[0].endpoints[0].instance = "orders-2".into();
        config.revision = 2;
        web.apply(config).await;
        let mut config = callee("orders-1");
        config.inbound.as_mut().unwrap().draining = true;
        config.revision = 2;
        first.apply(config).await;
        let short = client.request("POST", "/short", GRPC, false);
        client.send(short, b"", true);
        assert_eq!(client.answer(short).await.trailers, "grpc-status: 0\n");
        // The one under way goes on for as long as it likes.
        client.send(long, b"still here", false);
        assert_eq!(client.next().await, Got::Data(long, b"still here".to_vec(), false));
        client.send(long, b"", true);
        assert_eq!(client.next().await, Got::Trailers(long, "grpc-status: 0\n".to_owned()));
        until(async || first.admin("/metrics").await.contains("\nsinew_client_connections_open 0\n")).await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_holds_bounded_memory_and_stops_no_other() {
    in_mesh(async {
        const SIZE: usize = 16 * 1024 * 1024;
        let left = Rc::new(Cell::new(SIZE));
        let shown = left.clone();
        let address = http2_application(move |mut peer, _| {
            let shown = shown.clone();
            async move {
                loop {
                    match peer.next().await {
                        Got::Request(key, head, _) => {
                            peer.respond(key, 200, &[], false);
                            let size = if head.contains("/large") { SIZE } else { 1 };
                            peer.send(key, &vec![7; size], true);
                        }
                        Got::Closed => return,
                        _ => {}
                    }
                    shown.set(peer.unsent());
                }
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut slow = Peer::client(mesh.web.dial().await);
        slow.request("GET", "/large", "", true);
        // From now on it reads nothing.
        slow.flush().await;
        let mut other = Peer::client(mesh.web.dial().await);
        for _ in 0..200 {
            let key = other.request("GET", "/small", "", true);
            assert_eq!(other.answer(key).await.body, [7]);
        }
        // What is on the way: windows and outputs of two sidecars, buffers of the kernel.
        assert!(left.get() > SIZE - 4 * 1024 * 1024, "{} of {SIZE} are on the way", SIZE - left.get());
    })
    .await;
}

#[tokio::test]
async fn rapid_resets_end_their_connection_and_no_other() {
    in_mesh(async {
        let mesh = Pair::new(echoing_application().await).await;
        let mut other = Peer::client(mesh.web.dial().await);
        assert_eq!(other.call(b"before").await.status(), 200);
        let mut hostile = Peer::client(mesh.web.dial().await);
        let code = 'ended: loop {
            for _ in 0..100 {
                let key = hostile.request("POST", "/a", GRPC, false);
                hostile.engine.reset(key, ErrorCode::CANCEL);
            }
            hostile.flush().await;
            loop {
                let got = tokio::time::timeout(std::time::Duration::from_millis(1), hostile.next()).await;
                match got {
                    Ok(Got::GoAway(code)) => break 'ended code,
                    Ok(Got::Closed) => panic!("closed without a word"),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        };
        assert_eq!(code, ErrorCode::ENHANCE_YOUR_CALM);
        for _ in 0..10 {
            assert_eq!(other.call(b"after").await.status(), 200);
        }
        until(async || mesh.web.stats().await.outbound["orders"].in_flight == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_calls() {
    in_mesh(async {
        let mesh = Pair::new(echoing_application().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        client.request("POST", "/a", GRPC, false);
        assert!(matches!(client.next().await, Got::Response(..)));
        drop(client);
        until(async || {
            let inbound = mesh.orders.stats().await.inbound;
            inbound.values().all(|port| port.in_flight == 0)
                && inbound.values().any(|port| port.requests == 1)
        })
        .await;
        assert_eq!(mesh.web.stats().await.outbound["orders"].in_flight, 0);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_says_its_settings_first_is_not_taken_for_tcp() {
    in_mesh(async {
        let address = http2_application(|mut peer, _| async move {
            peer.flush().await;
            while let Got::Request(key, ..) = peer.next().await {
                peer.respond(key, 204, &[], true);
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        // Silent for longer than detection waits.
        let stream = mesh.web.dial().await;
        until(async || mesh.orders.stats().await.inbound.values().any(|port| port.connections == 1)).await;
        let mut client = Peer::client(stream);
        let key = client.request("GET", "/", "", true);
        assert_eq!(client.answer(key).await.status(), 204);
        assert_eq!(mesh.web.stats().await.outbound["orders"].requests, 1);
        let mut nothing = mesh.web.dial().await;
        nothing.shutdown().await.unwrap();
        nothing.read_to_end(&mut Vec::new()).await.unwrap();
    })
    .await;
}
