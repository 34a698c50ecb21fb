//! The least that drives the HTTP/2 engine over a byte stream: an echo, and a client.

use std::collections::BTreeMap;
use std::io;

use sinew_wire::h1::Buffer;
use sinew_wire::h2::{Connection, Event, FRAME_BYTES_MAX, Heads, Limits, StreamKey};
use sinew_wire::head::{Framing, RequestEdits, RequestHead, ResponseEdits, ResponseHead};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A connection with what it received and has not used.
pub struct Driver<S> {
    stream: S,
    pub connection: Connection,
    pub heads: Heads,
    buffer: Buffer,
    read: usize,
    is_closed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub fn new(stream: S, connection: Connection) -> Self {
        let buffer = Buffer::new(2 * FRAME_BYTES_MAX);
        Self { stream, connection, heads: Heads::default(), buffer, read: 0, is_closed: false }
    }

    /// The next event in what was received.
    pub fn event(&mut self) -> Result<Event, String> {
        let event = self.connection.next(self.buffer.data(), &mut self.read, &mut self.heads);
        event.map_err(|error| error.to_string())
    }

    pub fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.buffer.data()[range]
    }

    /// Reads or writes once; false at the end of the stream. Only when events are used up.
    pub async fn turn(&mut self) -> io::Result<bool> {
        self.buffer.consume(std::mem::take(&mut self.read));
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let has_output = !self.connection.output().is_empty();
        tokio::select! {
            biased;
            count = writer.write(self.connection.output()), if has_output => self.connection.wrote(count?),
            count = reader.read(self.buffer.spare()), if !self.is_closed => {
                let count = count?;
                self.is_closed = count == 0;
                self.buffer.filled(count);
            }
            else => return Ok(false),
        }
        Ok(!self.is_closed || has_output)
    }

    /// Writes what is left, closes, and waits until the peer has done the same: it may still be writing.
    pub async fn finish(mut self) -> io::Result<()> {
        self.stream.write_all(self.connection.output()).await?;
        self.stream.shutdown().await?;
        tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await.map(|_| ())
    }
}

#[derive(Default)]
struct Message {
    /// Received and not sent back yet.
    body: Vec<u8>,
    is_ended: bool,
    trailers: Fields,
}

