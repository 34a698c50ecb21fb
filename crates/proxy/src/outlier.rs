//! Endpoints that do not answer are left out for a while: found by the requests themselves, as a process that is frozen
//! says nothing about itself. Time is passed in.

use std::cell::Cell;
use std::sync::Arc;
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

/// What one proxy knows of how an endpoint answers.
pub struct Outlier {
    failures: Cell<u32>,
    /// Times out in a row, with less than [`OUT_MAX`] between them.
    times: Cell<u32>,
    /// Out, until then and until a trial has succeeded. `None`: it is in.
    out_until: Cell<Option<Instant>>,
    came_back: Cell<Option<Instant>>,
    is_on_trial: Cell<bool>,
    metrics: Arc<RouteMetrics>,
}

/// Whether one more may be out where `out` of `all` are.
pub fn may_go_out(out: usize, all: usize) -> bool {
    (out + 1) * 100 <= all * OUT_PERCENT_MAX
}

impl Outlier {
    pub fn new(metrics: Arc<RouteMetrics>) -> Self {
        Self {
            failures: Cell::new(0),
            times: Cell::new(0),
            out_until: Cell::new(None),
            came_back: Cell::new(None),
            is_on_trial: Cell::new(false),
            metrics,
        }
    }

    /// It is chosen only when no other is left.
    pub fn is_out(&self, now: Instant) -> bool {
        self.out_until.get().is_some_and(|until| now < until || self.is_on_trial.get())
    }

    /// Its time is over and the caller is the first to use it again; [`Self::end_trial`] must follow.
    pub fn begin_trial(&self, now: Instant) -> bool {
        self.out_until.get().is_some_and(|until| now >= until) && !self.is_on_trial.replace(true)
    }

    pub fn end_trial(&self) {
        self.is_on_trial.set(false);
    }

    /// A failure that may be its own. True: it is out from now on.
    pub fn failed(&self, now: Instant, may_go_out: impl FnOnce() -> bool) -> bool {
        self.failures.set(self.failures.get().saturating_add(1));
        match self.out_until.get() {
            // What was on its way when it went out.
            Some(until) if now < until => false,
            Some(_) => {
                self.go_out(now);
                true
            }
            None if self.failures.get() >= FAILURES_MAX && may_go_out() => {
                self.metrics.endpoints_out.increment();
                self.go_out(now);
                true
            }
            None => false,
        }
    }

    fn go_out(&self, now: Instant) {
        let is_again = self.came_back.get().is_none_or(|back| now.saturating_duration_since(back) < OUT_MAX);
        let times = if is_again { self.times.get() } else { 0 };
        let length = OUT_FIRST.saturating_mul(1 << times.min(8)).min(OUT_MAX);
        self.times.set(times.saturating_add(1));
        self.out_until.set(Some(now + length));
        self.metrics.endpoints_ejected.increment();
    }

    /// A connection to it was made. It is in again, and the next failure is one too many.
    pub fn reached(&self, now: Instant) {
        if self.out_until.take().is_some() {
            self.failures.set(FAILURES_MAX - 1);
            self.came_back.set(Some(now));
            self.metrics.endpoints_out.decrement();
        }
    }

    /// It answered a request; perhaps one that was on its way when it went out.
    pub fn answered(&self, now: Instant) {
        self.reached(now);
        self.failures.set(0);
    }
}

impl Drop for Outlier {
    fn drop(&mut self) {
        if self.out_until.get().is_some() {
            self.metrics.endpoints_out.decrement();
        }
    }
}
