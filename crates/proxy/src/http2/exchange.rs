//! One request over HTTP/2 and its answer, between a client's stream and an upstream's: what moves when something has
//! come on either. Nothing waits in here; who has to be connected first is, by [`reach`], a task of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sinew_telemetry::{InFlight, Outcome, RouteMetrics};
use sinew_wire::h2::{ErrorCode, Heads, SendError, StreamKey};
use sinew_wire::head::{Reject, RequestHead, ResponseEdits, ResponseHead, ResponseKind};
use tokio::task::spawn_local;
use tokio::time::Instant;

pub use super::exchanges::Ticket;
use super::link::Link;
use super::links::Links;
use super::pipe::Pipe;
use super::reply;
use crate::exchange::BODY_BYTES_MIN;
use crate::failure::{CONNECT_FAILED, Failure, REASON_HEADER};
use crate::http::{Flow, Plan};
use crate::snapshot::{Load, Snapshot};
use crate::upstream::{Target, Tries};
use crate::worker::Worker;

/// A request whose body is longer cannot be sent again.
const REPLAY_BYTES_MAX: usize = 16 * 1024;
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
    is_harmless: bool,
    /// Of the request's body, since it was last said to move.
    body_bytes: usize,
    /// The same of what the client has taken of the answer.
    taken_bytes: usize,
    began: Instant,
    moved_at: Instant,
    /// Unless it is the upstream's answer.
    outcome: Option<Outcome>,
    /// What the streams are told that are not over by then.
    code: ErrorCode,
}

/// A stream of a connection.
struct End {
    link: Rc<Link>,
    key: StreamKey,
}

/// What goes upstream as a request's head.
#[derive(Default)]
struct Departing {
    head: RequestHead,
    bytes: Vec<u8>,
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
    let mut exchange = Exchange::new(flow, link, key, target, metrics, snapshot, now);
    exchange.take_request(heads, end);
    let ticket = worker.exchanges.insert(exchange);
    link.state().enter(key, ticket);
    step(worker, ticket, |exchange| match planned {
        Ok(plan) => exchange.depart(worker, ticket, plan),
        Err(failure) => exchange.fail(failure),
    });
}

/// A request that the engine has answered or reset.
pub fn count_refused(flow: &Flow, reject: Reject) {
    let failure = Failure::Rejected(reject);
    if let Ok((_, metrics)) = flow.route(&flow.worker.snapshot()) {
        metrics.count(Outcome::Failed { failure: failure.label(), status: Some(failure.status()) });
    }
}

/// Lets an exchange take a step, and does what follows. False: it is over.
pub fn step(worker: &Rc<Worker>, ticket: Ticket, take: impl FnOnce(&mut Exchange) -> Step) -> bool {
    match worker.exchanges.with(ticket, take) {
        None => return false,
        Some(Step::GoesOn) => {}
        Some(Step::Reach) => {
            spawn_local(reach(worker.clone(), ticket));
        }
        Some(Step::Over) => {
            if let Some(exchange) = worker.exchanges.remove(ticket) {
                exchange.end();
            }
        }
    }
    true
}

/// Connects to an endpoint for a request that found none connected, and sends it.
async fn reach(worker: Rc<Worker>, ticket: Ticket) {
    let Some(chosen) = worker.exchanges.with(ticket, |exchange| exchange.choose(&worker)) else { return };
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(failure) => {
            step(&worker, ticket, |exchange| exchange.fail(failure));
            return;
        }
    };
    let link = chosen.links.reach(&worker, &chosen).await;
    step(&worker, ticket, |exchange| match (link, chosen.load) {
        (Ok(link), load) => exchange.open(ticket, link, load),
        (Err(failure), Some(load)) => exchange.not_reached(failure, Some(&load)),
        (Err(failure), None) => exchange.fail(failure),
    });
}

/// Where a request goes that is about to be sent.
pub struct Chosen {
    pub links: Rc<Links>,
    pub target: Target,
    pub load: Option<Load>,
    pub snapshot: Rc<Snapshot>,
}

impl Exchange {
    fn new(
        flow: &Flow,
        link: &Rc<Link>,
        key: StreamKey,
        target: Target,
        metrics: Arc<RouteMetrics>,
        snapshot: Rc<Snapshot>,
        now: Instant,
    ) -> Self {
        Self {
            client: End { link: link.clone(), key },
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
            is_harmless: false,
            body_bytes: 0,
            taken_bytes: 0,
            began: now,
            moved_at: now,
            outcome: None,
            code: ErrorCode::CANCEL,
        }
    }

