//! What the control plane knows, and what follows from a change of it. Synchronous: it is held under one lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use sinew_spec::application::Application;
use sinew_spec::name::{InstanceName, TrustDomain};
use sinew_spec::proxy::{ProxyConfig, Published};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Applied, ControlStatus, Error};
use crate::addresses::Addresses;
use crate::registry::{Epoch, Instance, Lease, Registry};
use crate::snapshot::{self, View};
use crate::store::{Expected, Store};

/// Revisions of which is remembered whom they concerned.
const CHANGES_MAX: usize = 256;
/// Of a proxy's reason for refusing a configuration.
const REASON_BYTES_MAX: usize = 1024;

pub struct State {
    store: Store,
    domain: TrustDomain,
    pub application: Application,
    published: Vec<Published>,
    pub addresses: Addresses,
    pub registry: Registry,
    pub proxies: BTreeMap<InstanceName, Proxy>,
    pub revision: u64,
    changes: VecDeque<Concerned>,
    /// Lives begun, of all instances: the epoch of the next one is higher.
    epochs: Epoch,
    /// [`Registry::visible_changes`] as it was published last; `None`: everything may differ.
    published_changes: Option<u64>,
}

/// Whom a revision concerned.
struct Concerned {
    revision: u64,
    instances: BTreeSet<InstanceName>,
}

/// One life of an instance: news of another one is not about this.
#[derive(Clone, Debug)]
pub struct Life {
    pub instance: InstanceName,
    pub epoch: Epoch,
}

/// What is known of the proxy of one life of an instance.
pub struct Proxy {
    epoch: Epoch,
    /// What it should serve.
    pub config: watch::Sender<Option<Arc<ProxyConfig>>>,
    connected: bool,
    /// The launcher says that the process has ended.
    ended: bool,
    /// What it serves, as it said last; 0: nothing.
    applied: u64,
    rejected: Option<(u64, String)>,
    _serve: AbortOnDrop,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Proxy {
    pub fn new(epoch: Epoch, config: watch::Sender<Option<Arc<ProxyConfig>>>, serve: JoinHandle<()>) -> Self {
        Self {
            epoch,
            config,
            connected: false,
            ended: false,
            applied: 0,
            rejected: None,
            _serve: AbortOnDrop(serve),
        }
    }

    /// What it serves, as it said last; 0: nothing.
    pub fn applied(&self) -> u64 {
        self.applied
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
            published: snapshot::published(&application),
            application,
            addresses,
            registry,
            proxies: BTreeMap::new(),
            revision: 0,
            changes: VecDeque::new(),
            epochs: 0,
            published_changes: None,
        }
    }

    /// The addresses of new names are stored before anybody is told of them.
    pub fn declare(&mut self, application: Application, published: Vec<Published>) -> Result<(), Error> {
        let mut addresses = self.addresses.clone();
        let changes = addresses.assign(&application)?;
        self.store.commit(changes.into_iter().map(|change| (change, Expected::Anything)).collect())?;
        self.addresses = addresses;
        self.application = application;
        self.published = published;
        self.published_changes = None;
        Ok(())
    }

    pub fn next_epoch(&mut self) -> Epoch {
        self.epochs += 1;
        self.epochs
    }

    pub fn enter(&mut self, name: &InstanceName, instance: Instance, proxy: Proxy) {
        // Epochs are given out in order, under the lock that this runs under.
        if self.registry.enter(name, instance).is_ok() {
            self.proxies.insert(name.clone(), proxy);
        }
    }

    pub fn leave(&mut self, name: &InstanceName) {
        self.registry.remove(name);
        self.proxies.remove(name);
    }

