//! What a proxy tells about itself: `/metrics`, `/stats.json`, `/config`, `/ready`, over a private Unix socket.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sinew_spec::proxy::ProxyConfig;
use sinew_telemetry::CONTENT_TYPE;
use sinew_wire::h1::{
    BodyDecoder, Downstream, Limits, Method, Parsed, RequestHead, ResponseEdits, after_exchange,
    encode_local_response, parse_request,
};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::connection::{Connection, Output};
use crate::workers::Registries;

const CONNECTIONS_MAX: usize = 16;
/// A client that says nothing, or does not read its answer.
const IDLE: Duration = Duration::from_secs(30);
const LIMITS: Limits = Limits { head_bytes_max: 8 * 1024, head_fields_max: 64, ..Limits::DEFAULT };

pub struct Admin {
    pub registries: Rc<Registries>,
    /// What requests meet; `None`: nothing is served yet.
    pub served: watch::Receiver<Option<Arc<ProxyConfig>>>,
}

/// Accepts until dropped.
pub async fn serve(admin: Rc<Admin>, listener: UnixListener) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = admin.clone();
                tokio::task::spawn_local(async move {
                    let _permit = permit;
                    serve_client(&admin, Connection::new(stream.into(), LIMITS.head_bytes_max)).await;
                });
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn serve_client(admin: &Admin, mut client: Connection) {
    let mut head = RequestHead::default();
    loop {
        let mut out = Output::new();
        let goes_on = match parse_request(client.input.data(), &mut client.scan, &LIMITS, &mut head) {
            Ok(Parsed::Incomplete) => match timeout(IDLE, client.fill()).await {
                Ok(Ok(1..)) => continue,
                _ => return,
            },
            Ok(Parsed::Complete { head_bytes }) => {
                let goes_on = answer(admin, &head, client.input.data(), &mut out.0);
                client.input.consume(head_bytes);
                goes_on
            }
            Err(reject) => {
                let edits = ResponseEdits { close: true, ..ResponseEdits::default() };
                encode_local_response(
                    reject.status,
                    None,
                    &edits,
                    "text/plain",
                    reject.reason.as_bytes(),
                    &mut out.0,
                )
            }
        };
        let sent = timeout(IDLE, client.send(&out.0)).await;
        if !goes_on || !matches!(sent, Ok(Ok(()))) {
            return;
        }
        client.rest();
    }
}

/// Appends the answer; true: the connection goes on.
fn answer(admin: &Admin, head: &RequestHead, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let exchange = head.exchange(false);
    let (status, content_type, body) = match (head.method, head.path_only(bytes)) {
        (Method::Get | Method::Head, b"/metrics") => {
            let mut text = String::new();
            admin.registries.figures().encode_prometheus(&mut text);
            (200, CONTENT_TYPE, text.into_bytes())
        }
        (Method::Get | Method::Head, b"/stats.json") => json(&admin.registries.figures().stats()),
        (Method::Get | Method::Head, b"/config") => json(&admin.served.borrow().as_deref()),
        (Method::Get | Method::Head, b"/ready") if admin.served.borrow().is_some() => {
            (200, "text/plain", b"ready\n".to_vec())
        }
        (Method::Get | Method::Head, b"/ready") => {
            (503, "text/plain", b"waits for its first configuration and certificate\n".to_vec())
        }
        (Method::Get | Method::Head, _) => {
            (404, "text/plain", b"there is /metrics, /stats.json, /config and /ready\n".to_vec())
        }
        _ => (405, "text/plain", b"GET only\n".to_vec()),
    };
    // Bodies are not read here: a request that has one ends the connection.
    let left = BodyDecoder::new(head.framing, &LIMITS).left();
    let close = after_exchange(&exchange, left, 0) != Downstream::Continue;
    let edits = ResponseEdits { close, ..ResponseEdits::default() };
    encode_local_response(status, Some(&exchange), &edits, content_type, &body, out)
}

fn json(value: &impl serde::Serialize) -> (u16, &'static str, Vec<u8>) {
    match serde_json::to_vec(value) {
        Ok(body) => (200, "application/json", body),
        Err(error) => (500, "text/plain", error.to_string().into_bytes()),
    }
}
