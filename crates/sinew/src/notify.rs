//! What systemd is told by a service of `Type=notify` (sd_notify(3)): datagrams to the socket that it names.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Half of what systemd allows between two signs of life; `None`: it wants none.
    pub watchdog_every: Option<Duration>,
}

impl Notifier {
    /// `None`: nobody wants to know. `variable` reads the environment.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> io::Result<Option<Self>> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let number = |name: &str| variable(name)?.parse::<u64>().ok();
        let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog_us = number("WATCHDOG_USEC").filter(|us| is_for_us && *us > 0);
        let watchdog_every = watchdog_us.map(|us| Duration::from_micros(us / 2));
        Ok(Some(Self { socket: UnixDatagram::unbound()?, address, watchdog_every }))
    }

    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// The next [`Notifier::ready`] ends it.
    pub fn reloading(&self) {
        self.send("RELOADING=1\nSTATUS=reloading");
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Who does not listen misses it; the application matters more.
    fn send(&self, text: &str) {
        let _ = self.socket.send_to_addr(text.as_bytes(), &self.address);
    }
}

/// A line feed would begin another variable.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_it_is_asked_to_at_both_kinds_of_addresses() {
        let name = format!("sinew-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&path);
        let plain = UnixDatagram::bind(&path).unwrap();
        let unnamed = SocketAddr::from_abstract_name(&name).unwrap();
        let unnamed = UnixDatagram::bind_addr(&unnamed).unwrap();
        for (socket, address) in [(plain, path.display().to_string()), (unnamed, format!("@{name}"))] {
            let notifier = Notifier::from_environment(|variable| match variable {
                "NOTIFY_SOCKET" => Some(address.clone()),
                "WATCHDOG_USEC" => Some("4000000".to_owned()),
                _ => None,
            });
            let notifier = notifier.unwrap().expect("somebody wants to know");
            assert_eq!(notifier.watchdog_every, Some(Duration::from_secs(2)));
            notifier.ready("up\nREADY=0");
            notifier.alive();
            for expected in ["READY=1\nSTATUS=up READY=0", "WATCHDOG=1"] {
                let mut buffer = [0; 256];
                let length = socket.recv(&mut buffer).unwrap();
                assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
            }
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let notifier = Notifier::from_environment(|variable| match variable {
            "NOTIFY_SOCKET" => Some("@nobody-listens".to_owned()),
            "WATCHDOG_USEC" => Some("4000000".to_owned()),
            "WATCHDOG_PID" => Some("1".to_owned()),
            _ => None,
        });
        assert_eq!(notifier.unwrap().unwrap().watchdog_every, None);
        assert!(Notifier::from_environment(|_| None).unwrap().is_none());
    }
}
