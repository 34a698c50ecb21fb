use std::sync::atomic::{AtomicUsize, Ordering};

use sinew_spec::application::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::mesh::*;
use crate::HostNetwork;

const POST: &str = "POST /a HTTP/1.1\r\nhost: orders\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_request_goes_through_two_sidecars_and_gets_its_ids() {
    in_mesh(async {
        let mesh = Pair::new(echo_application().await).await;
        let answer = mesh.web.call(GET).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains("GET /a HTTP/1.1\r\nhost: orders\r\n"), "{answer}");
        assert!(answer.contains("\r\nx-request-id: ") && answer.contains("\r\ntraceparent: 00-"), "{answer}");
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let request =
            format!("GET / HTTP/1.1\r\nhost: orders\r\nx-request-id: mine\r\ntraceparent: {trace}\r\n\r\n");
        let answer = mesh.web.call(&request).await;
        assert_eq!(answer.matches("x-request-id: mine\r\n").count(), 1, "{answer}");
        assert_eq!(answer.matches(&format!("traceparent: {trace}\r\n")).count(), 1, "{answer}");
        assert_eq!(answer.matches("traceparent").count(), 1, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn connections_are_used_again_on_every_leg() {
    in_mesh(async {
        let mesh = Pair::new(echo_application().await).await;
        let mut client = mesh.web.dial().await;
        for _ in 0..20 {
            let answer = exchange(&mut client, GET).await;
            assert!(answer.contains("\r\n\r\n#0\n"), "another connection to the application: {answer}");
        }
        let answer = mesh.web.call(GET).await;
        assert!(answer.contains("\r\n\r\n#0\n"), "another client does not share the pool: {answer}");
        let stats = mesh.web.stats().await;
        assert_eq!(stats.outbound["orders"].requests, 21);
        assert_eq!(stats.outbound["orders"].errors, 0);
        let inbound = mesh.orders.stats().await.inbound;
        assert_eq!(inbound.values().next().unwrap().connections, 1, "one hop connection served all");
    })
    .await;
}

#[tokio::test]
async fn bodies_pass_in_both_framings() {
    in_mesh(async {
        let mesh = Pair::new(echo_application().await).await;
        let answer = mesh.web.call(POST).await;
        assert!(answer.ends_with("hello"), "{answer}");
        let chunked =
            "POST / HTTP/1.1\r\nhost: orders\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let answer = mesh.web.call(chunked).await;
        assert!(answer.ends_with("3\r\nabc\r\n0\r\n\r\n"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_large_body_passes_both_ways_at_once() {
    in_mesh(async {
        const SIZE: usize = 4 * 1024 * 1024;
        // Answers while it reads: neither side may wait for the other to be done.
        let address = application(|mut stream, _| async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut buffer = vec![0; 64 * 1024];
            let mut left = SIZE;
            while left > 0 {
                let count = stream.read(&mut buffer).await.unwrap();
                stream.write_all(&buffer[..count]).await.unwrap();
                left -= count;
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let (mut from, mut to) = mesh.web.dial().await.into_split();
        let sent: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let sender = tokio::task::spawn_local(async move {
            let head = format!(
                "POST / HTTP/1.1\r\nhost: orders\r\nconnection: close\r\ncontent-length: {SIZE}\r\n\r\n"
            );
            to.write_all(head.as_bytes()).await.unwrap();
            to.write_all(&sent).await.unwrap();
            to
        });
        let mut answer = Vec::new();
        from.read_to_end(&mut answer).await.unwrap();
        let body = answer.len() - SIZE;
        assert!(answer[body..] == expected, "the body came back changed");
        drop(sender.await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_from_the_application() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            let mut body = [0; 5];
            stream.read_exact(&mut body).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
            stream.write_all(&body).await.unwrap();
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        let head = "POST / HTTP/1.1\r\nhost: orders\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        let interim = exchange(&mut client, head).await;
        assert_eq!(status(&interim), 100, "{interim}");
        client.write_all(b"hello").await.unwrap();
        let answer = read_message(&mut client).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_reaches_the_client() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer =
                b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbig\n";
            stream.write_all(answer).await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        let head = "POST / HTTP/1.1\r\nhost: orders\r\ncontent-length: 100000000\r\n\r\n";
        let answer = exchange(&mut client, head).await;
        assert_eq!(status(&answer), 413, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_passes_bytes_after_its_upgrade() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            let head = read_message(&mut stream).await.unwrap();
            assert!(head.contains("upgrade: websocket\r\n"), "{head}");
            let answer =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            let mut frame = [0; 4];
            stream.read_exact(&mut frame).await.unwrap();
            stream.write_all(&frame).await.unwrap();
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        let head = "GET /live HTTP/1.1\r\nhost: orders\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let answer = exchange(&mut client, head).await;
        assert_eq!(status(&answer), 101, "{answer}");
        client.write_all(b"ping").await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "ping");
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_is_dead_costs_no_request() {
    in_mesh(async {
        let address = echo_application().await;
        let (ca, folder) = (Ca::new(), Folder::new());
        // Nobody listens at the hop of orders-2.
        let _orders = orders(&ca, &folder, 1, Box::new(HostNetwork), |_| {}).await;
        let web = web(&ca, &folder, address, 2, |_| {}).await;
        for request in [GET, POST].into_iter().cycle().take(20) {
            assert_eq!(status(&web.call(request).await), 200);
        }
    })
    .await;
}

#[tokio::test]
async fn an_application_that_does_not_listen_yet_costs_no_request() {
    in_mesh(async {
        let address = echo_application().await;
        let (ca, folder) = (Ca::new(), Folder::new());
        let _ready = orders(&ca, &folder, 1, Box::new(HostNetwork), |_| {}).await;
        let unready = orders(&ca, &folder, 2, Box::new(EmptySeal), |_| {}).await;
        let web = web(&ca, &folder, address, 2, |_| {}).await;
        // Enough that both are chosen, whatever the seed.
        for _ in 0..40 {
            let answer = web.call(POST).await;
            assert_eq!(status(&answer), 200, "{answer}");
            assert!(!answer.contains("x-sinew-reason"), "{answer}");
        }
        drop(unready);
    })
    .await;
}

#[tokio::test]
async fn the_client_is_told_why_it_has_no_answer() {
    in_mesh(async {
        let address = echo_application().await;
        let (ca, folder) = (Ca::new(), Folder::new());
        let check = async |answer: String, expected: u16, reason: &str| {
            assert_eq!(status(&answer), expected, "{answer}");
            assert!(answer.contains(&format!("x-sinew-reason: {reason}\r\n")), "{answer}");
        };
        let mut web = web(&ca, &folder, address, 0, |_| {}).await;
        check(web.call(GET).await, 503, "no-endpoint").await;

        let _unready = orders(&ca, &folder, 1, Box::new(EmptySeal), |_| {}).await;
        web.apply(sinew_spec::proxy::ProxyConfig { revision: 2, ..caller(&[&folder.path("orders-1.hop")]) })
            .await;
        check(web.call(GET).await, 503, "connect-failed").await;

        let _strangers = orders(&ca, &folder, 2, Box::new(HostNetwork), |config| {
            config.inbound.as_mut().unwrap().callers = vec!["billing".into()];
        })
        .await;
        web.apply(sinew_spec::proxy::ProxyConfig { revision: 3, ..caller(&[&folder.path("orders-2.hop")]) })
            .await;
        check(web.call(GET).await, 403, "caller-refused").await;
    })
    .await;
}

#[tokio::test]
async fn a_callee_with_the_wrong_identity_gets_no_request() {
    in_mesh(async {
        let address = echo_application().await;
        let (ca, folder, other_ca) = (Ca::new(), Folder::new(), Ca::new());
        let hop = folder.path("orders-1.hop");
        let start =
            || Start { hop: Some(hop.clone()), inside: Some(Box::new(HostNetwork)), ..Start::default() };
        let impostor =
            Proxy::start(&folder, ca.identity("billing", "billing-1"), callee("orders-1"), start()).await;
        let web = web(&ca, &folder, address, 1, |_| {}).await;
        let answer = web.call(GET).await;
        assert_eq!(status(&answer), 502, "{answer}");
        assert!(answer.contains("x-sinew-reason: identity"), "{answer}");

        // The right name, but not from our CA.
        impostor.identity.send_replace(Some(other_ca.identity("orders", "orders-1")));
        let answer = web.call(GET).await;
        assert_eq!(status(&answer), 502, "{answer}");
        assert!(impostor.stats().await.inbound.is_empty(), "a request has reached the impostor");
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_the_application_closed_is_not_used_again() {
    in_mesh(async {
        static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
        // Closes after each answer without saying so.
        let address = application(|mut stream, _| async move {
            CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            if read_message(&mut stream).await.is_some() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        for count in 1..=10 {
            let answer = exchange(&mut client, POST).await;
            assert_eq!(status(&answer), 200, "{answer}");
            assert_eq!(CONNECTIONS.load(Ordering::Relaxed), count);
        }
    })
    .await;
}

#[tokio::test]
async fn a_stale_connection_is_retried_only_when_it_does_no_harm() {
    in_mesh(async {
        // The second request on a connection is read and answered by a close.
        let address = application(|mut stream, _| async move {
            if read_message(&mut stream).await.is_some() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                let mut byte = [0; 1];
                stream.read_exact(&mut byte).await.ok();
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        assert_eq!(status(&exchange(&mut client, GET).await), 200);
        assert_eq!(status(&exchange(&mut client, GET).await), 200, "a GET may be sent twice");
        let answer = exchange(&mut client, POST).await;
        assert_eq!(status(&answer), 502, "a POST may not: {answer}");
        assert!(answer.contains("upstream-gone"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_seen_by_the_client() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            read_message(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut answer = [0; 1024];
        let mut length = 0;
        let error = loop {
            match client.read(&mut answer[length..]).await {
                Ok(0) => panic!("an end in order after {:?}", String::from_utf8_lossy(&answer[..length])),
                Ok(count) => length += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let text = String::from_utf8_lossy(&answer[..length]);
        assert!(text.is_empty() || (status(&text) == 200 && text.ends_with("\r\n\r\nhalf")), "{text}");
        assert_eq!(mesh.web.stats().await.outbound["orders"].errors, 1);

        let garbage = fixed_application("BANANA\r\n\r\n").await;
        let mesh = Pair::new(garbage).await;
        let answer = mesh.web.call(GET).await;
        assert_eq!(status(&answer), 502, "{answer}");
        assert!(answer.contains("x-sinew-reason: upstream-malformed"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn applications_cannot_speak_in_a_sidecars_name() {
    in_mesh(async {
        let forged =
            "HTTP/1.1 503 Service Unavailable\r\nx-sinew-reason: connect-failed\r\ncontent-length: 0\r\n\r\n";
        let mesh = Pair::new(fixed_application(forged).await).await;
        let answer = mesh.web.call(POST).await;
        assert_eq!(status(&answer), 503);
        assert!(!answer.contains("x-sinew-reason"), "{answer}");
        assert_eq!(mesh.orders.stats().await.inbound.values().next().unwrap().requests, 1, "it was repeated");
    })
    .await;
}

#[tokio::test]
async fn hostile_heads_are_refused_and_the_next_client_is_served() {
    in_mesh(async {
        let mesh = Pair::with(
            echo_application().await,
            |config| {
                config.destinations[0].protocols.extend((1..=u16::MAX).map(|port| (port, Protocol::Http)))
            },
            |_| {},
        )
        .await;
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501),
            ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 405),
            ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
            ("EHLO mail\r\n\r\n", 400),
        ] {
            let answer = mesh.web.call(head).await;
            assert_eq!(status(&answer), expected, "{head:?}: {answer}");
            assert!(answer.contains("connection: close"), "{answer}");
            assert_eq!(status(&mesh.web.call(GET).await), 200);
        }
        let inbound = mesh.orders.stats().await.inbound;
        assert_eq!(inbound.values().next().unwrap().requests, 9, "only the good ones went on");
    })
    .await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    in_mesh(async {
        let mesh = Pair::new(echo_application().await).await;
        let mut client = mesh.web.dial().await;
        let request = |path| format!("GET /{path} HTTP/1.1\r\nhost: orders\r\n\r\n");
        client.write_all([request("1"), request("2"), request("3")].concat().as_bytes()).await.unwrap();
        for path in 1..=3 {
            let answer = read_message(&mut client).await.unwrap();
            assert!(answer.contains(&format!("GET /{path} ")), "{answer}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_finish_its_head_or_body_is_told_408() {
    in_mesh(async {
        let mesh = Pair::with(
            echo_application().await,
            |config| {
                config.limits.header_timeout_ms = 1_000;
                config.limits.idle_timeout_ms = 2_000;
            },
            |_| {},
        )
        .await;
        let answer = mesh.web.call("GET / HTTP/1.1\r\nhost: ord").await;
        assert_eq!(status(&answer), 408, "{answer}");
        let answer = mesh.web.call("POST / HTTP/1.1\r\nhost: orders\r\ncontent-length: 10\r\n\r\nhalf").await;
        assert_eq!(status(&answer), 408, "{answer}");
        // One that is idle between requests is closed without a word.
        let mut client = mesh.web.dial().await;
        assert_eq!(status(&exchange(&mut client, GET).await), 200);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_answer_is_given_up() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            let mut everything = Vec::new();
            stream.read_to_end(&mut everything).await.ok();
        })
        .await;
        let mesh = Pair::with(address, |config| config.limits.request_timeout_ms = 3_000, |_| {}).await;
        let answer = mesh.web.call(GET).await;
        assert_eq!(status(&answer), 504, "{answer}");
        assert!(answer.contains("x-sinew-reason: upstream-timeout"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn requests_wait_for_a_connection_within_bounds() {
    in_mesh(async {
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
        let mesh = Pair::with(
            address,
            |config| {
                config.limits.upstream_connections_per_endpoint_max = 1;
                config.limits.upstream_pending_max = 1;
            },
            |_| {},
        )
        .await;
        let mut first = mesh.web.dial().await;
        first.write_all(GET.as_bytes()).await.unwrap();
        until(async || mesh.orders.stats().await.inbound.values().any(|port| port.in_flight == 1)).await;
        let mut second = mesh.web.dial().await;
        second.write_all(GET.as_bytes()).await.unwrap();
        until(async || mesh.web.stats().await.outbound["orders"].in_flight == 2).await;
        let third = mesh.web.call(GET).await;
        assert_eq!(status(&third), 503, "{third}");
        assert!(third.contains("x-sinew-reason: overload"), "{third}");
        release.send(()).unwrap();
        assert_eq!(status(&read_message(&mut first).await.unwrap()), 200);
        assert_eq!(status(&read_message(&mut second).await.unwrap()), 200);
    })
    .await;
}
