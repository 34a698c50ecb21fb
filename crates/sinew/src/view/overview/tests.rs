use super::*;
use crate::view::sample;

#[test]
fn explains_what_is_wrong_in_words() {
    let last = BTreeMap::from([(InstanceName::from("orders-2"), "database is \x1b[2Jlocked".to_owned())]);
    let shown = render(&sample::shop(), &last, &Terminal::plain(), sample::NOW);
    let expected = "\
shop  2 of 4 services as wanted, revision 7 on 3/4 proxies
/srv/shop
memory: services 144 MiB, sidecars 9.00 MiB, seals 1.50 MiB, control plane and launcher 14.5 MiB

SERVICE  INSTANCES  HEALTH       RESTARTS  REQ/S      P50      P99  ERRORS  CONNS  REFUSED    MEMORY
db             1/1  healthy             0                                       6           48.0 MiB
orders         2/2  1 unhealthy         2    120  1.20 ms  14.0 ms    0.2%     40       11  96.0 MiB
billing        0/1  waiting             0
migrate        0/1  completed           0

x orders-2 is unhealthy, started 40s ago, restarted 2 times: HTTP 503 from :8000/health
  last log line: database is locked
  see `sinew logs orders`
! orders was refused 11 calls outside the mesh: 10.0.0.7:502/tcp (10x), 1.1.1.1:443/tcp (1x)
  allow it, if it is meant: `x-sinew: { egress: [\"10.0.0.7:502/tcp\"] }`
… billing waits for orders (healthy)
… revision 7 is not applied yet by orders-2

127.0.0.1:8080 -> orders:8000
";
    assert_eq!(shown, expected);
}

#[test]
fn names_proxies_of_another_build() {
    let mut status = sample::shop();
    status.services.clear();
    status.absent.clear();
    let why = "the new one ended: error: no such file";
    status.outdated = [("orders-1", why), ("orders-2", why), ("db-1", "")]
        .map(|(name, why)| (name.into(), why.to_owned()))
        .into();
    let shown = render(&status, &BTreeMap::new(), &Terminal::plain(), sample::NOW);
    let expected = "! the proxy of orders-1, orders-2 still runs another build of sinew
  the new one ended: error: no such file
  a build that works takes over with `sinew up -d`
… a proxy of this build takes the place of the one of db-1
";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn says_little_when_all_is_well() {
    let mut status = sample::shop();
    status.services.truncate(1);
    status.published.clear();
    status.absent.clear();
    status.memory_bytes = None;
    status.applied = 4;
    let shown = render(&status, &BTreeMap::new(), &Terminal::plain(), sample::NOW);
    assert_eq!(
        shown,
        "shop  all 1 service as wanted, revision 7 on 4/4 proxies\n/srv/shop\n\n\
         SERVICE  INSTANCES  HEALTH   RESTARTS  CONNS    MEMORY\n\
         db             1/1  healthy         0      6  48.0 MiB\n"
    );
}

#[test]
fn the_bound_on_processes_is_told_when_it_is_met() {
    let shown = |processes| {
        let mut status = sample::shop();
        status.services[0].instances[0].processes = Some(processes);
        render(&status, &BTreeMap::new(), &Terminal::plain(), sample::NOW)
    };
    let words = "! db-1 has all the processes it may have: 2048\n  more are refused; raise it with `pids_limit`, if they are meant\n";
    assert!(shown(2047).contains(words), "{}", shown(2047));
    assert!(!shown(2046).contains("! db-1"));
}

#[test]
fn calls_to_loopback_are_explained() {
    let mut status = sample::shop();
    status.services[0].loopback_only = BTreeMap::from([(9229, 3), (9230, 1)]);
    let shown = render(&status, &BTreeMap::new(), &Terminal::plain(), sample::NOW);
    let words = "! db listens on loopback only, and calls were refused: port 9229 (3x), port 9230 (1x)\n  let others call it, if it is meant: listen on 0.0.0.0, or `expose: [9229]`\n";
    assert!(shown.contains(words), "{shown}");
}

#[test]
fn exit_codes_are_explained() {
    let mut status = sample::shop();
    status.services.truncate(1);
    let instance = &mut status.services[0].instances[0];
    (instance.state, instance.exit_code, instance.restarts) = (InstanceState::Backoff, Some(137), 4);
    let shown = render(&status, &BTreeMap::new(), &Terminal::plain(), sample::NOW);
    assert!(shown.contains(
        "x db-1 keeps ending with exit code 137 (SIGKILL: killed, or out of memory), restarted 4 times\n"
    ));
    assert!(shown.contains("db             0/1  crashing"), "{shown}");
}

#[test]
fn the_head_line_is_true() {
    let check = |change: fn(&mut ApplicationStatus), expected: &str| {
        let mut status = sample::shop();
        status.services.truncate(2);
        status.services[1].instances[1].health = Health::Healthy;
        change(&mut status);
        assert_eq!(verdict(&status, &Terminal::plain()), expected);
    };
    check(|_| {}, "all 2 services as wanted");
    check(
        |status| {
            status.services[1].wanted = 0;
            status.services[1].instances.clear();
        },
        "1 of 2 services as wanted, 1 stopped",
    );
    check(
        |status| {
            status.services[1].wanted = 1;
            status.services[1].instances[0].state = InstanceState::Stopped;
        },
        "all 2 services as wanted, 1 instance stopped",
    );
    check(
        |status| status.published[0].waits_for = Some("nobody listens on port 8000 of orders".to_owned()),
        "all 2 services as wanted, 1 published port without service",
    );
}

#[test]
fn a_port_that_nobody_listens_on_has_its_reason() {
    let mut status = sample::shop();
    status.published[0].waits_for = Some("nobody listens on port 8000 of orders".to_owned());
    let shown = render(&status, &BTreeMap::new(), &Terminal::plain(), sample::NOW);
    assert!(
        shown.ends_with("127.0.0.1:8080 -> orders:8000  nobody listens on port 8000 of orders\n"),
        "{shown}"
    );
}

#[test]
fn a_proxy_that_died_lately_is_told() {
    let mut status = sample::shop();
    status.services.truncate(1);
    let how = "was killed by signal 9, perhaps by the kernel for memory".to_owned();
    let lost = |ago_ms, times| ProxyLost { times, unix_ms: sample::NOW - ago_ms, how: how.clone() };
    status.proxies_lost =
        [("db-1".into(), lost(3_000, 2)), ("_gateway-1".into(), lost(LOST_SHOWN_MS, 1))].into();
    let shown = render(&status, &BTreeMap::new(), &Terminal::plain(), sample::NOW);
    let line = format!("! the proxy of db-1 {how}, 3s ago (2 times so far); another one was started\n");
    assert!(shown.contains(&line), "{shown}");
    assert!(!shown.contains("_gateway-1"), "told for an hour: {shown}");
}
