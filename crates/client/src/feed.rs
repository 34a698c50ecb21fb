//! The proxy's end of the line to the control plane: configurations and certificates come in, acknowledgements go out.
//!
//! The line may be away at any time. Then the proxy goes on with what it has, and with the last-good state when it
//! starts meanwhile. The private key is made here and never sent.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use sinew_spec::name::InstanceName;
use sinew_spec::proxy::{ControlMessage, ProxyConfig, ProxyMessage, Signature, Trust};
use sinew_transport::frame::{FrameError, FrameReader, write_frame};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

mod identity;
mod last_good;

pub use identity::Identity;
use last_good::LastGood;

/// Between two tries to connect, with up to half of it less.
const RECONNECT: Duration = Duration::from_millis(200);
/// A word to the control plane, so that it knows who is frozen.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// For the control plane to take a message, and to answer a request for a certificate.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a refused request for a certificate.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Configurations that a proxy may be behind with its acknowledgement.
const RECENT_MAX: usize = 4;
/// The wall clock is looked at this often at least: it may be set, and it goes on while a machine sleeps.
const CLOCK_LOOK: Duration = Duration::from_secs(300);

pub struct FeedOptions {
    pub instance: InstanceName,
    /// Where the control plane listens for this proxy.
    pub control: PathBuf,
    /// The last-good state: read at the start, replaced when something new is good.
    pub last_good: PathBuf,
    /// By what the last-good state is judged.
    pub trust: Trust,
    /// Wall clock, for the validity of certificates.
    pub clock: fn() -> SystemTime,
    /// As after [`Feed::hold`].
    pub held: bool,
}

/// Runs until dropped.
pub struct Feed {
    /// What should be served; `None`: nothing is known yet.
    pub configs: watch::Receiver<Option<Arc<ProxyConfig>>>,
    /// As whom; `None`: nothing is certified yet. An expired one stays until it is replaced.
    pub identities: watch::Receiver<Option<Arc<Identity>>>,
    /// What is wrong beyond the line's being away: a last-good state that is not believed, a refused certificate, a message
    /// that cannot be read. Changes when it is something else than before.
    pub troubles: watch::Receiver<Option<String>>,
    reports: watch::Sender<Report>,
    held: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What the proxy said of configurations; only the newest of each kind matters.
#[derive(Clone, Debug, Default)]
struct Report {
    /// 0: nothing yet.
    applied: u64,
    rejected: Option<(u64, String)>,
}

impl Feed {
    /// Must be called within a runtime. What is in the last-good state is there at once.
    pub fn start(options: FeedOptions) -> Self {
        let (good, trouble) = match last_good::read(&options.last_good, &options.instance, &options.trust) {
            Ok(good) => (good, None),
            Err(refused) => (LastGood::default(), Some(refused.to_string())),
        };
        let identity = good.identity.clone().map(Arc::new);
        let config = good.config.clone().map(Arc::new);
        let renew_at = identity.as_ref().map_or(UNIX_EPOCH, |identity| renewal(identity));
        let recent = config.iter().cloned().map(|config| (config, good.config_signature.clone())).collect();
        let (configs, configs_out) = watch::channel(config);
        let (identities, identities_out) = watch::channel(identity);
        let (troubles, troubles_out) = watch::channel(trouble);
        let (reports, reports_in) = watch::channel(Report::default());
        let (held, held_in) = watch::channel(options.held);
        let line = Line {
            options,
            configs,
            identities,
            troubles,
            reports: reports_in,
            held: held_in,
            recent,
            serving: None,
            good,
            renew_at,
            asked: None,
        };
        Self {
            configs: configs_out,
            identities: identities_out,
            troubles: troubles_out,
            reports,
            held,
            task: tokio::spawn(line.run()),
        }
    }

    /// Requests meet this revision now: acknowledged, and kept as the last-good state.
    pub fn applied(&self, revision: u64) {
        self.reports.send_modify(|report| report.applied = revision);
    }

