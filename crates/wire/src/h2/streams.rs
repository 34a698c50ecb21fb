//! The streams of a connection: one flat table, no allocation for a stream.

use super::StreamKey;

/// How far one direction of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The (final) head has not passed.
    Head,
    Body,
    Closed,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// 0: the slot is free.
    pub id: u32,
    pub recv: Side,
    pub send: Side,
    /// Below zero after the peer has shrunk its initial window.
    pub send_window: i64,
    /// What the peer may still send.
    pub recv_window: i64,
    /// What the peer may send before the consumer has taken any of it: `recv_window`, `taken` and `held` together, and
    /// what is on its way between them.
    pub window: u32,
    /// Taken by the consumer, and not yet told to the peer.
    pub taken: u32,
    /// Handed out, and not yet taken by the consumer.
    pub held: u32,
    /// Of the body that is received: what was declared, else what is allowed.
    pub recv_left: u64,
    pub is_recv_declared: bool,
    /// Of the body that is sent: what was declared; `u64::MAX` if nothing was.
    pub send_left: u64,
    pub interim: u8,
    /// Of the request.
    pub is_head: bool,
    pub is_connect: bool,
    /// The caller has more to send than was taken.
    pub wants: bool,
    /// Stands in `Connection::ready`.
    pub is_queued: bool,
}

impl Stream {
    pub(super) const fn is_closed(&self) -> bool {
        matches!((self.recv, self.send), (Side::Closed, Side::Closed))
    }

    /// Opens the window by what the consumer has taken, once that is half of it, and says how much the peer is to be told.
    /// One that took all that came gets twice as much, up to `most`; one that is wider than `first` and may not be is not
    /// opened before it is as wide.
    pub(super) fn opened_by(&mut self, first: u32, most: u32, is_wide: bool) -> Option<u32> {
        if self.taken == 0 || self.taken < self.window / 2 {
            return None;
        }
        let mut increment = self.taken;
        self.taken = 0;
        if !is_wide {
            let excess = self.window.saturating_sub(first).min(increment);
            (self.window, increment) = (self.window - excess, increment - excess);
        } else if self.held == 0 && self.window < most {
            let growth = self.window.min(most - self.window);
            (self.window, increment) = (self.window + growth, increment + growth);
        }
        self.recv_window += i64::from(increment);
        (increment > 0).then_some(increment)
    }
}

/// Slots, and an index from identifiers to them: open addressing. Identifiers follow each other, so they are spread:
/// streams that end would have to close up a long row otherwise.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Stream>,
    free: Vec<u32>,
    /// Slot + 1, or 0. A power of two, at least twice as many as streams.
    index: Vec<u32>,
    /// Slots in use.
    len: usize,
}

const INDEX_MIN: usize = 16;

impl Streams {
    /// Slots in use, also by streams that are over but for bytes that the consumer has not taken.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn find(&self, id: u32) -> Option<StreamKey> {
        let mask = self.index.len().checked_sub(1)?;
        let mut at = home(id) & mask;
        loop {
            let slot = self.index[at].checked_sub(1)?;
            if self.slots[slot as usize].id == id {
                return Some(StreamKey { id, slot });
            }
            at = (at + 1) & mask;
        }
    }

    pub(super) fn get(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.slots.get_mut(key.slot as usize).filter(|stream| stream.id == key.id && key.id != 0)
    }

    /// The stream in use with the lowest slot from `slot` on.
    pub(super) fn next_from(&self, slot: u32) -> Option<StreamKey> {
        let rest = self.slots.get(slot as usize..)?;
        let at = rest.iter().position(|stream| stream.id != 0)?;
        Some(StreamKey { id: rest[at].id, slot: slot + at as u32 })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().filter(|stream| stream.id != 0)
    }

    pub(super) fn insert(&mut self, stream: Stream) -> StreamKey {
        if self.index.len() < (self.len + 1) * 2 {
            self.grow();
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = stream;
                slot
            }
            None => {
                self.slots.push(stream);
                self.slots.len() as u32 - 1
            }
        };
        self.len += 1;
        self.enter(stream.id, slot);
        StreamKey { id: stream.id, slot }
    }

    fn grow(&mut self) {
        let size = (self.index.len() * 2).max(INDEX_MIN);
        self.index.clear();
        self.index.resize(size, 0);
        for slot in 0..self.slots.len() {
            let id = self.slots[slot].id;
            if id != 0 {
                self.enter(id, slot as u32);
            }
        }
    }

    fn enter(&mut self, id: u32, slot: u32) {
        let mask = self.index.len() - 1;
        let mut at = home(id) & mask;
        while self.index[at] != 0 {
            at = (at + 1) & mask;
        }
        self.index[at] = slot + 1;
    }

    pub(super) fn remove(&mut self, key: StreamKey) {
        if self.get(key).is_none() {
            return;
        }
        let mask = self.index.len() - 1;
        let mut hole = home(key.id) & mask;
        while self.index[hole] != key.slot + 1 {
            hole = (hole + 1) & mask;
        }
        // Those behind the hole that a search would no longer reach move into it.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(slot) = self.index[at].checked_sub(1) else { break };
            let home = home(self.slots[slot as usize].id) & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.index[hole] = self.index[at];
                hole = at;
            }
        }
        self.index[hole] = 0;
        self.slots[key.slot as usize].id = 0;
        self.free.push(key.slot);
        self.len -= 1;
    }
}

const fn home(id: u32) -> usize {
    const FACTOR: u32 = 0x9e37_79b9;
    ((id >> 1).wrapping_mul(FACTOR) >> 12) as usize
}

/// Why a stream is over that a frame still came for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Reset by us: the peer may not have known.
    ByUs,
    ByPeer,
}

/// The streams that ended last.
#[derive(Debug, Default)]
pub(super) struct Past {
    ids: Vec<u32>,
    next: usize,
}

const PAST_MAX: usize = 128;
const BY_US: u32 = 1 << 31;

impl Past {
    pub(super) fn note(&mut self, id: u32, ended: Ended) {
        let entry = if ended == Ended::ByUs { id | BY_US } else { id };
        if self.ids.len() < PAST_MAX {
            self.ids.push(entry);
        } else {
            self.ids[self.next] = entry;
            self.next = (self.next + 1) % PAST_MAX;
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<Ended> {
        let entry = self.ids.iter().find(|&&entry| entry & !BY_US == id)?;
        Some(if entry & BY_US != 0 { Ended::ByUs } else { Ended::ByPeer })
    }
}

#[cfg(test)]
mod tests;
