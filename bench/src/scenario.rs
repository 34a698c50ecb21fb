//! What is measured, and the goal for it.

use anyhow::Result;

use crate::load::Work;
use crate::machine;
use crate::peers::{Peer, Protocol};
use crate::process::{Bounds, Running};
use crate::{Bench, Sample};

pub mod chain;

pub use chain::Chain;

/// One row of the table of goals.
pub struct Scenario {
    /// For the command line.
    pub name: &'static str,
    pub title: &'static str,
    pub chain: Chain,
    pub load: Shape,
    pub goal: Goal,
}

/// What ours is held to. It is reached as an absolute figure, or against the peers in the same run: a slower machine
/// is slower for all.
#[derive(Clone, Copy)]
pub struct Goal {
    pub figure: Figure,
    /// In the unit of the figure; `None`: there is no goal.
    pub at_most: Option<f64>,
    /// All of them: at most so many times what that peer needs.
    pub ratios: &'static [(Rival, f64)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    Envoy,
    Nginx,
    Haproxy,
    /// Whichever is the best in the run.
    Best,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    CpuUs,
    PssMb,
    AddedP50Us,
    /// What two workers get done, in times of what one does.
    Speedup,
}

/// The load, but for what depends on how thorough a run is.
#[derive(Clone, Copy)]
pub struct Shape {
    pub speaks: Protocol,
    /// Threads of each proxy.
    pub workers: usize,
    pub connections: usize,
    /// HTTP/2: requests under way at once on each connection.
    pub streams: usize,
    pub requests: u64,
    pub requests_per_second: Option<u32>,
    pub active_max: usize,
    pub request_body: usize,
    pub answer_body: usize,
    pub fresh: bool,
    pub cores: Cores,
    /// Of the time of a core, for each thread of a proxy, in percent.
    pub thread_percent_max: Option<u32>,
    /// Memory is what counts: it is read before, and when all connections are idle after their requests.
    pub memory: bool,
    /// Requests reach the origin with `x-request-id` and `traceparent`.
    pub is_marked: bool,
}

/// Who runs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    /// The proxy on one, load and origin on another.
    Apart,
    /// Everything on one: no wake-ups across cores, which cost more than a proxy in a virtual machine.
    One,
    /// Everything on both.
    Both,
}

impl Cores {
    fn of_proxy(self) -> &'static [usize] {
        if self == Self::Both { Self::all() } else { &[0] }
    }

    pub fn of_load(self) -> &'static [usize] {
        match self {
            Self::Apart if machine::cores() > 1 => &[1],
            Self::Apart | Self::One => &[0],
            Self::Both => Self::all(),
        }
    }

    fn all() -> &'static [usize] {
        if machine::cores() > 1 { &[0, 1] } else { &[0] }
    }
}

pub const SHAPE: Shape = Shape {
    speaks: Protocol::Http1,
    workers: 1,
    connections: 64,
    streams: 1,
    requests: 20_000,
    requests_per_second: None,
    active_max: usize::MAX,
    request_body: 0,
    answer_body: 1024,
    fresh: false,
    cores: Cores::Apart,
    thread_percent_max: None,
    memory: false,
    is_marked: true,
};

/// As many connections as descriptors allow: a proxy needs two for each, this program as well.
const MANY: usize = 9_500;

const fn cpu(at_most: f64, ratios: &'static [(Rival, f64)]) -> Goal {
    Goal { figure: Figure::CpuUs, at_most: Some(at_most), ratios }
}

const fn memory(at_most: Option<f64>) -> Goal {
    Goal { figure: Figure::PssMb, at_most, ratios: &[] }
}

/// Two workers, each with a fifth of a core: what the load generator needs for as much work on two cores is left for it.
const TWO: Shape =
    Shape { workers: 2, cores: Cores::Both, thread_percent_max: Some(20), requests: 12_000, ..SHAPE };
/// At which the costs of one and of two workers without a bound are compared.
const TWO_PER_SECOND: u32 = 3000;

