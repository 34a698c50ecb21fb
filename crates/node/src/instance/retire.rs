//! How an instance ends: out of routing, callers acknowledge, its own proxy closes what is idle, requests in flight
//! end, the service is asked to stop, then everything is gone.

use super::*;

use sinew_spec::application::ServicePosture;
use sinew_spec::handover::succeeded_admin;
use sinew_spec::status::{ProxyStats, RouteStats};
use tokio::time::sleep;

use crate::process::{self, Watched};
use crate::sidecar::PROXY;
use crate::{container, stats};

const IDLE_POLL: Duration = Duration::from_millis(20);
/// When everybody goes, nobody waits long for the requests of others.
const LEAVE_DRAIN: Duration = Duration::from_millis(500);

impl Instance {
    pub(super) async fn retire(&mut self, mut sealed: Sealed) {
        let order = *self.orders.borrow();
        self.board(|view| view.retiring = true);
        if order < Order::Kill {
            self.drain(order, &sealed.sidecar).await;
            self.stop(&mut sealed).await;
        }
        self.teardown(sealed).await;
    }

    async fn drain(&mut self, order: Order, sidecar: &Sidecar) {
        let was_routed = self.shared.board.views().get(&self.name).is_some_and(|view| view.routed);
        self.board(|view| {
            view.state = InstanceState::Draining;
            view.routed = false;
        });
        let registry = &self.shared.registry;
        if was_routed && let Ok(revision) = registry.route(&self.name, Routing::Out) {
            registry.applied(revision, ACKNOWLEDGE).await;
        }
        if let Ok(revision) = registry.route(&self.name, Routing::Draining)
            && was_routed
        {
            registry.applied(revision, ACKNOWLEDGE).await;
            let grace = Duration::from_millis(self.service.stop_grace_ms);
            let limit = if order == Order::Leave { grace.min(LEAVE_DRAIN) } else { grace };
            let mut orders = self.orders.clone();
            tokio::select! {
                _ = timeout(limit, self.idle(sidecar)) => {}
                // Somebody lost patience.
                () = beyond(&mut orders, order) => {}
            }
        }
    }

    /// Returns when no request is in flight. Connections that are no requests (MQTT, say) end with the service.
    async fn idle(&self, sidecar: &Sidecar) {
        let admin = self.folder().admin_socket();
        let mut quiet = 0;
        // Twice: a request may be on its way between two connections.
        while quiet < 2 {
            let Ok(stats) = stats::fetch(&admin).await else { return };
            let mut busy = self.is_busy(&stats);
            for pid in sidecar.succeeded() {
                let succeeded = succeeded_admin(&admin, pid.unsigned_abs());
                // It may have ended meanwhile.
                busy |= stats::fetch(&succeeded).await.is_ok_and(|stats| self.is_busy(&stats));
            }
            quiet = if busy { 0 } else { quiet + 1 };
            sleep(IDLE_POLL).await;
        }
    }

    fn is_busy(&self, stats: &ProxyStats) -> bool {
        stats.inbound.iter().any(|(port, route)| self.is_http(port, route) && route.in_flight > 0)
    }

    fn is_http(&self, port: &str, route: &RouteStats) -> bool {
        let declared = port.parse().ok().and_then(|port: u16| self.service.protocols.get(&port));
        declared.map_or(route.requests > 0, |protocol| protocol.is_http())
    }

    async fn stop(&mut self, sealed: &mut Sealed) {
        self.board(|view| view.state = InstanceState::Stopping);
        let signal = InitRequest::Signal { signal: self.service.stop_signal };
        if !matches!(sealed.init.status().await, Ok(ServiceState::Running { .. }))
            || sealed.init.tell(&signal).await.is_err()
        {
            return;
        }
        let grace = Duration::from_millis(self.service.stop_grace_ms);
        let mut orders = self.orders.clone();
        tokio::select! {
            _ = timeout(grace, exit(&mut sealed.events)) => {}
            () = beyond(&mut orders, Order::Leave) => {}
        }
    }

    /// One that cannot be talked to: left alone until it shall go, then asked by the signal that it knows.
    pub(super) async fn outlive(&mut self, stranger: &Stranger) {
        self.board(|view| {
            view.state = InstanceState::Running;
            view.ready = true;
            view.init = stranger.init;
            view.message = Some("another version of sinew started it; it is being replaced".to_owned());
        });
        ordered(&mut self.orders).await;
        if let Some(init) = stranger.init.filter(|init| init.is_alive()) {
            let grace = Duration::from_millis(self.service.stop_grace_ms);
            let mut orders = self.orders.clone();
            tokio::select! {
                _ = timeout(grace, ask_children(init.pid, self.service.stop_signal)) => {}
                () = beyond(&mut orders, Order::Retire) => {}
            }
        }
        for id in [stranger.init, stranger.sidecar].into_iter().flatten() {
            process::end(id).await;
        }
        for id in process::started_with(PROXY, self.folder().bootstrap().as_os_str()) {
            process::end(id).await;
        }
        self.clear().await;
    }

    /// Ends what is left: the seal and everything in it, the sidecar, the place in the registry.
    pub(super) async fn teardown(&self, sealed: Sealed) {
        let Sealed { seal, init, sidecar, .. } = sealed;
        let told = init.tell(&InitRequest::Shutdown).await;
        if told.is_err() || timeout(INIT_END, seal.wait()).await.is_err() {
            let _ = seal.kill();
            let _ = timeout(INIT_END, seal.wait()).await;
        }
        sidecar.end().await;
        self.clear().await;
        self.board(|view| {
            view.init = None;
            view.sidecar = None;
            view.service_pid_inside = None;
            view.command = None;
        });
    }

    /// The seal has ended by itself.
    pub(super) async fn abandon(&self, sealed: Sealed) {
        self.out_of_routing();
        // Without a seal, what is left of it is killed by the guard, which must not be killed meanwhile.
        let is_sealed = self.shared.posture == ServicePosture::Sealed;
        if is_sealed || timeout(INIT_END, sealed.seal.wait()).await.is_err() {
            let _ = sealed.seal.kill();
            let _ = timeout(INIT_END, sealed.seal.wait()).await;
        }
        sealed.sidecar.end().await;
        self.clear().await;
    }

    /// What is left when no process is: everything but the logs.
    pub(super) async fn clear(&self) {
        if let Err(error) = self.shared.registry.leave(&self.name) {
            self.shared.log(&error.to_string());
        }
        self.shared.ports.give_back(&self.name);
        // Mostly its init has done it; not when it was killed.
        if let Some(container) = InstanceRecord::read(&self.folder()).and_then(|record| record.container)
            && let Err(error) = container::remove(&container).await
        {
            self.shared.log(&error.to_string());
        }
        let application = self.shared.folders.cgroup();
        if let Err(error) = self.shared.cgroups.remove(&application, self.name.as_str()).await {
            self.shared.log(&error.to_string());
        }
        if let Err(error) = self.folder().clear() {
            self.shared.log(&format!("clearing the folder of {}: {error}", self.name));
        }
    }
}

/// Sends the signal to the children of an init, as whose child the service runs; returns when none is left.
async fn ask_children(init: i32, signal: i32) {
    for child in process::children(init) {
        if let Some(Ok(Some(service))) = ProcessId::of(child).map(Watched::open) {
            let _ = service.signal(signal);
            service.ended().await;
        }
    }
}

/// Returns when something stronger than `order` is wanted.
async fn beyond(orders: &mut watch::Receiver<Order>, order: Order) {
    let _ = orders.wait_for(|now| *now > order).await;
}
