//! From other sidecars to the application in the seal: handshake, who is it, which port, which protocol.

use std::rc::Rc;
use std::time::Duration;

use sinew_spec::application::Protocol;
use sinew_telemetry::Outcome;
use sinew_transport::Stream;
use sinew_transport::stream::Raw;
use sinew_transport::tls::{
    Accepted, Alpn, TCP_CONNECT_FAILED, TCP_CONNECTED, TCP_LOOPBACK_ONLY, TCP_REFUSED,
};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use crate::HopListener;
use crate::arrival::Arrival;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::flow::{Flow, Side};
use crate::http;
use crate::http2;
use crate::snapshot::Snapshot;
use crate::tcp;
use crate::upstream::Target;
use crate::worker::{Admitted, OnRoute, Worker};
use crate::workers::{Place, Workers};

/// After an accept that failed: descriptors have run out, most likely, and come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Accepts until dropped. Above the limit of connections it does not accept: other sidecars wait, or go elsewhere.
pub async fn accept(workers: Rc<Workers>, listener: &HopListener) {
    loop {
        let accepted = match listener {
            HopListener::Unix(listener) => listener.accept().await.map(|(stream, _)| Raw::Unix(stream)),
            HopListener::Tcp(listener) => listener.accept().await.map(|(stream, _)| Raw::Tcp(stream)),
        };
        match accepted {
            Ok(raw) => {
                if let Raw::Tcp(stream) = &raw {
                    // Fails only for a socket that is gone already.
                    let _ = stream.set_nodelay(true);
                }
                match workers.place() {
                    Some(Place::Here(admitted)) => begin(&workers.first, admitted, raw),
                    Some(Place::There(other)) => other.give(Arrival::hop(raw)),
                    None => {}
                }
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

pub fn begin(worker: &Rc<Worker>, admitted: Admitted, raw: Raw) {
    tokio::task::spawn_local(serve(worker.clone(), admitted, raw));
}

async fn serve(worker: Rc<Worker>, _admitted: Admitted, raw: Raw) {
    let snapshot = worker.snapshot();
    // Boxed, as what serves TCP below: neither is needed while an HTTP connection waits.
    let tls = worker.tls();
    let handshake = Box::pin(timeout(snapshot.limits.header_timeout, tls.accept(raw))).await;
    drop(tls);
    let Ok(Ok(Accepted { stream, peer, server_name, alpn })) = handshake else {
        return worker.registry.process.handshakes_failed.increment();
    };
    let Some(port) = snapshot.port_of_server_name(&server_name) else {
        return worker.registry.process.handshakes_failed.increment();
    };
    match alpn {
        Alpn::Http => {
            let client = Connection::new(stream, snapshot.limits.wire.head_bytes_max);
            drop(snapshot);
            http::serve(&Flow { worker, side: Side::Inbound { peer, port } }, client, None).await;
        }
        Alpn::Http2 => {
            let client = Connection::new(stream, snapshot.limits.wire.head_bytes_max);
            drop(snapshot);
            let _on_route = OnRoute::new(&worker.application(port).metrics);
            let flow = Flow { worker, side: Side::Inbound { peer, port } };
            Box::pin(http2::serve(&flow, client)).await;
        }
        Alpn::Tcp => {
            // A port declared HTTP has no way around HTTP.
            let allowed = snapshot.allowed_caller(&peer).is_some()
                && !snapshot.inbound_protocol(port).is_some_and(Protocol::is_http);
            Box::pin(serve_tcp(&worker, &snapshot, stream, port, allowed)).await;
        }
    }
}

async fn serve_tcp(worker: &Worker, snapshot: &Snapshot, mut stream: Stream, port: u16, allowed: bool) {
    let application = worker.application(port);
    let metrics = application.metrics.clone();
    let _on_route = OnRoute::new(&metrics);
    let opened = match allowed {
        true => Target::Application(application).open(worker, snapshot).await,
        false => Err(Failure::CallerRefused),
    };
    let word = match &opened {
        Ok(_) => TCP_CONNECTED,
        Err(Failure::CallerRefused) => TCP_REFUSED,
        Err(Failure::LoopbackOnly) => TCP_LOOPBACK_ONLY,
        Err(_) => TCP_CONNECT_FAILED,
    };
    let told = async {
        stream.write_u8(word).await?;
        stream.flush().await
    };
    let told = timeout(snapshot.limits.connect_timeout, told).await;
    match (opened, told) {
        (Ok(upstream), Ok(Ok(()))) => {
            let client = Connection::new(stream, snapshot.limits.wire.head_bytes_max);
            tcp::relay(snapshot, &metrics, client, upstream, Vec::new()).await;
        }
        (Ok(upstream), _) => upstream.stream.abort(),
        (Err(failure), _) => {
            metrics.count(Outcome::Failed { failure: failure.label(), status: None });
            // The word is on its way; an orderly end lets it arrive.
            let _ = timeout(snapshot.limits.connect_timeout, stream.shutdown()).await;
        }
    }
}