    /// Compares what every proxy should be told with what it was told; those that differ get a new revision.
    /// Most news (acknowledgements above all) changes nothing of that, and costs nothing.
    pub fn publish(&mut self) {
        let changes = self.registry.visible_changes();
        if self.published_changes.replace(changes) == Some(changes) {
            return;
        }
        let view = View {
            application: &self.application,
            published: &self.published,
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

    fn proxy(&mut self, life: &Life) -> Option<&mut Proxy> {
        self.proxies.get_mut(&life.instance).filter(|proxy| proxy.epoch == life.epoch)
    }

    /// A proxy's stream begins. It may serve a revision of an earlier control plane: ours must be higher, unless it is
    /// what we would send.
    pub fn greeted(&mut self, life: &Life, revision: u64, digest: Option<&str>) {
        self.revision = self.revision.max(revision);
        let next = self.revision + 1;
        let Some(proxy) = self.proxy(life) else { return };
        proxy.connected = true;
        proxy.ended = false;
        proxy.rejected = None;
        proxy.applied = revision;
        let told = proxy.config.borrow().clone();
        if let Some(told) = told.filter(|told| told.revision <= revision) {
            let same = digest.is_some_and(|digest| told.digest() == digest);
            let stamped = ProxyConfig { revision: if same { revision } else { next }, ..(*told).clone() };
            proxy.config.send_replace(Some(Arc::new(stamped)));
            if !same {
                self.advance(BTreeSet::from([life.instance.clone()]));
            }
        }
        if digest.is_some() {
            self.registry.serves(&life.instance);
        }
    }

    pub fn proxy_applied(&mut self, life: &Life, revision: u64) {
        let Some(proxy) = self.proxy(life) else { return };
        if proxy.wanted().is_some_and(|wanted| revision > wanted) {
            // It started with the last-good state of an earlier control plane.
            return self.greeted(life, revision, None);
        }
        proxy.applied = revision;
        self.registry.serves(&life.instance);
    }

    pub fn proxy_rejected(&mut self, life: &Life, revision: u64, mut reason: String) {
        let Some(proxy) = self.proxy(life) else { return };
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        proxy.rejected = Some((revision, reason));
    }

    pub fn stream_ended(&mut self, life: &Life, now: Instant) {
        let Some(proxy) = self.proxy(life) else { return };
        proxy.connected = false;
        self.registry.stream_ended(&life.instance, now);
    }

    /// It was silent, and goes on with what it serves.
    pub fn is_back(&mut self, life: &Life) {
        let Some(proxy) = self.proxy(life) else { return };
        proxy.connected = true;
        self.registry.is_back(&life.instance);
    }

    pub fn proxy_ended(&mut self, name: &InstanceName) {
        if let Some(proxy) = self.proxies.get_mut(name) {
            proxy.ended = true;
        }
    }

    /// Nothing when the revision concerned nobody, or is too long ago to know.
    pub fn applied(&self, revision: u64) -> Applied {
        let mut applied = Applied::default();
        let change = self.changes.iter().rev().find(|change| change.revision == revision);
        for name in change.iter().flat_map(|change| &change.instances) {
            if let Some(proxy) = self.proxies.get(name) {
                applied.count(name, proxy, revision);
            }
        }
        applied
    }

    pub fn status(&self) -> ControlStatus {
        let mut applied = Applied::default();
        for (name, proxy) in &self.proxies {
            if let Some(wanted) = proxy.wanted() {
                applied.count(name, proxy, wanted);
            }
        }
        let is_silent = |(name, lease): (&InstanceName, Lease)| {
            let proxy = self.proxies.get(name)?;
            let is_away = matches!(lease, Lease::Away { .. } | Lease::Expired);
            (is_away && !proxy.ended).then(|| name.clone())
        };
        let leases = self.registry.instances().map(|(name, instance)| (name, instance.lease));
        ControlStatus { revision: self.revision, applied, silent: leases.filter_map(is_silent).collect() }
    }

    pub fn hears(&self, name: &InstanceName) -> bool {
        self.proxies.get(name).is_none_or(|proxy| proxy.connected || proxy.ended)
    }
}

impl Applied {
    fn count(&mut self, name: &InstanceName, proxy: &Proxy, wanted: u64) {
        self.subscribed += 1;
        if proxy.applied >= wanted {
            self.applied += 1;
            return;
        }
        self.absent.push(name.clone());
        match &proxy.rejected {
            Some((revision, reason)) if *revision >= wanted => {
                self.rejected.push((name.clone(), reason.clone()))
            }
            _ if proxy.ended && !proxy.connected => {}
            _ => self.pending += 1,
        }
    }
}
