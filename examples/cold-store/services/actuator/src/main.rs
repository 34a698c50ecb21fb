//! actuator: what compressors and motors are told to do. The rules write commands (with the token that is a secret of
//! the two), the devices read them twice a second. Writing the same command twice changes nothing.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use common::{log, setting, stopped};
use serde::{Deserialize, Serialize};
use serde_json::json;

const DEVICES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    /// Share of the full power, 0 to 1.
    power: f64,
    reason: String,
}

#[derive(Clone, Serialize)]
struct Applied {
    device: String,
    power: f64,
    reason: String,
    /// Counts the changes of this device since the actuator started.
    revision: u64,
}

struct Plant {
    token: String,
    applied: Mutex<BTreeMap<String, Applied>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let listen = setting("LISTEN", "0.0.0.0:8000");
    let token_file = setting("TOKEN_FILE", "/run/secrets/actuator-token");
    let token = match std::fs::read_to_string(&token_file) {
        Ok(token) if !token.trim().is_empty() => token.trim().to_owned(),
        _ => {
            log("misconfigured", None, json!({ "error": format!("no token in {token_file}") }));
            return ExitCode::from(2);
        }
    };
    let plant = Arc::new(Plant { token, applied: Mutex::default() });
    let routes = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/devices", get(list))
        .route("/devices/:device", get(read).put(write))
        .layer(DefaultBodyLimit::max(4096))
        .with_state(plant);

    let listener = match tokio::net::TcpListener::bind(&listen).await {
        Ok(listener) => listener,
        Err(error) => {
            log("failed", None, json!({ "error": format!("could not listen on {listen}: {error}") }));
            return ExitCode::FAILURE;
        }
    };
    log("listening", None, json!({ "listen": listen }));
    tokio::select! {
        _ = axum::serve(listener, routes) => {}
        () = stopped() => {}
    }
    log("stopped", None, json!({}));
    ExitCode::SUCCESS
}

async fn list(State(plant): State<Arc<Plant>>) -> Json<Vec<Applied>> {
    Json(plant.applied.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect())
}

async fn read(State(plant): State<Arc<Plant>>, Path(device): Path<String>) -> Response {
    match plant.applied.lock().unwrap_or_else(PoisonError::into_inner).get(&device) {
        Some(applied) => Json(applied).into_response(),
        None => problem(StatusCode::NOT_FOUND, "nothing was commanded yet"),
    }
}

async fn write(
    State(plant): State<Arc<Plant>>,
    Path(device): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let trace = header("traceparent");
    if !header("authorization").is_some_and(|given| same(given, &format!("Bearer {}", plant.token))) {
        log("refused", trace, json!({ "device": device, "reason": "no valid token" }));
        return problem(StatusCode::UNAUTHORIZED, "a command needs the token");
    }
    let command: Command = match serde_json::from_slice(&body) {
        Ok(command) => command,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if !(0.0..=1.0).contains(&command.power) || command.reason.len() > 200 || device.len() > NAME_BYTES_MAX {
        return problem(
            StatusCode::BAD_REQUEST,
            "power is 0 to 1, a reason at most 200 bytes, a name at most 64",
        );
    }
    let mut applied = plant.applied.lock().unwrap_or_else(PoisonError::into_inner);
    if applied.len() >= DEVICES_MAX && !applied.contains_key(&device) {
        return problem(StatusCode::TOO_MANY_REQUESTS, "too many devices");
    }
    let entry = applied.entry(device.clone()).or_insert(Applied {
        device,
        power: f64::NAN,
        reason: String::new(),
        revision: 0,
    });
    if entry.power != command.power {
        *entry = Applied {
            power: command.power,
            reason: command.reason,
            revision: entry.revision + 1,
            ..entry.clone()
        };
        log("commanded", trace, json!(entry));
    }
    Json(&*entry).into_response()
}

/// Compares without stopping at the first difference.
fn same(given: &str, wanted: &str) -> bool {
    given.len() == wanted.len() && given.bytes().zip(wanted.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
}

fn problem(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
