//! Bursts of first requests: how many connections are made to one endpoint at once, and what becomes of everybody when some
//! of these hang or are refused.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Duration, Instant};

use super::mesh::*;
use super::peer::*;
use crate::HostNetwork;
use crate::pool::TURN_TIME_MAX;

const BURST: usize = 64;
const DIALS_MAX: usize = 4;

/// `web` calls `orders` through a relay, which counts its connections, passes nothing on before it may, and nothing at all of
/// the first `mute` ones.
struct Relayed {
    web: Proxy,
    come: Rc<Cell<usize>>,
    go: watch::Sender<bool>,
    _orders: Proxy,
    _folder: Folder,
}

impl Relayed {
    async fn new(application: SocketAddr, mute: usize) -> Self {
        let (ca, folder) = (Ca::new(), Folder::new());
        let orders = orders(&ca, &folder, 2, Box::new(HostNetwork), |_| {}).await;
        let listener = UnixListener::bind(folder.path("orders-1.hop")).unwrap();
        let behind = folder.path("orders-2.hop");
        let (go, may_go) = watch::channel(false);
        let come = Rc::new(Cell::new(0));
        let count = come.clone();
        spawn_local(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                let (is_mute, behind, mut may_go) = (count.get() <= mute, behind.clone(), may_go.clone());
                spawn_local(async move {
                    may_go.wait_for(|go| *go && !is_mute).await.ok();
                    let mut far = UnixStream::connect(behind).await.unwrap();
                    copy_bidirectional(&mut near, &mut far).await.ok();
                });
            }
        });
        let web = web(&ca, &folder, application, 1, |_| {}).await;
        Self { web, come, go, _orders: orders, _folder: folder }
    }

    async fn burst(&self) -> Vec<TcpStream> {
        let mut clients = Vec::new();
        for _ in 0..BURST {
            let mut client = self.web.dial().await;
            client.write_all(GET.as_bytes()).await.unwrap();
            clients.push(client);
        }
        until(async || self.in_flight().await == BURST as u64).await;
        clients
    }

    async fn in_flight(&self) -> u64 {
        self.web.stats().await.outbound.get("orders").map_or(0, |orders| orders.in_flight)
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_first_requests_makes_few_connections_at_once() {
    in_patient_mesh(async {
        let mesh = Relayed::new(echo_application().await, 0).await;
        let mut clients = mesh.burst().await;
        until(async || mesh.come.get() >= DIALS_MAX).await;
        assert_eq!(mesh.come.get(), DIALS_MAX, "the others wait");
        mesh.go.send_replace(true);
        for client in &mut clients {
            assert_eq!(status(&read_message(client).await.unwrap()), 200);
        }
        assert!(mesh.come.get() < BURST, "{} connections for {BURST} requests", mesh.come.get());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connections_that_hang_while_they_are_made_hold_up_their_own_requests_alone() {
    in_patient_mesh(async {
        let mesh = Relayed::new(echo_application().await, DIALS_MAX).await;
        let clients = mesh.burst().await;
        let began = Instant::now();
        mesh.go.send_replace(true);
        let answered = clients.into_iter().map(|mut client| {
            spawn_local(async move {
                // Of those that hang nothing was sent: they go another way when connecting has taken too long.
                let answer = read_message(&mut client).await.unwrap();
                assert_eq!(status(&answer), 200, "{answer}");
                began.elapsed()
            })
        });
        let mut waited = Vec::new();
        for answer in answered.collect::<Vec<_>>() {
            waited.push(answer.await.unwrap());
        }
        let late = waited.iter().filter(|waited| **waited > 2 * TURN_TIME_MAX).count();
        assert_eq!(late, DIALS_MAX, "{waited:?}");
        assert_eq!(mesh.in_flight().await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_the_answer_of_all() {
    in_mesh(async {
        let mesh = Relayed::new(echo_application().await, 0).await;
        std::fs::remove_file(mesh._folder.path("orders-1.hop")).unwrap();
        let mut clients = Vec::new();
        for _ in 0..BURST {
            let mut client = mesh.web.dial().await;
            client.write_all(GET.as_bytes()).await.unwrap();
            clients.push(client);
        }
        for client in &mut clients {
            let answer = read_message(client).await.unwrap();
            assert_eq!(status(&answer), 503, "{answer}");
            assert!(answer.contains("x-sinew-reason: connect-failed"), "{answer}");
        }
        assert_eq!(mesh.come.get(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn over_http2_another_connection_is_made_when_the_first_one_hangs() {
    in_patient_mesh(async {
        let mesh = Relayed::new(echoing_application().await, 1).await;
        mesh.go.send_replace(true);
        let began = Instant::now();
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(Peer::client(mesh.web.dial().await));
        }
        let mut calls = Vec::new();
        for mut client in clients {
            calls.push(spawn_local(async move {
                let call = client.call(b"hello").await;
                assert_eq!(call.status(), 200, "{call:?}");
                began.elapsed()
            }));
        }
        let mut waited = Vec::new();
        for call in calls {
            waited.push(call.await.unwrap());
        }
        waited.sort();
        assert!(waited[6] <= 2 * TURN_TIME_MAX, "{waited:?}");
        assert!(waited[7] < Duration::from_secs(20), "{waited:?}");
        assert_eq!(mesh.come.get(), 2, "all share the second one");
    })
    .await;
}
