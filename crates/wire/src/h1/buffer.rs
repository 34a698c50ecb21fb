//! Bytes that were read and not yet consumed.

/// Grows from 4 KiB to its limit as reads fill it, and gives its memory back when it is empty, so that an idle
/// connection holds none.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
    /// The last read filled all the room there was: the sender has more, so offer more.
    eager: bool,
}

const FIRST: usize = 4 * 1024;

impl Buffer {
    /// `limit` in bytes; holds no memory yet.
    pub const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, limit, eager: false }
    }

    /// What is there to be read.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The limit is reached: nothing can be read before something is consumed.
    pub fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// Bytes of memory held.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Room to read into; empty only when [`Buffer::is_full`]. Moves what is there to the front when little room is
    /// left, grows when the last read left none.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes.resize(FIRST.min(self.limit), 0);
        }
        let held = self.len();
        if self.start > 0 && (held == 0 || self.bytes.len() - self.end < self.bytes.len() / 4) {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, held);
        }
        if self.bytes.len() < self.limit && (self.end == self.bytes.len() || self.eager) {
            let size = (self.bytes.len() * 2).min(self.limit);
            self.bytes.reserve_exact(size - self.bytes.len());
            self.bytes.resize(size, 0);
            self.eager = false;
        }
        &mut self.bytes[self.end..]
    }

    /// `count` bytes were read into what [`Buffer::spare`] gave.
    ///
    /// # Panics
    /// When there was no room for so many.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.end, "more was read than there was room for");
        self.end += count;
        self.eager = count > 0 && self.end == self.bytes.len();
    }

    /// Appends as much of `input` as the limit allows, and says how much that was.
    pub fn extend(&mut self, input: &[u8]) -> usize {
        let mut taken = 0;
        while taken < input.len() {
            let room = self.spare();
            let count = room.len().min(input.len() - taken);
            if count == 0 {
                break;
            }
            room[..count].copy_from_slice(&input[taken..taken + count]);
            self.filled(count);
            taken += count;
        }
        taken
    }

    /// The first `count` bytes were used.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "more was consumed than was there");
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the memory back if nothing is in it. Call before waiting for the next message.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Self::new(self.limit);
        }
    }

    /// Like [`Buffer::release`], but keeps the memory in `pool` for the next buffer that needs some.
    pub fn release_to(&mut self, pool: &mut BufferPool) {
        if self.is_empty() {
            pool.give(std::mem::take(&mut self.bytes));
            *self = Self::new(self.limit);
        }
    }

    /// Takes memory from `pool` if it holds none and some is there. Call before [`Buffer::spare`].
    pub fn acquire_from(&mut self, pool: &mut BufferPool) {
        if self.bytes.is_empty() && self.limit >= FIRST {
            self.bytes = pool.free.pop().unwrap_or_default();
        }
    }
}

/// Memory of released buffers of one worker: a busy worker reads into the same few pages all the time.
#[derive(Debug)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
    count_max: usize,
}

impl BufferPool {
    /// Keeps at most `count_max` pieces of 4 KiB; others are freed.
    pub const fn new(count_max: usize) -> Self {
        Self { free: Vec::new(), count_max }
    }

    fn give(&mut self, bytes: Vec<u8>) {
        if bytes.len() == FIRST && self.free.len() < self.count_max {
            self.free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
