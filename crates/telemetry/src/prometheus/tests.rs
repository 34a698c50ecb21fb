use std::time::Duration;

use super::*;
use crate::{Outcome, Registry};

fn check(registry: &Registry, expect: &[&str]) {
    let mut text = String::new();
    registry.figures().encode_prometheus(&mut text);
    for line in expect {
        assert!(text.lines().any(|found| found == *line), "{line} is not in\n{text}");
    }
    check_format(&text);
}

/// Each sample follows its family's head, each series appears once, buckets never fall.
fn check_format(text: &str) {
    let mut family = "";
    let mut series = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().expect("a name");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(name.starts_with(family), "{line} under {family}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(series.insert(name.to_owned()), "twice: {name}");
    }
}

#[test]
fn counts_are_shown() {
    let registry = Registry::default();
    let route = registry.route(Direction::Outbound, "orders");
    route.record(Outcome::Answered { status: 200 }, Duration::from_micros(100));
    route.record(Outcome::Answered { status: 200 }, Duration::from_millis(100));
    route
        .record(Outcome::Failed { failure: Failure::NoEndpoint, status: Some(503) }, Duration::from_secs(90));
    registry.process.revision.set(7);
    check(
        &registry,
        &[
            "# TYPE sinew_requests_total counter",
            "sinew_requests_total{direction=\"outbound\",route=\"orders\",status=\"2xx\"} 2",
            "sinew_requests_total{direction=\"outbound\",route=\"orders\",status=\"5xx\"} 1",
            "sinew_request_failures_total{direction=\"outbound\",route=\"orders\",reason=\"no_endpoint\"} 1",
            "# TYPE sinew_request_duration_seconds histogram",
            "sinew_request_duration_seconds_bucket{direction=\"outbound\",route=\"orders\",le=\"0.000096\"} 0",
            "sinew_request_duration_seconds_bucket{direction=\"outbound\",route=\"orders\",le=\"0.000128\"} 1",
            "sinew_request_duration_seconds_bucket{direction=\"outbound\",route=\"orders\",le=\"67.108864\"} 2",
            "sinew_request_duration_seconds_bucket{direction=\"outbound\",route=\"orders\",le=\"+Inf\"} 3",
            "sinew_request_duration_seconds_sum{direction=\"outbound\",route=\"orders\"} 90.1001",
            "sinew_request_duration_seconds_count{direction=\"outbound\",route=\"orders\"} 3",
            "sinew_config_revision 7",
        ],
    );
}

#[test]
fn labels_are_escaped() {
    let registry = Registry::default();
    registry.refused("a\"b\\c\nd");
    check(&registry, &["sinew_egress_refused_total{destination=\"a\\\"b\\\\c\\nd\"} 1"]);
}

#[test]
fn an_empty_registry_has_no_empty_family() {
    let registry = Registry::default();
    check(&registry, &["sinew_client_connections_open 0"]);
    let mut text = String::new();
    registry.figures().encode_prometheus(&mut text);
    assert!(!text.contains("sinew_requests_total"), "{text}");
}

/// `docs/metrics.md` is written from the table: `SINEW_UPDATE_DOCS=1 cargo test -p sinew-telemetry docs` writes it
/// anew.
#[test]
fn docs_are_those_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let now = document();
    if std::env::var_os("SINEW_UPDATE_DOCS").is_some() {
        std::fs::write(path, &now).expect("docs/metrics.md can be written");
    }
    let kept = std::fs::read_to_string(path).expect("docs/metrics.md exists");
    assert!(kept == now, "docs/metrics.md is old: run the tests with SINEW_UPDATE_DOCS=1 and commit it");
}
