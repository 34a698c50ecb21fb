//! Keeping trees (`layer`) what the host has: told by inotify that something changed, the init renews them. What it was
//! told is not looked at, only that it was. The work is bounded however much happens: it rests much longer than it
//! works.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use super::layer::{Pace, Tree};
use super::sys;

/// From the first word of a change to the work: most changes come in groups.
const GATHER: Duration = Duration::from_millis(50);
/// Rest after work, as a multiple of it: 5 % of a processor at the most.
const REST_FACTOR: u32 = 20;
/// Where nobody tells of changes (the host allows a number of inotify instances for each user), and after trouble.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events are read and thrown away; what more there is waits for the next turn.
const READS_MAX: usize = 16;

pub struct Keeper {
    trees: Vec<Tree>,
    /// `None`: nobody tells.
    changes: Option<OwnedFd>,
    watches: BTreeSet<i32>,
    due: Option<Instant>,
    earliest: Instant,
    trouble: Option<String>,
}

impl Keeper {
    /// The first work is due at once: what changed since the trees were made is found by it.
    pub fn new(trees: Vec<Tree>) -> Self {
        let now = Instant::now();
        let changes = (!trees.is_empty()).then(|| sys::changes().ok()).flatten();
        let due = (!trees.is_empty()).then_some(now);
        Self { trees, changes, watches: BTreeSet::new(), due, earliest: now, trouble: None }
    }

    /// Readable when something changed.
    pub fn changes(&self) -> Option<&OwnedFd> {
        self.changes.as_ref()
    }

    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// `told`: [`Self::changes`] was readable. The answer: a trouble that was not there before.
    pub fn turn(&mut self, told: bool) -> Option<&str> {
        let now = Instant::now();
        if told {
            self.forget_events();
            let soon = self.earliest.max(now + GATHER);
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.renew(now)
    }

    fn renew(&mut self, begun: Instant) -> Option<&str> {
        if self.changes.is_none() {
            self.changes = sys::changes().ok();
        }
        let (mut again, mut trouble) = (false, None);
        let mut watches = BTreeSet::new();
        let mut untold = self.changes.is_none();
        for tree in &self.trees {
            let mut watch = |folder: &OwnedFd| {
                let Some(changes) = &self.changes else { return };
                match sys::watch(changes, folder.as_fd()) {
                    Ok(watch) => {
                        watches.insert(watch);
                    }
                    Err(_) => untold = true,
                }
            };
            let renewed = tree.renew(Pace::Rested(SystemTime::now()), &mut watch);
            again |= renewed.again;
            trouble = trouble.or(renewed.trouble);
        }
        if let Some(changes) = &self.changes {
            // Folders that were replaced.
            self.watches.difference(&watches).for_each(|watch| sys::forget(changes, *watch));
        }
        self.watches = watches;
        let ended = Instant::now();
        self.earliest = ended + (ended - begun) * REST_FACTOR;
        self.due = if again {
            Some(self.earliest.max(ended + GATHER))
        } else if untold || trouble.is_some() {
            Some(self.earliest.max(ended + LOOK_EVERY))
        } else {
            None
        };
        let is_new = trouble.is_some() && trouble != self.trouble;
        self.trouble = trouble;
        self.trouble.as_deref().filter(|_| is_new)
    }

    fn forget_events(&self) {
        let Some(changes) = &self.changes else { return };
        let mut buffer = [0; 4096];
        for _ in 0..READS_MAX {
            if !matches!(nix::unistd::read(changes, &mut buffer), Ok(1..)) {
                return;
            }
        }
    }
}
