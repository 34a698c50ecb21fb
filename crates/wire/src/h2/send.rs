//! Messages to the peer: heads, bodies as far as windows allow, trailers.

use super::StreamKey;
use super::connection::{Connection, Drain, Role};
use super::frame::{FrameHeader, HEADER_BYTES, flag, kind};
use super::settings::WINDOW_MAX;
use super::streams::Side;
use crate::head::{
    Field, FieldKind, Framing, Method, RequestEdits, RequestHead, ResponseEdits, ResponseHead, ResponseKind,
    Span, is_forbidden_in_trailers,
};
use crate::hpack::Encoder;
use crate::text::{is_field_value, is_token};
use crate::websocket::{PROTOCOL, is_websocket};

/// Why no request can be sent on a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// As many streams are open as the server allows.
    Full,
    /// The connection takes no more requests, ever.
    Ending,
    /// The server has not offered extended CONNECT.
    NoExtendedConnect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The stream is over (it was reset), or this end of it.
    Gone,
    /// The body is longer or shorter than its head declared: reset the stream, so that the peer sees it.
    Mismatch,
}

impl Connection {
    /// Client: why a request cannot be sent now, if so.
    pub fn can_open(&self) -> Result<(), OpenError> {
        let is_ending = self.peer_last.is_some()
            || self.drain != Drain::No
            || self.failed.is_some()
            || self.next_id > i32::MAX as u32;
        if self.role == Role::Server || is_ending {
            return Err(OpenError::Ending);
        }
        if self.open_streams >= self.peer.concurrent_streams_max { Err(OpenError::Full) } else { Ok(()) }
    }

    /// Client: how many more requests the server takes at once.
    pub fn free_streams(&self) -> usize {
        let free = self.peer.concurrent_streams_max.saturating_sub(self.open_streams);
        if matches!(self.can_open(), Ok(())) { free as usize } else { 0 }
    }

    /// Client: whether the server takes extended CONNECT (RFC 8441).
    pub const fn takes_extended_connect(&self) -> bool {
        self.peer.extended_connect
    }

    /// Client: opens a stream with a request. `bytes` are those that `head` was parsed from, by whichever engine.
    /// `end`: nothing follows. `edits.close` means nothing here; with `edits.upgrade` a request of HTTP/1.1 that has an
    /// `Upgrade` becomes an extended CONNECT.
    pub fn send_request(
        &mut self,
        head: &RequestHead,
        bytes: &[u8],
        edits: &RequestEdits<'_>,
        is_https: bool,
        end: bool,
    ) -> Result<StreamKey, OpenError> {
        self.can_open()?;
        let is_extended = protocol(head, edits).is_some();
        if is_extended && !self.peer.extended_connect {
            return Err(OpenError::NoExtendedConnect);
        }
        let id = self.next_id;
        self.next_id += 2;
        let is_connect = is_extended || head.method == Method::Connect;
        let key = self.insert(id, Side::Head, head.method == Method::Head, is_connect);
        self.push_head(id, end, |encoder, out| push_request(head, bytes, edits, is_https, encoder, out));
        self.after_head(key, head.framing, end);
        Ok(key)
    }

    /// Server: an interim or the final response. `end`: nothing follows. `edits.close` means nothing here: see
    /// [`Connection::drain`].
    ///
    /// # Errors
    /// When the stream is over or has its response.
    pub fn send_response(
        &mut self,
        key: StreamKey,
        head: &ResponseHead,
        bytes: &[u8],
        edits: &ResponseEdits<'_>,
        end: bool,
    ) -> Result<(), SendError> {
        self.expect_head(key)?;
        let is_interim = head.kind == ResponseKind::Interim;
        self.push_head(key.id, end && !is_interim, |encoder, out| {
            push_response(head, bytes, edits, encoder, out);
        });
        if !is_interim {
            self.after_head(key, head.framing, end);
        }
        Ok(())
    }

