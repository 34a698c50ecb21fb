//! What is measured, and the goal for it.

use anyhow::Result;

use crate::load::Work;
use crate::process::Running;
use crate::{Bench, Sample};

mod chain;

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

/// What the ours is held to. Microseconds of CPU per request where nothing else is said.
#[derive(Clone, Copy)]
pub struct Goal {
    pub figure: Figure,
    pub at_most: f64,
    /// As the goal is written, with ratios.
    pub text: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    CpuUs,
    PssMb,
    AddedP50Us,
}

/// The load, but for what depends on how thorough a run is.
#[derive(Clone, Copy)]
pub struct Shape {
    pub connections: usize,
    pub requests: u64,
    pub requests_per_second: Option<u32>,
    pub active_max: usize,
    pub request_body: usize,
    pub answer_body: usize,
    pub fresh: bool,
    /// Everything on the proxy's core: no wake-ups across cores, which cost more than a proxy in a virtual machine.
    pub one_core: bool,
    /// Memory is what counts: it is read before, and when all connections are idle after their requests.
    pub memory: bool,
    /// Requests reach the origin with `x-request-id` and `traceparent`.
    pub is_marked: bool,
}

const SHAPE: Shape = Shape {
    connections: 64,
    requests: 20_000,
    requests_per_second: None,
    active_max: usize::MAX,
    request_body: 0,
    answer_body: 1024,
    fresh: false,
    one_core: false,
    memory: false,
    is_marked: true,
};

/// As many connections as descriptors allow: a proxy needs two for each, this program as well.
const MANY: usize = 9_500;

const fn cpu(at_most: f64, text: &'static str) -> Goal {
    Goal { figure: Figure::CpuUs, at_most, text }
}

const fn memory(at_most: f64, text: &'static str) -> Goal {
    Goal { figure: Figure::PssMb, at_most, text }
}

/// In the order of the table. HTTP/2 takes its place here when there is an engine for it.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "http1",
        title: "HTTP/1.1, 64 connections, saturated, 1 KiB",
        chain: Chain::Plain,
        load: SHAPE,
        goal: cpu(9.0, "≤ 9.0 (≤ 0.19 × Envoy, ≤ 0.60 × nginx)"),
    },
    Scenario {
        name: "rate",
        title: "the same at 6000/s, everything on one core",
        chain: Chain::Plain,
        load: Shape { requests: 18_000, requests_per_second: Some(6000), one_core: true, ..SHAPE },
        goal: cpu(12.5, "≤ 12.5"),
    },
    Scenario {
        name: "mtls",
        title: "mutual TLS between two sidecars, sum of both",
        chain: Chain::Pair,
        load: Shape { requests: 15_000, ..SHAPE },
        goal: cpu(18.0, "≤ 18"),
    },
    Scenario {
        name: "handshake",
        title: "full mutual TLS 1.3 handshake and one request",
        chain: Chain::Secured,
        load: Shape { connections: 4, requests: 1_000, fresh: true, ..SHAPE },
        goal: cpu(310.0, "≤ 310"),
    },
    Scenario {
        name: "download",
        title: "1 MiB download, plaintext",
        chain: Chain::Plain,
        load: Shape { connections: 16, requests: 1_000, answer_body: 1024 * 1024, ..SHAPE },
        goal: cpu(250.0, "≤ 250"),
    },
    Scenario {
        name: "tcp",
        title: "TCP, 64 KiB each way",
        chain: Chain::Tcp,
        load: Shape {
            connections: 16,
            requests: 8_000,
            request_body: 64 * 1024,
            answer_body: 64 * 1024,
            is_marked: false,
            ..SHAPE
        },
        goal: cpu(24.0, "≤ 24"),
    },
    Scenario {
        name: "memory",
        title: "1000 HTTP/1.1 connections, plaintext",
        chain: Chain::Plain,
        load: Shape { connections: 1000, requests: 5_000, memory: true, ..SHAPE },
        goal: memory(14.0, "≤ 14 MB PSS (≤ 10 private)"),
    },
    Scenario {
        name: "memory-mtls",
        title: "1000 HTTP/1.1 connections, mutual TLS from clients",
        chain: Chain::Secured,
        load: Shape { connections: 1000, requests: 5_000, memory: true, ..SHAPE },
        goal: memory(30.0, "≤ 30 MB PSS"),
    },
    Scenario {
        name: "many",
        title: "9500 idle HTTP/1.1 connections, plaintext",
        chain: Chain::Plain,
        load: Shape { connections: MANY, requests: MANY as u64, active_max: 64, memory: true, ..SHAPE },
        goal: memory(f64::INFINITY, "-"),
    },
    Scenario {
        name: "many-mtls",
        title: "9500 idle HTTP/1.1 connections, mutual TLS from clients",
        chain: Chain::Secured,
        load: Shape { connections: MANY, requests: MANY as u64, active_max: 64, memory: true, ..SHAPE },
        goal: memory(f64::INFINITY, "-"),
    },
    Scenario {
        name: "added",
        title: "added p50 at 1000/s, everything on one core",
        chain: Chain::Plain,
        load: Shape {
            connections: 16,
            requests: 5_000,
            requests_per_second: Some(1000),
            one_core: true,
            ..SHAPE
        },
        goal: Goal { figure: Figure::AddedP50Us, at_most: 32.0, text: "≤ +32 µs" },
    },
];

impl Scenario {
    fn work(&self, bench: &Bench) -> Work {
        let Shape { connections, requests, requests_per_second, active_max, .. } = self.load;
        let requests = match bench.requests {
            Some(requests) => requests,
            None if bench.quick && !self.load.memory => requests / 20,
            None => requests,
        };
        Work {
            connections,
            warm: if self.load.memory { 0 } else { requests / 10 },
            requests,
            requests_per_second,
            active_max,
            request_body: self.load.request_body,
            answer_body: self.load.answer_body,
            fresh: self.load.fresh,
            secured: None,
        }
    }

    /// One proxy (or none: `direct`), one round.
    pub fn measure(&self, bench: &Bench, peer: Option<&crate::peers::Peer>) -> Result<Sample> {
        let mut work = self.work(bench);
        let (target, processes, secured) = match peer {
            Some(peer) => self.chain.start(bench, peer)?,
            None => (crate::peers::loopback(bench.origin.ports[0]), Vec::new(), None),
        };
        work.secured = secured;
        crate::process::pin(if self.load.one_core { bench.proxy_core } else { bench.load_core })?;
        bench.measure(target, work, &processes, &self.load)
    }
}

/// Keeps processes from being mistaken for something to drop early.
pub type Processes = Vec<Running>;
