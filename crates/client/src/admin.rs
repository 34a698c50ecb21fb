//! The admin API of a running application, over the Unix socket in its run folder. One connection per question: they
//! are rare, local and cheap.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sinew_spec::admin::{
    AdminError, ApplyRequest, Changes, DownRequest, ErrorBody, ErrorCode, Event, InstanceAccess,
    InstanceSelector, ScaleRequest, UpdateServices, Version,
};
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::status::ApplicationStatus;
use sinew_spec::update::UpdateOutcome;
use tokio::net::UnixStream;

/// Of one answer, and of one line of the event stream.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Asks one application. Holds no connection; cheap to keep and to clone.
#[derive(Clone, Debug)]
pub struct Client {
    application: String,
    socket: PathBuf,
}

impl Client {
    /// `application`: its name, for messages.
    pub fn new(application: impl Into<String>, socket: impl Into<PathBuf>) -> Self {
        Self { application: application.into(), socket: socket.into() }
    }

    pub fn application(&self) -> &str {
        &self.application
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// True when somebody answers: the sockets of a launcher that is being killed accept for a moment longer.
    pub async fn is_running(&self) -> bool {
        !matches!(self.version().await, Err(error) if error.code == ErrorCode::NotRunning)
    }

    /// Of the launcher that runs, which may be another than this program's.
    pub async fn version(&self) -> Result<Version, AdminError> {
        self.get("/v1/version").await
    }

    /// `memory`: also measure what every process holds; a few milliseconds of work for the launcher.
    pub async fn status(&self, memory: bool) -> Result<ApplicationStatus, AdminError> {
        self.get(if memory { "/v1/status?memory=true" } else { "/v1/status" }).await
    }

    pub async fn scale(&self, service: &ServiceName, replicas: u32) -> Result<Changes, AdminError> {
        self.post(&service_path(service, "scale"), &ScaleRequest { replicas }).await
    }

    pub async fn restart(
        &self,
        service: &ServiceName,
        instance: Option<InstanceName>,
    ) -> Result<Changes, AdminError> {
        self.post(&service_path(service, "restart"), &InstanceSelector { instance }).await
    }

    pub async fn stop(
        &self,
        service: &ServiceName,
        instance: Option<InstanceName>,
    ) -> Result<Changes, AdminError> {
        self.post(&service_path(service, "stop"), &InstanceSelector { instance }).await
    }

    pub async fn start(
        &self,
        service: &ServiceName,
        instance: Option<InstanceName>,
    ) -> Result<Changes, AdminError> {
        self.post(&service_path(service, "start"), &InstanceSelector { instance }).await
    }

    pub async fn access(&self, instance: &InstanceName) -> Result<InstanceAccess, AdminError> {
        self.get(&format!("/v1/instances/{}/access", encoded(instance.as_str()))).await
    }

    pub async fn apply(&self, request: &ApplyRequest) -> Result<Changes, AdminError> {
        self.post("/v1/apply", request).await
    }

    /// Returns when the update was kept or taken back.
    pub async fn update(&self, asked: &UpdateServices) -> Result<UpdateOutcome, AdminError> {
        self.post("/v1/update", asked).await
    }

    /// Returns when everything has ended.
    pub async fn down(&self, request: &DownRequest) -> Result<(), AdminError> {
        let _: serde_json::Value = self.post("/v1/down", request).await?;
        Ok(())
    }

    pub async fn events(&self) -> Result<Events, AdminError> {
        let response = self.send::<()>(Method::GET, "/v1/events", None).await?;
        Ok(Events { client: self.clone(), body: response.into_body(), buffered: Vec::new() })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        self.read(path, self.send::<()>(Method::GET, path, None).await?).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, AdminError> {
        self.read(path, self.send(Method::POST, path, Some(body)).await?).await
    }

    /// The answer's head; an error answer becomes its error.
    async fn send<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Response<Incoming>, AdminError> {
        let text = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| self.failed(path, &error))?,
            None => Vec::new(),
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.failed(path, &error))?;
        // Ends with the connection: when the answer was read or `sender` and body are dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "sinew")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(text)))
            .map_err(|error| self.failed(path, &error))?;
        let response = sender.send_request(request).await.map_err(|_| self.ended())?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.collect(path, response).await?;
        Err(match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => body.error,
            Err(_) => self.unexpected(path, status),
        })
    }

    async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        response: Response<Incoming>,
    ) -> Result<T, AdminError> {
        let bytes = self.collect(path, response).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            self.failed(path, &error).hint("the running application may be of another version of sinew")
        })
    }

    async fn collect(&self, path: &str, response: Response<Incoming>) -> Result<Bytes, AdminError> {
        match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(self.failed(path, &format!("the answer is larger than {ANSWER_BYTES_MAX} bytes")))
            }
            Err(_) => Err(self.ended()),
        }
    }

    fn unreachable(&self, error: &io::Error) -> AdminError {
        let application = &self.application;
        match error.kind() {
            io::ErrorKind::NotFound => {
                AdminError::new(ErrorCode::NotRunning, format!("application `{application}` is not running"))
                    .hint("start it with `sinew up -d`")
            }
            // The socket is there, its owner is not: killed, most likely.
            io::ErrorKind::ConnectionRefused => AdminError::new(
                ErrorCode::NotRunning,
                format!("the launcher of application `{application}` is gone; its services may still run"),
            )
            .hint("`sinew up -d` takes them over, `sinew down` ends them"),
            io::ErrorKind::PermissionDenied => AdminError::new(
                ErrorCode::Forbidden,
                format!(
                    "application `{application}` belongs to another user: no access to {}",
                    self.socket.display()
                ),
            )
            .hint("run the command as the user who started it"),
            _ => AdminError::new(
                ErrorCode::Failed,
                format!("could not connect to {}: {error}", self.socket.display()),
            ),
        }
    }

    fn ended(&self) -> AdminError {
        AdminError::new(
            ErrorCode::NotRunning,
            format!("the launcher of application `{}` ended before it answered", self.application),
        )
        .hint("`sinew up -d` takes over what still runs")
    }

    fn unexpected(&self, path: &str, status: StatusCode) -> AdminError {
        self.failed(path, &format!("status {status} without words"))
            .hint("the running application may be of another version of sinew")
    }

    fn failed(&self, path: &str, reason: &impl ToString) -> AdminError {
        AdminError::new(
            ErrorCode::Failed,
            format!("asking application `{}` for {path} failed: {}", self.application, reason.to_string()),
        )
    }
}

