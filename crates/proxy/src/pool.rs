//! Connections to one endpoint and port: bounded in number, reused last in first out, never used again once something
//! has arrived while they were idle.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::connection::Connection;
use crate::failure::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub connections_max: usize,
    pub idle_max: usize,
    /// Requests that wait for a connection.
    pub pending_max: usize,
    /// Shorter than the other side keeps an idle connection, so that it is this side that closes.
    pub idle_time_max: Duration,
}

pub struct Pool {
    bounds: Bounds,
    /// One for each connection in use. As an idle one is used before a new one is made, it bounds all of them.
    permits: std::sync::Arc<Semaphore>,
    pending: Cell<usize>,
    idle: RefCell<Vec<Idle>>,
    retired: Cell<bool>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// The right to one connection; it ends with this.
pub struct Slot {
    pool: Rc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub fn new(bounds: Bounds) -> Rc<Self> {
        Rc::new(Self {
            bounds,
            permits: std::sync::Arc::new(Semaphore::new(bounds.connections_max)),
            pending: Cell::new(0),
            idle: RefCell::default(),
            retired: Cell::new(false),
        })
    }

    /// The right to a connection, and an idle one if there is any; else the caller dials. Waits until `deadline` when
    /// all are in use. `is_harmless`: the request can be sent again if the connection turns out to have ended, so that the
    /// kernel is not asked.
    pub async fn checkout(
        self: &Rc<Self>,
        now: Instant,
        deadline: Instant,
        is_harmless: bool,
    ) -> Result<(Slot, Option<Connection>), Failure> {
        let permits = self.permits.clone();
        let permit = match permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) if self.pending.get() >= self.bounds.pending_max => return Err(Failure::Overload),
            Err(_) => {
                let _pending = Pending::new(&self.pending);
                // Boxed: few requests wait here.
                match Box::pin(timeout_at(deadline, permits.acquire_owned())).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) | Err(_) => return Err(Failure::Overload),
                }
            }
        };
        let slot = Slot { pool: self.clone(), _permit: permit };
        Ok((slot, self.take_idle(now, is_harmless)))
    }

    fn take_idle(&self, now: Instant, is_harmless: bool) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut last) = idle.pop() {
            let stream = &mut last.connection.stream;
            let is_quiet = if is_harmless { stream.seems_quiet() } else { stream.is_quiet() };
            if is_quiet && now.saturating_duration_since(last.since) < self.bounds.idle_time_max {
                return Some(last.connection);
            }
        }
        None
    }

    /// Closes idle connections that have ended or waited too long. True when none is left and none is in use.
    pub fn sweep(&self, now: Instant) -> bool {
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|idle| {
            now.saturating_duration_since(idle.since) < self.bounds.idle_time_max
                && idle.connection.stream.is_quiet()
        });
        idle.is_empty() && self.permits.available_permits() == self.bounds.connections_max
    }

    /// Those in use go on, and may come back.
    pub fn close_idle(&self) {
        self.idle.borrow_mut().clear();
    }

    /// The endpoint is out of routing: idle connections are closed, those in use end with their request.
    pub fn retire(&self) {
        self.retired.set(true);
        self.close_idle();
    }
}

impl Slot {
    /// Gives a connection back that may be used again.
    pub fn put(self, mut connection: Connection, now: Instant) {
        let mut idle = self.pool.idle.borrow_mut();
        if !self.pool.retired.get() && idle.len() < self.pool.bounds.idle_max {
            connection.rest();
            idle.push(Idle { connection, since: now });
        }
    }
}

/// One more that waits, until this is dropped.
pub struct Pending<'a>(&'a Cell<usize>);

impl<'a> Pending<'a> {
    pub fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
