//! Reads a bundle: everything is verified before anything of it is used. What is used later is verified once more while
//! it is read, so that a file that changes meanwhile gains nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use sinew_spec::bundle::{
    CHECKSUM, FORMAT, MANIFEST, MANIFEST_BYTES_MAX, MEMBERS_MAX, Manifest, Member, MemberPath, SIGNATURE,
    VERSION,
};
use sinew_spec::digest::Digest;

use super::sign::{SIGNATURE_BYTES, VerifyingKey};
use super::tar::{self, BLOCK, Header, HeaderError};
use super::write::{checksum_line, finished};

#[cfg(test)]
mod tests;

const PIECE: usize = 128 * 1024;
/// Manifest, checksum, signature.
const LAST_MEMBERS: usize = 3;
/// 64 digits, two spaces, `manifest.json` and the end of the line.
const CHECKSUM_BYTES: u64 = 80;

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("reading it: {0}")]
    Io(#[from] io::Error),
    #[error("it is no bundle: there is no header of a tar at its beginning")]
    NoBundle,
    #[error("it is cut off: {what} at byte {at}, where the file ends")]
    Truncated { what: String, at: u64 },
    #[error("at byte {at}: {wrong}")]
    Header { at: u64, wrong: HeaderError },
    #[error("at byte {at}: the space behind `{path}` is not empty")]
    Padding { path: String, at: u64 },
    #[error("there are more than {MEMBERS_MAX} files in it")]
    TooMany,
    #[error("its manifest has {size} bytes; {MANIFEST_BYTES_MAX} are the most")]
    ManifestSize { size: u64 },
    #[error("its manifest is not as it should be: {0}")]
    Manifest(String),
    #[error("it is of version {0}; this Sinew knows version {VERSION}")]
    Version(u64),
    #[error("`{0}` is in it, but not in its manifest")]
    Extra(String),
    #[error("`{0}` is in its manifest, but not in it")]
    Missing(String),
    #[error("`{path}` has {size} bytes, not {expected}")]
    Size { path: String, size: u64, expected: u64 },
    #[error("`{path}` was changed: its checksum is {found}, not {expected}")]
    Checksum { path: String, found: String, expected: String },
    #[error("at byte {at}: there is more behind its end")]
    Trailing { at: u64 },
    #[error("it is not signed")]
    Unsigned,
    #[error("its signature is not of the key {0}")]
    Signature(String),
}

/// A bundle in which every byte is as its manifest says.
#[derive(Debug)]
pub struct Checked {
    file: File,
    pub manifest: Manifest,
    /// As many as members: where their contents begin.
    starts: Vec<u64>,
    pub signed: Signed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    No,
    /// There is a signature; no key was given to check it.
    Unchecked,
    ByKey,
}

/// A member as it was found.
struct Found {
    header: Header,
    start: u64,
    sha256: Digest,
    /// Of the last members only.
    text: Vec<u8>,
}

/// Reads the whole file. `key`: whose signature it must have.
pub fn verify(path: &Path, key: Option<&VerifyingKey>) -> Result<Checked, BundleError> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(BundleError::Io(io::Error::other("it is no file")));
    }
    let mut found = walk(&file)?;
    let signature = found.pop_if(|last| last.header.path.as_str() == SIGNATURE);
    let mut last = |name: &str| {
        let found = found.pop_if(|last| last.header.path.as_str() == name);
        found.ok_or_else(|| BundleError::Missing(name.to_owned()))
    };
    let (checksum, manifest) = (last(CHECKSUM)?, last(MANIFEST)?);
    // First of all: what is signed by somebody else is not even looked at.
    let signed = match (&signature, key) {
        (None, Some(_)) => return Err(BundleError::Unsigned),
        (Some(signature), Some(key)) if key.is_of(&signature.text, &manifest.text) => Signed::ByKey,
        (Some(_), Some(key)) => return Err(BundleError::Signature(key.id.short().to_owned())),
        (Some(_), None) => Signed::Unchecked,
        (None, None) => Signed::No,
    };
    if checksum.text != checksum_line(&manifest.text).as_bytes() {
        return Err(BundleError::Checksum {
            path: MANIFEST.to_owned(),
            found: manifest.sha256.to_string(),
            expected: String::from_utf8_lossy(&checksum.text[..64]).into_owned(),
        });
    }
    let manifest = parse(&manifest.text)?;
    compare(&manifest.members, &found)?;
    references(&manifest)?;
    let starts = found.iter().map(|found| found.start).collect();
    Ok(Checked { file, manifest, starts, signed })
}

