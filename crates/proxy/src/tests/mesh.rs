//! A small mesh: sidecars with a test CA between scripted applications, all on one thread.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use sinew_spec::handover::UdpFlow;
use sinew_spec::name::{ApplicationName, InstanceName, ServiceName, SpiffeId, TrustDomain};
use sinew_spec::proxy::{Destination, Endpoint, HopAddress, Inbound, ProxyConfig, ProxyLimits};
use sinew_spec::status::ProxyStats;
use sinew_transport::tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::{
    Applied, Handover, HopListener, HostNetwork, Inside, Memory, OriginalDestination, OutboundListener,
    ProxyInputs, PublishedSockets, Sockets, Threads, run,
};

/// What a sidecar calls `orders`, or whatever is behind its outbound listener.
pub const VIRTUAL: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);

/// A test that hangs has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn in_mesh<F: Future<Output = ()>>(test: F) {
    within(PATIENCE, test).await;
}

/// For a clock that is turned forward.
pub async fn in_patient_mesh<F: Future<Output = ()>>(test: F) {
    within(90 * PATIENCE, test).await;
}

async fn within<F: Future<Output = ()>>(patience: Duration, test: F) {
    let bounded = async { tokio::time::timeout(patience, test).await.expect("the test hangs") };
    LocalSet::new().run_until(Box::pin(bounded)).await;
}

pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn identity(&self, service: &str, instance: &str) -> Arc<Identity> {
        let id = SpiffeId::of_instance(&domain(), &namespace(), &service.into(), &instance.into());
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Arc::new(Identity::from_pem(&chain, &key.serialize_pem(), &self.pem, u64::MAX).unwrap())
    }
}

fn domain() -> TrustDomain {
    "test.sinew".into()
}

fn namespace() -> ApplicationName {
    "test".into()
}

/// A folder that goes with its value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sinew-proxy-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

pub fn config(service: &str, instance: &str) -> ProxyConfig {
    ProxyConfig {
        revision: 1,
        trust_domain: domain(),
        namespace: namespace(),
        service: service.into(),
        instance: instance.into(),
        inbound: None,
        destinations: Vec::new(),
        egress: Vec::new(),
        published: Vec::new(),
        limits: ProxyLimits::default(),
    }
}

/// The configuration of an instance of `orders` that `web` may call.
pub fn callee(instance: &str) -> ProxyConfig {
    let inbound = Inbound {
        protocols: BTreeMap::new(),
        declared: BTreeSet::new(),
        callers: vec!["web".into()],
        draining: false,
    };
    ProxyConfig { inbound: Some(inbound), ..config("orders", instance) }
}

/// The configuration of `web`, which may call `orders` at these hops.
pub fn caller(hops: &[&Path]) -> ProxyConfig {
    let endpoint = |(i, hop): (usize, &&Path)| Endpoint {
        instance: InstanceName::new(format!("orders-{}", i + 1)),
        hop: HopAddress::Unix(hop.to_path_buf()),
    };
    let orders = Destination {
        service: ServiceName::from("orders"),
        address: VIRTUAL,
        protocols: BTreeMap::new(),
        send_proxy: BTreeMap::new(),
        endpoints: hops.iter().enumerate().map(endpoint).collect(),
    };
    ProxyConfig { destinations: vec![orders], ..config("web", "web-1") }
}

/// A seal in which nothing listens yet.
pub struct EmptySeal;

impl Inside for EmptySeal {
    fn for_another(&self) -> Box<dyn FnOnce() -> Box<dyn Inside> + Send> {
        Box::new(|| Box::new(Self))
    }

