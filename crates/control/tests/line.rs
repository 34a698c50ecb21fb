//! The control plane and a proxy's feed, over real Unix sockets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sinew_ca::Authority;
use sinew_client::feed::{Feed, FeedOptions};
use sinew_control::{Control, ControlOptions, Entry, GRACE, Routing};
use sinew_spec::application::{Application, Protocol, Service};
use sinew_spec::name::InstanceName;
use sinew_spec::proxy::{ControlMessage, HopAddress, ProxyConfig, ProxyMessage, Trust};
use sinew_transport::frame::{FrameReader, write_frame};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// For what should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Services `a` and `b` that may call each other, in folders of their own.
struct World {
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl World {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sinew-line-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder }
    }

    fn options(&self) -> ControlOptions {
        let service = |name: &str| Service {
            protocols: [(8000, Protocol::Http), (1883, Protocol::Tcp)].into(),
            ..Service::new(name, vec!["run".into()])
        };
        let services: BTreeMap<_, _> = ["a", "b"].map(|name| (name.into(), service(name))).into();
        let application = Application {
            name: "shop".into(),
            folder: "/shop".into(),
            files: Vec::new(),
            services,
            volumes: BTreeMap::new(),
            gateway: Default::default(),
        };
        ControlOptions::new(application, self.folder.join("state"))
    }

    fn control(&self) -> Control {
        Control::open(self.options()).unwrap()
    }

    fn socket(&self, instance: &str) -> PathBuf {
        self.folder.join(format!("{instance}.sock"))
    }

    fn entry(&self, instance: &str, routing: Routing) -> Entry {
        let socket = self.socket(instance);
        let _ = std::fs::remove_file(&socket);
        Entry {
            service: instance[..1].into(),
            instance: instance.into(),
            hop: Some(HopAddress::Unix(self.folder.join(format!("{instance}.hop")))),
            routing,
            listener: UnixListener::bind(&socket).unwrap(),
        }
    }

    /// As a launcher hands it over, also while no control plane is there.
    fn trust(&self, revision_min: u64) -> Trust {
        let folder = self.folder.join("state/ca");
        let authority = Authority::open(&folder, &"shop.sinew".into(), SystemTime::now()).unwrap();
        let (root_key, bundle_pem) = (authority.root_key().to_vec(), authority.bundle_pem().to_owned());
        Trust { root_key, bundle_pem, revision_min }
    }

    fn feed(&self, instance: &str) -> Feed {
        self.feed_that_trusts(instance, self.trust(0))
    }

    fn feed_that_trusts(&self, instance: &str, trust: Trust) -> Feed {
        Feed::start(FeedOptions {
            instance: instance.into(),
            control: self.socket(instance),
            last_good: self.folder.join(format!("{instance}.json")),
            trust,
            clock: SystemTime::now,
            held: false,
        })
    }

    /// A proxy that serves whatever it is told.
    fn proxy(&self, instance: &str) -> Proxy {
        let feed = Arc::new(self.feed(instance));
        let mut configs = feed.configs.clone();
        let serving = feed.clone();
        let task = tokio::spawn(async move {
            loop {
                let config = configs.borrow_and_update().clone();
                if let Some(config) = config {
                    serving.applied(config.revision);
                }
                if configs.changed().await.is_err() {
                    return;
                }
            }
        });
        Proxy { feed, task }
    }
}

struct Proxy {
    feed: Arc<Feed>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn told(&self, mut wanted: impl FnMut(&ProxyConfig) -> bool) -> Arc<ProxyConfig> {
        told(&self.feed, &mut wanted).await
    }

    /// As by kill -9.
    async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
        drop(self.feed);
    }
}

async fn told(feed: &Feed, mut wanted: impl FnMut(&ProxyConfig) -> bool) -> Arc<ProxyConfig> {
    let mut configs = feed.configs.clone();
    let found = configs.wait_for(|config| config.as_ref().is_some_and(|config| wanted(config)));
    let found = tokio::time::timeout(PATIENCE, found).await.expect("nothing like it was told");
    found.expect("the feed ended").clone().expect("it was just looked at")
}

fn endpoints(config: &ProxyConfig, service: &str) -> Vec<String> {
    let destination = config.destinations.iter().find(|destination| destination.service.as_str() == service);
    destination
        .into_iter()
        .flat_map(|destination| &destination.endpoints)
        .map(|e| e.instance.to_string())
        .collect()
}

fn name(instance: &str) -> InstanceName {
    instance.into()
}

