//! HTTP/1.1: the life of a client's connection, and of each request on it. A client that begins with the preface of HTTP/2 is
//! handed to [`crate::http2`], which shares everything but the engine.

mod end;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use sinew_telemetry::{InFlight, Outcome, RouteMetrics};
use sinew_wire::h1::{
    BodyDecoder, Downstream, Parsed, RequestEdits, RequestHead, encode_request, parse_request,
};
use sinew_wire::h2::PREFACE;
use tokio::sync::futures::Notified;
use tokio::time::{Duration, Instant, Sleep, sleep_until};

pub use end::linger;
use end::{close, drain, fail, refuse_head, tunnel};

use crate::connection::{Connection, Output};
use crate::exchange::{Departing, Ended, Exchange};
use crate::failure::Failure;
use crate::flow::{Flow, Plan};
use crate::http2::{self, from_http1};
use crate::snapshot::Snapshot;
use crate::timer::Timer;
use crate::upstream::{Target, Tries, Upstream};
use crate::worker::OnRoute;

/// What becomes of the client's connection.
pub enum Next {
    /// From that moment on it waits for its next request.
    Continue(Instant),
    /// In order: the client gets all that was written.
    Close,
    /// The client has to see that its answer is not whole.
    Cut,
    /// Nothing was under way.
    End,
    /// It has begun with the preface.
    Http2,
}

/// What is done with a head that has come.
type Turn<'a> = Pin<Box<dyn Future<Output = Next> + 'a>>;

/// A timer that was not needed yet stands there: one that had to fire soon would wake the worker for nothing.
const LATER: Duration = Duration::from_secs(24 * 60 * 60);

/// Serves a client's connection until it ends. `on_route`: it is counted on its route already.
#[allow(clippy::manual_async_fn, reason = "an `async fn` holds its arguments twice")]
pub fn serve(flow: &Flow, mut client: Connection, on_route: Option<OnRoute>) -> impl Future<Output = ()> {
    async move {
        let _on_route = on_route.or_else(|| flow.count());
        let (phase_changed, sleep) =
            (pin!(flow.worker.phase_changed()), pin!(sleep_until(Instant::now() + LATER)));
        let mut waits = Waits::new(flow, phase_changed, sleep);
        // Whoever connects while we drain does not know yet: one request is served, and its answer says that we close.
        let mut is_late = flow.worker.current_phase().inbound_draining;
        let mut is_first = true;
        let mut since = Instant::now();
        loop {
            // What follows is boxed: it is larger than all that a connection needs while it waits.
            let next = match next_head(&mut waits, &mut client, since, is_late).await {
                Ok(Some(come)) => request(flow, &mut client, come, &mut waits.timer),
                Ok(None) => at_once(Next::End),
                // To the parser a malformed request.
                Err(_) if is_first && has_preface(&client) => at_once(Next::Http2),
                Err(failure) => Box::pin(refuse_head(flow, &mut client, failure)),
            };
            match next.await {
                Next::Continue(now) => {
                    (is_late, is_first) = (false, false);
                    since = now;
                    client.rest();
                }
                Next::End => return Box::pin(close(client)).await,
                Next::Close => return Box::pin(linger(client)).await,
                Next::Cut => return client.stream.abort(),
                Next::Http2 => return Box::pin(http2::serve(flow, client)).await,
            }
        }
    }
}

fn at_once<'a>(next: Next) -> Turn<'a> {
    Box::pin(std::future::ready(next))
}

/// HTTP/2 with prior knowledge (RFC 9113, 3.4), or the beginning of it.
fn has_preface(client: &Connection) -> bool {
    let begun = client.input.data();
    let seen = begun.len().min(PREFACE.len());
    seen > 0 && begun[..seen] == PREFACE[..seen]
}

/// What a connection waits for besides bytes.
pub struct Waits<'a, 'flow> {
    flow: &'flow Flow,
    phase_changed: Pin<&'a mut Notified<'flow>>,
    pub timer: Timer<'a>,
}

impl<'a, 'flow> Waits<'a, 'flow> {
    pub fn new(
        flow: &'flow Flow,
        mut phase_changed: Pin<&'a mut Notified<'flow>>,
        sleep: Pin<&'a mut Sleep>,
    ) -> Self {
        // From now on no change is missed.
        phase_changed.as_mut().enable();
        Self { flow, phase_changed, timer: Timer::new(sleep) }
    }

    pub fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let changed = self.phase_changed.as_mut().poll(cx);
        if changed.is_ready() {
            self.phase_changed.set(self.flow.worker.phase_changed());
            self.phase_changed.as_mut().enable();
        }
        changed
    }
}

/// A complete head, as it lies at the beginning of the client's buffer.
struct Come {
    head: RequestHead,
    head_bytes: usize,
    /// When its last byte came.
    at: Instant,
}

/// What ended a wait.
enum Event {
    Read(std::io::Result<usize>),
    PhaseChanged,
    Late,
}