    /// While another process may be about to speak for the same instance: nothing is written down or acknowledged, so
    /// that what the control plane takes for applied is what the other one finds on disk; and a line that ends (the other one's
    /// takes its place) is not opened again.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// This revision could not be used; what was served before goes on being served.
    pub fn rejected(&self, revision: u64, reason: String) {
        self.reports.send_modify(|report| report.rejected = Some((revision, reason)));
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Line {
    options: FeedOptions,
    configs: watch::Sender<Option<Arc<ProxyConfig>>>,
    identities: watch::Sender<Option<Arc<Identity>>>,
    troubles: watch::Sender<Option<String>>,
    reports: watch::Receiver<Report>,
    held: watch::Receiver<bool>,
    /// What the proxy may be about to serve.
    recent: VecDeque<(Arc<ProxyConfig>, Option<Signature>)>,
    serving: Option<Arc<ProxyConfig>>,
    good: LastGood,
    renew_at: SystemTime,
    /// The key of a request that is not answered yet, and until when the answer is waited for.
    asked: Option<(KeyPair, Instant)>,
}

impl Line {
    async fn run(mut self) {
        loop {
            if self.held.wait_for(|held| !held).await.is_err() {
                return;
            }
            if let Ok(stream) = UnixStream::connect(&self.options.control).await {
                match self.converse(stream).await {
                    // Control planes come and go.
                    Ok(()) | Err(FrameError::Io(_)) => {}
                    Err(error) => self.tell(format!("on the line to the control plane: {error}")),
                }
            }
            self.asked = None;
            self.pause().await;
        }
    }

    fn tell(&self, trouble: String) {
        self.troubles.send_if_modified(|told| {
            let is_new = told.as_ref() != Some(&trouble);
            *told = Some(trouble);
            is_new
        });
    }

    /// While the line is away, what the proxy accepts is still kept.
    async fn pause(&mut self) {
        sleep(RECONNECT.mul_f64(1.0 - jitter() / 2.0)).await;
        self.keep();
    }

    async fn converse(&mut self, stream: UnixStream) -> Result<(), FrameError> {
        let (mut read, mut write) = stream.into_split();
        let mut frames = FrameReader::new();
        let mut told = self.greet(&mut write).await?;
        let mut alive_at = Instant::now() + ALIVE_EVERY;
        loop {
            self.certify_when_due(&mut write).await?;
            self.report(&mut told, &mut write).await?;
            let look = self.next_look();
            tokio::select! {
                message = frames.next(&mut read) => match message? {
                    Some(message) => self.take(message),
                    None => return Ok(()),
                },
                changed = self.reports.changed() => if changed.is_err() {
                    return Ok(());
                },
                changed = self.held.changed() => if changed.is_err() {
                    return Ok(());
                },
                () = sleep_until(alive_at) => {
                    send(&mut write, &ProxyMessage::Alive).await?;
                    alive_at = Instant::now() + ALIVE_EVERY;
                }
                () = sleep(look) => if self.asked.as_ref().is_some_and(|(_, until)| Instant::now() >= *until) {
                    return Err(FrameError::Cut);
                },
            }
        }
    }

    /// Says what is served, not what is known.
    async fn greet(&mut self, write: &mut OwnedWriteHalf) -> Result<Told, FrameError> {
        self.keep();
        let revision = self.serving.as_ref().map_or(0, |config| config.revision);
        let digest = self.serving.as_ref().map(|config| config.digest());
        let alive_every_ms = ALIVE_EVERY.as_millis() as u64;
        let hello = ProxyMessage::Hello { revision, pid: std::process::id(), digest, alive_every_ms };
        send(write, &hello).await?;
        Ok(Told { applied: revision, rejected: 0 })
    }

    async fn report(&mut self, told: &mut Told, write: &mut OwnedWriteHalf) -> Result<(), FrameError> {
        let Report { applied, rejected } = self.reports.borrow_and_update().clone();
        if *self.held.borrow_and_update() {
            return Ok(());
        }
        if applied != told.applied {
            self.keep();
            told.applied = applied;
            send(write, &ProxyMessage::Applied { revision: applied }).await?;
        }
        if let Some((revision, reason)) = rejected.filter(|(revision, _)| *revision != told.rejected) {
            told.rejected = revision;
            send(write, &ProxyMessage::Rejected { revision, reason }).await?;
        }
        Ok(())
    }

    fn take(&mut self, message: ControlMessage) {
        match message {
            ControlMessage::Config { config, signature } => {
                let config: Arc<ProxyConfig> = Arc::from(config);
                if self.recent.len() == RECENT_MAX {
                    self.recent.pop_front();
                }
                self.recent.push_back((config.clone(), signature));
                self.configs.send_replace(Some(config));
            }
            ControlMessage::Certificate { chain_pem, bundle_pem, not_after_unix_ms, signature } => {
                // An answer to nothing that was asked would come with somebody else's key.
                let Some((key, _)) = self.asked.take() else { return };
                let identity = Identity {
                    chain_pem,
                    key_pem: key.serialize_pem(),
                    bundle_pem,
                    issued_at: (self.options.clock)(),
                    not_after: UNIX_EPOCH + Duration::from_millis(not_after_unix_ms),
                };
                self.renew_at = renewal(&identity);
                self.good.identity = Some(identity.clone());
                self.good.identity_signature = signature;
                last_good::write(&self.options.last_good, &self.good);
                self.identities.send_replace(Some(Arc::new(identity)));
            }
            ControlMessage::Refused { reason } => {
                self.tell(format!("no certificate: {reason}"));
                self.asked = None;
                self.renew_at = (self.options.clock)() + REFUSED_PAUSE;
            }
        }
    }

    async fn certify_when_due(&mut self, write: &mut OwnedWriteHalf) -> Result<(), FrameError> {
        if self.asked.is_some() || (self.options.clock)() < self.renew_at {
            return Ok(());
        }
        let Ok((key, csr_pem)) = make_request() else {
            self.renew_at = (self.options.clock)() + REFUSED_PAUSE;
            return Ok(());
        };
        self.asked = Some((key, Instant::now() + PATIENCE));
        send(write, &ProxyMessage::Certify { csr_pem }).await
    }

    fn next_look(&self) -> Duration {
        match &self.asked {
            Some((_, until)) => until.saturating_duration_since(Instant::now()),
            None => {
                let until = self.renew_at.duration_since((self.options.clock)()).unwrap_or(Duration::ZERO);
                // A timer may end a little early by the wall clock.
                (until + Duration::from_millis(1)).min(CLOCK_LOOK)
            }
        }
    }

    /// Notes what is served now, and writes it down when that is something new.
    fn keep(&mut self) {
        if *self.held.borrow() {
            return;
        }
        let applied = self.reports.borrow().applied;
        if self.serving.as_ref().is_some_and(|serving| serving.revision == applied) {
            return;
        }
        let Some((serving, signature)) =
            self.recent.iter().find(|(config, _)| config.revision == applied).cloned()
        else {
            return;
        };
        if self.good.config.as_ref() != Some(&*serving) {
            self.good.config = Some((*serving).clone());
            self.good.config_signature = signature;
            last_good::write(&self.options.last_good, &self.good);
        }
        self.recent.retain(|(config, _)| config.revision >= applied);
        self.serving = Some(serving);
    }
}

/// What this stream was told already.
struct Told {
    applied: u64,
    rejected: u64,
}

async fn send(write: &mut OwnedWriteHalf, message: &ProxyMessage) -> Result<(), FrameError> {
    timeout(PATIENCE, write_frame(write, message)).await.map_err(|_| FrameError::Cut)?
}

/// A new key for every certificate: a leaked one is of use for one lifetime at most.
fn make_request() -> Result<(KeyPair, String), rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?.pem()?;
    Ok((key, request))
}

/// Half of the life, give or take a twentieth, so that what started together does not renew together.
fn renewal(identity: &Identity) -> SystemTime {
    let life = identity.not_after.duration_since(identity.issued_at).unwrap_or(Duration::ZERO);
    identity.issued_at + life.mul_f64(0.45 + 0.1 * jitter())
}

/// 0 to 1.
fn jitter() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests;
