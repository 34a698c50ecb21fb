use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

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

async fn tcp_pair() -> (TcpStream, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (outer, listener.accept().await.unwrap().0.into())
}

/// Moves `bytes` and tells when a pipe has to wait.
async fn move_all(bulk: &mut Bulk, from: &mut Stream, to: &mut Stream, bytes: u64, waits: &Cell<bool>) {
    let (mut left, mut held) = (bytes, Vec::new());
    while left > 0 {
        let moved = poll_fn(|cx| bulk.poll_move(cx, from, to, left, &mut held)).await.unwrap();
        assert!(moved.read > 0, "ended with {left} left");
        left -= moved.read as u64;
        if bulk.is_piped() {
            waits.set(true);
            assert_eq!(bulk.held.0, moved.read - moved.written);
            poll_fn(|cx| bulk.poll_drain(cx, to).1).await.unwrap();
        }
        to.write_all(&held).await.unwrap();
        held.clear();
        bulk.release();
    }
}

#[tokio::test]
async fn a_large_body_goes_through_a_pipe_whole() {
    const BYTES: usize = 32 * 1024 * 1024;
    let (mut source, mut from) = tcp_pair().await;
    let (mut sink, mut to) = tcp_pair().await;
    let body: Vec<u8> = (0..BYTES as u32).map(|i| (i ^ (i >> 11)) as u8).collect();
    let (sent, expected) = (body.clone(), body);
    let mut bulk = Bulk::default();
    let waits = Cell::new(false);
    let moving = async {
        move_all(&mut bulk, &mut from, &mut to, BYTES as u64, &waits).await;
        assert_eq!(pipe::count(), 1);
    };
    let reading = async {
        while !waits.get() {
            tokio::task::yield_now().await;
        }
        let mut got = Vec::new();
        while got.len() < BYTES {
            let room = (BYTES - got.len()).min(300_000) as u64;
            (&mut sink).take(room).read_to_end(&mut got).await.unwrap();
        }
        got
    };
    let writing = async { source.write_all(&sent).await.unwrap() };
    let ((), got, ()) = tokio::join!(moving, reading, writing);
    assert!(got == expected);
    assert_eq!(HELD_BYTES.get(), 0);
    sweep();
    assert_eq!(pipe::count(), 1, "it was in use a moment ago");
    sweep();
    assert_eq!(pipe::count(), 0);
}

/// A pipe with bytes in it belongs to nobody else.
#[tokio::test]
async fn what_is_cut_takes_its_pipe_along() {
    const BYTES: u64 = 1 << 40;
    let (mut source, mut from) = tcp_pair().await;
    let (sink, mut to) = tcp_pair().await;
    let writing = tokio::spawn(async move { while source.write_all(&[7; 65_536]).await.is_ok() {} });
    let (mut bulk, mut held) = (Bulk::default(), Vec::new());
    while !bulk.is_piped() {
        poll_fn(|cx| bulk.poll_move(cx, &mut from, &mut to, BYTES, &mut held)).await.unwrap();
        assert!(held.is_empty());
    }
    assert_eq!(pipe::count(), 1);
    assert!(HELD_BYTES.get() > 0);
    drop(sink);
    // A reset: what the sink's kernel had was never read.
    let error = poll_fn(|cx| bulk.poll_drain(cx, &to).1).await.unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe), "{error}");
    drop(bulk);
    assert_eq!((pipe::count(), HELD_BYTES.get()), (0, 0));
    writing.abort();
}

#[tokio::test]
async fn small_moves_leave_the_pipe() {
    let (mut source, mut from) = tcp_pair().await;
    let (mut sink, mut to) = tcp_pair().await;
    let (mut bulk, mut held) = (Bulk::default(), Vec::new());
    bulk.step_bytes = PIPED_BYTES_MIN;
    for _ in 0..SMALL_MOVES_MAX {
        assert!(bulk.is_worth_a_pipe(u64::MAX));
        source.write_all(b"small").await.unwrap();
        let moved = poll_fn(|cx| bulk.poll_move(cx, &mut from, &mut to, u64::MAX, &mut held)).await.unwrap();
        assert_eq!(moved, Moved { read: 5, written: 5 });
        sink.read_exact(&mut [0; 5]).await.unwrap();
    }
    assert!(!bulk.is_worth_a_pipe(u64::MAX));
    assert!(bulk.is_worth_a_pipe(PIPED_BYTES_MIN as u64), "a body is known to be large");
    bulk.step_bytes = PIPED_BYTES_MIN;
    assert!(bulk.is_worth_a_pipe(STEP_BYTES_MIN as u64), "the rest of a body");
    assert!(!bulk.is_worth_a_pipe(STEP_BYTES_MIN as u64 - 1), "its last bytes");
    bulk.step_bytes = STEP_BYTES_MIN;
    source.write_all(b"small").await.unwrap();
    drop(source);
    let mut read = 0;
    while read < 5 {
        read += poll_fn(|cx| bulk.poll_move(cx, &mut from, &mut to, u64::MAX, &mut held)).await.unwrap().read;
    }
    let end = poll_fn(|cx| bulk.poll_move(cx, &mut from, &mut to, 1 << 20, &mut held)).await.unwrap();
    assert_eq!(end.read, 0);
}
