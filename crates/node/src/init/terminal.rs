//! A pseudo-terminal of the seal's own: made inside, so that it has a name there (`tty` tells `/dev/pts/0`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, setfsuid};
use sinew_spec::seal::TerminalSize;

use super::sys;

pub struct Terminal {
    /// For whoever looks at it and types.
    pub outer: OwnedFd,
    /// For the program.
    pub inner: OwnedFd,
}

impl Terminal {
    /// `user`: whom it belongs to, so that a program may open it again by its name.
    pub fn open(user: u32, size: Option<TerminalSize>) -> Result<Self, String> {
        let before = setfsuid(Uid::from_raw(user));
        let outer = open("/dev/ptmx", OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty());
        setfsuid(before);
        let failed = |error: io::Error| format!("make a terminal: {error}");
        let outer = outer.map_err(|error| failed(error.into()))?;
        let inner = sys::inner_terminal(&outer).map_err(failed)?;
        if let Some(TerminalSize { rows, columns }) = size {
            sys::set_window_size(inner.as_fd(), rows, columns).map_err(failed)?;
        }
        Ok(Self { outer, inner })
    }
}
