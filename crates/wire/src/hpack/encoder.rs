//! From fields to field blocks.
//!
//! A field enters the table when it is seen for the second time: what never comes again (request ids, lengths, trace
//! contexts) neither costs a Huffman coding nor drives out what does. From then on it is a byte or two.

use super::names::{Checked, Name, is_sensitive};
use super::table::{Line, Table};
use super::{ENTRY_OVERHEAD, TABLE_BYTES_CEILING, huffman, integer, statics};
use crate::head::{FieldKind, Method};

/// Places of the index over the table; a field whose place is taken is only coded worse.
const PLACES: usize = 256;

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Number of the entry in the table, as [`Table::age_of`] takes it.
    number: u32,
    /// Of the field that was last seen here without being in the table; 0 for none.
    candidate: u32,
}

/// The encoding half of a connection.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// Ours: what the table may have at most, whatever the peer allows.
    table_bytes_max: usize,
    /// Sizes to be told at the start of the next block: the smallest since the last block, and the one that holds.
    updates: Option<(usize, usize)>,
    /// Empty until the first field that could enter the table.
    places: Vec<Place>,
    line: Vec<u8>,
}

impl Encoder {
    /// `table_bytes_max` as RFC 7541, 4.1 counts; at most [`TABLE_BYTES_CEILING`]. The peer may ask for less.
    pub fn new(table_bytes_max: usize) -> Self {
        const INITIAL: usize = 4096;
        let size = table_bytes_max.min(INITIAL);
        Self {
            table: Table::new(size),
            table_bytes_max: table_bytes_max.min(TABLE_BYTES_CEILING),
            updates: (size < INITIAL).then_some((size, size)),
            places: Vec::new(),
            line: Vec::new(),
        }
    }

    /// SETTINGS_HEADER_TABLE_SIZE of the peer.
    pub fn set_limit(&mut self, limit: usize) {
        let size = limit.min(self.table_bytes_max);
        if size == self.table.size_max() && self.updates.is_none() {
            return;
        }
        let smallest = self.updates.map_or(size, |(smallest, _)| smallest.min(size));
        self.updates = Some((smallest, size));
        self.table.resize(size);
    }

    #[cfg(test)]
    pub(super) const fn table_size(&self) -> usize {
        self.table.size()
    }

    /// Before the first field of a block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, last)) = self.updates.take() {
            if smallest < last {
                integer::encode(0x20, 5, smallest, out);
            }
            integer::encode(0x20, 5, last, out);
        }
    }

    pub fn method(&mut self, method: Method, name: &[u8], out: &mut Vec<u8>) {
        match method {
            Method::Get => out.push(0x82),
            Method::Post => out.push(0x83),
            _ => self.field(b":method", name, false, out),
        }
    }

    pub fn scheme(&mut self, is_https: bool, out: &mut Vec<u8>) {
        out.push(if is_https { 0x87 } else { 0x86 });
    }

    /// `status` has three digits.
    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        match statics::index_of_status(status) {
            Some(index) => out.push(0x80 | index as u8),
            None => {
                let digits =
                    [status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
                self.field(b":status", &digits, false, out);
            }
        }
    }

    /// `name` in lower case. `never_indexed`: no table on the way may hold it, beside those fields that this encoder
    /// knows as such.
    pub fn field(&mut self, name: &[u8], value: &[u8], never_indexed: bool, out: &mut Vec<u8>) {
        let hash = hash(name, value);
        let at = hash as usize % PLACES;
        if !never_indexed
            && let Some(place) = self.places.get(at)
            && let Some(age) = self.table.age_of(place.number)
            && let Some(line) = self.table.get(age)
            && line.name() == name
            && line.value() == value
        {
            return integer::encode(0x80, 7, statics::COUNT + 1 + age, out);
        }
        let index = statics::index_of_name(name);
        if never_indexed || is_sensitive(name) {
            return literal(0x10, 4, index, name, value, false, out);
        }
        if let (Some(index), Some(true)) = (index, index.map(|index| has_value(index, value))) {
            return integer::encode(0x80, 7, index, out);
        }
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        if size > self.table.size_max() / 2 {
            return literal(0, 4, index, name, value, false, out);
        }
        if self.places.is_empty() {
            self.places.resize(PLACES, Place { number: self.table.inserted(), candidate: 0 });
        }
        let candidate = (hash >> 32) as u32 | 1;
        let place = &mut self.places[at];
        if place.candidate != candidate {
            place.candidate = candidate;
            return literal(0, 4, index, name, value, false, out);
        }
        place.number = self.table.inserted();
        self.insert(name, value);
        literal(0x40, 6, index, name, value, true, out);
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.line.clear();
        self.line.extend_from_slice(name);
        self.line.extend_from_slice(b": ");
        self.line.extend_from_slice(value);
        self.line.extend_from_slice(b"\r\n");
        // Nobody asks the encoder's table what a field is.
        let checked = Checked { name: Name::Field(FieldKind::EndToEnd), is_value_fit: true };
        self.table.insert(Line { bytes: &self.line, name_len: name.len(), checked });
    }
}

/// The static entries with a value that are not written by a function of their own.
fn has_value(index: usize, value: &[u8]) -> bool {
    const ACCEPT_ENCODING: usize = 16;
    const PATH: usize = 4;
    matches!((index, value), (PATH, b"/") | (ACCEPT_ENCODING, b"gzip, deflate"))
}

fn literal(
    first: u8,
    prefix: u32,
    index: Option<usize>,
    name: &[u8],
    value: &[u8],
    is_lasting: bool,
    out: &mut Vec<u8>,
) {
    integer::encode(first, prefix, index.unwrap_or(0), out);
    if index.is_none() {
        string(name, is_lasting, out);
    }
    string(value, is_lasting, out);
}

/// Coded where that is paid once: what goes into the table.
fn string(bytes: &[u8], is_lasting: bool, out: &mut Vec<u8>) {
    let coded = if is_lasting { huffman::encoded_len(bytes) } else { usize::MAX };
    if coded < bytes.len() {
        integer::encode(0x80, 7, coded, out);
        huffman::encode(bytes, out);
    } else {
        integer::encode(0, 7, bytes.len(), out);
        out.extend_from_slice(bytes);
    }
}

/// Eight bytes at a time. Nobody gains by collisions: a place is taken by one field, whoever chose it.
fn hash(name: &[u8], value: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    let mut hash = (name.len() as u64) << 32 | value.len() as u64;
    for bytes in [name, value] {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            hash = mix(hash, u64::from_le_bytes(*word));
        }
        // The last eight bytes once more cost less than the copy of a few.
        let last = match bytes.last_chunk::<8>() {
            _ if rest.is_empty() => continue,
            Some(last) => u64::from_le_bytes(*last),
            None => rest.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        hash = mix(hash, last);
    }
    hash ^ hash >> 29
}
