//! What a proxy counts: per-worker counters and latency histograms, and their encodings.
//!
//! This crate refuses to know requests, sockets and clocks: a caller says what happened and how long it took.
//! A request finds its [`RouteMetrics`] in what was compiled from configuration, and pays a few plain additions:
//! no lock, no allocation, no search by name. Each worker has a [`Registry`] of its own; whoever shows the figures
//! merges the [`Figures`] of all.

mod counter;
mod histogram;
mod prometheus;
mod registry;
mod traffic;

pub use counter::{Counter, Gauge, SharedGauge};
pub use histogram::{Histogram, Latency, difference, merge, quantile_us};
pub use prometheus::{CONTENT_TYPE, document};
pub use registry::{
    Cardinality, Direction, Failure, Figures, HTTP2_CODES, InFlight, OTHER, Outcome, ProcessMetrics,
    Registry, RouteFigures, RouteMetrics,
};
pub use traffic::Window;
