//! From what a service should be and what is there to what is done next. Pure: asked again after every change, it gives
//! the next steps, never a plan that could become outdated.

use std::collections::BTreeSet;

use sinew_spec::name::{InstanceName, ServiceName};

#[cfg(test)]
mod tests;

/// What a service should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub replicas: u32,
    /// Of the definition and of the wish for a restart: an instance of another version is replaced.
    pub version: u64,
    /// The new one may run beside the old one. Not so when they would share a writable volume or a device.
    pub beside: bool,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    pub number: u32,
    pub version: u64,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// On its way, or failing.
    Unready,
    /// Serves; or has done what it should and ended.
    Ready,
    /// On its way out; its number is still taken.
    Retiring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Start(u32),
    Retire(u32),
}

pub fn steps(wanted: &Wanted, present: &[Present]) -> Vec<Step> {
    let replicas = wanted.replicas as usize;
    let (mut current, mut old): (Vec<&Present>, Vec<&Present>) = present
        .iter()
        .filter(|instance| instance.state != State::Retiring)
        .partition(|instance| instance.version == wanted.version);
    let mut retire: Vec<u32> = Vec::new();

    // Too many: those that do not serve go first, then the highest numbers.
    current.sort_by_key(|instance| (instance.state != State::Ready, instance.number));
    retire.extend(current.drain(replicas.min(current.len())..).map(|instance| instance.number));
    // An old one that does not serve is of no use to anybody.
    old.sort_by_key(|instance| instance.number);
    old.retain(|instance| {
        let stays = instance.state == State::Ready;
        if !stays {
            retire.push(instance.number);
        }
        stays
    });
    let current_ready = current.iter().filter(|instance| instance.state == State::Ready).count();
    // An old one goes when a new one serves in its place.
    while !old.is_empty() && current_ready + old.len() > replicas {
        retire.extend(old.pop().map(|instance| instance.number));
    }

    let retiring = present.iter().filter(|instance| instance.state == State::Retiring).count() + retire.len();
    // Whose places are still taken when a new one must not run beside an old one.
    let in_the_way = if wanted.beside { 0 } else { retiring };
    let missing = replicas.saturating_sub(current.len());
    let starts = if old.is_empty() {
        missing.saturating_sub(in_the_way)
    } else if current_ready < current.len() {
        // One after the other: the last new one does not serve yet.
        0
    } else if wanted.beside {
        // Nor more than one beyond what is wanted, those on their way out counted.
        if retiring == 0 { missing.min(1) } else { 0 }
    } else if current.len() + old.len() + in_the_way < replicas {
        1
    } else {
        if retiring == 0 {
            retire.extend(old.pop().map(|instance| instance.number));
        }
        0
    };

    let taken: BTreeSet<u32> = present.iter().map(|instance| instance.number).collect();
    let free = (1..).filter(|number| !taken.contains(number));
    let starts = free.take(starts).map(Step::Start);
    retire.into_iter().map(Step::Retire).chain(starts).collect()
}

/// `orders`, 2 -> `orders-2`.
pub fn instance_name(service: &ServiceName, number: u32) -> InstanceName {
    InstanceName::new(format!("{service}-{number}"))
}

/// `orders`, `orders-2` -> 2.
pub fn instance_number(service: &ServiceName, instance: &InstanceName) -> Option<u32> {
    instance.as_str().strip_prefix(service.as_str())?.strip_prefix('-')?.parse().ok()
}
