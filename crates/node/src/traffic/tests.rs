use super::*;

fn stats(requests: u64, slow: u64) -> ProxyStats {
    let latency_us = vec![(1_000, requests - slow), (50_000, requests)];
    let route = RouteStats { requests, latency_us, ..RouteStats::default() };
    ProxyStats { outbound: BTreeMap::from([("stock".to_owned(), route)]), ..ProxyStats::default() }
}

/// Samples of one caller's proxy: second, requests so far, slow ones among them. What is shown at the end.
#[track_caller]
fn check(samples: &[(u64, u64, u64)], expect: (u64, f64, Option<f64>)) {
    let start = Instant::now();
    let mut traffic = Traffic::default();
    for (second, requests, slow) in samples {
        let now = start + Duration::from_secs(*second);
        traffic.sample(now, BTreeMap::from([("orders-1".into(), stats(*requests, *slow))]));
    }
    let found = traffic.of(&"stock".into());
    assert_eq!((found.requests, found.requests_per_second, found.p99_ms), expect);
}

#[test]
fn the_window_is_ten_seconds() {
    let every_second: Vec<(u64, u64, u64)> = (0..30).map(|second| (second, second * 100, 0)).collect();
    check(&every_second, (1_000, 100.0, Some(1.0)));
}

#[test]
fn one_slow_request_in_fifty_is_the_ninety_ninth_part() {
    check(&[(0, 0, 0), (1, 50, 1)], (50, 50.0, Some(50.0)));
}

#[test]
fn a_proxy_that_starts_again_counts_on() {
    check(&[(0, 0, 0), (1, 100, 0), (2, 40, 0)], (140, 70.0, Some(1.0)));
}

#[test]
fn nobody_asked_means_nothing_to_show() {
    check(&[], (0, 0.0, None));
}

#[test]
fn refusals_of_all_instances_are_summed_and_sorted() {
    let refused = |count| ProxyStats {
        refused: BTreeMap::from([("10.0.0.7:502/tcp".to_owned(), count), ("10.0.0.8:1/tcp".to_owned(), 1)]),
        ..ProxyStats::default()
    };
    let mut traffic = Traffic::default();
    let names: Vec<InstanceName> = vec!["orders-1".into(), "orders-2".into()];
    let all = BTreeMap::from([(names[0].clone(), refused(1)), (names[1].clone(), refused(4))]);
    traffic.sample(Instant::now(), all);
    let found = traffic.refused(names.iter());
    let found: Vec<(&str, u64)> = found.iter().map(|r| (r.destination.as_str(), r.count)).collect();
    assert_eq!(found, [("10.0.0.7:502/tcp", 5), ("10.0.0.8:1/tcp", 2)]);
}
