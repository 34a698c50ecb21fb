//! Bodies: decoded from the framing they came in, and framed anew. Never passed through raw, so a peer cannot be made
//! to see another end of a message than this engine saw.

use std::ops::Range;

use super::Limits;
use super::reuse::RequestLeft;
use crate::head::{Framing, Reject, is_forbidden_in_trailers};
use crate::text::{is_field_value, is_token, push_hex, trim};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyEvent {
    /// These bytes of the input are body.
    Data(Range<usize>),
    /// The input is used up.
    NeedMore,
    /// The body is over; what follows in the input belongs to the next message. See [`BodyDecoder::trailers`].
    End,
}

/// The sender closed before the body was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    Size { digits: u8, size: u64 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data(u64),
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerLine,
    TrailerEnd,
    Done,
}

/// Finds the body in what follows a head, however it is cut into reads. Uses up all input up to the end of the body;
/// allocates only for trailers.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    /// Still allowed.
    body_bytes_left: u64,
    chunk_line_bytes_max: u32,
    chunk_line_bytes: u32,
    extension_bytes_left: u32,
    trailer_bytes_max: u32,
    trailer_fields_left: u32,
    trailer_line_start: u32,
    trailers: Vec<u8>,
}

impl BodyDecoder {
    /// `framing` as the head said it.
    pub fn new(framing: Framing, limits: &Limits) -> Self {
        let bound = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        Self {
            state: match framing {
                Framing::None => State::Done,
                Framing::Length(length) => State::Length(length),
                Framing::Chunked => State::Size { digits: 0, size: 0 },
                Framing::UntilClose => State::UntilClose,
            },
            body_bytes_left: limits.body_bytes_max,
            chunk_line_bytes_max: bound(limits.chunk_line_bytes_max),
            chunk_line_bytes: 0,
            extension_bytes_left: bound(limits.chunk_extension_bytes_max),
            trailer_bytes_max: bound(limits.trailer_bytes_max),
            trailer_fields_left: bound(limits.trailer_fields_max),
            trailer_line_start: 0,
            trailers: Vec::new(),
        }
    }

    /// The next event in `input[*at..]`; `at` moves behind what was used. To be called until it says
    /// [`BodyEvent::NeedMore`] or [`BodyEvent::End`].
    pub fn next(&mut self, input: &[u8], at: &mut usize) -> Result<BodyEvent, Reject> {
        loop {
            if self.is_done() {
                return Ok(BodyEvent::End);
            }
            let rest = &input[*at..];
            let Some(&byte) = rest.first() else { return Ok(BodyEvent::NeedMore) };
            match &mut self.state {
                State::Length(left) | State::Data(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= count as u64;
                    if self.state == State::Data(0) {
                        self.state = State::DataCarriageReturn;
                    }
                    *at += count;
                    return Ok(BodyEvent::Data(*at - count..*at));
                }
                State::UntilClose => {
                    self.body_bytes_left = match self.body_bytes_left.checked_sub(rest.len() as u64) {
                        Some(left) => left,
                        None => return Err(BODY_TOO_LARGE),
                    };
                    *at = input.len();
                    return Ok(BodyEvent::Data(input.len() - rest.len()..input.len()));
                }
                _ => {
                    self.state = self.step(byte)?;
                    *at += 1;
                }
            }
        }
    }

    /// The sender has closed its side. Ends a body that ends with the connection.
    pub fn eof(&mut self) -> Result<(), Truncated> {
        match self.state {
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ if self.is_done() => Ok(()),
            _ => Err(Truncated),
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done | State::Length(0))
    }

    /// How much is still to come.
    pub fn left(&self) -> RequestLeft {
        match self.state {
            _ if self.is_done() => RequestLeft::Nothing,
            State::Length(left) => RequestLeft::Bytes(left),
            _ => RequestLeft::Unknown,
        }
    }