    fn take_request(&mut self, heads: &mut Heads, end: bool) {
        let kind = heads.request.value(heads.bytes(), b"content-type");
        self.is_grpc = kind.is_some_and(|kind| kind.starts_with(b"application/grpc"));
        self.is_harmless = end && heads.request.method.is_idempotent();
        self.request.push(&[], end);
        self.departing = Some(Departing::take(heads));
    }

    /// To an endpoint that is connected; else one has to be connected first.
    fn depart(&mut self, worker: &Worker, ticket: Ticket, plan: Plan) -> Step {
        if let Some(departing) = &mut self.departing {
            departing.plan = Some(plan);
        }
        match self.choose(worker) {
            Ok(chosen) => match chosen.links.pick() {
                Some(link) => self.open(ticket, link, chosen.load),
                None => Step::Reach,
            },
            Err(failure) => self.fail(failure),
        }
    }

    fn choose(&mut self, worker: &Worker) -> Result<Chosen, Failure> {
        let (links, load) = self.target.choose(worker, &self.snapshot, &mut self.tries)?;
        Ok(Chosen { links, load, target: self.target.clone(), snapshot: self.snapshot.clone() })
    }

    fn open(&mut self, ticket: Ticket, link: Rc<Link>, load: Option<Load>) -> Step {
        let Some(Departing { head, bytes, plan: Some(plan) }) = &self.departing else {
            return self.fail(Failure::UpstreamGone);
        };
        let ends = self.request.is_empty_at_end();
        let mut state = link.state();
        let sent = plan.with_edits(|edits| state.engine.send_request(head, bytes, edits, false, ends));
        let Ok(key) = sent else {
            drop(state);
            return self.not_reached(Failure::Unprocessed, load.as_ref());
        };
        state.enter(key, ticket);
        state.wake();
        drop(state);
        self.load = load;
        self.upstream = Some(End { link, key });
        if ends {
            self.request.done();
            return Step::GoesOn;
        }
        self.step_request(self.moved_at)
    }

    /// Bytes of the client's.
    pub fn request_came(&mut self, data: &[u8], end: bool, now: Instant) -> Step {
        self.metrics.sent_bytes.add(data.len() as u64);
        self.body_bytes += data.len();
        if end || self.body_bytes >= BODY_BYTES_MIN {
            self.body_bytes = 0;
            self.moved_at = now;
        }
        let passed = match &self.upstream {
            Some(upstream) => {
                let mut to = upstream.link.state();
                let passed = self.request.pass(data, end, &mut to.engine, upstream.key);
                to.wake();
                passed
            }
            None => {
                self.request.push(data, end);
                Ok(0)
            }
        };
        if self.request.len() > REPLAY_BYTES_MAX && self.upstream.is_some() {
            self.request.keep_no_more();
        }
        self.request_passed(passed)
    }

    pub fn request_trailers_came(&mut self, heads: &Heads, now: Instant) -> Step {
        self.moved_at = now;
        let passed = match &self.upstream {
            Some(upstream) => {
                let mut to = upstream.link.state();
                let passed = self.request.pass_trailers(heads.trailers(), &mut to.engine, upstream.key);
                to.wake();
                passed
            }
            None => {
                self.request.end_with(heads.trailers());
                Ok(0)
            }
        };
        self.request_passed(passed)
    }

    /// The upstream takes more of the request.
    pub fn step_request(&mut self, now: Instant) -> Step {
        let Some(upstream) = &self.upstream else { return Step::GoesOn };
        let mut to = upstream.link.state();
        let passed = self.request.pump(&mut to.engine, upstream.key);
        to.wake();
        drop(to);
        if self.request.len() > REPLAY_BYTES_MAX {
            self.request.keep_no_more();
        }
        self.moved_at = self.moved_at.max(now);
        self.request_passed(passed)
    }

    fn request_passed(&mut self, passed: Result<usize, SendError>) -> Step {
        let count = match passed {
            Ok(count) => count,
            // It wants no more of it; its answer, or its reset, is on the way.
            Err(SendError::Gone | SendError::Mismatch) => self.request.discard(),
        };
        if count > 0 {
            let mut client = self.client.link.state();
            client.engine.consumed(self.client.key, count);
            client.wake();
        }
        Step::GoesOn
    }

