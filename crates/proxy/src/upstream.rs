//! From a destination to a connection: choosing an endpoint, the hop's handshake, dialing the application.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sinew_spec::application::Protocol;
use sinew_spec::proxy::{MESH_ADDRESS, OWN_ADDRESS};
use sinew_telemetry::RouteMetrics;
use sinew_transport::tls::{Alpn, TCP_CONNECT_FAILED, TCP_CONNECTED, TCP_LOOPBACK_ONLY};
use sinew_transport::{Stream, hop};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::Inside;
use crate::balance;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::http2::{Links, Way};
use crate::outlier::TRIAL_TIME_MAX;
use crate::pool::{self, Slot};
use crate::snapshot::{Destination, Endpoint, Load, Snapshot};
use crate::worker::{Application, Worker};

/// Where a request or connection goes.
#[derive(Clone)]
pub enum Target {
    /// To an instance of another service, over the hop.
    Service { destination: Rc<Destination>, port: u16 },
    /// Into the seal.
    Application(Rc<Application>),
}

/// Endpoints tried for one request or connection, together; bounds the work of one client.
pub const ATTEMPTS_MAX: usize = 3;

/// What has been tried for one request.
pub struct Tries {
    /// When the attempt begins; roughly, as deadlines and idle times are counted from it.
    now: Instant,
    /// See [`Pool::checkout`](crate::pool::Pool::checkout).
    is_harmless: bool,
    endpoints: [Option<Rc<Endpoint>>; ATTEMPTS_MAX],
    count: usize,
    last: Option<Failure>,
}

/// A connection for one exchange.
pub struct Upstream {
    pub connection: Connection,
    /// It was idle in the pool: the peer may have been closing it at this moment.
    pub is_reused: bool,
    slot: Slot,
    load: Option<Load>,
}

/// A connection of raw bytes.
pub struct TcpUpstream {
    pub stream: Stream,
    /// Counts as load of the endpoint as long as it is kept.
    pub _load: Option<Load>,
}

impl Target {
    pub fn metrics(&self) -> &Arc<RouteMetrics> {
        match self {
            Self::Service { destination, .. } => &destination.metrics,
            Self::Application(application) => &application.metrics,
        }
    }

    /// The exchange failed in the middle. Its endpoint is blamed where nobody answered, or the way to it broke.
    pub fn blame(&self, load: Option<&Load>, failure: Failure) {
        if let (Self::Service { destination, .. }, Some(load)) = (self, load)
            && matches!(failure, Failure::UpstreamGone | Failure::UpstreamTimeout)
        {
            destination.blame(load.endpoint(), Instant::now());
        }
    }

    /// A connection that speaks HTTP: an idle one, or a new one to an endpoint that accepts.
    pub async fn reach(
        &self,
        worker: &Worker,
        snapshot: &Snapshot,
        tries: &mut Tries,
    ) -> Result<Upstream, Failure> {
        match self {
            Self::Service { destination, port } => loop {
                let load = tries.choose(worker, destination)?;
                let (now, is_harmless) = (tries.now, tries.is_harmless);
                let reached =
                    reach_endpoint(worker, snapshot, destination, &load, *port, now, is_harmless).await;
                match reached {
                    Ok((slot, connection, is_reused)) => {
                        return Ok(Upstream { connection, is_reused, slot, load: Some(load) });
                    }
                    Err(failure) => {
                        if failure.is_before_the_application() {
                            destination.blame(load.endpoint(), Instant::now());
                        }
                        tries.note(load.endpoint(), failure)?;
                    }
                }
            },
            Self::Application(application) => {
                reach_application(worker, snapshot, application, tries.now, tries.is_harmless).await
            }
        }
    }

    /// For a request over HTTP/2: where the connections are that may take it.
    pub fn choose(
        &self,
        worker: &Worker,
        snapshot: &Snapshot,
        tries: &mut Tries,
    ) -> Result<(Rc<Links>, Option<Load>), Failure> {
        match self {
            Self::Service { destination, port } => {
                let load = tries.choose(worker, destination)?;
                Ok((load.endpoint().links(*port, snapshot.limits.hop_pool), Some(load)))
            }
            Self::Application(application) => Ok((application.links.clone(), None)),
        }
    }

