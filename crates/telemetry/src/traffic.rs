//! From the counters of many proxies to what a person reads: rates and quantiles over a window.

use std::time::Duration;

use sinew_spec::status::{RouteStats, TrafficStatus};

use crate::histogram::{Latency, difference, merge, quantile_us};

/// The traffic of one service between two readings of the proxies that call it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    requests: u64,
    errors: u64,
    connections: u64,
    latency: Latency,
}

impl Window {
    /// Adds what one proxy counted between two readings of a route. `before`: `None` when the window's beginning has
    /// no reading of it, so that all of `now` is new. A proxy that counts less now has started anew: the same.
    pub fn add(&mut self, now: &RouteStats, before: Option<&RouteStats>) {
        let nothing = RouteStats::default();
        let has_restarted =
            |before: &&RouteStats| now.requests < before.requests || now.connections < before.connections;
        let before = before.filter(|before| !has_restarted(before)).unwrap_or(&nothing);
        self.requests += now.requests - before.requests;
        self.errors += now.errors.saturating_sub(before.errors);
        self.connections += now.connections - before.connections;
        self.latency = merge(&self.latency, &difference(&now.latency_us, &before.latency_us));
    }

    /// `length`: the time between the two readings.
    pub fn status(&self, length: Duration) -> TrafficStatus {
        let milliseconds = |quantile| quantile_us(&self.latency, quantile).map(|us| us / 1000.0);
        let seconds = length.as_secs_f64();
        TrafficStatus {
            requests: self.requests,
            requests_per_second: if seconds > 0.0 { self.requests as f64 / seconds } else { 0.0 },
            errors: self.errors,
            p50_ms: milliseconds(0.5),
            p99_ms: milliseconds(0.99),
            connections: self.connections,
        }
    }
}

#[cfg(test)]
mod tests;
