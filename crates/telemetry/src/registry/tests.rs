use super::*;

const FAST: Duration = Duration::from_micros(300);

#[test]
fn a_route_keeps_its_counts_when_it_is_asked_for_again() {
    let registry = Registry::default();
    let route = registry.route(Direction::Outbound, "orders");
    let in_flight = route.begin();
    route.record(Outcome::Answered { status: 200 }, FAST);
    registry
        .route(Direction::Outbound, "orders")
        .record(Outcome::Failed { failure: Failure::Connect, status: Some(502) }, FAST);
    route.record(Outcome::Failed { failure: Failure::ClientGone, status: None }, FAST);
    route.record(Outcome::Answered { status: 503 }, FAST);
    route.record(Outcome::Answered { status: 999 }, FAST);
    let stats = registry.figures().stats();
    let orders = &stats.outbound["orders"];
    assert_eq!((orders.requests, orders.errors, orders.in_flight), (5, 3, 1));
    assert_eq!(orders.latency_us.last().map(|last| last.1), Some(5));
    drop(in_flight);
    assert_eq!(registry.figures().stats().outbound["orders"].in_flight, 0);
}

#[test]
fn labels_are_bounded_and_the_overflow_is_counted() {
    let registry = Registry::new(Cardinality { routes_max: 3, refused_destinations_max: 2 });
    for i in 0..1_000_000 / 1_000 {
        registry.route(Direction::Inbound, &i.to_string()).connections.increment();
        registry.refused(&format!("10.0.0.{i}:1/tcp"));
    }
    registry.route(Direction::Outbound, "own bound").connections.increment();
    registry.refused("10.0.0.0:1/tcp");
    let figures = registry.figures();
    assert_eq!(figures.routes.len(), 3 + 1 + 1);
    assert_eq!(figures.routes[&(Direction::Inbound, OTHER.to_owned())].connections, 997);
    assert_eq!(figures.refused.len(), 2 + 1);
    assert_eq!((figures.refused["10.0.0.0:1/tcp"], figures.refused[OTHER]), (2, 998));
    assert_eq!(figures.label_overflows, 997 + 998);
}

/// As many ports, services, destinations: what they are called is somebody else's choice.
#[test]
fn a_million_names_are_no_more_series_than_a_thousand() {
    let registry = Registry::default();
    let series = |names: std::ops::Range<u32>| {
        for name in names {
            let route = registry.route(Direction::Inbound, &format!("h{name}.example"));
            route.connections.increment();
            registry.refused(&format!("h{name}.example:1/tcp"));
        }
        let mut text = String::new();
        registry.figures().encode_prometheus(&mut text);
        (text.lines().count(), text.len())
    };
    let (lines, bytes) = series(0..1_000);
    let (lines_after, bytes_after) = series(1_000..1_000_000);
    assert_eq!(lines_after, lines);
    // Larger numbers, under the same labels.
    assert!(bytes_after < bytes + 100, "{bytes} bytes, then {bytes_after}");
    let figures = registry.figures();
    let Cardinality { routes_max, refused_destinations_max } = Cardinality::default();
    assert_eq!((figures.routes.len(), figures.refused.len()), (routes_max + 1, refused_destinations_max + 1));
    assert_eq!(figures.routes.values().map(|route| route.connections).sum::<u64>(), 1_000_000);
    assert_eq!(figures.refused.values().sum::<u64>(), 1_000_000, "all are counted");
}

#[test]
fn figures_of_workers_add_up() {
    let (a, b) = (Registry::default(), Registry::default());
    for (registry, revision) in [(&a, 4), (&b, 3)] {
        let route = registry.route(Direction::Egress, "plc:502");
        route.record(Outcome::Answered { status: 204 }, FAST);
        route.sent_bytes.add(10);
        registry.refused("x");
        registry.process.revision.set(revision);
        registry.process.connections_open.increment();
    }
    b.route(Direction::Egress, "only b").connections.increment();
    let mut sum = Figures::default();
    sum.merge(&a.figures());
    assert_eq!(sum, a.figures());
    sum.merge(&b.figures());
    let stats = sum.stats();
    assert_eq!((stats.revision, stats.connections_open, stats.refused["x"]), (3, 2, 2));
    assert_eq!(sum.connections_of_workers, [1, 1]);
    assert_eq!((stats.egress["plc:502"].requests, stats.egress["only b"].connections), (2, 1));
    assert_eq!(sum.routes[&(Direction::Egress, "plc:502".to_owned())].sent_bytes, 20);
}

#[test]
fn every_failure_has_its_own_place() {
    for (i, failure) in Failure::ALL.into_iter().enumerate() {
        assert_eq!(failure as usize, i);
    }
}

#[test]
fn a_gauge_never_wraps() {
    let gauge = Gauge::default();
    gauge.decrement();
    assert_eq!(gauge.get(), 0);
}

#[test]
fn what_is_only_counted_has_no_latency() {
    let registry = Registry::default();
    let route = registry.route(Direction::Inbound, "8000");
    route.count(Outcome::Failed { failure: Failure::Connect, status: None });
    let stats = registry.figures().stats();
    assert_eq!((stats.inbound["8000"].requests, stats.inbound["8000"].errors), (1, 1));
    assert!(stats.inbound["8000"].latency_us.is_empty());
}
