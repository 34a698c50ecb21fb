//! Floods over HTTP/2, through whole sidecars: their connection ends with ENHANCE_YOUR_CALM, and others are served before,
//! meanwhile and afterwards. How many of each are too many is tested in `wire`; what a process weighs meanwhile, and how
//! long others wait, in `bench`.

use tokio::io::AsyncWriteExt;

use super::frames::*;
use super::mesh::*;
use super::peer::*;

/// Others are served while `hostile` is at it; `check` says what became of it.
async fn beside_others<T>(mesh: &Pair, hostile: impl Future<Output = T>) -> T {
    let mut other = Peer::client(mesh.web.dial().await);
    assert_eq!(other.call(b"before").await.status(), 200);
    let serving = async {
        loop {
            let answer = other.call(b"meanwhile").await;
            assert_eq!((answer.status(), &*answer.trailers), (200, "grpc-status: 0\n"));
        }
    };
    let ended = tokio::select! {
        ended = hostile => ended,
        () = serving => unreachable!(),
    };
    // That one too which had a call under way.
    let mut next = Peer::client(mesh.web.dial().await);
    for _ in 0..3 {
        assert_eq!(next.call(b"after").await.status(), 200);
    }
    until(async || mesh.web.stats().await.outbound["orders"].in_flight <= 1).await;
    ended
}

async fn flooded(begin: &[u8], each: impl FnMut(u32) -> Vec<u8> + 'static) {
    let mesh = Pair::new(echoing_application().await).await;
    let client = mesh.web.dial().await;
    let begin = [&start(&[]), begin].concat();
    let flooding = Box::pin(flood(client, begin, each));
    assert_eq!(Box::pin(beside_others(&mesh, flooding)).await, ENHANCE_YOUR_CALM);
}

#[tokio::test]
async fn requests_that_are_given_up_at_once() {
    in_mesh(async {
        flooded(&[], |count| [get(2 * count - 1), reset(2 * count - 1, 8)].concat()).await;
        // With a body, which pays for nothing.
        flooded(&[], |count| {
            let id = 2 * count - 1;
            [post(id), frame(DATA, 0, id, b"x"), reset(id, 8)].concat()
        })
        .await;
    })
    .await;
}

