//! `sinew.lock`: which image each reference of the compose files means. It lies beside them, is written by `sinew up`
//! (what is new) and `sinew update` (what was proven), and belongs into version control: YAML in one fixed form, sorted,
//! so that a change of one image is a change of one entry.

use std::collections::BTreeMap;
use std::path::Path;

use crate::digest::Digest;

use super::problem::{Problems, quote};
use super::source::{At, Findings};
use super::suggest;
use super::yaml::{self, Entry, Node, Value};

#[cfg(test)]
mod tests;

pub const FILE_NAME: &str = "sinew.lock";
/// Of the format.
pub const VERSION: u32 = 1;
/// Far more than an application has services.
pub const ENTRIES_MAX: usize = 10_000;
const REFERENCE_BYTES_MAX: usize = 512;
const PLATFORM_BYTES_MAX: usize = 128;

const HEAD: &str = "\
# Which image each reference of the compose files means. Written by `sinew up` and `sinew update`; keep it in version
# control. `digest` names the image in its registry, `id` on a machine.
";

/// What is looked up: a reference as the compose file says it, on one platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey {
    /// `docker.io/library/redis:7`, `shop/web`: after variables were replaced, otherwise as written.
    pub reference: String,
    /// `linux/amd64`, `linux/arm/v7`.
    pub platform: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// Of the image's configuration: what engines call its id. The same on every machine.
    pub id: Digest,
    /// Of the manifest in the registry it was pulled from; `None`: it was built or loaded here.
    pub digest: Option<Digest>,
    /// When it was resolved: `2026-11-21T10:49:45Z`.
    pub resolved: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    entries: BTreeMap<LockKey, Locked>,
}

impl Lock {
    pub fn get(&self, key: &LockKey) -> Option<&Locked> {
        self.entries.get(key)
    }

    /// What was there before.
    pub fn insert(&mut self, key: LockKey, locked: Locked) -> Option<Locked> {
        self.entries.insert(key, locked)
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// In the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&LockKey, &Locked)> {
        self.entries.iter()
    }

    /// The text of the file, the same for the same content.
    pub fn render(&self) -> String {
        let mut out = format!("{HEAD}version: {VERSION}\nimages:");
        if self.entries.is_empty() {
            out.push_str(" []\n");
            return out;
        }
        out.push('\n');
        for (key, locked) in &self.entries {
            out.push_str(&format!("  - reference: {}\n", scalar(&key.reference)));
            out.push_str(&format!("    platform: {}\n", scalar(&key.platform)));
            if let Some(digest) = &locked.digest {
                out.push_str(&format!("    digest: {digest}\n"));
            }
            out.push_str(&format!("    id: {}\n", locked.id));
            out.push_str(&format!("    resolved: {}\n", locked.resolved));
        }
        out
    }
}

/// Plain where no reader of YAML could take it for anything but text.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.contains(['/', ':', '.'])
        && !text.ends_with(':');
    if plain { text.to_owned() } else { format!("\"{text}\"") }
}

/// Everything that is wrong with the text, with its places. `path`: of the file, for messages.
pub fn read(path: &Path, text: &str) -> Result<Lock, Problems> {
    let mut findings = Findings::default();
    let lock = read_with(path, text, &mut findings);
    let (problems, _) = findings.finish();
    lock.filter(|_| problems.is_empty()).ok_or(problems)
}

fn read_with(path: &Path, text: &str, findings: &mut Findings) -> Option<Lock> {
    let source = findings.add_source(path, text, true);
    let mut roots = yaml::load(source, findings)?;
    let [root] = roots.as_mut_slice() else {
        let what = format!("the file has {} documents; it must be one", roots.len());
        findings.problem(At::start(source), "", what);
        return None;
    };
    let fields = mapping(root, "", &["version", "images"], findings)?;
    check_version(&fields, root.at, findings)?;
    let images = required(&fields, "images", root.at, "", findings)?;
    let Value::Sequence(items) = &images.value else {
        let what = format!("a list of images is expected, found {}", images.kind());
        findings.problem(images.at, "images", what);
        return None;
    };
    if items.len() > ENTRIES_MAX {
        findings.problem(images.at, "images", format!("there are more than {ENTRIES_MAX} images"));
        return None;
    }
    let mut lock = Lock::default();
    let mut places: BTreeMap<LockKey, At> = BTreeMap::new();
    for (position, item) in items.iter().enumerate() {
        let path = format!("images[{position}]");
        let Some((key, locked)) = image(item, &path, findings) else { continue };
        if let Some(earlier) = places.insert(key.clone(), item.at) {
            let mention = findings.mention(earlier, item.at);
            let what =
                format!("{} for {} is there twice: see {mention}", quote(&key.reference), key.platform);
            findings
                .problem(item.at, path, what)
                .hint("two changes were merged; keep one of the two entries, or delete the file");
        }
        lock.insert(key, locked);
    }
    Some(lock)
}

