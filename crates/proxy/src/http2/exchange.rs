//! One request and its answer between a client and an upstream, one of which at least speaks HTTP/2: what moves when
//! something has come on either. Nothing waits in here; who has to be connected first is, by [`reach`], a task of its own.

mod answer;
mod rejected;
mod request;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sinew_telemetry::{InFlight, Outcome, RouteMetrics};
use sinew_wire::h2::{ErrorCode, Heads, StreamKey};
use sinew_wire::head::{RequestEdits, RequestHead, ResponseHead, Span};
use sinew_wire::websocket::{KEY_FIELD, is_key, is_websocket};
use tokio::task::spawn_local;
use tokio::time::Instant;

use self::rejected::Lingering;
pub use self::rejected::{begin_rejected, count_refused};
use super::end::End;
pub use super::exchanges::Ticket;
use super::link::Link;
use super::links::{Links, Needs};
use super::pipe::Pipe;
use super::spoken::Way;
use super::{reply, to_http1};
use crate::failure::Failure;
use crate::flow::{Flow, Plan};
use crate::grpc::{self, TIMEOUT_FIELD, Timeout};
use crate::snapshot::{Load, Snapshot};
use crate::upstream::{Target, Tries};
use crate::worker::Worker;

/// What may be held, for how long, for a peer that takes nothing, when there is no memory.
const STALLED_BYTES_MAX: usize = 16 * 1024;
const STALLED_TIME_MAX: Duration = Duration::from_secs(1);
/// Heads of requests that are over, kept for others, per worker.
const FREE_HEADS_MAX: usize = 128;
const FREE_HEAD_BYTES_MAX: usize = 4 * 1024;

pub struct Exchange {
    client: End,
    upstream: Option<End>,
    target: Target,
    snapshot: Rc<Snapshot>,
    /// As it goes upstream, and may once more.
    departing: Option<Departing>,
    request: Pipe,
    /// The head of an answer that waits until the client has room for it.
    waiting: Option<Box<Answer>>,
    answer: Pipe,
    /// Of the final answer; 0: none has come.
    status: u16,
    is_head_sent: bool,
    is_interim_sent: bool,
    tries: Tries,
    load: Option<Load>,
    metrics: Arc<RouteMetrics>,
    _in_flight: InFlight,
    is_inbound: bool,
    is_grpc: bool,
    /// What the call ended with, as far as anybody has said.
    grpc_status: Option<u16>,
    /// Of a gRPC call whose caller has named one.
    deadline: Option<Instant>,
    /// The request was not sent at once.
    has_waited: bool,
    /// WebSocket: from the answer on bytes pass both ways as they are.
    is_tunnel: bool,
    is_harmless: bool,
    /// Of the request's body, since it was last said to move.
    body_bytes: usize,
    /// The same of what the client has taken of the answer.
    taken_bytes: usize,
    began: Instant,
    moved_at: Instant,
    /// Unless it is the upstream's answer.
    outcome: Option<Outcome>,
    /// The client has its whole answer, of the proxy's own, and is still sending.
    lingering: Option<Lingering>,
    /// What the streams are told that are not over by then.
    code: ErrorCode,
}

/// What goes upstream as a request's head.
#[derive(Default)]
pub struct Departing {
    pub head: RequestHead,
    pub bytes: Vec<u8>,
    plan: Option<Plan>,
}

enum Answer {
    Upstreams { head: ResponseHead, bytes: Vec<u8> },
    Own(Failure),
}

/// What follows from something that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    GoesOn,
    /// A connection has to be made, or waited for.
    Reach,
    Over,
}

