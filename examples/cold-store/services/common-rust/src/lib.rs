//! What the Rust services of the example share: one line of JSON per notable event, trace context, an end on SIGTERM,
//! and a GET over HTTP/1.1. It knows nothing of what the services do.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

/// The longest answer [`get`] reads.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Writes one line to standard output. `fields` is an object; `trace` a `traceparent`, when there is one.
pub fn log(event: &str, trace: Option<&str>, fields: Value) {
    let mut line = json!({ "at_unix_ms": unix_ms(), "event": event });
    if let Some(id) = trace.and_then(|trace| trace.split('-').nth(1)) {
        line["trace_id"] = id.into();
    }
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields);
    }
    println!("{line}");
}

/// The value of an environment variable, or what stands in for it.
pub fn setting(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

/// A `traceparent` (W3C Trace Context) of a new trace.
pub fn new_trace() -> String {
    let (a, b, c) = (random(), random(), random());
    format!("00-{a:016x}{b:016x}-{c:016x}-01")
}

/// The same trace, seen from a new span: what a service sends on. Anything unfit starts a new trace.
pub fn child_trace(parent: Option<&str>) -> String {
    let fit = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = parent.unwrap_or_default().split('-').collect();
    match parts[..] {
        [version, trace, span, flags]
            if fit(version, 2) && fit(trace, 32) && fit(span, 16) && fit(flags, 2) =>
        {
            format!("00-{trace}-{:016x}-{flags}", random())
        }
        _ => new_trace(),
    }
}

/// Enough for identifiers: the standard library seeds its hashers from the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

/// Returns when the service is asked to stop (SIGTERM, or Ctrl-C at a terminal).
pub async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// GET `path` from `host` (`name:port`), on a connection of its own: status and body.
pub async fn get(host: &str, path: &str, trace: &str, timeout: Duration) -> io::Result<(u16, Vec<u8>)> {
    tokio::time::timeout(timeout, exchange(host, path, trace)).await?
}

async fn exchange(host: &str, path: &str, trace: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    let _ = write!(request, "traceparent: {trace}\r\nx-request-id: {:016x}\r\n\r\n", random());
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    parse(&answer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("an unusable answer from {host}")))
}

/// An answer with a length, as a whole.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length: usize = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })?;
    let body = answer.get(end + 4..(end + 4).checked_add(length)?)?;
    Some((status, body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_with_a_new_span() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let child = child_trace(Some(parent));
        assert!(child.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && child.ends_with("-01"));
        assert_ne!(child, parent);
        assert_eq!(child_trace(Some("nonsense")).len(), parent.len());
    }

    #[test]
    fn an_answer_must_be_whole() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), Some((200, b"ok".to_vec())));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\nok"), None);
        assert_eq!(parse(b"\xff\r\n\r\n"), None);
    }
}