    fn declared(&self, snapshot: &Snapshot) -> Option<Protocol> {
        match self {
            Self::Service { destination, port } => destination.protocol(*port),
            Self::Application(application) => snapshot.inbound_protocol(application.port),
        }
    }

    /// How a request that came over HTTP/2 goes on to the endpoint that was chosen. Sidecars speak both; what is behind
    /// them is for the last one to translate.
    pub fn way(&self, snapshot: &Snapshot, load: Option<&Load>, links: &Links, is_tunnel: bool) -> Way {
        match load {
            Some(load) if !load.endpoint().is_plain() => Way::Http2,
            _ => links.spoken.way(self.declared(snapshot), is_tunnel),
        }
    }

    /// Whether a request that came over HTTP/1.1 goes on over HTTP/2.
    pub fn wants_http2(&self, snapshot: &Snapshot) -> bool {
        let declared = self.declared(snapshot);
        match self {
            Self::Service { destination, port } => match declared {
                Some(Protocol::Http1) => false,
                Some(protocol) if protocol.is_http2_only() => true,
                // Instances of one service speak the same; each is asked before it is sent anything.
                _ => destination.endpoints.iter().any(|endpoint| endpoint.lacks_http1(*port)),
            },
            Self::Application(application) => application.links.spoken.wants_http2(declared),
        }
    }

    /// It answered a request of HTTP/1.1 in HTTP/2.
    pub fn found_http2_only(&self, snapshot: &Snapshot, load: Option<&Load>) {
        match (self, load.map(Load::endpoint)) {
            (Self::Application(application), _) => application.links.spoken.found_http2_only(),
            (Self::Service { port, .. }, Some(endpoint)) if endpoint.is_plain() => {
                endpoint.links(*port, snapshot.limits.hop_pool).spoken.found_http2_only();
            }
            (Self::Service { .. }, _) => {}
        }
    }

    /// A connection that speaks HTTP/1.1 for a request that came over HTTP/2, to the endpoint that was chosen.
    pub async fn reach_http1(
        &self,
        worker: &Worker,
        snapshot: &Snapshot,
        load: Option<&Load>,
        is_harmless: bool,
    ) -> Result<Upstream, Failure> {
        let now = Instant::now();
        match (self, load) {
            (Self::Service { destination, port }, Some(load)) => {
                let reached =
                    reach_endpoint(worker, snapshot, destination, load, *port, now, is_harmless).await;
                let (slot, connection, is_reused) = reached.inspect_err(|failure| {
                    if failure.is_before_the_application() {
                        destination.blame(load.endpoint(), now);
                    }
                })?;
                Ok(Upstream { connection, is_reused, slot, load: None })
            }
            (Self::Service { .. }, None) => Err(Failure::NoEndpoint),
            (Self::Application(application), _) => {
                reach_application(worker, snapshot, application, now, is_harmless).await
            }
        }
    }

    /// A new connection for HTTP/2, to the endpoint that was chosen.
    pub async fn dial(
        &self,
        worker: &Worker,
        snapshot: &Snapshot,
        load: Option<&Load>,
        deadline: Instant,
    ) -> Result<Stream, Failure> {
        match (self, load.map(Load::endpoint)) {
            (Self::Service { destination, port }, Some(endpoint)) => {
                let dialed = dial_hop(worker, snapshot, destination, endpoint, *port, Alpn::Http2, deadline);
                let stream = dialed.await.inspect_err(|_| destination.blame(endpoint, Instant::now()))?;
                endpoint.recovered(Instant::now());
                Ok(stream)
            }
            (Self::Service { .. }, None) => Err(Failure::NoEndpoint),
            (Self::Application(application), _) => {
                dial_application(worker, snapshot, application, deadline).await
            }
        }
    }

