//! What the workers of a process know together: how many connections each endpoint may have, and which endpoints do not
//! answer. Everything else they have for themselves. Requests read from it and write to it only when something is short or
//! fails, so that no two cores wait for each other's cache lines in ordinary times.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::proxy::HopAddress;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::outlier::Health;
use crate::pool::Bounds;

#[derive(Default)]
pub struct Shared {
    endpoints: Mutex<HashMap<Key, Weak<SharedEndpoint>>>,
    /// Of the application inside the seal.
    pub application: Quotas,
}

type Key = (ServiceName, InstanceName, HopAddress);

#[derive(Default)]
pub struct SharedEndpoint {
    pub health: Arc<Health>,
    pub quotas: Quotas,
}

impl Shared {
    /// The same for all workers, as long as one of them knows the endpoint.
    pub fn endpoint(
        &self,
        service: &ServiceName,
        instance: &InstanceName,
        hop: &HopAddress,
    ) -> Arc<SharedEndpoint> {
        let mut endpoints = guard(&self.endpoints);
        let key = (service.clone(), instance.clone(), hop.clone());
        if let Some(known) = endpoints.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        let endpoint = Arc::new(SharedEndpoint::default());
        endpoints.insert(key, Arc::downgrade(&endpoint));
        endpoint
    }
}

/// What connections are for: each kind has a bound of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One exchange at a time.
    Pooled,
    /// Streams.
    Link,
}

/// By the port of the application.
#[derive(Default)]
pub struct Quotas(Mutex<BTreeMap<(u16, Kind), Weak<Quota>>>);

impl Quotas {
    pub fn quota(&self, port: u16, kind: Kind, bounds: &Bounds) -> Arc<Quota> {
        let mut quotas = guard(&self.0);
        if let Some(known) = quotas.get(&(port, kind)).and_then(Weak::upgrade) {
            return known;
        }
        quotas.retain(|_, quota| quota.strong_count() > 0);
        let quota = Arc::new(Quota::new(bounds));
        quotas.insert((port, kind), Arc::downgrade(&quota));
        quota
    }
}

/// How many connections all workers may have to one port of one endpoint, and how many requests may wait for one.
pub struct Quota {
    connections_max: usize,
    pending_max: usize,
    free: Semaphore,
    pending: AtomicUsize,
}

impl Quota {
    fn new(bounds: &Bounds) -> Self {
        Self {
            connections_max: bounds.connections_max,
            pending_max: bounds.pending_max,
            free: Semaphore::new(bounds.connections_max.min(Semaphore::MAX_PERMITS)),
            pending: AtomicUsize::new(0),
        }
    }

    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// The right to one connection, to be given back; false: there is none now.
    pub fn try_take(&self) -> bool {
        self.free.try_acquire().map(|permit| permit.forget()).is_ok()
    }

    /// The same, waiting for it.
    pub async fn take(&self, deadline: Instant) -> Result<(), Failure> {
        let _pending = self.wait()?;
        match timeout_at(deadline, self.free.acquire()).await {
            Ok(Ok(permit)) => permit.forget(),
            Ok(Err(_)) | Err(_) => return Err(Failure::Overload),
        }
        Ok(())
    }

    pub fn give_back(&self, count: usize) {
        self.free.add_permits(count);
    }

    /// Somebody waits, for the right to a connection or for one that is being made.
    pub fn is_wanted(&self) -> bool {
        self.pending.load(Relaxed) > 0
    }

    /// One more waits, if it may.
    pub fn wait(&self) -> Result<Pending<'_>, Failure> {
        let pending = Pending(&self.pending);
        if self.pending.fetch_add(1, Relaxed) >= self.pending_max {
            return Err(Failure::Overload);
        }
        Ok(pending)
    }
}

/// One more that waits, until this is dropped.
pub struct Pending<'a>(&'a AtomicUsize);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The right to one connection that is not pooled, until this is dropped.
pub struct Right(Arc<Quota>);

impl Right {
    pub fn try_take(quota: &Arc<Quota>) -> Option<Self> {
        quota.try_take().then(|| Self(quota.clone()))
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        self.0.give_back(1);
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole between any two steps: usable whoever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
