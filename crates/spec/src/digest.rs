//! The digest of something that must not change: `sha256:` and 64 hexadecimal digits.

use std::fmt;

use serde::{Deserialize, Serialize};

/// SHA-256, as OCI writes it (image-spec, "Descriptors"): `sha256:0a1b…`, lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not `sha256:` and 64 hexadecimal digits in lower case")]
pub struct DigestError;

const PREFIX: &str = "sha256:";
const HEX_DIGITS: usize = 64;
/// As many digits as people compare.
const SHORT_DIGITS: usize = 12;

impl Digest {
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let hex = text.strip_prefix(PREFIX).ok_or(DigestError)?;
        Self::from_hex(hex)
    }

    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != HEX_DIGITS || !hex.bytes().all(lower) {
            return Err(DigestError);
        }
        Ok(Self(format!("{PREFIX}{hex}")))
    }

    /// Of the 32 bytes that a SHA-256 has.
    pub fn of_bytes(bytes: &[u8; 32]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{PREFIX}{hex}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// For people: the first digits.
    pub fn short(&self) -> &str {
        &self.hex()[..SHORT_DIGITS]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}
