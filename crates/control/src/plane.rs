//! The control plane as its owner holds it: every call changes what is known and tells the proxies that are concerned.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sinew_ca::Authority;
use sinew_spec::application::Application;
use sinew_spec::name::{ApplicationName, InstanceName, ServiceName, SpiffeId, TrustDomain};
use sinew_spec::proxy::{
    ControlMessage, HopAddress, ProxyConfig, Published, Trust, signed_certificate, signed_configuration,
};
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::addresses::{self, Addresses};
use crate::registry::{GRACE, Instance, Lease, Registry, Routing};
use crate::serve;
use crate::snapshot;
use crate::store::{Store, StoreError};

mod hosts;
mod state;

pub use hosts::Hosts;
pub(crate) use state::Life;
use state::{Proxy, State};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the state folder {path}: {source}")]
    StateFolder { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Authority(#[from] sinew_ca::Error),
    #[error(transparent)]
    Addresses(#[from] addresses::Exhausted),
    #[error("there is no instance {0}")]
    UnknownInstance(InstanceName),
}

pub struct ControlOptions {
    pub application: Application,
    /// The application's state folder, made with mode 0700 when missing: `store.redb`, `ca/`.
    pub state_dir: PathBuf,
    pub certificate_lifetime: Duration,
    /// How long a proxy's stream may be away before its instance leaves routing.
    pub grace: Duration,
    /// Wall clock, for certificates.
    pub clock: fn() -> SystemTime,
}

impl ControlOptions {
    pub fn new(application: Application, state_dir: PathBuf) -> Self {
        Self {
            application,
            state_dir,
            certificate_lifetime: sinew_ca::LIFETIME_DEFAULT,
            grace: GRACE,
            clock: SystemTime::now,
        }
    }
}

/// A proxy, and the instance that it speaks for.
#[derive(Debug)]
pub struct Entry {
    pub service: ServiceName,
    pub instance: InstanceName,
    /// Where its mutual TLS is accepted; `None`: it is called by nobody (the gateway).
    pub hop: Option<HopAddress>,
    /// `Out` for an instance that begins; otherwise it is adopted, and its proxy is given the grace to come back.
    pub routing: Routing,
    /// The proxy's own (`control.sock`), which is also what identifies it.
    pub listener: UnixListener,
}

/// Who serves a revision, of the proxies that it concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub applied: usize,
    pub subscribed: usize,
    /// Those that do not serve it (yet), by name.
    pub absent: Vec<InstanceName>,
    /// Of the absent, those that refused it, and why.
    pub rejected: Vec<(InstanceName, String)>,
    /// Of the absent, those that will come to it; the processes of the others have ended.
    pub pending: usize,
}

impl Applied {
    /// True: no proxy is left that serves anything older.
    pub fn is_complete(&self) -> bool {
        self.pending == 0 && self.rejected.is_empty()
    }
}

/// For `status`: how far all proxies are with what each was told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlStatus {
    pub revision: u64,
    pub applied: Applied,
    /// Instances whose proxy runs, as far as is known, and says nothing.
    pub silent: Vec<InstanceName>,
}

/// Cheap to clone. When the last clone is dropped, all streams and the store are closed.
#[derive(Clone)]
pub struct Control {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Counts whatever a waiter could wait for.
    progress: watch::Sender<u64>,
    /// The next expiry of a lease may have moved.
    leases: Arc<Notify>,
    sweeper: Mutex<Option<JoinHandle<()>>>,
    authority: Authority,
    certificate_lifetime: Duration,
    clock: fn() -> SystemTime,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Ok(Some(sweeper)) = self.sweeper.get_mut().map(Option::take) {
            sweeper.abort();
        }
    }
}

