//! HTTP: what is decided about a request, and HTTP/1.1: the life of a client's connection, and of each request on it.
//! A client that begins with the preface of HTTP/2 is handed to [`crate::http2`], which shares everything but the engine.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use sinew_spec::name::{ServiceName, SpiffeId};
use sinew_telemetry::{InFlight, Outcome, RouteMetrics};
use sinew_transport::copy::{Early, both_ways};
use sinew_wire::h1::{
    BodyDecoder, Downstream, Method, Parsed, RequestEdits, RequestHead, ResponseEdits, encode_local_response,
    encode_request, parse_request,
};
use sinew_wire::h2::PREFACE;
use sinew_wire::trace::{REQUEST_ID_BYTES, TRACEPARENT_BYTES, TraceParent, is_request_id, request_id};
use sinew_wire::websocket::is_websocket;
use tokio::io::AsyncWriteExt;
use tokio::sync::futures::Notified;
use tokio::time::{Duration, Instant, Sleep, sleep_until, timeout};

use crate::connection::{Connection, Output};
use crate::exchange::{Departing, Ended, Exchange};
use crate::failure::{Failure, REASON_HEADER};
use crate::http2::{self, from_http1};
use crate::snapshot::Snapshot;
use crate::timer::Timer;
use crate::upstream::{Target, Tries, Upstream};
use crate::worker::{OnRoute, Phase, Worker};

/// Where the requests of a connection go, and who sends them.
pub struct Flow {
    pub worker: Rc<Worker>,
    pub side: Side,
}

pub enum Side {
    /// Our service, or a client of a published port (at the address `from`), calls another service.
    Outbound { service: ServiceName, port: u16, from: Option<Address> },
    /// Another sidecar calls our application.
    Inbound { peer: SpiffeId, port: u16 },
}

/// Everything that is decided about a request before a byte goes upstream, whichever engine received it.
pub struct Plan {
    /// What the request lacks, or has in a form that nobody can use.
    new_id: Option<[u8; REQUEST_ID_BYTES]>,
    new_trace: Option<[u8; TRACEPARENT_BYTES]>,
    /// Whom a published port was called by.
    from: Option<Address>,
}

/// An IP address as text. It stands in many requests of a connection.
#[derive(Clone, Copy)]
pub struct Address {
    text: [u8; ADDRESS_BYTES_MAX],
    length: u8,
}

const ADDRESS_BYTES_MAX: usize = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".len();