/// Waits for a head, idle since `since`. `None`: the client has ended, was idle for too long, or we are leaving.
async fn next_head(
    waits: &mut Waits<'_, '_>,
    client: &mut Connection,
    since: Instant,
    is_late: bool,
) -> Result<Option<Come>, Failure> {
    let flow = waits.flow;
    let mut head_began = (!client.input.is_empty()).then_some(since);
    let mut now = since;
    loop {
        // Whoever waits for a first byte holds no memory for a head.
        if !client.input.is_empty() {
            let mut head = spare_head();
            let parsed = {
                let limits = &flow.worker.snapshot().limits;
                let wire = if flow.is_inbound() { &limits.hop_wire } else { &limits.wire };
                parse_request(client.input.data(), &mut client.scan, wire, &mut head)
            };
            match parsed.map_err(Failure::Rejected)? {
                Parsed::Complete { head_bytes } => return Ok(Some(Come { head, head_bytes, at: now })),
                Parsed::Incomplete => give_back(head),
            }
        }
        let phase = flow.worker.current_phase();
        if head_began.is_none() && (flow.closes_idle(phase, is_late) || flow.worker.closes_idle(since)) {
            return Ok(None);
        }
        let deadline = {
            let limits = &flow.worker.snapshot().limits;
            match head_began {
                Some(began) => began + limits.header_timeout,
                None => flow.idle_deadline(phase, since, limits.idle_timeout),
            }
        };
        let event = poll_fn(|cx| {
            if let Poll::Ready(read) = client.poll_fill(cx) {
                return Poll::Ready(Event::Read(read));
            }
            if head_began.is_none() && waits.poll_phase(cx).is_ready() {
                return Poll::Ready(Event::PhaseChanged);
            }
            waits.timer.poll(cx, deadline).map(|()| Event::Late)
        });
        match event.await {
            Event::Read(Ok(0) | Err(_)) => return Ok(None),
            Event::Read(Ok(_)) => {
                now = Instant::now();
                head_began = head_began.or(Some(now));
            }
            Event::PhaseChanged => {}
            Event::Late if head_began.is_some() => return Err(Failure::HeadTimeout),
            Event::Late => return Ok(None),
        }
    }
}

/// The life of a request, from its complete head to the last byte of its answer. What is decided at once is no part of
/// the future, which is to be small: there is one for each request that waits.
fn request<'a>(flow: &'a Flow, client: &'a mut Connection, come: Come, timer: &'a mut Timer<'_>) -> Turn<'a> {
    let Come { head, head_bytes, at: began } = come;
    let snapshot = flow.worker.snapshot(); // one configuration from start to end
    let (target, metrics) = match flow.route(&snapshot) {
        Ok(route) => route,
        Err(failure) => return Box::pin(refuse_head(flow, client, failure)),
    };
    if target.wants_http2(&snapshot) {
        return Box::pin(request_over_http2(flow, client, head, head_bytes, snapshot, timer, began));
    }
    let in_flight = metrics.begin();
    let planned = flow.plan(&snapshot, &head, client.input.data());
    let departing = planned.map(|plan| Departing::new(flow, &snapshot, &plan, &head, client.input.data()));
    client.input.consume(head_bytes);
    client.rest(); // nothing is held while the upstream works
    give_back(head);
    match departing {
        Ok(departing) => {
            let exchange = Exchange::new(departing, snapshot.clone(), &metrics, began);
            Box::pin(carry(flow, client, snapshot, target, exchange, in_flight, timer, began))
        }
        Err(failure) => Box::pin(async move {
            let _in_flight = in_flight;
            fail(client, None, &metrics, failure, began).await
        }),
    }
}

