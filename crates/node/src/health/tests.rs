use super::*;

const MS: Duration = Duration::from_millis(1);

fn check_every_second() -> HealthCheck {
    HealthCheck {
        probe: Probe::Tcp { port: 8000 },
        interval_ms: 1_000,
        timeout_ms: 500,
        retries: 3,
        start_period_ms: 2_000,
        start_interval_ms: 5_000,
    }
}

/// Plays answers (`.` healthy, `x` not), each given at once; the judgement after each (`s`, `h`, `u`) and the whole time.
#[track_caller]
fn check(declared: bool, answers: &str, expect: &str, expect_ms: u128) {
    let start = Instant::now();
    let mut now = start;
    let mut tracker = Tracker::new(check_every_second(), declared, start);
    let mut judged = String::new();
    for answer in answers.chars() {
        let Some(next) = tracker.next() else { break };
        now = next;
        tracker.record(answer == '.', now, now);
        judged.push(match tracker.health() {
            Health::Starting => 's',
            Health::Healthy => 'h',
            Health::Unhealthy => 'u',
            Health::None => '-',
        });
    }
    assert_eq!(judged, expect);
    assert_eq!((now - start).as_millis(), expect_ms);
}

#[test]
fn until_the_first_success_every_100_ms_then_as_said() {
    check(true, "xxx.", "sssh", 300);
    check(true, "...", "hhh", 2_000);
}

#[test]
fn unhealthy_after_retries_and_healthy_again_at_once() {
    check(true, ".xx.", "hhhh", 3_000);
    check(true, ".xxx", "hhhu", 3_000);
    // Found healthy again within 100 ms: it is out of routing all that time.
    check(true, ".xxx.", "hhhuh", 3_100);
}

#[test]
fn probing_more_often_at_the_start_is_no_reason_to_give_up_earlier() {
    // Start period 2 s, then three intervals of 1 s.
    check(true, &"x".repeat(51), &format!("{}u", "s".repeat(50)), 5_000);
}

#[test]
fn the_implicit_check_asks_until_the_first_success_only() {
    check(false, "xx.xxx", "ssh", 200);
}

#[test]
fn a_slow_probe_is_followed_at_once_by_the_next() {
    let start = Instant::now();
    let mut tracker = Tracker::new(check_every_second(), true, start);
    tracker.record(false, start, start + 500 * MS);
    assert_eq!(tracker.next(), Some(start + 500 * MS));
}

#[track_caller]
fn check_implicit(fill: impl FnOnce(&mut Service), expect: Option<u16>) {
    let mut service = Service::new("orders", vec!["true".into()]);
    fill(&mut service);
    let port = check_of(&service).map(|check| match check.probe {
        Probe::Tcp { port } => port,
        other => panic!("{other:?}"),
    });
    assert_eq!(port, expect);
}

#[test]
fn the_implicit_check_is_of_the_first_port_that_is_known() {
    use sinew_spec::application::{Protocol, PublishedPort};
    check_implicit(|_| {}, None);
    check_implicit(|service| service.expose.extend([9000, 8000]), Some(8000));
    check_implicit(
        |service| {
            service.protocols.insert(1883, Protocol::Tcp);
        },
        Some(1883),
    );
    check_implicit(
        |service| {
            let host = std::net::Ipv4Addr::LOCALHOST.into();
            service.expose.insert(1);
            service.published.push(PublishedPort { host, published: None, target: 7000, protocol: None });
        },
        Some(7000),
    );
}
