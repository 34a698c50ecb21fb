//! Prometheus text exposition (version 0.0.4), and the page that lists what is in it. Both are written from one table.

use std::fmt::Write;

use crate::histogram::upper_bound_us;
use crate::registry::{
    Direction, Failure, Figures, GRPC_STATUSES, HTTP2_CODES, RouteFigures, STATUS_CLASSES,
};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One metric family.
struct Family {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    values: Values,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

enum Values {
    /// Per route.
    Route(fn(&RouteFigures) -> u64),
    /// Per route and the value of a third label; zeros are left out.
    Split(&'static [&'static str], fn(&RouteFigures) -> &[u64]),
    Latency,
    Refused,
    /// Per value of one label; zeros are left out.
    Codes(&'static [&'static str], fn(&Figures) -> &[u64]),
    /// Of each worker.
    Workers(fn(&Figures) -> &[u64]),
    Process(fn(&Figures) -> u64),
}

const ROUTE: &[&str] = &["direction", "route"];

const FAILURE_REASONS: [&str; Failure::ALL.len()] = {
    let mut reasons = [""; Failure::ALL.len()];
    let mut i = 0;
    while i < reasons.len() {
        reasons[i] = Failure::ALL[i].as_str();
        i += 1;
    }
    reasons
};

const FAMILIES: &[Family] = &[
    Family {
        name: "sinew_requests_total",
        kind: Kind::Counter,
        labels: &["direction", "route", "status"],
        help: "Requests that are over, by class of the status that the client was told; none: it was told nothing.",
        values: Values::Split(&STATUS_CLASSES, |route| &route.requests),
    },
    Family {
        name: "sinew_request_failures_total",
        kind: Kind::Counter,
        labels: &["direction", "route", "reason"],
        help: "Requests without a whole answer of the upstream's, by reason.",
        values: Values::Split(&FAILURE_REASONS, |route| &route.failures),
    },
    Family {
        name: "sinew_grpc_calls_total",
        kind: Kind::Counter,
        labels: &["direction", "route", "grpc_status"],
        help: "gRPC calls that are over, by the status that the client was told, or makes of what it was told.",
        values: Values::Split(&GRPC_STATUSES, |route| &route.grpc),
    },
    Family {
        name: "sinew_request_duration_seconds",
        kind: Kind::Histogram,
        labels: ROUTE,
        help: "Time from a request's head to the last byte of its answer.",
        values: Values::Latency,
    },
    Family {
        name: "sinew_requests_in_flight",
        kind: Kind::Gauge,
        labels: ROUTE,
        help: "Requests that have begun and are not over.",
        values: Values::Route(|route| route.in_flight),
    },
    Family {
        name: "sinew_request_retries_total",
        kind: Kind::Counter,
        labels: ROUTE,
        help: "Requests that were sent to another endpoint after one could not take them.",
        values: Values::Route(|route| route.retries),
    },
    Family {
        name: "sinew_endpoint_ejections_total",
        kind: Kind::Counter,
        labels: ROUTE,
        help: "Times that an endpoint was left out for a while, as it did not answer.",
        values: Values::Route(|route| route.endpoints_ejected),
    },
    Family {
        name: "sinew_endpoints_ejected",
        kind: Kind::Gauge,
        labels: ROUTE,
        help: "Endpoints that are left out now.",
        values: Values::Route(|route| route.endpoints_out),
    },
    Family {
        name: "sinew_connections_total",
        kind: Kind::Counter,
        labels: ROUTE,
        help: "Connections of clients that were served, TCP included.",
        values: Values::Route(|route| route.connections),
    },
    Family {
        name: "sinew_connections_open",
        kind: Kind::Gauge,
        labels: ROUTE,
        help: "Connections of clients that are being served by the route.",
        values: Values::Route(|route| route.connections_open),
    },
    Family {
        name: "sinew_sent_bytes_total",
        kind: Kind::Counter,
        labels: ROUTE,
        help: "Payload from clients to the upstream.",
        values: Values::Route(|route| route.sent_bytes),
    },
    Family {
        name: "sinew_received_bytes_total",
        kind: Kind::Counter,
        labels: ROUTE,
        help: "Payload from the upstream to clients.",
        values: Values::Route(|route| route.received_bytes),
    },
    Family {
        name: "sinew_egress_refused_total",
        kind: Kind::Counter,
        labels: &["destination"],
        help: "Attempts of the service to reach what is neither in the mesh nor declared.",
        values: Values::Refused,
    },
    Family {
        name: "sinew_client_connections_open",
        kind: Kind::Gauge,
        labels: &[],
        help: "Open connections of clients, of all routes and of none.",
        values: Values::Process(|figures| figures.connections_open),
    },
    Family {
        name: "sinew_worker_connections_open",
        kind: Kind::Gauge,
        labels: &["worker"],
        help: "Open connections of clients, of each worker.",
        values: Values::Workers(|figures| &figures.connections_of_workers),
    },
    Family {
        name: "sinew_client_connections_shed_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Connections of clients that were closed at once because there were too many, or no memory for one more.",
        values: Values::Process(|figures| figures.connections_shed),
    },
    Family {
        name: "sinew_requests_shed_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Requests, TCP connections and flows that were refused or given up because memory was short.",
        values: Values::Process(|figures| figures.requests_shed),
    },
    Family {
        name: "sinew_memory_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Memory that the process has asked of its allocator and not given back, once a second.",
        values: Values::Process(|figures| figures.memory_bytes),
    },
    Family {
        name: "sinew_memory_max_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "The budget that requests and connections are shed above.",
        values: Values::Process(|figures| figures.memory_max_bytes),
    },
    Family {
        name: "sinew_handshakes_failed_total",
        kind: Kind::Counter,
        labels: &[],
        help: "TLS handshakes that failed, of clients.",
        values: Values::Process(|figures| figures.handshakes_failed),
    },
    Family {
        name: "sinew_proxy_headers_rejected_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Connections to published ports whose header of the PROXY protocol was malformed, late or missing.",
        values: Values::Process(|figures| figures.proxy_headers_rejected),
    },
    Family {
        name: "sinew_http2_connections_failed_total",
        kind: Kind::Counter,
        labels: &["code"],
        help: "HTTP/2 connections of clients that the proxy ended for what the client did (floods, broken rules, silence), by the code of its GOAWAY.",
        values: Values::Codes(&HTTP2_CODES, |figures| &figures.http2_ended),
    },
    Family {
        name: "sinew_label_overflows_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Times that something was counted under _other because there were too many labels.",
        values: Values::Process(|figures| figures.label_overflows),
    },
    Family {
        name: "sinew_config_revision",
        kind: Kind::Gauge,
        labels: &[],
        help: "Revision of the configuration that requests meet.",
        values: Values::Process(|figures| figures.revision),
    },
    Family {
        name: "sinew_certificate_end_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Unix time at which the certificate of the proxy ends.",
        values: Values::Process(|figures| figures.certificate_end_unix_seconds),
    },
];

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Figures {
    /// Appends all families to `out`. A family without a value is left out.
    pub fn encode_prometheus(&self, out: &mut String) {
        for family in FAMILIES {
            let begin = out.len();
            let _ = writeln!(out, "# HELP {} {}", family.name, family.help);
            let _ = writeln!(out, "# TYPE {} {}", family.name, family.kind.as_str());
            let head_end = out.len();
            self.encode_family(family, out);
            if out.len() == head_end {
                out.truncate(begin);
            }
        }
    }

    fn encode_family(&self, family: &Family, out: &mut String) {
        let name = family.name;
        match &family.values {
            Values::Process(value) => push_sample(out, name, &[], value(self)),
            Values::Workers(values) => {
                for (i, value) in values(self).iter().enumerate() {
                    push_sample(out, name, &[("worker", &(i + 1).to_string())], *value);
                }
            }
            Values::Codes(names, values) => {
                for (value, count) in names.iter().zip(values(self)).filter(|(_, count)| **count > 0) {
                    push_sample(out, name, &[(family.labels[0], value)], *count);
                }
            }
            Values::Refused => {
                for (destination, count) in &self.refused {
                    push_sample(out, name, &[("destination", destination)], *count);
                }
            }
            Values::Route(value) => {
                for ((direction, route), figures) in &self.routes {
                    push_sample(out, name, &labels(*direction, route), value(figures));
                }
            }
            Values::Split(names, values) => {
                for ((direction, route), figures) in &self.routes {
                    let [first, second] = labels(*direction, route);
                    for (value, count) in names.iter().zip(values(figures)).filter(|(_, count)| **count > 0) {
                        push_sample(out, name, &[first, second, (family.labels[2], value)], *count);
                    }
                }
            }
            Values::Latency => {
                for ((direction, route), figures) in &self.routes {
                    push_histogram(out, name, labels(*direction, route), figures);
                }
            }
        }
    }
}