/// A request that is on its way, until its answer is.
#[allow(clippy::manual_async_fn, reason = "an `async fn` holds its arguments twice")]
#[allow(clippy::too_many_arguments, reason = "each is a part of the request's life")]
fn carry<'a>(
    flow: &'a Flow,
    client: &'a mut Connection,
    snapshot: Rc<Snapshot>,
    target: Target,
    mut exchange: Exchange,
    in_flight: InFlight,
    timer: &'a mut Timer<'_>,
    began: Instant,
) -> impl Future<Output = Next> {
    async move {
        let in_flight = in_flight;
        let metrics = target.metrics();
        let done = match relay(flow, &snapshot, &target, client, &mut exchange, timer, began).await {
            Ok((ended, upstream)) => {
                finish(client, &mut exchange, ended, upstream, metrics, began, &snapshot)
            }
            Err(Failure::NotHttp1) if exchange.can_go_elsewhere() => {
                drop(in_flight);
                Err(Box::pin(again_over_http2(flow, client, exchange, &snapshot, metrics, timer, began))
                    as Turn<'_>)
            }
            Err(failure) => Err(Box::pin(fail(client, Some(&exchange), metrics, failure, began)) as Turn<'_>),
        };
        match done {
            Ok(next) => next,
            Err(turn) => turn.await,
        }
    }
}

/// Reaches an upstream and has it answer; another one, if that may be.
#[allow(clippy::manual_async_fn, reason = "an `async fn` holds its arguments twice")]
fn relay(
    flow: &Flow,
    snapshot: &Snapshot,
    target: &Target,
    client: &mut Connection,
    exchange: &mut Exchange,
    timer: &mut Timer<'_>,
    began: Instant,
) -> impl Future<Output = Result<(Ended, Upstream), Failure>> {
    let mut tries = Tries::new(began, exchange.is_harmless());
    async move {
        loop {
            let mut upstream = target.reach(&flow.worker, snapshot, &mut tries).await?;
            match exchange.relay(flow, client, &mut upstream.connection, timer).await {
                Ok(ended) => return Ok((ended, upstream)),
                Err(failure) if exchange.may_repeat(failure, upstream.is_reused) => {
                    target.metrics().retries.increment();
                    upstream.give_up(&mut tries, failure)?;
                    exchange.rewind();
                }
                Err(failure) => {
                    if failure == Failure::NotHttp1 {
                        target.found_http2_only(snapshot, upstream.load());
                    }
                    target.blame(upstream.load(), failure);
                    return Err(failure);
                }
            }
        }
    }
}

/// The same, for an upstream that speaks HTTP/2 alone.
async fn request_over_http2(
    flow: &Flow,
    client: &mut Connection,
    head: RequestHead,
    head_bytes: usize,
    snapshot: Rc<Snapshot>,
    timer: &mut Timer<'_>,
    began: Instant,
) -> Next {
    let bytes = &client.input.data()[..head_bytes];
    let plan = match flow.plan(&snapshot, &head, bytes) {
        Ok(plan) => plan,
        Err(failure) => return refuse_head(flow, client, failure).await,
    };
    let body = BodyDecoder::new(head.framing, &snapshot.limits.wire);
    let host = flow.service_name(&snapshot).as_str().as_bytes();
    let departing = http2::Departing::of_http1(head, bytes, host);
    client.input.consume(head_bytes);
    client.rest();
    let request = from_http1::Request { departing, plan, sent: None, body };
    from_http1::carry(flow, &snapshot, client, request, timer, began).await
}

/// An upstream that was sent a request over HTTP/1.1 speaks HTTP/2 alone.
async fn again_over_http2(
    flow: &Flow,
    client: &mut Connection,
    exchange: Exchange,
    snapshot: &Rc<Snapshot>,
    metrics: &Arc<RouteMetrics>,
    timer: &mut Timer<'_>,
    began: Instant,
) -> Next {
    match exchange.into_request() {
        Some(request) => from_http1::carry(flow, snapshot, client, request, timer, began).await,
        None => fail(client, None, metrics, Failure::NotHttp1, began).await,
    }
}

impl Departing {
    fn new(flow: &Flow, snapshot: &Snapshot, plan: &Plan, head: &RequestHead, bytes: &[u8]) -> Self {
        let host = head.authority.is_empty().then(|| flow.service_name(snapshot).as_str().as_bytes());
        let mut out = Output::new();
        let framing = plan.with_edits(|edits| {
            let edits = RequestEdits { host, upgrade: true, ..*edits };
            encode_request(head, bytes, &edits, &mut out.0)
        });
        Self { head: out, framing, exchange: head.exchange(true) }
    }
}

/// After the answer's last byte (or a tunnel's head). `Err`: something is left to be done.
fn finish<'a>(
    client: &'a mut Connection,
    exchange: &'a mut Exchange,
    ended: Ended,
    upstream: Upstream,
    metrics: &'a Arc<RouteMetrics>,
    began: Instant,
    snapshot: &'a Snapshot,
) -> Result<Next, Turn<'a>> {
    let now = Instant::now();
    metrics.record(Outcome::Answered { status: ended.status }, now.saturating_duration_since(began));
    upstream.answered(now);
    if ended.is_tunnel {
        return Err(Box::pin(tunnel(client, upstream, metrics, snapshot)));
    }
    if ended.is_upstream_reusable {
        upstream.put_back(now);
    } else {
        drop(upstream);
    }
    match ended.downstream {
        Downstream::Continue => Ok(Next::Continue(now)),
        Downstream::Drain { bytes_max } => Err(Box::pin(drain(client, exchange, bytes_max, snapshot))),
        Downstream::Close => Ok(Next::Close),
    }
}

thread_local! {
    /// Lists of fields that have grown already.
    static SPARE_HEAD: RefCell<Option<RequestHead>> = const { RefCell::new(None) };
}

fn spare_head() -> RequestHead {
    SPARE_HEAD.take().unwrap_or_default()
}

fn give_back(head: RequestHead) {
    SPARE_HEAD.set(Some(head));
}

#[cfg(test)]
mod tests;
