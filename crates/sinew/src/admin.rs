//! The admin API of a running application: HTTP/1.1 with JSON on a Unix socket. It translates between HTTP and
//! [`Operation`]s and decides who may ask; it knows nothing of instances.

use std::io;
use std::path::Path;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sinew_spec::admin::{
    AdminError, ApplyRequest, Changes, DownRequest, ErrorBody, ErrorCode, Event, InstanceAccess,
    InstanceSelector, ScaleRequest, UpdateServices, Version,
};
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::status::ApplicationStatus;
use sinew_spec::update::UpdateOutcome;

use crate::operation::{Handle, Operation};
use crate::units::now_unix_ms;

mod events;
mod listener;

use events::EventBody;
pub use listener::AdminListener;

/// Of a request: a whole application fits many times.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Instances of one service; a typing error must not fill the machine.
pub const REPLICAS_MAX: u32 = 1_000;

/// Makes the socket (0600) where nobody listens any more. The folder is private to the user (0700).
pub fn listen(socket: &Path) -> io::Result<AdminListener> {
    AdminListener::bind(socket)
}

/// Serves until the future is dropped.
pub async fn serve(listener: AdminListener, engine: Handle) {
    listener.serve(router(engine)).await;
}

fn router(engine: Handle) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/status", get(status))
        .route("/v1/ps", get(ps))
        .route("/v1/events", get(events))
        .route("/v1/apply", post(apply))
        .route("/v1/update", post(update))
        .route("/v1/down", post(down))
        .route("/v1/instances/{name}/access", get(access))
        .route("/v1/services/{name}/scale", post(scale))
        .route("/v1/services/{name}/restart", post(restart))
        .route("/v1/services/{name}/stop", post(stop))
        .route("/v1/services/{name}/start", post(start))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(engine)
}

async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION").to_owned() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusQuery {
    #[serde(default)]
    memory: bool,
}

async fn status(
    State(engine): State<Handle>,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Result<Json<ApplicationStatus>, Refusal> {
    let Query(query) = query.map_err(|rejection| invalid(&rejection.body_text()))?;
    Ok(Json(engine.status(query.memory).await?))
}

/// Instances alone, without what costs anything to find out.
async fn ps(State(engine): State<Handle>) -> Result<Response, Refusal> {
    let status = engine.status(false).await?;
    let instances: Vec<_> = status.services.into_iter().flat_map(|service| service.instances).collect();
    Ok(Json(instances).into_response())
}

async fn scale(
    State(engine): State<Handle>,
    UrlPath(service): UrlPath<ServiceName>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Changes>, Refusal> {
    let ScaleRequest { replicas } = read(body)?;
    if replicas > REPLICAS_MAX {
        return Err(invalid(&format!(
            "scaling {service} to {replicas}: {REPLICAS_MAX} instances are the most"
        )));
    }
    Ok(Json(engine.ask(|reply| Operation::Scale { service, replicas, reply }).await?))
}

async fn restart(
    State(engine): State<Handle>,
    UrlPath(service): UrlPath<ServiceName>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Changes>, Refusal> {
    let InstanceSelector { instance } = read(body)?;
    Ok(Json(engine.ask(|reply| Operation::Restart { service, instance, reply }).await?))
}

async fn stop(
    State(engine): State<Handle>,
    UrlPath(service): UrlPath<ServiceName>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Changes>, Refusal> {
    let InstanceSelector { instance } = read(body)?;
    Ok(Json(engine.ask(|reply| Operation::Stop { service, instance, reply }).await?))
}

async fn start(
    State(engine): State<Handle>,
    UrlPath(service): UrlPath<ServiceName>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Changes>, Refusal> {
    let InstanceSelector { instance } = read(body)?;
    Ok(Json(engine.ask(|reply| Operation::Start { service, instance, reply }).await?))
}

async fn apply(
    State(engine): State<Handle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Changes>, Refusal> {
    let ApplyRequest { application, environment, partial, posture } = read(body)?;
    if let Some(wanted) = posture {
        let status = engine.ask(|reply| Operation::Status { memory: false, reply }).await?;
        if status.posture != wanted {
            let message =
                format!("{} runs in the {} posture, not the {wanted} one", status.name, status.posture);
            let error = AdminError::new(ErrorCode::Impossible, message);
            return Err(error.hint("`sinew down` ends it; `sinew up --posture` chooses anew").into());
        }
    }
    let application = Box::new(application);
    Ok(Json(engine.ask(|reply| Operation::Apply { application, environment, partial, reply }).await?))
}

async fn update(
    State(engine): State<Handle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<UpdateOutcome>, Refusal> {
    let asked: UpdateServices = read(body)?;
    let asked = Box::new(asked);
    Ok(Json(engine.ask(|reply| Operation::Update { asked, reply }).await?))
}

async fn down(
    State(engine): State<Handle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let request: DownRequest = read(body)?;
    engine.ask(|reply| Operation::Down { request, reply }).await?;
    Ok(Json(serde_json::json!({})).into_response())
}

async fn access(
    State(engine): State<Handle>,
    UrlPath(instance): UrlPath<InstanceName>,
) -> Result<Json<InstanceAccess>, Refusal> {
    Ok(Json(engine.ask(|reply| Operation::Access { instance, reply }).await?))
}

/// JSON lines without end; the present state first.
async fn events(State(engine): State<Handle>) -> Result<Response, Refusal> {
    let receiver = engine.events();
    let first = Event::Status { unix_ms: now_unix_ms(), status: engine.status(false).await? };
    let body = Body::new(EventBody::new(first, receiver));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn not_found() -> Refusal {
    Refusal(
        AdminError::new(ErrorCode::NotFound, "the admin API has no such path").hint("GET /v1/status is one"),
    )
}

async fn wrong_method() -> Response {
    let error = AdminError::new(ErrorCode::Invalid, "this path is not asked with this method")
        .hint("GET reads, POST changes");
    (StatusCode::METHOD_NOT_ALLOWED, Json(ErrorBody { error })).into_response()
}

/// An empty body is `{}`.
fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let bytes = body.map_err(|rejection| invalid(&rejection.body_text()))?;
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(bytes).map_err(|error| invalid(&format!("the body is not as expected: {error}")))
}

fn invalid(message: &str) -> Refusal {
    Refusal(AdminError::new(ErrorCode::Invalid, message))
}

struct Refusal(AdminError);

impl From<AdminError> for Refusal {
    fn from(error: AdminError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(ErrorBody { error: self.0 })).into_response()
    }
}

#[cfg(test)]
mod tests;
