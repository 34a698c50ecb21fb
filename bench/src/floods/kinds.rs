//! The kinds of hostile clients. A round is one connection, from beginning to end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

pub struct Kind {
    pub name: &'static str,
    /// `Err`: it did not end as it has to.
    pub round: fn(SocketAddr, &AtomicBool) -> Result<()>,
}

pub const KINDS: [Kind; 14] = [
    Kind { name: "rapid-reset", round: |to, _| flood(to, &[], |n| [get(n), reset(n)].concat()) },
    Kind {
        name: "provoked-resets",
        round: |to, _| flood(to, &[], |n| [get(n), window_update(2 * n - 1, 0)].concat()),
    },
    Kind {
        name: "continuation",
        round: |to, _| flood(to, &begun(), |_| frame(CONTINUATION, 0, 1, b"\0\x01x\x01y")),
    },
    Kind {
        name: "large-continuation",
        round: |to, _| flood(to, &begun(), |_| frame(CONTINUATION, 0, 1, &[0; 16_384])),
    },
    Kind { name: "header-bombs", round: |to, _| bombs(to) },
    Kind { name: "empty-data", round: |to, _| flood(to, &post(), |_| frame(DATA, 0, 1, &[])) },
    Kind { name: "ping", round: |to, _| flood(to, &[], |_| frame(PING, 0, 0, &[0; 8])) },
    Kind { name: "settings", round: |to, _| flood(to, &[], |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 4, 0])) },
    Kind { name: "window-update", round: |to, _| flood(to, &[], |_| window_update(0, 1)) },
    Kind { name: "priority", round: |to, _| flood(to, &[], |_| frame(PRIORITY, 0, 7, &[0; 5])) },
    Kind { name: "unread-answers", round: |to, ends| unread(to, ends) },
    Kind { name: "slow-readers", round: |to, ends| slow_readers(to, ends) },
    Kind { name: "many-names", round: |to, ends| many_names(to, ends) },
    Kind { name: "malformed", round: |to, _| malformed(to) },
];

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `GET /` of `floods`; nothing of it enters a table (RFC 7541, 6.2.2).
const GET_BLOCK: &[u8] = b"\x82\x84\x86\x01\x06floods";
const POST_BLOCK: &[u8] = b"\x83\x84\x86\x01\x06floods";
const LARGE_BLOCK: &[u8] = b"\x82\x04\x06/large\x86\x01\x06floods";
const COUNT_MAX: u32 = 10_000_000;
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// RFC 9113, 4.1
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn get(number: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 2 * number - 1, GET_BLOCK)
}

fn post() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, POST_BLOCK)
}

/// A head that goes on.
fn begun() -> Vec<u8> {
    frame(HEADERS, 0, 1, GET_BLOCK)
}

fn reset(number: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, 2 * number - 1, &8_u32.to_be_bytes())
}

fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    Ok(stream)
}

/// The beginning of a connection over HTTP/2, with windows of streams that are shut.
fn start(window: u32) -> Vec<u8> {
    let window = window.to_be_bytes();
    let settings = [0, 4, window[0], window[1], window[2], window[3]];
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &settings)].concat()
}

/// Says `each` of 1, 2, ... until it is told to be calm.
fn flood(target: SocketAddr, begin: &[u8], each: impl Fn(u32) -> Vec<u8>) -> Result<()> {
    const PIECE_BYTES_MIN: usize = 4096;
    let mut stream = connect(target)?;
    let reader = stream.try_clone()?;
    let answers = std::thread::spawn(move || read_to_end(reader));
    let mut piece = [start(0), begin.to_vec()].concat();
    let mut count = 0;
    while count < COUNT_MAX {
        count += 1;
        piece.extend(each(count));
        if piece.len() >= PIECE_BYTES_MIN && stream.write_all(&std::mem::take(&mut piece)).is_err() {
            break;
        }
    }
    ensure!(count < COUNT_MAX, "{COUNT_MAX} frames were not too much");
    let answers = answers.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
    let code = goaway(&answers).context("closed without a word")?;
    ensure!(code == ENHANCE_YOUR_CALM, "told {code}");
    Ok(())
}

