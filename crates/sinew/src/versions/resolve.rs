//! From the reference of a compose file to one image, by the lock where it says so. What the lock does not say yet is
//! added to it; what it says is never changed here (that is an update), unless it has become impossible.

use sinew_spec::compose::lock::{Lock, LockKey, Locked};
use sinew_spec::digest::Digest;
use sinew_spec::update::ImageVersion;

use super::store::{Here, Store, digest_of, host_platform, repository};

#[cfg(test)]
mod tests;

/// When an image is asked of its registry. What is built is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    #[default]
    Missing,
    Always,
    Never,
}

/// What a service says of its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub reference: String,
    /// `None`: the host's.
    pub platform: Option<String>,
    pub pull: Pull,
    /// The image is made here, by `build:`.
    pub built: bool,
}

impl Wanted {
    pub fn key(&self) -> LockKey {
        let platform = self.platform.clone().unwrap_or_else(host_platform);
        LockKey { reference: self.reference.clone(), platform }
    }

    /// The compose file itself says which content is meant; nothing is recorded.
    pub fn names_digest(&self) -> bool {
        self.reference.contains('@')
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub version: ImageVersion,
    pub news: Option<News>,
}

/// What the user is told of; nothing where all is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The lock did not know the reference.
    Recorded,
    /// It was built anew.
    Built,
    /// What the lock named is nowhere any more, so the reference was resolved again.
    Again { was: Digest },
    /// The name means another image here, which the lock does not.
    Differs { here: Digest },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("{0}")]
    Engine(String),
    #[error("sinew.lock does not say which image `{}` is on {}, and --locked forbids to add it", .0.reference, .0.platform)]
    NotLocked(LockKey),
    #[error("the image {} of `{}` is nowhere any more, and --locked forbids to take another one", .id.short(), .reference)]
    LockedGone { reference: String, id: Digest },
    #[error("the image `{0}` is not on this host, and `pull_policy: never` forbids to pull it")]
    NeverPulled(String),
    #[error("`{0}` was pulled, but the engine does not have it")]
    Absent(String),
    #[error("`{reference}` was pulled as {}, but it is {}, not the {} of sinew.lock", .digest.short(), .found.short(), .expected.short())]
    Other { reference: String, digest: Digest, found: Digest, expected: Digest },
}

/// `resolved`: the time to be recorded. `locked`: the lock is not to be changed.
pub fn resolve(
    wanted: &Wanted,
    lock: &mut Lock,
    store: &dyn Store,
    locked: bool,
    resolved: &str,
) -> Result<Resolved, ResolveError> {
    if wanted.names_digest() {
        // A bundle records what it brought: an archive of images keeps no digest of a registry.
        let recorded = lock.get(&wanted.key());
        if let Some(entry) = recorded
            && find(store, entry.id.as_str())?.is_some()
        {
            let version = ImageVersion { id: entry.id.clone(), digest: entry.digest.clone() };
            return Ok(Resolved { version, news: None });
        }
        let (here, _) = present(wanted, store)?;
        let digest = wanted.reference.split_once('@').and_then(|(_, digest)| Digest::parse(digest).ok());
        return Ok(Resolved { version: ImageVersion { id: here.id, digest }, news: None });
    }
    let key = wanted.key();
    if wanted.built {
        return built(wanted, lock, store, resolved);
    }
    let Some(entry) = lock.get(&key).cloned() else {
        if locked {
            return Err(ResolveError::NotLocked(key));
        }
        let version = record(lock, wanted, present(wanted, store)?, store, resolved);
        return Ok(Resolved { version, news: Some(News::Recorded) });
    };
    let as_recorded = ImageVersion { id: entry.id.clone(), digest: entry.digest.clone() };
    if find(store, entry.id.as_str())?.is_some() {
        let here = find(store, &wanted.reference)?.map(|here| here.id);
        let news = here.filter(|here| *here != entry.id && entry.digest.is_none());
        return Ok(Resolved { version: as_recorded, news: news.map(|here| News::Differs { here }) });
    }
    if let Some(digest) = &entry.digest {
        if wanted.pull == Pull::Never {
            return Err(ResolveError::NeverPulled(wanted.reference.clone()));
        }
        pull_exactly(wanted, &entry, digest, store)?;
        return Ok(Resolved { version: as_recorded, news: None });
    }
    // Built or loaded here once, and gone.
    if locked {
        return Err(ResolveError::LockedGone { reference: key.reference, id: entry.id });
    }
    let version = record(lock, wanted, present(wanted, store)?, store, resolved);
    Ok(Resolved { version, news: Some(News::Again { was: entry.id }) })
}

