//! Where an application keeps what is running (run folder: sockets, logs, records; gone after `down`) and what lasts
//! (state folder: store, root of trust, volumes). Both are the user's own (mode 0700).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;
use sinew_spec::handover::SUCCEEDED;
use sinew_spec::name::{ApplicationName, InstanceName};

#[cfg(test)]
mod tests;

/// `sun_path` has 108 bytes, one of them the end.
const SOCKET_PATH_BYTES_MAX: usize = 107;
const NAME_BYTES_MAX: usize = 32;
/// The longest file name of a socket in an instance's folder.
const SOCKET_NAME: &str = "control.sock";

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{attempted} {path}: {source}")]
    Io { attempted: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} belongs to user {owner}; it must be your own")]
    Foreign { path: PathBuf, owner: u32 },
    #[error(
        "everybody can write in {path}: what lies in it could be replaced by others; `chmod o-w {path}`, or set SINEW_RUN_DIR and SINEW_STATE_DIR to folders of your own"
    )]
    Open { path: PathBuf },
    #[error(
        "{path} is too long for a Unix socket ({length} bytes, {SOCKET_PATH_BYTES_MAX} are possible); set SINEW_RUN_DIR to a shorter folder"
    )]
    TooLong { path: PathBuf, length: usize },
    #[error("no home directory for what shall last; set HOME or SINEW_STATE_DIR")]
    Homeless,
    #[error("another launcher runs this application{}", match .pid { Some(pid) => format!(" (pid {pid})"), None => String::new() })]
    Locked { pid: Option<i32> },
}

/// Bases of both folders, from the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bases {
    pub run: PathBuf,
    pub state: PathBuf,
}

impl Bases {
    /// `variable` reads the environment; a variable that is empty or not absolute counts as absent.
    pub fn from_environment(
        uid: Uid,
        variable: impl Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Self, FolderError> {
        let path = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let run = path("SINEW_RUN_DIR").unwrap_or_else(|| {
            if uid.is_root() {
                return PathBuf::from("/run/sinew");
            }
            // An XDG_RUNTIME_DIR of somebody else comes with `su`.
            path("XDG_RUNTIME_DIR")
                .filter(|path| fs::metadata(path).is_ok_and(|folder| folder.uid() == uid.as_raw()))
                .map_or_else(|| PathBuf::from(format!("/tmp/sinew-{uid}")), |path| path.join("sinew"))
        });
        let state = match path("SINEW_STATE_DIR") {
            Some(path) => path,
            None if uid.is_root() => PathBuf::from("/var/lib/sinew"),
            None => path("XDG_STATE_HOME")
                .or_else(|| path("HOME").map(|home| home.join(".local/state")))
                .ok_or(FolderError::Homeless)?
                .join("sinew"),
        };
        Ok(Self { run, state })
    }

    /// Whether others could have put something into the bases that are there, or could replace what is put there:
    /// `/tmp/sinew-1000` may have been made by somebody else.
    pub fn check(&self) -> Result<(), FolderError> {
        check_base(&self.run)?;
        check_base(&self.state)
    }
}

/// The folders of one application. Nothing is made before [`Folders::make`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    pub run: PathBuf,
    pub state: PathBuf,
}

impl Folders {
    /// Applications are told apart by name, like Compose's projects. A name that is too long for the path of a socket
    /// keeps its beginning and gets a hash of the whole.
    pub fn new(bases: &Bases, application: &ApplicationName) -> Self {
        let name = short(application.as_str());
        Self { run: bases.run.join(&name), state: bases.state.join(&name) }
    }

    pub fn make(&self) -> Result<(), FolderError> {
        for base in [self.run.parent(), self.state.parent()].into_iter().flatten() {
            let failed = |source| FolderError::Io { attempted: "making", path: base.to_path_buf(), source };
            DirBuilder::new().recursive(true).mode(0o700).create(base).map_err(failed)?;
            check_base(base)?;
        }
        for folder in [&self.run, &self.instances(), &self.state, &self.state.join("volumes")] {
            make_private(folder)?;
        }
        Ok(())
    }