/// Answers each request with its own method, path, body and trailers. Bytes count as consumed when they were sent back,
/// so that a client that does not read is not read from.
pub async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin, limits: Limits) -> Result<(), String> {
    let mut driver = Driver::new(stream, Connection::server(limits));
    let mut messages: BTreeMap<u32, (StreamKey, Message)> = BTreeMap::new();
    loop {
        loop {
            let key = match driver.event() {
                Ok(Event::NeedMore) => break,
                Ok(Event::Request { stream, end }) => {
                    let message = Message { is_ended: end, ..Message::default() };
                    respond(&mut driver, stream);
                    messages.insert(stream.id, (stream, message));
                    stream
                }
                Ok(Event::Data { stream, bytes, end }) => {
                    let body = driver.bytes(bytes).to_vec();
                    let Some((_, message)) = messages.get_mut(&stream.id) else { continue };
                    message.body.extend(body);
                    message.is_ended |= end;
                    stream
                }
                Ok(Event::Trailers { stream }) => {
                    let Some((_, message)) = messages.get_mut(&stream.id) else { continue };
                    let trailers = driver.heads.trailers();
                    message.trailers =
                        trailers.map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
                    message.is_ended = true;
                    stream
                }
                Ok(Event::Reset { stream, .. } | Event::Failed { stream, .. }) => {
                    messages.remove(&stream.id);
                    continue;
                }
                Ok(_) => continue,
                Err(reason) => {
                    let _ = driver.finish().await;
                    return Err(reason);
                }
            };
            send(&mut driver, &mut messages, key);
        }
        while let Some(key) = driver.connection.next_writable() {
            send(&mut driver, &mut messages, key);
        }
        match driver.turn().await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn send<S>(driver: &mut Driver<S>, messages: &mut BTreeMap<u32, (StreamKey, Message)>, key: StreamKey) {
    let Some((_, message)) = messages.get_mut(&key.id) else { return };
    let ends_here = message.is_ended && message.trailers.is_empty();
    let Ok(count) = driver.connection.send_data(key, &message.body, ends_here) else { return };
    message.body.drain(..count);
    driver.connection.consumed(key, count);
    if message.body.is_empty() && message.is_ended {
        if !message.trailers.is_empty() {
            let trailers = message.trailers.iter().map(|(name, value)| (&name[..], &value[..]));
            driver.connection.send_trailers(key, trailers).expect("the stream is open");
        }
        messages.remove(&key.id);
    }
}

fn respond<S>(driver: &mut Driver<S>, key: StreamKey) {
    let mut head = ResponseHead::default();
    (head.status, head.framing) = (200, Framing::Chunked);
    let request = &driver.heads.request;
    let bytes = driver.heads.bytes();
    let (method, path) = (request.method_name.of(bytes).to_vec(), request.path.of(bytes).to_vec());
    let fields: Vec<(&[u8], &[u8])> = vec![(b"x-method", &method), (b"x-path", &path)];
    let edits = ResponseEdits { append: &fields, ..ResponseEdits::default() };
    driver.connection.send_response(key, &head, &[], &edits, false).expect("the stream is open");
}

/// A request of the client below: its head in HTTP/1.1, which has `transfer-encoding: chunked`.
pub struct Request {
    pub head: RequestHead,
    pub bytes: Vec<u8>,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    pub is_over: bool,
}

/// Sends all requests at once, as far as the server takes them, and returns when all are answered.
pub async fn fetch(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    limits: Limits,
    requests: &[Request],
) -> Result<Vec<Response>, String> {
    let mut driver = Driver::new(stream, Connection::client(limits));
    let mut responses = vec![Response::default(); requests.len()];
    // By stream: which request, and how much of its body is sent.
    let mut open: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    let mut next = 0;
    while responses.iter().any(|response| !response.is_over) {
        while next < requests.len() && may_open(&driver.connection) {
            let Request { head, bytes, .. } = &requests[next];
            let edits = RequestEdits::default();
            let key =
                driver.connection.send_request(head, bytes, &edits, false, false).expect("it can be opened");
            open.insert(key.id, (next, 0));
            next += 1;
            upload(&mut driver, requests, &mut open, key);
        }
        while let Some(key) = driver.connection.next_writable() {
            upload(&mut driver, requests, &mut open, key);
        }
        if !driver.turn().await.map_err(|error| error.to_string())? {
            return Err("closed".to_owned());
        }
        loop {
            let fields = |pairs: &mut dyn Iterator<Item = (&[u8], &[u8])>| -> Fields {
                pairs.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
            };
            match driver.event()? {
                Event::NeedMore => break,
                Event::Response { stream, end } => {
                    let response = &mut responses[open[&stream.id].0];
                    let (head, bytes) = (&driver.heads.response, driver.heads.bytes());
                    response.status = head.status;
                    response.fields = fields(
                        &mut head.fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes))),
                    );
                    response.is_over = end;
                }
                Event::Data { stream, bytes, end } => {
                    let response = &mut responses[open[&stream.id].0];
                    response.body.extend_from_slice(driver.bytes(bytes.clone()));
                    response.is_over = end;
                    driver.connection.consumed(stream, bytes.len());
                }
                Event::Trailers { stream } => {
                    let response = &mut responses[open[&stream.id].0];
                    response.trailers = fields(&mut driver.heads.trailers());
                    response.is_over = true;
                }
                Event::Settings | Event::Pong { .. } => {}
                other => return Err(format!("{other:?}")),
            }
        }
    }
    driver.connection.drain();
    driver.connection.finish_drain();
    driver.finish().await.map_err(|error| error.to_string())?;
    Ok(responses)
}

/// Not before the server has said how many streams it takes: it would refuse what is above.
fn may_open(connection: &Connection) -> bool {
    connection.has_peer_settings() && connection.can_open().is_ok() && connection.has_room()
}

fn upload<S>(
    driver: &mut Driver<S>,
    requests: &[Request],
    open: &mut BTreeMap<u32, (usize, usize)>,
    key: StreamKey,
) {
    let Some((index, sent)) = open.get_mut(&key.id) else { return };
    let Request { body, trailers, .. } = &requests[*index];
    let Ok(count) = driver.connection.send_data(key, &body[*sent..], trailers.is_empty()) else { return };
    *sent += count;
    if *sent == body.len() && !trailers.is_empty() {
        let trailers = trailers.iter().map(|(name, value)| (&name[..], &value[..]));
        driver.connection.send_trailers(key, trailers).expect("the stream is open");
    }
}
