//! What is decided about a request, whichever engine received it, before a byte goes upstream. No I/O.

use std::io::Write;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use sinew_spec::name::{ServiceName, SpiffeId};
use sinew_telemetry::RouteMetrics;
use sinew_wire::h1::{Method, RequestEdits, RequestHead, ResponseEdits};
use sinew_wire::trace::{REQUEST_ID_BYTES, TRACEPARENT_BYTES, TraceParent, is_request_id, request_id};
use sinew_wire::websocket::is_websocket;
use tokio::time::{Duration, Instant};

use crate::failure::{Failure, REASON_HEADER};
use crate::snapshot::Snapshot;
use crate::upstream::Target;
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

/// After a hand-over, how long a client's connection waits for a request. Its successor knows newer configurations.
const HANDED_OVER_IDLE: Duration = Duration::from_secs(5);

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
    pub fn count(&self) -> Option<OnRoute> {
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

    pub fn service_name<'a>(&'a self, snapshot: &'a Snapshot) -> &'a ServiceName {
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
    pub fn closes_idle(&self, phase: Phase, is_late: bool) -> bool {
        phase.stopping || (phase.inbound_draining && self.is_inbound() && !is_late)
    }

    /// How long a connection waits for its next request. After a hand-over nobody is in a hurry: a request may be on
    /// its way, whose client would have to guess whether it was read. It is answered, and its answer says that we close.
    /// Other sidecars close what they do not use by themselves.
    pub fn idle_deadline(&self, phase: Phase, since: Instant, idle_timeout: Duration) -> Instant {
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
