//! `cargo xtask floods`: two sidecars under one kind of hostile client after the other, and what another client has of it:
//! how long its answers take, and what the processes weigh meanwhile.

mod kinds;

use std::any::Any;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::kinds::{KINDS, Kind};
use crate::certificates::Certificates;
use crate::origin::Origin;
use crate::peers::{self, Peer};
use crate::process::{Memory, Running, pause, pin};
use crate::scenario::chain::Chain;
use crate::scenario::{SHAPE, Shape};
use crate::{Bench, arguments, soak};

pub const USAGE: &str = "\
cargo xtask floods [OPTIONS]

  --seconds N        of each kind (5)
  --only A,B         kinds, by name (all)
  --sinew PATH       the binary to judge (built with --release)
";

const GROWTH_MAX_KIB: u64 = 16 * 1024;
/// Of the other client's p99, against idle.
const SLOWER_MAX: f64 = 5.0;
/// Below it the clock of the load counts for more than the proxy.
const P99_MIN_US: f64 = 200.0;
const EVERY: Duration = Duration::from_millis(2);
const ANSWER_MAX: Duration = Duration::from_secs(10);

struct Options {
    seconds: u64,
    only: Vec<String>,
    sinew: PathBuf,
}

pub fn run(mut words: impl Iterator<Item = String>) -> Result<()> {
    let mut options =
        Options { seconds: 5, only: Vec::new(), sinew: arguments::target_folder().join("release/sinew") };
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seconds" => options.seconds = value()?.parse().context("--seconds needs a number")?,
            "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
            "--sinew" => options.sinew = PathBuf::from(value()?),
            "-h" | "--help" => {
                print!("{USAGE}");
                return Ok(());
            }
            _ => bail!("unknown option {word}\n\n{USAGE}"),
        }
    }
    if let Some(word) = options.only.iter().find(|word| !KINDS.iter().any(|kind| kind.name == **word)) {
        let known = KINDS.map(|kind| kind.name).join(", ");
        bail!("unknown kind {word}; there are {known}");
    }
    let folder = std::env::temp_dir().join(format!("sinew-floods-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = judge(options, folder.clone());
    if outcome.is_ok() {
        fs::remove_dir_all(&folder)?;
    }
    outcome
}

fn judge(options: Options, folder: PathBuf) -> Result<()> {
    let bench = Bench {
        certificates: Certificates::make(&folder)?,
        folder,
        origin: Origin::bind(1)?,
        quick: false,
        requests: None,
    };
    let (name, wrapper) = ("sinew".to_owned(), Vec::new());
    let peer = Peer { name, kind: peers::Kind::Sinew, program: options.sinew, wrapper };
    let (target, processes, _) = Chain::Pair.start(&bench, &peer, &Shape { ..SHAPE })?;
    // Threads run where the one runs that starts them, and that has started proxies.
    pin(SHAPE.cores.of_load())?;
    let listener = bench.origin.listeners[0].try_clone()?;
    let serving = named("origin").spawn(|| step_back().and_then(|()| soak::serve(listener)))?;
    serving.join().map_err(panicked)??;
    let time = Duration::from_secs(options.seconds);
    // Once, so that pools are filled and what is loaded late is there.
    beside(target, &processes, time / 4, None)?;
    let idle = beside(target, &processes, time, None)?;
    println!("{:<28} {:>8} {:>12} {:>12}", "", "rounds", "p99 µs", "private KiB");
    println!("{:<28} {:>8} {:>12.0} {:>12}", "nobody else", 0, idle.p99_us, idle.private_kib);
    let mut problems = Vec::new();
    let chosen = KINDS
        .iter()
        .filter(|kind| options.only.is_empty() || options.only.iter().any(|word| word == kind.name));
    for kind in chosen {
        let seen = beside(target, &processes, time, Some(kind))?;
        println!("{:<28} {:>8} {:>12.0} {:>12}", kind.name, seen.rounds, seen.p99_us, seen.private_kib);
        let growth = seen.private_kib.saturating_sub(idle.private_kib);
        if growth > GROWTH_MAX_KIB {
            problems.push(format!("{}: memory grew by {growth} KiB", kind.name));
        }
        let slower = seen.p99_us / idle.p99_us.max(P99_MIN_US);
        if slower > SLOWER_MAX {
            problems.push(format!("{}: others wait {slower:.1} times as long", kind.name));
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// What was seen while a kind of hostile client was at it.
struct Seen {
    rounds: u64,
    p99_us: f64,
    /// The most, of both sidecars.
    private_kib: u64,
}

fn beside(target: SocketAddr, processes: &[Running], time: Duration, kind: Option<&Kind>) -> Result<Seen> {
    let (ends, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut private_kib = 0;
    let latencies = scope(|scope| -> Result<Vec<f64>> {
        let hostile = kind.map(|kind| {
            named("hostile").spawn_scoped(scope, || -> Result<()> {
                step_back()?;
                while !ends.load(Ordering::Relaxed) {
                    (kind.round)(target, &ends).with_context(|| kind.name)?;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let hostile = hostile.transpose()?;
        let other = named("other").spawn_scoped(scope, || ask(target, &ends))?;
        let began = Instant::now();
        while began.elapsed() < time && !other.is_finished() {
            pause(Duration::from_millis(50));
            private_kib = private_kib.max(Memory::of(processes).private_kib);
        }
        ends.store(true, Ordering::Relaxed);
        let latencies = other.join().map_err(panicked)?.context("the other client")?;
        if let Some(hostile) = hostile {
            hostile.join().map_err(panicked)??;
        }
        Ok(latencies)
    })?;
    Ok(Seen { rounds: rounds.into_inner(), p99_us: quantile(latencies, 0.99), private_kib })
}

fn panicked(_: Box<dyn Any + Send>) -> anyhow::Error {
    anyhow::anyhow!("a thread panicked")
}

fn named(name: &str) -> Builder {
    Builder::new().name(name.to_owned())
}

/// Hostile clients, and the application that answers them, stand for other machines: on this one core the client that is
/// measured goes before this thread and those that it starts.
fn step_back() -> Result<()> {
    let thread = nix::unistd::gettid().to_string();
    let done = Command::new("renice").args(["-n", "10", "-p", &thread]).stdout(Stdio::null()).status();
    ensure!(done.context("renice")?.success(), "renice has failed");
    Ok(())
}

fn quantile(mut values: Vec<f64>, quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * quantile) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// One request each [`EVERY`] on one connection; how long each answer took, in µs from when it was meant to be asked.
fn ask(target: SocketAddr, ends: &AtomicBool) -> Result<Vec<f64>> {
    let stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut latencies = Vec::new();
    let mut meant = Instant::now();
    while !ends.load(Ordering::Relaxed) {
        meant += EVERY;
        pause(meant.saturating_duration_since(Instant::now()));
        writer.write_all(b"GET / HTTP/1.1\r\nHost: other\r\n\r\n")?;
        let status = answer(&mut reader)?;
        ensure!(status == 200, "status {status}");
        latencies.push(meant.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}

/// Its status. The whole answer is read.
fn answer(reader: &mut BufReader<TcpStream>) -> Result<u16> {
    let (mut line, mut status, mut length) = (String::new(), 0, 0);
    loop {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "closed instead of an answer");
        if line.trim_end().is_empty() {
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
            return Ok(status);
        }
        if status == 0 {
            status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).context("a status")?;
        }
        let text = line.trim_end().to_ascii_lowercase();
        length = text.strip_prefix("content-length: ").and_then(|text| text.parse().ok()).unwrap_or(length);
    }
}