/// Every member with its checksum.
fn walk(file: &File) -> Result<Vec<Found>, BundleError> {
    let mut input = Input { file, at: 0 };
    let mut found: Vec<Found> = Vec::new();
    loop {
        let at = input.at;
        let mut block = [0; BLOCK];
        input.exact(&mut block, || "a header".to_owned())?;
        if block == [0; BLOCK] && !found.is_empty() {
            input.exact(&mut block, || "its end".to_owned())?;
            let end = input.at;
            let more = input.some(&mut [0; 1])? != 0;
            return match (block == [0; BLOCK], more) {
                (true, false) => Ok(found),
                (true, true) => Err(BundleError::Trailing { at: end }),
                (false, _) => Err(BundleError::Trailing { at: at + BLOCK as u64 }),
            };
        }
        let header = Header::decode(&block).map_err(|wrong| match wrong {
            HeaderError::NoTar if found.is_empty() => BundleError::NoBundle,
            wrong => BundleError::Header { at, wrong },
        })?;
        if found.len() == MEMBERS_MAX + LAST_MEMBERS {
            return Err(BundleError::TooMany);
        }
        found.push(content(&mut input, header)?);
    }
}

fn content(input: &mut Input<'_>, header: Header) -> Result<Found, BundleError> {
    let start = input.at;
    let name = header.path.to_string();
    let kept = match name.as_str() {
        MANIFEST if header.size > MANIFEST_BYTES_MAX => {
            return Err(BundleError::ManifestSize { size: header.size });
        }
        MANIFEST => true,
        CHECKSUM | SIGNATURE => {
            let expected = if name == CHECKSUM { CHECKSUM_BYTES } else { SIGNATURE_BYTES as u64 };
            if header.size != expected {
                return Err(BundleError::Size { path: name, size: header.size, expected });
            }
            true
        }
        _ => false,
    };
    let mut hash = Context::new(&SHA256);
    let mut text = Vec::new();
    let mut piece = vec![0; PIECE];
    let mut left = header.size;
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        input.exact(&mut piece[..take], || format!("`{name}`"))?;
        hash.update(&piece[..take]);
        if kept {
            text.extend_from_slice(&piece[..take]);
        }
        left -= take as u64;
    }
    let mut padding = [0; BLOCK];
    let padding = &mut padding[..tar::padding(header.size)];
    let at = input.at;
    input.exact(padding, || format!("`{name}`"))?;
    if padding.iter().any(|byte| *byte != 0) {
        return Err(BundleError::Padding { path: name, at });
    }
    Ok(Found { header, start, sha256: finished(hash), text })
}

fn parse(text: &[u8]) -> Result<Manifest, BundleError> {
    let wrong = |error: serde_json::Error| BundleError::Manifest(error.to_string());
    let value: serde_json::Value = serde_json::from_slice(text).map_err(wrong)?;
    if value["format"] != FORMAT {
        return Err(BundleError::Manifest(format!("its format is not `{FORMAT}`")));
    }
    match value["version"].as_u64() {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => return Err(BundleError::Version(version)),
        None => return Err(BundleError::Manifest("it has no version".to_owned())),
    }
    serde_json::from_slice(text).map_err(wrong)
}

