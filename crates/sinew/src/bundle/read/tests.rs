use std::fs;
use std::path::PathBuf;

use sinew_spec::bundle::BundledImage;

use super::*;
use crate::bundle::sign::{self, SigningKey};
use crate::bundle::write::Writer;

struct Bench {
    folder: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sinew-bundle-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("make a folder");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A small bundle: two files, one image.
    fn bundle(&self, key: Option<&SigningKey>) -> Vec<u8> {
        let path = self.path("whole");
        let mut writer = Writer::create(&path).expect("begin");
        let file = |path: &str| MemberPath::of_file(path).expect("a path");
        writer.add(file("compose.yaml"), false, &b"services: {}\n"[..]).expect("add");
        writer.add(file("bin/start"), true, &[b'x'; 600][..]).expect("add");
        writer.add(MemberPath::of_image(&id()), false, &b"layers"[..]).expect("add");
        writer.finish(manifest(), key).expect("finish");
        let bytes = fs::read(&path).expect("read");
        fs::remove_file(&path).expect("remove");
        bytes
    }

    fn verify(&self, bytes: &[u8], key: Option<&VerifyingKey>) -> Result<Checked, BundleError> {
        let path = self.path("changed");
        fs::write(&path, bytes).expect("write");
        verify(&path, key)
    }

    #[track_caller]
    fn check(&self, bytes: &[u8], expected: &str) {
        let error = self.verify(bytes, None).expect_err("it is wrong");
        assert_eq!(error.to_string(), expected);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn id() -> Digest {
    Digest::from_hex(&"a".repeat(64)).expect("hexadecimal")
}

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        application: "shop".into(),
        created: "2026-11-21T10:49:45Z".to_owned(),
        compose: vec!["compose.yaml".to_owned()],
        members: Vec::new(),
        images: vec![BundledImage {
            references: vec!["shop/web:1".to_owned()],
            platform: "linux/amd64".to_owned(),
            id: id(),
            digest: None,
        }],
        left_out: Vec::new(),
    }
}

/// The members of a good bundle, each with header, content and padding.
fn parts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut at = 0;
    while bytes[at] != 0 {
        let block: &[u8; BLOCK] = bytes[at..at + BLOCK].try_into().expect("a block");
        let size = Header::decode(block).expect("a header").size;
        let length = BLOCK + usize::try_from(size).expect("small") + tar::padding(size);
        parts.push(bytes[at..at + length].to_vec());
        at += length;
    }
    parts
}

fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), tar::END.to_vec()].concat()
}

/// A member with another content under the same or another name.
fn part(path: &str, content: &[u8]) -> Vec<u8> {
    let path = MemberPath::parse(path).expect("a path");
    let header = Header { path, size: content.len() as u64, executable: false };
    let mut part = header.encode().to_vec();
    part.extend_from_slice(content);
    part.extend(vec![0; tar::padding(header.size)]);
    part
}

/// Another manifest with a right checksum.
fn with_manifest(parts: &[Vec<u8>], manifest: &[u8]) -> Vec<Vec<u8>> {
    let checksum = part(CHECKSUM, checksum_line(manifest).as_bytes());
    [&parts[..3], &[part(MANIFEST, manifest), checksum]].concat()
}

#[test]
fn a_whole_bundle_is_read_and_its_members_too() {
    let bench = Bench::new("whole");
    let bytes = bench.bundle(None);
    let checked = bench.verify(&bytes, None).expect("it is whole");
    assert_eq!(checked.signed, Signed::No);
    let paths: Vec<&str> = checked.members().map(|member| member.path.as_str()).collect();
    assert_eq!(paths[..2], ["files/compose.yaml", "files/bin/start"]);
    let mut text = String::new();
    let path = MemberPath::of_file("compose.yaml").expect("a path");
    checked.open(&path).expect("it is there").read_to_string(&mut text).expect("it is as verified");
    assert_eq!(text, "services: {}\n");
}