/// As much as comes; a reset is an end too.
fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// The code of the first GOAWAY.
fn goaway(mut bytes: &[u8]) -> Option<u32> {
    while let &[a, b, c, kind, _, _, _, _, _, ref rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind == GOAWAY {
            return rest.get(4..8).map(|code| u32::from_be_bytes(code.try_into().unwrap_or_default()));
        }
        bytes = rest.get(length..)?;
    }
    None
}

/// Heads that unpack to hundreds of times what is allowed, by references to a large entry or in crumbs of cookies.
fn bombs(target: SocketAddr) -> Result<()> {
    let filling = [GET_BLOCK, b"\x40\x01x\x7f\xa1\x1e", &[b'y'; 4000]].concat();
    for bomb in [vec![0xbe; 16_000], b"\x60\x01c".repeat(5000)] {
        flood(target, &[], |count| {
            let id = 2 * count - 1;
            let more = frame(CONTINUATION, 0, id, &bomb).repeat(3);
            [frame(HEADERS, END_STREAM, id, &filling), more, frame(CONTINUATION, END_HEADERS, id, &bomb)]
                .concat()
        })?;
    }
    Ok(())
}

/// Answers that no window is open for, on as many streams as may be.
fn unread(target: SocketAddr, ends: &AtomicBool) -> Result<()> {
    const CONNECTIONS: usize = 8;
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = connect(target)?;
        let asks = (1..=100).flat_map(get);
        stream.write_all(&start(0).into_iter().chain(asks).collect::<Vec<_>>())?;
        streams.push(stream);
    }
    wait(ends, 1000);
    Ok(())
}

/// A megabyte for each, of which they read nothing.
fn slow_readers(target: SocketAddr, ends: &AtomicBool) -> Result<()> {
    const CLIENTS: usize = 16;
    let mut streams = Vec::new();
    for number in 0..CLIENTS {
        let mut stream = connect(target)?;
        if number % 2 == 0 {
            stream.write_all(b"GET /large HTTP/1.1\r\nHost: floods\r\n\r\n")?;
        } else {
            let large = |number: u32| frame(HEADERS, END_HEADERS | END_STREAM, 2 * number - 1, LARGE_BLOCK);
            let asks = (1..=4).flat_map(large);
            stream.write_all(&start(0).into_iter().chain(asks).collect::<Vec<_>>())?;
        }
        streams.push(stream);
    }
    wait(ends, 1000);
    Ok(())
}

/// Hosts, paths and fields that nobody has named before.
fn many_names(target: SocketAddr, ends: &AtomicBool) -> Result<()> {
    use std::sync::atomic::AtomicU64;
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    const DEPTH: u64 = 64;
    let mut stream = connect(target)?;
    let mut answers = [0; 64 * 1024];
    let mut left = 0_usize;
    while !ends.load(Ordering::Relaxed) {
        let first = NUMBER.fetch_add(DEPTH, Ordering::Relaxed);
        let ask = |n: u64| {
            format!("GET /{n}?{n} HTTP/1.1\r\nHost: h{n}.example\r\nx-request-id: {n}\r\nx-{n}: y\r\n\r\n")
        };
        stream.write_all((first..first + DEPTH).map(ask).collect::<String>().as_bytes())?;
        left += DEPTH as usize;
        while left > 0 {
            let count = stream.read(&mut answers)?;
            ensure!(count > 0, "closed");
            left = left.saturating_sub(
                answers[..count].windows(12).filter(|bytes| *bytes == b"HTTP/1.1 200").count(),
            );
            // One may be cut in two pieces: its neighbours are answered nevertheless.
            left = if left <= 1 { 0 } else { left };
        }
    }
    Ok(())
}

fn malformed(target: SocketAddr) -> Result<()> {
    let mut stream = connect(target)?;
    stream.write_all(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    let answer = read_to_end(stream);
    ensure!(answer.starts_with(b"HTTP/1.1 400"), "{:?}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn wait(ends: &AtomicBool, milliseconds: u64) {
    for _ in 0..milliseconds / 20 {
        if ends.load(Ordering::Relaxed) {
            return;
        }
        crate::process::pause(Duration::from_millis(20));
    }
}