const SPEEDUP: Goal = Goal { figure: Figure::Speedup, at_most: None, ratios: &[] };
/// Of [`Figure::Speedup`].
pub const SPEEDUP_MIN: f64 = 1.8;

/// Small calls in the shape of gRPC: a body each way, and trailers.
const CALLS: Shape =
    Shape { speaks: Protocol::Http2, request_body: 100, answer_body: 100, requests: 40_000, ..SHAPE };

/// In the order of the table.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "http1",
        title: "HTTP/1.1, 64 connections, saturated, 1 KiB",
        chain: Chain::Plain,
        load: SHAPE,
        goal: cpu(9.0, &[(Rival::Envoy, 0.19), (Rival::Nginx, 0.60)]),
    },
    Scenario {
        name: "rate",
        title: "the same at 6000/s, everything on one core",
        chain: Chain::Plain,
        load: Shape { requests: 18_000, requests_per_second: Some(6000), cores: Cores::One, ..SHAPE },
        goal: cpu(12.5, &[(Rival::Nginx, 0.57)]),
    },
    Scenario {
        name: "http2",
        title: "HTTP/2, 8 connections with 32 requests at once, small messages",
        chain: Chain::Plain,
        load: Shape { connections: 8, streams: 32, ..CALLS },
        goal: cpu(4.0, &[(Rival::Envoy, 0.12), (Rival::Haproxy, 0.33)]),
    },
    Scenario {
        name: "http2-single",
        title: "HTTP/2, 64 connections with one request at once, small messages",
        chain: Chain::Plain,
        load: Shape { requests: 20_000, ..CALLS },
        goal: cpu(11.0, &[(Rival::Haproxy, 0.57)]),
    },
    Scenario {
        name: "mtls",
        title: "mutual TLS between two sidecars, sum of both",
        chain: Chain::Pair,
        load: Shape { requests: 15_000, ..SHAPE },
        goal: cpu(18.0, &[(Rival::Haproxy, 0.55)]),
    },
    Scenario {
        name: "handshake",
        title: "full mutual TLS 1.3 handshake and one request",
        chain: Chain::Secured,
        load: Shape { connections: 4, requests: 1_000, fresh: true, ..SHAPE },
        goal: cpu(310.0, &[(Rival::Envoy, 0.57)]),
    },
    Scenario {
        name: "download",
        title: "1 MiB download, plaintext",
        chain: Chain::Plain,
        load: Shape { connections: 16, requests: 1_000, answer_body: 1024 * 1024, ..SHAPE },
        goal: cpu(250.0, &[(Rival::Best, 0.68)]),
    },
    Scenario {
        name: "tcp",
        title: "TCP, 64 KiB each way",
        chain: Chain::Plain,
        load: Shape {
            speaks: Protocol::Tcp,
            connections: 16,
            requests: 8_000,
            request_body: 64 * 1024,
            answer_body: 64 * 1024,
            is_marked: false,
            ..SHAPE
        },
        goal: cpu(24.0, &[(Rival::Nginx, 0.67)]),
    },
    Scenario {
        name: "memory",
        title: "1000 HTTP/1.1 connections, plaintext",
        chain: Chain::Plain,
        load: Shape { connections: 1000, requests: 5_000, memory: true, ..SHAPE },
        goal: memory(Some(14.0)),
    },
    Scenario {
        name: "memory-mtls",
        title: "1000 HTTP/1.1 connections, mutual TLS from clients",
        chain: Chain::Secured,
        load: Shape { connections: 1000, requests: 5_000, memory: true, ..SHAPE },
        goal: memory(Some(30.0)),
    },
    Scenario {
        name: "many",
        title: "9500 idle HTTP/1.1 connections, plaintext",
        chain: Chain::Plain,
        load: Shape { connections: MANY, requests: MANY as u64, active_max: 64, memory: true, ..SHAPE },
        goal: memory(None),
    },
    Scenario {
        name: "many-mtls",
        title: "9500 idle HTTP/1.1 connections, mutual TLS from clients",
        chain: Chain::Secured,
        load: Shape { connections: MANY, requests: MANY as u64, active_max: 64, memory: true, ..SHAPE },
        goal: memory(None),
    },
    Scenario {
        name: "two-workers",
        title: "two workers against one, HTTP/1.1, 64 connections, 1 KiB",
        chain: Chain::Plain,
        load: TWO,
        goal: SPEEDUP,
    },
    Scenario {
        name: "two-workers-http2",
        title: "two workers against one, HTTP/2, 16 connections with 16 requests at once, small messages",
        chain: Chain::Plain,
        load: Shape {
            speaks: Protocol::Http2,
            connections: 16,
            streams: 16,
            request_body: 100,
            answer_body: 100,
            requests: 40_000,
            ..TWO
        },
        goal: SPEEDUP,
    },
    Scenario {
        name: "two-workers-mtls",
        title: "two workers against one, mutual TLS from clients, 16 KiB",
        chain: Chain::Secured,
        load: Shape { answer_body: 16 * 1024, ..TWO },
        goal: SPEEDUP,
    },
    Scenario {
        name: "added",
        title: "added p50 at 1000/s, everything on one core",
        chain: Chain::Plain,
        load: Shape {
            connections: 16,
            requests: 5_000,
            requests_per_second: Some(1000),
            cores: Cores::One,
            ..SHAPE
        },
        goal: Goal { figure: Figure::AddedP50Us, at_most: Some(32.0), ratios: &[(Rival::Best, 0.78)] },
    },
];

