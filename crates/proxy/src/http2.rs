//! HTTP/2: a client's connection, the requests on it, and the connections to upstreams that their streams share.
//!
//! Where only one of the two sides speaks HTTP/2, the other is an HTTP/1.1 connection for as long as the exchange lasts
//! (`single`, driven by `to_http1` or `from_http1`); `end` is where the two meet.
//!
//! Each request is routed and balanced on its own, by [`crate::flow::Flow::plan`] and [`crate::upstream::Target`] as one
//! over HTTP/1.1. Its life begins in `exchange`; `link` is one connection and who reads and writes on it; `links` the
//! connections to one endpoint; `pipe` one direction of a body; `reply` what the proxy answers itself. No stream has a task:
//! what one connection receives is put at once into the other's engine, or waits in its exchange as far as the
//! window of the one who sends allows.

mod end;
mod exchange;
mod exchanges;
pub mod from_http1;
mod link;
mod links;
mod pipe;
mod reply;
mod single;
mod spoken;
mod to_http1;

use std::future::poll_fn;
use std::pin::pin;

use sinew_wire::h2::{Connection as Engine, FloodLimits, Limits};
use tokio::time::{Instant, sleep_until};

pub use self::exchange::Departing;
pub use self::exchanges::Exchanges;
use self::link::{Driver, End, Link};
pub use self::links::Links;
pub use self::spoken::Way;
use crate::connection::Connection;
use crate::flow::Flow;
use crate::http::{self, Waits};

/// What a peer may send on a stream before the other side has taken any of it: at first, and when the other side has
/// shown that it takes all that comes. The most that an exchange holds.
const STREAM_WINDOW_BYTES: u32 = 16 * 1024;
const STREAM_WINDOW_BYTES_MAX: u32 = 128 * 1024;
/// The same for all streams of a connection: so many that few whose readers are slow do not stop the others.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Serves a client's connection until it ends.
pub async fn serve(flow: &Flow, mut client: Connection) {
    let snapshot = flow.worker.snapshot();
    let (compiled, idle_max) = (&snapshot.limits, snapshot.limits.idle_timeout);
    let limits = match flow.is_inbound() {
        true => Limits { floods: trusted(), ..limits(&compiled.hop_wire) },
        false => limits(&compiled.wire),
    };
    drop(snapshot);
    let (phase_changed, sleep) =
        (pin!(flow.worker.phase_changed()), pin!(sleep_until(Instant::now() + idle_max)));
    let mut waits = Waits::new(flow, phase_changed, sleep);
    let link = Link::new(Engine::server(limits));
    let mut driver = Driver::new(&flow.worker, Some(flow), &link, &mut client, idle_max);
    let end = poll_fn(|cx| {
        while waits.poll_phase(cx).is_ready() {}
        // Whoever connects while we drain does not know yet: what it has sent by then is served.
        if flow.is_closing(flow.worker.current_phase()) {
            driver.drain();
        }
        if driver.idle_since().is_some_and(|since| flow.worker.closes_idle(since)) {
            driver.drain();
        }
        driver.poll(cx, &mut waits.timer)
    })
    .await;
    driver.end_exchanges();
    drop(driver);
    if end != End::Gone {
        http::linger(client).await;
    }
}

/// Of connections to clients and to upstreams.
fn limits(wire: &sinew_wire::h1::Limits) -> Limits {
    Limits {
        head_bytes_max: wire.head_bytes_max,
        head_fields_max: wire.head_fields_max,
        target_bytes_max: wire.target_bytes_max,
        body_bytes_max: wire.body_bytes_max,
        trailer_bytes_max: wire.trailer_bytes_max,
        trailer_fields_max: wire.trailer_fields_max,
        block_bytes_max: wire.head_bytes_max + 16 * 1024,
        interim_responses_max: wire.interim_responses_max,
        stream_window_bytes: STREAM_WINDOW_BYTES,
        stream_window_bytes_max: STREAM_WINDOW_BYTES_MAX,
        connection_window_bytes: CONNECTION_WINDOW_BYTES,
        extended_connect: true,
        ..Limits::DEFAULT
    }
}

/// One client's answer that is too large must not cost the others of a connection theirs: more of it is read, and left out.
fn upstream_limits(wire: &sinew_wire::h1::Limits) -> Limits {
    Limits { block_bytes_max: wire.head_bytes_max.saturating_mul(4), ..limits(wire) }
}

/// Another sidecar passes on what many clients do, each of which it has held to the limits itself.
fn trusted() -> FloodLimits {
    let FloodLimits { allowed, credit_max } = FloodLimits::DEFAULT;
    FloodLimits { allowed: allowed.map(|count| count * TRUST), credit_max: credit_max * TRUST }
}

const TRUST: u32 = 100;
