//! One HTTP/2 connection, to a client or to an upstream: its engine, which everybody on the worker may send on, and the
//! driver, which alone reads and writes. Who sends wakes the driver; it writes once for all of them.

mod times;

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sinew_transport::bulk::is_short;
use sinew_wire::h2::{Connection as Engine, ConnectionError, ErrorCode, Event, Heads, Role, StreamKey};
use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::times::Times;
use super::exchange::{self, Step, Ticket};
use super::links::Needs;
use crate::connection::Connection;
use crate::detection::begins_with_settings;
use crate::failure::Failure;
use crate::flow::Flow;
use crate::timer::Timer;
use crate::worker::Worker;

/// How often a connection with streams looks at the time.
const TICK: Duration = Duration::from_secs(1);
/// After a client has ended its side: by then its kernel has said whether it is there.
const SOON: Duration = Duration::from_millis(100);
/// What is received in one turn, before other connections have theirs: requests that begin, and bytes.
const TURN_REQUESTS_MAX: usize = 32;
const TURN_BYTES_MAX: usize = 64 * 1024;
/// Requests of a connection whose endpoints begin to be reached between two turns of others.
const STARTS_MAX: usize = 4;
/// Another sidecar that says nothing for so long while streams are open is asked for a sign of life, and given as long
/// again. Applications are not asked: one that is busy is not dead.
const SILENCE_MAX: Duration = Duration::from_secs(5);

pub struct Link {
    state: RefCell<State>,
    /// The peer's first SETTINGS have come, or the connection is over.
    pub news: Notify,
}

/// Borrowed for a moment only: nobody keeps it while another connection's engine may speak.
pub struct State {
    pub engine: Engine,
    /// Exchanges by their stream's slot, with the stream's identifier.
    tickets: Vec<Option<(u32, Ticket)>>,
    /// Streams whose heads wait until less is left to be written.
    waiting: VecDeque<StreamKey>,
    /// Requests that begin to be reached, and those that do when these have; at most as many as streams may be open, and
    /// those that were given up meanwhile.
    starting: usize,
    to_start: VecDeque<Ticket>,
    waker: Option<Waker>,
    /// The driver's turn has begun, or is about to.
    is_awake: bool,
    /// Streams of ours: the last one, and the last one of which anything may have left.
    opened_last: u32,
    written_last: u32,
    /// Ends as soon as no stream is open.
    is_leaving: bool,
    /// Nobody drives it any more.
    is_over: bool,
    /// The first deadline of an exchange.
    deadline: Option<Instant>,
}

impl Link {
    pub fn new(engine: Engine) -> Rc<Self> {
        let state = State {
            engine,
            tickets: Vec::new(),
            waiting: VecDeque::new(),
            starting: 0,
            to_start: VecDeque::new(),
            waker: None,
            is_awake: false,
            opened_last: 0,
            written_last: 0,
            is_leaving: false,
            is_over: false,
            deadline: None,
        };
        Rc::new(Self { state: RefCell::new(state), news: Notify::new() })
    }

    pub fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }
}

