//! An update from its first step to its end: what is done next, decided from what is seen. Pure: no I/O, no clock. The
//! launcher carries the actions out in order and tells what it sees; a kill of everything at any moment leaves a journal
//! from which [`judge`] knows what became of it.
//!
//! All services of an update are kept or none. They are replaced one after the other, each by the launcher's own rules
//! (the new instance serves before the old one goes, where two may run beside each other); then all are watched.

use std::time::{Duration, Instant};

use sinew_spec::digest::Digest;
use sinew_spec::name::ServiceName;
use sinew_spec::update::{HistoryEntry, Journal, ServiceUpdate, Step, UpdateOutcome, UpdateRequest, What};

pub mod history;
pub mod journal;
#[cfg(test)]
mod tests;

/// Which of two versions instances shall be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Old,
    New,
}

/// What the launcher does, in the order given; each is done before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the step down so that it survives a power cut.
    Journal(Step),
    /// Instances of the service shall be of this version from now on.
    Define(ServiceName, Side),
    /// Write `sinew.lock`, then the history; take the journal away. [`Update::kept`] is told how that went.
    Keep,
    /// Write the history and take the journal away.
    Conclude(UpdateOutcome),
}

/// A service as the launcher sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Every wanted instance is of the version that is wanted now and serves; no other one is left.
    pub settled: bool,
    /// What is wrong with an instance of the version that is wanted now: it crashed, it is not healthy.
    pub trouble: Option<String>,
}

#[derive(Debug)]
pub struct Update {
    pub request: UpdateRequest,
    /// As many as services: how long one may take until it is replaced.
    patience: Vec<Duration>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Begin,
    Replacing { position: usize, since: Instant },
    Watching { until: Instant },
    Keeping,
    TakingBack { reason: String, touched: usize, since: Instant },
    Ended(UpdateOutcome),
}

/// An old version that served before has this long, after its own patience, to serve again.
const RETURN_MAX: Duration = Duration::from_secs(60);

impl Update {
    /// `patience`: for each service of the request.
    pub fn new(request: UpdateRequest, patience: Vec<Duration>) -> Self {
        debug_assert_eq!(request.services.len(), patience.len(), "one for each service");
        Self { request, patience, phase: Phase::Begin }
    }

    /// `None`: it goes on.
    pub fn outcome(&self) -> Option<&UpdateOutcome> {
        match &self.phase {
            Phase::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// When to ask again though nothing was seen.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Replacing { position, since } => Some(*since + self.patience[*position]),
            Phase::Watching { until } => Some(*until),
            Phase::TakingBack { since, .. } => Some(*since + self.return_patience()),
            Phase::Begin | Phase::Keeping | Phase::Ended(_) => None,
        }
    }

    /// What to do now. To be asked again after every change, and until it says nothing: after the actions were carried
    /// out, more may be due at once.
    pub fn step(&mut self, now: Instant, see: impl Fn(&ServiceName) -> Seen) -> Vec<Action> {
        match &self.phase {
            Phase::Begin => self.replace(0, now),
            Phase::Replacing { position, since } => {
                let (position, since) = (*position, *since);
                let seen = see(self.service(position));
                // Those that were replaced before must not fall over meanwhile.
                let trouble = (0..=position).find_map(|earlier| self.trouble(earlier, &see));
                if let Some(reason) = trouble {
                    return self.take_back(reason, position + 1, now);
                }
                if seen.settled {
                    return self.replace(position + 1, now);
                }
                if now.saturating_duration_since(since) >= self.patience[position] {
                    let patience = self.patience[position].as_secs();
                    let reason = format!("{} did not serve within {patience} s", self.service(position));
                    return self.take_back(reason, position + 1, now);
                }
                Vec::new()
            }
            Phase::Watching { until } => {
                let until = *until;
                let all = self.request.services.len();
                if let Some(reason) = (0..all).find_map(|position| self.trouble(position, &see)) {
                    return self.take_back(reason, all, now);
                }
                if now < until {
                    return Vec::new();
                }
                self.phase = Phase::Keeping;
                vec![Action::Journal(Step::Keeping), Action::Keep]
            }
            Phase::TakingBack { reason, touched, since } => {
                let back = (0..*touched).all(|position| see(self.service(position)).settled);
                let late = now.saturating_duration_since(*since) >= self.return_patience();
                if !back && !late {
                    return Vec::new();
                }
                let reason = match back {
                    true => reason.clone(),
                    false => format!("{reason}; the old version does not serve either"),
                };
                self.end(UpdateOutcome::TakenBack { reason })
            }
            Phase::Keeping | Phase::Ended(_) => Vec::new(),
        }
    }

