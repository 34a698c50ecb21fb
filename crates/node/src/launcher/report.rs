//! What `status` shows.

use super::*;

use sinew_spec::status::{ApplicationStatus, InstanceStatus, ProxyStats, PublishedStatus, ServiceStatus};

use tokio::task::JoinError;

use super::gateway::gateway_name;
use crate::listening;
use crate::process;
use crate::process::memory::{pss_bytes, pss_bytes_of_all};
use crate::stats;

/// What proxies count, of those that answered.
pub(super) type Answers = BTreeMap<InstanceName, ProxyStats>;

impl Launcher {
    /// Asks all proxies for their counters; the answers come to [`Launcher::sampled`]. A proxy that is stuck costs
    /// nobody but those who look.
    pub(super) fn sample(&mut self) {
        if !self.samples.is_empty() {
            return;
        }
        let mut proxies: Vec<InstanceName> = self
            .shared
            .board
            .views()
            .iter()
            .filter(|(_, view)| view.sidecar.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        if self.gateway.is_some() {
            proxies.push(gateway_name());
        }
        let folders = self.shared.folders.clone();
        self.samples.spawn(async move {
            let mut asked = JoinSet::new();
            for proxy in proxies {
                let admin = folders.instance(&proxy).admin_socket();
                asked.spawn(async move { (proxy, stats::fetch(&admin).await) });
            }
            let mut answers = BTreeMap::new();
            while let Some(answer) = asked.join_next().await {
                if let Ok((proxy, Ok(stats))) = answer {
                    answers.insert(proxy, stats);
                }
            }
            answers
        });
    }

    /// Takes the answers, and tells the status to those who wait for it.
    pub(super) fn sampled(&mut self, answers: Option<Result<Answers, JoinError>>) {
        if let Some(Ok(answers)) = answers {
            self.traffic.sample(std::time::Instant::now(), answers);
        }
        for (memory, reply) in std::mem::take(&mut self.askers) {
            let _ = reply.send(Ok(self.status(memory)));
        }
    }

    pub(super) fn status(&self, memory: bool) -> ApplicationStatus {
        let views = self.shared.board.views().clone();
        let progress = self.shared.registry.progress();
        let gateway = gateway_name();
        let gateway_serves = self.published.is_empty() || !progress.absent.contains(&gateway_name());
        let services = self.services.iter().map(|(name, managed)| {
            let instances: Vec<(&InstanceName, &View)> =
                views.iter().filter(|(_, view)| view.service == *name).collect();
            let mut waits_for: Vec<String> =
                instances.iter().flat_map(|(_, view)| view.waits_for.clone()).collect();
            waits_for.sort();
            waits_for.dedup();
            let mut shown: Vec<InstanceStatus> =
                instances.iter().map(|(name, view)| instance_status(name, view, memory)).collect();
            // Stopped by hand: there is nothing of it, but its name is what `start` is told.
            for number in &managed.stopped.numbers {
                let instance = reconcile::instance_name(name, *number);
                if !views.contains_key(&instance) {
                    let mut view = View::new(name.clone(), *number, 0);
                    view.state = InstanceState::Stopped;
                    shown.push(instance_status(&instance, &view, false));
                }
            }
            shown.sort_by_key(|instance| reconcile::instance_number(name, &instance.name));
            ServiceStatus {
                name: name.clone(),
                wanted: managed.wanted().replicas,
                waits_for,
                traffic: self.traffic.of(name),
                refused: self.traffic.refused(instances.iter().map(|(name, _)| *name)),
                left_out: self.traffic.left_out(name, views.keys().chain([&gateway])),
                loopback_only: self.traffic.loopback_only(instances.iter().map(|(name, _)| *name)),
                instances: shown,
                ready: self.is_ready(managed),
            }
        });
        ApplicationStatus {
            name: self.application.name.clone(),
            folder: self.application.folder.display().to_string(),
            posture: self.shared.posture,
            revision: progress.revision,
            applied: progress.applied,
            subscribed: progress.subscribed,
            absent: progress.absent.clone(),
            silent: progress.silent.clone(),
            outdated: self.shared.outdated().clone(),
            proxies_lost: self.shared.proxies_lost().clone(),
            services: services.collect(),
            published: self
                .published
                .iter()
                .map(|published| PublishedStatus {
                    service: published.service.clone(),
                    listen: published.listen.to_string(),
                    target: published.port,
                    message: trouble_at(published, &progress.rejected),
                    waits_for: self.waits_for(published, &views),
                })
                .collect(),
            memory_bytes: if memory { pss_bytes(std::process::id() as i32) } else { None },
            ready: self.services.values().all(|managed| self.is_ready(managed)) && gateway_serves,
        }
    }
}

impl Launcher {
    /// Why a call of a published port is not answered though the port is open; `None`: an instance listens.
    fn waits_for(&self, published: &Published, views: &BTreeMap<InstanceName, View>) -> Option<String> {
        let service = &published.service;
        if self.services.get(service).is_some_and(|managed| managed.wanted().replicas == 0) {
            return Some(format!("{service} is stopped"));
        }
        let shared = self.shared.posture == ServicePosture::Explicit;
        let mut lacks = None;
        for view in views.values().filter(|view| view.service == *service && !view.retiring) {
            let Some(init) = view.init.filter(|_| view.service_pid_inside.is_some()) else { continue };
            let port = view.command.as_ref().and_then(|command| command.port(published.port));
            match listening::lack(init.pid, port.unwrap_or(published.port), shared) {
                Some(lack) => lacks = lacks.or(Some(lack)),
                None => return None,
            }
        }
        lacks.or_else(|| Some(format!("{service} does not run")))
    }
}

/// What the gateway says of the port. It tells all of its troubles in one sentence, each with its address.
fn trouble_at(published: &Published, rejected: &[(InstanceName, String)]) -> Option<String> {
    let (_, reason) = rejected.iter().find(|(instance, _)| *instance == gateway_name())?;
    let address = published.listen.to_string();
    let mut parts = reason.split("; ");
    parts.find(|part| part.split(' ').any(|word| word == address)).map(str::to_owned)
}

fn instance_status(name: &InstanceName, view: &View, memory: bool) -> InstanceStatus {
    let init_pid = view.init.map(|init| init.pid);
    let sidecar_pid = view.sidecar.map(|sidecar| sidecar.pid);
    let service_pid = if view.is_container {
        view.service_pid_inside
    } else {
        init_pid.zip(view.service_pid_inside).and_then(|(init, inside)| process::seen_from_here(init, inside))
    };
    // A container is no child of its init, and who stands for it there is none of its memory.
    let processes = |init: i32| match service_pid.filter(|_| view.is_container) {
        Some(pid) => process::descendants(pid).into_iter().chain([pid]).collect(),
        None if view.is_container => Vec::new(),
        None => process::descendants(init),
    };
    let descendants = init_pid.filter(|_| memory).map(processes);
    let measured = |pid: Option<i32>| pid.filter(|_| memory).and_then(pss_bytes);
    InstanceStatus {
        name: name.clone(),
        state: view.state,
        health: view.health,
        restarts: view.restarts,
        init_pid,
        sidecar_pid,
        service_pid,
        started_unix_ms: view.started_unix_ms,
        exit_code: view.exit_code,
        processes: descendants.as_deref().map(process::threads_of_all),
        processes_max: view.command.as_ref().and_then(|command| command.processes_max),
        memory_bytes: descendants.and_then(pss_bytes_of_all),
        sidecar_memory_bytes: measured(sidecar_pid),
        init_memory_bytes: measured(init_pid),
        message: view.message.clone(),
        unheard_port: view.unheard_port,
    }
}
