//! Peers that are slow: by intention, by nature, or because nobody reads what they send.

use std::time::Duration;

use sinew_spec::proxy::ProxyConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::mesh::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_answer_whose_head_trickles_is_given_up() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            read_message(&mut stream).await;
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nx: ").await.unwrap();
            while stream.write_all(b"x").await.is_ok() {
                sleep(SECOND).await;
            }
        })
        .await;
        // The caller's sidecar sees nothing of a head that is not whole: it is the callee's that gives up.
        let mesh = Pair::with(address, |_| {}, |config| config.limits.request_timeout_ms = 3_000).await;
        let mut client = mesh.web.dial().await;
        let began = Instant::now();
        assert_eq!(status(&exchange(&mut client, GET).await), 103);
        let answer = read_message(&mut client).await.unwrap();
        assert_eq!(status(&answer), 504, "{answer}");
        assert!(began.elapsed() < 4 * SECOND, "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_body_trickles_is_told_408() {
    in_mesh(async {
        for framing in ["content-length: 1000", "transfer-encoding: chunked"] {
            let mesh = Pair::with(
                echo_application().await,
                |config| config.limits.idle_timeout_ms = 5_000,
                |config| config.limits.idle_timeout_ms = 60_000,
            )
            .await;
            let (mut from, mut to) = mesh.web.dial().await.into_split();
            let head = format!("POST / HTTP/1.1\r\nhost: orders\r\n{framing}\r\n\r\n");
            to.write_all(head.as_bytes()).await.unwrap();
            let piece: &[u8] = if framing.ends_with("chunked") { b"1\r\nx\r\n" } else { b"x" };
            let began = Instant::now();
            let trickle = async {
                while to.write_all(piece).await.is_ok() {
                    sleep(SECOND).await;
                }
            };
            let mut answer = [0; 12];
            tokio::select! {
                () = trickle => panic!("cut without a word"),
                read = from.read_exact(&mut answer) => drop(read.unwrap()),
            }
            assert_eq!(&answer, b"HTTP/1.1 408");
            assert!(began.elapsed() < 7 * SECOND, "{:?}", began.elapsed());
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_may_come_one_by_one_for_as_long_as_they_like() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            read_message(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            for _ in 0..6 {
                sleep(2 * SECOND).await;
                stream.write_all(b"3\r\n:\n\n\r\n").await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        })
        .await;
        let limit = |config: &mut ProxyConfig| config.limits.request_timeout_ms = 3_000;
        let mesh = Pair::with(address, limit, limit).await;
        let answer = mesh.web.call(GET).await;
        assert_eq!(answer.matches(":\n\n").count(), 6, "{answer}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_given_up() {
    in_mesh(async {
        let address = application(|mut stream, _| async move {
            read_message(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").await.unwrap();
            while stream.write_all(&[7; 64 * 1024]).await.is_ok() {}
        })
        .await;
        let limits = |config: &mut ProxyConfig| config.limits.request_timeout_ms = 3_000;
        let mesh = Pair::with(address, limits, limits).await;
        let mut client = mesh.web.dial().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'H');
        let began = Instant::now();
        // One byte in a second is no reading: the kernel does not even tell the other side.
        loop {
            sleep(SECOND).await;
            client.read_u8().await.ok();
            let outbound = mesh.web.stats().await.outbound;
            if outbound.get("orders").is_some_and(|route| route.requests == 1 && route.in_flight == 0) {
                break;
            }
            assert!(began.elapsed() < 60 * SECOND, "it is still served");
        }
        assert!(began.elapsed() >= 3 * SECOND, "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn what_a_slow_reader_does_not_read_stays_with_the_application() {
    in_mesh(async {
        const SIZE: usize = 64 * 1024 * 1024;
        // Buffers of three sockets, which the kernel makes as large as 6 MiB, and little of our own.
        const HELD_MAX: usize = 24 * 1024 * 1024;
        let written = Shared::new(0_usize.into());
        let address = {
            let written: Shared<usize> = written.clone();
            application(move |mut stream, _| {
                let written = written.clone();
                async move {
                    read_message(&mut stream).await;
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                    let piece = vec![7; 64 * 1024];
                    while *written.borrow() < SIZE {
                        stream.write_all(&piece).await.unwrap();
                        *written.borrow_mut() += piece.len();
                    }
                }
            })
            .await
        };
        let mesh = Pair::new(address).await;
        let mut client = mesh.web.dial().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        // Until nothing has moved for many turns of the loop.
        let (mut before, mut turns) = (0, 0);
        until(async || {
            mesh.web.stats().await;
            let now = *written.borrow();
            turns = if now == before { turns + 1 } else { 0 };
            before = now;
            now > 0 && turns > 100
        })
        .await;
        assert!(before < HELD_MAX, "{before} bytes were taken for a client that reads nothing");
        let mut left = SIZE;
        let mut buffer = vec![0; 256 * 1024];
        while left > 0 {
            let count = client.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{left} bytes are missing");
            left = left.saturating_sub(count);
        }
    })
    .await;
}
