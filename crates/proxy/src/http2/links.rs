//! Connections to one endpoint and port, or to the application's port: streams go to the one that has the fewest, and
//! another is made only when none takes more. So many requests at once share few connections, evenly.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use sinew_transport::Stream;
use sinew_wire::h2::Connection as Engine;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::exchange::Chosen;
use super::link::{Driver, End, Link};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::http;
use crate::pool::{Bounds, Pending};
use crate::snapshot::CompiledLimits;
use crate::timer::Timer;
use crate::upstream::connect_deadline;
use crate::worker::Worker;

const RETIRED_IDLE_MAX: Duration = Duration::from_secs(1);

pub struct Links {
    bounds: Bounds,
    links: RefCell<Vec<Rc<Link>>>,
    /// Requests that wait for a connection.
    pending: Cell<usize>,
    is_dialing: Cell<bool>,
    /// A connection was made, or was not.
    dialed: Notify,
    is_retired: Cell<bool>,
}

impl Links {
    pub fn new(bounds: Bounds) -> Rc<Self> {
        Rc::new(Self {
            bounds,
            links: RefCell::default(),
            pending: Cell::new(0),
            is_dialing: Cell::new(false),
            dialed: Notify::new(),
            is_retired: Cell::new(false),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.links.borrow().is_empty() && self.pending.get() == 0
    }

    /// The endpoint is out of routing: connections end with their last stream.
    pub fn retire(&self) {
        self.is_retired.set(true);
        self.use_no_more();
    }

    /// New streams get new connections; those that are there end with their last stream.
    pub fn use_no_more(&self) {
        self.links.borrow().iter().for_each(|link| link.state().retire());
    }

    /// The connection with the fewest streams, of those that take another.
    pub fn pick(&self) -> Option<Rc<Link>> {
        let links = self.links.borrow();
        let open = links.iter().filter(|link| link.state().can_open());
        open.min_by_key(|link| link.state().engine.open_streams()).cloned()
    }

    /// Like [`Links::pick`], but makes a connection where none takes another stream.
    pub async fn reach(self: &Rc<Self>, worker: &Rc<Worker>, chosen: &Chosen) -> Result<Rc<Link>, Failure> {
        if self.pending.get() >= self.bounds.pending_max {
            return Err(Failure::Overload);
        }
        let _pending = Pending::new(&self.pending);
        let limits = &chosen.snapshot.limits;
        let load = chosen.load.as_ref();
        let deadline = connect_deadline(Instant::now(), &chosen.snapshot, load);
        loop {
            if let Some(link) = self.pick() {
                return Ok(link);
            }
            if self.links.borrow().len() >= self.bounds.connections_max {
                return Err(Failure::Overload);
            }
            let mut dialed = pin!(self.dialed.notified());
            dialed.as_mut().enable();
            if self.is_dialing.get() {
                timeout_at(deadline, dialed).await.map_err(|_| Failure::ConnectTimeout)?;
                continue;
            }
            let _dialing = Dialing::new(self);
            let stream = chosen.target.dial(worker, &chosen.snapshot, load, deadline).await?;
            self.add(worker, stream, limits, load.is_some());
        }
    }

    fn add(self: &Rc<Self>, worker: &Rc<Worker>, stream: Stream, limits: &CompiledLimits, is_hop: bool) {
        let link = Link::new(Engine::client(super::limits(&limits.wire)));
        let connection = Connection::new(stream, limits.wire.head_bytes_max);
        self.links.borrow_mut().push(link.clone());
        spawn_local(drive(worker.clone(), self.clone(), link, connection, is_hop));
    }

    fn remove(&self, link: &Rc<Link>) {
        self.links.borrow_mut().retain(|other| !Rc::ptr_eq(other, link));
    }
}

async fn drive(
    worker: Rc<Worker>,
    links: Rc<Links>,
    link: Rc<Link>,
    mut connection: Connection,
    is_hop: bool,
) {
    // Out of routing already, what waited for it is still served.
    let idle_max = if links.is_retired.get() { RETIRED_IDLE_MAX } else { links.bounds.idle_time_max };
    let mut timer = pin!(sleep_until(Instant::now() + idle_max));
    let mut timer = Timer::new(timer.as_mut());
    let mut driver = Driver::new(&worker, None, &link, &mut connection, idle_max);
    driver.asks_for_life(is_hop);
    let end = poll_fn(|cx| driver.poll(cx, &mut timer)).await;
    links.remove(&link);
    driver.end_exchanges();
    drop(driver);
    if end != End::Gone {
        http::linger(connection).await;
    }
}

/// One at a time dials; others wait for what comes of it.
struct Dialing<'a>(&'a Links);

impl<'a> Dialing<'a> {
    fn new(links: &'a Links) -> Self {
        links.is_dialing.set(true);
        Self(links)
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.is_dialing.set(false);
        self.0.dialed.notify_waiters();
    }
}
