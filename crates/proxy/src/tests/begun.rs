//! What nobody has declared is found by its first bytes, however slowly they come. The clock of the test is turned forward.

use std::time::Duration;

use sinew_wire::h2::PREFACE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::mesh::*;

/// Many times the time for which a client may be silent.
const PAUSE: Duration = Duration::from_secs(1);
const MALFORMED: &str =
    "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";

async fn mesh() -> Pair {
    Pair::new(fixed_application("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await).await
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_past_http_by_being_slow() {
    in_patient_mesh(async {
        let mesh = mesh().await;
        for begun in 1.."POST /".len() {
            let mut client = mesh.web.dial().await;
            client.write_all(&MALFORMED.as_bytes()[..begun]).await.unwrap();
            sleep(PAUSE).await;
            client.write_all(&MALFORMED.as_bytes()[begun..]).await.unwrap();
            let answer = read_message(&mut client).await.unwrap();
            assert_eq!(status(&answer), 400, "{begun} bytes, then the rest: {answer}");
            assert!(answer.contains("x-sinew-reason: malformed-request\r\n"), "{answer}");
        }
        for begun in [1, 3, 8, PREFACE.len() - 1] {
            let mut client = mesh.web.dial().await;
            client.write_all(&PREFACE[..begun]).await.unwrap();
            sleep(PAUSE).await;
            client.write_all(&PREFACE[begun..]).await.unwrap();
            client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            let mut head = [0; 9];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!((head[3], &head[4..]), (4, &[0; 5][..]), "SETTINGS, of our own");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_and_never_goes_on_is_answered() {
    in_patient_mesh(async {
        let mesh = mesh().await;
        for begun in ["G", "GET ", "DELETE"] {
            let (mut client, began) = (mesh.web.dial().await, Instant::now());
            client.write_all(begun.as_bytes()).await.unwrap();
            let answer = read_message(&mut client).await.unwrap();
            assert_eq!(status(&answer), 408, "{answer}");
            assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        }
    })
    .await;
}
