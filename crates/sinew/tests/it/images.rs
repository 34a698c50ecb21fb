//! Images: what a tag means is decided once, updates take themselves back, bundles need no network. With a Podman and a
//! registry of each test's own.

mod bench;
mod bundle;
mod lock;
mod page;
mod update;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bench::Bench;

use crate::harness::until;

/// `web` from the registry, published on `port`.
fn compose(bench: &Bench, port: u16, more: &str) -> String {
    let image = bench.reference("web:1");
    format!(
        "services:\n  web:\n    image: {image}\n    ports: [\"{port}:8000\"]\n    stop_grace_period: 5s\n    \
         healthcheck: {{ interval: 500ms, timeout: 1s, retries: 2 }}\n    \
         x-sinew: {{ health: {{ http: {{ port: 8000, path: /health }} }}, protocol: {{ 8000: http }} }}\n{more}"
    )
}

/// Who answers. `None`: nobody does.
fn ask(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// Waits until that version answers.
#[track_caller]
fn serves(port: u16, version: &str) {
    until(&format!("{version} serves"), Duration::from_secs(15), || {
        (ask(port).as_deref() == Some(version)).then_some(())
    });
}

fn lock_text(bench: &Bench) -> String {
    std::fs::read_to_string(bench.sandbox.folder.join("sinew.lock")).expect("there is a lock")
}

/// What the history says, oldest first: what and why.
fn history(bench: &Bench) -> Vec<(String, String)> {
    let entries = bench.sinew(&["history", "-o", "json"]).ok().json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let entries = entries.as_array().expect("a list");
    entries.iter().map(|entry| (text(&entry["what"]), text(&entry["reason"]))).collect()
}
