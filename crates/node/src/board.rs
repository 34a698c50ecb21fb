//! What is known of every instance: written by the tasks that run them, read by whoever waits or asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use sinew_spec::admin::Event;
use sinew_spec::name::{InstanceName, ServiceName};
use sinew_spec::seal::Command;
use sinew_spec::status::{Health, InstanceState};
use tokio::sync::{broadcast, watch};

use crate::process::ProcessId;
use crate::reconcile;

/// One instance, as the launcher sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub service: ServiceName,
    pub number: u32,
    /// See [`reconcile::Wanted::version`].
    pub version: u64,
    pub state: InstanceState,
    pub health: Health,
    /// Callers were told of it (or it has done what it should and ended): dependents may go ahead.
    pub ready: bool,
    /// The control plane was told that callers may choose it.
    pub routed: bool,
    /// On its way out.
    pub retiring: bool,
    pub restarts: u32,
    pub init: Option<ProcessId>,
    pub sidecar: Option<ProcessId>,
    /// Of a container [`View::service_pid_inside`] is as the host sees it.
    pub is_container: bool,
    /// As seen inside the seal.
    pub service_pid_inside: Option<i32>,
    pub started_unix_ms: Option<u64>,
    pub exit_code: Option<i32>,
    /// The last thing that went wrong, in words.
    pub message: Option<String>,
    /// See `InstanceStatus::unheard_port`.
    pub unheard_port: Option<u16>,
    /// What it waits for, in words.
    pub waits_for: Vec<String>,
    /// Why it will not get ready without help.
    pub failed: Option<String>,
    /// The service's command, while there is a seal.
    pub command: Option<Command>,
}

impl View {
    pub fn new(service: ServiceName, number: u32, version: u64) -> Self {
        Self {
            service,
            number,
            version,
            state: InstanceState::Waiting,
            health: Health::None,
            ready: false,
            routed: false,
            retiring: false,
            restarts: 0,
            init: None,
            sidecar: None,
            is_container: false,
            service_pid_inside: None,
            started_unix_ms: None,
            exit_code: None,
            message: None,
            unheard_port: None,
            waits_for: Vec::new(),
            failed: None,
            command: None,
        }
    }

    pub fn present(&self) -> reconcile::Present {
        let state = match (self.retiring, self.ready) {
            (true, _) => reconcile::State::Retiring,
            (false, true) => reconcile::State::Ready,
            (false, false) => reconcile::State::Unready,
        };
        reconcile::Present { number: self.number, version: self.version, state }
    }
}

#[derive(Debug)]
pub struct Board {
    views: Mutex<BTreeMap<InstanceName, View>>,
    changes: watch::Sender<u64>,
    events: broadcast::Sender<Event>,
}

const NEVER_POISONED: &str = "nothing panics while it holds this lock";

impl Board {
    pub fn new(events: broadcast::Sender<Event>) -> Self {
        Self { views: Mutex::default(), changes: watch::Sender::new(0), events }
    }

    pub fn views(&self) -> MutexGuard<'_, BTreeMap<InstanceName, View>> {
        self.views.lock().expect(NEVER_POISONED)
    }

    /// Changes since the last look; the number itself means nothing.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What is no change of a view.
    pub fn announce(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// Lets everybody who waits look again.
    pub fn nudge(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub fn insert(&self, instance: &InstanceName, view: View) {
        self.views().insert(instance.clone(), view);
        self.nudge();
    }

    pub fn remove(&self, instance: &InstanceName) {
        self.views().remove(instance);
        self.nudge();
    }

    /// An unknown instance is left unknown. Whoever listens is told what changed.
    pub fn update(&self, instance: &InstanceName, change: impl FnOnce(&mut View)) {
        let mut views = self.views();
        let Some(view) = views.get_mut(instance) else { return };
        let before = view.clone();
        change(view);
        if *view == before {
            return;
        }
        self.tell(instance, &before, view);
        drop(views);
        self.nudge();
    }

    fn tell(&self, instance: &InstanceName, before: &View, now: &View) {
        let unix_ms = unix_ms();
        let service = now.service.clone();
        // Nobody may be listening.
        let send = |event| drop(self.events.send(event));
        let shown = |view: &View| (view.state, view.health, view.message.clone());
        if shown(before) != shown(now) {
            send(Event::Instance {
                unix_ms,
                service: service.clone(),
                instance: instance.clone(),
                state: now.state,
                health: now.health,
                message: now.message.clone(),
            });
        }
        if before.waits_for != now.waits_for {
            let waits_for = now.waits_for.clone();
            send(Event::Waits { unix_ms, service: service.clone(), waits_for });
        }
        if before.failed != now.failed
            && let Some(reason) = now.failed.clone()
        {
            send(Event::Failed { unix_ms, service, instance: Some(instance.clone()), reason });
        }
    }
}

/// Wall clock, for showing only.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
