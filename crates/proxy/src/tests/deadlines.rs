//! What gRPC asks of proxies beside passing calls on: deadlines, and statuses that are counted.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use sinew_wire::h2::ErrorCode;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::mesh::*;
use super::peer::*;

const SHORT: &str = "content-type: application/grpc+proto\r\nte: trailers\r\ngrpc-timeout: 100m\r\n";

/// Answers nothing but heads, where the path asks for one; counts the calls that were given up.
async fn silent_application(cancelled: watch::Sender<u32>) -> std::net::SocketAddr {
    http2_application(move |mut peer, _| {
        let cancelled = cancelled.clone();
        async move {
            loop {
                match peer.next().await {
                    Got::Request(key, head, _) if head.contains("/begins") => {
                        peer.respond(key, 200, &[("content-type", "application/grpc")], false);
                        peer.send(key, b"begun", false);
                    }
                    Got::Reset(_, ErrorCode::CANCEL) => cancelled.send_modify(|count| *count += 1),
                    Got::Closed => return,
                    _ => {}
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_call_ends_with_its_deadline() {
    in_mesh(async {
        let (cancelled, mut count) = watch::channel(0);
        let mesh = Pair::new(silent_application(cancelled).await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let began = Instant::now();
        let key = client.request("POST", "/silent", SHORT, false);
        client.send(key, b"hello", true);
        let answer = client.answer(key).await;
        assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
        assert_eq!((answer.status(), &*answer.trailers), (200, ""), "{answer:?}");
        assert!(answer.head.contains("\ngrpc-status: 4\n"), "{answer:?}");
        assert!(answer.head.contains("\nx-sinew-reason: deadline\n"), "{answer:?}");
        count.wait_for(|count| *count == 1).await.unwrap();
        // One that has begun ends with the same word.
        let key = client.request("POST", "/begins", SHORT, false);
        let answer = client.answer(key).await;
        assert_eq!(
            (&*answer.body, &*answer.trailers),
            (
                &b"begun"[..],
                "grpc-status: 4\ngrpc-message: the time is over that the caller has given the call\n"
            )
        );
        // What the client would still send is unwanted; another code could be taken for the call's.
        let code = loop {
            match client.next().await {
                Got::Reset(_, code) => break code,
                Got::Closed => panic!("the connection goes on"),
                _ => {}
            }
        };
        assert_eq!(code, ErrorCode::NO_ERROR);
        count.wait_for(|count| *count == 2).await.unwrap();
        until(async || {
            mesh.web.admin("/metrics").await.contains(
                "sinew_grpc_calls_total{direction=\"outbound\",route=\"orders\",grpc_status=\"4\"} 2\n",
            )
        })
        .await;
        assert_eq!(mesh.web.stats().await.outbound["orders"].in_flight, 0);
    })
    .await;
}

#[tokio::test]
async fn a_call_without_a_deadline_or_with_time_left_goes_on() {
    in_mesh(async {
        let mesh = Pair::new(echoing_application().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for timeout in ["", "grpc-timeout: 1H\r\n", "grpc-timeout: forever\r\n"] {
            let key = client.request("POST", "/a", &format!("{GRPC}{timeout}"), false);
            client.send(key, b"x", true);
            assert_eq!(client.answer(key).await.trailers, "grpc-status: 0\n", "{timeout}");
        }
        // What is no gRPC has no such deadline.
        let key = client.request("POST", "/a", "grpc-timeout: 1n\r\n", false);
        client.send(key, b"x", true);
        assert_eq!(client.answer(key).await.status(), 200);
    })
    .await;
}

/// The earlier of the caller's deadline and the proxy's time for an answer. An answer that has begun, and a call without a
/// deadline, may take their time.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_no_later_than_the_time_for_an_answer() {
    in_patient_mesh(async {
        let (cancelled, mut count) = watch::channel(0);
        let impatient =
            |config: &mut sinew_spec::proxy::ProxyConfig| config.limits.request_timeout_ms = 3_000;
        let mesh = Pair::with(silent_application(cancelled).await, impatient, |_| {}).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let ask = |client: &mut Peer, path: &str, timeout: &str| {
            let key = client.request("POST", path, &format!("{GRPC}{timeout}"), false);
            client.send(key, b"hello", true);
            key
        };
        for (timeout, reason, seconds) in
            [("grpc-timeout: 60S\r\n", "upstream-timeout", 3), ("grpc-timeout: 1S\r\n", "deadline", 1)]
        {
            let began = Instant::now();
            let key = ask(&mut client, "/silent", timeout);
            let answer = client.answer(key).await;
            assert!(answer.head.contains("\ngrpc-status: 4\n"), "{answer:?}");
            assert!(answer.head.contains(&format!("\nx-sinew-reason: {reason}\n")), "{answer:?}");
            let after = began.elapsed().as_secs();
            assert!((seconds..=seconds + 1).contains(&after), "{timeout}: {after}");
        }
        count.wait_for(|count| *count == 2).await.unwrap();
        let without = ask(&mut client, "/silent", "");
        let begun = ask(&mut client, "/begins", "grpc-timeout: 60S\r\n");
        let began = Instant::now();
        let answer = client.answer(begun).await;
        assert!(answer.trailers.starts_with("grpc-status: 4\n"), "{answer:?}");
        assert!(began.elapsed() >= Duration::from_secs(59), "{:?}", began.elapsed());
        client.engine.reset(without, ErrorCode::CANCEL);
        client.flush().await;
        count.wait_for(|count| *count == 4).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_call_that_is_sent_again_has_less_time() {
    in_mesh(async {
        let first = Rc::new(Cell::new(true));
        let address = http2_application(move |mut peer, _| {
            let first = first.clone();
            async move {
                loop {
                    match peer.next().await {
                        Got::Request(key, ..) if first.replace(false) => {
                            sleep(Duration::from_millis(50)).await;
                            peer.engine.reset(key, ErrorCode::REFUSED_STREAM);
                        }
                        Got::Request(key, head, _) => {
                            peer.respond(key, 200, &[("content-type", "application/grpc")], false);
                            peer.send(key, head.as_bytes(), false);
                            peer.end_with_status(key, "0");
                        }
                        Got::Closed => return,
                        _ => {}
                    }
                }
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let key = client.request("POST", "/a", &format!("{GRPC}grpc-timeout: 9S\r\n"), false);
        client.send(key, b"x", true);
        let answer = client.answer(key).await;
        let head = String::from_utf8(answer.body).unwrap();
        let (_, left) = head.split_once("\ngrpc-timeout: ").expect("it is passed on");
        let (left, rest) = left.split_once("u\n").expect("in microseconds");
        assert!(left.parse::<u32>().unwrap() <= 8_950_000, "{left}");
        assert!(!rest.contains("grpc-timeout"), "{rest}");
    })
    .await;
}

#[tokio::test]
async fn statuses_are_counted_whoever_says_them() {
    in_mesh(async {
        let address = http2_application(|mut peer, _| async move {
            loop {
                match peer.next().await {
                    Got::Request(key, head, _) if head.contains("/alone") => {
                        peer.respond(key, 200, &[("grpc-status", "5")], true);
                    }
                    Got::Request(key, head, _) if head.contains("/http") => peer.respond(key, 503, &[], true),
                    Got::Request(key, head, _) if head.contains("/strange") => {
                        peer.respond(key, 200, &[("grpc-status", "4711")], true);
                    }
                    Got::Request(key, ..) => {
                        peer.respond(key, 200, &[], false);
                        peer.end_with_status(key, "13");
                    }
                    Got::Closed => return,
                    _ => {}
                }
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        for path in ["/alone", "/http", "/strange", "/trailers"] {
            let key = client.request("POST", path, GRPC, false);
            client.send(key, b"", true);
            client.answer(key).await;
        }
        let metrics = mesh.web.admin("/metrics").await;
        for status in ["5", "14", "_other", "13"] {
            let line = format!("sinew_grpc_calls_total{{direction=\"outbound\",route=\"orders\",grpc_status=\"{status}\"}} 1\n");
            assert!(metrics.contains(&line), "{status}: {metrics}");
        }
    })
    .await;
}
