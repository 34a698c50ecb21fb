//! `sinew proxy`: the data plane as a process. Glue between what feeds it (control plane or a file), the seal's init
//! that makes its sockets, and `sinew_proxy::run`, which knows neither.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use sinew_client::feed::{self, Feed, FeedOptions};
use sinew_proxy::{
    Applied, HopListener, Inside, OriginalDestination, OutboundListener, ProxyInputs, PublishedSockets,
    Sockets,
};
use sinew_spec::proxy::Bootstrap;
use sinew_spec::seal::FixedListener;
use sinew_transport::seal::{InitClient, StandingSockets};
use sinew_transport::tls::Identity;
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

mod document;
mod ending;
pub mod file;
mod handover;
mod inside;
mod memory;

use ending::{Ending, Endings};
use handover::{Place, Succession, beside};

/// After a request to stop, for what is in flight. The launcher bounds it as well.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// A bootstrap file is below 1 KiB.
const BOOTSTRAP_BYTES_MAX: u64 = 64 * 1024;

/// `sinew proxy --bootstrap FILE`, as the launcher types it. Found without the parser of all commands: there is one
/// such process per instance, and the parser's tables are larger than what a small proxy needs.
pub fn bootstrap_argument() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    let is_ours = arguments.next()? == "proxy" && arguments.next()? == "--bootstrap";
    let path = arguments.next()?;
    (is_ours && arguments.next().is_none()).then(|| path.into())
}