fn labels(direction: Direction, route: &str) -> [(&'static str, &str); 2] {
    [("direction", direction.as_str()), ("route", route)]
}

/// Every fourth bound: two to each power of two is what a chart needs, and keeps a page of many routes short.
fn push_histogram(out: &mut String, name: &str, [first, second]: [(&str, &str); 2], figures: &RouteFigures) {
    let total: u64 = figures.latency_counts.iter().sum();
    if total == 0 {
        return;
    }
    let mut below = 0;
    for (i, count) in figures.latency_counts.iter().enumerate() {
        below += count;
        let bound = upper_bound_us(i);
        if i % 4 == 0 && bound != u64::MAX {
            let bound = (bound as f64 / 1e6).to_string();
            push_sample(out, &format!("{name}_bucket"), &[first, second, ("le", &bound)], below);
        }
    }
    push_sample(out, &format!("{name}_bucket"), &[first, second, ("le", "+Inf")], total);
    push_series(out, &format!("{name}_sum"), &[first, second]);
    let _ = writeln!(out, " {}", figures.latency_sum_us as f64 / 1e6);
    push_sample(out, &format!("{name}_count"), &[first, second], total);
}

fn push_sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    push_series(out, name, labels);
    let _ = writeln!(out, " {value}");
}

fn push_series(out: &mut String, name: &str, labels: &[(&str, &str)]) {
    out.push_str(name);
    let mut separator = '{';
    for (label, value) in labels {
        out.push(separator);
        out.push_str(label);
        out.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
        out.push('"');
        separator = ',';
    }
    if !labels.is_empty() {
        out.push('}');
    }
}

