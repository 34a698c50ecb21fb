use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

const IDLE: Duration = Duration::from_secs(60);

/// The two ends that a test holds, and a copy between their other ends.
fn start(early: Early) -> (UnixStream, UnixStream, tokio::task::JoinHandle<(Copied, Ended)>) {
    let (client, mut inner_client) = pair();
    let (server, mut inner_server) = pair();
    let copy =
        tokio::spawn(async move { both_ways(&mut inner_client, &mut inner_server, early, IDLE).await });
    (client, server, copy)
}

fn pair() -> (UnixStream, Stream) {
    let (outer, inner) = UnixStream::pair().unwrap();
    (outer, Stream::Unix(inner))
}

#[tokio::test]
async fn the_end_of_one_direction_is_passed_on_and_the_other_goes_on() {
    let early = Early { client: b"he".to_vec(), upstream: b"hi ".to_vec() };
    let (mut client, mut server, copy) = start(early);
    client.write_all(b"llo").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello");
    server.write_all(b"there").await.unwrap();
    drop(server);
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hi there");
    let (copied, ended) = copy.await.unwrap();
    assert_eq!(copied, Copied { to_upstream: 5, to_client: 8 });
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_in_which_nothing_moves_ends() {
    let (mut client, mut server, copy) = start(Early::default());
    let began = Instant::now();
    client.write_all(b"x").await.unwrap();
    server.read_u8().await.unwrap();
    tokio::time::advance(IDLE / 2).await;
    server.write_all(b"y").await.unwrap();
    client.read_u8().await.unwrap();
    let (_, ended) = copy.await.unwrap();
    assert!(matches!(ended, Ended::Idle), "{ended:?}");
    assert!(began.elapsed() >= IDLE + IDLE / 2, "what moved did not count");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_stops_the_writer() {
    let (mut client, server, _copy) = start(Early::default());
    let chunk = [0; 16 * 1024];
    let mut written = 0;
    // Nobody reads at the other end: it stops as soon as the kernel's buffers and ours are full.
    while let Ok(result) = tokio::time::timeout(Duration::from_secs(1), client.write(&chunk)).await {
        written += result.unwrap();
        assert!(written < 16 * 1024 * 1024, "somebody keeps it all");
    }
    drop(server);
}