    /// Trailer fields, complete when the body is over; well-formed, within their limits, in order.
    pub fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.trailers.split(|&byte| byte == b'\n').filter_map(trailer)
    }

    /// Everything around the data of chunks, byte by byte.
    fn step(&mut self, byte: u8) -> Result<State, Reject> {
        const MALFORMED_SIZE: Reject = Reject::bad("malformed chunk size");
        const MALFORMED_EXTENSION: Reject = Reject::bad("malformed chunk extension");
        const MALFORMED_LINE_END: Reject = Reject::bad("malformed chunk line end");
        match self.state {
            State::Size { digits, size } => {
                if let Some(digit) = char::from(byte).to_digit(16) {
                    // 16 digits at most, and no more than 2^63 - 1.
                    if digits == 16 || size > (i64::MAX as u64) >> 4 {
                        return Err(MALFORMED_SIZE);
                    }
                    return Ok(State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) });
                }
                match byte {
                    _ if digits == 0 => Err(MALFORMED_SIZE),
                    b'\r' => Ok(State::SizeEnd { size }),
                    b';' => {
                        self.chunk_line_bytes = u32::from(digits);
                        self.extension(size)
                    }
                    _ => Err(MALFORMED_SIZE),
                }
            }
            State::Extension { size } => match byte {
                b'\r' => Ok(State::SizeEnd { size }),
                _ if is_field_value(&[byte]) => self.extension(size),
                _ => Err(MALFORMED_EXTENSION),
            },
            State::SizeEnd { size } if byte == b'\n' => {
                self.body_bytes_left = self.body_bytes_left.checked_sub(size).ok_or(BODY_TOO_LARGE)?;
                Ok(if size == 0 { State::TrailerStart } else { State::Data(size) })
            }
            State::DataCarriageReturn if byte == b'\r' => Ok(State::DataLineFeed),
            State::DataLineFeed if byte == b'\n' => Ok(State::Size { digits: 0, size: 0 }),
            State::TrailerStart if byte == b'\r' => Ok(State::TrailerEnd),
            State::TrailerStart | State::TrailerLine => self.trailer_byte(byte),
            State::TrailerEnd if byte == b'\n' => Ok(State::Done),
            _ => Err(MALFORMED_LINE_END),
        }
    }

    fn extension(&mut self, size: u64) -> Result<State, Reject> {
        self.chunk_line_bytes += 1;
        if self.chunk_line_bytes > self.chunk_line_bytes_max || self.extension_bytes_left == 0 {
            return Err(Reject::bad("chunk extensions too long"));
        }
        self.extension_bytes_left -= 1;
        Ok(State::Extension { size })
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, Reject> {
        if self.trailers.len() >= self.trailer_bytes_max as usize {
            return Err(Reject::new(431, "trailers too large"));
        }
        self.trailers.push(byte);
        if byte != b'\n' {
            return Ok(State::TrailerLine);
        }
        self.trailer_fields_left =
            self.trailer_fields_left.checked_sub(1).ok_or(Reject::new(431, "too many trailers"))?;
        let line = &self.trailers[self.trailer_line_start as usize..self.trailers.len() - 1];
        if trailer(line).is_none() {
            return Err(Reject::bad("malformed trailer"));
        }
        self.trailer_line_start = self.trailers.len() as u32;
        Ok(State::TrailerStart)
    }
}

const BODY_TOO_LARGE: Reject = Reject::new(413, "body too large");

/// `line` ends with its CR.
fn trailer(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(b"\r")?;
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
    (is_token(name) && is_field_value(value)).then_some((name, value))
}

/// Writes a body in the framing that the head which was sent before announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyEncoder {
    framing: Framing,
    left: u64,
}

impl BodyEncoder {
    /// `framing` as `encode_request` or `encode_response` returned it.
    pub const fn new(framing: Framing) -> Self {
        let left = if let Framing::Length(length) = framing { length } else { 0 };
        Self { framing, left }
    }

