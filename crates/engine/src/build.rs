//! Images built by the engine.

use std::io::Read;

use serde::Deserialize;

use crate::http::{Body, PATIENCE, Request, quoted};
use crate::image::follow;
use crate::{Engine, EngineError};

/// One line of what a pull, load or build says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Of a build: its output.
    pub stream: Option<String>,
    pub status: Option<String>,
    pub id: Option<String>,
    pub(crate) error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// What the image shall be called.
    pub tag: String,
    /// In the context.
    pub dockerfile: String,
    pub arguments: Vec<(String, String)>,
    pub target: Option<String>,
    pub labels: Vec<(String, String)>,
    pub platform: Option<String>,
    pub no_cache: bool,
    /// Look for newer base images.
    pub pull: bool,
}

impl Engine {
    /// `context`: a tar archive (see [`crate::tar`]).
    pub fn build(
        &self,
        build: &Build,
        context: &mut dyn Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), EngineError> {
        let object = |pairs: &[(String, String)]| {
            let map: serde_json::Map<_, _> =
                pairs.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
            quoted(&serde_json::Value::Object(map).to_string())
        };
        let mut path = format!(
            "/build?t={}&dockerfile={}&rm=true&forcerm=true&buildargs={}&labels={}",
            quoted(&build.tag),
            quoted(&build.dockerfile),
            object(&build.arguments),
            object(&build.labels),
        );
        for (name, value) in [("target", &build.target), ("platform", &build.platform)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", quoted(value)));
            }
        }
        for (name, on) in [("nocache", build.no_cache), ("pull", build.pull)] {
            if on {
                path.push_str(&format!("&{name}=1"));
            }
        }
        let attempted = format!("building the image {}", build.tag);
        let mut request = Request::new("POST", path, attempted.clone()).timeout(Some(PATIENCE));
        request.body = Body::Tar(context);
        follow(self.send(request)?.body(), &attempted, progress)
    }
}