impl Control {
    /// Opens the state folder and declares the application. Must be called within a runtime.
    pub fn open(options: ControlOptions) -> Result<Self, Error> {
        let ControlOptions { application, state_dir, certificate_lifetime, grace, clock } = options;
        let folder = |source| Error::StateFolder { path: state_dir.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&state_dir).map_err(folder)?;
        fs::set_permissions(&state_dir, fs::Permissions::from_mode(0o700)).map_err(folder)?;

        let domain = trust_domain(&application);
        let authority = Authority::open(&state_dir.join("ca"), &domain, clock())?;
        let store = Store::open(&state_dir.join("store.redb"))?;
        let addresses = Addresses::from_records(
            &store.list(addresses::SERVICE_ADDRESS)?.0,
            &store.list(addresses::HOST_ADDRESS)?.0,
        );
        let mut state = State::new(store, domain, application.clone(), addresses, Registry::new(grace));
        let published = snapshot::published(&application);
        state.declare(application, published)?;
        let leases = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            progress: watch::Sender::new(0),
            leases: leases.clone(),
            sweeper: Mutex::new(None),
            authority,
            certificate_lifetime,
            clock,
        });
        let sweeper = tokio::spawn(sweep(Arc::downgrade(&shared), leases));
        *shared.sweeper.lock().expect(NEVER_POISONED) = Some(sweeper);
        Ok(Self { shared })
    }

    /// The application as it shall be from now on, and what its gateway listens on. Only the addresses of its names are
    /// stored: its environment may hold secrets, and whoever starts a control plane hands the application in. Instances stay as they
    /// are; those of services that go are to be drained before: nobody may call them afterwards.
    pub fn declare(&self, application: Application, published: Vec<Published>) -> Result<u64, Error> {
        self.shared.change(|state| state.declare(application, published))?;
        Ok(self.revision())
    }

    /// Makes instances known, all at once: a proxy that comes back is never told of a world in which the others are
    /// missing. An instance that is known already begins a new life.
    pub fn enter(&self, entries: Vec<Entry>) -> u64 {
        self.shared.change(|state| {
            for entry in entries {
                self.enter_one(state, entry);
            }
        });
        self.revision()
    }

    fn enter_one(&self, state: &mut State, entry: Entry) {
        let Entry { service, instance, hop, routing, listener } = entry;
        let life = Life { epoch: state.next_epoch(), instance };
        let identity = self.identity_of(&state.application.name, &service, &life.instance);
        // Whoever may be called at once, outlived the last control plane: its proxy serves and will come back.
        let lease = if routing == Routing::Out { Lease::Fresh } else { Lease::Away { since: now() } };
        let known = Instance { routing, lease, ..Instance::fresh(&service, life.epoch, hop) };
        let config = watch::Sender::new(None);
        let serve =
            serve::run(Arc::downgrade(&self.shared), life.clone(), identity, listener, config.subscribe());
        state.enter(&life.instance, known, Proxy::new(life.epoch, config, tokio::spawn(serve)));
    }

    /// The identity that the proxy of an instance is certified with.
    pub fn identity(&self, service: &ServiceName, instance: &InstanceName) -> SpiffeId {
        let namespace = self.shared.state().application.name.clone();
        self.identity_of(&namespace, service, instance)
    }

    fn identity_of(
        &self,
        namespace: &ApplicationName,
        service: &ServiceName,
        instance: &InstanceName,
    ) -> SpiffeId {
        SpiffeId::of_instance(self.shared.authority.trust_domain(), namespace, service, instance)
    }

    /// The revision with which it is so. To lose no request: `Out`, [`Control::wait_applied`], then `Draining`.
    pub fn route(&self, instance: &InstanceName, routing: Routing) -> Result<u64, Error> {
        if !self.shared.change(|state| state.registry.route(instance, routing)) {
            return Err(Error::UnknownInstance(instance.clone()));
        }
        Ok(self.revision())
    }

    /// Its process has ended: out of routing at once, its stream and listener closed. Unknown ones are no error.
    pub fn leave(&self, instance: &InstanceName) -> u64 {
        self.shared.change(|state| state.leave(instance));
        self.revision()
    }

    /// The proxy's process has ended (the instance lives): nobody waits for its acknowledgement until it is back.
    pub fn proxy_ended(&self, instance: &InstanceName) {
        self.shared.change(|state| state.proxy_ended(instance));
    }

    pub fn revision(&self) -> u64 {
        self.shared.state().revision
    }

    /// Waits until all proxies that `revision` concerned serve it (or a later one), at most `timeout`. Proxies that
    /// refused it, or whose process has ended, are named and not waited for.
    pub async fn wait_applied(&self, revision: u64, timeout: Duration) -> Applied {
        let mut progress = self.shared.progress.subscribe();
        let wait = async {
            loop {
                progress.borrow_and_update();
                let applied = self.shared.state().applied(revision);
                if applied.pending == 0 || progress.changed().await.is_err() {
                    return applied;
                }
            }
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(applied) => applied,
            Err(_) => self.shared.state().applied(revision),
        }
    }

    /// Counts whatever happened: a change, an acknowledgement, a stream that began or ended.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.shared.progress.subscribe()
    }

    /// The names that resolve inside the seals of a service; `None`: no such service.
    pub fn hosts(&self, service: &ServiceName) -> Option<Hosts> {
        let state = self.shared.state();
        hosts::of(&state.application, &state.addresses, service)
    }

    /// Virtual addresses of all declared egress hosts, for [`sinew_spec::egress::plan`].
    pub fn egress_addresses(&self) -> BTreeMap<String, Ipv4Addr> {
        self.shared.state().addresses.hosts().clone()
    }

    /// True: callers may choose it.
    pub fn in_routing(&self, instance: &InstanceName) -> bool {
        self.shared.state().registry.get(instance).is_some_and(|instance| instance.in_routing())
    }

    /// True: the stream of its proxy is away, and the grace runs or is over.
    pub fn lease_is_away(&self, instance: &InstanceName) -> bool {
        let state = self.shared.state();
        let lease = state.registry.get(instance).map(|instance| instance.lease);
        matches!(lease, Some(Lease::Away { .. } | Lease::Expired))
    }

    /// By what the proxy of an instance judges what it finds on disk when it is started now.
    pub fn trust(&self, instance: &InstanceName) -> Trust {
        let state = self.shared.state();
        Trust {
            root_key: self.shared.authority.root_key().to_vec(),
            bundle_pem: self.shared.authority.bundle_pem().to_owned(),
            revision_min: state.proxies.get(instance).map_or(0, Proxy::applied),
        }
    }

    /// What a proxy should serve now.
    pub fn config(&self, instance: &InstanceName) -> Option<Arc<ProxyConfig>> {
        self.shared.state().proxies.get(instance)?.config.borrow().clone()
    }

    pub fn status(&self) -> ControlStatus {
        self.shared.state().status()
    }

    /// False: its proxy has not ended, as far as is known, and says nothing (any more, or yet).
    pub fn hears(&self, instance: &InstanceName) -> bool {
        self.shared.state().hears(instance)
    }
}

