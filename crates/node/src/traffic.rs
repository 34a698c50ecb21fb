//! What the proxies count, made into what `status` shows: requests of about the last ten seconds, by service called.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::status::{ProxyStats, RefusedStatus, RouteStats, TrafficStatus};

#[cfg(test)]
mod tests;

const WINDOW: Duration = Duration::from_secs(10);
/// At one sample per second, with room for those that are asked for in between.
const SAMPLES_MAX: usize = 32;
/// Of refused destinations of one service, those with the highest counts.
const REFUSED_MAX: usize = 100;

/// Sums since a service was first seen; never smaller, also when a proxy starts again at zero.
#[derive(Clone, Debug, Default, PartialEq)]
struct Totals {
    requests: u64,
    errors: u64,
    connections: u64,
    /// Upper bound in microseconds -> requests within it and all smaller ones.
    latency_us: BTreeMap<u64, u64>,
}

impl Totals {
    /// Adds what a proxy counted since `before`; a smaller number means that it started again.
    fn add(&mut self, now: &RouteStats, before: Option<&RouteStats>) {
        let again = before
            .is_none_or(|before| now.requests < before.requests || now.connections < before.connections);
        let none = RouteStats::default();
        let before = before.filter(|_| !again).unwrap_or(&none);
        self.requests += now.requests.saturating_sub(before.requests);
        self.errors += now.errors.saturating_sub(before.errors);
        self.connections += now.connections.saturating_sub(before.connections);
        let earlier: BTreeMap<u64, u64> = before.latency_us.iter().copied().collect();
        for (bound, count) in &now.latency_us {
            let counted = count.saturating_sub(earlier.get(bound).copied().unwrap_or(0));
            *self.latency_us.entry(*bound).or_default() += counted;
        }
    }

    fn since(&self, before: &Self) -> Self {
        let difference = |(bound, count): (&u64, &u64)| {
            (*bound, count.saturating_sub(before.latency_us.get(bound).copied().unwrap_or(0)))
        };
        Self {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            connections: self.connections.saturating_sub(before.connections),
            latency_us: self.latency_us.iter().map(difference).collect(),
        }
    }

    /// The bound within which that part of the requests was answered.
    fn quantile_ms(&self, part: f64) -> Option<f64> {
        let all = self.latency_us.values().max().copied().filter(|all| *all > 0)?;
        let wanted = (all as f64 * part).ceil() as u64;
        let bound = self.latency_us.iter().find(|(_, count)| **count >= wanted)?.0;
        Some(*bound as f64 / 1000.0)
    }
}

#[derive(Debug, Default)]
pub struct Traffic {
    last: BTreeMap<InstanceName, ProxyStats>,
    totals: BTreeMap<ServiceName, Totals>,
    /// Connections that are open now, by service called.
    open: BTreeMap<ServiceName, u64>,
    samples: VecDeque<(Instant, BTreeMap<ServiceName, Totals>)>,
}

impl Traffic {
    /// What every proxy counts now. One that did not answer is left out, and counted when it answers again.
    pub fn sample(&mut self, now: Instant, stats: BTreeMap<InstanceName, ProxyStats>) {
        self.open.clear();
        for (instance, now) in &stats {
            let before = self.last.get(instance);
            for (service, route) in &now.outbound {
                let name = ServiceName::from(service.as_str());
                let before = before.and_then(|before| before.outbound.get(service));
                self.totals.entry(name.clone()).or_default().add(route, before);
                *self.open.entry(name).or_default() += route.in_flight;
            }
        }
        self.last.extend(stats);
        self.samples.push_back((now, self.totals.clone()));
        // One sample older than the window stays, as what the window is compared with.
        while self.samples.len() > SAMPLES_MAX
            || self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    pub fn forget(&mut self, instance: &InstanceName) {
        self.last.remove(instance);
    }

    pub fn of(&self, service: &ServiceName) -> TrafficStatus {
        let (Some((from, oldest)), Some((to, latest))) = (self.samples.front(), self.samples.back()) else {
            return TrafficStatus::default();
        };
        let none = Totals::default();
        let window = latest.get(service).unwrap_or(&none).since(oldest.get(service).unwrap_or(&none));
        let seconds = to.saturating_duration_since(*from).as_secs_f64();
        TrafficStatus {
            requests: window.requests,
            requests_per_second: if seconds > 0.0 { window.requests as f64 / seconds } else { 0.0 },
            errors: window.errors,
            p50_ms: window.quantile_ms(0.5),
            p99_ms: window.quantile_ms(0.99),
            connections: self.open.get(service).copied().unwrap_or(0),
        }
    }

    /// Instances of the service that do not answer its callers, of the caller that leaves out most. `live`: those whose
    /// counters count.
    pub fn left_out<'a>(&self, service: &ServiceName, live: impl Iterator<Item = &'a InstanceName>) -> u64 {
        let of_caller =
            |stats: &ProxyStats| stats.outbound.get(service.as_str()).map(|route| route.endpoints_out);
        live.filter_map(|caller| of_caller(self.last.get(caller)?)).max().unwrap_or(0)
    }

    /// Calls to ports on which the instances of a service listen on loopback alone, since they started.
    pub fn loopback_only<'a>(&self, instances: impl Iterator<Item = &'a InstanceName>) -> BTreeMap<u16, u64> {
        let mut counts = BTreeMap::new();
        for stats in instances.filter_map(|instance| self.last.get(instance)) {
            for (port, route) in stats.inbound.iter().filter(|(_, route)| route.loopback_only > 0) {
                if let Ok(port) = port.parse() {
                    *counts.entry(port).or_default() += route.loopback_only;
                }
            }
        }
        counts
    }

    /// What the instances of a service tried to reach and were refused, since they started.
    pub fn refused<'a>(&self, instances: impl Iterator<Item = &'a InstanceName>) -> Vec<RefusedStatus> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for stats in instances.filter_map(|instance| self.last.get(instance)) {
            for (destination, count) in &stats.refused {
                *counts.entry(destination).or_default() += count;
            }
        }
        let mut refused: Vec<RefusedStatus> = counts
            .into_iter()
            .map(|(destination, count)| RefusedStatus { destination: destination.to_owned(), count })
            .collect();
        refused.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.destination.cmp(&b.destination)));
        refused.truncate(REFUSED_MAX);
        refused
    }
}
