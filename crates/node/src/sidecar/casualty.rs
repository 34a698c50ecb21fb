//! A proxy that nobody asked to end: how it ended is told to the log, to whoever listens to events, and to `status`.

use sinew_spec::admin::Event;
use sinew_spec::name::InstanceName;
use sinew_spec::proxy::{Bootstrap, Posture};
use sinew_spec::status::ProxyLost;

use super::last_words;
use crate::board::unix_ms;
use crate::folders::InstanceFolder;
use crate::process::End;
use crate::shared::Shared;

/// In words; `None`: it ended as one does whose seal has gone, which is told where the seal is.
pub fn how(end: End, bootstrap: &Bootstrap, folder: &InstanceFolder) -> Option<String> {
    let has_seal = bootstrap.posture == Posture::Sidecar;
    match end {
        End::Exited(0) if has_seal => None,
        End::Exited(0) => Some("ended as if it had been asked to (by SIGTERM?)".to_owned()),
        End::Exited(status) => Some(format!("ended with status {status}{}", last_words(folder))),
        End::Killed(libc::SIGKILL) => {
            Some("was killed by signal 9, perhaps by the kernel for memory".to_owned())
        }
        End::Killed(signal) => Some(format!("was killed by signal {signal}{}", last_words(folder))),
        End::Unknown => Some("ended; how is not known, as an earlier launcher had started it".to_owned()),
    }
}

/// `how`: [`how`]. Another one is about to be started.
pub fn tell(shared: &Shared, instance: &InstanceName, pid: i32, how: String) {
    let unix_ms = unix_ms();
    shared.log(&format!("{instance}: proxy {pid} {how}; another one is started"));
    let times = {
        let mut lost = shared.proxies_lost();
        let times = lost.get(instance).map_or(0, |lost| lost.times).saturating_add(1);
        lost.insert(instance.clone(), ProxyLost { times, unix_ms, how: how.clone() });
        times
    };
    shared.board.announce(Event::ProxyLost { unix_ms, instance: instance.clone(), how, times });
}