/// Lets the tasks of this thread run until they wait for the outside. Bounded; for paused time only.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never came true: {what}");
}

#[tokio::test]
async fn a_proxy_is_told_what_changes_and_says_when_it_serves_it() {
    let world = World::new("told");
    let control = world.control();
    control.enter(vec![world.entry("a-1", Routing::Out), world.entry("b-1", Routing::Out)]);
    let (a, b) = (world.proxy("a-1"), world.proxy("b-1"));
    a.told(|config| config.instance == name("a-1")).await;

    let revision = control.route(&name("b-1"), Routing::In).unwrap();
    let config = a.told(|config| endpoints(config, "b") == ["b-1"]).await;
    assert!(config.revision >= revision);
    b.told(|config| endpoints(config, "b") == ["b-1"]).await;
    let applied = control.wait_applied(config.revision, PATIENCE).await;
    assert!(applied.is_complete(), "{applied:?}");
    assert_eq!((applied.applied, applied.subscribed), (2, 2));

    // Drain: callers first, then the instance's own proxy.
    let revision = control.route(&name("b-1"), Routing::Out).unwrap();
    let applied = control.wait_applied(revision, PATIENCE).await;
    assert_eq!((applied.applied, applied.subscribed, applied.absent.len()), (2, 2, 0));
    assert!(endpoints(&control.config(&name("a-1")).unwrap(), "b").is_empty());
    let revision = control.route(&name("b-1"), Routing::Draining).unwrap();
    let applied = control.wait_applied(revision, PATIENCE).await;
    assert_eq!((applied.applied, applied.subscribed), (1, 1), "it concerns nobody else");
    b.told(|config| config.inbound.as_ref().unwrap().draining).await;

    let error = control.route(&name("c-1"), Routing::In).unwrap_err();
    assert_eq!(error.to_string(), "there is no instance c-1");
}

#[tokio::test]
async fn who_cannot_acknowledge_is_named_and_not_waited_for() {
    let world = World::new("absent");
    let control = world.control();
    control.enter(vec![world.entry("a-1", Routing::Out), world.entry("b-1", Routing::Out)]);
    let b = world.proxy("b-1");
    control.proxy_ended(&name("a-1"));
    b.told(|_| true).await;
    control.route(&name("b-1"), Routing::In).unwrap();
    let config = b.told(|config| endpoints(config, "b") == ["b-1"]).await;
    let applied = control.wait_applied(config.revision, PATIENCE).await;
    assert_eq!((applied.applied, applied.subscribed), (1, 2));
    assert_eq!(applied.absent, [name("a-1")]);
    assert!(applied.is_complete(), "an ended process serves nothing old");

    // One that refuses is named with its reason, and goes on serving the old.
    b.end().await;
    let feed = world.feed("b-1");
    let revision = control.route(&name("b-1"), Routing::Draining).unwrap();
    let config = told(&feed, |config| config.inbound.as_ref().unwrap().draining).await;
    feed.rejected(config.revision, "no".into());
    let applied = control.wait_applied(revision, PATIENCE).await;
    assert_eq!(applied.rejected, [(name("b-1"), "no".to_owned())]);
    assert!(!applied.is_complete());
    assert_eq!(control.status().applied.absent, [name("a-1"), name("b-1")]);
}

#[tokio::test]
async fn certificates_are_renewed_before_they_end() {
    let world = World::new("renew");
    let control =
        Control::open(ControlOptions { certificate_lifetime: Duration::from_secs(2), ..world.options() })
            .unwrap();
    control.enter(vec![world.entry("a-1", Routing::Out)]);
    let proxy = world.proxy("a-1");
    let mut identities = proxy.feed.identities.clone();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let identity = tokio::time::timeout(PATIENCE, identities.wait_for(Option::is_some)).await;
        let identity = identity.unwrap().unwrap().clone().unwrap();
        assert!(SystemTime::now() < identity.not_after);
        let parsed = sinew_transport::tls::Identity::from_pem(
            &identity.chain_pem,
            &identity.key_pem,
            &identity.bundle_pem,
            0,
        )
        .unwrap();
        assert_eq!(parsed.id, control.identity(&"a".into(), &name("a-1")));
        sinew_transport::tls::Tls::new(&parsed).unwrap();
        seen.push(identity);
        identities.mark_unchanged();
        tokio::time::timeout(PATIENCE, identities.changed()).await.unwrap().unwrap();
    }
    assert!(seen[0].key_pem != seen[1].key_pem, "every certificate has a key of its own");
    assert!(seen.iter().all(|identity| identity.bundle_pem == seen[0].bundle_pem));
}

