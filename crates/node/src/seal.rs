//! Seals as the launcher sees them: made, waited for, ended. How they are built inside is `init`'s.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sinew_spec::seal::SealSpec;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::init::{self, Report};

pub mod check;
mod sys;

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("start the seal's init: {0}")]
    Start(io::Error),
    #[error("talk to the seal's init while it builds the seal: {0}")]
    Channel(io::Error),
    #[error("build the seal: {0}")]
    Build(String),
}

/// What an init is born with. All of it is duplicated: the caller keeps or closes its own.
#[derive(Debug)]
pub struct SpawnFiles<'a> {
    /// The binary: [`own_program`], but in tests.
    pub program: &'a Path,
    /// Shown by `ps` as the init's argument: best the instance's run folder, so that a human finds what belongs to it.
    pub title: &'a str,
    /// A listening Unix stream socket.
    pub hop_listener: BorrowedFd<'a>,
    /// A listening Unix `SOCK_SEQPACKET` socket, non-blocking (`transport::descriptors::listen_at`).
    pub init_listener: BorrowedFd<'a>,
    /// The folder in which `log` and `log.old` are kept.
    pub log_folder: BorrowedFd<'a>,
    /// The reading end of a pipe whose writing end only the launcher holds; used when `SealSpec::lifeline` is set.
    pub lifeline: Option<BorrowedFd<'a>>,
}

/// The running binary, also when the file it was started from has been replaced.
pub fn own_program() -> &'static Path {
    Path::new("/proc/self/exe")
}

/// The first process of a seal. Dropping it changes nothing for the process.
#[derive(Debug)]
pub struct Seal {
    /// As seen from the host.
    pub init_pid: i32,
    process: AsyncFd<OwnedFd>,
}

/// Builds a seal; when this returns, its init answers on `init_listener`. Dropping the future ends what was begun.
pub async fn spawn(spec: &SealSpec, files: SpawnFiles<'_>) -> Result<Seal, SealError> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(SealError::Start)?;
    let nothing = std::fs::File::open("/dev/null").map_err(SealError::Start)?;
    let theirs = OwnedFd::from(theirs);
    let handed: [(BorrowedFd<'_>, i32); 5] = [
        (theirs.as_fd(), init::CHANNEL),
        (files.hop_listener, init::HOP),
        (files.init_listener, init::LISTENER),
        (files.log_folder, init::LOG_FOLDER),
        (files.lifeline.unwrap_or(nothing.as_fd()), init::LIFELINE),
    ];
    let mut command = Command::new(files.program);
    command
        .arg0("sinew")
        .arg(init::COMMAND)
        .arg(files.title)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    sys::hand_over(&mut command, handed).map_err(SealError::Start)?;
    let mut outside = command.spawn().map_err(SealError::Start)?;
    drop(theirs);

    ours.set_nonblocking(true).map_err(SealError::Channel)?;
    let channel = UnixStream::from_std(ours).map_err(SealError::Channel)?;
    let (reading, mut writing) = channel.into_split();
    let text = serde_json::to_vec(spec).map_err(|e| SealError::Build(e.to_string()))?;
    let sent = async {
        writing.write_all(&(text.len() as u64).to_ne_bytes()).await?;
        writing.write_all(&text).await
    };
    // When the other side gave up early it has said why: that is the better message.
    let sent = sent.await;
    let mut born: Option<Unfinished> = None;
    let mut lines = BufReader::new(reading).lines();
    let failure = loop {
        let line = match lines.next_line().await {
            Ok(Some(line)) => line,
            Ok(None) => match sent {
                Err(error) => break SealError::Channel(error),
                Ok(()) => break SealError::Build("its first process died without a word".to_owned()),
            },
            Err(error) => break SealError::Channel(error),
        };
        match serde_json::from_str(&line) {
            Ok(Report::Born { pid }) => match Unfinished::of(pid) {
                Ok(unfinished) => born = Some(unfinished),
                Err(error) => break SealError::Start(error),
            },
            Ok(Report::Ready) => match born.take() {
                Some(unfinished) => {
                    outside.wait().await.map_err(SealError::Start)?;
                    return unfinished.finish();
                }
                None => break SealError::Build("ready without a process".to_owned()),
            },
            Ok(Report::Failed { reason }) => break SealError::Build(reason),
            Err(error) => break SealError::Build(format!("not a report: {error}")),
        }
    };
    drop(born);
    outside.wait().await.map_err(SealError::Start)?;
    Err(failure)
}

/// The process of a seal that is not built yet: it does not outlive this value.
struct Unfinished {
    pid: i32,
    process: Option<OwnedFd>,
}

impl Unfinished {
    fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, process: Some(sys::open_process(pid)?) })
    }

    fn finish(mut self) -> Result<Seal, SealError> {
        let process = self.process.take().expect("taken only here, where the value ends");
        let process = sys::watch(process).map_err(SealError::Start)?;
        Ok(Seal { init_pid: self.pid, process })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            let _ = sys::kill_process(process.as_fd());
            let _ = sys::reap_process(process.as_fd(), true);
        }
    }
}

impl Seal {
    /// A seal that another launcher made. `None`: no such process, or its start time (field 22 of `/proc/PID/stat`,
    /// clock ticks after boot) differs, so that the pid belongs to somebody else now.
    pub fn adopt(init_pid: i32, started_ticks: u64) -> io::Result<Option<Self>> {
        let process = match sys::open_process(init_pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            opened => opened?,
        };
        // Looked at after the descriptor is held: what the numbers say now is about the process that it names.
        if start_ticks(init_pid) != Some(started_ticks) {
            return Ok(None);
        }
        let process = sys::watch(process)?;
        Ok(Some(Self { init_pid, process }))
    }

    /// When the init started: with the pid it names the process until the next boot.
    pub fn started_ticks(&self) -> Option<u64> {
        start_ticks(self.init_pid)
    }

    /// Returns when the seal has ended, and everything in it. Its exit code when it was a child of this process.
    /// Safe to cancel, and to call again.
    pub async fn wait(&self) -> io::Result<Option<i32>> {
        let _ended = self.process.readable().await?;
        Ok(sys::reap_process(self.process.get_ref().as_fd(), false).unwrap_or(None))
    }

    /// Ends the seal without asking; the kernel kills everything in it. The gentle way is `InitRequest::Shutdown`.
    pub fn kill(&self) -> io::Result<()> {
        match sys::kill_process(self.process.get_ref().as_fd()) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            done => done,
        }
    }
}

impl AsRawFd for Seal {
    /// The pidfd.
    fn as_raw_fd(&self) -> i32 {
        self.process.get_ref().as_raw_fd()
    }
}

fn start_ticks(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