    fn socket(&self, _: bool) -> Pin<Box<dyn Future<Output = io::Result<TcpSocket>> + '_>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

pub const MEMORY_MAX: usize = 1000;

pub fn memory(in_use: Option<Arc<AtomicUsize>>) -> Memory {
    let in_use = in_use.unwrap_or_default();
    Memory { bytes_in_use: Arc::new(move || in_use.load(Ordering::Relaxed)), bytes_max: MEMORY_MAX }
}

pub struct Proxy {
    pub config: watch::Sender<Option<Arc<ProxyConfig>>>,
    pub identity: watch::Sender<Option<Arc<Identity>>>,
    pub applied: watch::Receiver<Applied>,
    pub shutdown: watch::Sender<bool>,
    pub handovers: mpsc::Sender<Handover>,
    pub task: JoinHandle<()>,
    admin: PathBuf,
    /// Stands for the listener redirected to inside the seal.
    pub outbound: Option<SocketAddr>,
    pub dns: Option<SocketAddr>,
    pub udp: Vec<SocketAddr>,
}

#[derive(Default)]
pub struct Start {
    /// Destination of everything that comes to the outbound listener.
    pub outbound: Option<SocketAddr>,
    pub hop: Option<PathBuf>,
    pub inside: Option<Box<dyn Inside>>,
    pub dns: bool,
    /// Bytes that it has in use, of [`MEMORY_MAX`]; 0 always, otherwise.
    pub memory: Option<Arc<AtomicUsize>>,
    pub udp_egress: usize,
    /// Standing sockets besides.
    pub udp_shared: Vec<std::net::UdpSocket>,
    pub flows: Vec<(UdpFlow, OwnedFd)>,
}

impl Proxy {
    pub async fn start(folder: &Folder, identity: Arc<Identity>, config: ProxyConfig, start: Start) -> Self {
        let admin = folder.path(&format!("{}.admin", config.instance));
        let mut sockets = Sockets::default();
        let mut outbound = None;
        if let Some(destination) = start.outbound {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            outbound = Some(listener.local_addr().unwrap());
            let destination = OriginalDestination::Fixed(destination);
            sockets.outbound.push(OutboundListener { listener, destination });
        }
        sockets.hop = start.hop.map(|path| HopListener::Unix(UnixListener::bind(path).unwrap()));
        let mut dns = None;
        if start.dns {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            dns = Some(socket.local_addr().unwrap());
            sockets.dns = Some(socket);
        }
        let mut udp = Vec::new();
        for _ in 0..start.udp_egress {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            udp.push(socket.local_addr().unwrap());
            sockets.udp_egress.push(socket);
        }
        for socket in start.udp_shared {
            socket.set_nonblocking(true).unwrap();
            udp.push(socket.local_addr().unwrap());
            sockets.udp_egress.push(UdpSocket::from_std(socket).unwrap());
        }
        let revision = config.revision;
        let (config, config_view) = watch::channel(Some(Arc::new(config)));
        let (identity, identity_view) = watch::channel(Some(identity));
        let (applied_sender, applied) = watch::channel(Applied::default());
        let (shutdown, shutdown_view) = watch::channel(false);
        let (handovers, handovers_view) = mpsc::channel(1);
        let inputs = ProxyInputs {
            config: config_view,
            identity: identity_view,
            sockets,
            inside: start.inside,
            admin: Some(UnixListener::bind(&admin).unwrap()),
            applied: applied_sender,
            shutdown: shutdown_view,
            memory: memory(start.memory),
            threads: Threads::default(),
            drain_max: Duration::from_secs(5),
            published: PublishedSockets::default(),
            flows: start.flows,
            handovers: handovers_view,
            gate: None,
        };
        let task = spawn_local(async move { run(inputs).await.unwrap() });
        let mut proxy =
            Self { config, identity, applied, shutdown, handovers, task, admin, outbound, dns, udp };
        proxy.applied_or_rejected(revision).await;
        proxy
    }

    async fn applied_or_rejected(&mut self, revision: u64) {
        let is_told = |applied: &Applied| {
            applied.revision == revision
                || applied.rejected.as_ref().is_some_and(|(known, _)| *known == revision)
        };
        self.applied.wait_for(is_told).await.unwrap();
    }

    /// Until requests meet it.
    pub async fn apply(&mut self, config: ProxyConfig) {
        let revision = config.revision;
        self.config.send_replace(Some(Arc::new(config)));
        self.applied_or_rejected(revision).await;
    }

    /// What the service does to call another one.
    pub async fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.outbound.unwrap()).await.unwrap();
        // A piece that the kernel holds back would let a clock that is turned forward run away.
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// One request on a connection of its own.
    pub async fn call(&self, request: &str) -> String {
        exchange(&mut self.dial().await, request).await
    }