/// Serves one instance (or as the gateway) until the launcher, the seal or the lifeline ends it.
pub fn run_bootstrap(path: &Path) -> ExitCode {
    crate::sys::keep_heap_small();
    let result = read_bootstrap(path).and_then(|bootstrap| {
        let name = bootstrap.instance.clone();
        on_one_thread(run_instance(bootstrap)).with_context(|| format!("the proxy of {name}"))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read_bootstrap(path: &Path) -> anyhow::Result<Bootstrap> {
    let read = || -> io::Result<String> {
        use io::Read;
        let mut text = String::new();
        fs::File::open(path)?.take(BOOTSTRAP_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no bootstrap file", path.display()))
}

/// What feeds the data plane and its first worker, whose tasks share what they have without locks.
fn on_one_thread<T: 'static>(work: impl Future<Output = anyhow::Result<T>> + 'static) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    // A task as well: what is waited for here is polled whenever any task is woken.
    let work = tasks.spawn_local(work);
    tasks.block_on(&runtime, work)?
}

async fn run_instance(bootstrap: Bootstrap) -> anyhow::Result<()> {
    let endings = Endings::new(&bootstrap).await?;
    let (sockets, inside) = reach(&bootstrap).await?;
    let published = PublishedSockets::default();
    // From here on until the other process is told that we serve, connections wait.
    let mut succession = match &bootstrap.handover {
        Some(path) if bootstrap.succeeds => Some(Succession::begin(path, &published).await?),
        _ => None,
    };
    let flows = succession.as_mut().map(|succession| std::mem::take(&mut succession.flows));
    let feed = Rc::new(Feed::start(FeedOptions {
        instance: bootstrap.instance.clone(),
        control: bootstrap.control.clone(),
        last_good: bootstrap.last_good.clone(),
        trust: bootstrap.trust.clone(),
        clock: SystemTime::now,
        held: succession.is_some(),
    }));
    let admin_path = if succession.is_some() { beside(&bootstrap.admin) } else { bootstrap.admin.clone() };
    let admin = listen(&admin_path)
        .with_context(|| format!("listening for the admin API at {}", admin_path.display()))?;

    let (identity_in, identity) = watch::channel(None);
    tokio::task::spawn_local(take_identities(feed.identities.clone(), identity_in));
    let (applied, applied_out) = watch::channel(Applied::default());
    tokio::task::spawn_local(settle(applied_out.clone()));
    tokio::task::spawn_local(acknowledge(feed.clone(), applied_out));
    tokio::task::spawn_local(tell_troubles(feed.troubles.clone()));
    let (gate, taken) = match succession {
        None => (None, None),
        Some(succession) => {
            let (gate, other_side) = handover::gate();
            (Some(gate), Some((succession, other_side)))
        }
    };
    let (handovers_in, handovers) = mpsc::channel(1);
    let place = Place {
        admin: bootstrap.admin.clone(),
        handover: bootstrap.handover.clone(),
        published: published.clone(),
        handovers: handovers_in,
        feed: feed.clone(),
    };
    let serve = serve(endings, |shutdown| ProxyInputs {
        config: feed.configs.clone(),
        identity,
        sockets,
        published,
        flows: flows.unwrap_or_default(),
        inside,
        admin: Some(admin),
        applied,
        shutdown,
        memory: memory::of_this_process(),
        threads: memory::of_threads(),
        drain_max: DRAIN_MAX,
        handovers,
        gate,
    });
    tokio::select! {
        result = serve => result,
        never = place.keep(taken) => match never? {},
    }
}

/// The sockets that are served for the service, and the way to its ports.
async fn reach(bootstrap: &Bootstrap) -> anyhow::Result<(Sockets, Option<Box<dyn Inside>>)> {
    let Some(init) = &bootstrap.init else { return Ok((Sockets::default(), None)) };
    let client = InitClient::connect(init).await?;
    if let Some(ports) = bootstrap.ports.clone() {
        return Ok((explicit(&client).await?, Some(Box::new(inside::Declared(ports)))));
    }
    let sockets = adopt(client.standing_sockets().await?)?;
    Ok((sockets, Some(Box::new(inside::Stock::new(init.clone(), client)))))
}

/// Runs the data plane until it ends by itself or is ended.
async fn serve(
    mut endings: Endings,
    inputs: impl FnOnce(watch::Receiver<bool>) -> ProxyInputs,
) -> anyhow::Result<()> {
    let (stop, shutdown) = watch::channel(false);
    // A task of its own: its tasks are woken much more often than anything ends.
    let mut run = tokio::task::spawn_local(sinew_proxy::run(inputs(shutdown)));
    loop {
        tokio::select! {
            result = &mut run => return Ok(result.context("the data plane has failed")??),
            ending = endings.next() => match ending {
                Ending::AtOnce => return Ok(()),
                Ending::Drained => {
                    stop.send_replace(true);
                }
            },
        }
    }
}

/// From PEM to what TLS takes. One that cannot be used is told and passed over: the last one goes on.
async fn take_identities(
    mut from: watch::Receiver<Option<Arc<feed::Identity>>>,
    to: watch::Sender<Option<Arc<Identity>>>,
) {
    loop {
        let pem = from.borrow_and_update().clone();
        if let Some(pem) = pem {
            let not_after = pem.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let not_after_unix_ms = u64::try_from(not_after.as_millis()).unwrap_or(u64::MAX);
            match Identity::from_pem(&pem.chain_pem, &pem.key_pem, &pem.bundle_pem, not_after_unix_ms) {
                Ok(identity) => drop(to.send_replace(Some(Arc::new(identity)))),
                Err(error) => eprintln!("error: a new certificate cannot be used: {error}"),
            }
        }
        if from.changed().await.is_err() {
            return;
        }
    }
}

/// What only starting needed is let go when the first configuration is served.
async fn settle(mut applied: watch::Receiver<Applied>) {
    if applied.wait_for(|applied| applied.revision > 0).await.is_ok() {
        crate::sys::let_go_of_startup_code();
    }
}

async fn acknowledge(feed: Rc<Feed>, mut applied: watch::Receiver<Applied>) {
    while applied.changed().await.is_ok() {
        let Applied { revision, rejected } = applied.borrow_and_update().clone();
        if revision > 0 {
            feed.applied(revision);
        }
        if let Some((revision, reason)) = rejected {
            eprintln!("error: configuration {revision} cannot be used: {reason}");
            feed.rejected(revision, reason);
        }
    }
}

async fn tell_troubles(mut troubles: watch::Receiver<Option<String>>) {
    loop {
        if let Some(trouble) = &*troubles.borrow_and_update() {
            eprintln!("error: {trouble}");
        }
        if troubles.changed().await.is_err() {
            return;
        }
    }
}

/// Without a seal: one listener for each destination, kept by the supervisor, so that their ports outlive this process.
async fn explicit(client: &InitClient) -> anyhow::Result<Sockets> {
    let (hop, listeners) = client.listeners(Vec::new()).await?;
    let outbound = |(fixed, socket): (FixedListener, OwnedFd)| -> io::Result<OutboundListener> {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        let destination = OriginalDestination::Fixed(fixed.destination);
        Ok(OutboundListener { listener: TcpListener::from_std(listener)?, destination })
    };
    Ok(Sockets {
        outbound: listeners.into_iter().map(outbound).collect::<io::Result<_>>()?,
        hop: Some(hop_listener(hop)?),
        ..Sockets::default()
    })
}

fn hop_listener(hop: OwnedFd) -> io::Result<HopListener> {
    let hop = std::os::unix::net::UnixListener::from(hop);
    hop.set_nonblocking(true)?;
    Ok(HopListener::Unix(UnixListener::from_std(hop)?))
}

/// The seal's sockets, registered with this process's runtime.
fn adopt(standing: StandingSockets) -> anyhow::Result<Sockets> {
    let StandingSockets { outbound_v4, outbound_v6, dns, refused, hop, udp_egress } = standing;
    let outbound = |socket| -> io::Result<OutboundListener> {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(OutboundListener { listener, destination: OriginalDestination::Redirected })
    };
    let udp = |socket| -> io::Result<UdpSocket> {
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    Ok(Sockets {
        outbound: vec![outbound(outbound_v4)?, outbound(outbound_v6)?],
        dns: Some(udp(dns)?),
        nflog: Some(refused),
        hop: Some(hop_listener(hop)?),
        udp_egress: udp_egress.into_iter().map(udp).collect::<io::Result<_>>()?,
    })
}

/// What an earlier process left there is replaced.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
