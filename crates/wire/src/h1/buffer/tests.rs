use super::*;

#[test]
fn it_grows_with_what_is_read_and_stops_at_its_limit() {
    let mut buffer = Buffer::new(10_000);
    assert_eq!(buffer.capacity(), 0);
    let mut capacities = vec![];
    while !buffer.is_full() {
        let room = buffer.spare().len();
        assert!(room > 0);
        buffer.filled(room);
        capacities.push(buffer.capacity());
    }
    assert_eq!(capacities, [4096, 8192, 10_000]);
    assert!(buffer.spare().is_empty());
    buffer.consume(1);
    assert!(!buffer.spare().is_empty());
}

#[test]
fn bulk_gets_more_room_even_when_it_is_consumed_at_once() {
    let mut buffer = Buffer::new(64 * 1024);
    for _ in 0..10 {
        let room = buffer.spare().len();
        buffer.filled(room);
        buffer.consume(room);
    }
    assert_eq!(buffer.capacity(), 64 * 1024);
    let mut calm = Buffer::new(64 * 1024);
    for _ in 0..10 {
        calm.spare();
        calm.filled(100);
        calm.consume(100);
    }
    assert_eq!(calm.capacity(), 4096);
}

#[test]
fn bytes_stay_in_order_whatever_is_consumed() {
    let mut buffer = Buffer::new(8192);
    let (mut written, mut read) = (0u32, 0u32);
    while read < 20_000 {
        while !buffer.is_full() && written - read < 1500 {
            assert_eq!(buffer.extend(&written.to_be_bytes()), 4);
            written += 1;
        }
        for _ in 0..(read % 700 + 1).min(written - read) {
            assert_eq!(buffer.data()[..4], read.to_be_bytes());
            buffer.consume(4);
            read += 1;
        }
    }
    assert!(buffer.capacity() <= 8192);
}

#[test]
fn an_empty_buffer_gives_its_memory_back() {
    let mut pool = BufferPool::new(1);
    let mut buffer = Buffer::new(64 * 1024);
    buffer.extend(b"abc");
    buffer.release_to(&mut pool);
    assert_eq!((buffer.data(), buffer.capacity()), (&b"abc"[..], 4096), "not while something is in it");
    buffer.consume(3);
    buffer.release_to(&mut pool);
    assert_eq!((buffer.capacity(), pool.free.len()), (0, 1));
    buffer.acquire_from(&mut pool);
    assert_eq!((buffer.capacity(), pool.free.len()), (4096, 0));
    buffer.extend(&[7; 5000]);
    buffer.consume(5000);
    buffer.release_to(&mut pool);
    assert_eq!((buffer.capacity(), pool.free.len()), (0, 0), "what has grown is freed");
}
