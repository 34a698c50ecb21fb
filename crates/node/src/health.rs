//! Is an instance able to serve? What is probed and how answers become a judgement.

use std::time::{Duration, Instant};

use sinew_spec::application::{HealthCheck, Probe, Service};
use sinew_spec::status::Health;

pub mod probe;
#[cfg(test)]
mod tests;

/// Until its first success an instance is probed at least this often.
const START_INTERVAL_MAX: Duration = Duration::from_millis(100);
/// A probe is always given this much time, also when the file asks for less.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The check of a service: its own, else whether its first port accepts connections. `None`: it has no port that we
/// know of, and counts as able to serve once it runs.
pub fn check_of(service: &Service) -> Option<HealthCheck> {
    if let Some(check) = &service.health {
        return Some(check.clone());
    }
    let port = service
        .published
        .first()
        .map(|published| published.target)
        .or_else(|| service.expose.first().copied())
        .or_else(|| service.protocols.keys().next().copied())?;
    Some(HealthCheck {
        probe: Probe::Tcp { port },
        interval_ms: 10_000,
        timeout_ms: 2_000,
        retries: 3,
        start_period_ms: 0,
        start_interval_ms: 100,
    })
}

/// The judgement of one life of one instance.
#[derive(Debug)]
pub struct Tracker {
    check: HealthCheck,
    declared: bool,
    started: Instant,
    failures_in_a_row: u32,
    health: Health,
    next: Instant,
}

impl Tracker {
    /// `declared`: false for the implicit check, which only says when an instance is ready for its first call; it is
    /// not asked again after that.
    pub fn new(check: HealthCheck, declared: bool, started: Instant) -> Self {
        Self { check, declared, started, failures_in_a_row: 0, health: Health::Starting, next: started }
    }

    /// An instance that was healthy under an earlier launcher.
    pub fn resume_healthy(&mut self) {
        self.health = Health::Healthy;
    }

    pub fn health(&self) -> Health {
        self.health
    }

    pub fn probe(&self) -> &Probe {
        &self.check.probe
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.check.timeout_ms).max(TIMEOUT_MIN)
    }

    /// When to probe next; `None`: never again.
    pub fn next(&self) -> Option<Instant> {
        (self.declared || self.health != Health::Healthy).then_some(self.next)
    }

    /// A probe that began at `began` has ended.
    pub fn record(&mut self, healthy: bool, began: Instant, now: Instant) {
        if healthy {
            self.failures_in_a_row = 0;
            self.health = Health::Healthy;
        } else {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
            // Compose: failures within the start period do not count towards the retries.
            let starts = self.health == Health::Starting
                && now.saturating_duration_since(self.started)
                    < Duration::from_millis(self.check.start_period_ms);
            if starts {
                self.failures_in_a_row = 0;
            }
            let grace = self.health == Health::Starting && !self.patience_is_over(now);
            if self.failures_in_a_row >= self.check.retries.max(1) && !grace {
                self.health = Health::Unhealthy;
            }
        }
        let interval = if self.health == Health::Healthy {
            Duration::from_millis(self.check.interval_ms)
        } else {
            Duration::from_millis(self.check.start_interval_ms).min(START_INTERVAL_MAX)
        };
        self.next = (began + interval).max(now);
    }

    /// Compose probes a starting service every `interval`, so it has `retries` intervals to become healthy. We probe
    /// more often at that time, and must not give up earlier for it.
    fn patience_is_over(&self, now: Instant) -> bool {
        let interval = Duration::from_millis(self.check.interval_ms);
        let patience = interval.saturating_mul(self.check.retries.max(1));
        let start = Duration::from_millis(self.check.start_period_ms);
        !self.declared || now.saturating_duration_since(self.started) >= start.saturating_add(patience)
    }
}