    /// A head of the upstream's.
    pub fn answer_came(&mut self, heads: &mut Heads, end: bool, now: Instant) -> Step {
        let head = &heads.response;
        if head.kind == ResponseKind::Interim {
            return self.interim_came(heads);
        }
        let reason = head.value(heads.bytes(), REASON_HEADER).filter(|_| !self.is_inbound);
        if reason == Some(CONNECT_FAILED.as_bytes()) && self.may_repeat() {
            return self.again(Failure::ConnectFailed);
        }
        (self.status, self.moved_at) = (head.status, now);
        if let Some(load) = &self.load {
            load.endpoint().answered(now);
        }
        self.departing = None;
        self.request.keep_no_more();
        self.answer.push(&[], end);
        let mut client = self.client.link.state();
        if !client.engine.has_room() {
            client.wait_for_room(self.client.key);
            drop(client);
            let bytes = heads.bytes().to_vec();
            self.waiting =
                Some(Box::new(Answer::Upstreams { head: std::mem::take(&mut heads.response), bytes }));
            return Step::GoesOn;
        }
        let edits = edits(self.is_inbound);
        let sent = client.engine.send_response(self.client.key, head, heads.bytes(), &edits, end);
        client.wake();
        drop(client);
        self.is_head_sent = true;
        if end {
            self.answer.done();
        }
        if end || sent.is_err() { Step::Over } else { Step::GoesOn }
    }

    fn interim_came(&mut self, heads: &Heads) -> Step {
        let mut client = self.client.link.state();
        // It may be left out (RFC 9110, 15.2); a client that waits for 100 goes on after a while.
        if client.engine.has_room() {
            let edits = edits(self.is_inbound);
            let _ =
                client.engine.send_response(self.client.key, &heads.response, heads.bytes(), &edits, false);
            client.wake();
            self.is_interim_sent = true;
        }
        Step::GoesOn
    }

    /// Bytes of the upstream's.
    pub fn body_came(&mut self, data: &[u8], end: bool, now: Instant) -> Step {
        self.metrics.received_bytes.add(data.len() as u64);
        if !self.is_head_sent {
            self.moved_at = now;
            self.answer.push(data, end);
            return Step::GoesOn;
        }
        let mut client = self.client.link.state();
        let passed = self.answer.pass(data, end, &mut client.engine, self.client.key);
        client.wake();
        drop(client);
        self.note_taken(passed, now);
        self.answer_passed(passed)
    }

    pub fn trailers_came(&mut self, heads: &Heads, now: Instant) -> Step {
        self.moved_at = now;
        if !self.is_head_sent {
            self.answer.end_with(heads.trailers());
            return Step::GoesOn;
        }
        let mut client = self.client.link.state();
        let passed = self.answer.pass_trailers(heads.trailers(), &mut client.engine, self.client.key);
        client.wake();
        drop(client);
        self.answer_passed(passed)
    }

    /// The client takes more of the answer.
    pub fn step_answer(&mut self, now: Instant) -> Step {
        let mut client = self.client.link.state();
        if let Some(waiting) = self.waiting.take() {
            if !client.engine.has_room() {
                client.wait_for_room(self.client.key);
                self.waiting = Some(waiting);
                return Step::GoesOn;
            }
            let sent = match &*waiting {
                Answer::Upstreams { head, bytes } => {
                    let ends = self.answer.is_empty_at_end();
                    if ends {
                        self.answer.done();
                    }
                    let edits = edits(self.is_inbound);
                    client.engine.send_response(self.client.key, head, bytes, &edits, ends)
                }
                Answer::Own(failure) => {
                    reply::send(&mut client.engine, self.client.key, *failure, self.is_grpc, &mut self.answer)
                }
            };
            self.is_head_sent = true;
            client.wake();
            if sent.is_err() {
                return Step::Over;
            }
        }
        if !self.is_head_sent {
            return Step::GoesOn;
        }
        let passed = self.answer.pump(&mut client.engine, self.client.key);
        client.wake();
        drop(client);
        self.note_taken(passed, now);
        self.answer_passed(passed)
    }

    /// A client that takes all there is may wait for more as long as it likes; one that does not has to take something
    /// worth the name: a window that is opened by one byte now and then would hold the answer for ever.
    fn note_taken(&mut self, passed: Result<usize, SendError>, now: Instant) {
        let Ok(count) = passed else { return };
        self.taken_bytes += count;
        if self.answer.all_sent() && count > 0 || self.taken_bytes >= BODY_BYTES_MIN {
            self.taken_bytes = 0;
            self.moved_at = now;
        }
    }

