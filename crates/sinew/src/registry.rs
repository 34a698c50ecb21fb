//! The control plane as the launcher knows it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use sinew_control::{Control, Entry};
use sinew_node::registry::{Answer, Applied, Names, Registration, Registry, RegistryError, Routing};
use sinew_spec::application::Application;
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::proxy::{Published, Trust};
use tokio::net::UnixListener;

pub struct ControlRegistry(pub Control);

impl Registry for ControlRegistry {
    fn declare(&self, application: &Application, published: &[Published]) -> Result<(), RegistryError> {
        self.0
            .declare(application.clone(), published.to_vec())
            .map(drop)
            .map_err(|error| failed(format!("declaring the application {}", application.name), error))
    }

    fn names(&self, service: &ServiceName) -> Result<Names, RegistryError> {
        let hosts = self
            .0
            .hosts(service)
            .ok_or_else(|| failed(format!("the names for {service}"), "no such service"))?;
        Ok(Names { services: hosts.services, hosts: hosts.hosts })
    }

    fn enter<'a>(&'a self, registrations: Vec<Registration>) -> Answer<'a, Result<(), RegistryError>> {
        let entries: Result<Vec<Entry>, RegistryError> = registrations.into_iter().map(entry).collect();
        Box::pin(async move {
            self.0.enter(entries?);
            Ok(())
        })
    }

    fn route(&self, instance: &InstanceName, routing: Routing) -> Result<u64, RegistryError> {
        self.0
            .route(instance, routing_of(routing))
            .map_err(|error| failed(format!("routing {instance}"), error))
    }

    fn leave(&self, instance: &InstanceName) -> Result<(), RegistryError> {
        self.0.leave(instance);
        Ok(())
    }

    fn proxy_ended(&self, instance: &InstanceName) {
        self.0.proxy_ended(instance);
    }

    fn hears(&self, instance: &InstanceName) -> bool {
        self.0.hears(instance)
    }

    fn applied<'a>(&'a self, revision: u64, within: Duration) -> Answer<'a, bool> {
        Box::pin(async move { self.0.wait_applied(revision, within).await.is_complete() })
    }

    fn trust(&self, instance: &InstanceName) -> Trust {
        self.0.trust(instance)
    }

    fn progress(&self) -> Applied {
        let status = self.0.status();
        Applied {
            revision: status.revision,
            applied: status.applied.applied,
            subscribed: status.applied.subscribed,
            absent: status.applied.absent,
            rejected: status.applied.rejected,
            silent: status.silent,
        }
    }
}

fn entry(registration: Registration) -> Result<Entry, RegistryError> {
    let Registration { service, instance, posture: _, control, hop, routing } = registration;
    let listener = listen(&control).map_err(|error| {
        failed(format!("listening for the proxy of {instance} at {}", control.display()), error)
    })?;
    Ok(Entry { service, instance, hop, routing: routing_of(routing), listener })
}

/// What a control plane that was killed left there is replaced.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn routing_of(routing: Routing) -> sinew_control::Routing {
    match routing {
        Routing::In => sinew_control::Routing::In,
        Routing::Out => sinew_control::Routing::Out,
        Routing::Draining => sinew_control::Routing::Draining,
    }
}

fn failed(attempted: impl Into<String>, reason: impl ToString) -> RegistryError {
    RegistryError { attempted: attempted.into(), reason: reason.to_string() }
}
