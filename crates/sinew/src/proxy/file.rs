//! `sinew proxy --config FILE`: no control plane, no launcher, no seal. Certificates are files as well.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use sinew_proxy::{
    Applied, HopListener, HostNetwork, Inside, OriginalDestination, OutboundListener, ProxyInputs,
    PublishedSockets, Sockets,
};
use sinew_spec::proxy::ProxyConfig;
use sinew_transport::tls::Identity;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::ending::Endings;
use super::{DRAIN_MAX, document, listen, memory, on_one_thread, serve, settle};
use crate::failure::Failure;

/// Run one proxy, from a file or for a launcher
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew proxy --config proxy.yaml --chain me.pem --key me.key --bundle root.pem --hop 127.0.0.1:15008\n  \
    sinew proxy --config proxy.yaml ... --outbound 127.0.0.1:9000=198.18.0.7:8000\n\n\
    The file is read again on SIGHUP; one that cannot be used is told, and the last one goes on.")]
pub struct Arguments {
    /// The proxy's configuration, YAML or JSON
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, required = true)]
    config: PathBuf,

    /// Certificate chain, PEM, leaf first
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    chain: PathBuf,

    /// Private key, PEM
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    key: PathBuf,

    /// Trust bundle, PEM
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    bundle: PathBuf,

    /// Where other proxies' mutual TLS is accepted: an address with port, or a path
    #[arg(long, value_name = "ADDRESS|PATH")]
    hop: Option<String>,

    /// A listener for the application's calls, and where they are meant to go; may be repeated
    #[arg(long, value_name = "LISTEN=DESTINATION")]
    outbound: Vec<Outbound>,

    /// Where the admin API is served
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    admin: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
struct Outbound {
    listen: SocketAddr,
    destination: SocketAddr,
}

impl FromStr for Outbound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("{text} is no address with port"));
        let (listen, destination) =
            text.split_once('=').ok_or("write LISTEN=DESTINATION: 127.0.0.1:9000=198.18.0.7:8000")?;
        Ok(Self { listen: parse(listen)?, destination: parse(destination)? })
    }
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let config = read_config(&arguments.config)?;
    let identity = read_identity(arguments)?;
    let arguments = arguments.clone();
    on_one_thread(async move { run_file(&arguments, config, identity).await })
        .map_err(|error| Failure::failed("proxy", format!("{error:#}")))?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::bad_input("file", format!("reading {}: {error}", path.display())))
}

fn read_config(path: &Path) -> Result<ProxyConfig, Failure> {
    let usable = |config: &ProxyConfig| sinew_proxy::check(config);
    document::read(&read(path)?, usable)
        .map_err(|problem| Failure::bad_input("invalid_file", format!("{}:{problem}", path.display())))
}

fn read_identity(arguments: &Arguments) -> Result<Identity, Failure> {
    let Arguments { chain, key, bundle, .. } = arguments;
    // A file says nothing of its renewal: whoever wrote it renews it.
    Identity::from_pem(&read(chain)?, &read(key)?, &read(bundle)?, u64::MAX)
        .map_err(|error| Failure::bad_input("certificate", error.to_string()))
}

async fn run_file(arguments: &Arguments, config: ProxyConfig, identity: Identity) -> anyhow::Result<()> {
    let endings = Endings::of_signals(true)?;
    let mut sockets = Sockets { hop: bind_hop(arguments.hop.as_deref()).await?, ..Sockets::default() };
    for Outbound { listen, destination } in &arguments.outbound {
        let listener = TcpListener::bind(listen).await?;
        let destination = OriginalDestination::Fixed(*destination);
        sockets.outbound.push(OutboundListener { listener, destination });
    }
    let inside = config.inbound.is_some().then(|| Box::new(HostNetwork) as Box<dyn Inside>);
    let admin = arguments.admin.as_deref().map(listen).transpose()?;

    let revision = config.revision;
    let (configs_in, configs) = watch::channel(Some(Arc::new(config)));
    let (identities_in, identities) = watch::channel(Some(Arc::new(identity)));
    let (applied, applied_out) = watch::channel(Applied::default());
    tokio::task::spawn_local(settle(applied_out.clone()));
    tokio::task::spawn_local(tell_rejected(applied_out));
    let reload = async {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut revision = revision;
        while hangup.recv().await.is_some() {
            match (read_config(&arguments.config), read_identity(arguments)) {
                (Ok(config), Ok(identity)) => {
                    revision = config.revision.max(revision + 1);
                    identities_in.send_replace(Some(Arc::new(identity)));
                    configs_in.send_replace(Some(Arc::new(ProxyConfig { revision, ..config })));
                }
                (config, identity) => {
                    for failure in [config.err(), identity.err()].into_iter().flatten() {
                        eprintln!("error: {}; the last good configuration goes on", failure.message);
                    }
                }
            }
        }
        Ok(())
    };
    let serve = serve(endings, |shutdown| ProxyInputs {
        config: configs,
        identity: identities,
        sockets,
        inside,
        admin,
        applied,
        shutdown,
        memory: memory::of_this_process(),
        threads: memory::of_threads(),
        drain_max: DRAIN_MAX,
        published: PublishedSockets::default(),
        flows: Vec::new(),
        handovers: mpsc::channel(1).1,
        gate: None,
    });
    tokio::select! {
        result = serve => result,
        result = reload => result,
    }
}

async fn bind_hop(hop: Option<&str>) -> anyhow::Result<Option<HopListener>> {
    Ok(match hop {
        None => None,
        Some(hop) => Some(match hop.parse::<SocketAddr>() {
            Ok(address) => HopListener::Tcp(TcpListener::bind(address).await?),
            Err(_) => HopListener::Unix(bind_unix(Path::new(hop))?),
        }),
    })
}

fn bind_unix(path: &Path) -> anyhow::Result<UnixListener> {
    Ok(listen(path)?)
}

async fn tell_rejected(mut applied: watch::Receiver<Applied>) {
    while applied.changed().await.is_ok() {
        let rejected = applied.borrow_and_update().rejected.clone();
        if let Some((revision, reason)) = rejected {
            eprintln!("error: configuration {revision} cannot be used: {reason}");
        }
    }
}