impl State {
    /// The driver shall write what was sent.
    pub fn wake(&mut self) {
        if !self.is_awake {
            self.is_awake = true;
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }

    pub fn enter(&mut self, key: StreamKey, ticket: Ticket) {
        let slot = key.slot as usize;
        if self.tickets.len() <= slot {
            self.tickets.resize(slot + 1, None);
        }
        self.tickets[slot] = Some((key.id, ticket));
        self.opened_last = self.opened_last.max(key.id);
    }

    /// Somebody has to look at the exchanges by then.
    pub fn look_before(&mut self, deadline: Instant) {
        self.deadline = Some(self.deadline.map_or(deadline, |first| first.min(deadline)));
    }

    /// The exchange of a stream.
    fn ticket(&self, key: StreamKey) -> Option<Ticket> {
        let (id, ticket) = (*self.tickets.get(key.slot as usize)?)?;
        (id == key.id).then_some(ticket)
    }

    /// The exchange of a stream is over: whatever is left of the stream is too.
    pub fn leave(&mut self, key: StreamKey, code: ErrorCode) {
        self.engine.reset(key, code);
        if self.ticket(key).is_some() {
            self.tickets[key.slot as usize] = None;
        }
        self.wake();
    }

    /// Nothing of the stream's request has been written.
    pub fn is_unwritten(&self, key: StreamKey) -> bool {
        key.id > self.written_last
    }

    /// The stream is named again when there is room for its head.
    pub fn wait_for_room(&mut self, key: StreamKey) {
        self.waiting.push_back(key);
    }

    /// A request has to wait for a connection. True: it begins to now; else [`State::next_start`] names it.
    pub fn starts(&mut self, ticket: Ticket) -> bool {
        let is_now = self.starting < STARTS_MAX;
        if is_now {
            self.starting += 1;
        } else {
            self.to_start.push_back(ticket);
        }
        is_now
    }

    /// The next to begin; to be asked again should it be over. `None`: one fewer begins.
    pub fn next_start(&mut self) -> Option<Ticket> {
        let next = self.to_start.pop_front();
        if next.is_none() {
            self.starting -= 1;
        }
        next
    }

    /// Upstream: whether it takes another request.
    pub fn can_open(&self, needs: Needs) -> bool {
        let is_fit = match needs {
            Needs::Stream => true,
            Needs::Proof => self.engine.has_peer_settings(),
            Needs::Tunnel => self.engine.takes_extended_connect(),
        };
        is_fit && !self.is_leaving && self.engine.can_open().is_ok()
    }

    /// The other side has said what it takes, and tunnels are not among that.
    pub fn lacks_tunnels(&self) -> bool {
        self.engine.has_peer_settings() && !self.engine.takes_extended_connect()
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The connection is not wanted any more: what is under way on it goes on.
    pub fn retire(&mut self) {
        self.is_leaving = true;
        self.wake();
    }

    fn next_to_resume(&mut self) -> Option<StreamKey> {
        if self.engine.has_room()
            && let Some(key) = self.waiting.pop_front()
        {
            return Some(key);
        }
        self.engine.next_writable()
    }
}

/// How much of a turn is used.
struct Turn {
    requests: usize,
    bytes: usize,
}

impl Turn {
    fn is_over(&self) -> bool {
        self.requests >= TURN_REQUESTS_MAX || self.bytes >= TURN_BYTES_MAX
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer is gone.
    Gone,
    /// All was written that had to be.
    Closed,
    /// The bytes of the peer were not HTTP/2. All was written that had to be.
    Malformed,
}

pub struct Driver<'a> {
    pub worker: &'a Rc<Worker>,
    /// Of a client's connection.
    pub flow: Option<&'a Flow>,
    pub link: &'a Rc<Link>,
    connection: &'a mut Connection,
    times: Times,
    /// Why it ends, as soon as the rest is written.
    ending: Option<End>,
    /// What was written may still be in the stream.
    is_unflushed: bool,
    /// What the upstream said first was not HTTP/2; or it has ended in order before it said anything.
    is_other: bool,
    is_silent: bool,
    asks_for_life: bool,
    /// The client has ended its side.
    is_half: bool,
}

impl<'a> Driver<'a> {
    /// `idle_max`: how long it stays without a stream.
    pub fn new(
        worker: &'a Rc<Worker>,
        flow: Option<&'a Flow>,
        link: &'a Rc<Link>,
        connection: &'a mut Connection,
        idle_max: Duration,
    ) -> Self {
        let header_max = worker.snapshot().limits.header_timeout;
        Self {
            worker,
            flow,
            link,
            connection,
            times: Times::new(Instant::now(), idle_max, header_max),
            ending: None,
            is_unflushed: false,
            is_other: false,
            is_silent: false,
            asks_for_life: false,
            is_half: false,
        }
    }

    /// Whether the upstream's first word was not one of HTTP/2.
    pub fn is_other(&self) -> bool {
        self.is_other
    }

    /// It has spoken HTTP/2 on another connection: that this one has ended in order says nothing about it.
    pub fn is_known(&mut self) {
        self.is_silent = false;
    }

    /// Whether the peer has to answer when it has been silent.
    pub fn asks_for_life(&mut self, asks: bool) {
        self.asks_for_life = asks;
    }

    /// Drives the connection as far as it goes.
    pub fn poll(&mut self, cx: &mut Context<'_>, timer: &mut Timer<'_>) -> Poll<End> {
        let now = Instant::now();
        {
            let mut state = self.link.state();
            state.is_awake = true;
            state.engine.allow_wide(!is_short());
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            let seconds = now.saturating_duration_since(self.times.refilled).as_secs();
            if seconds > 0 {
                state.engine.tick(u32::try_from(seconds).unwrap_or(u32::MAX));
                self.times.refilled += Duration::from_secs(seconds);
            }
        }
        loop {
            if let Some(end) = self.turn(cx, now) {
                return Poll::Ready(end);
            }
            let deadline = self.deadline();
            if timer.poll(cx, deadline).is_pending() {
                break;
            }
            self.look_at_the_time(Instant::now());
        }
        self.link.state().is_awake = false;
        Poll::Pending
    }

    /// Since when it has no stream; `None`: it has.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.link.state().engine.open_streams() == 0).then_some(self.times.idle_since)
    }

    /// No new streams; it ends when those that are there have.
    pub fn drain(&mut self) {
        if self.times.leaving_since.is_none() {
            self.times.leaving_since = Some(Instant::now());
            self.link.state().engine.drain();
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<End> {
        if self.read(cx, now).is_err() {
            return Some(End::Gone);
        }
        loop {
            let resumed = self.resume(now);
            match self.write(cx) {
                Ok(wrote) if resumed || wrote => {}
                Ok(_) => break,
                Err(_) => return Some(End::Gone),
            }
        }
        self.note_streams(now);
        let is_written = self.link.state().engine.output().is_empty() && !self.is_unflushed;
        self.ending.filter(|_| is_written)
    }

    /// `Err`: the peer has ended.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<()> {
        if self.ending.is_some() || self.is_half {
            return Ok(());
        }
        let mut turn = Turn { requests: 0, bytes: 0 };
        // What was read in an earlier turn, or before anybody knew that it is HTTP/2.
        if !self.connection.input.is_empty() {
            self.receive(now, &mut turn);
        }
        while !turn.is_over() {
            if self.ending.is_some() {
                return Ok(());
            }
            match self.connection.poll_fill(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(1..)) => self.receive(now, &mut turn),
                Poll::Ready(Ok(0)) if self.may_be_half() => {
                    self.ended_its_side(now);
                    return Ok(());
                }
                Poll::Ready(Ok(0)) => {
                    let is_empty = self.connection.input.is_empty();
                    self.is_other = self.lacks_settings() && !is_empty;
                    self.is_silent = self.lacks_settings() && is_empty;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// A client that ends its side behind a whole frame may wait for its answers; another sidecar never does.
    fn may_be_half(&self) -> bool {
        self.flow.is_some_and(|flow| !flow.is_inbound()) && self.connection.input.is_empty()
    }

    /// What the client has asked for is answered, unless it turns out to be gone: its kernel refuses what is sent then.
    fn ended_its_side(&mut self, now: Instant) {
        self.is_half = true;
        for (_, ticket) in self.tickets() {
            exchange::step(self.worker, ticket, |exchange| match exchange.is_asked() {
                true => Step::GoesOn,
                false => exchange.client_gone(ErrorCode::CANCEL),
            });
        }
        let mut state = self.link.state();
        state.is_leaving = true;
        state.engine.ping(0);
        self.times.ticked = now.checked_sub(TICK - SOON).unwrap_or(now);
    }

    /// Hands out what the bytes mean that are there, as far as that is one turn's.
    fn receive(&mut self, now: Instant, turn: &mut Turn) {
        (self.times.heard, self.times.has_asked) = (now, false);
        let was_within_head = self.link.state().engine.is_within_head();
        let data = self.connection.input.data();
        let mut at = 0;
        let received: Result<bool, ConnectionError> = HEADS.with_borrow_mut(|heads| {
            while turn.requests < TURN_REQUESTS_MAX {
                let event = self.link.state().engine.next(data, &mut at, heads)?;
                match event {
                    Event::NeedMore => return Ok(true),
                    Event::Request { .. } => turn.requests += 1,
                    _ => {}
                }
                self.on_event(event, data, heads, now);
            }
            Ok(false)
        });
        // What is left otherwise waits for our next turn, not for the peer.
        let needs_more = received.unwrap_or(true);
        if received.is_err() {
            self.is_other = self.lacks_settings() && !begins_with_settings(data);
            self.ending = Some(End::Malformed);
            at = data.len();
        }
        self.connection.input.consume(at);
        turn.bytes += at;
        let is_within_head = self.link.state().engine.is_within_head();
        let is_partial = is_within_head || (needs_more && !self.connection.input.is_empty());
        let is_another = at > 0 && !(was_within_head && is_within_head);
        self.times.partial_since = match self.times.partial_since {
            Some(since) if is_partial && !is_another => Some(since),
            _ => is_partial.then_some(now),
        };
    }

    /// Of an upstream: its SETTINGS, the first that it has to say (RFC 9113, 3.4), have not come.
    fn lacks_settings(&self) -> bool {
        self.flow.is_none() && !self.link.state().engine.has_peer_settings()
    }

    fn on_event(&self, event: Event, data: &[u8], heads: &mut Heads, now: Instant) {
        let role = self.link.state().engine.role();
        match event {
            Event::Request { stream, end } => {
                if let Some(flow) = self.flow {
                    exchange::begin(flow, self.link, stream, heads, end, now);
                }
            }
            Event::Response { stream, end } => {
                let (head, bytes) = heads.response_parts();
                self.step(stream, |exchange| exchange.answer_came(head, bytes, end, now));
            }
            Event::Data { stream, bytes, end } => {
                let data = &data[bytes];
                let is_known = self.step(stream, |exchange| match role {
                    Role::Server => exchange.request_came(data, end, now),
                    Role::Client => exchange.body_came(data, end, now),
                });
                if !is_known {
                    self.link.state().engine.consumed(stream, data.len());
                }
            }
            Event::Trailers { stream } => {
                self.step(stream, |exchange| match role {
                    Role::Server => exchange.request_trailers_came(heads.trailers(), now),
                    Role::Client => exchange.trailers_came(heads.trailers(), now),
                });
            }
            Event::Reset { stream, code } => {
                self.step(stream, |exchange| match role {
                    Role::Server => exchange.client_gone(code),
                    Role::Client => exchange.upstream_reset(code),
                });
            }
            Event::Failed { stream, .. } => {
                self.step(stream, |exchange| match role {
                    Role::Server => exchange.client_malformed(),
                    Role::Client => exchange.upstream_malformed(),
                });
            }
            Event::Rejected { stream, end, reject } => {
                let is_known = self.step(stream, |exchange| exchange.client_rejected(reject));
                if let Some(flow) = self.flow.filter(|_| !is_known) {
                    exchange::begin_rejected(flow, self.link, stream, heads, end, reject);
                }
            }
            Event::Unprocessed { stream } => {
                self.step(stream, |exchange| exchange.upstream_reset(ErrorCode::REFUSED_STREAM));
            }
            Event::Refused { reject, .. } => {
                if let Some(flow) = self.flow {
                    exchange::count_refused(flow, reject);
                }
            }
            Event::GoAway { .. } => self.link.state().is_leaving |= role == Role::Client,
            Event::Settings => self.link.news.notify_waiters(),
            Event::NeedMore | Event::Pong { .. } => {}
        }
    }

    /// False: the stream has no exchange.
    fn step(&self, stream: StreamKey, step: impl FnOnce(&mut exchange::Exchange) -> Step) -> bool {
        let ticket = self.link.state().ticket(stream);
        ticket.is_some_and(|ticket| exchange::step(self.worker, ticket, step))
    }

    /// Lets streams go on that waited for windows or for room. True: something has moved.
    fn resume(&mut self, now: Instant) -> bool {
        let mut moved = false;
        loop {
            let next = self.link.state().next_to_resume();
            let Some(stream) = next else { return moved };
            let role = self.link.state().engine.role();
            moved |= self.step(stream, |exchange| match role {
                Role::Server => exchange.step_answer(now),
                Role::Client => exchange.step_request(now),
            });
        }
    }

    /// True: something was written.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut state = self.link.state();
        let mut wrote = false;
        while !state.engine.output().is_empty() {
            match Pin::new(&mut self.connection.stream).poll_write(cx, state.engine.output()) {
                Poll::Pending => return Ok(wrote),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    state.engine.wrote(count?);
                    state.written_last = state.opened_last;
                    (wrote, self.is_unflushed) = (true, true);
                }
            }
        }
        if self.is_unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.connection.stream).poll_flush(cx)
        {
            flushed?;
            self.is_unflushed = false;
        }
        Ok(wrote)
    }

    /// At the end of a turn: what follows from how many streams there are.
    fn note_streams(&mut self, now: Instant) {
        let mut state = self.link.state();
        if state.engine.open_streams() > 0 {
            self.times.idle_since = now;
            return;
        }
        self.times.heard = now; // nothing was asked of it
        if self.ending.is_none() && (state.is_leaving || state.engine.is_drained()) {
            state.engine.close(ErrorCode::NO_ERROR, "");
            state.is_leaving = true;
            self.ending = Some(End::Closed);
        }
        state.engine.release();
        drop(state);
        self.connection.rest();
    }

    fn deadline(&self) -> Instant {
        let times = &self.times;
        let state = self.link.state();
        let is_waiting = state.engine.open_streams() > 0
            || !state.engine.has_peer_settings()
            || state.engine.awaits_settings_ack()
            || times.partial_since.is_some()
            || times.leaving_since.is_some()
            || self.ending.is_some();
        let next = if is_waiting { times.ticked + TICK } else { times.idle_since + times.idle_max };
        state.deadline.map_or(next, |deadline| deadline.min(next))
    }

    fn look_at_the_time(&mut self, now: Instant) {
        let times = &mut self.times;
        times.ticked = times.ticked.max(now);
        let mut state = self.link.state();
        let is_over = |since: Instant, max: Duration| now.saturating_duration_since(since) >= max;
        let is_idle = state.engine.open_streams() == 0 && is_over(times.idle_since, times.idle_max);
        let awaits_start = !state.engine.has_peer_settings() || state.engine.awaits_settings_ack();
        let is_head_late = times.partial_since.is_some_and(|since| is_over(since, times.header_max));
        let is_silent = self.asks_for_life && state.engine.open_streams() > 0;
        if is_silent && is_over(times.heard, 2 * SILENCE_MAX) {
            self.ending = Some(End::Gone);
        } else if is_silent && is_over(times.heard, SILENCE_MAX) && !times.has_asked {
            times.has_asked = true;
            state.engine.ping(0);
        }
        if self.is_half && self.ending.is_none() {
            state.engine.ping(0);
        }
        if self.ending == Some(End::Gone) {
            let left = state.engine.output().len();
            state.engine.wrote(left);
            self.is_unflushed = false;
        } else if self.ending.is_some() {
            // The peer does not read what we have to say at the end.
            if is_over(times.leaving_since.unwrap_or(times.began), times.header_max) {
                self.is_unflushed = false;
                let left = state.engine.output().len();
                state.engine.wrote(left);
            }
        } else if awaits_start && !self.is_half && is_over(times.began, times.header_max) {
            state.engine.close(ErrorCode::SETTINGS_TIMEOUT, "settings did not come in time");
            self.ending = Some(End::Malformed);
        } else if is_head_late {
            state.engine.close(ErrorCode::ENHANCE_YOUR_CALM, "a frame did not come in time");
            self.ending = Some(End::Malformed);
        } else if times.leaving_since.is_some_and(|since| is_over(since, TICK)) {
            state.engine.finish_drain();
        } else if is_idle && state.engine.role() == Role::Client {
            state.is_leaving = true;
        } else if is_idle && times.leaving_since.is_none() {
            times.leaving_since = Some(now);
            state.engine.drain();
        }
        if self.ending.is_some() {
            times.leaving_since.get_or_insert(now);
        }
        drop(state);
        if self.flow.is_some() {
            self.look_at_exchanges(now);
        }
    }

    fn tickets(&self) -> Vec<(u32, Ticket)> {
        self.link.state().tickets.iter().copied().flatten().collect()
    }

    /// Requests that nothing moved for.
    fn look_at_exchanges(&self, now: Instant) {
        self.link.state().deadline = None;
        for (_, ticket) in self.tickets() {
            exchange::step(self.worker, ticket, |exchange| exchange.look(self.worker, now));
            let deadline = self.worker.exchanges.with(ticket, |exchange| exchange.deadline()).flatten();
            if let Some(deadline) = deadline {
                self.link.state().look_before(deadline);
            }
        }
    }

    /// The connection is over, and with it every exchange on it. Those of an upstream may go on elsewhere.
    pub fn end_exchanges(&mut self) {
        let role = self.link.state().engine.role();
        let (is_other, is_silent) = (self.is_other, self.is_silent);
        // What an upstream speaks is found out like this, too.
        if let Some(failure) = self.link.state().engine.failure().filter(|_| self.flow.is_some()) {
            self.worker.registry.process.count_http2_ended(failure.code.0);
        }
        for ticket in self.take_tickets() {
            exchange::step(self.worker, ticket, |exchange| match role {
                Role::Server => exchange.client_gone(ErrorCode::CANCEL),
                Role::Client if is_other => exchange.upstream_speaks_another(Failure::NotHttp2),
                Role::Client if is_silent => exchange.upstream_silent(),
                Role::Client => exchange.upstream_gone(),
            });
        }
    }

    fn take_tickets(&mut self) -> impl Iterator<Item = Ticket> + use<> {
        let mut state = self.link.state();
        (state.is_leaving, state.is_over) = (true, true);
        self.link.news.notify_waiters();
        state.engine.close(ErrorCode::NO_ERROR, "");
        std::mem::take(&mut state.tickets).into_iter().flatten().map(|(_, ticket)| ticket)
    }
}

impl Drop for Driver<'_> {
    /// The worker ends in the middle of things.
    fn drop(&mut self) {
        for ticket in self.take_tickets() {
            exchange::step(self.worker, ticket, |exchange| exchange.client_gone(ErrorCode::CANCEL));
        }
    }
}

thread_local! {
    /// Of the event at hand.
    static HEADS: RefCell<Heads> = RefCell::default();
}