    pub async fn admin(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(&self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub async fn stats(&self) -> ProxyStats {
        let answer = self.admin("/stats.json").await;
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

/// `web` and one instance of `orders`, whose application is at `application`.
pub struct Pair {
    pub ca: Ca,
    pub folder: Folder,
    pub web: Proxy,
    pub orders: Proxy,
}

impl Pair {
    pub async fn new(application: SocketAddr) -> Self {
        Self::with(application, |_| {}, |_| {}).await
    }

    pub async fn with(
        application: SocketAddr,
        edit_web: impl FnOnce(&mut ProxyConfig),
        edit_orders: impl FnOnce(&mut ProxyConfig),
    ) -> Self {
        let (ca, folder) = (Ca::new(), Folder::new());
        let orders = orders(&ca, &folder, 1, Box::new(HostNetwork), edit_orders).await;
        let web = web(&ca, &folder, application, 1, edit_web).await;
        Self { ca, folder, web, orders }
    }

    pub fn caller(&self, revision: u64) -> ProxyConfig {
        ProxyConfig { revision, ..caller(&[&self.folder.path("orders-1.hop")]) }
    }
}

pub async fn orders(
    ca: &Ca,
    folder: &Folder,
    number: usize,
    inside: Box<dyn Inside>,
    edit: impl FnOnce(&mut ProxyConfig),
) -> Proxy {
    let instance = format!("orders-{number}");
    let hop = folder.path(&format!("{instance}.hop"));
    let mut config = callee(&instance);
    edit(&mut config);
    let start = Start { hop: Some(hop), inside: Some(inside), ..Start::default() };
    Proxy::start(folder, ca.identity("orders", &instance), config, start).await
}

/// Calls `orders`, of which there are `count`.
pub async fn web(
    ca: &Ca,
    folder: &Folder,
    application: SocketAddr,
    count: usize,
    edit: impl FnOnce(&mut ProxyConfig),
) -> Proxy {
    let hops: Vec<_> = (1..=count).map(|i| folder.path(&format!("orders-{i}.hop"))).collect();
    let mut config = caller(&hops.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    edit(&mut config);
    let outbound = Some(SocketAddr::from((VIRTUAL, application.port())));
    Proxy::start(folder, ca.identity("web", "web-1"), config, Start { outbound, ..Start::default() }).await
}

/// An application: `serve` gets each connection and its number.
pub async fn application<F, S>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream, usize) -> S + 'static,
    S: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            spawn_local(serve(stream, number));
        }
    });
    address
}

/// An application that answers every request with 200 and a body that repeats what it got: connection number, head.
pub async fn echo_application() -> SocketAddr {
    application(|mut stream, number| async move {
        while let Some(message) = read_message(&mut stream).await {
            let body = format!("#{number}\n{message}");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Answers with fixed bytes whatever comes, and goes on.
pub async fn fixed_application(answer: &'static str) -> SocketAddr {
    application(move |mut stream, _| async move {
        while read_message(&mut stream).await.is_some() {
            stream.write_all(answer.as_bytes()).await.ok();
        }
    })
    .await
}

/// One message with a length-framed or chunked body; `None` at the end.
pub async fn read_message(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let head = loop {
        let byte = stream.read_u8().await.ok()?;
        bytes.push(byte);
        if bytes.ends_with(b"\r\n\r\n") {
            break String::from_utf8(bytes.clone()).unwrap().to_ascii_lowercase();
        }
    };
    let status: Option<u16> = head.strip_prefix("http/1.1 ").and_then(|rest| rest[..3].parse().ok());
    if let Some((_, rest)) = head.split_once("content-length: ") {
        let length: usize = rest.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        bytes.extend(body);
    } else if head.contains("transfer-encoding: chunked") {
        let mut body = b"\r\n".to_vec();
        while !body.ends_with(b"\r\n0\r\n\r\n") {
            body.push(stream.read_u8().await.ok()?);
        }
        bytes.extend(&body[2..]);
    } else if status.is_some_and(|status| status >= 200 && status != 204) {
        stream.read_to_end(&mut bytes).await.ok()?;
    }
    Some(String::from_utf8(bytes).unwrap())
}

pub async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    read_message(stream).await.unwrap_or_default()
}

pub const GET: &str = "GET /a HTTP/1.1\r\nhost: orders\r\n\r\n";

pub fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Waits until a condition holds that is reached by others' work alone.
pub async fn until(mut condition: impl AsyncFnMut() -> bool) {
    while !condition().await {
        tokio::task::yield_now().await;
    }
}

pub type Shared<T> = Rc<std::cell::RefCell<T>>;
