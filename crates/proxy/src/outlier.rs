//! Endpoints that do not answer are left out for a while: found by the requests themselves, as a process that is frozen
//! says nothing about itself. Time is passed in.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sinew_telemetry::RouteMetrics;
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// Dials that failed, or connections that broke in the middle of a request, without an answer in between.
const FAILURES_MAX: u32 = 5;
/// The first time out; each further one is twice as long.
const OUT_FIRST: Duration = Duration::from_secs(5);
const OUT_MAX: Duration = Duration::from_secs(20);
/// Of the endpoints of a destination. A caller that loses its own network must not lose all of them.
const OUT_PERCENT_MAX: usize = 50;
/// How long a trial may take to connect: whoever was chosen for it goes elsewhere then.
pub const TRIAL_TIME_MAX: Duration = Duration::from_millis(500);

/// How an endpoint answers the workers of this process. Who asks reads; only a failure, and an answer after one, takes the
/// lock.
pub struct Health {
    /// What times are counted from.
    began: Instant,
    failures: AtomicU32,
    /// Out until so many nanoseconds after `began`, and until a trial has succeeded. 0: it is in.
    out_until_ns: AtomicU64,
    is_on_trial: AtomicBool,
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    /// Times out in a row, with less than [`OUT_MAX`] between them.
    times: u32,
    came_back: Option<Instant>,
    /// Of the worker that has found it out.
    counted_by: Option<Arc<RouteMetrics>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            failures: AtomicU32::new(0),
            out_until_ns: AtomicU64::new(0),
            is_on_trial: AtomicBool::new(false),
            history: Mutex::default(),
        }
    }
}

/// The same, and where this worker counts.
pub struct Outlier {
    health: Arc<Health>,
    metrics: Arc<RouteMetrics>,
}

/// Whether one more may be out where `out` of `all` are.
pub fn may_go_out(out: usize, all: usize) -> bool {
    (out + 1) * 100 <= all * OUT_PERCENT_MAX
}

impl Outlier {
    pub fn new(health: Arc<Health>, metrics: Arc<RouteMetrics>) -> Self {
        Self { health, metrics }
    }

    /// It is chosen only when no other is left.
    pub fn is_out(&self, now: Instant) -> bool {
        self.out_until().is_some_and(|until| now < until || self.health.is_on_trial.load(Relaxed))
    }

    /// Its time is over and the caller is the first to use it again; [`Self::end_trial`] must follow.
    pub fn begin_trial(&self, now: Instant) -> bool {
        self.out_until().is_some_and(|until| now >= until) && !self.health.is_on_trial.swap(true, Relaxed)
    }

    pub fn end_trial(&self) {
        self.health.is_on_trial.store(false, Relaxed);
    }

    /// A failure that may be its own. True: it is out from now on.
    pub fn failed(&self, now: Instant, may_go_out: impl FnOnce() -> bool) -> bool {
        let mut history = self.health.history();
        let failures = self.health.failures.load(Relaxed).saturating_add(1);
        self.health.failures.store(failures, Relaxed);
        match self.out_until() {
            // What was on its way when it went out.
            Some(until) if now < until => return false,
            Some(_) => {}
            None if failures >= FAILURES_MAX && may_go_out() => {
                self.metrics.endpoints_out.increment();
                history.counted_by = Some(self.metrics.clone());
            }
            None => return false,
        }
        let length = history.go_out(now);
        let until = now.saturating_duration_since(self.health.began) + length;
        // A process does not run for the 584 years that would not fit.
        self.health.out_until_ns.store(until.as_nanos() as u64, Relaxed);
        self.metrics.endpoints_ejected.increment();
        true
    }

    /// A connection to it was made. It is in again, and the next failure is one too many.
    pub fn reached(&self, now: Instant) {
        if self.out_until().is_some() {
            self.come_back(now);
        }
    }

    /// It answered a request; perhaps one that was on its way when it went out.
    pub fn answered(&self, now: Instant) {
        self.reached(now);
        if self.health.failures.load(Relaxed) > 0 {
            let _history = self.health.history();
            self.health.failures.store(0, Relaxed);
        }
    }

    fn come_back(&self, now: Instant) {
        let mut history = self.health.history();
        // Another worker may have been first.
        if let Some(metrics) = history.counted_by.take() {
            metrics.endpoints_out.decrement();
            history.came_back = Some(now);
            self.health.failures.store(FAILURES_MAX - 1, Relaxed);
            self.health.out_until_ns.store(0, Relaxed);
        }
    }

    fn out_until(&self) -> Option<Instant> {
        match self.health.out_until_ns.load(Relaxed) {
            0 => None,
            nanoseconds => Some(self.health.began + Duration::from_nanos(nanoseconds)),
        }
    }
}

impl Health {
    fn history(&self) -> MutexGuard<'_, History> {
        // Whole between any two steps: usable whoever panicked.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    /// For how long.
    fn go_out(&mut self, now: Instant) -> Duration {
        let is_again = self.came_back.is_none_or(|back| now.saturating_duration_since(back) < OUT_MAX);
        let times = if is_again { self.times } else { 0 };
        self.times = times.saturating_add(1);
        OUT_FIRST.saturating_mul(1 << times.min(8)).min(OUT_MAX)
    }
}

impl Drop for Health {
    /// No worker knows it any more.
    fn drop(&mut self) {
        if let Some(metrics) = self.history().counted_by.take() {
            metrics.endpoints_out.decrement();
        }
    }
}