/// The stream of `GET /v1/events`.
#[derive(Debug)]
pub struct Events {
    client: Client,
    body: Incoming,
    buffered: Vec<u8>,
}

impl Events {
    /// `None`: the launcher ended, or is gone. Safe to drop and call again (nothing read is lost).
    pub async fn next(&mut self) -> Result<Option<Event>, AdminError> {
        let path = "/v1/events";
        loop {
            if let Some(end) = self.buffered.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffered.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| self.client.failed(path, &error));
            }
            if self.buffered.len() > ANSWER_BYTES_MAX {
                return Err(self.client.failed(path, &"an event has no end"));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffered.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

fn service_path(service: &ServiceName, verb: &str) -> String {
    format!("/v1/services/{}/{verb}", encoded(service.as_str()))
}

/// As one segment of a path.
fn encoded(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte))
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_the_path() {
        assert_eq!(service_path(&"orders".into(), "scale"), "/v1/services/orders/scale");
        assert_eq!(service_path(&"../down?x".into(), "stop"), "/v1/services/..%2Fdown%3Fx/stop");
    }

    #[tokio::test]
    async fn says_that_nothing_runs() {
        let client = Client::new("shop", "/nonexistent/admin.sock");
        let error = client.status(false).await.expect_err("nobody listens");
        assert_eq!(error.code, ErrorCode::NotRunning);
        assert_eq!(error.message, "application `shop` is not running");
        assert_eq!(error.hint.as_deref(), Some("start it with `sinew up -d`"));
    }

    #[tokio::test]
    async fn who_accepts_and_never_answers_does_not_run() {
        let socket = std::env::temp_dir().join(format!("sinew-client-dying-{}.sock", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a free path");
        let client = Client::new("shop", &socket);
        let dying = tokio::task::spawn_blocking(move || drop(listener.accept().expect("a caller")));
        assert!(!client.is_running().await);
        dying.await.expect("it ended");
        std::fs::remove_file(&socket).expect("it is ours");
    }

    #[tokio::test]
    async fn a_dead_launcher_is_told_from_none() {
        let socket = std::env::temp_dir().join(format!("sinew-client-{}.sock", std::process::id()));
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("a free path"));
        let error = Client::new("shop", &socket).status(false).await.expect_err("nobody listens");
        std::fs::remove_file(&socket).expect("it is ours");
        assert_eq!(error.code, ErrorCode::NotRunning);
        assert!(error.message.contains("is gone; its services may still run"), "{error}");
    }
}