    /// A connection of raw bytes; the application has accepted it.
    pub async fn open(&self, worker: &Worker, snapshot: &Snapshot) -> Result<TcpUpstream, Failure> {
        worker.afford()?;
        match self {
            Self::Service { destination, port } => {
                let mut tries = Tries::new(Instant::now(), false);
                loop {
                    let load = tries.choose(worker, destination)?;
                    match open_endpoint(worker, snapshot, destination, &load, *port).await {
                        Ok(stream) => return Ok(TcpUpstream { stream, _load: Some(load) }),
                        Err(failure) => tries.note(load.endpoint(), failure)?,
                    }
                }
            }
            Self::Application(application) => {
                let deadline = Instant::now() + snapshot.limits.connect_timeout;
                let stream = dial_application(worker, snapshot, application, deadline).await?;
                Ok(TcpUpstream { stream, _load: None })
            }
        }
    }
}

impl Tries {
    pub fn new(now: Instant, is_harmless: bool) -> Self {
        Self { now, is_harmless, endpoints: Default::default(), count: 0, last: None }
    }

    /// Chooses the endpoint of the next attempt; fails with the last attempt's failure when there were enough.
    fn choose(&mut self, worker: &Worker, destination: &Destination) -> Result<Load, Failure> {
        if let Some(failure) = self.last.filter(|_| self.count >= ATTEMPTS_MAX) {
            return Err(failure);
        }
        let now = self.now;
        let endpoints = &destination.endpoints;
        let tried = |endpoint| self.endpoints.iter().flatten().any(|other| Rc::ptr_eq(other, endpoint));
        let candidate = |i: usize| endpoints[i].candidate(now, tried(&endpoints[i]));
        let chosen = worker.with_random(|random| balance::choose(endpoints.len(), candidate, random));
        chosen.map(|i| Load::new(&endpoints[i], now)).ok_or(Failure::NoEndpoint)
    }

    /// An attempt has failed before anything reached an application. Gives the failure back when no other may follow.
    pub fn note(&mut self, endpoint: &Rc<Endpoint>, failure: Failure) -> Result<(), Failure> {
        if failure.is_before_the_application() {
            endpoint.failed(Instant::now());
        }
        self.again(Some(endpoint), failure)
    }

    /// An attempt has failed in a way that allows another one. `endpoint`: where, unless it was our application.
    pub fn failed(&mut self, endpoint: Option<&Rc<Endpoint>>, failure: Failure) -> Result<(), Failure> {
        match endpoint {
            // A stale connection, or one that ends in order, says nothing about its endpoint.
            Some(endpoint) if !matches!(failure, Failure::UpstreamGone | Failure::Unprocessed) => {
                self.note(endpoint, failure)
            }
            endpoint => self.again(endpoint, failure),
        }
    }

    /// Another attempt is wanted after `failure`.
    fn again(&mut self, endpoint: Option<&Rc<Endpoint>>, failure: Failure) -> Result<(), Failure> {
        if failure == Failure::Overload || self.count + 1 >= ATTEMPTS_MAX {
            return Err(failure);
        }
        self.now = Instant::now();
        // Where one connection had ended unseen, others may have: from now on the kernel is asked.
        self.is_harmless = false;
        self.endpoints[self.count] = endpoint.cloned();
        self.count += 1;
        self.last = Some(failure);
        Ok(())
    }
}

impl Upstream {
    /// The exchange failed in a way that allows another attempt; this connection is closed.
    pub fn give_up(self, tries: &mut Tries, failure: Failure) -> Result<(), Failure> {
        tries.failed(self.load.as_ref().map(Load::endpoint), failure)
    }

    pub fn load(&self) -> Option<&Load> {
        self.load.as_ref()
    }

    /// There was an answer.
    pub fn answered(&self, now: Instant) {
        if let Some(load) = &self.load {
            load.endpoint().answered(now);
        }
    }

    /// The exchange is over and the connection may serve another.
    pub fn put_back(self, now: Instant) {
        self.slot.put(self.connection, now);
    }