    /// An action could not be carried out: the journal could not be written, say.
    pub fn failed(&mut self, reason: String, now: Instant) -> Vec<Action> {
        match &self.phase {
            Phase::Begin | Phase::Ended(_) => self.end(UpdateOutcome::TakenBack { reason }),
            Phase::Replacing { position, .. } => {
                let touched = position + 1;
                self.take_back(reason, touched, now)
            }
            Phase::Watching { .. } | Phase::Keeping => {
                let all = self.request.services.len();
                self.take_back(reason, all, now)
            }
            // The way back is gone to its end, written down or not.
            Phase::TakingBack { .. } => Vec::new(),
        }
    }

    /// [`Action::Keep`] was carried out.
    pub fn kept(&mut self) {
        self.phase = Phase::Ended(UpdateOutcome::Kept);
    }

    /// The application is taken down: what was not kept by now is not kept.
    pub fn interrupted(&mut self, reason: &str) -> Vec<Action> {
        match &self.phase {
            Phase::Ended(_) => Vec::new(),
            Phase::TakingBack { reason, .. } => {
                let reason = reason.clone();
                self.end(UpdateOutcome::TakenBack { reason })
            }
            _ => self.end(UpdateOutcome::TakenBack { reason: reason.to_owned() }),
        }
    }

    fn service(&self, position: usize) -> &ServiceName {
        &self.request.services[position].service
    }

    fn trouble(&self, position: usize, see: &impl Fn(&ServiceName) -> Seen) -> Option<String> {
        see(self.service(position)).trouble
    }

    fn replace(&mut self, position: usize, now: Instant) -> Vec<Action> {
        let Some(next) = self.request.services.get(position) else {
            let until = now + Duration::from_millis(self.request.watch_ms);
            self.phase = Phase::Watching { until };
            return vec![Action::Journal(Step::Watching)];
        };
        let service = next.service.clone();
        self.phase = Phase::Replacing { position, since: now };
        vec![
            Action::Journal(Step::Replacing { service: service.clone() }),
            Action::Define(service, Side::New),
        ]
    }

    /// The last one that was replaced comes back first.
    fn take_back(&mut self, reason: String, touched: usize, now: Instant) -> Vec<Action> {
        let mut actions = vec![Action::Journal(Step::TakingBack { reason: reason.clone() })];
        for position in (0..touched).rev() {
            actions.push(Action::Define(self.service(position).clone(), Side::Old));
        }
        self.phase = Phase::TakingBack { reason, touched, since: now };
        actions
    }

    fn return_patience(&self) -> Duration {
        self.patience.iter().sum::<Duration>() + RETURN_MAX
    }

    fn end(&mut self, outcome: UpdateOutcome) -> Vec<Action> {
        self.phase = Phase::Ended(outcome.clone());
        vec![Action::Conclude(outcome)]
    }
}

/// What the history says of an update that has ended.
pub fn entries(request: &UpdateRequest, outcome: &UpdateOutcome, unix_ms: u64) -> Vec<HistoryEntry> {
    let (what, reason) = match outcome {
        UpdateOutcome::Kept => (What::from(request.cause), None),
        UpdateOutcome::TakenBack { reason } => (What::TakenBack, Some(reason.clone())),
    };
    let entry = |update: &ServiceUpdate| HistoryEntry {
        unix_ms,
        service: update.service.clone(),
        reference: update.reference.clone(),
        what,
        from: Some(update.from.clone()),
        to: Some(update.to.clone()),
        reason: reason.clone(),
    };
    request.services.iter().map(entry).collect()
}

/// What became of an update whose launcher died, from its journal and from what runs now (`sinew.lock` said so).
/// `runs`: the id of a service's image.
pub fn judge(journal: &Journal, runs: impl Fn(&ServiceName) -> Option<Digest>) -> UpdateOutcome {
    let kept =
        journal.request.services.iter().all(|update| runs(&update.service) == Some(update.to.id.clone()));
    // The lock is written as a whole: all of them or none.
    if kept && journal.step == Step::Keeping {
        return UpdateOutcome::Kept;
    }
    let when = match &journal.step {
        Step::Replacing { service } => format!("while {service} was replaced"),
        Step::Watching => "while the new version was watched".to_owned(),
        Step::Keeping => "before the new version was kept".to_owned(),
        Step::TakingBack { reason } => return UpdateOutcome::TakenBack { reason: reason.clone() },
    };
    UpdateOutcome::TakenBack { reason: format!("interrupted {when}: Sinew or the machine ended") }
}
