//! broker: MQTT 3.1.1 on port 8000, by rumqttd. Messages live in memory, within bounds; what a crash of the broker
//! loses is fetched again from the devices by the adapter.

use std::process::ExitCode;

use common::{log, setting, stopped};
use rumqttd::{Broker, Config};
use serde_json::json;

fn main() -> ExitCode {
    let listen = setting("LISTEN", "0.0.0.0:8000");
    let config: Config = match serde_json::from_value(json!({
        "id": 0,
        "router": {
            "id": 0,
            "max_connections": 64,
            "max_outgoing_packet_count": 100,
            // Per topic filter: 8 x 256 KiB, minutes of telemetry for an adapter that is away.
            "max_segment_size": 256 * 1024,
            "max_segment_count": 8,
        },
        "v4": { "mqtt": {
            "name": "mqtt",
            "listen": listen,
            "next_connection_delay_ms": 1,
            "connections": {
                "connection_timeout_ms": 5000,
                "max_payload_size": 4096,
                "max_inflight_count": 100,
                "dynamic_filters": true,
            },
        } },
    })) {
        Ok(config) => config,
        Err(error) => {
            log("misconfigured", None, json!({ "error": error.to_string() }));
            return ExitCode::from(2);
        }
    };

    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(stopped());
            log("stopped", None, json!({}));
            std::process::exit(0);
        }
    });
    log("listening", None, json!({ "listen": listen }));
    // Serves until the process ends; returns when it could not listen.
    let result = Broker::new(config).start();
    log("failed", None, json!({ "error": format!("could not serve on {listen}: {result:?}") }));
    ExitCode::FAILURE
}