    fn answer_passed(&mut self, passed: Result<usize, SendError>) -> Step {
        let count = match passed {
            Ok(count) => count,
            Err(SendError::Gone) => return self.client_gone(ErrorCode::CANCEL),
            Err(SendError::Mismatch) => return self.upstream_malformed(),
        };
        if let Some(upstream) = self.upstream.as_ref().filter(|_| count > 0) {
            let mut from = upstream.link.state();
            from.engine.consumed(upstream.key, count);
            from.wake();
        }
        if self.answer.is_done() { Step::Over } else { Step::GoesOn }
    }

    pub fn client_gone(&mut self, code: ErrorCode) -> Step {
        self.code = code;
        self.outcome = Some(Outcome::Failed { failure: Failure::ClientGone.label(), status: None });
        Step::Over
    }

    /// It broke a rule or a limit on the stream; the engine has reset it.
    pub fn client_malformed(&mut self) -> Step {
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
        self.code = code;
        self.outcome = Some(Outcome::Failed { failure: Failure::UpstreamGone.label(), status: None });
        Step::Over
    }

    /// The upstream's connection has ended. `is_http1`: it never spoke anything else.
    pub fn upstream_gone(&mut self, is_http1: bool) -> Step {
        if self.answer.is_ended() {
            return self.request_unwanted();
        }
        if is_http1 {
            return self.fail(Failure::NotHttp2);
        }
        let is_unprocessed = self.upstream.as_ref().is_some_and(|upstream| {
            let state = upstream.link.state();
            state.is_unwritten(upstream.key) || !state.engine.has_peer_settings()
        });
        match self.may_repeat() {
            true if is_unprocessed => self.again(Failure::Unprocessed),
            true if self.is_harmless => self.again(Failure::UpstreamGone),
            _ => self.fail(Failure::UpstreamGone),
        }
    }

    /// The whole answer is here: what is left of the request goes nowhere.
    fn request_unwanted(&mut self) -> Step {
        let left = self.request.discard();
        self.request_passed(Ok(left))
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
    fn fail(&mut self, failure: Failure) -> Step {
        self.target.blame(self.load.as_ref(), failure);
        self.leave_upstream();
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
        self.code = ErrorCode::INTERNAL_ERROR;
        let mut client = self.client.link.state();
        // What the client has so far is an answer that ends with its status; it is cut off without, otherwise.
        if self.is_grpc && self.answer.unsent() == 0 {
            reply::send_status(&mut client.engine, self.client.key, failure);
        }
        Step::Over
    }

    /// Nothing may stand still for too long. What a gRPC call waits for is its own affair, as its streams live long by
    /// design: it has the patience of TCP, and deadlines of its own, which both ends know.
    pub fn look_at_the_time(&mut self, now: Instant) -> Step {
        let limits = &self.snapshot.limits;
        let client_sends = !self.request.is_ended() && self.status == 0;
        let max = match (self.is_grpc, client_sends) {
            (true, _) => limits.tcp_idle_timeout,
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

    /// One of both takes nothing of what is held for it.
    pub fn stands_still(&self, now: Instant) -> bool {
        let held = self.answer.unsent().max(self.request.unsent());
        held > STALLED_BYTES_MAX && now.saturating_duration_since(self.moved_at) >= STALLED_TIME_MAX
    }

    /// Its memory is needed for others.
    pub fn shed(&mut self) -> Step {
        self.fail(Failure::Shed)
    }

    fn leave_upstream(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            upstream.link.state().leave(upstream.key, ErrorCode::CANCEL);
        }
        self.load = None;
    }

    /// It is over: nothing is left of it on either connection.
    fn end(self) {
        let is_answered = self.outcome.is_none();
        let code = if is_answered { ErrorCode::NO_ERROR } else { self.code };
        self.client.link.state().leave(self.client.key, code);
        if let Some(upstream) = &self.upstream {
            let code = if is_answered { ErrorCode::CANCEL } else { self.code };
            upstream.link.state().leave(upstream.key, code);
        }
        let outcome = self.outcome.unwrap_or(Outcome::Answered { status: self.status });
        self.metrics.record(outcome, self.began.elapsed());
    }
}

/// How an answer's head is changed on its way to the client.
fn edits(is_inbound: bool) -> ResponseEdits<'static> {
    ResponseEdits { remove: if is_inbound { &[REASON_HEADER] } else { &[] }, ..ResponseEdits::default() }
}

impl Departing {
    /// The head of the request at hand, with the memory of one that is over.
    fn take(heads: &mut Heads) -> Self {
        let mut departing = FREE_HEADS.with_borrow_mut(Vec::pop).unwrap_or_default();
        departing.bytes.extend_from_slice(heads.bytes());
        std::mem::swap(&mut departing.head, &mut heads.request);
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