impl Address {
    pub fn new(address: IpAddr) -> Self {
        let mut text = [0; ADDRESS_BYTES_MAX];
        let mut rest = &mut text[..];
        write!(rest, "{address}").expect("no address is longer");
        let length = (ADDRESS_BYTES_MAX - rest.len()) as u8;
        Self { text, length }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

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

/// How long, and how much, a client may go on sending after its last answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// A timer that was not needed yet stands there: one that had to fire soon would wake the worker for nothing.
const LATER: Duration = Duration::from_secs(24 * 60 * 60);

/// After a hand-over, how long a client's connection waits for a request. Its successor knows newer configurations.
const HANDED_OVER_IDLE: Duration = Duration::from_secs(5);

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

impl Plan {
    /// Nothing is left to be changed.
    pub const DONE: Self = Self { new_id: None, new_trace: None, from: None };

    /// How the request's head is changed on its way upstream.
    pub fn with_edits<T>(&self, use_it: impl FnOnce(&RequestEdits<'_>) -> T) -> T {
        let mut edits = Edits::default();
        edits.remove(REASON_HEADER);
        if let Some(id) = &self.new_id {
            edits.replace(b"x-request-id", id);
        }
        if let Some(trace) = &self.new_trace {
            edits.replace(b"traceparent", trace);
        }
        if let Some(address) = &self.from {
            // Beside what the client says of itself, which is no more than that: ours is the last.
            edits.append(b"x-forwarded-for", address.as_bytes());
        }
        let Edits { removed, appended, remove, append } = &edits;
        let (remove, append) = (&remove[..*removed], &append[..*appended]);
        use_it(&RequestEdits { remove, append, ..RequestEdits::default() })
    }
}

/// Of a request's head, on the stack.
#[derive(Default)]
struct Edits<'a> {
    removed: usize,
    appended: usize,
    remove: [&'a [u8]; 3],
    append: [(&'a [u8], &'a [u8]); 3],
}

impl<'a> Edits<'a> {
    fn remove(&mut self, name: &'a [u8]) {
        self.remove[self.removed] = name;
        self.removed += 1;
    }

    fn append(&mut self, name: &'a [u8], value: &'a [u8]) {
        self.append[self.appended] = (name, value);
        self.appended += 1;
    }

    fn replace(&mut self, name: &'a [u8], value: &'a [u8]) {
        self.remove(name);
        self.append(name, value);
    }
}

impl Flow {
    /// Decides everything about a request before a byte goes upstream. No I/O. `bytes` are those of the head.
    pub fn plan(&self, snapshot: &Snapshot, head: &RequestHead, bytes: &[u8]) -> Result<Plan, Failure> {
        self.authorize(snapshot)?;
        self.worker.afford()?;
        // WebSocket over HTTP/2 (RFC 8441).
        let is_tunnel = head.protocol.is_some_and(|protocol| is_websocket(protocol.of(bytes)));
        if head.method == Method::Connect && !is_tunnel {
            return Err(Failure::MethodRefused);
        }
        let (new_id, new_trace): ([u8; 16], [u8; 24]) =
            self.worker.with_random(|random| (random.bytes(), random.bytes()));
        let has_id = head.request_id.is_some_and(|id| is_request_id(id.of(bytes)));
        let has_trace = head.traceparent.is_some_and(|trace| TraceParent::parse(trace.of(bytes)).is_some());
        Ok(Plan {
            new_id: (!has_id).then(|| request_id(&new_id)),
            from: self.client(),
            new_trace: (!has_trace).then(|| TraceParent::generate(&new_trace, false).encode()),
        })
    }

    pub fn route(&self, snapshot: &Snapshot) -> Result<(Target, Arc<RouteMetrics>), Failure> {
        match &self.side {
            Side::Outbound { service, port, .. } => {
                let destination = snapshot.destination(service).ok_or(Failure::UnknownDestination)?.clone();
                let metrics = destination.metrics.clone();
                Ok((Target::Service { destination, port: *port }, metrics))
            }
            Side::Inbound { port, .. } => {
                let application = self.worker.application(*port);
                let metrics = application.metrics.clone();
                Ok((Target::Application(application), metrics))
            }
        }
    }

    /// One more connection on its route.
    fn count(&self) -> Option<OnRoute> {
        self.route(&self.worker.snapshot()).ok().map(|(_, metrics)| OnRoute::new(&metrics))
    }

    /// Asked for every request, so that a changed policy reaches connections that live long.
    fn authorize(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        match &self.side {
            Side::Outbound { .. } => Ok(()),
            Side::Inbound { peer, .. } => {
                snapshot.allowed_caller(peer).map(drop).ok_or(Failure::CallerRefused)
            }
        }
    }

    fn service_name<'a>(&'a self, snapshot: &'a Snapshot) -> &'a ServiceName {
        match &self.side {
            Side::Outbound { service, .. } => service,
            Side::Inbound { .. } => &snapshot.config.service,
        }
    }

    fn client(&self) -> Option<Address> {
        match self.side {
            Side::Outbound { from, .. } => from,
            Side::Inbound { .. } => None,
        }
    }

    pub fn is_inbound(&self) -> bool {
        matches!(self.side, Side::Inbound { .. })
    }

    pub fn is_closing(&self, phase: Phase) -> bool {
        phase.stopping || phase.handed_over.is_some() || (phase.inbound_draining && self.is_inbound())
    }

    /// Whether a connection is closed that waits for a next request.
    fn closes_idle(&self, phase: Phase, is_late: bool) -> bool {
        phase.stopping || (phase.inbound_draining && self.is_inbound() && !is_late)
    }

    /// How long a connection waits for its next request. After a hand-over nobody is in a hurry: a request may be on
    /// its way, whose client would have to guess whether it was read. It is answered, and its answer says that we close.
    /// Other sidecars close what they do not use by themselves.
    fn idle_deadline(&self, phase: Phase, since: Instant, idle_timeout: Duration) -> Instant {
        let ordinary = since + idle_timeout;
        match phase.handed_over {
            Some(at) if !self.is_inbound() => ordinary.min(since.max(at) + HANDED_OVER_IDLE),
            _ => ordinary,
        }
    }

    /// How the answer's head is changed on its way to the client. The reason header is a sidecar's word: applications
    /// have no say in it.
    pub fn response_edits(&self) -> ResponseEdits<'static> {
        let remove: &[&[u8]] = if self.is_inbound() { &[REASON_HEADER] } else { &[] };
        ResponseEdits { close: self.is_closing(self.worker.current_phase()), remove, append: &[] }
    }

    /// Whether a reason header in an answer is the word of the sidecar that we called.
    pub fn trusts_reason(&self) -> bool {
        !self.is_inbound()
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

async fn tunnel(
    client: &mut Connection,
    upstream: Upstream,
    metrics: &RouteMetrics,
    snapshot: &Snapshot,
) -> Next {
    let (mut upstream, _load) = upstream.into_tunnel();
    let early = Early { client: client.take_input(), upstream: upstream.take_input() };
    let idle = snapshot.limits.tcp_idle_timeout;
    let (copied, _ended) = both_ways(&mut client.stream, &mut upstream.stream, early, idle).await;
    metrics.sent_bytes.add(copied.to_upstream);
    metrics.received_bytes.add(copied.to_client);
    Next::Close
}

/// Reads and discards what is left of a request's body.
async fn drain(
    client: &mut Connection,
    exchange: &mut Exchange,
    bytes_max: u64,
    snapshot: &Snapshot,
) -> Next {
    let drained = async {
        let mut left = bytes_max;
        loop {
            let before = client.input.len() as u64;
            if exchange.discard(client)? {
                return Ok(());
            }
            left = left.checked_sub(before).ok_or(())?;
            if client.fill().await.map_err(drop)? == 0 {
                return Err(());
            }
        }
    };
    match timeout(snapshot.limits.header_timeout, drained).await {
        Ok(Ok(())) => Next::Continue(Instant::now()),
        Ok(Err(())) | Err(_) => Next::Close,
    }
}

/// The request has no answer of its upstream: the proxy answers itself, where the client has not seen a head yet.
async fn fail(
    client: &mut Connection,
    exchange: Option<&Exchange>,
    metrics: &Arc<RouteMetrics>,
    failure: Failure,
    began: Instant,
) -> Next {
    let head_sent = exchange.is_some_and(Exchange::is_answer_begun);
    let status = (!head_sent && failure.status() != 0).then(|| failure.status());
    metrics.record(Outcome::Failed { failure: failure.label(), status }, began.elapsed());
    if status.is_none() {
        return Next::Cut;
    }
    let Some(exchange) = exchange else { return answer(client, None, failure, true).await };
    let rejected = matches!(failure, Failure::Rejected(_) | Failure::BodyTimeout);
    let close = rejected || exchange.downstream() != Downstream::Continue;
    answer(client, Some(exchange), failure, close).await
}

/// A request whose head is not usable, or whose destination is gone.
async fn refuse_head(flow: &Flow, client: &mut Connection, failure: Failure) -> Next {
    let snapshot = flow.worker.snapshot();
    if let Ok((_, metrics)) = flow.route(&snapshot) {
        metrics.count(Outcome::Failed { failure: failure.label(), status: Some(failure.status()) });
    }
    answer(client, None, failure, true).await
}

async fn answer(client: &mut Connection, exchange: Option<&Exchange>, failure: Failure, close: bool) -> Next {
    let mut out = Output::new();
    out.0.extend_from_slice(exchange.map_or(&[], Exchange::unsent_interim));
    let exchange = exchange.map(Exchange::wire);
    let reason = (REASON_HEADER, failure.reason().as_bytes());
    let retry = failure.retry_after().map(|seconds| (&b"retry-after"[..], seconds.as_bytes()));
    let append = [Some(reason), retry].into_iter().flatten().collect::<Vec<_>>();
    let edits = ResponseEdits { close, remove: &[], append: &append };
    let text = format!("{}\n", failure.text());
    let goes_on =
        encode_local_response(failure.status(), exchange, &edits, "text/plain", text.as_bytes(), &mut out.0);
    match timeout(LINGER, client.send(&out.0)).await {
        Ok(Ok(())) if goes_on => Next::Continue(Instant::now()),
        Ok(Ok(())) => Next::Close,
        Ok(Err(_)) | Err(_) => Next::Cut,
    }
}

/// Ends a connection on which nothing is under way.
pub async fn close(mut client: Connection) {
    let _ = timeout(LINGER, client.stream.farewell()).await;
}

/// Closes so that the client can read all that was written: unread bytes would make the kernel send a reset.
pub async fn linger(mut client: Connection) {
    let mut discarded = 0;
    let mut ended = pin!(async {
        client.stream.shutdown().await.ok();
        while discarded < LINGER_BYTES_MAX {
            client.input.consume(client.input.len());
            match client.fill().await {
                Ok(0) | Err(_) => return,
                Ok(count) => discarded += count,
            }
        }
    });
    let _ = timeout(LINGER, ended.as_mut()).await;
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
