//! A command with a pseudo-terminal, made by the seal's init so that it has a name inside: raw mode on ours, its window
//! size kept like ours.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use sinew_spec::seal::{Command, TerminalSize};
use sinew_transport::seal::{InitClient, InitError};
use tokio::signal::unix::{SignalKind, signal};

use super::streams::drain;

/// Where ours has none.
const SIZE_DEFAULT: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// The exit code. Our terminal is as before when this returns.
pub async fn run(init: InitClient, command: Command) -> Result<i32, InitError> {
    // Before the command runs, so that it never sees another one.
    let size = sys::window_size()
        .map_or(SIZE_DEFAULT, |size| TerminalSize { rows: size.ws_row, columns: size.ws_col });
    let (mut exec, outside) = init.exec_on_terminal(command, size).await?;

    let raw = Raw::enter()?;
    let mut to_command = File::from(outside.try_clone()?);
    let mut from_command = File::from(outside.try_clone()?);
    // Ends with the process: a read from a terminal cannot be called back.
    std::thread::spawn(move || io::copy(&mut io::stdin().lock(), &mut to_command));
    let copy = std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        let mut out = io::stdout();
        // EIO: nobody holds the inner end any more.
        while let Ok(length @ 1..) = from_command.read(&mut buffer) {
            if out.write_all(&buffer[..length]).and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    });

    let mut resized = signal(SignalKind::window_change())?;
    let code = loop {
        tokio::select! {
            code = exec.wait() => break code,
            _ = resized.recv() => {
                if let Some(size) = sys::window_size() {
                    sys::set_window_size(outside.as_fd(), &size);
                }
            }
        }
    };
    drain(copy).await;
    drop(raw);
    code
}

/// Our terminal in raw mode, until dropped.
struct Raw {
    before: Option<Termios>,
}

impl Raw {
    fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self { before: None });
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSADRAIN, &raw)?;
        Ok(Self { before: Some(before) })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The terminal may be gone; there is nothing to restore then.
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
        }
    }
}

mod sys {
    #![allow(unsafe_code)]

    use std::os::fd::{AsRawFd, BorrowedFd};

    use nix::pty::Winsize;

    /// Of the terminal that standard output is.
    pub fn window_size() -> Option<Winsize> {
        let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, which points at one; std has no call for it.
        let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
        (done == 0).then_some(size)
    }

    pub fn set_window_size(terminal: BorrowedFd<'_>, size: &Winsize) {
        // SAFETY: TIOCSWINSZ reads one `winsize` from the pointer, which points at one. A refusal is harmless: the
        // command sees the old size.
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const *size) };
    }
}
