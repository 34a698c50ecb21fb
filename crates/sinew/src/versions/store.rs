//! What is needed of a container engine to resolve and move images; a test has one of its own.

use std::io::Read;

use sinew_spec::digest::Digest;

/// An image of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    pub id: Digest,
    /// `name@sha256:…`, as the engine tells them.
    pub digests: Vec<String>,
}

/// Errors are the engine's words.
pub trait Store {
    /// By name, digest or id. `None`: it is not here.
    fn find(&self, reference: &str) -> Result<Option<Here>, String>;

    fn pull(&self, reference: &str, platform: Option<&str>) -> Result<(), String>;

    /// Gives an image one more name.
    fn tag(&self, id: &Digest, reference: &str) -> Result<(), String>;

    /// Takes a name away, and the image with its last one.
    fn remove(&self, reference: &str) -> Result<(), String>;

    /// As an archive (`docker save`).
    fn save(&self, id: &Digest) -> Result<Box<dyn Read>, String>;

    fn load(&self, archive: &mut dyn Read) -> Result<(), String>;
}

/// The digest under which the registry of `reference` knows an image, and the name to pull it by. `None`: it never was
/// in a registry, as far as the engine knows.
pub fn digest_of(here: &Here, reference: &str) -> Option<Digest> {
    let repository = repository(reference);
    if repository.starts_with("localhost/") {
        // The space of names of what is built here.
        return None;
    }
    let mut digests: Vec<Digest> = here
        .digests
        .iter()
        .filter_map(|digest| digest.split_once('@'))
        .filter(|(name, _)| is_same(name, repository))
        .filter_map(|(_, digest)| Digest::parse(digest).ok())
        .collect();
    // An index and the manifest in it both have one; always the same of them is taken.
    digests.sort();
    digests.into_iter().next()
}

/// Without tag and digest.
pub fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// `redis` is `docker.io/library/redis`.
fn is_same(full: &str, written: &str) -> bool {
    full == written
        || full.strip_prefix("docker.io/library/") == Some(written)
        || full.strip_prefix("docker.io/") == Some(written)
}

/// Of this host, as images name it.
pub fn host_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm/v7",
        other => other,
    };
    format!("linux/{architecture}")
}

#[cfg(test)]
pub mod tests;
