//! How the state of an application is shown to people. Pure: status and time in, text out.

use sinew_spec::status::{Health, InstanceState, InstanceStatus, ServiceStatus};

use crate::terminal::Paint;

pub mod instances;
pub mod overview;

#[cfg(test)]
pub mod sample;

/// One word for how an instance is, and its colour.
pub fn state_of(instance: &InstanceStatus) -> (&'static str, Paint) {
    match instance.state {
        InstanceState::Waiting => ("waiting", Paint::Dim),
        InstanceState::Starting => ("starting", Paint::Warn),
        InstanceState::Running => ("running", Paint::Plain),
        InstanceState::Draining => ("draining", Paint::Warn),
        InstanceState::Stopping => ("stopping", Paint::Warn),
        InstanceState::Stopped => ("stopped", Paint::Dim),
        InstanceState::Exited if instance.exit_code == Some(0) => ("completed", Paint::Dim),
        InstanceState::Exited => ("exited", Paint::Bad),
        InstanceState::Backoff => ("crashing", Paint::Bad),
    }
}

/// Of what runs; empty where no check is declared or nothing runs.
pub fn health_of(instance: &InstanceStatus) -> (&'static str, Paint) {
    let runs = matches!(
        instance.state,
        InstanceState::Starting | InstanceState::Running | InstanceState::Draining | InstanceState::Stopping
    );
    match instance.health {
        _ if !runs => ("", Paint::Plain),
        Health::None if instance.state == InstanceState::Starting => ("", Paint::Plain),
        Health::None => ("no check", Paint::Dim),
        Health::Starting => ("starting", Paint::Warn),
        Health::Healthy => ("healthy", Paint::Good),
        Health::Unhealthy => ("unhealthy", Paint::Bad),
    }
}

/// Serves as far as anybody can tell.
pub fn is_good(instance: &InstanceStatus) -> bool {
    match instance.state {
        InstanceState::Running => matches!(instance.health, Health::None | Health::Healthy),
        InstanceState::Exited => instance.exit_code == Some(0),
        _ => false,
    }
}

/// Nothing is left to wait for: as many good instances as wanted.
/// Said wherever somebody could think otherwise.
pub const EXPLICIT_WORDS: &str =
    "explicit posture: nothing seals the services; only calls between sidecars are authenticated";

pub fn is_settled(service: &ServiceStatus) -> bool {
    let good = service.instances.iter().filter(|instance| is_good(instance)).count();
    good >= service.wanted as usize
}
