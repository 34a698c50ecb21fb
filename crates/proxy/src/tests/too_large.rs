//! Requests over a limit, from clients of HTTP/2: they are answered as those of HTTP/1.1 are.

use sinew_wire::h2::ErrorCode;
use tokio::io::AsyncWriteExt;

use super::frames::*;
use super::mesh::*;
use super::peer::*;

/// Answers at the end of a request.
async fn mesh() -> Pair {
    let small = |config: &mut sinew_spec::proxy::ProxyConfig| config.limits.body_bytes_max = 1000;
    Pair::with(echoing_application().await, small, |_| {}).await
}

#[tokio::test]
async fn a_body_without_a_length_that_is_too_large_is_answered() {
    in_mesh(async {
        let mesh = mesh().await;
        let mut client = Peer::client(mesh.web.dial().await);
        for size in [1001, 6000] {
            let key = client.request("POST", "/", "", false);
            client.send(key, &vec![b'x'; size], true);
            let answer = client.answer(key).await;
            assert_eq!((answer.status(), &*answer.body), (413, &b"body too large\n"[..]), "{answer:?}");
            assert!(answer.head.contains("\nx-sinew-reason: malformed-request\n"), "{answer:?}");
        }
        let fields = "content-type: application/grpc\r\nte: trailers\r\n";
        let key = client.request("POST", "/", fields, false);
        client.send(key, &[b'x'; 1001], false);
        let answer = client.answer(key).await;
        assert!(answer.head.contains("\ngrpc-status: 8\n"), "{answer:?}");
        let stats = mesh.web.admin("/metrics").await;
        assert!(stats.contains("status=\"4xx\"} 3\n"), "{stats}");
    })
    .await;
}

#[tokio::test]
async fn the_rest_is_read_for_a_while_and_given_up_then() {
    in_mesh(async {
        let mesh = mesh().await;
        let mut client = mesh.web.dial().await;
        client.write_all(&[start(&[]), post(1), frame(DATA, 0, 1, &[0; 1001])].concat()).await.unwrap();
        let mut reader = Reader::default();
        loop {
            let frame = reader.next(&mut client).await.expect("it is answered");
            assert_ne!(frame.kind, RST_STREAM, "not yet");
            if frame.stream == 1 && frame.flags & END_STREAM != 0 && frame.kind == DATA {
                break;
            }
        }
        // A second or two, where nothing comes.
        assert_eq!(reader.code(&mut client, RST_STREAM).await, NO_ERROR);
    })
    .await;
}

#[tokio::test]
async fn what_the_engine_refuses_is_answered_in_words() {
    in_mesh(async {
        let mesh = mesh().await;
        let mut client = Peer::client(mesh.web.dial().await);
        let many = "x: y\r\n".repeat(97);
        let key = client.request("POST", "/", &many, false);
        let answer = client.answer(key).await;
        assert_eq!((answer.status(), &*answer.body), (431, &b"head too large\n"[..]), "{answer:?}");
        assert!(answer.head.contains("\nx-sinew-reason: malformed-request\n"), "{answer:?}");
        let fields = format!("{}content-type: application/grpc\r\n", &many[6..]);
        let key = client.request("POST", "/", &fields, true);
        let answer = client.answer(key).await;
        assert!(answer.head.contains("\ngrpc-status: 8\n"), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_reset_is_counted_as_told_nothing() {
    in_mesh(async {
        let mesh = mesh().await;
        let mut client = mesh.web.dial().await;
        let malformed = [GET_BLOCK, b"\x00\x01X\x01y"].concat();
        let head = frame(HEADERS, END_HEADERS | END_STREAM, 1, &malformed);
        client.write_all(&[start(&[]), head].concat()).await.unwrap();
        let mut reader = Reader::default();
        assert_eq!(reader.code(&mut client, RST_STREAM).await, ErrorCode::PROTOCOL_ERROR.0);
        let metrics = mesh.web.admin("/metrics").await;
        assert!(metrics.contains("status=\"none\"} 1\n") && !metrics.contains("4xx"), "{metrics}");
        // The connection goes on until it breaks a rule itself.
        client.write_all(&frame(DATA, 0, 0, b"x")).await.unwrap();
        assert_eq!(reader.code(&mut client, GOAWAY).await, ErrorCode::PROTOCOL_ERROR.0);
        let ended = "sinew_http2_connections_failed_total{code=\"PROTOCOL_ERROR\"} 1\n";
        until(async || mesh.web.admin("/metrics").await.contains(ended)).await;
    })
    .await;
}