/// The life of a request: from its head until it is on its way. The rest are steps, as things come.
pub fn begin(flow: &Flow, link: &Rc<Link>, key: StreamKey, heads: &mut Heads, end: bool, now: Instant) {
    let worker = &flow.worker;
    let snapshot = worker.snapshot(); // one configuration from start to end
    let (target, metrics) = match flow.route(&snapshot) {
        Ok(route) => route,
        Err(failure) => return reply::refuse(&mut link.state(), key, failure),
    };
    let planned = flow.plan(&snapshot, &heads.request, heads.bytes());
    let client = End::Http2 { link: link.clone(), key };
    let mut exchange = Exchange::new(flow, client, target, metrics, snapshot, now);
    exchange.take_request(Departing::take(heads), end);
    let deadline = exchange.deadline();
    let ticket = worker.exchanges.insert(exchange);
    link.state().enter(key, ticket);
    if let Some(deadline) = deadline {
        link.state().look_before(deadline);
    }
    step(worker, ticket, |exchange| match planned {
        Ok(plan) => exchange.depart(worker, ticket, plan),
        Err(failure) => exchange.fail(failure),
    });
}

/// Lets an exchange take a step, and does what follows. False: it is over.
pub fn step(worker: &Rc<Worker>, ticket: Ticket, take: impl FnOnce(&mut Exchange) -> Step) -> bool {
    match worker.exchanges.with(ticket, take) {
        None => return false,
        Some(Step::GoesOn) => {}
        Some(Step::Reach) => start(worker, ticket),
        Some(Step::Over) => {
            if let Some(exchange) = worker.exchanges.remove(ticket) {
                exchange.end();
            }
        }
    }
    true
}

/// Begins to reach an endpoint. Of one client's connection only a few do at a time: others would wait for all of a hundred.
fn start(worker: &Rc<Worker>, ticket: Ticket) {
    let link = worker.exchanges.with(ticket, |exchange| exchange.client.link().cloned()).flatten();
    match link {
        Some(link) if !link.state().starts(ticket) => {}
        Some(link) => drop(spawn_local(reach_in_turn(worker.clone(), ticket, link))),
        None => drop(spawn_local(reach(worker.clone(), ticket))),
    }
}

/// Once it has begun, the next of its connection may.
async fn reach_in_turn(worker: Rc<Worker>, ticket: Ticket, link: Rc<Link>) {
    let mut reach = pin!(reach(worker.clone(), ticket));
    let mut has_begun = false;
    poll_fn(|cx| {
        let polled = reach.as_mut().poll(cx);
        if !std::mem::replace(&mut has_begun, true) {
            start_next(&worker, &link);
        }
        polled
    })
    .await;
}

fn start_next(worker: &Rc<Worker>, link: &Rc<Link>) {
    loop {
        let Some(ticket) = link.state().next_start() else { return };
        if worker.exchanges.with(ticket, |_| ()).is_some() {
            drop(spawn_local(reach_in_turn(worker.clone(), ticket, link.clone())));
            return;
        }
    }
}

/// Connects to an endpoint for a request that found none connected, and sends it. Over HTTP/1.1 it stays as long as the
/// exchange does.
async fn reach(worker: Rc<Worker>, ticket: Ticket) {
    let choose = |exchange: &mut Exchange| {
        exchange.has_waited = true;
        exchange.choose(&worker)
    };
    let Some(chosen) = worker.exchanges.with(ticket, choose) else { return };
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(failure) => {
            step(&worker, ticket, |exchange| exchange.fail(failure));
            return;
        }
    };
    if chosen.way == Way::Http1 {
        return to_http1::carry(&worker, ticket, chosen).await;
    }
    match chosen.links.reach(&worker, &chosen).await {
        Ok(link) => step(&worker, ticket, |exchange| exchange.open(ticket, link, chosen.load)),
        // What it speaks was not known. Nothing was sent.
        Err(Failure::NotHttp2) if chosen.way == Way::Unknown => {
            return to_http1::carry(&worker, ticket, chosen).await;
        }
        Err(failure) => not_reached(&worker, ticket, failure, chosen.load.as_ref()),
    };
}

/// `load`: of the endpoint that was tried.
pub fn not_reached(worker: &Rc<Worker>, ticket: Ticket, failure: Failure, load: Option<&Load>) -> bool {
    step(worker, ticket, |exchange| match load {
        Some(_) => exchange.not_reached(failure, load),
        None => exchange.fail(failure),
    })
}

