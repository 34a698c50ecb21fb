//! The container engine of this host as a [`Store`].

use std::io::Read;

use sinew_engine::{Engine, EngineError, Image, Progress};
use sinew_spec::digest::Digest;
use sinew_spec::name::ServiceName;

use super::store::{Here, Store, repository};
use crate::build::Spinner;
use crate::failure::Failure;
use crate::terminal::Terminal;

pub struct EngineStore<'a> {
    pub engine: Engine,
    /// Where it is told how a pull goes on.
    terminal: &'a Terminal,
}

impl<'a> EngineStore<'a> {
    /// The engine that is found, if it can be used.
    pub fn find(terminal: &'a Terminal) -> Result<Self, Failure> {
        let unusable = |error: EngineError| Failure::bad_input("engine", error.to_string());
        let engine = sinew_engine::find().map_err(unusable)?;
        engine.check().map_err(unusable)?;
        Ok(Self { engine, terminal })
    }
}

impl Store for EngineStore<'_> {
    fn find(&self, reference: &str) -> Result<Option<Here>, String> {
        self.engine.image(reference).map_err(words)?.map(here).transpose()
    }

    fn pull(&self, reference: &str, platform: Option<&str>) -> Result<(), String> {
        let what = ServiceName::from("image");
        let spinner = Spinner::new("pulling", &what, reference, self.terminal);
        let mut tell = |progress: Progress| {
            // Line by line, layers are noise.
            if let Some(status) = progress.status.or(progress.stream).filter(|_| self.terminal.is_terminal) {
                spinner.line(status.trim());
            }
        };
        let pulled = self.engine.pull(reference, platform, &mut tell);
        spinner.finish();
        pulled.map_err(words)
    }

    fn tag(&self, id: &Digest, reference: &str) -> Result<(), String> {
        let repository = repository(reference);
        let tag = reference[repository.len()..].strip_prefix(':').unwrap_or("latest");
        self.engine.tag(id.as_str(), repository, tag).map_err(words)
    }

    fn remove(&self, reference: &str) -> Result<(), String> {
        self.engine.remove_image(reference).map_err(words)
    }

    fn save(&self, id: &Digest) -> Result<Box<dyn Read>, String> {
        Ok(Box::new(self.engine.save(id.as_str()).map_err(words)?))
    }

    fn load(&self, archive: &mut dyn Read) -> Result<(), String> {
        self.engine.load(archive, &mut |_| {}).map_err(words)
    }
}

fn here(image: Image) -> Result<Here, String> {
    let id = Digest::parse(&image.id)
        .map_err(|error| format!("the engine calls an image `{}`: {error}", image.id))?;
    Ok(Here { id, digests: image.digests })
}

fn words(error: EngineError) -> String {
    error.to_string()
}
