//! A client of HTTP/2 that says whatever it is told to, frame by frame.

use sinew_wire::h2::PREFACE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const SETTINGS_TIMEOUT: u32 = 4;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// Fields of `GET /` and `POST /` to `orders`, none of which enters a table.
pub const GET_BLOCK: &[u8] = b"\x82\x84\x86\x01\x06orders";
pub const POST_BLOCK: &[u8] = b"\x83\x84\x86\x01\x06orders";

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A whole head that ends its stream.
pub fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, GET_BLOCK)
}

/// A whole head with a body to follow.
pub fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, POST_BLOCK)
}

pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let pair = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &pairs.iter().flat_map(pair).collect::<Vec<_>>())
}

/// The beginning of a connection.
pub fn start(pairs: &[(u16, u32)]) -> Vec<u8> {
    [&PREFACE[..], &settings(pairs), &frame(SETTINGS, ACK, 0, &[])].concat()
}

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What comes back on a connection.
#[derive(Default)]
pub struct Reader(Vec<u8>);

impl Reader {
    /// Cancel safe. `None`: nothing more comes.
    pub async fn next(&mut self, stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Frame> {
        loop {
            if let &[a, b, c, kind, flags, d, e, f, g, ..] = &self.0[..] {
                let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
                if self.0.len() >= end {
                    let payload = self.0[9..end].to_vec();
                    self.0.drain(..end);
                    return Some(Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]), payload });
                }
            }
            let mut buffer = [0; 16 * 1024];
            match stream.read(&mut buffer).await {
                Ok(count @ 1..) => self.0.extend(&buffer[..count]),
                _ => return None,
            }
        }
    }

    /// The code of the first frame of the kind that carries one at that place.
    pub async fn code(&mut self, stream: &mut (impl AsyncReadExt + Unpin), kind: u8) -> u32 {
        let at = if kind == GOAWAY { 4 } else { 0 };
        loop {
            let frame = self.next(stream).await.expect("the connection ended without a word");
            if frame.kind == kind {
                return u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
            }
        }
    }
}

/// Sends `begin` and then what `each` makes of 1, 2, ... for as long as it is let, and reads all that comes. The code of
/// the GOAWAY in the end.
pub async fn flood(client: TcpStream, begin: Vec<u8>, mut each: impl FnMut(u32) -> Vec<u8> + 'static) -> u32 {
    /// Bytes of one write: several frames.
    const PIECE_BYTES_MIN: usize = 2048;
    const COUNT_MAX: u32 = 10_000_000;
    let (mut from, mut to) = client.into_split();
    let sending = tokio::task::spawn_local(async move {
        let mut piece = begin;
        for count in 1..COUNT_MAX {
            piece.extend(each(count));
            if piece.len() >= PIECE_BYTES_MIN && to.write_all(&std::mem::take(&mut piece)).await.is_err() {
                return;
            }
        }
        panic!("{COUNT_MAX} times were not too much");
    });
    let code = Reader::default().code(&mut from, GOAWAY).await;
    drop(from);
    sending.await.unwrap();
    code
}
