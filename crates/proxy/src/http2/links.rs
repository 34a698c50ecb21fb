//! Connections to one endpoint and port, or to the application's port: streams go to the one that has the fewest, and
//! another is made only when none takes more. So many requests at once share few connections, evenly.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sinew_transport::Stream;
use sinew_wire::h2::Connection as Engine;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::exchange::Chosen;
use super::link::{Driver, End, Link};
use super::spoken::Spoken;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::http;
use crate::pool::{Bounds, TURN_TIME_MAX};
use crate::shared::{Quota, Right};
use crate::snapshot::CompiledLimits;
use crate::timer::Timer;
use crate::upstream::connect_deadline;
use crate::worker::Worker;

const RETIRED_IDLE_MAX: Duration = Duration::from_secs(1);

pub struct Links {
    /// Of who is called through these, where that is no sidecar.
    pub spoken: Spoken,
    bounds: Bounds,
    links: RefCell<Vec<Rc<Link>>>,
    quota: Arc<Quota>,
    is_dialing: Cell<bool>,
    /// A connection was made, or was not.
    dialed: Notify,
    is_retired: Cell<bool>,
}

/// What a connection has to be for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// It takes another stream.
    Stream,
    /// And the other side has said that it speaks HTTP/2.
    Proof,
    /// And that it opens tunnels (RFC 8441).
    Tunnel,
}

impl Links {
    pub fn new(bounds: Bounds, quota: Arc<Quota>) -> Rc<Self> {
        Rc::new(Self {
            spoken: Spoken::default(),
            bounds,
            links: RefCell::default(),
            quota,
            is_dialing: Cell::new(false),
            dialed: Notify::new(),
            is_retired: Cell::new(false),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.links.borrow().is_empty() && !self.quota.is_wanted()
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
    pub fn pick(&self, needs: Needs) -> Option<Rc<Link>> {
        let links = self.links.borrow();
        let open = links.iter().filter(|link| link.state().can_open(needs));
        open.min_by_key(|link| link.state().engine.open_streams()).cloned()
    }

    /// Like [`Links::pick`], but makes a connection where none takes another stream.
    pub async fn reach(self: &Rc<Self>, worker: &Rc<Worker>, chosen: &Chosen) -> Result<Rc<Link>, Failure> {
        let _pending = self.quota.wait()?;
        let limits = &chosen.snapshot.limits;
        let load = chosen.load.as_ref();
        let now = Instant::now();
        let deadline = connect_deadline(now, &chosen.snapshot, load);
        // One that is busy has not said a word yet. Whoever waits has the patience for an answer.
        let proof_deadline = now + limits.request_timeout;
        let needs_proof = chosen.needs != Needs::Stream;
        loop {
            if let Some(link) = self.pick(chosen.needs) {
                return Ok(link);
            }
            if chosen.needs == Needs::Tunnel
                && self.links.borrow().iter().any(|link| link.state().lacks_tunnels())
            {
                return Err(Failure::NotTunnelled);
            }
            if needs_proof && self.spoken.lacks_http2() {
                return Err(Failure::NotHttp2);
            }
            let mut dialed = pin!(self.dialed.notified());
            dialed.as_mut().enable();
            if self.is_dialing.get() {
                let deadline = if needs_proof { proof_deadline } else { deadline };
                timeout_at(deadline, dialed).await.map_err(|_| Failure::ConnectTimeout)?;
                continue;
            }
            let right = Right::try_take(&self.quota);
            // The last one may be another worker's, whose streams are not ours: each has one at least.
            if right.is_none() && !self.links.borrow().is_empty() {
                return Err(Failure::Overload);
            }
            let mut dialing = Some(Dialing::new(self));
            let mut dialed = pin!(chosen.target.dial(worker, &chosen.snapshot, load, deadline));
            let dialed = match timeout(TURN_TIME_MAX, dialed.as_mut()).await {
                Ok(dialed) => dialed,
                // It hangs, perhaps. Others may try meanwhile.
                Err(_) => {
                    dialing = None;
                    dialed.await
                }
            };
            let stream = dialed.inspect_err(|_| self.spoken.forget())?;
            let link = self.add(worker, stream, limits, load.is_some(), right);
            if dialing.is_none() {
                self.dialed.notify_waiters();
            }
            if needs_proof {
                let is_hop = load.is_some_and(|load| !load.endpoint().is_plain());
                self.prove(&link, is_hop, proof_deadline).await?;
            }
        }
    }

    /// Waits for the first word of the other side.
    async fn prove(&self, link: &Link, is_hop: bool, deadline: Instant) -> Result<(), Failure> {
        loop {
            let mut news = pin!(link.news.notified());
            news.as_mut().enable();
            if link.state().engine.has_peer_settings() {
                self.spoken.found_http2();
                return Ok(());
            }
            if link.state().is_over() && is_hop {
                return Err(Failure::ConnectFailed);
            }
            if link.state().is_over() {
                self.spoken.found_http1_only();
                return Err(Failure::NotHttp2);
            }
            timeout_at(deadline, news).await.map_err(|_| Failure::UpstreamTimeout)?;
        }
    }

    fn add(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        stream: Stream,
        limits: &CompiledLimits,
        is_hop: bool,
        right: Option<Right>,
    ) -> Rc<Link> {
        let link = Link::new(Engine::client(super::upstream_limits(&limits.wire)));
        let connection = Connection::new(stream, limits.wire.head_bytes_max);
        self.links.borrow_mut().push(link.clone());
        let driven = drive(worker.clone(), self.clone(), link.clone(), connection, is_hop);
        spawn_local(async move {
            let _right = right;
            driven.await;
        });
        link
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
    if driver.is_other() && !is_hop {
        links.spoken.found_http1_only();
    }
    if is_hop || links.spoken.speaks_http2() {
        driver.is_known();
    }
    if link.state().engine.has_peer_settings() {
        links.spoken.found_http2();
    }
    driver.end_exchanges();
    drop(driver);
    if end != End::Gone {
        http::linger(connection).await;
    }
}

/// One at a time dials, for as long as a turn takes at most; others wait for what comes of it.
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
