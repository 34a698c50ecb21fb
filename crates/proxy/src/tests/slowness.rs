//! Peers that are slow over HTTP/2, or silent: the clock of the test is turned forward.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use sinew_spec::proxy::ProxyConfig;
use sinew_transport::Stream;
use sinew_transport::stream::Raw;
use sinew_transport::tls::Tls;
use sinew_wire::h2::PREFACE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::{Instant, sleep, timeout};

use super::frames::*;
use super::mesh::*;
use super::peer::*;

const SECOND: Duration = Duration::from_secs(1);

fn quick(config: &mut ProxyConfig) {
    config.limits.header_timeout_ms = 3_000;
    config.limits.request_timeout_ms = 3_000;
    config.limits.idle_timeout_ms = 6_000;
}

/// `web` is impatient, `orders` is not: what is seen is the doing of the one that the client speaks to.
async fn impatient(application: std::net::SocketAddr) -> Pair {
    let declared = |config: &mut ProxyConfig| {
        quick(config);
        let http = sinew_spec::application::Protocol::Http;
        config.destinations[0].protocols.extend((1..=u16::MAX).map(|port| (port, http)));
    };
    Pair::with(application, declared, |_| {}).await
}

/// Sends `begin`, and then a byte of `rest` each second; the code of the GOAWAY, and after how long it came.
async fn trickle(mut client: TcpStream, begin: &[u8], rest: &[u8]) -> (u32, Duration) {
    client.write_all(begin).await.unwrap();
    let began = Instant::now();
    let (mut from, mut to) = client.into_split();
    let sending = async {
        for byte in rest {
            sleep(SECOND).await;
            if to.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut reader = Reader::default();
    tokio::select! {
        code = reader.code(&mut from, GOAWAY) => (code, began.elapsed()),
        () = sending => unreachable!(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_begins_a_connection_and_does_not_end_is_given_up() {
    in_patient_mesh(async {
        let mesh = impatient(echoing_application().await).await;
        let check = async |begin: &[u8], rest: &[u8], expected: u32| {
            let (code, after) = trickle(mesh.web.dial().await, begin, rest).await;
            assert_eq!(code, expected);
            assert!((3 * SECOND..=6 * SECOND).contains(&after), "{after:?}");
            assert_eq!(Peer::client(mesh.web.dial().await).call(b"after").await.status(), 200);
        };
        check(&PREFACE[..8], &PREFACE[8..], SETTINGS_TIMEOUT).await;
        // Its own SETTINGS have come, an acknowledgement of ours has not.
        check(&[&PREFACE[..], &settings(&[])].concat(), &[], SETTINGS_TIMEOUT).await;
        let head = frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &[GET_BLOCK, &[0x00, 1, b'x', 100], &[b'y'; 100]].concat(),
        );
        check(&[start(&[]), head[..20].to_vec()].concat(), &head[20..], ENHANCE_YOUR_CALM).await;
        // A head of several frames, of which each is whole.
        check(&[start(&[]), frame(HEADERS, END_STREAM, 1, GET_BLOCK)].concat(), &[], ENHANCE_YOUR_CALM).await;
        let crumbs = frame(CONTINUATION, 0, 1, &[]).repeat(10);
        check(&[start(&[]), frame(HEADERS, END_STREAM, 1, GET_BLOCK)].concat(), &crumbs, ENHANCE_YOUR_CALM)
            .await;
        // While another stream is open.
        let begin = [start(&[]), post(1), frame(HEADERS, END_STREAM, 3, GET_BLOCK)].concat();
        check(&begin, &[], ENHANCE_YOUR_CALM).await;
    })
    .await;
}

/// Whoever is busy has always begun something: each frame has its own time.
#[tokio::test(start_paused = true)]
async fn a_busy_client_is_not_taken_for_a_slow_one() {
    in_patient_mesh(async {
        let mesh = impatient(echoing_application().await).await;
        let mut client = mesh.web.dial().await;
        let ping = frame(PING, 0, 0, &[0; 8]);
        client.write_all(&[start(&[]), ping[..5].to_vec()].concat()).await.unwrap();
        for _ in 0..5 {
            sleep(SECOND).await;
            client.write_all(&[&ping[5..], &ping[..5]].concat()).await.unwrap();
        }
        let (mut reader, mut answers) = (Reader::default(), 0);
        while answers < 5 {
            let frame = reader.next(&mut client).await.expect("it is still served");
            assert_ne!(frame.kind, GOAWAY);
            answers += usize::from(frame.kind == PING);
        }
    })
    .await;
}

async fn silent_application() -> std::net::SocketAddr {
    http2_application(|mut peer, _| async move { while peer.next().await != Got::Closed {} }).await
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_told_408() {
    in_patient_mesh(async {
        let address = silent_application().await;
        let mesh = impatient(address).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let key = client.request("POST", "/a", "content-type: text/plain\r\n", false);
        let began = Instant::now();
        let answer = loop {
            client.send(key, b"x", false);
            match timeout(SECOND, client.next()).await {
                Ok(Got::Response(_, head, _)) => break head,
                Ok(Got::Closed) => panic!("closed"),
                _ => {}
            }
            assert!(began.elapsed() < 20 * SECOND, "it is still served");
        };
        assert!(answer.starts_with(":status: 408\n"), "{answer}");
        assert!(answer.contains("x-sinew-reason: body-timeout"), "{answer}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_given_up() {
    in_patient_mesh(async {
        let mesh = impatient(silent_application().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        let began = Instant::now();
        let key = client.request("GET", "/a", "", true);
        let answer = client.answer(key).await;
        assert_eq!(answer.status(), 504, "{answer:?}");
        assert!(answer.head.contains("x-sinew-reason: upstream-timeout"), "{answer:?}");
        assert!(began.elapsed() < 6 * SECOND, "{:?}", began.elapsed());
    })
    .await;
}

/// A window that is opened by one byte each second: the answer would take a day and be held all the time.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_byte_by_byte_is_given_up() {
    in_patient_mesh(async {
        let address = http2_application(|mut peer, _| async move {
            loop {
                match peer.next().await {
                    Got::Request(key, _, _) => {
                        peer.respond(key, 200, &[], false);
                        peer.send(key, &vec![7; 100_000], true);
                    }
                    Got::Closed => return,
                    _ => {}
                }
            }
        })
        .await;
        let mesh = impatient(address).await;
        let (mut from, mut to) = mesh.web.dial().await.into_split();
        to.write_all(&[start(&[(4, 1)]), get(1)].concat()).await.unwrap();
        let began = Instant::now();
        let opening = async {
            while to.write_all(&window_update(1, 1)).await.is_ok() {
                sleep(SECOND).await;
            }
            std::future::pending::<()>().await;
        };
        let mut reader = Reader::default();
        tokio::select! {
            _ = reader.code(&mut from, RST_STREAM) => {}
            () = opening => unreachable!(),
            () = sleep(15 * SECOND) => panic!("it is still served"),
        }
        assert!(began.elapsed() >= 3 * SECOND, "{:?}", began.elapsed());
        // One who reads slowly, but reads, gets all of it.
        let mut slow = Reader::default();
        let mut client = mesh.web.dial().await;
        client.write_all(&[start(&[(4, 1)]), get(1)].concat()).await.unwrap();
        let mut got = 0;
        while got < 100_000 {
            let frame = slow.next(&mut client).await.expect("it is still served");
            assert!(![RST_STREAM, GOAWAY].contains(&frame.kind), "{frame:?} after {got}");
            if frame.kind == DATA {
                got += frame.payload.len();
                sleep(SECOND).await;
                let update = [window_update(1, 5_000), window_update(0, 5_000)].concat();
                client.write_all(&update).await.unwrap();
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_told_and_closed() {
    in_patient_mesh(async {
        let mesh = impatient(echoing_application().await).await;
        let mut client = Peer::client(mesh.web.dial().await);
        assert_eq!(client.call(b"hello").await.status(), 200);
        let began = Instant::now();
        assert_eq!(client.next().await, Got::GoAway(sinew_wire::h2::ErrorCode::NO_ERROR));
        while client.next().await != Got::Closed {}
        assert!((6 * SECOND..10 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
        // One that has never asked for anything, too.
        let (code, after) = trickle(mesh.web.dial().await, &start(&[]), &[]).await;
        assert_eq!(code, NO_ERROR);
        assert!((6 * SECOND..10 * SECOND).contains(&after), "{after:?}");
    })
    .await;
}

/// A sidecar at `orders-1.hop` that begins as it should and says nothing then. How many PINGs it has seen.
fn silent_sidecar(ca: &Ca, folder: &Folder) -> Rc<Cell<usize>> {
    let listener = UnixListener::bind(folder.path("orders-1.hop")).unwrap();
    let tls = Tls::new(&ca.identity("orders", "orders-1")).unwrap();
    let pings = Rc::new(Cell::new(0));
    let seen = pings.clone();
    tokio::task::spawn_local(async move {
        loop {
            let (raw, _) = listener.accept().await.unwrap();
            let (tls, seen) = (tls.clone(), seen.clone());
            tokio::task::spawn_local(async move {
                let mut stream: Stream = tls.accept(Raw::Unix(raw)).await.unwrap().stream;
                stream.write_all(&[settings(&[]), frame(SETTINGS, ACK, 0, &[])].concat()).await.unwrap();
                stream.flush().await.unwrap();
                stream.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
                let mut reader = Reader::default();
                while let Some(frame) = reader.next(&mut stream).await {
                    seen.set(seen.get() + usize::from(frame.kind == PING));
                }
            });
        }
    });
    pings
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_answers_no_ping_is_given_up() {
    in_patient_mesh(async {
        let (ca, folder) = (Ca::new(), Folder::new());
        let pings = silent_sidecar(&ca, &folder);
        let web = web(&ca, &folder, ([127, 0, 0, 1], 9).into(), 1, |_| {}).await;
        let mut client = Peer::client(web.dial().await);
        let began = Instant::now();
        let answer = client.call(b"hello").await;
        assert!(answer.head.contains("\ngrpc-status: 14\n"), "{answer:?}");
        assert!(answer.head.contains("\nx-sinew-reason: upstream-gone\n"), "{answer:?}");
        assert!((9 * SECOND..20 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert_eq!(pings.get(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_answers_pings_is_waited_for() {
    in_patient_mesh(async {
        let address = http2_application(|mut peer, _| async move {
            loop {
                match peer.next().await {
                    Got::Request(key, _, _) => {
                        // Its SETTINGS.
                        peer.flush().await;
                        sleep(100 * SECOND).await;
                        peer.respond(key, 200, &[], false);
                        peer.end_with_status(key, "0");
                    }
                    Got::Closed => return,
                    _ => {}
                }
            }
        })
        .await;
        let mesh = Pair::new(address).await;
        let began = Instant::now();
        let answer = Peer::client(mesh.web.dial().await).call(b"hello").await;
        assert_eq!(answer.trailers, "grpc-status: 0\n", "{answer:?}");
        assert!(began.elapsed() >= 100 * SECOND);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_go_on_is_closed_and_counted() {
    in_patient_mesh(async {
        let mesh = Pair::with(echoing_application().await, |_| {}, quick).await;
        let mut silent = UnixStream::connect(mesh.folder.path("orders-1.hop")).await.unwrap();
        let began = Instant::now();
        // The head of a handshake record, and no more.
        silent.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        silent.read_to_end(&mut Vec::new()).await.ok();
        assert!((3 * SECOND..6 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert!(mesh.orders.admin("/metrics").await.contains("\nsinew_handshakes_failed_total 1\n"));
        assert_eq!(Peer::client(mesh.web.dial().await).call(b"after").await.status(), 200);
    })
    .await;
}

/// Ends its side at once after it has asked, as some simple clients do.
#[tokio::test]
async fn a_client_that_ends_its_side_gets_its_answers() {
    in_mesh(async {
        let mesh = Pair::new(echoing_application().await).await;
        for asks in [0, 1, 3] {
            let client = mesh.web.dial().await;
            let (mut from, mut to) = client.into_split();
            let asked: Vec<u8> = (0..asks).flat_map(|number| get(2 * number + 1)).collect();
            to.write_all(&[start(&[]), asked].concat()).await.unwrap();
            to.shutdown().await.unwrap();
            let (mut reader, mut kinds, mut ended) = (Reader::default(), Vec::new(), 0);
            while let Some(frame) = reader.next(&mut from).await {
                ended += u32::from(matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0);
                kinds.push(frame.kind);
            }
            assert_eq!((kinds[0], ended), (SETTINGS, asks), "{kinds:?}");
            assert!(kinds.contains(&GOAWAY), "{kinds:?}");
        }
        // A request that is not whole will never be.
        let (mut from, mut to) = mesh.web.dial().await.into_split();
        to.write_all(&[start(&[]), post(1)].concat()).await.unwrap();
        to.shutdown().await.unwrap();
        let mut reader = Reader::default();
        assert_eq!(reader.code(&mut from, GOAWAY).await, NO_ERROR);
        until(async || mesh.web.stats().await.outbound["orders"].in_flight == 0).await;
    })
    .await;
}

/// One that is gone altogether ends its side too: its kernel says so when it is spoken to.
#[tokio::test]
async fn a_client_that_is_gone_has_nobody_wait_for_its_answer() {
    in_mesh(async {
        let mesh = Pair::new(silent_application().await).await;
        let mut client = mesh.web.dial().await;
        client.write_all(&[start(&[]), get(1)].concat()).await.unwrap();
        until(async || {
            mesh.web.stats().await.outbound.get("orders").is_some_and(|route| route.in_flight == 1)
        })
        .await;
        drop(client);
        until(async || mesh.web.stats().await.outbound["orders"].in_flight == 0).await;
    })
    .await;
}