    /// Server: a response of the proxy's own. Returns how much of the body was taken; the rest, if any, has to follow
    /// with [`Connection::send_data`].
    pub fn send_local_response(
        &mut self,
        key: StreamKey,
        status: u16,
        append: &[(&[u8], &[u8])],
        content_type: &str,
        body: &[u8],
    ) -> Result<usize, SendError> {
        let is_head = self.expect_head(key)?;
        let has_length = !matches!(status, 204 | 304);
        let end = body.is_empty() || is_head || !has_length;
        self.push_head(key.id, end, |encoder, out| {
            encoder.status(status, out);
            if has_length {
                push_length(body.len() as u64, encoder, out);
                if !body.is_empty() {
                    encoder.field(b"content-type", content_type.as_bytes(), false, out);
                }
            }
            push_appended(append, encoder, out);
        });
        self.after_head(key, Framing::Length(body.len() as u64), end);
        if end { Ok(body.len()) } else { self.send_data(key, body, true) }
    }

    /// Whether the request was HEAD.
    fn expect_head(&mut self, key: StreamKey) -> Result<bool, SendError> {
        match self.streams.get(key) {
            Some(stream) if stream.send == Side::Head => Ok(stream.is_head),
            _ => Err(SendError::Gone),
        }
    }

    fn after_head(&mut self, key: StreamKey, framing: Framing, end: bool) {
        let Some(stream) = self.streams.get(key) else { return };
        if let Framing::Length(length) = framing {
            stream.send_left = length;
        }
        stream.send = if end { Side::Closed } else { Side::Body };
        if end {
            self.end_if_closed(key);
        }
    }

    /// Sends as much of `data` as the windows and the output's limit allow, and says how much that was. When it was
    /// less, [`Connection::next_writable`] names the stream once more can be sent. `end`: nothing follows `data`; holds
    /// only when all of it was taken.
    pub fn send_data(&mut self, key: StreamKey, data: &[u8], end: bool) -> Result<usize, SendError> {
        let room = self.limits.output_bytes_max.saturating_sub(self.out.len() - self.out_start);
        let frame_max = self.peer.frame_payload_max as usize;
        let window = self.send_window;
        let stream =
            self.streams.get(key).filter(|stream| stream.send == Side::Body).ok_or(SendError::Gone)?;
        let declared = stream.send_left;
        if data.len() as u64 > declared || (end && declared != u64::MAX && data.len() as u64 != declared) {
            return Err(SendError::Mismatch);
        }
        let count = data.len().min(room).min(window.min(stream.send_window).max(0) as usize);
        let is_whole = count == data.len();
        stream.send_window -= count as i64;
        stream.wants = !is_whole;
        if declared != u64::MAX {
            stream.send_left -= count as u64;
        }
        self.send_window -= count as i64;
        self.push_data(key.id, &data[..count], frame_max, end && is_whole);
        if !is_whole {
            self.wake(key);
        } else if end {
            self.close_send(key);
        }
        Ok(count)
    }

    fn push_data(&mut self, id: u32, data: &[u8], frame_max: usize, end: bool) {
        let mut rest = data;
        let mut is_due = end;
        while !rest.is_empty() || is_due {
            let (piece, after) = rest.split_at(rest.len().min(frame_max));
            let is_last = end && after.is_empty();
            let flags = if is_last { flag::END_STREAM } else { 0 };
            let header = FrameHeader { len: piece.len(), kind: kind::DATA, flags, stream: id };
            self.out.extend_from_slice(&header.bytes());
            self.out.extend_from_slice(piece);
            self.budget.earn_data();
            rest = after;
            is_due = is_due && !is_last;
        }
    }

