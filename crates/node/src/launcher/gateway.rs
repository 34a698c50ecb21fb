//! The gateway: one proxy process per application, while ports are published.

use super::*;

use sinew_spec::proxy::{GATEWAY_SERVICE, Posture};
use sinew_spec::seal::PROTOCOL;

use crate::folders::InstanceFolder;
use crate::record::InstanceRecord;
use crate::registry::{Registration, Routing};

pub(super) fn gateway_name() -> InstanceName {
    InstanceName::new(format!("{GATEWAY_SERVICE}-1"))
}

pub(super) fn registration(folder: &InstanceFolder) -> Registration {
    Registration {
        service: GATEWAY_SERVICE.into(),
        instance: gateway_name(),
        posture: Posture::Gateway,
        control: folder.control_socket(),
        hop: None,
        routing: Routing::Out,
    }
}

impl Launcher {
    /// Starts the gateway when ports are published and it is not there, ends it when none are.
    pub(super) async fn keep_gateway(&mut self) -> Result<(), AdminError> {
        if self.published.is_empty() {
            if let Some(gateway) = self.gateway.take() {
                gateway.end().await;
                let leave = self.shared.registry.leave(&gateway_name());
                leave.map_err(|error| answer::failed(&error))?;
                let _ = self.shared.folders.instance(&gateway_name()).remove();
            }
            return Ok(());
        }
        if self.gateway.is_some() {
            return Ok(());
        }
        let folder = self.shared.folders.instance(&gateway_name());
        folder.make().map_err(|error| answer::failed(&error))?;
        let entered = self.shared.registry.enter(vec![registration(&folder)]).await;
        entered.map_err(|error| answer::failed(&error))?;
        self.host_gateway(None)
    }

    pub(super) fn host_gateway(
        &mut self,
        alive: Option<crate::process::ProcessId>,
    ) -> Result<(), AdminError> {
        let name = gateway_name();
        let (shared, process) = (self.shared.clone(), self.gateway_process.clone());
        let record = InstanceRecord {
            instance: name.clone(),
            service: GATEWAY_SERVICE.into(),
            number: 1,
            version: Version::default(),
            init: None,
            sidecar: None,
            definition: None,
            command: None,
            restarts: 0,
            ready: false,
            lifeline: self.shared.lifeline.is_some(),
            ended: None,
            protocol: PROTOCOL,
            container: None,
        };
        let tell = move |id: Option<crate::process::ProcessId>| {
            if let Ok(mut process) = process.lock() {
                *process = id.map(|id| id.pid);
            }
            if id.is_some() {
                let folder = shared.folders.instance(&record.instance);
                let _ = InstanceRecord { sidecar: id, ..record.clone() }.write(&folder);
            }
        };
        let gateway = Sidecar::keep(self.shared.clone(), name, Posture::Gateway, None, alive, tell)
            .map_err(|error| answer::failed(&format!("starting the gateway: {error}")))?;
        self.gateway = Some(gateway);
        Ok(())
    }
}
