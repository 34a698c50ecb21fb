//! Connections to one endpoint and port: bounded in number, reused last in first out, never used again once something
//! has arrived while they were idle.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::shared::Quota;

use turns::{Given, Line};
pub use turns::{TURN_TIME_MAX, Turn};

mod turns;

/// How many workers together keep all rights at most.
const KEPT_SHARE: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub connections_max: usize,
    pub idle_max: usize,
    /// Requests that wait for a connection.
    pub pending_max: usize,
    /// Connections that each worker makes at the same time.
    pub dials_max: usize,
    /// Shorter than the other side keeps an idle connection, so that it is this side that closes.
    pub idle_time_max: Duration,
}

pub struct Pool {
    bounds: Bounds,
    /// A right for each connection in use. As an idle one is used before a new one is made, they bound all of this worker.
    quota: Arc<Quota>,
    /// Rights that nobody uses now, kept so that the next request asks nobody. At most an eighth of all: other workers have
    /// enough, and when they have not, these are given back.
    kept: Cell<usize>,
    in_use: Cell<usize>,
    idle: RefCell<Vec<Idle>>,
    line: Line,
    retired: Cell<bool>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// The right to one connection; it ends with this.
pub struct Slot(Rc<Pool>);

/// How to get one.
pub enum Way {
    Idle(Connection),
    Dial(Turn),
}

impl Pool {
    pub fn new(bounds: Bounds, quota: Arc<Quota>) -> Rc<Self> {
        Rc::new(Self {
            bounds,
            quota,
            kept: Cell::new(0),
            in_use: Cell::new(0),
            idle: RefCell::default(),
            line: Line::default(),
            retired: Cell::new(false),
        })
    }

    /// The right to a connection, and an idle one if there is any; else the caller dials. Waits until `deadline` when
    /// all are in use, or as many as may be are being made. `is_harmless`: the request can be sent again if the connection
    /// turns out to have ended, so that the kernel is not asked.
    pub async fn checkout(
        self: &Rc<Self>,
        now: Instant,
        deadline: Instant,
        is_harmless: bool,
    ) -> Result<(Slot, Way), Failure> {
        if let Some(left) = self.kept.get().checked_sub(1) {
            self.kept.set(left);
        } else if !self.quota.try_take() {
            // Boxed: few requests wait here.
            Box::pin(self.quota.take(deadline)).await?;
        }
        self.in_use.set(self.in_use.get() + 1);
        let slot = Slot(self.clone());
        let way = match self.take_idle(now, is_harmless) {
            Some(connection) => Way::Idle(connection),
            None => match self.begin_turn() {
                Some(turn) => Way::Dial(turn),
                None => Box::pin(self.stand_in_line(deadline, is_harmless)).await?,
            },
        };
        Ok((slot, way))
    }

    /// The right to one connection is not used any more.
    fn release(&self) {
        self.in_use.set(self.in_use.get() - 1);
        self.kept.set(self.kept.get() + 1);
        if self.quota.is_wanted() || self.kept.get() > self.quota.connections_max() / KEPT_SHARE {
            self.give_back();
        }
    }

    fn give_back(&self) {
        self.quota.give_back(self.kept.take());
    }

    /// For whoever waits, or for a later request.
    fn keep(&self, mut connection: Connection, now: Instant) {
        if self.retired.get() {
            return;
        }
        if !self.line.is_empty() {
            match self.line.give(Given::Connection(connection)) {
                Err(Given::Connection(nobodys)) => connection = nobodys,
                _ => return,
            }
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.bounds.idle_max {
            idle.push(Idle { connection, since: now });
        }
    }

    fn take_idle(&self, now: Instant, is_harmless: bool) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut last) = idle.pop() {
            if is_usable(&mut last.connection, is_harmless)
                && now.saturating_duration_since(last.since) < self.bounds.idle_time_max
            {
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
        if self.quota.is_wanted() || self.in_use.get() == 0 {
            self.give_back();
        }
        idle.is_empty() && self.in_use.get() == 0
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
        connection.rest();
        self.0.keep(connection, now);
    }
}

fn is_usable(connection: &mut Connection, is_harmless: bool) -> bool {
    let stream = &mut connection.stream;
    if is_harmless { stream.seems_quiet() } else { stream.is_quiet() }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests;
