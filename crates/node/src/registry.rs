//! What the launcher needs of a control plane. The binary implements it over the real one; tests over a table.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use sinew_spec::application::Application;
use sinew_spec::egress::HostAddresses;
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::proxy::{HopAddress, Posture, Published, Trust};

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[derive(Debug, thiserror::Error)]
#[error("{attempted}: {reason}")]
pub struct RegistryError {
    pub attempted: String,
    pub reason: String,
}

/// A proxy and the instance it speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub service: ServiceName,
    pub instance: InstanceName,
    pub posture: Posture,
    /// Where the control plane shall listen for exactly this proxy; what was there is replaced.
    pub control: PathBuf,
    /// Where the proxy's mutual TLS is accepted; sidecar posture.
    pub hop: Option<HopAddress>,
    pub routing: Routing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Callers choose it.
    In,
    /// Nobody chooses it.
    Out,
    /// Nobody chooses it, and its own proxy closes what is idle and answers with `Connection: close`.
    Draining,
}

/// The names that resolve inside a seal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Services that may be called, the service itself among them.
    pub services: BTreeMap<ServiceName, Ipv4Addr>,
    /// Declared egress hosts.
    pub hosts: HostAddresses,
}

/// Which proxies serve the present revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub revision: u64,
    pub applied: usize,
    pub subscribed: usize,
    pub absent: Vec<InstanceName>,
    /// Of the absent, those that could not use it, and why.
    pub rejected: Vec<(InstanceName, String)>,
    /// Instances whose proxy runs, as far as is known, and says nothing.
    pub silent: Vec<InstanceName>,
}

pub trait Registry: Send + Sync + 'static {
    /// The application as it shall be from now on, and what its gateway publishes. Instances stay as they are.
    fn declare(&self, application: &Application, published: &[Published]) -> Result<(), RegistryError>;

    fn names(&self, service: &ServiceName) -> Result<Names, RegistryError>;

    /// Makes the instances known all at once, then listens on their sockets: so that proxies of adopted instances,
    /// which connect again at once, meet a registry that knows everybody.
    fn enter<'a>(&'a self, registrations: Vec<Registration>) -> Answer<'a, Result<(), RegistryError>>;

    /// The revision with which it is so.
    fn route(&self, instance: &InstanceName, routing: Routing) -> Result<u64, RegistryError>;

    /// Forgets the instance; its socket is closed and its certificate not renewed. Unknown ones are no error.
    fn leave(&self, instance: &InstanceName) -> Result<(), RegistryError>;

    /// The process of an instance's proxy has ended: nobody waits for its acknowledgement until it is back.
    fn proxy_ended(&self, instance: &InstanceName);

    /// False: its proxy has not ended, as far as is known, and says nothing (any more, or yet).
    fn hears(&self, instance: &InstanceName) -> bool;

    /// Waits until all subscribed proxies serve `revision` or a later one; false: not `within`.
    fn applied<'a>(&'a self, revision: u64, within: Duration) -> Answer<'a, bool>;

    fn progress(&self) -> Applied;

    /// By what the proxy of an instance judges what it finds on disk when it is started now.
    fn trust(&self, instance: &InstanceName) -> Trust;
}