    /// Ends a body with trailers; those that must not come behind one are left out.
    pub fn send_trailers<'a>(
        &mut self,
        key: StreamKey,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), SendError> {
        let stream =
            self.streams.get(key).filter(|stream| stream.send == Side::Body).ok_or(SendError::Gone)?;
        if stream.send_left != u64::MAX && stream.send_left > 0 {
            return Err(SendError::Mismatch);
        }
        let mut trailers = trailers.filter(|(name, _)| !is_forbidden_in_trailers(name)).peekable();
        if trailers.peek().is_none() {
            return self.send_data(key, &[], true).map(|_| ());
        }
        self.push_head(key.id, true, |encoder, out| {
            trailers.for_each(|(name, value)| push_field(name, value, false, encoder, out));
        });
        self.close_send(key);
        Ok(())
    }

    fn close_send(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get(key) {
            (stream.send, stream.wants) = (Side::Closed, false);
        }
        self.end_if_closed(key);
    }

    /// The next stream, in turn, of which more was offered than could be taken and that can send now. To be asked
    /// until it says `None`, after events and after writing; each time the driver offers the rest.
    pub fn next_writable(&mut self) -> Option<StreamKey> {
        while self.send_window > 0 && self.has_room() {
            let key = self.ready.pop_front()?;
            let Some(stream) = self.streams.get(key) else { continue };
            stream.is_queued = false;
            if stream.wants && stream.send_window > 0 {
                return Some(key);
            }
        }
        None
    }

    /// What a stream could send now, at most; for drivers that choose how much to read from elsewhere.
    pub fn sendable(&mut self, key: StreamKey) -> usize {
        let window = self.send_window;
        let stream = self.streams.get(key).filter(|stream| stream.send == Side::Body);
        stream.map_or(0, |stream| window.min(stream.send_window).clamp(0, WINDOW_MAX) as usize)
    }

    /// Writes a field block, in as many frames as the peer wants it.
    pub(super) fn push_head(&mut self, id: u32, end: bool, write: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; HEADER_BYTES]);
        self.encoder.begin(&mut self.out);
        write(&mut self.encoder, &mut self.out);
        let max = self.peer.frame_payload_max as usize;
        let end_stream = if end { flag::END_STREAM } else { 0 };
        let len = self.out.len() - start - HEADER_BYTES;
        let mut header =
            FrameHeader { len, kind: kind::HEADERS, flags: end_stream | flag::END_HEADERS, stream: id };
        if len <= max {
            self.out[start..start + HEADER_BYTES].copy_from_slice(&header.bytes());
            return;
        }
        let block = self.out.split_off(start + HEADER_BYTES);
        self.out.truncate(start);
        let count = block.len().div_ceil(max);
        for (i, piece) in block.chunks(max).enumerate() {
            let kind = if i == 0 { kind::HEADERS } else { kind::CONTINUATION };
            let end_headers = if i + 1 == count { flag::END_HEADERS } else { 0 };
            let end_stream = if i == 0 { end_stream } else { 0 };
            header = FrameHeader { len: piece.len(), kind, flags: end_stream | end_headers, stream: id };
            self.out.extend_from_slice(&header.bytes());
            self.out.extend_from_slice(piece);
        }
    }
}

/// Of an extended CONNECT.
fn protocol(head: &RequestHead, edits: &RequestEdits<'_>) -> Option<Span> {
    head.protocol.or(head.upgrade.filter(|_| edits.upgrade))
}

fn push_request(
    head: &RequestHead,
    bytes: &[u8],
    edits: &RequestEdits<'_>,
    is_https: bool,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) {
    let protocol = protocol(head, edits);
    match protocol {
        Some(_) => encoder.method(Method::Connect, b"CONNECT", out),
        None => encoder.method(head.method, head.method_name.of(bytes), out),
    }
    let is_plain_connect = head.method == Method::Connect && protocol.is_none();
    if !is_plain_connect {
        encoder.scheme(is_https, out);
    }
    let authority = edits.host.unwrap_or(head.authority.of(bytes));
    if !authority.is_empty() {
        encoder.field(b":authority", authority, false, out);
    }
    if !is_plain_connect {
        push_path(head, edits.path.unwrap_or(head.path.of(bytes)), encoder, out);
    }
    if let Some(protocol) = protocol {
        let name = protocol.of(bytes);
        // In `Upgrade` in any case.
        let name = if is_websocket(name) { PROTOCOL } else { name };
        encoder.field(b":protocol", name, false, out);
    }
    // A tunnel's bytes are no body, not even one of length 0 (RFC 9110, 8.6, 9.3.6).
    match head.framing {
        Framing::Length(length) if protocol.is_none() && !is_plain_connect => {
            push_length(length, encoder, out)
        }
        _ => {}
    }
    if head.trailers {
        encoder.field(b"te", b"trailers", false, out);
    }
    push_fields(&head.fields, bytes, edits.remove, encoder, out, |kind| match kind {
        FieldKind::Expect => head.expect_continue,
        FieldKind::Trailer => true,
        kind => kind.is_passed_on(),
    });
    push_appended(edits.append, encoder, out);
}

