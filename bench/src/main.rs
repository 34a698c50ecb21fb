//! `cargo xtask bench`: what a proxy costs, beside the proxies that most meshes are built from, doing the same work in
//! interleaved rounds on the same cores.
//!
//! Reading order: [`scenario`] (what is measured), [`load`] (the load generator, with [`link`] and [`origin`]),
//! [`peers`] (how each proxy is told its work), [`process`] (CPU time and memory), [`report`] (`docs/performance.md`).

mod arguments;
mod certificates;
mod floods;
mod install;
mod link;
mod load;
mod machine;
mod origin;
mod peers;
mod process;
mod report;
mod scenario;
mod soak;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use arguments::Arguments;
use certificates::Certificates;
use load::{Load, Work};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use origin::Origin;
use process::{Cpu, Memory, Running, pause};
use report::{Figures, Report};
use scenario::{Figure, Shape};

/// Connections that have been used once are looked at after this: what a proxy frees late counts as freed.
const SETTLE: Duration = Duration::from_secs(1);
const UPSTREAMS: usize = 3;

/// What all measurements share.
pub struct Bench {
    pub folder: PathBuf,
    pub certificates: Certificates,
    pub origin: Origin,
    pub quick: bool,
    pub requests: Option<u64>,
}

/// One proxy in one round of one scenario.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub cpu_us: f64,
    pub user_us: f64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Of one worker, where two are compared with it.
    pub alone_per_second: f64,
    pub alone_cpu_us: f64,
    pub idle: Memory,
    pub loaded: Memory,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == "soak").is_some() {
        return soak::run(words);
    }
    if words.next_if(|word| word == "floods").is_some() {
        return floods::run(words);
    }
    let arguments = match Arguments::parse(words) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{}", arguments::USAGE);
            return Ok(());
        }
        Err(problem) => bail!("{problem}\n\n{}", arguments::USAGE),
    };
    if arguments.install {
        install::install(&arguments.peers_folder)?;
    }
    let peers = install::find(&arguments)?;
    raise_descriptors()?;
    let folder = arguments.run_folder();
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let bench = Bench {
        certificates: Certificates::make(&folder)?,
        folder,
        origin: Origin::bind(UPSTREAMS)?,
        quick: arguments.quick,
        requests: arguments.requests,
    };
    let mut figures = Figures::default();
    for scenario in scenario::ALL.iter().filter(|scenario| arguments.wants(scenario.name)) {
        eprintln!("{}", scenario.title);
        let with_direct = scenario.goal.figure == Figure::AddedP50Us;
        for round in 0..arguments.rounds {
            // A B C, then C B A: what drifts meets all alike.
            let mut order: Vec<_> =
                with_direct.then_some(None).into_iter().chain(peers.iter().map(Some)).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for peer in order {
                let name = peer.map_or("direct", |peer| &peer.name);
                match scenario.measure(&bench, peer) {
                    Ok(sample) => {
                        eprintln!("  {name:<12} {}", report::line(scenario, &sample));
                        figures.add(scenario.name, name, sample);
                    }
                    Err(error) => eprintln!("  {name:<12} {error:#}"),
                }
            }
        }
    }
    let report = Report { peers: &peers, figures: &figures, rounds: arguments.rounds };
    print!("{}", report.tables());
    if let Some(path) = &arguments.write {
        std::fs::write(path, report.page()).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("written: {}", path.display());
    }
    Ok(())
}

/// As many as this process may have; its children get the same.
fn raise_descriptors() -> Result<()> {
    let most = getrlimit(Resource::RLIMIT_NOFILE)?.1;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

impl Bench {
    /// Puts `work` on `target` and reads what it costs `processes`.
    fn measure(
        &self,
        target: SocketAddr,
        work: Work,
        processes: &[Running],
        shape: &Shape,
    ) -> Result<Sample> {
        let mut sample = Sample::default();
        if shape.memory {
            pause(SETTLE / 2);
            sample.idle = Memory::of(processes);
        }
        let mut load = Load::connect(&self.origin, target, work)?;
        let mut before = Cpu::default();
        let outcome = load.run(&mut || before = Cpu::of(processes))?;
        let after = Cpu::of(processes);
        if shape.memory {
            pause(SETTLE);
            sample.loaded = Memory::of(processes);
        }
        let answered = outcome.answered as f64;
        sample.cpu_us = after.since(before) / answered;
        sample.user_us = sample.cpu_us * after.user_share(before);
        sample.per_second = answered / outcome.seconds;
        sample.p50_us = outcome.quantile_us(0.5);
        sample.p99_us = outcome.quantile_us(0.99);
        if outcome.failed > 0 {
            bail!("{} of {} requests failed", outcome.failed, outcome.failed + outcome.answered);
        }
        // A proxy that skips its work would be compared with those that do it.
        if !processes.is_empty() && shape.is_marked && outcome.seen.marked < outcome.seen.sampled {
            bail!("x-request-id or traceparent is missing from requests");
        }
        Ok(sample)
    }
}

impl Sample {
    /// Of throughput.
    pub fn speedup(&self) -> f64 {
        self.per_second / self.alone_per_second
    }
}