/// What the reference means in its registry now, pulled; for an update. The lock is not looked at.
pub fn newest(wanted: &Wanted, store: &dyn Store) -> Result<ImageVersion, ResolveError> {
    if !wanted.built && wanted.pull != Pull::Never && !repository(&wanted.reference).starts_with("localhost/")
    {
        pull(wanted, &wanted.reference, store)?;
    }
    let here = find(store, &wanted.reference)?;
    let here = here.ok_or_else(|| match wanted.pull {
        Pull::Never => ResolveError::NeverPulled(wanted.reference.clone()),
        _ => ResolveError::Absent(wanted.reference.clone()),
    })?;
    let digest = if wanted.built { None } else { digest_of(&here, &wanted.reference) };
    Ok(ImageVersion { id: here.id, digest })
}

fn built(
    wanted: &Wanted,
    lock: &mut Lock,
    store: &dyn Store,
    resolved: &str,
) -> Result<Resolved, ResolveError> {
    let here = find(store, &wanted.reference)?;
    let here = here.ok_or_else(|| ResolveError::Absent(wanted.reference.clone()))?;
    let version = ImageVersion { id: here.id.clone(), digest: None };
    let key = wanted.key();
    if lock.get(&key).is_some_and(|entry| entry.id == here.id) {
        return Ok(Resolved { version, news: None });
    }
    lock.insert(key, Locked { id: here.id, digest: None, resolved: resolved.to_owned() });
    Ok(Resolved { version, news: Some(News::Built) })
}

fn record(
    lock: &mut Lock,
    wanted: &Wanted,
    (here, pulled): (Here, bool),
    store: &dyn Store,
    resolved: &str,
) -> ImageVersion {
    // Podman makes up a digest for what was built or loaded here; what can be pulled by it is in the registry.
    let digest = digest_of(&here, &wanted.reference)
        .filter(|digest| pulled || pull(wanted, &by_digest(wanted, digest), store).is_ok());
    let version = ImageVersion { id: here.id, digest };
    let (id, digest) = (version.id.clone(), version.digest.clone());
    lock.insert(wanted.key(), Locked { id, digest, resolved: resolved.to_owned() });
    version
}

/// By the reference as it is written, by its policy. True: it was pulled for that.
fn present(wanted: &Wanted, store: &dyn Store) -> Result<(Here, bool), ResolveError> {
    if wanted.pull != Pull::Always
        && let Some(here) = find(store, &wanted.reference)?
    {
        return Ok((here, false));
    }
    if wanted.pull == Pull::Never {
        return Err(ResolveError::NeverPulled(wanted.reference.clone()));
    }
    pull(wanted, &wanted.reference, store)?;
    let here = find(store, &wanted.reference)?;
    here.map(|here| (here, true)).ok_or_else(|| ResolveError::Absent(wanted.reference.clone()))
}

fn by_digest(wanted: &Wanted, digest: &Digest) -> String {
    format!("{}@{digest}", repository(&wanted.reference))
}

/// By its digest: whatever the tag means by now.
fn pull_exactly(
    wanted: &Wanted,
    entry: &Locked,
    digest: &Digest,
    store: &dyn Store,
) -> Result<(), ResolveError> {
    let reference = by_digest(wanted, digest);
    pull(wanted, &reference, store)?;
    let here = find(store, &reference)?.ok_or(ResolveError::Absent(reference))?;
    if here.id != entry.id {
        return Err(ResolveError::Other {
            reference: wanted.reference.clone(),
            digest: digest.clone(),
            found: here.id,
            expected: entry.id.clone(),
        });
    }
    Ok(())
}

fn pull(wanted: &Wanted, reference: &str, store: &dyn Store) -> Result<(), ResolveError> {
    store.pull(reference, wanted.platform.as_deref()).map_err(ResolveError::Engine)
}

fn find(store: &dyn Store, reference: &str) -> Result<Option<Here>, ResolveError> {
    store.find(reference).map_err(ResolveError::Engine)
}