impl Scenario {
    fn work(&self, bench: &Bench, load: &Shape) -> Work {
        let Shape { speaks, connections, streams, requests, requests_per_second, active_max, .. } = *load;
        let requests = match bench.requests {
            Some(requests) => requests,
            None if bench.quick && !load.memory => requests / 20,
            None => requests,
        };
        Work {
            connections,
            streams: (speaks == Protocol::Http2).then_some(streams),
            warm: if load.memory { 0 } else { requests / 10 },
            requests,
            requests_per_second,
            active_max,
            request_body: load.request_body,
            answer_body: load.answer_body,
            fresh: load.fresh,
            secured: None,
        }
    }

    /// One proxy (or none: `direct`), one round.
    pub fn measure(&self, bench: &Bench, peer: Option<&Peer>) -> Result<Sample> {
        if self.goal.figure != Figure::Speedup {
            return self.measure_with(bench, peer, &self.load);
        }
        let bounded = |workers| self.measure_with(bench, peer, &Shape { workers, ..self.load });
        let free = |workers| {
            let load = Shape {
                workers,
                thread_percent_max: None,
                requests_per_second: Some(TWO_PER_SECOND),
                ..self.load
            };
            self.measure_with(bench, peer, &load)
        };
        let (one, two) = (bounded(1)?, bounded(self.load.workers)?);
        let (one_free, two_free) = (free(1)?, free(self.load.workers)?);
        Ok(Sample {
            alone_per_second: one.per_second,
            per_second: two.per_second,
            alone_cpu_us: one_free.cpu_us,
            ..two_free
        })
    }

    fn measure_with(&self, bench: &Bench, peer: Option<&Peer>, load: &Shape) -> Result<Sample> {
        let mut work = self.work(bench, load);
        let (target, processes, secured) = match peer {
            Some(peer) => self.chain.start(bench, peer, load)?,
            None => (crate::peers::loopback(bench.origin.ports[0]), Vec::new(), None),
        };
        work.secured = secured;
        crate::process::pin(load.cores.of_load())?;
        let _bounds = load.thread_percent_max.map(|percent| Bounds::set(&processes, percent)).transpose()?;
        bench.measure(target, work, &processes, load)
    }
}

/// Keeps processes from being mistaken for something to drop early.
pub type Processes = Vec<Running>;
