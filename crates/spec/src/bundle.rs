//! What a bundle says of itself: an application, its images and the checksum of every byte of both
//! (`docs/air-gapped.md` describes the whole file).

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::ApplicationName;

#[cfg(test)]
mod tests;

pub const FORMAT: &str = "sinew-bundle";
pub const VERSION: u32 = 1;
/// Files and images together.
pub const MEMBERS_MAX: usize = 10_000;
/// The last members: the manifest, its checksum as `sha256sum` writes it, and its signature where there is one.
pub const MANIFEST: &str = "manifest.json";
pub const CHECKSUM: &str = "manifest.sha256";
pub const SIGNATURE: &str = "manifest.sig";
/// Of `manifest.json`: a member takes some 200.
pub const MANIFEST_BYTES_MAX: u64 = 8 * 1024 * 1024;

const FILES: &str = "files/";
const IMAGES: &str = "images/";

/// `manifest.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`]
    pub format: String,
    /// [`VERSION`]
    pub version: u32,
    pub application: ApplicationName,
    /// RFC 3339, in UTC.
    pub created: String,
    /// The compose files in the order of `-f`, below `files/`.
    pub compose: Vec<String>,
    /// Everything before the manifest, in the order of the file.
    pub members: Vec<Member>,
    pub images: Vec<BundledImage>,
    /// What the application reads and the bundle does not hold (secrets), relative to the project folder.
    pub left_out: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub path: MemberPath,
    pub size: u64,
    pub sha256: Digest,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledImage {
    /// As the compose file says it: what the image is called again where the bundle is loaded.
    pub references: Vec<String>,
    pub platform: String,
    pub id: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Where a member lies: `files/config/app.toml`, `images/<id>.tar`. Relative, normal, and of a length that every tar
/// knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MemberPath(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberPathError {
    #[error("the path is empty")]
    Empty,
    #[error("the path is absolute")]
    Absolute,
    #[error("the path leaves its folder or is not in its shortest form")]
    NotNormal,
    #[error("the path holds control characters")]
    Control,
    #[error("the path is too long: 100 bytes for the last part, 155 for the folders before it")]
    Long,
}

impl MemberPath {
    pub fn parse(path: &str) -> Result<Self, MemberPathError> {
        if path.is_empty() {
            return Err(MemberPathError::Empty);
        }
        if path.starts_with('/') {
            return Err(MemberPathError::Absolute);
        }
        if path.chars().any(char::is_control) {
            return Err(MemberPathError::Control);
        }
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(MemberPathError::NotNormal);
        }
        let path = Self(path.to_owned());
        path.split_for_header().ok_or(MemberPathError::Long)?;
        Ok(path)
    }

    /// Of a file of the application; `path` is relative to the project folder.
    pub fn of_file(path: &str) -> Result<Self, MemberPathError> {
        // The file's own path is to be told what is wrong with it, not the path below `files/`.
        if path.starts_with('/') {
            return Err(MemberPathError::Absolute);
        }
        Self::parse(&format!("{FILES}{path}"))
    }

    pub fn of_image(id: &Digest) -> Self {
        Self(format!("{IMAGES}{}.tar", id.hex()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Relative to the project folder; `None`: it is no file of the application.
    pub fn file(&self) -> Option<&str> {
        self.0.strip_prefix(FILES)
    }

    /// Prefix and name as POSIX.1-1988 tar has them: at most 155 and 100 bytes, the `/` between them left out.
    pub fn split_for_header(&self) -> Option<(&str, &str)> {
        const PREFIX_MAX: usize = 155;
        const NAME_MAX: usize = 100;
        if self.0.len() <= NAME_MAX {
            return Some(("", &self.0));
        }
        let slashes = self.0.match_indices('/').map(|(at, _)| at);
        let mut splits = slashes.map(|at| (&self.0[..at], &self.0[at + 1..]));
        splits.find(|(prefix, name)| prefix.len() <= PREFIX_MAX && name.len() <= NAME_MAX)
    }
}

impl std::fmt::Display for MemberPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for MemberPath {
    type Error = MemberPathError;

    fn try_from(path: String) -> Result<Self, MemberPathError> {
        Self::parse(&path)
    }
}

impl From<MemberPath> for String {
    fn from(path: MemberPath) -> Self {
        path.0
    }
}
