//! The command line.

use std::path::{Path, PathBuf};

pub const USAGE: &str = "\
cargo xtask bench [OPTIONS]

  --quick            one round of few requests: does everything work?
  --install          first install the peers that are missing (Envoy from PyPI into target/bench, nginx and
                     HAProxy from Debian), without starting a service of theirs
  --rounds N         interleaved rounds (3)
  --requests N       so many per measurement instead of the scenario's own
  --only A,B         scenarios, by name (all)
  --proxies A,B      of envoy, nginx, haproxy, sinew (all that are installed)
  --sinew PATH       the binary to measure (built with --release)
  --also NAME=PATH   another binary of Sinew, to compare with
  --wrap 'WORDS'     start Sinew's proxies through this: a profiler
  --write FILE       write the page (docs/performance.md); without --quick, --only and --proxies it is written anyway
";

pub struct Arguments {
    pub quick: bool,
    pub install: bool,
    pub rounds: usize,
    pub requests: Option<u64>,
    pub only: Vec<String>,
    pub proxies: Vec<String>,
    pub sinew: PathBuf,
    pub also: Vec<(String, PathBuf)>,
    pub wrapper: Vec<String>,
    pub write: Option<PathBuf>,
    pub peers_folder: PathBuf,
}

impl Arguments {
    /// `None`: help is wanted.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let target = target_folder();
        let mut arguments = Self {
            quick: false,
            install: false,
            rounds: 3,
            requests: None,
            only: Vec::new(),
            proxies: Vec::new(),
            sinew: target.join("release/sinew"),
            also: Vec::new(),
            wrapper: Vec::new(),
            write: None,
            peers_folder: target.join("bench"),
        };
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            let list = |value: String| value.split(',').map(str::to_owned).collect();
            match word.as_str() {
                "-h" | "--help" => return Ok(None),
                "--quick" => (arguments.quick, arguments.rounds) = (true, 1),
                "--install" => arguments.install = true,
                "--rounds" => {
                    arguments.rounds = value()?.parse().map_err(|_| "--rounds needs a number".to_owned())?;
                }
                "--requests" => {
                    let count = value()?.parse().map_err(|_| "--requests needs a number".to_owned())?;
                    arguments.requests = Some(count);
                }
                "--only" => arguments.only = list(value()?),
                "--proxies" => arguments.proxies = list(value()?),
                "--sinew" => arguments.sinew = value()?.into(),
                "--also" => {
                    let value = value()?;
                    let (name, path) = value.split_once('=').ok_or("--also needs NAME=PATH")?;
                    arguments.also.push((name.to_owned(), path.into()));
                }
                "--wrap" => arguments.wrapper = value()?.split(' ').map(str::to_owned).collect(),
                "--write" => arguments.write = Some(value()?.into()),
                _ => return Err(format!("{word} is not known")),
            }
        }
        let unknown = arguments
            .only
            .iter()
            .find(|name| !crate::scenario::ALL.iter().any(|scenario| scenario.name == name.as_str()));
        if let Some(unknown) = unknown {
            let names: Vec<_> = crate::scenario::ALL.iter().map(|scenario| scenario.name).collect();
            return Err(format!("{unknown} is no scenario; there are {}", names.join(", ")));
        }
        let is_whole = !arguments.quick && arguments.only.is_empty() && arguments.proxies.is_empty();
        if is_whole && arguments.write.is_none() {
            arguments.write = Some(root().join("docs/performance.md"));
        }
        Ok(Some(arguments))
    }

    pub fn wants(&self, scenario: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == scenario)
    }

    /// Configurations, certificates and logs of a run.
    pub fn run_folder(&self) -> PathBuf {
        self.peers_folder.join("run")
    }
}

/// Of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bench is a folder of the workspace")
}

/// Of cargo.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