/// Where a request goes that is about to be sent.
pub struct Chosen {
    pub links: Rc<Links>,
    pub way: Way,
    pub needs: Needs,
    pub target: Target,
    pub load: Option<Load>,
    pub snapshot: Rc<Snapshot>,
}

impl Exchange {
    pub fn new(
        flow: &Flow,
        client: End,
        target: Target,
        metrics: Arc<RouteMetrics>,
        snapshot: Rc<Snapshot>,
        now: Instant,
    ) -> Self {
        Self {
            client,
            upstream: None,
            target,
            snapshot,
            departing: None,
            request: Pipe::keeping(),
            waiting: None,
            answer: Pipe::default(),
            status: 0,
            is_head_sent: false,
            is_interim_sent: false,
            tries: Tries::new(now, false),
            load: None,
            _in_flight: metrics.begin(),
            metrics,
            is_inbound: flow.is_inbound(),
            is_grpc: false,
            grpc_status: None,
            deadline: None,
            has_waited: false,
            is_tunnel: false,
            is_harmless: false,
            body_bytes: 0,
            taken_bytes: 0,
            began: now,
            moved_at: now,
            outcome: None,
            lingering: None,
            code: ErrorCode::CANCEL,
        }
    }

    pub fn take_request(&mut self, departing: Departing, end: bool) {
        let kind = departing.head.value(&departing.bytes, b"content-type");
        self.is_grpc = kind.is_some_and(|kind| kind.starts_with(b"application/grpc"));
        if self.is_grpc {
            let timeout = departing.head.value(&departing.bytes, TIMEOUT_FIELD).and_then(grpc::timeout);
            self.deadline = timeout.map(|timeout| self.began + timeout);
        }
        self.is_tunnel = departing.is_tunnel();
        self.is_harmless = end && departing.head.method.is_idempotent();
        self.request.push(&[], end);
        self.departing = Some(departing);
    }

    /// Sending it twice does what sending it once does, and can be done.
    pub fn is_harmless(&self) -> bool {
        self.is_harmless
    }

    /// To an endpoint that is connected; else one has to be connected first.
    pub fn depart(&mut self, worker: &Worker, ticket: Ticket, plan: Plan) -> Step {
        if let Some(departing) = &mut self.departing {
            departing.plan = Some(plan);
        }
        match self.choose(worker) {
            Ok(chosen) if chosen.way != Way::Http2 => Step::Reach,
            Ok(chosen) => match chosen.links.pick(chosen.needs) {
                Some(link) => self.open(ticket, link, chosen.load),
                None => Step::Reach,
            },
            Err(failure) => self.fail(failure),
        }
    }

    fn choose(&mut self, worker: &Worker) -> Result<Chosen, Failure> {
        let (links, load) = self.target.choose(worker, &self.snapshot, &mut self.tries)?;
        let way = self.target.way(&self.snapshot, load.as_ref(), &links, self.is_tunnel);
        let needs = match way {
            _ if self.is_tunnel => Needs::Tunnel,
            Way::Unknown => Needs::Proof,
            Way::Http1 | Way::Http2 => Needs::Stream,
        };
        Ok(Chosen { links, way, needs, load, target: self.target.clone(), snapshot: self.snapshot.clone() })
    }

    fn open(&mut self, ticket: Ticket, link: Rc<Link>, load: Option<Load>) -> Step {
        if self.outcome.is_some() {
            return Step::GoesOn; // it was answered while it was reaching
        }
        let Some(Departing { head, bytes, plan: Some(plan) }) = &self.departing else {
            return self.fail(Failure::UpstreamGone);
        };
        let ends = self.request.is_empty_at_end();
        let mut state = link.state();
        let timeout = self.timeout_left();
        let upgrade = self.is_tunnel;
        let sent = with_edits(plan, timeout, |edits| {
            let edits = RequestEdits { upgrade, ..*edits };
            state.engine.send_request(head, bytes, &edits, false, ends)
        });
        let Ok(key) = sent else {
            drop(state);
            return self.not_reached(Failure::Unprocessed, load.as_ref());
        };
        state.enter(key, ticket);
        state.wake();
        drop(state);
        self.opened(End::Http2 { link, key }, load, ends)
    }

