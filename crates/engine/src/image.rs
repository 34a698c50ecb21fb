//! Images: looked at, pulled, tagged, saved and loaded.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;

use crate::http::{Body, BodyReader, PATIENCE, Request, quoted};
use crate::{Engine, EngineError, Progress};

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`, of the image's configuration: names this image on this host, with or without a tag.
    pub id: String,
    pub tags: Vec<String>,
    /// `name@sha256:…`: what registries know it by. Empty for one that never was in a registry (Podman: also those).
    pub digests: Vec<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub environment: Vec<String>,
    pub working_dir: String,
    pub user: String,
    /// A name or a number; empty: SIGTERM.
    pub stop_signal: String,
    /// `5432/tcp`
    pub exposed: Vec<String>,
    /// Paths that the image declares as volumes.
    pub volumes: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub health: Option<ImageHealth>,
    pub architecture: String,
    pub os: String,
}

/// `HEALTHCHECK` of an image. Times in nanoseconds; 0: the engine's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageHealth {
    /// `["CMD", …]`, `["CMD-SHELL", script]` or `["NONE"]`.
    pub test: Vec<String>,
    pub interval: u64,
    pub timeout: u64,
    pub start_period: u64,
    pub retries: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<Config>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    labels: Option<BTreeMap<String, String>>,
    healthcheck: Option<ImageHealth>,
}

impl Engine {
    /// An image of this host, by name, digest or id. `None`: it is not here.
    pub fn image(&self, reference: &str) -> Result<Option<Image>, EngineError> {
        let path = format!("/images/{}/json", quoted(reference));
        let attempted = format!("looking at the image {reference}");
        let inspected: Inspected = match self.send(Request::new("GET", path, attempted)) {
            Err(error) if error.is_not_found() => return Ok(None),
            answered => answered?.json()?,
        };
        let mut image = Image::from(inspected);
        if image.health.is_none() {
            image.health = self.own_health(reference);
        }
        Ok(Some(image))
    }

    /// Podman 4 tells of an image's health check in words of its own only. Others have no such answer.
    fn own_health(&self, reference: &str) -> Option<ImageHealth> {
        #[derive(Deserialize)]
        struct Own {
            #[serde(rename = "Healthcheck", alias = "HealthCheck")]
            health: Option<ImageHealth>,
        }
        let path = format!("/v4.0.0/libpod/images/{}/json", quoted(reference));
        let own = self.send(Request::new("GET", path, "asking for the health check of an image")).ok()?;
        own.json::<Own>().ok()?.health
    }

    /// Brings an image from its registry: `reference` with a tag or a digest, `platform` like `linux/arm64`.
    pub fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), EngineError> {
        let mut path = format!("/images/create?fromImage={}", quoted(reference));
        if let Some(platform) = platform {
            path.push_str(&format!("&platform={}", quoted(platform)));
        }
        let attempted = format!("pulling the image {reference}");
        let request = Request::new("POST", path, attempted.clone()).timeout(Some(PATIENCE));
        follow(self.send(request)?.body(), &attempted, progress)
    }

    /// Gives an image one more name.
    pub fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        let path = format!("/images/{}/tag?repo={}&tag={}", quoted(image), quoted(repository), quoted(tag));
        self.send(Request::new("POST", path, format!("tagging {image} as {repository}:{tag}")))?.finish()
    }

    /// Takes a name away, and the image with its last one. An image that is not there is no error.
    pub fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        let path = format!("/images/{}", quoted(reference));
        match self.send(Request::new("DELETE", path, format!("removing the image {reference}"))) {
            Err(error) if error.is_not_found() => Ok(()),
            answered => answered?.finish(),
        }
    }

    /// The image as a tar archive, as `docker save` writes it.
    pub fn save(&self, reference: &str) -> Result<impl Read + use<>, EngineError> {
        let path = format!("/images/{}/get", quoted(reference));
        let request =
            Request::new("GET", path, format!("saving the image {reference}")).timeout(Some(PATIENCE));
        Ok(self.send(request)?.body())
    }

    /// Takes images from a tar archive, as `docker load` does.
    pub fn load(
        &self,
        archive: &mut dyn Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), EngineError> {
        let attempted = "loading images from an archive".to_owned();
        let mut request =
            Request::new("POST", "/images/load?quiet=true", attempted.clone()).timeout(Some(PATIENCE));
        request.body = Body::Tar(archive);
        follow(self.send(request)?.body(), &attempted, progress)
    }
}

impl From<Inspected> for Image {
    fn from(inspected: Inspected) -> Self {
        let config = inspected.config.unwrap_or_default();
        let keys =
            |map: Option<BTreeMap<String, serde_json::Value>>| map.unwrap_or_default().into_keys().collect();
        let id = &inspected.id;
        Self {
            // Podman leaves the algorithm out in some answers.
            id: if id.contains(':') { id.clone() } else { format!("sha256:{id}") },
            tags: inspected.repo_tags.unwrap_or_default(),
            digests: inspected.repo_digests.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            environment: config.env.unwrap_or_default(),
            working_dir: config.working_dir.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            stop_signal: config.stop_signal.unwrap_or_default(),
            exposed: keys(config.exposed_ports),
            volumes: keys(config.volumes),
            labels: config.labels.unwrap_or_default(),
            health: config.healthcheck,
            architecture: inspected.architecture,
            os: inspected.os,
        }
    }
}

/// A stream of JSON lines; the last one may be the error, though the status said that all is well.
pub(crate) fn follow(
    body: BodyReader,
    attempted: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), EngineError> {
    const LINE_BYTES_MAX: u64 = 1024 * 1024;
    let mut reader = BufReader::new(body);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let length = read.map_err(|source| EngineError::Io { attempted: attempted.to_owned(), source })?;
        if length == 0 {
            return Ok(());
        }
        // What is no object of the kind that is known says nothing that is needed.
        let Ok(said) = serde_json::from_slice::<Progress>(&line) else { continue };
        if let Some(message) = said.error.clone() {
            return Err(EngineError::Refused { attempted: attempted.to_owned(), status: 500, message });
        }
        progress(said);
    }
}
