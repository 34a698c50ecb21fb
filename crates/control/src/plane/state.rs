//! What the control plane knows, and what follows from a change of it. Synchronous: it is held under one lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use sinew_spec::application::Application;
use sinew_spec::name::{InstanceName, TrustDomain};
use sinew_spec::proxy::ProxyConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Applied, ControlStatus, Error};
use crate::addresses::Addresses;
use crate::registry::Registry;
use crate::snapshot::View;
use crate::store::{Change, Expected, Store};

/// Revisions of which is remembered whom they concerned.
const CHANGES_MAX: usize = 256;
/// Of a proxy's reason for refusing a configuration.
const REASON_BYTES_MAX: usize = 1024;
/// The kind of the one record that is the application.
pub const APPLICATION: &str = "application";

pub struct State {
    store: Store,
    domain: TrustDomain,
    pub application: Application,
    pub addresses: Addresses,
    pub registry: Registry,
    pub proxies: BTreeMap<InstanceName, Proxy>,
    pub revision: u64,
    changes: VecDeque<Concerned>,
    pub started: bool,
}

/// Whom a revision concerned.
struct Concerned {
    revision: u64,
    instances: BTreeSet<InstanceName>,
}

/// What is known of one proxy process.
pub struct Proxy {
    /// What it should serve.
    pub config: watch::Sender<Option<Arc<ProxyConfig>>>,
    connected: bool,
    /// The launcher says that the process has ended.
    ended: bool,
    /// What it serves, as it said last; 0: nothing.
    applied: u64,
    rejected: Option<(u64, String)>,
    /// Revision and digest that it greeted with while there was nothing to compare them with.
    greeted: Option<(u64, String)>,
    _serve: AbortOnDrop,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Proxy {
    pub fn new(config: watch::Sender<Option<Arc<ProxyConfig>>>, serve: JoinHandle<()>) -> Self {
        Self {
            config,
            connected: false,
            ended: false,
            applied: 0,
            rejected: None,
            greeted: None,
            _serve: AbortOnDrop(serve),
        }
    }

    fn wanted(&self) -> Option<u64> {
        self.config.borrow().as_ref().map(|config| config.revision)
    }
}

impl State {
    pub fn new(
        store: Store,
        domain: TrustDomain,
        application: Application,
        addresses: Addresses,
        registry: Registry,
    ) -> Self {
        Self {
            store,
            domain,
            application,
            addresses,
            registry,
            proxies: BTreeMap::new(),
            revision: 0,
            changes: VecDeque::new(),
            started: false,
        }
    }

    /// The application and the addresses of its new names are stored together, before anybody is told of them.
    pub fn apply(&mut self, application: Application) -> Result<(), Error> {
        let mut addresses = self.addresses.clone();
        let mut changes = addresses.assign(&application)?;
        let (kind, name) = (APPLICATION, application.name.to_string());
        changes.push(Change::Put { kind, name, value: serde_json::to_vec(&application)? });
        self.store.commit(changes.into_iter().map(|change| (change, Expected::Anything)).collect())?;
        self.addresses = addresses;
        self.application = application;
        Ok(())
    }

    pub fn start(&mut self) {
        self.started = true;
    }

    /// Compares what every proxy should be told with what it was told; those that differ get a new revision.
    pub fn publish(&mut self) {
        if !self.started {
            return;
        }
        let view = View {
            application: &self.application,
            trust_domain: &self.domain,
            addresses: &self.addresses,
            registry: &self.registry,
        };
        let revision = self.revision + 1;
        let mut concerned = BTreeSet::new();
        for (name, mut config) in view.configs() {
            let Some(proxy) = self.proxies.get_mut(&name) else { continue };
            if let Some(told) = proxy.wanted() {
                config.revision = told;
                if proxy.config.borrow().as_deref() == Some(&config) {
                    continue;
                }
            } else if let Some((served, _)) =
                proxy.greeted.take().filter(|(_, digest)| *digest == config.digest())
            {
                // It outlived the last control plane and serves just this.
                config.revision = served;
                proxy.applied = served;
                proxy.config.send_replace(Some(Arc::new(config)));
                continue;
            }
            config.revision = revision;
            proxy.config.send_replace(Some(Arc::new(config)));
            concerned.insert(name);
        }
        if !concerned.is_empty() {
            self.advance(concerned);
        }
    }