/// An absolute form of HTTP/1.1 may have no path, or a query alone.
fn push_path(head: &RequestHead, path: &[u8], encoder: &mut Encoder, out: &mut Vec<u8>) {
    match path {
        [] if head.method == Method::Options => encoder.field(b":path", b"*", false, out),
        [] => encoder.field(b":path", b"/", false, out),
        [b'?', ..] => encoder.field(b":path", &[b"/", path].concat(), false, out),
        _ => encoder.field(b":path", path, false, out),
    }
}

fn push_response(
    head: &ResponseHead,
    bytes: &[u8],
    edits: &ResponseEdits<'_>,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) {
    // RFC 8441, 5: what HTTP/1.1 answers with 101 is 200 here.
    encoder.status(if head.status == 101 { 200 } else { head.status }, out);
    if head.kind == ResponseKind::Final {
        match (head.framing, head.content_length) {
            (Framing::Length(length), _) => push_length(length, encoder, out),
            // To HEAD, or 304: what a GET would have been answered with.
            (Framing::None, Some(length)) if head.status != 204 => push_length(length, encoder, out),
            _ => {}
        }
    }
    push_fields(&head.fields, bytes, edits.remove, encoder, out, |kind| match kind {
        // In a response these are ordinary names.
        FieldKind::Host | FieldKind::Expect | FieldKind::Trailer => true,
        kind => kind.is_passed_on(),
    });
    push_appended(edits.append, encoder, out);
}

fn push_length(length: u64, encoder: &mut Encoder, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    encoder.field(b"content-length", crate::text::decimal(length, &mut digits), false, out);
}

fn push_fields(
    fields: &[Field],
    bytes: &[u8],
    remove: &[&[u8]],
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    stays: impl Fn(FieldKind) -> bool,
) {
    for field in fields.iter().filter(|field| !field.listed && stays(field.kind)) {
        let name = field.name.of(bytes);
        if remove.iter().any(|removed| name.eq_ignore_ascii_case(removed)) {
            continue;
        }
        push_field(name, field.value.of(bytes), field.never_indexed, encoder, out);
    }
}

/// Adds the proxy's own fields; what is not a valid field is left out.
fn push_appended(fields: &[(&[u8], &[u8])], encoder: &mut Encoder, out: &mut Vec<u8>) {
    for (name, value) in fields.iter().filter(|(name, value)| is_token(name) && is_field_value(value)) {
        push_field(name, value, false, encoder, out);
    }
}

/// Names are in lower case in HTTP/2 (RFC 9113, 8.2), and in any in HTTP/1.1.
fn push_field(name: &[u8], value: &[u8], never_indexed: bool, encoder: &mut Encoder, out: &mut Vec<u8>) {
    const SHORT: usize = 64;
    if !has_upper_case(name) {
        return encoder.field(name, value, never_indexed, out);
    }
    let mut short = [0; SHORT];
    match short.get_mut(..name.len()) {
        Some(lower) => {
            lower.copy_from_slice(name);
            lower.make_ascii_lowercase();
            encoder.field(lower, value, never_indexed, out);
        }
        None => encoder.field(&name.to_ascii_lowercase(), value, never_indexed, out),
    }
}

/// Eight bytes at a time; of a byte, the highest bit says whether it is one.
fn has_upper_case(name: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const LOW: u64 = 0x7f * ONES;
    let is_any = |word: u64| {
        let low = word & LOW;
        let from_a = low + (0x80 - b'A' as u64) * ONES;
        let behind_z = low + (0x7f - b'Z' as u64) * ONES;
        from_a & !behind_z & !word & (0x80 * ONES) != 0
    };
    let (words, rest) = name.as_chunks::<8>();
    let is_in_rest = match name.last_chunk::<8>() {
        _ if rest.is_empty() => false,
        Some(last) => is_any(u64::from_le_bytes(*last)),
        None => rest.iter().any(u8::is_ascii_uppercase),
    };
    is_in_rest || words.iter().any(|word| is_any(u64::from_le_bytes(*word)))
}
