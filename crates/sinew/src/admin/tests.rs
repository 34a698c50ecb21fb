//! The real client against the real server over a real socket; the engine is a task that answers from a script.

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use sinew_client::admin::Client;
use sinew_spec::status::{Health, InstanceState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::broadcast;

use super::*;

fn status_of(name: &str) -> ApplicationStatus {
    ApplicationStatus {
        name: name.into(),
        folder: "/srv/shop".to_owned(),
        posture: Default::default(),
        revision: 7,
        applied: 2,
        subscribed: 2,
        absent: Vec::new(),
        silent: Vec::new(),
        outdated: Default::default(),
        proxies_lost: Default::default(),
        services: Vec::new(),
        published: Vec::new(),
        memory_bytes: None,
        ready: true,
    }
}

/// Runs `check` against an engine that knows one service, `orders`.
async fn with_engine<F: Future<Output = ()>>(check: impl FnOnce(Client, broadcast::Sender<Event>) -> F) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("sinew-admin-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the socket");
    let socket = folder.join("admin.sock");
    let (handle, mut operations, events) = Handle::new();
    let listener = listen(&socket).expect("the socket is free");
    let served = serve(listener, handle);
    let engine = async {
        while let Some(operation) = operations.recv().await {
            match operation {
                Operation::Status { reply, .. } => drop(reply.send(Ok(status_of("shop")))),
                Operation::Scale { service, reply, .. } if service.as_str() == "orders" => {
                    let changes = Changes { unchanged: vec![service], ..Changes::default() };
                    drop(reply.send(Ok(changes)));
                }
                Operation::Scale { service, reply, .. } => {
                    let error = AdminError::new(ErrorCode::UnknownService, format!("no service `{service}`"));
                    drop(reply.send(Err(error)));
                }
                // The engine dies with the question.
                Operation::Restart { reply, .. } => drop(reply),
                Operation::Down { reply, .. } => drop(reply.send(Ok(()))),
                other => panic!("unexpected {other:?}"),
            }
        }
    };
    tokio::select! {
        () = served => panic!("the server ended"),
        () = engine => panic!("the engine ended"),
        () = check(Client::new("shop", &socket), events) => {}
    }
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
}

#[tokio::test]
async fn questions_reach_the_engine_and_answers_come_back() {
    with_engine(|client, _| async move {
        assert_eq!(client.status(true).await, Ok(status_of("shop")));
        let changes = client.scale(&"orders".into(), 3).await.expect("orders exists");
        assert_eq!(changes.unchanged, ["orders".into()]);
        assert_eq!(client.down(&DownRequest::default()).await, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn errors_keep_code_and_words() {
    with_engine(|client, _| async move {
        let error = client.scale(&"order/s".into(), 3).await.expect_err("no such service");
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::UnknownService, "no service `order/s`"));
        let error = client.scale(&"orders".into(), REPLICAS_MAX + 1).await.expect_err("too many");
        assert_eq!(error.code, ErrorCode::Invalid);
        let error = client.restart(&"orders".into(), None).await.expect_err("nobody answers");
        assert_eq!(error.code, ErrorCode::Conflict);
    })
    .await;
}

#[tokio::test]
async fn events_begin_with_the_present_state_and_end_with_down() {
    with_engine(|client, sender| async move {
        let mut events = client.events().await.expect("a stream");
        let first = events.next().await.expect("a line").expect("an event");
        assert!(matches!(first, Event::Status { status, .. } if status.revision == 7));
        let instance = Event::Instance {
            unix_ms: 1,
            service: "orders".into(),
            instance: "orders-1".into(),
            state: InstanceState::Running,
            health: Health::Healthy,
            message: None,
        };
        for event in [instance, Event::Down { unix_ms: 2 }] {
            sender.send(event.clone()).expect("somebody listens");
            assert_eq!(events.next().await, Ok(Some(event)));
        }
        assert_eq!(events.next().await, Ok(None));
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    with_engine(|client, sender| async move {
        let mut events = client.events().await.expect("a stream");
        events.next().await.expect("the first line");
        for unix_ms in 0..10_000 {
            sender.send(Event::Ready { unix_ms }).expect("somebody listens");
        }
        let mut seen = 0;
        loop {
            match events.next().await.expect("a line").expect("an event") {
                Event::Lagged { missed } => break assert_eq!(missed + seen + 256, 10_000),
                _ => seen += 1,
            }
        }
    })
    .await;
}

#[tokio::test]
async fn nonsense_is_refused_in_words() {
    async fn check(client: &Client, request: &str, status: &str, body_has: &str) {
        let mut stream = UnixStream::connect(client.socket()).await.expect("the server listens");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.contains(body_has), "{request}: {answer}");
    }
    let post = |path: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    with_engine(|client, _| async move {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        check(&client, &get("/v2"), "404", r#"{"error":{"code":"not_found""#).await;
        check(&client, &get("/v1/down"), "405", "GET reads, POST changes").await;
        check(&client, &get("/v1/status?color=red"), "400", "color").await;
        check(&client, &post("/v1/services/orders/scale", "{}"), "400", "replicas").await;
        check(&client, &post("/v1/services/orders/scale", r#"{"replicas":-1}"#), "400", "-1").await;
        check(&client, &post("/v1/services/orders/stop", r#"{"instanze":"orders-1"}"#), "400", "instanze")
            .await;
        check(&client, &post("/v1/apply", "nonsense"), "400", "the body is not as expected").await;
    })
    .await;
}

#[tokio::test]
async fn only_its_user_can_open_the_socket() {
    use std::os::unix::fs::PermissionsExt;
    with_engine(|client, _| async move {
        let mode = std::fs::metadata(client.socket()).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    })
    .await;
}

#[tokio::test]
async fn who_asks_nothing_makes_room() {
    with_engine(|client, _| async move {
        // An event stream asks nothing more either, and stays.
        let mut events = client.events().await.expect("a stream");
        events.next().await.expect("a line").expect("an event");
        let mut idle = Vec::new();
        for _ in 0..2 * listener::CONNECTIONS_MAX {
            idle.push(UnixStream::connect(client.socket()).await.expect("the queue has room"));
        }
        let asked = std::time::Instant::now();
        assert_eq!(client.status(false).await, Ok(status_of("shop")));
        // Well before the idle ones are late with their requests.
        assert!(asked.elapsed() < std::time::Duration::from_secs(4), "{:?}", asked.elapsed());
        let mut nothing = [0; 1];
        assert_eq!(idle[0].read(&mut nothing).await.expect("closed in order"), 0, "the oldest had to go");
        let mut next = std::pin::pin!(events.next());
        let still = std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending()));
        assert!(still.await, "the stream goes on");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_to_an_end_is_closed() {
    with_engine(|client, _| async move {
        for begun in [
            "",
            "GET /v1/status HTTP/1.1\r\nhos",
            "POST /v1/down HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n",
        ] {
            let mut stream = UnixStream::connect(client.socket()).await.expect("the server listens");
            stream.write_all(begun.as_bytes()).await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("closed in order");
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{begun}: {answer}");
        }
    })
    .await;
}
