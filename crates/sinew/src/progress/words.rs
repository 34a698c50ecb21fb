//! What a service is at, in words.

use sinew_spec::status::{Health, InstanceState, InstanceStatus, ServiceStatus};

use crate::terminal::{Paint, harmless};
use crate::view::{is_good, is_settled};

/// A service that has ended this often while everybody waits will not come up by itself.
const RESTARTS_MAX: u32 = 5;

/// `orders: 1 of 2 healthy`, `billing: waits for orders`.
pub fn describe(service: &ServiceStatus) -> String {
    format!("{}: {}", service.name, phase(service))
}

/// It will not come up by itself.
pub fn is_hopeless(instance: &InstanceStatus) -> bool {
    match instance.state {
        InstanceState::Exited => !is_good(instance),
        InstanceState::Backoff => instance.restarts >= RESTARTS_MAX,
        InstanceState::Running => instance.health == Health::Unhealthy,
        _ => false,
    }
}

/// It is waited for because it declares a port, and does not listen there.
pub fn is_unheard(instance: &InstanceStatus) -> bool {
    let lives = matches!(instance.state, InstanceState::Starting | InstanceState::Running);
    lives && instance.unheard_port.is_some()
}

/// An instance that was to take the place of others, and has ended: those are still there.
pub fn failed_beside(service: &ServiceStatus) -> Option<&InstanceStatus> {
    let ended = |instance: &&InstanceStatus| {
        matches!(instance.state, InstanceState::Exited | InstanceState::Backoff) && !is_good(instance)
    };
    service.instances.iter().find(ended).filter(|_| is_settled(service))
}

/// `number`: of instances that were there before.
pub fn serve_on(number: usize) -> String {
    match number {
        1 => "the earlier one serves on".to_owned(),
        more => format!("{more} earlier ones serve on"),
    }
}

/// What a service is at, in words.
pub fn phase(service: &ServiceStatus) -> String {
    let good = service.instances.iter().filter(|instance| is_good(instance)).count();
    let with = |words: String, message: &Option<String>| match message {
        Some(message) => format!("{words}: {}", harmless(message, false)),
        None => words,
    };
    let how = |instance: &InstanceStatus| match (&instance.message, instance.exit_code) {
        (Some(message), _) => harmless(message, false),
        (None, Some(code)) => format!("ended with code {code}"),
        (None, None) => "ended".to_owned(),
    };
    if let Some(failed) = failed_beside(service) {
        return format!("{}: {}; {}", failed.name, how(failed), serve_on(good));
    }
    if is_settled(service) {
        let completed = service.instances.iter().any(|instance| instance.state == InstanceState::Exited);
        let checked = service.instances.iter().any(|instance| instance.health == Health::Healthy);
        let word = if completed {
            "completed"
        } else if checked {
            "healthy"
        } else {
            "running"
        };
        return match service.instances.len() {
            0 => "nothing wanted".to_owned(),
            1 => word.to_owned(),
            more => format!("{more} {word}"),
        };
    }
    if let Some(crashing) = service.instances.iter().find(|i| i.state == InstanceState::Backoff) {
        return format!("{}; is tried again", how(crashing));
    }
    if let Some(exited) = service.instances.iter().find(|i| i.state == InstanceState::Exited && !is_good(i)) {
        return how(exited);
    }
    if !service.waits_for.is_empty() {
        return format!("waits for {}", service.waits_for.join(", "));
    }
    if let Some(unhealthy) = service.instances.iter().find(|i| i.health == Health::Unhealthy) {
        return with("unhealthy".to_owned(), &unhealthy.message);
    }
    let words = match (service.wanted, good) {
        (1, _) => "starting".to_owned(),
        (wanted, good) => format!("starting, {good} of {wanted} up"),
    };
    let message =
        service.instances.iter().find(|instance| !is_good(instance)).and_then(|i| i.message.clone());
    with(words, &message)
}

/// A mark for a service that is up, on its way, or in trouble.
pub fn mark(service: &ServiceStatus, spinner: &'static str) -> (&'static str, Paint) {
    let trouble = service.instances.iter().any(|instance| {
        instance.state == InstanceState::Backoff
            || (instance.state == InstanceState::Exited && !is_good(instance))
            || instance.health == Health::Unhealthy
    });
    if failed_beside(service).is_some() {
        ("x", Paint::Bad)
    } else if is_settled(service) {
        ("+", Paint::Good)
    } else if trouble {
        ("x", Paint::Bad)
    } else if service.waits_for.is_empty() {
        (spinner, Paint::Warn)
    } else {
        ("·", Paint::Dim)
    }
}