#[test]
fn a_bundle_that_changes_after_it_was_verified_is_not_used() {
    let bench = Bench::new("late");
    let bytes = bench.bundle(None);
    let checked = bench.verify(&bytes, None).expect("it is whole");
    let at = bytes.windows(12).position(|window| window == b"services: {}").expect("the file");
    let file = fs::OpenOptions::new().write(true).open(bench.path("changed")).expect("open");
    file.write_all_at(b"S", at as u64).expect("write");
    let path = MemberPath::of_file("compose.yaml").expect("a path");
    let read = checked.open(&path).expect("it is there").read_to_end(&mut Vec::new());
    assert!(read.expect_err("changed").to_string().contains("was changed while it was read"));
    file.set_len(at as u64 + 3).expect("cut");
    assert!(checked.open(&path).expect("it is there").read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn every_flipped_byte_and_every_cut_is_seen() {
    let bench = Bench::new("flips");
    let bytes = bench.bundle(None);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(bench.verify(&flipped, None).is_err(), "byte {at}");
    }
    for length in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        assert!(bench.verify(&bytes[..length], None).is_err(), "cut to {length}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let bench = Bench::new("words");
    let bytes = bench.bundle(None);
    bench.check(b"", "it is cut off: a header at byte 0, where the file ends");
    bench.check(&[b'x'; 600], "it is no bundle: there is no header of a tar at its beginning");
    bench.check(&[0; 2048], "it is no bundle: there is no header of a tar at its beginning");
    bench.check(&bytes[..600], "it is cut off: `files/compose.yaml` at byte 600, where the file ends");
    let end = bytes.len();
    bench.check(
        &bytes[..end - 1024],
        &format!("it is cut off: a header at byte {}, where the file ends", end - 1024),
    );
    bench.check(&[&bytes[..], b"x"].concat(), &format!("at byte {end}: there is more behind its end"));
    let parts = parts(&bytes);
    bench.check(&joined(&parts[..3]), "`manifest.sha256` is in its manifest, but not in it");
    let without: Vec<_> = [&parts[..1], &parts[2..]].concat();
    bench.check(&joined(&without), "`files/bin/start` is in its manifest, but not in it");
    let extra = [&parts[..3], &[part("files/extra", b"!")], &parts[3..]].concat();
    bench.check(&joined(&extra), "`files/extra` is in it, but not in its manifest");
    let twice = [&parts[..1], &parts[..1], &parts[1..]].concat();
    bench.check(&joined(&twice), "`files/compose.yaml` is in it, but not in its manifest");
    let behind = [&parts[..], &[part("files/extra", b"!")]].concat();
    bench.check(&joined(&behind), "`manifest.sha256` is in its manifest, but not in it");
    let unnamed = [&parts[..3], &parts[4..]].concat();
    bench.check(&joined(&unnamed), "`manifest.json` is in its manifest, but not in it");
    let mut longer = parts.clone();
    longer[0] = part("files/compose.yaml", b"services: {}  ");
    bench.check(&joined(&longer), "`files/compose.yaml` has 14 bytes, not 13");
    let mut changed = parts.clone();
    changed[2][BLOCK] = b'L';
    let error = bench.verify(&joined(&changed), None).expect_err("it is wrong").to_string();
    assert!(error.starts_with("`images/aaaa") && error.contains("was changed: its checksum is"), "{error}");
    let mut padded = parts.clone();
    padded[0][BLOCK + 20] = 1;
    bench.check(&joined(&padded), "at byte 525: the space behind `files/compose.yaml` is not empty");
}

#[test]
fn a_manifest_must_fit_what_it_names() {
    let bench = Bench::new("manifest");
    let parts = parts(&bench.bundle(None));
    let text = |part: &[u8]| {
        let block: &[u8; BLOCK] = part[..BLOCK].try_into().expect("a block");
        let size = usize::try_from(Header::decode(block).expect("a header").size).expect("small");
        String::from_utf8(part[BLOCK..BLOCK + size].to_vec()).expect("text")
    };
    let manifest = text(&parts[3]);
    for (from, to, expected) in [
        ("\"version\": 1", "\"version\": 9", "it is of version 9; this Sinew knows version 1"),
        ("sinew-bundle", "tar", "its manifest is not as it should be: its format is not `sinew-bundle`"),
        (
            "\"compose.yaml\"\n",
            "\"../compose.yaml\"\n",
            "its manifest is not as it should be: its compose file `../compose.yaml` is not in it",
        ),
    ] {
        let changed = manifest.replace(from, to);
        assert_ne!(changed, manifest, "{from}");
        let bytes = joined(&with_manifest(&parts, changed.as_bytes()));
        bench.check(&bytes, expected);
    }
    let traversal = manifest.replace("files/bin/start", "files/../start");
    let bytes = joined(&with_manifest(&parts, traversal.as_bytes()));
    let error = bench.verify(&bytes, None).expect_err("it leaves its folder").to_string();
    assert!(error.contains("the path leaves its folder"), "{error}");
    let large = vec![b' '; usize::try_from(MANIFEST_BYTES_MAX).expect("fits") + 1];
    let bytes = joined(&with_manifest(&parts, &large));
    bench.check(&bytes, "its manifest has 8388609 bytes; 8388608 are the most");
}

#[test]
fn a_signature_is_of_the_key_or_nothing_is_used() {
    let bench = Bench::new("signed");
    let (public, _) = sign::generate(&bench.path("key")).expect("a pair");
    let (other, _) = sign::generate(&bench.path("other")).expect("a pair");
    let signing = SigningKey::read(&bench.path("key")).expect("the key");
    let (key, other) =
        (VerifyingKey::read(&public).expect("a key"), VerifyingKey::read(&other).expect("a key"));
    let bytes = bench.bundle(Some(&signing));
    assert_eq!(bench.verify(&bytes, Some(&key)).expect("signed").signed, Signed::ByKey);
    assert_eq!(bench.verify(&bytes, None).expect("signed").signed, Signed::Unchecked);
    let error = bench.verify(&bytes, Some(&other)).expect_err("by another key").to_string();
    assert_eq!(error, format!("its signature is not of the key {}", other.id.short()));
    let unsigned = bench.bundle(None);
    let error = bench.verify(&unsigned, Some(&key)).expect_err("not signed").to_string();
    assert_eq!(error, "it is not signed");
    // A manifest for other contents, signed by nobody, with the old signature behind it.
    let parts = parts(&bytes);
    let mut changed = parts.clone();
    let text = String::from_utf8_lossy(&parts[3][BLOCK..])
        .trim_end_matches('\0')
        .replace("shop/web:1", "shop/web:2");
    changed[3] = part(MANIFEST, text.as_bytes());
    changed[4] = part(CHECKSUM, checksum_line(text.as_bytes()).as_bytes());
    let error = bench.verify(&joined(&changed), Some(&key)).expect_err("changed").to_string();
    assert_eq!(error, format!("its signature is not of the key {}", key.id.short()));
}

#[test]
fn a_bundle_is_there_when_it_is_whole() {
    let bench = Bench::new("partial");
    let path = bench.path("b");
    let mut writer = Writer::create(&path).expect("begin");
    let file = MemberPath::of_file("x").expect("a path");
    writer.begin(file, false).expect("begin").write(b"half").expect("write");
    assert_eq!(fs::read_dir(&bench.folder).expect("list").count(), 1);
    drop(writer);
    assert_eq!(fs::read_dir(&bench.folder).expect("list").count(), 0);
    fs::write(&path, "somebody's").expect("write");
    assert!(Writer::create(&path).is_err());
}
