//! Writes a bundle: contents as they come, then the manifest that names them all, then its signature. The file gets its
//! name when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{self, Context, SHA256};
use sinew_spec::bundle::{CHECKSUM, MANIFEST, MEMBERS_MAX, Manifest, Member, MemberPath, SIGNATURE};
use sinew_spec::digest::Digest;

use super::sign::SigningKey;
use super::tar::{self, Header};

const PIECE: usize = 128 * 1024;

pub struct Writer {
    file: File,
    /// What it will be called, and what it is called until then.
    path: PathBuf,
    partial: PathBuf,
    members: Vec<Member>,
    finished: bool,
}

impl Writer {
    /// Refuses to replace a file. What is left when this is dropped before [`Writer::finish`] is removed.
    pub fn create(path: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists already"));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        // Files of the application may be nobody else's business.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        Ok(Self { file, path: path.to_path_buf(), partial, members: Vec::new(), finished: false })
    }

    pub fn add(&mut self, path: MemberPath, executable: bool, mut from: impl Read) -> io::Result<()> {
        let mut content = self.begin(path, executable)?;
        let mut piece = vec![0; PIECE];
        loop {
            match from.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => content.write(&piece[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        content.end()
    }

    /// A content whose size is not known yet.
    pub fn begin(&mut self, path: MemberPath, executable: bool) -> io::Result<Content<'_>> {
        if self.members.len() == MEMBERS_MAX {
            return Err(io::Error::other(format!("a bundle has {MEMBERS_MAX} files and images at most")));
        }
        let header_at = self.file.stream_position()?;
        let header = Header { path, size: 0, executable };
        self.file.write_all(&header.encode())?;
        Ok(Content { writer: self, header_at, header, hash: Context::new(&SHA256) })
    }

    /// `manifest`: all but its members, which are known here.
    pub fn finish(mut self, mut manifest: Manifest, key: Option<&SigningKey>) -> io::Result<Manifest> {
        manifest.members = std::mem::take(&mut self.members);
        let mut text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other)?;
        text.push(b'\n');
        self.last(MANIFEST, &text)?;
        self.last(CHECKSUM, checksum_line(&text).as_bytes())?;
        if let Some(key) = key {
            self.last(SIGNATURE, &key.sign(&text))?;
        }
        self.file.write_all(&tar::END)?;
        self.file.sync_all()?;
        // Not by rename: somebody else's file of this name, made meanwhile, stays.
        fs::hard_link(&self.partial, &self.path)?;
        fs::remove_file(&self.partial)?;
        self.finished = true;
        Ok(manifest)
    }

    fn last(&mut self, path: &str, text: &[u8]) -> io::Result<()> {
        let path = MemberPath::parse(path).expect("the names of the format are good");
        let header = Header { path, size: text.len() as u64, executable: false };
        self.file.write_all(&header.encode())?;
        self.file.write_all(text)?;
        self.file.write_all(&tar::END[..tar::padding(header.size)])
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// A content on its way into the file.
pub struct Content<'a> {
    writer: &'a mut Writer,
    header_at: u64,
    header: Header,
    hash: Context,
}

impl Content<'_> {
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.header.size += bytes.len() as u64;
        self.writer.file.write_all(bytes)
    }

    pub fn end(self) -> io::Result<()> {
        let Self { writer, header_at, header, hash } = self;
        let file = &mut writer.file;
        file.write_all(&tar::END[..tar::padding(header.size)])?;
        file.seek(SeekFrom::Start(header_at))?;
        file.write_all(&header.encode())?;
        file.seek(SeekFrom::End(0))?;
        let sha256 = finished(hash);
        let Header { path, size, executable } = header;
        writer.members.push(Member { path, size, sha256, executable });
        Ok(())
    }
}

pub fn finished(hash: Context) -> Digest {
    Digest::of_bytes(hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// Of the manifest, for `sha256sum -c`.
pub fn checksum_line(manifest: &[u8]) -> String {
    let hash = digest::digest(&SHA256, manifest);
    let hash = Digest::of_bytes(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"));
    format!("{}  {MANIFEST}\n", hash.hex())
}
