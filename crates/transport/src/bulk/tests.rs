use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

fn pair() -> (UnixStream, Stream) {
    let (outer, inner) = UnixStream::pair().unwrap();
    (outer, Stream::Unix(inner))
}

#[tokio::test]
async fn what_a_slow_reader_leaves_is_held_counted_and_forgotten() {
    let (mut source, mut from) = pair();
    let (mut sink, mut to) = pair();
    let (mut bulk, mut held) = (Bulk::default(), Vec::new());
    let before = HELD_BYTES.get();
    let sent =
        tokio::spawn(async move { source.write_all(&vec![7; 4 * STEP_BYTES_MAX]).await.map(|()| source) });
    let mut written = 0;
    while held.is_empty() {
        let moved = poll_fn(|cx| bulk.poll_move(cx, &mut from, &mut to, u64::MAX, &mut held)).await.unwrap();
        written += moved.written;
        assert_eq!(moved.read, moved.written + held.len());
    }
    assert_eq!(bulk.step_bytes, STEP_BYTES_MIN, "the next move is a small one");
    assert_eq!(HELD_BYTES.get() - before, held.len());
    let mut got = vec![0; written];
    sink.read_exact(&mut got).await.unwrap();
    assert!(got.iter().all(|&byte| byte == 7));
    bulk.release();
    assert_eq!(HELD_BYTES.get(), before);

    bulk.hold(10);
    drop(bulk);
    assert_eq!(HELD_BYTES.get(), before, "a connection that is cut holds nothing any more");
    sent.abort();
}

#[tokio::test]
async fn steps_grow_while_the_reader_takes_all() {
    let (mut source, mut from) = pair();
    let (mut sink, mut to) = pair();
    let (mut bulk, mut held) = (Bulk::default(), Vec::new());
    source.write_all(&[1; STEP_BYTES_MIN]).await.unwrap();
    let moved = poll_fn(|cx| bulk.poll_move(cx, &mut from, &mut to, u64::MAX, &mut held)).await.unwrap();
    assert_eq!(moved, Moved { read: STEP_BYTES_MIN, written: STEP_BYTES_MIN });
    assert_eq!(bulk.step_bytes, 2 * STEP_BYTES_MIN);
    sink.read_exact(&mut [0; STEP_BYTES_MIN]).await.unwrap();

    HELD_BYTES.set(HELD_BYTES_MAX + 1);
    source.write_all(&[1; 2 * STEP_BYTES_MIN]).await.unwrap();
    let moved = poll_fn(|cx| bulk.poll_move(cx, &mut from, &mut to, u64::MAX, &mut held)).await.unwrap();
    assert_eq!(moved.read, STEP_BYTES_MIN, "too much is held for others");
    HELD_BYTES.set(0);
}

#[tokio::test]
async fn no_more_moves_than_is_allowed_and_the_end_is_seen() {
    let (mut source, mut from) = pair();
    let (_sink, mut to) = pair();
    let (mut bulk, mut held) = (Bulk::default(), Vec::new());
    source.write_all(b"body and the next answer").await.unwrap();
    let moved = poll_fn(|cx| bulk.poll_move(cx, &mut from, &mut to, 4, &mut held)).await.unwrap();
    assert_eq!(moved, Moved { read: 4, written: 4 });
    let mut rest = Vec::new();
    drop(source);
    from.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b" and the next answer");
    let moved = poll_fn(|cx| bulk.poll_move(cx, &mut from, &mut to, 4, &mut held)).await.unwrap();
    assert_eq!(moved.read, 0);
}