const NEVER_POISONED: &str = "nothing panics while it holds this lock";

/// Monotonic; the runtime's, so that a test can hold it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn trust_domain(application: &Application) -> TrustDomain {
    TrustDomain::new(format!("{}.sinew", application.name))
}

/// Lets leases expire; sleeps without end while none can. Holds nothing while it sleeps, so that [`Shared`] can end.
async fn sweep(shared: Weak<Shared>, leases: Arc<Notify>) {
    loop {
        let Some(expiry) = shared.upgrade().map(|shared| shared.state().registry.next_expiry()) else {
            return;
        };
        let expired = async {
            match expiry {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = leases.notified() => {}
            () = expired => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        shared.change(|state| state.registry.sweep(now()));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NEVER_POISONED)
    }

    /// Changes what is known, tells the proxies that are concerned, and wakes who waits.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let expiry = state.registry.next_expiry();
        let result = change(&mut state);
        state.publish();
        if state.registry.next_expiry() != expiry {
            self.leases.notify_one();
        }
        drop(state);
        self.progress.send_modify(|count| *count += 1);
        result
    }

    /// A proxy's stream begins.
    pub(crate) fn greeted(&self, life: &Life, revision: u64, digest: Option<&str>) {
        self.change(|state| state.greeted(life, revision, digest));
    }

    /// Requests meet this revision at a proxy.
    pub(crate) fn applied(&self, life: &Life, revision: u64) {
        self.change(|state| state.proxy_applied(life, revision));
    }

    pub(crate) fn rejected(&self, life: &Life, revision: u64, reason: String) {
        self.change(|state| state.proxy_rejected(life, revision, reason));
    }

    pub(crate) fn stream_ended(&self, life: &Life) {
        self.change(|state| state.stream_ended(life, now()));
    }

    /// Its process does nothing since then: as if its stream had ended, until it says something again.
    pub(crate) fn is_silent(&self, life: &Life, since: Instant) {
        self.change(|state| state.stream_ended(life, since));
    }

    pub(crate) fn is_back(&self, life: &Life) {
        self.change(|state| state.is_back(life));
    }

    /// What is told to a proxy, signed so that it can be kept.
    pub(crate) fn config_message(&self, config: &ProxyConfig) -> ControlMessage {
        let signature = self.authority.sign(&signed_configuration(config)).ok();
        ControlMessage::Config { config: Box::new(config.clone()), signature }
    }

    pub(crate) fn certify(
        &self,
        instance: &InstanceName,
        identity: &SpiffeId,
        request_pem: &str,
    ) -> ControlMessage {
        let issued = self.authority.issue(request_pem, identity, (self.clock)(), self.certificate_lifetime);
        match issued {
            Ok(leaf) => {
                let bundle_pem = self.authority.bundle_pem().to_owned();
                let not_after =
                    leaf.not_after.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
                let not_after_unix_ms = u64::try_from(not_after).unwrap_or(u64::MAX);
                let signed = signed_certificate(instance, &leaf.chain_pem, &bundle_pem, not_after_unix_ms);
                let signature = self.authority.sign(&signed).ok();
                ControlMessage::Certificate {
                    chain_pem: leaf.chain_pem,
                    bundle_pem,
                    not_after_unix_ms,
                    signature,
                }
            }
            Err(error) => ControlMessage::Refused { reason: error.to_string() },
        }
    }
}
