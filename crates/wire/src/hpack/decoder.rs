//! From field blocks to lists.

use super::list::{FieldList, ListLimits};
use super::names::Checked;
use super::table::{LINE_OVERHEAD, Line, Table};
use super::{
    CompressionError, ENTRY_OVERHEAD, EXCESSIVE, TABLE_BYTES_CEILING, error, huffman, integer, statics,
};

/// The decoding half of a connection. Every block of the connection has to pass, also those of streams that nobody
/// wants any more: each changes the table that the next needs.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// SETTINGS_HEADER_TABLE_SIZE as the peer acknowledged it.
    limit: usize,
    /// The limit went below the table's size: the next block has to say so first (RFC 7541, 4.2).
    must_shrink: bool,
}

/// Of fields behind a limit: enough for one that says what sort of request it is.
const LOOKED_AT_BYTES: usize = 64;

/// Until something else is acknowledged (RFC 9113, 6.5.2).
const TABLE_SIZE_INITIAL: usize = 4096;

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Table::new(TABLE_SIZE_INITIAL), limit: TABLE_SIZE_INITIAL, must_shrink: false }
    }
}

impl Decoder {
    /// The peer acknowledged this SETTINGS_HEADER_TABLE_SIZE.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(TABLE_BYTES_CEILING);
        self.must_shrink |= self.limit < self.table.size_max();
    }

    #[cfg(test)]
    pub(super) const fn table_size(&self) -> usize {
        self.table.size()
    }

    /// Decodes a whole block. What `list` held is gone. Malformed fields and lists beyond `limits` are told in the
    /// list; the table is right afterwards.
    ///
    /// # Errors
    /// The connection cannot go on: the block is malformed, or unpacks to many times what `limits` allow.
    pub fn decode(
        &mut self,
        block: &[u8],
        limits: &ListLimits,
        list: &mut FieldList,
    ) -> Result<(), CompressionError> {
        list.clear();
        let mut at = 0;
        self.size_updates(block, &mut at)?;
        while let Some(&first) = block.get(at) {
            if first & 0x80 != 0 {
                let index = integer::decode(block, &mut at, 7)?;
                let line = self.line(index)?;
                list.push(line, limits);
            } else if first & 0x40 != 0 {
                self.literal(block, &mut at, 6, limits, list)?;
            } else if first & 0x20 != 0 {
                return Err(error("size update behind a field"));
            } else {
                self.literal(block, &mut at, 4, limits, list)?;
            }
            if list.is_too_large && list.is_excessive(limits) {
                return Err(EXCESSIVE);
            }
        }
        list.finish();
        Ok(())
    }

    fn size_updates(&mut self, block: &[u8], at: &mut usize) -> Result<(), CompressionError> {
        let mut count = 0;
        while block.get(*at).is_some_and(|first| first & 0xe0 == 0x20) {
            let size = integer::decode(block, at, 5)?;
            count += 1;
            if size > self.limit || count > 2 {
                return Err(error("size update over the limit"));
            }
            self.table.resize(size);
            self.must_shrink = false;
        }
        if self.must_shrink && self.table.size_max() > self.limit {
            return Err(error("size update missing"));
        }
        Ok(())
    }

    fn line(&self, index: usize) -> Result<Line<'_>, CompressionError> {
        if index <= statics::COUNT { statics::get(index) } else { self.table.get(index - statics::COUNT - 1) }
            .ok_or(error("index of no entry"))
    }

    /// A literal is written to the end of the list's bytes as the line that it becomes in list and table. `prefix`: bits
    /// of the name's index; six of them say that the field enters the table.
    fn literal(
        &mut self,
        block: &[u8],
        at: &mut usize,
        prefix: u32,
        limits: &ListLimits,
        list: &mut FieldList,
    ) -> Result<(), CompressionError> {
        let is_indexing = prefix == 6;
        let never_indexed = !is_indexing && block[*at] & 0x10 != 0;
        let start = list.bytes.len();
        // What fits neither the list nor the table is never stored; what is short is looked at.
        let table_room = if is_indexing { self.table.size_max().saturating_sub(ENTRY_OVERHEAD) } else { 0 };
        let room = list.room(limits).max(table_room).max(LOOKED_AT_BYTES);
        let index = integer::decode(block, at, prefix)?;
        let is_name_whole = if index == 0 {
            string(block, at, room, &mut list.bytes)?
        } else {
            let name = self.line(index)?.name();
            list.bytes.extend_from_slice(&name[..name.len().min(room)]);
            name.len() <= room
        };
        let name_len = list.bytes.len() - start;
        list.bytes.extend_from_slice(b": ");
        let is_whole = string(block, at, room - name_len.min(room), &mut list.bytes)? && is_name_whole;
        if !is_whole {
            list.bytes.truncate(start);
            list.is_too_large = true;
            if is_indexing {
                self.table.clear();
            }
            return Ok(());
        }
        list.bytes.extend_from_slice(b"\r\n");
        let bytes = &list.bytes[start..];
        debug_assert!(bytes.len() >= name_len + LINE_OVERHEAD);
        let checked = Checked::of(&bytes[..name_len], &bytes[name_len + 2..bytes.len() - 2]);
        if is_indexing {
            self.table.insert(Line { bytes, name_len, checked });
        }
        list.accept(start, name_len, checked, never_indexed, limits);
        Ok(())
    }
}

/// Appends a string; false when it has more than `bytes_max` bytes, of which then none or some are appended.
fn string(
    block: &[u8],
    at: &mut usize,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<bool, CompressionError> {
    const TRUNCATED: CompressionError = error("block ends within a string");
    let is_huffman = block.get(*at).ok_or(TRUNCATED)? & 0x80 != 0;
    let length = integer::decode(block, at, 7)?;
    let bytes = block.get(*at..*at + length).ok_or(TRUNCATED)?;
    *at += length;
    if is_huffman {
        return huffman::decode(bytes, bytes_max, out);
    }
    if length > bytes_max {
        return Ok(false);
    }
    out.extend_from_slice(bytes);
    Ok(true)
}
