//! Messages whose head and body come in two pieces, from senders whose kernel holds the second back until the first is
//! acknowledged (Nagle): nobody waits for an acknowledgement that is not due for 40 ms.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::bridge::{http2_only, read_chunks};
use super::mesh::*;
use super::peer::*;

const CALLS: u32 = 40;
/// On a young connection the kernel acknowledges at once anyway.
const YOUNG: u32 = 20;
const POST: &str = "POST /a HTTP/1.1\r\nhost: orders\r\ncontent-length: 5\r\n\r\n";

async fn piecemeal(stream: &mut TcpStream, head: &str, body: &str) {
    stream.set_nodelay(false).unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
}

/// Other work on the machine makes some calls long. A late acknowledgement does that to four of five.
async fn prompt(what: &str, mut call: impl AsyncFnMut()) {
    let mut quick = 0;
    for number in 0..YOUNG + CALLS {
        let began = Instant::now();
        call().await;
        quick += u32::from(number >= YOUNG && began.elapsed() < Duration::from_millis(40));
    }
    assert!(quick > CALLS / 2, "{what}: {quick} of {CALLS} were quick");
}

async fn application_of_pieces() -> SocketAddr {
    application(|mut stream, _| async move {
        while read_message(&mut stream).await.is_some() {
            piecemeal(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", "ok").await;
        }
    })
    .await
}

#[tokio::test]
async fn answers_in_two_pieces_wait_for_no_acknowledgement() {
    in_mesh(async {
        let mesh = Pair::new(application_of_pieces().await).await;
        let mut client = mesh.web.dial().await;
        prompt("to HTTP/1.1", async || {
            assert_eq!(status(&exchange(&mut client, GET).await), 200);
        })
        .await;
        let mut client = Peer::client(mesh.web.dial().await);
        prompt("to HTTP/2", async || {
            let key = client.request("GET", "/a", "", true);
            assert_eq!(client.answer(key).await.status(), 200);
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn requests_in_two_pieces_wait_for_no_acknowledgement() {
    in_mesh(async {
        let mesh = Pair::new(echo_application().await).await;
        let mut client = mesh.web.dial().await;
        prompt("to HTTP/1.1", async || {
            piecemeal(&mut client, POST, "hello").await;
            assert_eq!(status(&read_message(&mut client).await.unwrap()), 200);
        })
        .await;
        let mesh = Pair::new(http2_only().await).await;
        let mut client = mesh.web.dial().await;
        prompt("to HTTP/2", async || {
            piecemeal(&mut client, POST, "hello").await;
            assert_eq!(status(&read_chunks(&mut client).await), 200);
        })
        .await;
    })
    .await;
}