    /// False: there is no run folder, or it is somebody else's, who could pose as the launcher.
    pub fn has_own_run(&self) -> bool {
        let found = fs::symlink_metadata(&self.run);
        found.is_ok_and(|found| found.is_dir() && found.uid() == Uid::effective().as_raw())
    }

    /// What the application's folder in cgroups is called: others of its name have other run folders, and must never be
    /// taken for it. The same in every version, as cgroups are found again by it.
    pub fn cgroup(&self) -> String {
        const FNV_OFFSET: u32 = 0x811c_9dc5;
        const FNV_PRIME: u32 = 0x0100_0193;
        let path = self.run.as_os_str().as_encoded_bytes();
        let hash =
            path.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME));
        let name = self.run.file_name().unwrap_or_default().to_string_lossy();
        format!("{name}-{hash:08x}")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.run.join("admin.sock")
    }

    pub fn daemon_log(&self) -> PathBuf {
        self.run.join("daemon.log")
    }

    pub fn application_record(&self) -> PathBuf {
        self.run.join("application.json")
    }

    pub fn instances(&self) -> PathBuf {
        self.run.join("i")
    }

    pub fn instance(&self, instance: &InstanceName) -> InstanceFolder {
        InstanceFolder { path: self.instances().join(short(instance.as_str())) }
    }

    /// What is there from now or from earlier launchers.
    pub fn instance_folders(&self) -> io::Result<Vec<InstanceFolder>> {
        let entries = match fs::read_dir(self.instances()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(InstanceFolder { path: entry.path() });
            }
        }
        folders.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(folders)
    }

    pub fn store(&self) -> PathBuf {
        self.state.join("store.redb")
    }

    /// How far an update is.
    pub fn update_journal(&self) -> PathBuf {
        self.state.join("update.json")
    }

    /// What became of images.
    pub fn history(&self) -> PathBuf {
        self.state.join("history.json")
    }

    pub fn authority(&self) -> PathBuf {
        self.state.join("ca")
    }

    pub fn volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }

    /// `name`: the name on disk ([`sinew_spec::application::Application::volumes`]).
    pub fn volume(&self, name: &str) -> PathBuf {
        // A name from a file never leaves the folder.
        self.volumes().join(name.replace('/', "_"))
    }

    /// Names of the volumes that are there, in order.
    pub fn volume_names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.volumes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Deletes all volumes and returns their names; call with the lock held and nothing running.
    pub fn remove_volumes(&self) -> io::Result<Vec<String>> {
        let names = self.volume_names()?;
        for name in &names {
            remove_all(&self.volumes().join(name))?;
        }
        Ok(names)
    }

    /// Holds the folder that the application was last run from: whose state this is.
    pub fn origin(&self) -> PathBuf {
        self.state.join("origin")
    }

    /// Removes the run folder; call with the lock held and nothing running.
    pub fn remove_run(&self) -> io::Result<()> {
        remove_all(&self.run)
    }
}

/// `i/<instance>/`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFolder {
    pub path: PathBuf,
}

impl InstanceFolder {
    pub fn init_socket(&self) -> PathBuf {
        self.path.join("init.sock")
    }

    pub fn control_socket(&self) -> PathBuf {
        self.path.join(SOCKET_NAME)
    }

    pub fn hop_socket(&self) -> PathBuf {
        self.path.join("hop.sock")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.path.join("admin.sock")
    }

    /// Where the proxy that serves waits for its successor.
    pub fn handover_socket(&self) -> PathBuf {
        self.path.join("next.sock")
    }

    pub fn bootstrap(&self) -> PathBuf {
        self.path.join("bootstrap.json")
    }

    pub fn last_good(&self) -> PathBuf {
        self.path.join("last-good.json")
    }

    pub fn record(&self) -> PathBuf {
        self.path.join("instance.json")
    }

    /// Files that a container is shown.
    pub fn shown(&self) -> PathBuf {
        self.path.join("shown")
    }

    pub fn sidecar_log(&self) -> PathBuf {
        self.path.join("sidecar.log")
    }