/// The manifest and the file name the same members in the same order.
fn compare(members: &[Member], found: &[Found]) -> Result<(), BundleError> {
    for (position, there) in found.iter().enumerate() {
        let path = there.header.path.to_string();
        let Some(member) = members.get(position).filter(|member| member.path == there.header.path) else {
            let known = members.iter().any(|member| member.path == there.header.path);
            let twice = found[..position].iter().any(|earlier| earlier.header.path == there.header.path);
            return Err(match members.get(position) {
                Some(member) if known && !twice => BundleError::Missing(member.path.to_string()),
                _ => BundleError::Extra(path),
            });
        };
        if member.size != there.header.size {
            return Err(BundleError::Size { path, size: there.header.size, expected: member.size });
        }
        if member.sha256 != there.sha256 {
            let (found, expected) = (there.sha256.to_string(), member.sha256.to_string());
            return Err(BundleError::Checksum { path, found, expected });
        }
        if member.executable != there.header.executable {
            return Err(BundleError::Manifest(format!("`{path}` is executable in one of both only")));
        }
        if members[..position].iter().any(|earlier| earlier.path == member.path) {
            return Err(BundleError::Manifest(format!("`{path}` is there twice")));
        }
    }
    match members.get(found.len()) {
        Some(missing) => Err(BundleError::Missing(missing.path.to_string())),
        None => Ok(()),
    }
}

/// What the manifest refers to is there, and everything that is there is referred to.
fn references(manifest: &Manifest) -> Result<(), BundleError> {
    let wrong = |what: String| Err(BundleError::Manifest(what));
    let has = |path: &MemberPath| manifest.members.iter().any(|member| member.path == *path);
    if manifest.compose.is_empty() {
        return wrong("it names no compose file".to_owned());
    }
    for compose in &manifest.compose {
        match MemberPath::of_file(compose) {
            Ok(path) if has(&path) => {}
            _ => return wrong(format!("its compose file `{compose}` is not in it")),
        }
    }
    for image in &manifest.images {
        if !has(&MemberPath::of_image(&image.id)) {
            return wrong(format!("its image {} is not in it", image.id));
        }
    }
    for member in &manifest.members {
        let named = manifest.images.iter().any(|image| MemberPath::of_image(&image.id) == member.path);
        if member.path.file().is_none() && !named {
            return wrong(format!("`{}` is neither a file nor an image", member.path));
        }
        // A file where another one needs a folder.
        let below = format!("{}/", member.path);
        if manifest.members.iter().any(|other| other.path.as_str().starts_with(&below)) {
            return wrong(format!("`{}` is a file and a folder", member.path));
        }
    }
    Ok(())
}

impl Checked {
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.manifest.members.iter()
    }

    /// The content of a member. The last read fails when it is not what was verified.
    pub fn open(&self, path: &MemberPath) -> Option<MemberReader<'_>> {
        let position = self.manifest.members.iter().position(|member| member.path == *path)?;
        let member = &self.manifest.members[position];
        let input = Input { file: &self.file, at: self.starts[position] };
        Some(MemberReader { input, left: member.size, hash: Some(Context::new(&SHA256)), member })
    }
}

pub struct MemberReader<'a> {
    input: Input<'a>,
    left: u64,
    /// `None`: it was compared.
    hash: Option<Context>,
    member: &'a Member,
}

impl Read for MemberReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.input.some(&mut into[..take])?;
        if let Some(hash) = &mut self.hash {
            hash.update(&into[..count]);
        }
        self.left -= count as u64;
        let changed = || io::Error::other(format!("`{}` was changed while it was read", self.member.path));
        if count == 0 && self.left > 0 && !into.is_empty() {
            return Err(changed());
        }
        if self.left == 0
            && let Some(hash) = self.hash.take()
            && finished(hash) != self.member.sha256
        {
            return Err(changed());
        }
        Ok(count)
    }
}

/// A place in the file; several may read at once.
struct Input<'a> {
    file: &'a File,
    at: u64,
}

impl Input<'_> {
    fn some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(into, self.at) {
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn exact(&mut self, into: &mut [u8], what: impl Fn() -> String) -> Result<(), BundleError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.some(&mut into[filled..])? {
                0 => return Err(BundleError::Truncated { what: what(), at: self.at }),
                count => filled += count,
            }
        }
        Ok(())
    }
}