    /// Appends a piece of body to `out`.
    ///
    /// # Errors
    /// When that is more than was announced: the connection cannot go on.
    pub fn data(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Truncated> {
        if data.is_empty() {
            return Ok(());
        }
        match self.framing {
            Framing::None => return Err(Truncated),
            Framing::Length(_) => self.left = self.left.checked_sub(data.len() as u64).ok_or(Truncated)?,
            Framing::Chunked => {
                push_hex(out, data.len() as u64);
                out.extend_from_slice(b"\r\n");
            }
            Framing::UntilClose => {}
        }
        out.extend_from_slice(data);
        if self.framing == Framing::Chunked {
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// The body is over. Trailers are written where the framing has room for them; those that must not come after a
    /// body are left out.
    ///
    /// # Errors
    /// When less than was announced has been written: the connection has to be closed, so that the peer sees it.
    pub fn end<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        out: &mut Vec<u8>,
    ) -> Result<(), Truncated> {
        if self.left > 0 {
            return Err(Truncated);
        }
        if self.framing == Framing::Chunked {
            out.extend_from_slice(b"0\r\n");
            for (name, value) in trailers.filter(|(name, _)| !is_forbidden_in_trailers(name)) {
                super::encode::push_field(out, name, value);
            }
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }
}

/// How many bytes of the body may go on as they are, without [`relay`]: its length was declared, and is declared to the
/// receiver, so that its framing is in no byte of it. `None`: it has to be framed anew. No more than that may be passed:
/// what follows belongs to another message.
pub fn unframed_left(decoder: &BodyDecoder, encoder: &BodyEncoder) -> Option<u64> {
    match (decoder.state, encoder.framing) {
        (State::Length(left), Framing::Length(_)) if left > 0 && encoder.left == left => Some(left),
        _ => None,
    }
}

/// `count` bytes of the body went on as they are. True: that was all of it.
///
/// # Panics
/// When [`unframed_left`] allowed less.
pub fn unframed_passed(decoder: &mut BodyDecoder, encoder: &mut BodyEncoder, count: u64) -> bool {
    let allowed = unframed_left(decoder, encoder).unwrap_or(0);
    let left = allowed.checked_sub(count).expect("no more is passed than was allowed");
    decoder.state = State::Length(left);
    encoder.left = left;
    left == 0
}

/// What [`relay`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// Bytes of the input that were used.
    pub consumed: usize,
    /// How many of them are body: without the frames of chunks, and without trailers.
    pub body_bytes: usize,
    /// The body is over and its end is written. Nothing more is used of the input.
    pub ended: bool,
}

/// Decodes a body from `input` and writes it in its new framing to `out`, as long as `out` has less than
/// `out_bytes_max` bytes (it may end up a few bytes above, for a chunk's frame or the trailers). Using less than all
/// of the input without `ended` means: `out` has to be written first.
pub fn relay(
    decoder: &mut BodyDecoder,
    encoder: &mut BodyEncoder,
    input: &[u8],
    out: &mut Vec<u8>,
    out_bytes_max: usize,
) -> Result<Relayed, Reject> {
    const MISMATCH: Reject = Reject::bad("body differs from its declared length");
    // Framing anew never adds more than it takes away, but for one chunk's frame: so this bounds the output.
    let input = &input[..input.len().min(out_bytes_max.saturating_sub(out.len()))];
    let (mut consumed, mut body_bytes) = (0, 0);
    loop {
        match decoder.next(input, &mut consumed)? {
            BodyEvent::Data(range) => {
                body_bytes += range.len();
                encoder.data(&input[range], out).map_err(|Truncated| MISMATCH)?;
            }
            BodyEvent::NeedMore => return Ok(Relayed { consumed, body_bytes, ended: false }),
            BodyEvent::End => {
                encoder.end(decoder.trailers(), out).map_err(|Truncated| MISMATCH)?;
                return Ok(Relayed { consumed, body_bytes, ended: true });
            }
        }
    }
}
