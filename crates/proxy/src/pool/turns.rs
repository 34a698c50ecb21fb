//! Whose turn it is to make a connection. Few are made at once to one endpoint, as each costs both sides the CPU of a
//! handshake: a burst of first requests would keep everybody waiting for the last of them. Whoever comes meanwhile stands in
//! line for what is free first, a turn or a connection that somebody else has done with.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Pool, Way, is_usable};
use crate::connection::Connection;
use crate::failure::Failure;

/// How long a dial counts: others are not held up by one that hangs.
pub const TURN_TIME_MAX: Duration = Duration::from_millis(100);

/// Those of one worker. As long as somebody waits, all turns are taken, and no connection is idle.
#[derive(Default)]
pub(super) struct Line {
    taken: Cell<usize>,
    waiting: RefCell<VecDeque<oneshot::Sender<Given>>>,
}

pub(super) enum Given {
    Turn,
    Connection(Connection),
}

/// The right to make one connection, until this is dropped.
pub struct Turn(Rc<Pool>);

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// To whoever waits longest; given back when nobody does.
    pub(super) fn give(&self, mut given: Given) -> Result<(), Given> {
        loop {
            let Some(first) = self.waiting.borrow_mut().pop_front() else { return Err(given) };
            match first.send(given) {
                Ok(()) => return Ok(()),
                Err(refused) => given = refused,
            }
        }
    }

    /// A turn has ended.
    fn pass_on(&self) {
        if self.give(Given::Turn).is_err() {
            self.taken.set(self.taken.get() - 1);
        }
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.taken.get(), self.waiting.borrow().len())
    }
}

impl Pool {
    /// A turn, when one is left.
    pub(super) fn begin_turn(self: &Rc<Self>) -> Option<Turn> {
        let taken = &self.line.taken;
        (taken.get() < self.bounds.dials_max).then(|| {
            taken.set(taken.get() + 1);
            Turn(self.clone())
        })
    }

    /// Waits until `deadline`; those that came earlier come first.
    pub(super) async fn stand_in_line(
        self: &Rc<Self>,
        deadline: Instant,
        is_harmless: bool,
    ) -> Result<Way, Failure> {
        let mut place = Place::last(self);
        loop {
            match timeout_at(deadline, &mut place.given).await {
                Ok(Ok(Given::Turn)) => return Ok(Way::Dial(Turn(self.clone()))),
                Ok(Ok(Given::Connection(mut connection))) => {
                    if is_usable(&mut connection, is_harmless) {
                        return Ok(Way::Idle(connection));
                    }
                    // It has ended on its way here. If all turns have ended meanwhile, nobody would wake us.
                    if let Some(turn) = self.begin_turn() {
                        return Ok(Way::Dial(turn));
                    }
                    place = Place::first(self);
                }
                Ok(Err(_)) | Err(_) => return Err(Failure::ConnectTimeout),
            }
        }
    }
}

impl Turn {
    /// Makes a connection. One that takes long does not count any more. `dial` had better be small: it is held twice.
    pub async fn spend<T>(self, dial: impl Future<Output = T>) -> T {
        let mut dial = pin!(dial);
        if let Ok(done) = timeout(TURN_TIME_MAX, dial.as_mut()).await {
            return done;
        }
        drop(self);
        dial.await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.line.pass_on();
    }
}

/// In the line, until this is dropped; what was given meanwhile goes to the next.
struct Place<'a> {
    pool: &'a Pool,
    given: oneshot::Receiver<Given>,
}

impl<'a> Place<'a> {
    fn last(pool: &'a Pool) -> Self {
        let (giver, given) = oneshot::channel();
        pool.line.waiting.borrow_mut().push_back(giver);
        Self { pool, given }
    }

    fn first(pool: &'a Pool) -> Self {
        let (giver, given) = oneshot::channel();
        pool.line.waiting.borrow_mut().push_front(giver);
        Self { pool, given }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.given.close();
        match self.given.try_recv() {
            Ok(Given::Turn) => self.pool.line.pass_on(),
            Ok(Given::Connection(connection)) => self.pool.keep(connection, Instant::now()),
            Err(_) => self.pool.line.waiting.borrow_mut().retain(|giver| !giver.is_closed()),
        }
    }
}