    /// What is left of the time that the caller gave the call, where that is not what it has said.
    fn timeout_left(&self) -> Option<Timeout> {
        let deadline = self.deadline.filter(|_| self.has_waited)?;
        Some(Timeout::new(deadline.saturating_duration_since(Instant::now())))
    }

    /// The request's head is on its way; `ends`: and nothing follows.
    fn opened(&mut self, upstream: End, load: Option<Load>, ends: bool) -> Step {
        self.load = load;
        self.upstream = Some(upstream);
        if ends {
            self.request.done();
            return Step::GoesOn;
        }
        self.step_request(self.moved_at)
    }

    pub fn client_gone(&mut self, code: ErrorCode) -> Step {
        if self.outcome.is_some() {
            return Step::Over; // it has been told, as far as it wanted to know
        }
        self.code = code;
        self.outcome = Some(Outcome::Failed { failure: Failure::ClientGone.label(), status: None });
        Step::Over
    }

    /// It broke a rule or a limit on the stream; the engine has reset it.
    pub fn client_malformed(&mut self) -> Step {
        if self.lingering.is_some() {
            return Step::Over;
        }
        let failure = sinew_telemetry::Failure::ClientMalformed;
        self.outcome = Some(Outcome::Failed { failure, status: None });
        Step::Over
    }

    pub fn upstream_malformed(&mut self) -> Step {
        self.fail(Failure::UpstreamMalformed)
    }

    /// The upstream gave the stream up.
    pub fn upstream_reset(&mut self, code: ErrorCode) -> Step {
        if self.answer.is_ended() {
            return self.request_unwanted();
        }
        if code == ErrorCode::REFUSED_STREAM && self.may_repeat() {
            return self.again(Failure::Unprocessed);
        }
        if matches!(self.client, End::Http1(_)) {
            return self.fail(Failure::UpstreamGone);
        }
        self.code = code;
        self.outcome = Some(Outcome::Failed { failure: Failure::UpstreamGone.label(), status: None });
        Step::Over
    }

    /// The upstream's connection has ended.
    pub fn upstream_gone(&mut self) -> Step {
        if self.answer.is_ended() {
            return self.request_unwanted();
        }
        let is_unprocessed = self.upstream.as_ref().is_some_and(End::is_unprocessed);
        let is_stale = self.upstream.as_ref().is_some_and(End::is_stale);
        match self.may_repeat() {
            true if is_unprocessed => self.again(Failure::Unprocessed),
            true if is_stale && self.is_harmless => self.again(Failure::UpstreamGone),
            _ => self.fail(Failure::UpstreamGone),
        }
    }

    /// It speaks the other version alone, so it has done nothing for the request.
    pub fn upstream_speaks_another(&mut self, failure: Failure) -> Step {
        // It would be asked the same again.
        let is_final = failure == Failure::NotHttp2 && self.target.wants_http2(&self.snapshot);
        if self.may_repeat() && !is_final { self.again(failure) } else { self.fail(failure) }
    }

    /// It has ended its connection in order, before its SETTINGS. That may be one that is about to stop, so that others
    /// are tried; where all do, it is how a server ends that takes the preface for a malformed request.
    pub fn upstream_silent(&mut self) -> Step {
        if self.may_repeat() { self.again(Failure::NotHttp2) } else { self.fail(Failure::UpstreamGone) }
    }

    /// Nothing has reached an application for sure, or twice is as good as once; and all of it is still here.
    fn may_repeat(&self) -> bool {
        let is_whole = self.request.is_kept() && self.departing.is_some();
        is_whole && !self.is_interim_sent && self.status == 0
    }

    /// To another endpoint, if there may be another attempt.
    fn again(&mut self, failure: Failure) -> Step {
        let load = self.load.take();
        let step = self.not_reached(failure, load.as_ref());
        if step == Step::Reach {
            self.leave_upstream();
            self.request.rewind();
            self.metrics.retries.increment();
        }
        step
    }