    /// Makes the folder empty: logs of an earlier life stay (`sinew logs` shows them), all else goes.
    pub fn make(&self) -> Result<(), FolderError> {
        let length = self.path.as_os_str().len() + 1 + SOCKET_NAME.len();
        if length > SOCKET_PATH_BYTES_MAX {
            return Err(FolderError::TooLong { path: self.path.clone(), length });
        }
        make_private(&self.path)?;
        self.clear()
    }

    /// Removes everything but the logs.
    pub fn clear(&self) -> Result<(), FolderError> {
        for file in [
            self.init_socket(),
            self.control_socket(),
            self.hop_socket(),
            self.admin_socket(),
            self.handover_socket(),
            self.bootstrap(),
            self.last_good(),
            self.record(),
        ] {
            match fs::remove_file(&file) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(FolderError::Io { attempted: "removing", path: file, source });
                }
                _ => {}
            }
        }
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(SUCCEEDED)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let shown = self.shown();
        remove_all(&shown).map_err(|source| FolderError::Io { attempted: "removing", path: shown, source })
    }

    pub fn remove(&self) -> io::Result<()> {
        remove_all(&self.path)
    }
}

fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn short(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let mut end = NAME_BYTES_MAX - 9;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{:08x}", &name[..end], hasher.finish() as u32)
}

/// A base belongs to us or to root, and others write there only where everything is kept to its owner (`/tmp`).
fn check_base(path: &Path) -> Result<(), FolderError> {
    const STICKY: u32 = 0o1000;
    const OTHERS_WRITE: u32 = 0o002;
    for found in [fs::symlink_metadata(path), fs::metadata(path)] {
        let found = match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(FolderError::Io { attempted: "looking at", path: path.to_path_buf(), source });
            }
            Ok(found) => found,
        };
        if found.uid() != Uid::effective().as_raw() && found.uid() != 0 {
            return Err(FolderError::Foreign { path: path.to_path_buf(), owner: found.uid() });
        }
        let mode = found.permissions().mode();
        if found.is_dir() && mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Err(FolderError::Open { path: path.to_path_buf() });
        }
    }
    Ok(())
}

/// A folder of our own that nobody else can enter; it may exist. Parents are made with the usual mode.
fn make_private(path: &Path) -> Result<(), FolderError> {
    let failed = |attempted| move |source| FolderError::Io { attempted, path: path.to_path_buf(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("making the parents of"))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("making")(error)),
        _ => {}
    }
    // Not followed: in /tmp, somebody else may have put a link there.
    let found = fs::symlink_metadata(path).map_err(failed("looking at"))?;
    if found.uid() != Uid::effective().as_raw() || !found.is_dir() {
        return Err(FolderError::Foreign { path: path.to_path_buf(), owner: found.uid() });
    }
    if found.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed("making private"))?;
    }
    Ok(())
}

/// Held by the one launcher of an application; the kernel lets it go with the process.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// The pid of the launcher that runs, or ran last.
    pub fn holder(folders: &Folders) -> Option<i32> {
        fs::read_to_string(folders.run.join("lock")).ok()?.trim().parse().ok()
    }

    pub fn take(folders: &Folders) -> Result<Self, FolderError> {
        let path = folders.run.join("lock");
        let failed = |attempted| {
            let path = path.clone();
            move |source| FolderError::Io { attempted, path, source }
        };
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(failed("opening"))?;
            let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((mut file, nix::Error::EWOULDBLOCK)) => {
                    let mut text = String::new();
                    let _ = file.read_to_string(&mut text);
                    return Err(FolderError::Locked { pid: text.trim().parse().ok() });
                }
                Err((_, error)) => return Err(failed("locking")(error.into())),
            };
            // The holder before us may have removed the folder between our opening and our locking.
            let same = fs::metadata(&path).is_ok_and(|now| {
                file.metadata().is_ok_and(|held| (held.dev(), held.ino()) == (now.dev(), now.ino()))
            });
            if !same {
                folders.make()?;
                continue;
            }
            let written = file
                .set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
            written.map_err(failed("writing"))?;
            return Ok(Self { _file: file });
        }
    }
}

/// Writes a file as a whole or not at all, readable by its owner only.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    fs::rename(&partial, path)
}

/// The same, and it is on disk when this returns: also after a power cut the file is the old or the new one.
pub fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
        return written;
    }
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