    /// For a tunnel: it does not count as a pooled connection any more, but as load.
    pub fn into_tunnel(self) -> (Connection, Option<Load>) {
        (self.connection, self.load)
    }
}

async fn reach_application(
    worker: &Worker,
    snapshot: &Snapshot,
    application: &Application,
    now: Instant,
    is_harmless: bool,
) -> Result<Upstream, Failure> {
    let deadline = now + snapshot.limits.connect_timeout;
    let (slot, way) = application.pool.checkout(now, deadline, is_harmless).await?;
    let (connection, is_reused) = match way {
        pool::Way::Idle(connection) => (connection, true),
        pool::Way::Dial(turn) => {
            // Boxed: most requests find an idle connection, and need no room for this.
            let dialed = Box::pin(dial_application(worker, snapshot, application, deadline));
            let stream = Box::pin(turn.spend(dialed)).await?;
            (Connection::new(stream, snapshot.limits.wire.head_bytes_max), false)
        }
    };
    Ok(Upstream { connection, is_reused, slot, load: None })
}

async fn reach_endpoint(
    worker: &Worker,
    snapshot: &Snapshot,
    destination: &Destination,
    load: &Load,
    port: u16,
    now: Instant,
    is_harmless: bool,
) -> Result<(Slot, Connection, bool), Failure> {
    let endpoint = load.endpoint();
    let deadline = connect_deadline(now, snapshot, Some(load));
    let pool = endpoint.pool(port, snapshot.limits.hop_pool);
    let (slot, way) = pool.checkout(now, deadline, is_harmless).await?;
    let turn = match way {
        pool::Way::Idle(connection) => return Ok((slot, connection, true)),
        pool::Way::Dial(turn) => turn,
    };
    let dialed = Box::pin(dial_hop(worker, snapshot, destination, endpoint, port, Alpn::Http, deadline));
    let stream = Box::pin(turn.spend(dialed)).await?;
    endpoint.recovered(Instant::now());
    Ok((slot, Connection::new(stream, snapshot.limits.wire.head_bytes_max), false))
}

/// A connection of raw bytes, of which the other sidecar has said that the application accepted it.
async fn open_endpoint(
    worker: &Worker,
    snapshot: &Snapshot,
    destination: &Destination,
    load: &Load,
    port: u16,
) -> Result<Stream, Failure> {
    let endpoint = load.endpoint();
    let deadline = connect_deadline(Instant::now(), snapshot, Some(load));
    let dialed = dial_hop(worker, snapshot, destination, endpoint, port, Alpn::Tcp, deadline).await;
    let mut stream = dialed.inspect_err(|_| destination.blame(endpoint, Instant::now()))?;
    let connected = if endpoint.is_plain() { Ok(()) } else { await_connected(&mut stream, deadline).await };
    match connected {
        Ok(()) => {
            endpoint.recovered(Instant::now());
            endpoint.answered(Instant::now());
        }
        // Its sidecar is silent. What it refuses is the application's business.
        Err(Failure::ConnectTimeout) => destination.blame(endpoint, Instant::now()),
        Err(_) => {}
    }
    connected.map(|()| stream)
}

/// A trial is short: whoever makes it goes elsewhere soon.
pub fn connect_deadline(now: Instant, snapshot: &Snapshot, load: Option<&Load>) -> Instant {
    let most = if load.is_some_and(|load| load.is_trial) { TRIAL_TIME_MAX } else { Duration::MAX };
    now + snapshot.limits.connect_timeout.min(most)
}

