//! What an earlier launcher left: taken over when it was detached and lives, cleaned up otherwise.

use super::*;

use sinew_spec::proxy::GATEWAY_SERVICE;

use super::gateway::registration;
use crate::container;
use crate::folders::InstanceFolder;
use crate::instance::registration as instance_registration;
use crate::process::{self, ProcessId};
use crate::record::{Ended, Found, InstanceRecord, Stranger};
use crate::registry::{Registration, Routing};
use crate::sidecar::PROXY;
use crate::sidecar::succession::settle;

struct Taken {
    instance: Instance,
    orders: watch::Sender<Order>,
    record: InstanceRecord,
}

impl Launcher {
    /// Everybody is known to the registry before the first socket is listened on, so that proxies, which connect at
    /// once, are never told of a world without endpoints.
    pub(super) async fn adopt(&mut self, detached: bool) -> Result<(), AdminError> {
        let mut kept = Vec::new();
        let earlier: Option<ApplicationRecord> = record::read(&self.shared.folders.application_record());
        let same_posture = earlier.as_ref().is_none_or(|earlier| earlier.posture == self.shared.posture);
        let records = self.read_records().await?;
        let mut registrations: Vec<Registration> = Vec::new();
        let mut taken: Vec<Taken> = Vec::new();
        let mut strangers: Vec<Stranger> = Vec::new();
        let mut gateway = None;
        let mut had_containers = false;
        for (folder, found) in records {
            let record = match found {
                Found::Known(record) => {
                    let sidecar = settle(&folder, record.sidecar).await;
                    InstanceRecord { sidecar, ..*record }
                }
                Found::Stranger(stranger) => {
                    let stays = detached && same_posture && stranger.is_alive();
                    if stays && self.services.contains_key(&stranger.service) {
                        strangers.push(stranger);
                    } else {
                        end_unrecorded(&folder).await;
                        let _ = folder.remove();
                    }
                    continue;
                }
            };
            had_containers |= record.container.is_some();
            let alive = record.init.or(record.sidecar).is_some_and(ProcessId::is_alive);
            let ended = record.ended.as_ref().is_some_and(Ended::is_of_this_boot);
            if !detached || !same_posture || record.lifeline || !(alive || ended) {
                end(&record).await;
                end_unrecorded(&folder).await;
                self.remove_cgroup(&record).await;
                let _ = folder.remove();
            } else if record.service.as_str() == GATEWAY_SERVICE {
                registrations.push(registration(&folder));
                gateway = record.sidecar;
            } else if let Some(service) = record.definition.clone().filter(|_| ended) {
                // Its launcher may have died before it could clear up after it.
                end_unrecorded(&folder).await;
                self.remove_cgroup(&record).await;
                let service = Arc::new(service);
                let (instance, orders) =
                    self.instance(service, record.number, record.version, record.restarts);
                taken.push(Taken { instance, orders, record });
            } else if let Some(service) = record.definition.clone() {
                let routing = if record.ready { Routing::In } else { Routing::Out };
                registrations.push(instance_registration(&service, &record.instance, &folder, routing));
                let service = Arc::new(service);
                let (instance, orders) =
                    self.instance(service, record.number, record.version, record.restarts);
                taken.push(Taken { instance, orders, record });
            }
        }
        let entered = self.shared.registry.enter(registrations).await;
        entered.map_err(|error| answer::failed(&error))?;
        if gateway.is_some() {
            self.host_gateway(gateway)?;
        }
        for Taken { instance, orders, record } in taken {
            let version = record.version;
            match self.services.get_mut(&record.service) {
                Some(managed) => managed.generation = managed.generation.max(version.generation),
                // The file does not name it any more.
                None => {
                    let mut managed = Managed::new((*instance.service).clone(), Contents::default());
                    managed.leaving = true;
                    self.services.insert(record.service.clone(), managed);
                }
            }
            if let Some(ended) = &record.ended {
                self.host(instance, orders, Some(Adopted::Ended(ended.code)), false);
                continue;
            }
            match instance.adopt(&record).await {
                Some(sealed) => {
                    kept.extend(record.container.as_ref().map(|container| container.name.clone()));
                    self.host(instance, orders, Some(Adopted::Sealed(Box::new(sealed))), record.ready);
                }
                None => {
                    let _ = self.shared.registry.leave(&record.instance);
                    self.shared.board.remove(&record.instance);
                    let folder = self.shared.folders.instance(&record.instance);
                    end(&record).await;
                    end_unrecorded(&folder).await;
                    self.remove_cgroup(&record).await;
                    let _ = folder.remove();
                }
            }
        }
        for stranger in strangers {
            self.host_stranger(stranger);
        }
        had_containers |= earlier.as_ref().is_some_and(|earlier| has_containers(&earlier.application));
        if had_containers || has_containers(&self.application) {
            // Those that nobody wrote down, and those of before the last boot.
            if let Err(error) = container::sweep(&self.shared.folders.run, kept).await {
                self.shared.log(&format!("looking for containers that were left: {error}"));
            }
        }
        if let Some(earlier) = earlier.filter(|_| detached) {
            for (name, stopped) in earlier.stopped {
                if let Some(managed) = self.services.get_mut(&name) {
                    managed.stopped = stopped;
                }
            }
        }
        self.declare()
    }

