use std::io::ErrorKind;

use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::UnixStream;

use crate::Stream;
use crate::stream::Raw;
use crate::tls::Alpn;
use crate::tls::tests::{Ca, NAME, ORDERS, WEB};

/// The session ticket, which nobody waits for, is no write of its own.
#[tokio::test]
async fn a_server_that_has_not_answered_has_sent_nothing() {
    let ca = Ca::new();
    let (near, far) = UnixStream::pair().unwrap();
    let (server, client) = (ca.tls(ORDERS), ca.tls(WEB));
    let dial = client.connect(Raw::Unix(near), NAME, Alpn::Http, |_| true);
    let (dialed, accepted) = tokio::join!(dial, server.accept(Raw::Unix(far)));
    let (mut dialed, mut accepted) = (dialed.unwrap(), accepted.unwrap().stream);
    assert!(dialed.is_quiet());
    accepted.write_all(b"answer").await.unwrap();
    accepted.flush().await.unwrap();
    assert!(!dialed.is_quiet());
    let mut answer = [0; 6];
    dialed.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
    assert!(dialed.is_quiet());

    // With the ticket the next handshake is a resumed one.
    let (near, far) = UnixStream::pair().unwrap();
    let dial = client.connect(Raw::Unix(near), NAME, Alpn::Http, |_| true);
    let (dialed, _accepted) = tokio::join!(dial, server.accept(Raw::Unix(far)));
    let Ok(Stream::Tls(stream)) = dialed else { panic!("{dialed:?}") };
    assert_eq!(stream.session().handshake_kind(), Some(HandshakeKind::Resumed));
}

/// A read that brings both is told the bytes, and the next one the error: it never waits for more.
#[tokio::test]
async fn bytes_before_garbage_are_read_and_then_the_error() {
    let ca = Ca::new();
    let (near, mut middle_near) = UnixStream::pair().unwrap();
    let (mut middle_far, far) = UnixStream::pair().unwrap();
    let (server, client) = (ca.tls(ORDERS), ca.tls(WEB));
    let both = async {
        let dial = async {
            let mut stream = client.connect(Raw::Unix(near), NAME, Alpn::Http, |_| true).await.unwrap();
            stream.write_all(b"request").await.unwrap();
            stream.flush().await.unwrap();
            stream.read_exact(&mut [0; 6]).await.unwrap();
            stream
        };
        let accept = async {
            let mut stream = server.accept(Raw::Unix(far)).await.unwrap().stream;
            stream.read_exact(&mut [0; 7]).await.unwrap();
            stream.write_all(b"answer").await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        tokio::join!(dial, accept)
    };
    let (mut client, mut server) = tokio::select! {
        both = both => both,
        _ = copy_bidirectional(&mut middle_near, &mut middle_far) => panic!("nobody ends"),
    };
    server.write_all(b"last").await.unwrap();
    server.flush().await.unwrap();
    let mut record = vec![0; 1024];
    let count = middle_far.read(&mut record).await.unwrap();
    record.truncate(count);
    record.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
    middle_near.write_all(&record).await.unwrap();
    let mut read = [0; 64];
    assert_eq!(client.read(&mut read).await.unwrap(), 4);
    assert_eq!(&read[..4], b"last");
    assert_eq!(client.read(&mut read).await.unwrap_err().kind(), ErrorKind::InvalidData);
}

/// Records of more bytes than a session holds arrive whole, however the reader takes them.
#[tokio::test]
async fn many_records_arrive_whole() {
    let ca = Ca::new();
    let (near, far) = UnixStream::pair().unwrap();
    let (server, client) = (ca.tls(ORDERS), ca.tls(WEB));
    let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
    let dial = async {
        let mut stream = client.connect(Raw::Unix(near), NAME, Alpn::Http, |_| true).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
        // The other direction is open still.
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let accept = async {
        let mut stream = server.accept(Raw::Unix(far)).await.unwrap().stream;
        let mut received = Vec::new();
        let mut step = [0; 5000];
        loop {
            let count = stream.read(&mut step).await.unwrap();
            if count == 0 {
                break;
            }
            received.extend_from_slice(&step[..count]);
        }
        stream.write_all(&received).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (answer, ()) = tokio::join!(dial, accept);
    assert!(answer == sent);
}