/// `docs/metrics.md`.
pub fn document() -> String {
    let mut out = String::from(
        "# Metrics of a proxy\n\nWritten by a test from the table in `crates/telemetry/src/prometheus.rs`.\n\n\
         Every sidecar and gateway serves them as Prometheus text at `/metrics` on its admin socket. A family\n\
         appears when it has a value. `direction` is `inbound` (to the proxy's own service; `route` is the port),\n\
         `outbound` (to another service; `route` is its name) or `egress` (out of the mesh; `route` is the destination\n\
         as declared). Labels are bounded: what exceeds the bound is counted under `_other`.\n\n\
         The admin socket is `i/INSTANCE/admin.sock` in the run folder of the application ([operations.md](operations.md));\n\
         the gateway's instance is `_gateway-1`. Only the user who runs the application, and root, may connect:\n\n\
         ```\n$ curl --unix-socket /run/sinew/shop/i/orders-1/admin.sock http://sinew/metrics\n```\n\n\
         Prometheus does not scrape Unix sockets: let a small server of that user pass each one on (`socat\n\
         TCP-LISTEN:9464,bind=127.0.0.1,fork UNIX-CONNECT:/run/sinew/shop/i/orders-1/admin.sock`), or let a timer write what curl\n\
         says into the folder of the node exporter's textfile collector. Beside `/metrics` there are `/stats.json` (what\n\
         `sinew status` adds up), `/config` (the configuration that is served) and `/ready` (200 when one is).\n\n\
         | name | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for family in FAMILIES {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = family.kind.as_str();
        let _ = writeln!(out, "| `{}` | {kind} | {} | {} |", family.name, labels.join(", "), family.help);
    }
    let code = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "\nValues of `status`: {}.", code(&STATUS_CLASSES));
    let _ = writeln!(out, "\nValues of `grpc_status`: {}.", code(&GRPC_STATUSES));
    let _ = writeln!(out, "\nValues of `code`: {}.", code(&HTTP2_CODES[1..]));
    let _ = writeln!(out, "\nValues of `reason`: {}.", code(&FAILURE_REASONS));
    out
}

#[cfg(test)]
mod tests;