fn check_version(fields: &[Entry], at: At, findings: &mut Findings) -> Option<()> {
    let node = required(fields, "version", at, "", findings)?;
    let text = text(node, "version", findings)?;
    match text.parse::<u32>() {
        Ok(VERSION) => Some(()),
        Ok(newer) if newer > VERSION => {
            let what = format!("the file is of version {newer}; this Sinew knows version {VERSION}");
            findings.problem(node.at, "version", what).hint("a newer Sinew wrote it: use that one here too");
            None
        }
        _ => {
            findings.problem(node.at, "version", format!("{} is no version; write `{VERSION}`", quote(text)));
            None
        }
    }
}

fn image(node: &Node, path: &str, findings: &mut Findings) -> Option<(LockKey, Locked)> {
    let fields = mapping(node, path, &["reference", "platform", "digest", "id", "resolved"], findings)?;
    let mut take = |name: &str, check: fn(&str) -> Result<(), String>| {
        let node = required(&fields, name, node.at, path, findings)?;
        let path = format!("{path}.{name}");
        let text = text(node, &path, findings)?;
        match check(text) {
            Ok(()) => Some(text.to_owned()),
            Err(wrong) => {
                findings.problem(node.at, path, format!("{}: {wrong}", quote(text)));
                None
            }
        }
    };
    // All are looked at, so that all problems come together.
    let reference = take("reference", is_reference);
    let platform = take("platform", is_platform);
    let id = take("id", is_digest);
    let resolved = take("resolved", is_moment);
    let has_digest = fields.iter().any(|entry| entry.key == "digest");
    let digest = if has_digest { Some(take("digest", is_digest)?) } else { None };
    let parse = |text: String| Digest::parse(&text).expect("it was checked");
    Some((
        LockKey { reference: reference?, platform: platform? },
        Locked { id: parse(id?), digest: digest.map(parse), resolved: resolved? },
    ))
}

fn is_reference(text: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    if text.is_empty() || text.len() > REFERENCE_BYTES_MAX || !text.bytes().all(good) {
        return Err("this is no reference of an image".to_owned());
    }
    Ok(())
}

fn is_platform(text: &str) -> Result<(), String> {
    let good = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let parts = text.split('/').count();
    if text.len() > PLATFORM_BYTES_MAX || !(2..=3).contains(&parts) || !text.split('/').all(good) {
        return Err("a platform is written `linux/amd64` or `linux/arm/v7`".to_owned());
    }
    Ok(())
}

fn is_digest(text: &str) -> Result<(), String> {
    Digest::parse(text).map(drop).map_err(|error| error.to_string())
}

/// RFC 3339, in UTC, in whole seconds.
fn is_moment(text: &str) -> Result<(), String> {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    let fits = text.len() == FORM.len()
        && text.bytes().zip(FORM).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            form => byte == *form,
        });
    if fits { Ok(()) } else { Err("a time is written `2026-11-21T10:49:45Z`".to_owned()) }
}

/// The entries of a mapping that has no other keys than `known`.
fn mapping(node: &Node, path: &str, known: &[&str], findings: &mut Findings) -> Option<Vec<Entry>> {
    let Value::Mapping(entries) = &node.value else {
        if !node.failed {
            let names = known.join(", ");
            findings.problem(
                node.at,
                path,
                format!("a mapping with {names} is expected, found {}", node.kind()),
            );
        }
        return None;
    };
    for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        let problem =
            findings.problem(entry.key_at, path, format!("{} is no key of this file", quote(&entry.key)));
        if let Some(near) = suggest::nearest(&entry.key, known.iter().copied()) {
            problem.hint(format!("did you mean `{near}`?"));
        }
    }
    Some(entries.clone())
}

fn required<'a>(
    fields: &'a [Entry],
    name: &str,
    at: At,
    path: &str,
    findings: &mut Findings,
) -> Option<&'a Node> {
    let found = fields.iter().find(|entry| entry.key == name).map(|entry| &entry.value);
    if found.is_none() {
        findings.problem(at, path, format!("`{name}` is missing"));
    }
    found
}

fn text<'a>(node: &'a Node, path: &str, findings: &mut Findings) -> Option<&'a str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => {
            if !node.failed {
                findings.problem(node.at, path, format!("text is expected, found {}", node.kind()));
            }
            None
        }
    }
}
