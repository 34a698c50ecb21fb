//! From a verified bundle to an application that can be started without a network: all of it, or nothing.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sinew_spec::bundle::{BundledImage, MemberPath};
use sinew_spec::digest::Digest;

use super::read::Checked;
use crate::versions::store::Store;

#[cfg(test)]
mod tests;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{path} exists and is not an empty folder", path = .0.display())]
    Exists(PathBuf),
    #[error("writing {path}: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Engine(String),
    #[error("the image {0} was loaded, but the engine does not have it")]
    Absent(Digest),
}

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded {
    pub images_new: usize,
    pub images_there: usize,
}

/// Puts the files into `folder`, which must not exist or be empty, and the images into the engine.
pub fn load(checked: &Checked, folder: &Path, store: Option<&dyn Store>) -> Result<Loaded, LoadError> {
    if fs::symlink_metadata(folder).is_ok()
        && fs::read_dir(folder).map_or(true, |mut list| list.next().is_some())
    {
        return Err(LoadError::Exists(folder.to_path_buf()));
    }
    let partial = Partial::make(folder)?;
    for member in checked.members().filter(|member| member.path.file().is_some()) {
        unpack(checked, &member.path, member.executable, &partial.path)?;
    }
    // Without images no engine is needed.
    let Some(store) = store else {
        partial.move_to(folder)?;
        return Ok(Loaded { images_new: 0, images_there: 0 });
    };
    let mut brought = Brought { store, new: Vec::new(), done: false };
    let loaded = images(checked, &mut brought)?;
    partial.move_to(folder)?;
    brought.done = true;
    Ok(loaded)
}

fn unpack(checked: &Checked, path: &MemberPath, executable: bool, folder: &Path) -> Result<(), LoadError> {
    let target = folder.join(path.file().expect("only files are unpacked"));
    let failed = |source| LoadError::Write { path: target.clone(), source };
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mode = if executable { 0o755 } else { 0o644 };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&target).map_err(failed)?;
    let mut content = checked.open(path).expect("a member that was verified is there");
    io::copy(&mut content, &mut file).map_err(failed)?;
    file.sync_all().map_err(failed)
}

fn images(checked: &Checked, brought: &mut Brought<'_>) -> Result<Loaded, LoadError> {
    let store = brought.store;
    let mut loaded = Loaded { images_new: 0, images_there: 0 };
    for image in &checked.manifest.images {
        let there = store.find(image.id.as_str()).map_err(LoadError::Engine)?.is_some();
        if there {
            loaded.images_there += 1;
        } else {
            let path = MemberPath::of_image(&image.id);
            let mut archive = checked.open(&path).expect("an image that was verified is there");
            brought.new.push(image.id.clone());
            store.load(&mut archive).map_err(LoadError::Engine)?;
            // Its id is the checksum of its configuration, which names its layers: another one is another image.
            if store.find(image.id.as_str()).map_err(LoadError::Engine)?.is_none() {
                return Err(LoadError::Absent(image.id.clone()));
            }
            loaded.images_new += 1;
        }
    }
    // Names last: an existing one is moved only when everything is here.
    for image in &checked.manifest.images {
        for name in names(image) {
            store.tag(&image.id, &name).map_err(LoadError::Engine)?;
        }
    }
    Ok(loaded)
}

/// Without a name, an engine would tidy the image away.
fn names(image: &BundledImage) -> Vec<String> {
    let named: Vec<String> =
        image.references.iter().filter(|reference| !reference.contains('@')).cloned().collect();
    if named.is_empty() { vec![format!("localhost/sinew-bundle:{}", image.id.short())] } else { named }
}

/// Images that were not here before.
struct Brought<'a> {
    store: &'a dyn Store,
    new: Vec<Digest>,
    done: bool,
}

impl Drop for Brought<'_> {
    fn drop(&mut self) {
        for id in self.new.iter().filter(|_| !self.done) {
            let _ = self.store.remove(id.as_str());
        }
    }
}

/// Beside the folder that it becomes.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn make(folder: &Path) -> Result<Self, LoadError> {
        let mut path = folder.as_os_str().to_owned();
        path.push(format!(".{}.partial", std::process::id()));
        let path = PathBuf::from(path);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| LoadError::Write { path: path.clone(), source })?;
        Ok(Self { path })
    }

    fn move_to(&self, folder: &Path) -> Result<(), LoadError> {
        // Replaces an empty folder; one that is not empty any more stays.
        fs::rename(&self.path, folder)
            .map_err(|source| LoadError::Write { path: folder.to_path_buf(), source })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Not there any more when it became the folder.
        let _ = fs::remove_dir_all(&self.path);
    }
}
