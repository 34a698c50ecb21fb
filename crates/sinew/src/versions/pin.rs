//! All images of an application, each resolved once, by and into `sinew.lock`.

use std::collections::BTreeMap;

use sinew_node::lockfile::{self, LockFileError};
use sinew_spec::application::{Application, Container, PullPolicy};
use sinew_spec::compose::lock::{FILE_NAME, Lock, LockKey};
use sinew_spec::name::ServiceName;
use sinew_spec::update::ImageVersion;

use super::resolve::{News, Pull, ResolveError, Resolved, Wanted, resolve};
use super::store::Store;
use crate::failure::{Failure, from_here};
use crate::time::rfc3339_seconds;

/// Which image every container is started from.
#[derive(Debug, Default)]
pub struct Pinned {
    pub versions: BTreeMap<ServiceName, ImageVersion>,
    pub lock: Lock,
    /// What is told: a line each.
    pub news: Vec<String>,
}

pub fn wanted(container: &Container) -> Wanted {
    Wanted {
        reference: container.image.clone(),
        platform: container.platform.clone(),
        pull: match container.pull {
            PullPolicy::Missing | PullPolicy::Build => Pull::Missing,
            PullPolicy::Always => Pull::Always,
            PullPolicy::Never => Pull::Never,
        },
        built: container.build.is_some(),
    }
}

/// Resolves what is not resolved yet, and writes the lock when it changed. What is built must have been built.
pub fn pin(
    application: &Application,
    store: &dyn Store,
    locked: bool,
    now_unix_ms: u64,
) -> Result<Pinned, Failure> {
    let folder = &application.folder;
    let before = read_lock(application)?;
    let mut pinned = Pinned { lock: before.clone().unwrap_or_default(), ..Pinned::default() };
    let mut known: BTreeMap<LockKey, ImageVersion> = BTreeMap::new();
    let now = rfc3339_seconds(now_unix_ms);
    for (name, service) in &application.services {
        let Some(container) = &service.container else { continue };
        let wanted = wanted(container);
        let key = wanted.key();
        if !known.contains_key(&key) {
            let resolved = resolve(&wanted, &mut pinned.lock, store, locked, &now);
            let resolved = resolved.map_err(|error| failure(name, &error, before.is_some()))?;
            pinned.news.extend(words(name, &wanted, &resolved));
            known.insert(key.clone(), resolved.version);
        }
        pinned.versions.insert(name.clone(), known[&key].clone());
    }
    if before.as_ref() != Some(&pinned.lock) && !pinned.lock.is_empty() {
        match lockfile::write(folder, &pinned.lock) {
            Ok(()) => {}
            // It runs without; it is only resolved anew each time.
            Err(error) => pinned.news.push(format!("{error}; what tags mean is resolved again next time")),
        }
    }
    Ok(pinned)
}

fn failure(service: &ServiceName, error: &ResolveError, has_lock: bool) -> Failure {
    let message = format!("{service}: {error}");
    match error {
        ResolveError::NotLocked(_) | ResolveError::LockedGone { .. } => {
            Failure::bad_input("not_locked", message)
                .hint("`sinew up` without --locked records what is missing")
        }
        ResolveError::NeverPulled(reference) => {
            let message = format!(
                "the image {reference} of `{service}` is not on this host, and `pull_policy: never` forbids to pull it"
            );
            Failure::bad_input("no_image", message)
                .hint(format!("`podman pull {reference}`, or load it: `podman load -i FILE`"))
        }
        ResolveError::Other { .. } => Failure::failed("image", message).hint(format!(
            "somebody changed what the registry has under this digest, or {FILE_NAME}; nothing was started"
        )),
        ResolveError::Engine(_) | ResolveError::Absent(_) if has_lock => Failure::failed("image", message)
            .hint(format!(
                "{FILE_NAME} says which image it is; `sinew update {service}` takes what the tag means now"
            )),
        ResolveError::Engine(_) | ResolveError::Absent(_) => Failure::failed("image", message).hint(
            "nothing was started; a registry that needs a login: `podman login`; an image that is here: \
             `pull_policy: never`",
        ),
    }
}

/// `None`: there is none yet.
pub fn read_lock(application: &Application) -> Result<Option<Lock>, Failure> {
    lockfile::read(&application.folder).map_err(|error| match error {
        LockFileError::Problems(problems) => {
            let path = from_here(&lockfile::path(&application.folder));
            let message = format!("{} cannot be used; nothing was started", path.display());
            Failure::bad_input("invalid_lock", message)
                .problems(problems)
                .hint("take it from version control, or delete it: tags are resolved again then")
        }
        LockFileError::Io { .. } => Failure::failed("lock", error.to_string()),
    })
}

fn words(service: &ServiceName, wanted: &Wanted, resolved: &Resolved) -> Option<String> {
    let reference = &wanted.reference;
    let version = resolved.version.shown().short();
    Some(match resolved.news.as_ref()? {
        News::Recorded => format!("{service}: {reference} is {version}; recorded in {FILE_NAME}"),
        // The build has said so.
        News::Built => return None,
        News::Again { was } => format!(
            "{service}: the image {} that {FILE_NAME} named for {reference} is gone; it is {version} now",
            was.short()
        ),
        News::Differs { here } => format!(
            "{service}: {reference} is {} on this host, but {FILE_NAME} says {version}; `sinew update {service}` takes the new one",
            here.short()
        ),
    })
}