    /// `load`: of the endpoint that was tried.
    fn not_reached(&mut self, failure: Failure, load: Option<&Load>) -> Step {
        match self.tries.failed(load.map(Load::endpoint), failure) {
            Ok(()) => Step::Reach,
            Err(failure) => self.fail(failure),
        }
    }

    /// There is no answer of the upstream's: the proxy answers itself, where the client has not seen a head yet.
    pub fn fail(&mut self, failure: Failure) -> Step {
        if self.lingering.is_some() {
            return Step::GoesOn;
        }
        self.target.blame(self.load.as_ref(), failure);
        self.leave_upstream();
        self.deadline = None;
        self.grpc_status = Some(grpc::status(failure.grpc_status().as_bytes()));
        let status = (!self.is_head_sent && failure.status() != 0).then(|| failure.status());
        self.outcome = Some(Outcome::Failed { failure: failure.label(), status });
        if status.is_some() {
            let unwanted = self.request.discard();
            self.request_passed(Ok(unwanted));
            self.answer = Pipe::default();
            self.waiting = Some(Box::new(Answer::Own(failure)));
            self.code = ErrorCode::NO_ERROR;
            return self.step_answer(self.moved_at);
        }
        // What the client has so far is an answer that ends with its status; it is cut off without, otherwise. What it still
        // sends is unwanted, no more than that: another code could be taken for the call's.
        let is_told = self.is_grpc && self.answer.unsent() == 0 && self.client.send(|to| to.status(failure));
        self.code = if is_told { ErrorCode::NO_ERROR } else { ErrorCode::INTERNAL_ERROR };
        Step::Over
    }

    /// When somebody has to look at the time, beside now and then: at the end of the time that the caller has given the
    /// call, or of ours for the head of its answer.
    pub fn deadline(&self) -> Option<Instant> {
        let named = self.deadline?;
        Some(self.head_deadline().map_or(named, |ours| named.min(ours)))
    }

    /// Of a gRPC call whose caller has named a deadline, and has said all that it will say. One that has begun to be
    /// answered may take the time that it was given, as may one without a deadline: streams live long by design.
    fn head_deadline(&self) -> Option<Instant> {
        let is_due = self.deadline.is_some() && self.request.is_ended() && self.status == 0;
        is_due.then(|| self.moved_at + self.snapshot.limits.request_timeout)
    }

    /// The client has said all that it will say.
    pub fn is_asked(&self) -> bool {
        self.request.is_ended()
    }

    /// Nothing may stand still for too long. A gRPC call has the patience of TCP, as its streams live long by design, and
    /// the deadline that its caller has named.
    fn look_at_the_time(&mut self, now: Instant) -> Step {
        if let Some(lingering) = &self.lingering {
            return lingering.at(now);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return self.fail(Failure::Deadline);
        }
        if self.head_deadline().is_some_and(|deadline| deadline <= now) {
            return self.fail(Failure::UpstreamTimeout);
        }
        let limits = &self.snapshot.limits;
        let client_sends = !self.request.is_ended() && self.status == 0;
        let max = match (self.is_grpc, client_sends) {
            (true, _) => limits.tcp_idle_timeout,
            _ if self.is_tunnel && self.status != 0 => limits.tcp_idle_timeout,
            (false, true) => limits.idle_timeout,
            (false, false) => limits.request_timeout,
        };
        if now.saturating_duration_since(self.moved_at) < max {
            return Step::GoesOn;
        }
        let client_reads_nothing = self.status != 0 && (self.waiting.is_some() || self.answer.unsent() > 0);
        let client_owes_body = client_sends && self.upstream.is_some() && self.request.all_sent();
        self.fail(match (client_reads_nothing, client_owes_body) {
            (true, _) => Failure::ClientGone,
            (false, true) => Failure::BodyTimeout,
            (false, false) => Failure::UpstreamTimeout,
        })
    }

    /// Like [`Exchange::look_at_the_time`]; when there is no memory nothing that is held may stand still.
    pub fn look(&mut self, worker: &Worker, now: Instant) -> Step {
        match self.look_at_the_time(now) {
            Step::GoesOn if worker.memory.is_out() && self.stands_still(now) => {
                worker.registry.process.requests_shed.increment();
                self.fail(Failure::Shed)
            }
            step => step,
        }
    }

