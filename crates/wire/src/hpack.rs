//! HPACK (RFC 7541): field blocks of HTTP/2 into lists of fields, and back.
//!
//! A decoded list has the shape of an HTTP/1.1 head: lines `name: value` CR LF behind one another in one buffer, so
//! whoever forwards a head needs not know where it came from. Entries of tables are kept as such lines too: an indexed
//! field costs one copy, and was checked when it entered the table.

mod decoder;
mod encoder;
mod huffman;
mod integer;
mod list;
mod names;
mod statics;
mod table;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use list::{FieldList, ListLimits, Pseudo};

/// The block cannot be decoded, and so no later one of the connection: COMPRESSION_ERROR, but for [`EXCESSIVE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressionError {
    /// In words, for logs: a closed set.
    pub reason: &'static str,
}

const fn error(reason: &'static str) -> CompressionError {
    CompressionError { reason }
}

/// It could be, and unpacks to many times what is allowed: an attack.
pub const EXCESSIVE: CompressionError = error("field block unpacks to far more than is allowed");

/// What a table counts for an entry beside its name and value (RFC 7541, 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// More than any configuration may ask for: positions in a table are 32 bits wide.
pub const TABLE_BYTES_CEILING: usize = 1024 * 1024;

#[cfg(test)]
mod tests;
