//! A proxy that does nothing: frozen, or caught in something that never ends. Its callers leave it out by themselves; here it
//! is found out and ended, so that one that works takes its place. Whoever is only cut off from the control plane answers
//! when it is asked, and goes on.

use std::time::Duration;

use sinew_transport::handover::who;
use tokio::time::{Instant, sleep, timeout};

use super::succession::Situation;

/// Without a word to the control plane. Long: ending it cuts what it has, and somebody may be looking at it with a debugger.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// For one that an earlier launcher left to connect to this one's control plane. It does that within two seconds.
const ADOPTED_SILENT_MAX: Duration = Duration::from_secs(5);
/// For an answer to the question who serves. One that works is late by the time of one hand-over at most.
const ASKED_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Returns when the process that serves is found to do nothing.
pub async fn fallen(situation: Situation, is_adopted: bool) {
    let mut patience = if is_adopted { ADOPTED_SILENT_MAX } else { SILENT_MAX };
    let mut since = None;
    loop {
        sleep(LOOK_EVERY).await;
        if situation.shared.registry.hears(&situation.bootstrap.instance) {
            patience = SILENT_MAX;
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= patience {
            if is_mute(&situation).await {
                return;
            }
            since = None;
        }
    }
}

/// It accepts, as the kernel does that for it, and does not answer. One that cannot be asked is no such thing.
async fn is_mute(situation: &Situation) -> bool {
    timeout(ASKED_MAX, who(&situation.folder.handover_socket())).await.is_err()
}
