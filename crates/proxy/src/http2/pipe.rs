//! One direction of an exchange: what one connection has received and the other has not taken yet. The windows of the
//! one who sends bound it, as they are opened only for what was passed on.

use sinew_transport::bulk::Held;
use sinew_wire::h2::SendError;

use super::end::Sink;
use crate::connection::Output;

/// What was sent is moved out of the way when it is so much.
const COMPACT_BYTES: usize = 32 * 1024;

#[derive(Default)]
pub struct Pipe {
    bytes: Output,
    held: Held,
    sent: usize,
    /// What was sent stays, as it may be sent once more.
    keeps: bool,
    /// Nothing more comes.
    is_ended: bool,
    trailers: Option<Trailers>,
    /// The end has been passed on.
    is_done: bool,
    /// Nobody wants the rest.
    is_discarded: bool,
}

/// Names and values, only of trailers that have to wait.
type Trailers = Vec<(Vec<u8>, Vec<u8>)>;

impl Pipe {
    pub fn keeping() -> Self {
        Self { keeps: true, ..Self::default() }
    }

    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// The end is known, and nothing is left to be sent before it.
    pub fn is_empty_at_end(&self) -> bool {
        self.is_ended && self.unsent() == 0 && self.trailers.is_none()
    }

    pub fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    pub fn all_sent(&self) -> bool {
        self.unsent() == 0
    }

    pub fn unsent(&self) -> usize {
        self.bytes.0.len() - self.sent
    }

    /// All that came so far is still here.
    pub fn is_kept(&self) -> bool {
        self.keeps
    }

    /// What is held, sent or not.
    pub fn len(&self) -> usize {
        self.bytes.0.len()
    }

    pub fn push(&mut self, data: &[u8], end: bool) {
        self.is_ended |= end;
        if data.is_empty() || self.is_discarded {
            return;
        }
        if self.bytes.0.capacity() == 0 {
            self.bytes = Output::new();
        }
        self.bytes.0.extend_from_slice(data);
        self.held.set(self.bytes.0.len());
    }

    pub fn end_with<'a>(&mut self, trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        self.is_ended = true;
        self.trailers = Some(trailers.map(|(name, value)| (name.to_vec(), value.to_vec())).collect());
    }

    /// The same, for trailers that can go at once, as far as they can.
    pub fn pass_trailers<'a>(
        &mut self,
        trailers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        to: &mut Sink<'_>,
    ) -> Result<usize, SendError> {
        if self.keeps || self.unsent() > 0 {
            self.end_with(trailers);
            return self.pump(to);
        }
        self.is_ended = true;
        if !self.is_discarded {
            to.trailers(trailers)?;
            self.is_done = true;
        }
        Ok(0)
    }

    /// The head that was sent had the end with it.
    pub fn done(&mut self) {
        (self.is_ended, self.is_done) = (true, true);
    }

    /// What was sent need not be kept any longer.
    pub fn keep_no_more(&mut self) {
        self.keeps = false;
        self.compact();
    }

    /// Begins anew, for another upstream.
    pub fn rewind(&mut self) {
        (self.sent, self.is_done) = (0, false);
    }

    /// Nobody takes the rest; says how much that is, and takes what comes later as well.
    pub fn discard(&mut self) -> usize {
        let left = self.unsent();
        self.bytes = Output::default();
        self.held.set(0);
        (self.sent, self.keeps, self.is_discarded) = (0, false, true);
        left
    }

    /// Like [`Pipe::push`] and [`Pipe::pump`], but what can go at once is not copied.
    pub fn pass(&mut self, data: &[u8], end: bool, to: &mut Sink<'_>) -> Result<usize, SendError> {
        if self.keeps || self.unsent() > 0 {
            self.push(data, end);
            return self.pump(to);
        }
        if self.is_discarded {
            self.is_ended |= end;
            return Ok(data.len());
        }
        let count = to.data(data, end)?;
        self.push(&data[count..], end);
        self.is_done = end && count == data.len();
        Ok(count)
    }

    /// Sends what the other end takes, and says how much of the body that was.
    pub fn pump(&mut self, to: &mut Sink<'_>) -> Result<usize, SendError> {
        if self.is_done || self.is_discarded {
            return Ok(0);
        }
        let rest = &self.bytes.0[self.sent..];
        let ends = self.is_ended && self.trailers.is_none();
        let mut count = 0;
        if ends || !rest.is_empty() {
            count = to.data(rest, ends)?;
        }
        let is_all = count == rest.len();
        self.sent += count;
        if is_all && let Some(trailers) = &self.trailers {
            to.trailers(trailers.iter().map(|(name, value)| (&name[..], &value[..])))?;
        }
        self.is_done = is_all && self.is_ended;
        self.compact();
        Ok(count)
    }

    fn compact(&mut self) {
        if self.keeps {
            return;
        }
        if self.sent == self.bytes.0.len() {
            self.bytes.0.clear();
            self.sent = 0;
        } else if self.sent >= COMPACT_BYTES {
            self.bytes.0.drain(..self.sent);
            self.sent = 0;
        }
        self.held.set(self.bytes.0.len());
    }
}
