use super::*;
use crate::{Direction, Outcome, Registry};

fn stats(count: usize, latency_ms: u64) -> RouteStats {
    let registry = Registry::default();
    let route = registry.route(Direction::Outbound, "a");
    for i in 0..count {
        let status = if i % 10 == 0 { 503 } else { 200 };
        route.record(Outcome::Answered { status }, Duration::from_millis(latency_ms));
        route.connections.increment();
    }
    registry.figures().stats().outbound["a"].clone()
}

fn check(readings: &[(RouteStats, Option<RouteStats>)], requests: u64, errors: u64, p50_ms: Option<f64>) {
    let mut window = Window::default();
    for (now, before) in readings {
        window.add(now, before.as_ref());
    }
    let status = window.status(Duration::from_secs(10));
    assert_eq!((status.requests, status.errors, status.connections), (requests, errors, requests));
    assert_eq!(status.requests_per_second, requests as f64 / 10.0);
    match (status.p50_ms, p50_ms) {
        (Some(found), Some(truth)) => assert!((found / truth - 1.0).abs() < 0.07, "{found} for {truth}"),
        (found, truth) => assert_eq!(found, truth),
    }
}

#[test]
fn a_window_is_what_came_in_between_at_all_callers() {
    check(&[], 0, 0, None);
    check(&[(stats(100, 5), None)], 100, 10, Some(5.0));
    check(&[(stats(100, 5), Some(stats(60, 5)))], 40, 4, Some(5.0));
    check(&[(stats(100, 5), Some(stats(100, 5)))], 0, 0, None);
    check(&[(stats(100, 5), Some(stats(60, 5))), (stats(300, 80), None)], 340, 34, Some(80.0));
}

#[test]
fn a_restarted_proxy_counts_from_zero() {
    check(&[(stats(30, 5), Some(stats(100, 5)))], 30, 3, Some(5.0));
}

#[test]
fn no_time_is_no_rate() {
    assert_eq!(Window::default().status(Duration::ZERO), TrafficStatus::default());
}
