//! Who made a bundle: an Ed25519 signature (RFC 8032) over the bytes of its manifest. Keys lie in PEM files, the
//! private one as PKCS#8 (RFC 8410), so that OpenSSL makes and checks them too.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use sinew_spec::digest::Digest;

#[cfg(test)]
mod tests;

pub const SIGNATURE_BYTES: usize = 64;
/// A key takes some hundred.
const KEY_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("reading the key {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} holds no {kind}", path = .path.display())]
    NoKey { path: PathBuf, kind: &'static str },
    #[error("writing the key {path}: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} exists; a key is never overwritten", path = .0.display())]
    Exists(PathBuf),
    #[error("a key could not be made")]
    Unavailable,
}

const PRIVATE: &str = "private Ed25519 key in PEM (PKCS#8, BEGIN PRIVATE KEY)";
const PUBLIC: &str = "public Ed25519 key in PEM (BEGIN PUBLIC KEY)";

pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read(path)?;
        let wrong = || KeyError::NoKey { path: path.to_path_buf(), kind: PRIVATE };
        let der = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| wrong())?;
        Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).map(Self).map_err(|_| wrong())
    }

    pub fn sign(&self, manifest: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(manifest).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }

    /// What it is called in messages.
    pub fn id(&self) -> Result<Digest, KeyError> {
        let public: PublicKeyX509Der<'_> = self.0.public_key().as_der().map_err(|_| KeyError::Unavailable)?;
        Ok(key_id(public.as_ref()))
    }
}

pub struct VerifyingKey {
    key: ParsedPublicKey,
    pub id: Digest,
}

impl VerifyingKey {
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read(path)?;
        let wrong = || KeyError::NoKey { path: path.to_path_buf(), kind: PUBLIC };
        let der = SubjectPublicKeyInfoDer::from_pem_slice(&text).map_err(|_| wrong())?;
        let key = ParsedPublicKey::new(&ED25519, &der).map_err(|_| wrong())?;
        Ok(Self { key, id: key_id(&der) })
    }

    pub fn is_of(&self, signature: &[u8], manifest: &[u8]) -> bool {
        self.key.verify_sig(manifest, signature).is_ok()
    }
}

/// Makes a pair: `path`, readable by its owner only, and `path` with `.pub` behind it.
pub fn generate(path: &Path) -> Result<(PathBuf, Digest), KeyError> {
    let mut public_path = path.as_os_str().to_owned();
    public_path.push(".pub");
    let public_path = PathBuf::from(public_path);
    if fs::symlink_metadata(&public_path).is_ok() {
        return Err(KeyError::Exists(public_path));
    }
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Unavailable)?;
    let private = pair.to_pkcs8v1().map_err(|_| KeyError::Unavailable)?;
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| KeyError::Unavailable)?;
    write(path, 0o600, &pem("PRIVATE KEY", private.as_ref()))?;
    let public: &[u8] = der.as_ref();
    if let Err(error) = write(&public_path, 0o644, &pem("PUBLIC KEY", public)) {
        // Half a pair is of no use to anybody.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok((public_path, key_id(public)))
}

fn key_id(public: &[u8]) -> Digest {
    Digest::of_bytes(digest(&SHA256, public).as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    use std::io::Read;
    let failed = |source| KeyError::Read { path: path.to_path_buf(), source };
    let mut text = Vec::new();
    fs::File::open(path).map_err(failed)?.take(KEY_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

fn write(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_path_buf()),
        _ => KeyError::Write { path: path.to_path_buf(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let number = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for position in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * position)) as usize & 63];
            out.push(if position <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}
