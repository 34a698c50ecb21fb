//! What is still missing after a while: said by lines now and then, or shown below the picture.

use std::time::Duration;

use sinew_node::folders::Folders;
use sinew_spec::status::ServiceStatus;

use super::words::phase;
use crate::log;
use crate::terminal::harmless;
use crate::units::span;
use crate::view::{is_good, is_settled};

/// Most applications are up by then.
pub const FIRST: Duration = Duration::from_secs(3);
/// After the first ones, this often.
const EVERY: Duration = Duration::from_secs(30);
/// More rarely than the first time, and not so rarely that somebody thinks nothing happens.
const EARLY: [Duration; 2] = [FIRST, Duration::from_secs(10)];
/// Services of which more is told; the rest is counted.
const SERVICES_MAX: usize = 8;

/// When something is said.
#[derive(Debug, Default)]
pub struct Reminder {
    said: usize,
}

impl Reminder {
    /// True once each time that something is to be said. `elapsed`: since the beginning.
    pub fn is_due(&mut self, elapsed: Duration) -> bool {
        if elapsed < self.next() {
            return false;
        }
        while self.next() <= elapsed {
            self.said += 1;
        }
        true
    }

    fn next(&self) -> Duration {
        match EARLY.get(self.said) {
            Some(early) => *early,
            None => EVERY.saturating_mul(u32::try_from(self.said - EARLY.len() + 1).unwrap_or(u32::MAX)),
        }
    }
}

/// For an output that does not move. Empty: nothing is missing.
pub fn lines<'a>(
    services: impl IntoIterator<Item = &'a ServiceStatus>,
    folders: &Folders,
    elapsed: Duration,
) -> Vec<String> {
    let missing: Vec<&ServiceStatus> = services.into_iter().filter(|service| !is_settled(service)).collect();
    let mut lines = Vec::new();
    for service in missing.iter().take(SERVICES_MAX) {
        lines.push(format!("  {}: {}", service.name, phase(service)));
        if let Some(last) = last_line(service, folders) {
            lines.push(format!("    it wrote last: {last}"));
        }
        if service.waits_for.is_empty() {
            lines.push(format!("    `sinew logs {}` shows more", service.name));
        }
    }
    if missing.len() > SERVICES_MAX {
        lines.push(format!("  and {} more; `sinew status` shows all", missing.len() - SERVICES_MAX));
    }
    if !lines.is_empty() {
        lines.insert(0, format!("after {} not up yet:", seconds(elapsed)));
    }
    lines
}

/// Whole ones: `3s`, `1m 30s`.
fn seconds(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds => span(Duration::from_secs(seconds)),
    }
}

/// The picture tells already what each service is at.
pub fn below<'a>(services: impl IntoIterator<Item = &'a ServiceStatus>, folders: &Folders) -> Vec<String> {
    let stuck = services.into_iter().filter(|service| !is_settled(service) && service.waits_for.is_empty());
    stuck
        .take(SERVICES_MAX)
        .map(|service| {
            let name = &service.name;
            let more = format!("`sinew logs {name}` shows more");
            match last_line(service, folders) {
                Some(last) => format!("  {more}; {name} wrote last: {last}"),
                None => format!("  {more}; {name} has written nothing"),
            }
        })
        .collect()
}

/// Of the first instance that is not as it should be.
fn last_line(service: &ServiceStatus, folders: &Folders) -> Option<String> {
    let instance = service.instances.iter().find(|instance| !is_good(instance))?;
    let last = log::last_word(&folders.instance(&instance.name), &instance.name)?;
    Some(harmless(&last.text, false)).filter(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use sinew_node::folders::Bases;

    use super::*;
    use crate::view::sample;

    #[test]
    fn something_is_said_early_and_then_now_and_then() {
        let mut reminder = Reminder::default();
        let said: Vec<u64> =
            (0..100).filter(|second| reminder.is_due(Duration::from_secs(*second))).collect();
        assert_eq!(said, [3, 10, 30, 60, 90]);
        let mut late = Reminder::default();
        assert!(late.is_due(Duration::from_secs(45)));
        assert!(!late.is_due(Duration::from_secs(59)), "what was missed is not made up for");
        assert!(late.is_due(Duration::from_secs(60)));
    }

    #[test]
    fn what_is_missing_is_said_with_where_to_look() {
        let bases = Bases { run: "/nonexistent/r".into(), state: "/nonexistent/s".into() };
        let folders = Folders::new(&bases, &"shop".into());
        let shop = sample::shop();
        assert_eq!(
            lines(&shop.services, &folders, Duration::from_millis(3_040)),
            [
                "after 3s not up yet:",
                "  orders: unhealthy: HTTP 503 from :8000/health",
                "    `sinew logs orders` shows more",
                "  billing: waits for orders (healthy)",
            ]
        );
        assert_eq!(lines(&shop.services[..1], &folders, FIRST), [""; 0]);
        assert_eq!(
            below(&shop.services, &folders),
            ["  `sinew logs orders` shows more; orders has written nothing"]
        );
    }
}