    fn advance(&mut self, instances: BTreeSet<InstanceName>) {
        self.revision += 1;
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(Concerned { revision: self.revision, instances });
    }

    /// A proxy's stream begins. It may serve a revision of an earlier control plane, so that ours must be higher.
    pub fn greeted(&mut self, name: &InstanceName, revision: u64, digest: Option<String>) {
        let Some(proxy) = self.proxies.get_mut(name) else { return };
        self.revision = self.revision.max(revision);
        proxy.connected = true;
        proxy.ended = false;
        proxy.rejected = None;
        proxy.applied = 0;
        let Some(digest) = digest else { return };
        self.registry.serves(name);
        let told = proxy.config.borrow().clone();
        let Some(told) = told else {
            proxy.greeted = Some((revision, digest));
            return;
        };
        if told.revision > revision {
            proxy.applied = revision;
        } else if told.digest() == digest {
            proxy.applied = revision;
            proxy.config.send_replace(Some(Arc::new(ProxyConfig { revision, ..(*told).clone() })));
        } else {
            let stamped = ProxyConfig { revision: self.revision + 1, ..(*told).clone() };
            proxy.config.send_replace(Some(Arc::new(stamped)));
            self.advance(BTreeSet::from([name.clone()]));
        }
    }

    pub fn proxy_applied(&mut self, name: &InstanceName, revision: u64) {
        let Some(proxy) = self.proxies.get_mut(name) else { return };
        // What was never sent cannot be served.
        let Some(wanted) = proxy.wanted() else { return };
        proxy.applied = proxy.applied.max(revision.min(wanted));
        self.registry.serves(name);
    }

    pub fn proxy_rejected(&mut self, name: &InstanceName, revision: u64, mut reason: String) {
        let Some(proxy) = self.proxies.get_mut(name) else { return };
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        proxy.rejected = Some((revision, reason));
    }

    pub fn stream_ended(&mut self, name: &InstanceName, now: Instant) {
        if let Some(proxy) = self.proxies.get_mut(name) {
            proxy.connected = false;
            proxy.greeted = None;
        }
        self.registry.stream_ended(name, now);
    }

    pub fn proxy_ended(&mut self, name: &InstanceName) {
        if let Some(proxy) = self.proxies.get_mut(name) {
            proxy.ended = true;
        }
    }

    /// And whether there is nothing left to wait for.
    pub fn applied(&self, revision: u64) -> (Applied, bool) {
        let mut applied = Applied::default();
        let mut complete = true;
        let change = self.changes.iter().rev().find(|change| change.revision == revision);
        for name in change.iter().flat_map(|change| &change.instances) {
            if let Some(proxy) = self.proxies.get(name) {
                complete &= applied.count(name, proxy, revision);
            }
        }
        (applied, complete)
    }

    pub fn status(&self) -> ControlStatus {
        let mut applied = Applied::default();
        for (name, proxy) in &self.proxies {
            if let Some(wanted) = proxy.wanted() {
                applied.count(name, proxy, wanted);
            }
        }
        ControlStatus { revision: self.revision, applied }
    }
}

impl Applied {
    /// True: there is nothing to wait for.
    fn count(&mut self, name: &InstanceName, proxy: &Proxy, wanted: u64) -> bool {
        self.subscribed += 1;
        if proxy.applied >= wanted {
            self.applied += 1;
            return true;
        }
        self.absent.push(name.clone());
        match &proxy.rejected {
            Some((revision, reason)) if *revision >= wanted => {
                self.rejected.push((name.clone(), reason.clone()));
                true
            }
            _ => proxy.ended && !proxy.connected,
        }
    }
}
