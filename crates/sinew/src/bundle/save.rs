//! What goes into a bundle: the files that an application is read from and the files it reads, and its images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sinew_spec::application::{Application, FileContent, MountSource};
use sinew_spec::bundle::{BundledImage, FORMAT, MEMBERS_MAX, Manifest, MemberPath, VERSION};
use sinew_spec::compose::lock::{FILE_NAME, Lock};
use sinew_spec::digest::Digest;

use super::sign::SigningKey;
use super::write::Writer;
use crate::versions::store::Store;

#[cfg(test)]
mod tests;

/// Of folders in folders.
const DEPTH_MAX: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("{path} lies outside of the project folder {folder}; a bundle holds what lies in it", path = .path.display(), folder = .folder.display())]
    Outside { path: PathBuf, folder: PathBuf },
    #[error("{path}: {wrong}", path = .path.display())]
    Path { path: PathBuf, wrong: String },
    #[error("reading {path}: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("more than {MEMBERS_MAX} files would be in it; the last one was {path}", path = .0.display())]
    TooMany(PathBuf),
    #[error("writing {path}: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Engine(String),
}

/// What of an application's files a bundle holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Relative to the project folder -> on this machine.
    pub files: BTreeMap<String, PathBuf>,
    /// Secrets, and what services write: relative to the project folder where it lies in it.
    pub left_out: BTreeSet<String>,
}

/// Looks at files, reads none. `included`: further files and folders, absolute.
pub fn files(
    application: &Application,
    with_secrets: bool,
    included: &[PathBuf],
) -> Result<Files, SaveError> {
    let mut walk = Walk { folder: &application.folder, found: Files::default() };
    for path in &application.files {
        walk.add(path)?;
    }
    for service in application.services.values() {
        for grant in &service.files {
            match &grant.content {
                FileContent::File(path) if !grant.secret || with_secrets => walk.add(path)?,
                FileContent::File(path) => walk.leave_out(path),
                FileContent::Environment(name) if grant.secret => {
                    walk.found.left_out.insert(format!("${name}"));
                }
                FileContent::Environment(_) | FileContent::Inline(_) => {}
            }
        }
        for mount in &service.mounts {
            if let MountSource::Bind { path, .. } = &mount.source {
                let inside = path.strip_prefix(walk.folder).is_ok_and(|rest| rest != Path::new(""));
                if mount.read_only && inside {
                    walk.add(path)?;
                } else {
                    walk.leave_out(path);
                }
            }
        }
    }
    for path in included {
        walk.add(path)?;
    }
    // The lock in the bundle is the bundle's.
    walk.found.files.remove(FILE_NAME);
    let Files { files, left_out } = &mut walk.found;
    left_out.retain(|path| !files.contains_key(path));
    Ok(walk.found)
}

struct Walk<'a> {
    folder: &'a Path,
    found: Files,
}

impl Walk<'_> {
    fn leave_out(&mut self, path: &Path) {
        let path = path.strip_prefix(self.folder).unwrap_or(path);
        self.found.left_out.insert(path.display().to_string());
    }

    fn add(&mut self, path: &Path) -> Result<(), SaveError> {
        self.add_at(path, 0)
    }

    fn add_at(&mut self, path: &Path, depth: usize) -> Result<(), SaveError> {
        let wrong = |wrong: &str| SaveError::Path { path: path.to_path_buf(), wrong: wrong.to_owned() };
        let unreadable = |source| SaveError::Read { path: path.to_path_buf(), source };
        let relative = path.strip_prefix(self.folder).map_err(|_| SaveError::Outside {
            path: path.to_path_buf(),
            folder: self.folder.to_path_buf(),
        })?;
        let relative = relative.to_str().ok_or_else(|| wrong("its name is no UTF-8"))?;
        let kind = fs::metadata(path).map_err(unreadable)?;
        if kind.is_file() {
            MemberPath::of_file(relative).map_err(|error| wrong(&error.to_string()))?;
            if self.found.files.len() >= MEMBERS_MAX {
                return Err(SaveError::TooMany(path.to_path_buf()));
            }
            self.found.files.insert(relative.to_owned(), path.to_path_buf());
            return Ok(());
        }
        if !kind.is_dir() {
            return Err(wrong("it is neither a file nor a folder"));
        }
        // A folder that leads elsewhere may lead in a circle.
        if depth > 0 && fs::symlink_metadata(path).map_err(unreadable)?.is_symlink() {
            return Err(wrong("it is a link to a folder; a bundle holds files"));
        }
        if depth == DEPTH_MAX {
            return Err(wrong("its folders are nested too deep"));
        }
        for entry in fs::read_dir(path).map_err(unreadable)? {
            self.add_at(&entry.map_err(unreadable)?.path(), depth + 1)?;
        }
        Ok(())
    }
}

