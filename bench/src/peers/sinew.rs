//! Ours: `sinew proxy --config`, in the posture that the role asks for.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Role, Side, loopback};
use crate::certificates::{CALLEE, CALLER, Certificates, NAMESPACE, TRUST_DOMAIN};

/// Of the callee's service, in the caller's configuration. Anything: it is carried in the name of the handshake.
const SERVICE_ADDRESS: &str = "198.18.0.7";

pub fn configure(role: &Role, certificates: &Certificates, folder: &Path) -> Result<Vec<String>> {
    let is_callee = role.tls == Side::Clients;
    let (service, leaf) =
        if is_callee { (CALLEE, &certificates.callee) } else { (CALLER, &certificates.caller) };
    let protocol = if role.is_tcp() { "tcp" } else { "http" };
    let mut config = json!({
        "revision": 1,
        "trust_domain": TRUST_DOMAIN,
        "namespace": NAMESPACE,
        "service": service,
        "instance": format!("{service}-1"),
        "inbound": null,
        "destinations": [],
        "egress": [],
        "published": [],
        // As for the peers: nothing binds, all is on.
        "limits": {
            "downstream_connections_max": 20_000,
            "upstream_connections_per_endpoint_max": 1024,
            "upstream_idle_per_endpoint_max": 1024,
            "upstream_pending_max": 10_000,
        },
    });
    // A build that knows of one only can be measured as well.
    if role.workers > 1 {
        config["limits"]["workers"] = role.workers.into();
    }
    let mut words = Vec::new();
    if is_callee {
        config["inbound"] = json!({"protocols": {}, "callers": [CALLER], "draining": false});
        words.extend(["--hop".to_owned(), role.listen.to_string()]);
    } else {
        let port = port_behind(role);
        let endpoints: Vec<Value> = role
            .upstreams
            .iter()
            .enumerate()
            .map(|(i, &port)| {
                let way = if role.tls == Side::Upstreams { "tcp" } else { "plain" };
                json!({"instance": format!("{CALLEE}-{}", i + 1), "hop": {way: loopback(port)}})
            })
            .collect();
        config["destinations"] = json!([{
            "service": CALLEE, "address": SERVICE_ADDRESS, "protocols": {}, "endpoints": endpoints,
        }]);
        config["published"] =
            json!([{"listen": role.listen, "service": CALLEE, "port": port, "protocol": protocol}]);
    }
    let path = folder.join(format!("sinew-{}.json", role.name()));
    fs::write(&path, serde_json::to_vec_pretty(&config)?)?;
    let mut line = vec!["proxy".to_owned()];
    for (option, path) in [
        ("--config", &path),
        ("--chain", &leaf.chain),
        ("--key", &leaf.key),
        ("--bundle", &certificates.bundle),
    ] {
        line.extend([option.to_owned(), path.display().to_string()]);
    }
    line.extend(words);
    Ok(line)
}

/// The application's port as the caller names it. Behind a callee it is where the origin listens.
fn port_behind(role: &Role) -> u16 {
    role.application.unwrap_or(role.upstreams[0])
}

pub fn server_name(port: u16) -> String {
    format!("{port}.{CALLEE}.{NAMESPACE}")
}