#[tokio::test]
async fn a_new_control_plane_finds_proxies_where_they_were() {
    let world = World::new("restart");
    let control = world.control();
    control.enter(vec![world.entry("a-1", Routing::Out), world.entry("b-1", Routing::Out)]);
    let (a, b) = (world.proxy("a-1"), world.proxy("b-1"));
    control.route(&name("a-1"), Routing::In).unwrap();
    control.route(&name("b-1"), Routing::In).unwrap();
    let both = |config: &ProxyConfig| endpoints(config, "a") == ["a-1"] && endpoints(config, "b") == ["b-1"];
    let before = a.told(both).await;
    b.told(both).await;
    assert!(control.wait_applied(before.revision, PATIENCE).await.is_complete());
    let certificate = a.feed.identities.borrow().clone();
    let addresses = control.hosts(&"a".into()).unwrap();

    // Gone without a word. Meanwhile nothing changes for a proxy.
    let mut changes = a.feed.configs.clone();
    changes.mark_unchanged();
    drop(control);
    let control = world.control();
    assert_eq!(control.hosts(&"a".into()).unwrap(), addresses);
    control.enter(vec![world.entry("a-1", Routing::In), world.entry("b-1", Routing::In)]);
    assert!(control.in_routing(&name("a-1")), "an adopted instance goes on serving");

    // It greets with what it serves; the revision is taken over and nothing is sent.
    let mut news = control.news();
    let same = async {
        while control.config(&name("a-1")).unwrap().revision != before.revision {
            news.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, same).await.expect("the proxy did not come back");
    assert!(!changes.has_changed().unwrap());
    assert_eq!(*a.feed.identities.borrow(), certificate);

    // And what happens from now on is newer than all before.
    let revision = control.route(&name("b-1"), Routing::Out).unwrap();
    assert!(revision > before.revision);
    a.told(|config| endpoints(config, "b").is_empty()).await;
    assert!(control.wait_applied(revision, PATIENCE).await.is_complete());
}

#[tokio::test]
async fn a_proxy_starts_with_its_last_good_state_while_the_control_plane_is_away() {
    let world = World::new("last-good");
    let control = world.control();
    control.enter(vec![world.entry("a-1", Routing::Out)]);
    let proxy = world.proxy("a-1");
    let config = proxy.told(|_| true).await;
    assert!(control.wait_applied(config.revision, PATIENCE).await.is_complete());
    let mut identities = proxy.feed.identities.clone();
    tokio::time::timeout(PATIENCE, identities.wait_for(Option::is_some)).await.unwrap().unwrap();
    let identity = identities.borrow().clone();
    drop(control);
    proxy.end().await;

    let again = world.feed("a-1");
    assert_eq!(*again.configs.borrow(), Some(config));
    assert_eq!(*again.identities.borrow(), identity);
}

/// What a proxy of `a-1` makes of its last-good state after `spoil` had it: nothing, and why.
#[track_caller]
fn check_refused(world: &World, trust: Trust, wanted: &str, spoil: impl Fn(&mut serde_json::Value)) {
    let path = world.folder.join("a-1.json");
    let good = std::fs::read(&path).unwrap();
    let mut state = serde_json::from_slice(&good).unwrap();
    spoil(&mut state);
    std::fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
    let feed = world.feed_that_trusts("a-1", trust);
    assert!(feed.configs.borrow().is_none() && feed.identities.borrow().is_none(), "{wanted}");
    let trouble = feed.troubles.borrow().clone().unwrap_or_default();
    assert!(trouble.contains(wanted), "{trouble}");
    assert!(trouble.contains("waiting for the control plane"), "{trouble}");
    std::fs::write(&path, good).unwrap();
}

#[tokio::test]
async fn a_last_good_state_that_the_control_plane_did_not_write_is_refused() {
    let world = World::new("spoilt");
    let control = world.control();
    control.enter(vec![world.entry("a-1", Routing::Out), world.entry("b-1", Routing::Out)]);
    let proxies = ["a-1", "b-1"].map(|name| (name, world.proxy(name)));
    let mut kept = Vec::new();
    for (name, proxy) in &proxies {
        let config = proxy.told(|_| true).await;
        assert!(control.wait_applied(config.revision, PATIENCE).await.is_complete());
        let mut identities = proxy.feed.identities.clone();
        tokio::time::timeout(PATIENCE, identities.wait_for(Option::is_some)).await.unwrap().unwrap();
        let text = std::fs::read(world.folder.join(format!("{name}.json"))).unwrap();
        kept.push(serde_json::from_slice::<serde_json::Value>(&text).unwrap());
    }
    for (_, proxy) in proxies {
        proxy.end().await;
    }
    let revision = control.trust(&name("a-1")).revision_min;
    assert!(revision > 0, "what it serves is known");
    drop(control);
    let trust = || world.trust(revision);
    assert!(world.feed_that_trusts("a-1", trust()).configs.borrow().is_some(), "as it is, it is believed");

    let not_signed = "is not what the control plane signed";
    check_refused(&world, trust(), not_signed, |state| {
        state["config"]["destinations"] = serde_json::json!([])
    });
    check_refused(&world, trust(), not_signed, |state| state["config"]["revision"] = 1_000.into());
    check_refused(&world, trust(), "the configuration is not signed", |state| {
        state["config_signature"] = serde_json::Value::Null;
    });
    check_refused(&world, trust(), not_signed, |state| {
        state["config_signature"] = state["identity_signature"].clone();
    });
    check_refused(&world, trust(), "it is the one of b-1", |state| *state = kept[1].clone());
    check_refused(&world, trust(), not_signed, |state| {
        for key in ["identity", "identity_signature"] {
            state[key] = kept[1][key].clone();
        }
    });
    check_refused(&world, trust(), "its key is not the one of its certificate", |state| {
        state["identity"]["key_pem"] = kept[1]["identity"]["key_pem"].clone();
    });
    check_refused(&world, trust(), not_signed, |state| {
        state["identity"]["not_after"]["secs_since_epoch"] = 4_000_000_000_u64.into();
    });
    check_refused(&world, world.trust(revision + 1), "was served already", |_| {});
    check_refused(&world, Trust::default(), not_signed, |_| {});

    // Another root: the application was forgotten, and began anew.
    let other = World::new("another-root");
    drop(other.control());
    check_refused(&world, other.trust(0), not_signed, |_| {});

    // Cut short, in every length that a torn write could leave (some of them).
    let path = world.folder.join("a-1.json");
    let good = std::fs::read(&path).unwrap();
    for length in (0..good.len()).step_by(97) {
        std::fs::write(&path, &good[..length]).unwrap();
        let feed = world.feed_that_trusts("a-1", trust());
        assert!(feed.configs.borrow().is_none() && feed.identities.borrow().is_none(), "{length}");
        let trouble = feed.troubles.borrow().clone().unwrap_or_default();
        assert!(trouble.contains("it is damaged"), "{length}: {trouble}");
    }

    // A control plane comes: everything is as always.
    let control = world.control();
    control.enter(vec![world.entry("a-1", Routing::Out)]);
    let proxy = world.proxy("a-1");
    let config = proxy.told(|_| true).await;
    assert!(control.wait_applied(config.revision, PATIENCE).await.is_complete());
    let feed = world.feed("a-1");
    assert!(feed.configs.borrow().is_some());
}

#[tokio::test]
async fn last_good_state_of_an_earlier_control_plane_gives_way() {
    let world = World::new("older");
    let control = world.control();
    control.enter(vec![world.entry("a-1", Routing::Out)]);
    let proxy = world.proxy("a-1");
    proxy.told(|_| true).await;
    for routing in [Routing::In, Routing::Out, Routing::In, Routing::Out, Routing::Draining] {
        let revision = control.route(&name("a-1"), routing).unwrap();
        assert!(control.wait_applied(revision, PATIENCE).await.is_complete());
    }
    let before = proxy.told(|config| config.inbound.as_ref().unwrap().draining).await;
    drop(control);
    proxy.end().await;

    // The new one counts from the beginning, and knows less than the file says.
    let control = world.control();
    control.enter(vec![world.entry("a-1", Routing::Out)]);
    let proxy = world.proxy("a-1");
    let config = proxy.told(|config| config.revision > before.revision).await;
    assert!(!config.inbound.as_ref().unwrap().draining);
    assert!(control.wait_applied(config.revision, PATIENCE).await.is_complete());
    assert_eq!(control.status().applied.applied, 1);
}

#[tokio::test]
async fn the_end_of_a_stream_takes_nobody_out_at_once() {
    let world = World::new("grace");
    let control = world.control();
    let all = ["a-1", "b-1", "b-2"];
    control.enter(all.iter().map(|instance| world.entry(instance, Routing::Out)).collect());
    let mut proxies: BTreeMap<&str, Proxy> = all.iter().map(|name| (*name, world.proxy(name))).collect();
    for instance in all {
        control.route(&name(instance), Routing::In).unwrap();
    }
    proxies["a-1"].told(|config| endpoints(config, "b") == ["b-1", "b-2"]).await;
    tokio::time::pause();

    let stream = |instance: &'static str| control.lease_is_away(&name(instance));
    proxies.remove("b-2").unwrap().end().await;
    until("the stream of b-2 ended", || stream("b-2")).await;
    tokio::time::advance(GRACE - Duration::from_secs(1)).await;
    assert!(control.in_routing(&name("b-2")), "within the grace");
    tokio::time::advance(Duration::from_secs(2)).await;
    until("b-2 left routing", || !control.in_routing(&name("b-2"))).await;
    tokio::time::resume();
    proxies["a-1"].told(|config| endpoints(config, "b") == ["b-1"]).await;

    // It comes back, and is chosen again.
    proxies.insert("b-2", world.proxy("b-2"));
    proxies["a-1"].told(|config| endpoints(config, "b") == ["b-1", "b-2"]).await;

    // All gone together: the cause is here rather than there, and nobody is removed.
    tokio::time::pause();
    for (_, proxy) in std::mem::take(&mut proxies) {
        proxy.end().await;
    }
    until("all streams ended", || all.iter().all(|instance| stream(instance))).await;
    tokio::time::advance(GRACE * 10).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(all.iter().all(|instance| control.in_routing(&name(instance))));
}

#[tokio::test]
async fn who_says_nothing_for_a_while_is_out_until_it_does() {
    let world = World::new("silent");
    let control = world.control();
    let all = ["a-1", "a-2", "b-1", "b-2"];
    control.enter(all.iter().map(|instance| world.entry(instance, Routing::Out)).collect());
    let proxies: BTreeMap<&str, Proxy> = all[..3].iter().map(|name| (*name, world.proxy(name))).collect();
    for instance in all {
        control.route(&name(instance), Routing::In).unwrap();
    }
    // Serves what it is told first, and is then frozen.
    let mut frozen = UnixStream::connect(world.socket("b-2")).await.unwrap();
    let hello = ProxyMessage::Hello { revision: 0, pid: 1, digest: None, alive_every_ms: 2000 };
    write_frame(&mut frozen, &hello).await.unwrap();
    let told = FrameReader::new().next(&mut frozen).await.unwrap();
    let Some(ControlMessage::Config { config, .. }) = told else { panic!("{told:?}") };
    write_frame(&mut frozen, &ProxyMessage::Applied { revision: config.revision }).await.unwrap();
    proxies["a-1"].told(|config| endpoints(config, "b") == ["b-1", "b-2"]).await;

    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    while control.in_routing(&name("b-2")) {
        assert!(
            begun.elapsed() <= GRACE + Duration::from_secs(1),
            "it is still in after {:?}",
            begun.elapsed()
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        // The others get the time to say their word.
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
        assert!(all[..3].iter().all(|instance| control.in_routing(&name(instance))));
    }
    assert!(begun.elapsed() >= GRACE - Duration::from_secs(1), "out after {:?}", begun.elapsed());
    tokio::time::resume();
    proxies["a-1"].told(|config| endpoints(config, "b") == ["b-1"]).await;

    write_frame(&mut frozen, &ProxyMessage::Alive).await.unwrap();
    proxies["a-1"].told(|config| endpoints(config, "b") == ["b-1", "b-2"]).await;
}

#[tokio::test]
async fn only_the_newest_stream_of_a_proxy_counts() {
    let world = World::new("replaced");
    let control = world.control();
    control.enter(vec![world.entry("a-1", Routing::Out)]);
    let old = world.proxy("a-1");
    old.told(|_| true).await;
    let new = world.proxy("a-1");
    let config = new.told(|_| true).await;
    assert!(control.wait_applied(config.revision, PATIENCE).await.is_complete());

    // A later life of the instance has another listener; who speaks on the old one is not heard.
    control.enter(vec![world.entry("a-1", Routing::Out)]);
    control.route(&name("a-1"), Routing::In).unwrap();
    drop((old, new));
    let next = world.proxy("a-1");
    next.told(|config| endpoints(config, "a") == ["a-1"]).await;
    control.leave(&name("a-1"));
    assert!(!control.in_routing(&name("a-1")));
    assert!(control.config(&name("a-1")).is_none());
}