/// What is known of the images of an application: every one is on this host.
#[derive(Debug)]
pub struct Images {
    pub images: Vec<BundledImage>,
    /// Says of every reference which image it is, also of those that name a digest.
    pub lock: Lock,
}

/// Says that images are not built there, where what they are built from is not. Comes after all compose files.
pub const WITHOUT_BUILDS: &str = "compose.bundle.yaml";

/// Its text. `None`: nothing is built.
pub fn without_builds(application: &Application) -> Option<String> {
    let mut out = String::from(
        "# Written by `sinew bundle save`: the images are in the bundle, what they were built from is not.\nservices:\n",
    );
    let mut some = false;
    for (name, service) in &application.services {
        let Some(container) = service.container.as_ref().filter(|container| container.build.is_some()) else {
            continue;
        };
        some = true;
        let image = &container.image;
        out.push_str(&format!(
            "  {name}:\n    image: \"{image}\"\n    build: !reset null\n    pull_policy: never\n"
        ));
    }
    some.then_some(out)
}

/// What is saved.
pub struct What<'a> {
    pub application: &'a Application,
    /// In the order of `-f`; absolute.
    pub compose: &'a [PathBuf],
    pub files: &'a Files,
    pub images: &'a Images,
}

/// Writes the bundle to `path`. `store`: where there are images.
pub fn save(
    path: &Path,
    what: &What<'_>,
    store: Option<&dyn Store>,
    key: Option<&SigningKey>,
    created: String,
) -> Result<Manifest, SaveError> {
    let What { application, compose, files, images } = what;
    let failed = |source| SaveError::Write { path: path.to_path_buf(), source };
    let mut writer = Writer::create(path).map_err(failed)?;
    for (relative, from) in &files.files {
        let unreadable = |source| SaveError::Read { path: from.clone(), source };
        let member = MemberPath::of_file(relative).expect("it was looked at");
        let file = fs::File::open(from).map_err(unreadable)?;
        let executable = is_executable(&file).map_err(unreadable)?;
        writer.add(member, executable, file).map_err(failed)?;
    }
    let mut compose = relative(compose, &application.folder)?;
    if let Some(text) = without_builds(application) {
        if files.files.contains_key(WITHOUT_BUILDS) {
            let (path, wrong) =
                (application.folder.join(WITHOUT_BUILDS), "bundles have a file of this name".to_owned());
            return Err(SaveError::Path { path, wrong });
        }
        let member = MemberPath::of_file(WITHOUT_BUILDS).expect("its name is good");
        writer.add(member, false, text.as_bytes()).map_err(failed)?;
        compose.push(WITHOUT_BUILDS.to_owned());
    }
    let lock = MemberPath::of_file(FILE_NAME).expect("its name is good");
    writer.add(lock, false, images.lock.render().as_bytes()).map_err(failed)?;
    let mut ids: Vec<&Digest> = images.images.iter().map(|image| &image.id).collect();
    ids.sort();
    ids.dedup();
    for (id, store) in ids.into_iter().zip(store.into_iter().cycle()) {
        let archive = store.save(id).map_err(SaveError::Engine)?;
        writer.add(MemberPath::of_image(id), false, archive).map_err(|source| {
            SaveError::Engine(format!("saving the image {} to {}: {source}", id.short(), path.display()))
        })?;
    }
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        application: application.name.clone(),
        created,
        compose,
        members: Vec::new(),
        images: images.images.clone(),
        left_out: files.left_out.iter().cloned().collect(),
    };
    writer.finish(manifest, key).map_err(failed)
}

fn relative(compose: &[PathBuf], folder: &Path) -> Result<Vec<String>, SaveError> {
    compose
        .iter()
        .map(|path| match path.strip_prefix(folder).ok().and_then(Path::to_str) {
            Some(relative) => Ok(relative.to_owned()),
            None => Err(SaveError::Outside { path: path.clone(), folder: folder.to_path_buf() }),
        })
        .collect()
}

fn is_executable(file: &fs::File) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o100 != 0)
}