async fn dial_hop(
    worker: &Worker,
    snapshot: &Snapshot,
    destination: &Destination,
    endpoint: &Endpoint,
    port: u16,
    alpn: Alpn,
    deadline: Instant,
) -> Result<Stream, Failure> {
    let server_name = format!("{port}{}", destination.server_name_suffix);
    let dialed = async {
        let raw = hop::dial(&endpoint.hop).await.map_err(|_| Failure::ConnectFailed)?;
        if endpoint.is_plain() {
            return Ok(raw.into());
        }
        let expected = |peer: &_| snapshot.is_instance_of(peer, &destination.service);
        let handshake = worker.tls().connect(raw, &server_name, alpn, expected).await;
        handshake.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::PermissionDenied => Failure::Identity,
            _ => Failure::ConnectFailed,
        })
    };
    timeout_at(deadline, dialed).await.unwrap_or(Err(Failure::ConnectTimeout))
}

/// Waits for the other sidecar's word that the application has accepted.
async fn await_connected(stream: &mut Stream, deadline: Instant) -> Result<(), Failure> {
    match timeout_at(deadline, stream.read_u8()).await {
        Ok(Ok(TCP_CONNECTED)) => Ok(()),
        Ok(Ok(TCP_CONNECT_FAILED)) | Ok(Err(_)) => Err(Failure::ConnectFailed),
        Ok(Ok(TCP_LOOPBACK_ONLY)) => Err(Failure::LoopbackOnly),
        Ok(Ok(_)) => Err(Failure::CallerRefused),
        Err(_) => Err(Failure::ConnectTimeout),
    }
}

/// Where an application is dialed. In a seal its own address comes first: the kernel lets who listens on loopback alone
/// not be reached there. For a declared port its loopback counts too.
const DIALED: [IpAddr; 4] = [
    IpAddr::V4(OWN_ADDRESS.0),
    IpAddr::V6(OWN_ADDRESS.1),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// How long an answer to why nobody accepts connections is good for.
const REASON_TIME_MAX: Duration = Duration::from_secs(1);

/// Applications listen on IPv4, on IPv6, or on both; what answered last is dialed first.
async fn dial_application(
    worker: &Worker,
    snapshot: &Snapshot,
    application: &Application,
    deadline: Instant,
) -> Result<Stream, Failure> {
    let inside = worker.inside().ok_or(Failure::ConnectFailed)?;
    let port = inside.port(application.port).ok_or(Failure::ConnectFailed)?;
    let dialed = match (inside.is_sealed(), snapshot.is_declared(application.port)) {
        (true, true) => &DIALED[..],
        (true, false) => &DIALED[..2],
        (false, _) => &DIALED[2..],
    };
    let first = application.answered.get().filter(|address| dialed.contains(address));
    let others = dialed.iter().copied().filter(|address| Some(*address) != first);
    for address in first.into_iter().chain(others) {
        match timeout_at(deadline, dial_inside(inside, SocketAddr::new(address, port))).await {
            Ok(Ok(stream)) => {
                application.answered.set(Some(address));
                return Ok(stream.into());
            }
            // Refused, or the family is not there at all.
            Ok(Err(_)) => {}
            Err(_) => return Err(Failure::ConnectTimeout),
        }
    }
    if dialed.len() == 2 && is_on_loopback_only(inside, application, deadline).await {
        return Err(Failure::LoopbackOnly);
    }
    Err(Failure::ConnectFailed)
}

async fn dial_inside(inside: &dyn Inside, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = inside.socket(address.is_ipv6()).await?;
    if inside.is_sealed() {
        let source = match address {
            SocketAddr::V4(_) => (MESH_ADDRESS.0, 0).into(),
            SocketAddr::V6(_) => (MESH_ADDRESS.1, 0).into(),
        };
        socket.bind(source)?;
    }
    socket.connect(address).await
}

/// Bounded in what it costs: whoever calls a closed port again and again makes the init look once in a while.
async fn is_on_loopback_only(inside: &dyn Inside, application: &Application, deadline: Instant) -> bool {
    if let Some((asked, answer)) = application.on_loopback_only.get()
        && asked.elapsed() < REASON_TIME_MAX
    {
        return answer;
    }
    let asked = timeout_at(deadline, inside.is_on_loopback_only(application.port));
    let answer = asked.await.unwrap_or(false);
    application.on_loopback_only.set(Some((Instant::now(), answer)));
    answer
}
