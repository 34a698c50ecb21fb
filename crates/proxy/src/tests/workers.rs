//! Several workers in one process: what they share out, what they count together, and how they change.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, atomic::AtomicUsize};

use sinew_spec::proxy::{ProxyConfig, Workers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_local;

use super::mesh::*;
use crate::{Applied, Handover, HostNetwork};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn of(count: usize) -> impl FnOnce(&mut ProxyConfig) {
    move |config| config.limits.workers = Some(Workers::Count(count))
}

/// Both proxies have so many.
async fn pair(application: SocketAddr, count: usize) -> Pair {
    Pair::with(application, of(count), of(count)).await
}

/// Open connections of each worker.
async fn spread(proxy: &Proxy) -> Vec<u64> {
    let metrics = proxy.admin("/metrics").await;
    let lines = metrics.lines().filter(|line| line.starts_with("sinew_worker_connections_open{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect()
}

async fn requests(proxy: &Proxy) -> u64 {
    proxy.stats().await.outbound.values().map(|service| service.requests).sum()
}

/// Connections that wait for their next request, the first one answered.
async fn clients(proxy: &Proxy, count: usize) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = proxy.dial().await;
        assert_eq!(status(&exchange(&mut client, GET).await), 200);
        clients.push(client);
    }
    clients
}

/// Answers when it is let; counts requests that it has now, and the most that it ever had.
struct Gated {
    address: SocketAddr,
    now: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
    go: watch::Sender<bool>,
}

impl Gated {
    async fn new() -> Self {
        let (go, gate) = watch::channel(false);
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (counted, top) = (now.clone(), most.clone());
        let address = application(move |mut stream, _| {
            let (mut gate, now, most) = (gate.clone(), counted.clone(), top.clone());
            async move {
                while read_message(&mut stream).await.is_some() {
                    now.set(now.get() + 1);
                    most.set(most.get().max(now.get()));
                    gate.wait_for(|go| *go).await.unwrap();
                    now.set(now.get() - 1);
                    stream.write_all(OK).await.ok();
                }
            }
        })
        .await;
        Self { address, now, most, go }
    }
}

#[tokio::test]
async fn each_connection_goes_to_who_has_the_fewest() {
    in_mesh(async {
        let mesh = pair(echo_application().await, 3).await;
        let mut open = clients(&mesh.web, 9).await;
        assert_eq!(spread(&mesh.web).await, [3, 3, 3]);
        assert!(spread(&mesh.orders).await.iter().all(|open| *open > 0), "each has connections of its own");
        for client in &mut open {
            assert_eq!(status(&exchange(client, GET).await), 200);
        }
        // Counters of all. A worker counts after it has written, and the client is on another thread.
        until(async || requests(&mesh.web).await == 18).await;
        until(async || mesh.orders.stats().await.inbound.values().next().unwrap().requests == 18).await;
        // Those that leave make room where they were.
        open.drain(..3).for_each(drop);
        until(async || spread(&mesh.web).await.iter().sum::<u64>() == 6).await;
        let _more = clients(&mesh.web, 3).await;
        assert_eq!(spread(&mesh.web).await, [3, 3, 3]);
    })
    .await;
}

#[tokio::test]
async fn limits_are_those_of_the_process() {
    in_mesh(async {
        let gated = Gated::new().await;
        let limit = |config: &mut ProxyConfig| {
            of(2)(config);
            config.limits.upstream_connections_per_endpoint_max = 3;
            config.limits.upstream_pending_max = 2;
            config.limits.downstream_connections_max = 6;
        };
        let mesh = Pair::with(gated.address, limit, of(2)).await;
        let mut open = Vec::new();
        for _ in 0..6 {
            let mut client = mesh.web.dial().await;
            client.write_all(GET.as_bytes()).await.unwrap();
            open.push(client);
        }
        // Three are sent, two wait, one is told that it cannot.
        until(async || requests(&mesh.web).await == 1 && gated.now.get() == 3).await;
        assert_eq!(spread(&mesh.web).await, [3, 3]);
        let mut seventh = mesh.web.dial().await;
        assert!(
            matches!(seventh.read(&mut [0; 1]).await, Ok(0) | Err(_)),
            "the connections are the process's, too"
        );

        gated.go.send_replace(true);
        let mut answers = Vec::new();
        for client in &mut open {
            answers.push(status(&read_message(client).await.unwrap()));
        }
        answers.sort_unstable();
        assert_eq!(answers, [200, 200, 200, 200, 200, 503]);
        assert_eq!(gated.most.get(), 3, "never more connections in use than allowed");
        assert_eq!(requests(&mesh.web).await, 6);
    })
    .await;
}

#[tokio::test]
async fn one_connection_can_be_shared_by_all() {
    in_mesh(async {
        let limit = |config: &mut ProxyConfig| {
            of(3)(config);
            config.limits.upstream_connections_per_endpoint_max = 1;
        };
        let mesh = Pair::with(echo_application().await, limit, of(2)).await;
        let mut open = clients(&mesh.web, 6).await;
        for _ in 0..20 {
            for client in &mut open {
                client.write_all(GET.as_bytes()).await.unwrap();
            }
            for client in &mut open {
                assert_eq!(status(&read_message(client).await.unwrap()), 200);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_configuration_is_acknowledged_when_all_workers_have_it() {
    in_mesh(async {
        let mut mesh = pair(echo_application().await, 3).await;
        let mut open = clients(&mesh.web, 6).await;
        for revision in 2..12 {
            let mut config = mesh.caller(revision);
            of(3)(&mut config);
            let has_endpoints = revision % 2 == 1;
            if !has_endpoints {
                config.destinations[0].endpoints.clear();
            }
            mesh.web.apply(config).await;
            for client in &mut open {
                let answer = exchange(client, GET).await;
                assert_eq!(status(&answer) == 200, has_endpoints, "revision {revision}: {answer}");
            }
        }
        // What cannot be used reaches none.
        let mut config = mesh.caller(12);
        of(3)(&mut config);
        config.limits.head_bytes_max = 0;
        mesh.web.apply(config).await;
        assert_eq!(mesh.web.applied.borrow().revision, 11);
        assert_eq!(mesh.web.applied.borrow().rejected.as_ref().unwrap().0, 12);
        assert_eq!(mesh.web.stats().await.revision, 11);
        for client in &mut open {
            assert_eq!(status(&exchange(client, GET).await), 200);
        }
    })
    .await;
}

#[tokio::test]
async fn configurations_change_under_load_and_no_request_fails() {
    in_mesh(async {
        let mut mesh = pair(echo_application().await, 2).await;
        let is_over = Rc::new(Cell::new(false));
        let mut tasks = Vec::new();
        for mut client in clients(&mesh.web, 8).await {
            let (is_over, address) = (is_over.clone(), mesh.web.outbound.unwrap());
            tasks.push(spawn_local(async move {
                let mut served = 1;
                while !is_over.get() {
                    let answer = exchange(&mut client, GET).await;
                    assert_eq!(status(&answer), 200, "{answer}");
                    served += 1;
                    // Its worker leaves.
                    if answer.contains("connection: close") {
                        client = TcpStream::connect(address).await.unwrap();
                    }
                }
                served
            }));
        }
        for revision in 2..40 {
            // Under load the number of workers changes as well.
            let mut config = mesh.caller(revision);
            of(1 + revision as usize % 3)(&mut config);
            config.limits.handover_drain_ms = 60_000;
            mesh.web.apply(config).await;
            assert_eq!(*mesh.web.applied.borrow(), Applied { revision, rejected: None });
            let before = requests(&mesh.web).await;
            until(async || requests(&mesh.web).await > before + 8).await;
        }
        is_over.set(true);
        let mut served = 0;
        for task in tasks {
            served += task.await.unwrap();
        }
        assert_eq!(requests(&mesh.web).await, served, "nothing is lost or counted twice");
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_not_wanted_ends_when_that_disturbs_nobody() {
    in_mesh(async {
        let mut mesh = pair(echo_application().await, 3).await;
        let mut open = clients(&mesh.web, 6).await;
        let mut config = mesh.caller(2);
        of(1)(&mut config);
        mesh.web.apply(config).await;
        let mut closed = 0;
        for client in &mut open {
            let answer = exchange(client, GET).await;
            assert_eq!(status(&answer), 200, "{answer}");
            closed += usize::from(answer.contains("connection: close"));
        }
        assert_eq!(closed, 4, "those of the two that leave");
        until(async || spread(&mesh.web).await == [2]).await;
        assert_eq!(requests(&mesh.web).await, 12, "what they counted stays");
        let _more = clients(&mesh.web, 3).await;
        assert_eq!(spread(&mesh.web).await, [5]);
    })
    .await;
}

#[tokio::test]
async fn an_end_waits_for_what_all_workers_have() {
    in_mesh(async {
        let gated = Gated::new().await;
        let mesh = pair(gated.address, 2).await;
        let mut open = Vec::new();
        for _ in 0..4 {
            let mut client = mesh.web.dial().await;
            client.write_all(GET.as_bytes()).await.unwrap();
            open.push(client);
        }
        until(async || gated.now.get() == 4).await;
        mesh.web.shutdown.send_replace(true);
        until(async || TcpStream::connect(mesh.web.outbound.unwrap()).await.is_err()).await;
        gated.go.send_replace(true);
        for client in &mut open {
            let answer = read_message(client).await.unwrap();
            assert_eq!(status(&answer), 200, "{answer}");
            // As the answer says, or without it: a worker may be told of the end right after its answer.
            assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0, "the connection has ended");
        }
        mesh.web.task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn all_workers_pause_for_a_successor_and_end_after_it_serves() {
    in_mesh(async {
        let mesh = pair(echo_application().await, 2).await;
        let mut open = clients(&mesh.web, 4).await;
        let ask = async || {
            let (paused, is_paused) = oneshot::channel();
            let (outcome, outcome_out) = oneshot::channel();
            mesh.web.handovers.send(Handover { paused, outcome: outcome_out }).await.unwrap();
            is_paused.await.unwrap();
            outcome
        };
        // One that fails: nobody notices but by waiting.
        let outcome = ask().await;
        let mut waiting = mesh.web.dial().await;
        waiting.write_all(GET.as_bytes()).await.unwrap();
        for client in &mut open {
            let answer = exchange(client, GET).await;
            assert!(status(&answer) == 200 && !answer.contains("connection: close"), "{answer}");
        }
        assert_eq!(spread(&mesh.web).await.iter().sum::<u64>(), 4, "nobody was accepted");
        outcome.send(false).unwrap();
        assert_eq!(status(&read_message(&mut waiting).await.unwrap()), 200);
        open.push(waiting);

        ask().await.send(true).unwrap();
        until(async || TcpStream::connect(mesh.web.outbound.unwrap()).await.is_err()).await;
        for client in &mut open {
            let answer = exchange(client, GET).await;
            assert!(status(&answer) == 200 && answer.contains("connection: close"), "{answer}");
        }
        mesh.web.task.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn memory_is_short_for_all_workers() {
    in_mesh(async {
        let (ca, folder) = (Ca::new(), Folder::new());
        let address = echo_application().await;
        let _orders = orders(&ca, &folder, 1, Box::new(HostNetwork), |_| {}).await;
        let in_use = Arc::new(AtomicUsize::new(0));
        let outbound = Some(SocketAddr::from((VIRTUAL, address.port())));
        let start = Start { outbound, memory: Some(in_use.clone()), ..Start::default() };
        let mut config = caller(&[&folder.path("orders-1.hop")]);
        of(2)(&mut config);
        let web = Proxy::start(&folder, ca.identity("web", "web-1"), config, start).await;
        let mut open = clients(&web, 4).await;
        in_use.store(MEMORY_MAX * 9 / 10, Relaxed);
        for client in &mut open {
            let answer = exchange(client, GET).await;
            assert!(status(&answer) == 503 && answer.contains("x-sinew-reason: overload"), "{answer}");
        }
        in_use.store(0, Relaxed);
        for _ in 0..4 {
            assert_eq!(status(&web.call(GET).await), 200);
        }
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_is_dropped_leaves_no_thread() {
    in_mesh(async {
        let mesh = pair(echo_application().await, 3).await;
        let mut open = clients(&mesh.web, 3).await;
        mesh.web.task.abort();
        for client in &mut open {
            assert!(matches!(client.read(&mut [0; 1]).await, Ok(0) | Err(_)), "its worker has ended");
        }
    })
    .await;
}
