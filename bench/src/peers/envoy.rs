use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Role, Side};
use crate::certificates::{Certificates, Leaf, SERVER_NAME};

const TYPES: &str = "type.googleapis.com/envoy.extensions";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// No bound of the peers binds.
const MANY: u32 = 100_000;

pub fn configure(role: &Role, certificates: &Certificates, folder: &Path) -> Result<Vec<String>> {
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let endpoints: Vec<Value> =
        role.upstreams.iter().map(|&port| json!({"endpoint": {"address": address(port)}})).collect();
    let mut cluster = json!({
        "name": "c", "type": "STATIC", "lb_policy": "LEAST_REQUEST", "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [
            {"max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY}]},
        "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": endpoints}]},
    });
    if role.is_http2() {
        cluster["typed_extension_protocol_options"] = json!({HTTP_OPTIONS: {
            "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
            "explicit_http_config": {"http2_protocol_options": {}}}});
    }
    if role.tls == Side::Upstreams {
        cluster["transport_socket"] = tls("UpstreamTlsContext", certificates, &certificates.caller);
    }
    let filter = if role.is_tcp() { tcp_filter() } else { http_filter() };
    let mut chain = json!({"filters": [filter]});
    if role.tls == Side::Clients {
        chain["transport_socket"] = tls("DownstreamTlsContext", certificates, &certificates.callee);
    }
    let config = json!({"static_resources": {
        "listeners": [{"name": "l", "address": address(role.listen.port()), "filter_chains": [chain]}],
        "clusters": [cluster],
    }});
    let path = folder.join(format!("envoy-{}.json", role.name()));
    fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    let (path, workers) = (path.display().to_string(), role.workers.to_string());
    let words = ["-c", &path, "--concurrency", &workers, "-l", "error", "--disable-hot-restart"];
    Ok(words.map(str::to_owned).to_vec())
}

fn tls(context: &str, certificates: &Certificates, leaf: &Leaf) -> Value {
    let common = json!({
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
            "ecdh_curves": ["X25519"]},
        "tls_certificates": [{"certificate_chain": {"filename": leaf.chain},
            "private_key": {"filename": leaf.key}}],
        "validation_context": {"trusted_ca": {"filename": certificates.bundle}},
    });
    let mut config =
        json!({"@type": format!("{TYPES}.transport_sockets.tls.v3.{context}"), "common_tls_context": common});
    match context {
        "UpstreamTlsContext" => config["sni"] = json!(SERVER_NAME),
        _ => config["require_client_certificate"] = json!(true),
    }
    json!({"name": "envoy.transport_sockets.tls", "typed_config": config})
}

fn tcp_filter() -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"), "stat_prefix": "t", "cluster": "c"}})
}

fn http_filter() -> Value {
    let routes: Vec<Value> = (0..10)
        .map(|i| json!({"match": {"prefix": format!("/api/v{i}/")}, "route": {"cluster": "c", "timeout": "300s"}}))
        .collect();
    let hosts: Vec<Value> = (0..10)
        .map(|i| {
            json!({"name": format!("h{i}"), "routes": routes,
                "domains": [format!("svc{i}.example.com"), format!("svc{i}.example.com:*")]})
        })
        .collect();
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "h", "codec_type": "AUTO", "http2_protocol_options": {"max_concurrent_streams": 1024},
        "route_config": {"virtual_hosts": hosts, "request_headers_to_add": [{"header":
            {"key": "traceparent", "value": "00-%REQ(x-request-id)%-b7ad6b7169203331-01"}}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config":
            {"@type": format!("{TYPES}.filters.http.router.v3.Router")}}]}})
}