    /// It counts as an instance of another version: the usual replacement, one after the other, ends it.
    fn host_stranger(&mut self, stranger: Stranger) {
        let Some(managed) = self.services.get(&stranger.service) else { return };
        let (service, now) = (managed.service.clone(), managed.version());
        let other = Version { hash: !now.hash, ..now };
        self.shared.log(&format!("{} was started by another version of sinew: replaced", stranger.instance));
        let (instance, orders) = self.instance(service, stranger.number, other, 0);
        self.host(instance, orders, Some(Adopted::Stranger(Box::new(stranger))), true);
    }

    async fn remove_cgroup(&self, record: &InstanceRecord) {
        let application = self.shared.folders.cgroup();
        if let Err(error) = self.shared.cgroups.remove(&application, record.instance.as_str()).await {
            self.shared.log(&error.to_string());
        }
    }

    async fn read_records(&self) -> Result<Vec<(InstanceFolder, Found)>, AdminError> {
        let folders = self.shared.folders.instance_folders();
        let folders = folders.map_err(|error| answer::failed(&format!("reading the run folder: {error}")))?;
        let mut records = Vec::new();
        for folder in folders {
            match InstanceRecord::find(&folder) {
                Some(found) => records.push((folder, found)),
                // Logs of one that has ended, or a birth that was cut short.
                None => {
                    end_unrecorded(&folder).await;
                    let _ = folder.remove();
                }
            }
        }
        Ok(records)
    }
}

/// Ends the processes of an instance and waits for their end. Its container is swept with all others.
async fn end(record: &InstanceRecord) {
    for id in [record.init, record.sidecar].into_iter().flatten() {
        process::end(id).await;
    }
}

/// What a launcher started that died before it could write it down: init and proxy carry their folder in their
/// arguments.
async fn end_unrecorded(folder: &InstanceFolder) {
    let inits = process::started_with(crate::init::COMMAND, folder.path.as_os_str());
    let proxies = process::started_with(PROXY, folder.bootstrap().as_os_str());
    for id in inits.into_iter().chain(proxies) {
        process::end(id).await;
    }
}

/// What a launcher before this one published: its gateway may be listening there.
pub fn earlier_published(folders: &Folders) -> Vec<Published> {
    let record: Option<ApplicationRecord> = record::read(&folders.application_record());
    record.map(|record| record.published).unwrap_or_default()
}

/// How a launcher before this one ran the application.
pub fn earlier_posture(folders: &Folders) -> Option<ServicePosture> {
    let record: Option<ApplicationRecord> = record::read(&folders.application_record());
    record.map(|record| record.posture)
}

/// The application as a launcher before this one ran it, when instances of it are still alive.
pub fn earlier_application(folders: &Folders) -> Option<Application> {
    let record: ApplicationRecord = record::read(&folders.application_record())?;
    let records = folders.instance_folders().ok()?;
    let is_alive = |folder: &InstanceFolder| {
        InstanceRecord::read(folder).and_then(|record| record.init).is_some_and(ProcessId::is_alive)
    };
    records.iter().any(is_alive).then_some(record.application)
}

/// Ends whatever a launcher that is gone has left on this host. The caller holds the lock, and removes the run folder
/// when that is all it wants (`down` without a launcher). True: something was still running, or a volume removed.
pub async fn clean(folders: &Folders, remove_volumes: bool) -> std::io::Result<bool> {
    let mut something = false;
    let mut had_containers = false;
    for folder in folders.instance_folders()? {
        if let Some(record) = InstanceRecord::read(&folder) {
            had_containers |= record.container.is_some();
            something |= [record.init, record.sidecar].into_iter().flatten().any(ProcessId::is_alive);
            end(&record).await;
        }
        end_unrecorded(&folder).await;
        folder.remove()?;
    }
    let record: Option<ApplicationRecord> = record::read(&folders.application_record());
    if had_containers || record.is_some_and(|record| has_containers(&record.application)) {
        something |= container::sweep(&folders.run, Vec::new()).await.is_ok_and(|removed| removed > 0);
    }
    let removed = Cgroups::detect().remove_application(&folders.cgroup()).await;
    removed.map_err(std::io::Error::other)?;
    if remove_volumes {
        something |= !folders.remove_volumes()?.is_empty();
    }
    Ok(something)
}

fn has_containers(application: &Application) -> bool {
    application.services.values().any(|service| service.container.is_some())
}
