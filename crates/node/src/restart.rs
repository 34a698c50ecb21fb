//! Whether and when a service that ended is started again. No clock: durations are passed in.

use std::time::Duration;

use sinew_spec::application::RestartPolicy;

#[cfg(test)]
mod tests;

const PAUSE_MIN: Duration = Duration::from_millis(100);
/// A service that fails for hours is tried that often.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A life that lasted this long makes everything before it forgotten.
const STABLE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Again, after this pause.
    Again(Duration),
    /// It has ended for good.
    Stay,
}

/// What one instance has been through.
#[derive(Clone, Debug)]
pub struct Restarts {
    policy: RestartPolicy,
    /// Failures since the last stable life.
    in_a_row: u32,
    total: u32,
}

impl Restarts {
    /// `total`: restarts of earlier launchers, for the count that is shown.
    pub fn new(policy: RestartPolicy, total: u32) -> Self {
        Self { policy, in_a_row: 0, total }
    }

    /// The count that is shown.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// The service ended with `code` after `lived`.
    pub fn exited(&mut self, code: i32, lived: Duration) -> Decision {
        let again = match self.policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { attempts_max: None } => code != 0,
            RestartPolicy::OnFailure { attempts_max: Some(max) } => code != 0 && self.total < max,
        };
        if again { Decision::Again(self.pause(lived)) } else { Decision::Stay }
    }

    /// The seal itself ended or could not be made. That is our failure and not the service's: it is made again,
    /// whatever the policy says.
    pub fn lost(&mut self, lived: Duration) -> Duration {
        self.pause(lived)
    }

    fn pause(&mut self, lived: Duration) -> Duration {
        if lived >= STABLE {
            self.in_a_row = 0;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << self.in_a_row.min(16)).min(PAUSE_MAX);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.total = self.total.saturating_add(1);
        pause
    }
}