/// What a client asks for at once begins a few requests at a time: another one does not wait for all of it.
#[tokio::test]
async fn many_requests_at_once_let_others_pass() {
    in_mesh(async {
        const MANY: u32 = 120;
        let order = Shared::<Vec<bool>>::default();
        let noted = order.clone();
        let address = application(move |mut stream, _| {
            let noted = noted.clone();
            async move {
                while let Some(message) = read_message(&mut stream).await {
                    noted.borrow_mut().push(message.starts_with("GET /a "));
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        let mesh = Pair::with(
            address,
            |_| {},
            |config| {
                let declared = sinew_spec::application::Protocol::Http1;
                config
                    .inbound
                    .as_mut()
                    .unwrap()
                    .protocols
                    .extend((1..=u16::MAX).map(|port| (port, declared)));
            },
        )
        .await;
        let mut other = mesh.web.dial().await;
        assert_eq!(status(&exchange(&mut other, GET).await), 200);
        let mut hostile = mesh.web.dial().await;
        hostile.write_all(&[start(&[]), get(1)].concat()).await.unwrap();
        until(async || order.borrow().len() == 2).await;
        order.borrow_mut().clear();
        let many: Vec<u8> = (1..=MANY).flat_map(|number| get(2 * number + 1)).collect();
        hostile.write_all(&many).await.unwrap();
        assert_eq!(status(&exchange(&mut other, GET).await), 200);
        let before = order.borrow().iter().position(|&is_others| is_others).unwrap();
        assert!(before < MANY as usize / 2, "{before} requests of another client came first");
        until(async || order.borrow().len() == MANY as usize + 1).await;
    })
    .await;
}

#[tokio::test]
async fn resets_that_the_server_is_made_to_send() {
    in_mesh(async {
        let provocations: [fn(u32) -> Vec<u8>; 5] = [
            |id| window_update(id, 0),
            |id| window_update(id, i32::MAX as u32),
            |id| frame(DATA, 0, id, b"behind the end"),
            |id| frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[0]].concat()),
            |id| frame(PRIORITY, 0, id, &[0; 4]),
        ];
        for provoke in provocations {
            flooded(&[], move |count| [get(2 * count - 1), provoke(2 * count - 1)].concat()).await;
        }
        // Malformed from the beginning: no authority, no path.
        flooded(&[], |count| frame(HEADERS, END_HEADERS | END_STREAM, 2 * count - 1, b"\x82\x86")).await;
    })
    .await;
}

#[tokio::test]
async fn heads_that_go_on_and_on() {
    in_mesh(async {
        let begin = frame(HEADERS, 0, 1, GET_BLOCK);
        flooded(&begin, |_| frame(CONTINUATION, 0, 1, &[])).await;
        flooded(&begin, |_| frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y")).await;
        flooded(&begin, |_| frame(CONTINUATION, 0, 1, &[0; 16_384])).await;
    })
    .await;
}

#[tokio::test]
async fn frames_that_carry_nothing() {
    in_mesh(async {
        flooded(&post(1), |_| frame(DATA, 0, 1, &[])).await;
        flooded(&post(1), |_| frame(DATA, 8, 1, &[3, 0, 0, 0])).await;
        flooded(&[], |_| frame(PING, 0, 0, &[0; 8])).await;
        flooded(&[], |_| settings(&[(4, 1000)])).await;
        flooded(&post(1), |_| window_update(1, 1)).await;
        flooded(&[], |_| window_update(0, 1)).await;
        flooded(&[], |_| frame(PRIORITY, 0, 7, &[0; 5])).await;
        flooded(&[], |_| frame(GOAWAY, 0, 0, &[0; 8])).await;
        flooded(&[], |_| frame(0x77, 0, 0, &[])).await;
    })
    .await;
}

/// What is asked for and never read: the socket fills, then what waits to be written, and nothing more.
#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads() {
    in_patient_mesh(async {
        let mesh = Pair::with(
            echoing_application().await,
            |config| config.limits.request_timeout_ms = 3_000,
            |config| config.limits.request_timeout_ms = 3_000,
        )
        .await;
        let mut hostile = mesh.web.dial().await;
        hostile.write_all(&start(&[(4, 0)])).await.unwrap();
        for count in 1..=120 {
            hostile.write_all(&get(2 * count - 1)).await.unwrap();
        }
        until(async || mesh.web.stats().await.outbound["orders"].in_flight == 120).await;
        assert_eq!(Peer::client(mesh.web.dial().await).call(b"meanwhile").await.status(), 200);
        // No window is ever opened: the calls are given up one by one, their connection lives on.
        while mesh.web.stats().await.outbound["orders"].in_flight > 0 {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        hostile.write_all(&frame(PING, 0, 0, b"are here")).await.unwrap();
        let mut reader = Reader::default();
        let mut resets = 0;
        loop {
            let frame = reader.next(&mut hostile).await.expect("it is still served");
            match frame.kind {
                RST_STREAM => resets += 1,
                PING => break,
                _ => {}
            }
        }
        assert_eq!(resets, 120);
    })
    .await;
}

#[tokio::test]
async fn heads_that_unpack_to_more_than_may_be() {
    in_mesh(async {
        let mesh = Pair::new(echoing_application().await).await;
        let hostile = async {
            let mut client = mesh.web.dial().await;
            // No window is ever open.
            client.write_all(&start(&[(4, 0)])).await.unwrap();
            // An entry of 4 KiB, then references to it, or crumbs of cookies: twice as much as may be.
            let mut filling = [GET_BLOCK, b"\x40\x01x\x7f\xa1\x1e"].concat();
            filling.extend([b'y'; 4000]);
            let mut reader = Reader::default();
            for count in 0..50 {
                let id = 2 * count + 1;
                let bomb = if count % 2 == 0 { vec![0xbe; 32] } else { b"\x60\x01c".repeat(3000) };
                let mut frames = frame(HEADERS, END_STREAM, id, &filling);
                frames.extend(frame(CONTINUATION, END_HEADERS, id, &bomb));
                client.write_all(&frames).await.unwrap();
                loop {
                    let frame = reader.next(&mut client).await.expect("it is answered");
                    assert_ne!(frame.kind, GOAWAY, "{:?}", String::from_utf8_lossy(&frame.payload));
                    if (frame.kind, frame.stream) == (HEADERS, id) {
                        break;
                    }
                }
            }
        };
        beside_others(&mesh, hostile).await;
        // All of them, and nothing went on.
        let refused = "direction=\"outbound\",route=\"orders\",reason=\"client_malformed\"} 50\n";
        until(async || mesh.web.admin("/metrics").await.contains(refused)).await;
        // All that a block can hold is hundreds of times as much.
        for bomb in [vec![0xbe; 16_000], b"\x60\x01c".repeat(5000)] {
            let mut filling = [GET_BLOCK, b"\x40\x01x\x7f\xa1\x1e"].concat();
            filling.extend([b'y'; 4000]);
            flooded(&[], move |count| {
                let id = 2 * count - 1;
                let more = frame(CONTINUATION, 0, id, &bomb).repeat(3);
                let last = frame(CONTINUATION, END_HEADERS, id, &bomb);
                [frame(HEADERS, END_STREAM, id, &filling), more, last].concat()
            })
            .await;
        }
    })
    .await;
}
