//! What ends a proxy.

use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};

use sinew_spec::proxy::Bootstrap;
use sinew_transport::descriptors::Channel;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The lifeline's read end, as the launcher left it. Opened by its path, so that no descriptor is taken for granted.
const LIFELINE: &str = "/proc/self/fd/3";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Whoever started it is gone, or the seal is: there is nobody left to serve.
    AtOnce,
    /// What is in flight may end.
    Drained,
}

pub struct Endings {
    terminate: Signal,
    interrupt: Signal,
    /// False: an interrupt is the launcher's business (it reaches all processes of a terminal).
    interrupt_ends: bool,
    lifeline: Option<pipe::Receiver>,
    seal: Option<Channel>,
}

impl Endings {
    pub async fn new(bootstrap: &Bootstrap) -> io::Result<Self> {
        let told = |what: &str, path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{what} ({}): {error}", path.display()))
        };
        let lifeline = match bootstrap.lifeline {
            true => {
                let path = PathBuf::from(LIFELINE);
                let opened = pipe::OpenOptions::new().open_receiver(&path);
                Some(opened.map_err(|error| told("the lifeline is not there", &path, error))?)
            }
            false => None,
        };
        let seal = match &bootstrap.init {
            Some(path) => {
                let opened = Channel::connect(path).await;
                Some(opened.map_err(|error| told("the seal's init is not there", path, error))?)
            }
            None => None,
        };
        Ok(Self { lifeline, seal, ..Self::of_signals(false)? })
    }

    /// For a proxy that somebody started by hand.
    pub fn of_signals(interrupt_ends: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            interrupt_ends,
            lifeline: None,
            seal: None,
        })
    }

    /// The next reason to end. Cancel safe.
    pub async fn next(&mut self) -> Ending {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ending::Drained,
                _ = self.interrupt.recv() => if self.interrupt_ends {
                    return Ending::Drained;
                },
                () = end_of_pipe(&mut self.lifeline) => return Ending::AtOnce,
                () = end_of_seal(&self.seal) => return Ending::AtOnce,
            }
        }
    }
}

async fn end_of_pipe(lifeline: &mut Option<pipe::Receiver>) {
    let Some(pipe) = lifeline else { return pending().await };
    // Nobody writes to it; whatever comes is not the end.
    while pipe.read(&mut [0; 16]).await.is_ok_and(|length| length > 0) {}
}

/// An idle connection to the init, on which nothing is asked: only its end says something.
async fn end_of_seal(seal: &Option<Channel>) {
    let Some(seal) = seal else { return pending().await };
    let mut buffer = [0; 16];
    loop {
        match seal.receive(&mut buffer).await {
            Ok((0, _)) => return,
            Ok(_) => {}
            // A message that does not fit is none of ours; everything else is the end.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(_) => return,
        }
    }
}