    /// One of both takes nothing of what is held for it.
    fn stands_still(&self, now: Instant) -> bool {
        let held = self.answer.unsent().max(self.request.unsent());
        held > STALLED_BYTES_MAX && now.saturating_duration_since(self.moved_at) >= STALLED_TIME_MAX
    }

    fn leave_upstream(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            upstream.leave(ErrorCode::CANCEL);
        }
        self.load = None;
    }

    /// It is over: nothing is left of it on either side.
    fn end(self) {
        let is_answered = self.outcome.is_none();
        self.client.leave(if is_answered { ErrorCode::NO_ERROR } else { self.code });
        if let Some(upstream) = &self.upstream {
            upstream.leave(if is_answered { ErrorCode::CANCEL } else { self.code });
        }
        let outcome = self.outcome.unwrap_or(Outcome::Answered { status: self.status });
        if self.is_grpc {
            let is_cancelled = matches!(outcome, Outcome::Failed { failure, .. } if failure.is_clients());
            let unsaid = if is_cancelled { grpc::CANCELLED } else { grpc::status_of_http(self.status) };
            self.metrics.count_grpc(self.grpc_status.unwrap_or(unsaid));
        }
        match outcome {
            // How long a tunnel lives says nothing about latency.
            Outcome::Answered { .. } if self.is_tunnel => self.metrics.count(outcome),
            // Nor does one that was never sent anywhere.
            _ if self.departing.is_none() && self.status == 0 => self.metrics.count(outcome),
            _ => self.metrics.record(outcome, self.began.elapsed()),
        }
    }
}

fn with_edits<T>(plan: &Plan, timeout: Option<Timeout>, use_it: impl FnOnce(&RequestEdits<'_>) -> T) -> T {
    plan.with_edits(|edits| {
        let Some(timeout) = timeout else { return use_it(edits) };
        let remove = [edits.remove, &[TIMEOUT_FIELD]].concat();
        let append = [edits.append, &[(TIMEOUT_FIELD, timeout.as_bytes())]].concat();
        use_it(&RequestEdits { remove: &remove, append: &append, ..*edits })
    })
}

impl Departing {
    /// The head of the request at hand, with the memory of one that is over.
    pub fn take(heads: &mut Heads) -> Self {
        let mut departing = FREE_HEADS.with_borrow_mut(Vec::pop).unwrap_or_default();
        departing.bytes.extend_from_slice(heads.bytes());
        std::mem::swap(&mut departing.head, &mut heads.request);
        departing
    }

    /// WebSocket, asked for in either version.
    pub fn is_tunnel(&self) -> bool {
        let is_upgrade = self.head.upgrade.is_some_and(|upgrade| is_websocket(upgrade.of(&self.bytes)));
        let has_key = || self.head.value(&self.bytes, KEY_FIELD).is_some_and(is_key);
        self.head.protocol.is_some() || (is_upgrade && has_key())
    }

    /// A head of HTTP/1.1 and what it was parsed from. `host`: meant where the client has named none.
    pub fn of_http1(head: RequestHead, bytes: &[u8], host: &[u8]) -> Self {
        let mut departing = Self { head, bytes: bytes.to_vec(), plan: None };
        if departing.head.authority.is_empty() {
            let start = bytes.len() as u32;
            departing.bytes.extend_from_slice(host);
            departing.head.authority = Span { start, end: departing.bytes.len() as u32 };
        }
        departing
    }
}

impl Drop for Departing {
    fn drop(&mut self) {
        // At the end of a thread the list may be gone before its last user.
        let _ = FREE_HEADS.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < FREE_HEADS_MAX && self.bytes.capacity() <= FREE_HEAD_BYTES_MAX {
                let mut bytes = std::mem::take(&mut self.bytes);
                bytes.clear();
                free.push(Self { head: std::mem::take(&mut self.head), bytes, plan: None });
            }
        });
    }
}

thread_local! {
    static FREE_HEADS: RefCell<Vec<Departing>> = const { RefCell::new(Vec::new()) };
}
