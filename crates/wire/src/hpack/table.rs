//! The dynamic table (RFC 7541, 2.3.2): lines behind one another in one buffer, the oldest first.

use std::collections::VecDeque;

use super::ENTRY_OVERHEAD;
use super::names::Checked;

/// `name: value` CR LF, as it stands in a decoded list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub bytes: &'a [u8],
    pub name_len: usize,
    pub checked: Checked,
}

/// What a line has beside name and value.
pub(super) const LINE_OVERHEAD: usize = 4;

impl<'a> Line<'a> {
    pub(super) fn name(&self) -> &'a [u8] {
        &self.bytes[..self.name_len]
    }

    pub(super) fn value(&self) -> &'a [u8] {
        &self.bytes[self.name_len + 2..self.bytes.len() - 2]
    }

    /// As RFC 7541, 4.1 counts it.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() - LINE_OVERHEAD + ENTRY_OVERHEAD
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    len: u32,
    name_len: u32,
    checked: Checked,
}

/// Holds no memory before its first entry.
#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
    /// Entries ever inserted.
    inserted: u32,
}

impl Table {
    pub(super) const fn new(size_max: usize) -> Self {
        Self { bytes: Vec::new(), entries: VecDeque::new(), size: 0, size_max, inserted: 0 }
    }

    pub(super) const fn size_max(&self) -> usize {
        self.size_max
    }

    #[cfg(test)]
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// How many entries were inserted so far; wraps around. The one inserted when this was `n` is found again by
    /// [`Table::age_of`].
    pub(super) const fn inserted(&self) -> u32 {
        self.inserted
    }

    /// Entry by age: 0 is the newest.
    pub(super) fn get(&self, age: usize) -> Option<Line<'_>> {
        let entry = self.entries.get(self.entries.len().checked_sub(age + 1)?)?;
        let bytes = &self.bytes[entry.start as usize..(entry.start + entry.len) as usize];
        Some(Line { bytes, name_len: entry.name_len as usize, checked: entry.checked })
    }

    /// The age of the entry that was inserted as number `number`, if it is still there.
    pub(super) fn age_of(&self, number: u32) -> Option<usize> {
        let age = self.inserted.wrapping_sub(number).wrapping_sub(1) as usize;
        (age < self.entries.len()).then_some(age)
    }

    pub(super) fn insert(&mut self, line: Line<'_>) {
        let size = line.size();
        self.evict(self.size_max.saturating_sub(size));
        if size > self.size_max {
            return;
        }
        self.make_room(line.bytes.len());
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(line.bytes);
        self.entries.push_back(Entry {
            start,
            len: line.bytes.len() as u32,
            name_len: line.name_len as u32,
            checked: line.checked,
        });
        self.size += size;
        self.inserted = self.inserted.wrapping_add(1);
    }

    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict(size_max);
    }

    pub(super) fn clear(&mut self) {
        self.evict(0);
    }

    /// Removes the oldest until at most `size` is left.
    fn evict(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_front() else { break };
            self.size -= entry.len as usize - LINE_OVERHEAD + ENTRY_OVERHEAD;
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    /// Moves what is live to the front of the buffer when that frees a third of it, so that a byte is moved twice at
    /// most in the mean; else lets the buffer grow. It ends up below three times the table's size.
    fn make_room(&mut self, needed: usize) {
        let dead = self.entries.front().map_or(0, |entry| entry.start as usize);
        if self.bytes.len() + needed <= self.bytes.capacity() || dead < self.bytes.capacity() / 3 {
            return;
        }
        self.bytes.copy_within(dead.., 0);
        self.bytes.truncate(self.bytes.len() - dead);
        for entry in &mut self.entries {
            entry.start -= dead as u32;
        }
    }
}
