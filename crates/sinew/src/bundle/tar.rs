//! The one form of tar (POSIX.1-1988, "ustar") that a bundle has: regular files, nothing about owners and times. What
//! is read must be byte for byte what would be written, so that nothing can hide in a header. Pure.

use sinew_spec::bundle::MemberPath;

#[cfg(test)]
mod tests;

pub const BLOCK: usize = 512;
/// Two blocks of zeroes end it.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

const NAME: usize = 0;
const MODE: usize = 100;
const OWNER: usize = 108;
const GROUP: usize = 116;
const SIZE: usize = 124;
const TIME: usize = 136;
const CHECKSUM: usize = 148;
const KIND: usize = 156;
const MAGIC: usize = 257;
const PREFIX: usize = 345;

const OCTAL_SIZE_MAX: u64 = 0o77_777_777_777;
/// GNU's extension for what 11 octal digits cannot say; every tar of today reads it.
const BINARY_SIZE: u8 = 0x80;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub path: MemberPath,
    pub size: u64,
    pub executable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("there is no header of a tar")]
    NoTar,
    #[error("`{0}` is a link; a bundle has none")]
    Link(String),
    #[error("`{0}` is neither a file nor a link; a bundle has files only")]
    Kind(String),
    #[error("`{path}`: {wrong}")]
    Path { path: String, wrong: String },
    #[error("the header of `{0}` is not as a bundle has it")]
    Unusual(String),
}

impl Header {
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let (prefix, name) = self.path.split_for_header().expect("a member path fits into a header");
        put(&mut block, NAME, name.as_bytes());
        put(&mut block, MODE, if self.executable { b"0000755\0" } else { b"0000644\0" });
        put(&mut block, OWNER, b"0000000\0");
        put(&mut block, GROUP, b"0000000\0");
        if self.size <= OCTAL_SIZE_MAX {
            put(&mut block, SIZE, format!("{:011o}\0", self.size).as_bytes());
        } else {
            block[SIZE] = BINARY_SIZE;
            put(&mut block, SIZE + 4, &self.size.to_be_bytes());
        }
        put(&mut block, TIME, b"00000000000\0");
        put(&mut block, CHECKSUM, b"        ");
        block[KIND] = b'0';
        put(&mut block, MAGIC, b"ustar\x0000");
        put(&mut block, PREFIX, prefix.as_bytes());
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut block, CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
        block
    }

    pub fn decode(block: &[u8; BLOCK]) -> Result<Self, HeaderError> {
        if &block[MAGIC..MAGIC + 6] != b"ustar\0" {
            return Err(HeaderError::NoTar);
        }
        let name = text(&block[NAME..MODE]);
        let prefix = text(&block[PREFIX..PREFIX + 155]);
        let shown = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        match block[KIND] {
            b'0' => {}
            b'1' | b'2' => return Err(HeaderError::Link(shown)),
            _ => return Err(HeaderError::Kind(shown)),
        }
        let path = MemberPath::parse(&shown)
            .map_err(|wrong| HeaderError::Path { path: shown.clone(), wrong: wrong.to_string() })?;
        let size = size(&block[SIZE..TIME]).ok_or_else(|| HeaderError::Unusual(shown.clone()))?;
        let header = Self { path, size, executable: &block[MODE..OWNER] == b"0000755\0" };
        if header.encode() != *block {
            return Err(HeaderError::Unusual(shown));
        }
        Ok(header)
    }
}

/// Zeroes that fill the last block of a content.
pub fn padding(size: u64) -> usize {
    let used = usize::try_from(size % BLOCK as u64).expect("less than a block");
    (BLOCK - used) % BLOCK
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// For messages: without what a terminal would obey.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end])
        .chars()
        .map(|letter| if letter.is_control() { '\u{fffd}' } else { letter })
        .collect()
}

fn size(field: &[u8]) -> Option<u64> {
    if field.first() == Some(&BINARY_SIZE) {
        return Some(u64::from_be_bytes(field[4..12].try_into().ok()?));
    }
    let digits = std::str::from_utf8(&field[..11]).ok()?;
    u64::from_str_radix(digits, 8).ok()
}
