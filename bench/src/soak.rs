//! `cargo xtask soak`: two sidecars under requests of all kinds at once (good, malformed, cut, slow), and what they hold a
//! minute after the last one.

mod clients;
mod origin;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::clients::KINDS;
pub use self::origin::serve;
use crate::certificates::Certificates;
use crate::origin::Origin;
use crate::peers::{Kind, Peer};
use crate::process::{Memory, Running, pause};
use crate::scenario::chain::Chain;
use crate::scenario::{Cores, SHAPE, Shape};
use crate::{Bench, arguments};

pub const USAGE: &str = "\
cargo xtask soak [OPTIONS]

  --requests N       so many, of all kinds (10 000 000)
  --only A,B         kinds: pipelined, http2, fresh, bodies, reset, slow, malformed, answers, http2-resets (all)
  --sinew PATH       the binary to judge (built with --release)
";

/// After the last request, before what is left is counted.
const REST: Duration = Duration::from_secs(60);
/// Of all requests: the first ones, after which memory counts as that of a process at work.
const WARM_PART: u64 = 20;
const MEMORY_GROWTH_MAX: f64 = 1.05;
const ALL_REQUESTS: u64 = 10_000_000;

/// What all kinds of clients share.
pub struct Soak {
    pub target: SocketAddr,
    pub ends: AtomicBool,
    /// Requests that ended as they have to.
    pub done: AtomicU64,
    pub counts: [AtomicU64; KINDS.len()],
    pub failures: std::sync::Mutex<Vec<String>>,
}

impl Soak {
    pub fn done(&self, kind: usize, count: u64) {
        self.counts[kind].fetch_add(count, Ordering::Relaxed);
        self.done.fetch_add(count, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    /// Something that must not happen; the run goes on, so that all of it is seen.
    pub fn failed(&self, what: String) {
        let mut failures = self.failures.lock().expect("nobody panics with it");
        if failures.len() < 20 {
            eprintln!("  failed: {what}");
        }
        failures.push(what);
    }
}

/// What processes hold.
struct Held {
    descriptors: Vec<usize>,
    memory: Memory,
}

impl Held {
    fn by(processes: &[Running]) -> Result<Self> {
        let count = |process: &Running| -> Result<usize> {
            Ok(fs::read_dir(format!("/proc/{}/fd", process.id())).context("a proxy has ended")?.count())
        };
        Ok(Self {
            descriptors: processes.iter().map(count).collect::<Result<_>>()?,
            memory: Memory::of(processes),
        })
    }

    fn tell(&self, when: &str) {
        println!(
            "{when:<28} descriptors {:?}, PSS {:.1} MB, private {:.1} MB",
            self.descriptors,
            self.memory.pss_kib as f64 / 1024.0,
            self.memory.private_kib as f64 / 1024.0
        );
    }
}

pub fn run(words: impl Iterator<Item = String>) -> Result<()> {
    let mut only = Vec::new();
    let (mut requests, mut sinew) = (ALL_REQUESTS, arguments::target_folder().join("release/sinew"));
    let mut words = words;
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--requests" => requests = value()?.parse().context("--requests needs a number")?,
            "--only" => only = value()?.split(',').map(str::to_owned).collect(),
            "--sinew" => sinew = PathBuf::from(value()?),
            "-h" | "--help" => {
                print!("{USAGE}");
                return Ok(());
            }
            _ => bail!("unknown option {word}\n\n{USAGE}"),
        }
    }
    if let Some(word) = only.iter().find(|word| !KINDS.iter().any(|kind| kind.word == **word)) {
        bail!("unknown kind {word}\n\n{USAGE}");
    }
    let kinds: Vec<usize> = (0..KINDS.len())
        .filter(|&number| only.is_empty() || only.iter().any(|word| word == KINDS[number].word))
        .collect();
    crate::raise_descriptors()?;
    let folder = std::env::temp_dir().join(format!("sinew-soak-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = soak(requests, &kinds, sinew, folder.clone());
    if outcome.is_ok() {
        fs::remove_dir_all(&folder)?;
    }
    outcome
}

fn soak(requests: u64, kinds: &[usize], program: PathBuf, folder: PathBuf) -> Result<()> {
    let bench = Bench {
        certificates: Certificates::make(&folder)?,
        folder,
        origin: Origin::bind(1)?,
        quick: false,
        requests: None,
    };
    let peer = Peer { name: "sinew".to_owned(), kind: Kind::Sinew, program, wrapper: Vec::new() };
    let (target, processes, _) = Chain::Pair.start(&bench, &peer, &Shape { cores: Cores::Both, ..SHAPE })?;
    serve(bench.origin.listeners[0].try_clone()?)?;
    pause(Duration::from_secs(1));
    Held::by(&processes)?.tell("idle, nothing asked yet");

    let warm = mix(target, (requests / WARM_PART).max(1), kinds)?;
    pause(REST);
    let before = Held::by(&processes)?;
    before.tell(&format!("{REST:?} after {warm}"));

    let began = Instant::now();
    let done = mix(target, requests, kinds)?;
    println!("{done} requests in {:.0} s", began.elapsed().as_secs_f64());
    Held::by(&processes)?.tell("at their end");
    pause(REST);
    let after = Held::by(&processes)?;
    after.tell(&format!("{REST:?} after {done}"));

    if after.descriptors != before.descriptors {
        bail!("descriptors are left");
    }
    let growth = after.memory.private_kib as f64 / before.memory.private_kib as f64;
    println!("memory: {:+.1} %", (growth - 1.0) * 100.0);
    if growth > MEMORY_GROWTH_MAX {
        bail!("memory has grown");
    }
    Ok(())
}

/// Until so many requests ended as they have to. How many it were.
fn mix(target: SocketAddr, requests: u64, kinds: &[usize]) -> Result<u64> {
    let soak = Soak {
        target,
        ends: AtomicBool::new(false),
        done: AtomicU64::new(0),
        counts: Default::default(),
        failures: std::sync::Mutex::default(),
    };
    scope(|scope| {
        for &number in kinds {
            let (soak, kind) = (&soak, &KINDS[number]);
            for _ in 0..kind.threads {
                scope.spawn(move || {
                    while !soak.is_over() {
                        match (kind.round)(soak) {
                            Ok(count) => soak.done(number, count),
                            Err(error) => soak.failed(format!("{}: {error:#}", kind.name)),
                        }
                    }
                });
            }
        }
        while soak.done.load(Ordering::Relaxed) < requests {
            pause(Duration::from_millis(100));
        }
        soak.ends.store(true, Ordering::Relaxed);
    });
    for &number in kinds {
        println!("  {:<44} {:>10}", KINDS[number].name, soak.counts[number].load(Ordering::Relaxed));
    }
    let failures = soak.failures.into_inner().expect("nobody panics with it");
    if !failures.is_empty() {
        bail!("{} requests did not end as they have to; the first: {}", failures.len(), failures[0]);
    }
    Ok(soak.done.into_inner())
}
