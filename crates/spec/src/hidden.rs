//! What a service does not see in the folders of the host that it is shown, by path: compose files, contents of secrets
//! and configs, and in the project folder what other services mount. Sinew's own folders are the launcher's to add.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::application::{Application, FileContent, Mount, MountSource, Service};

/// What an application is read from, also when it is made only later.
const FILES: &[&str] = &[
    ".env",
    "compose.yaml",
    "compose.yml",
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
];

/// In the project folder and whatever else is shown.
pub fn in_shown(application: &Application, service: &Service) -> BTreeSet<PathBuf> {
    let mut hidden = never_shown(application);
    hidden.extend(mounted_by_others(application, service).map(Path::to_path_buf));
    without_what_it_stands_on(hidden, application, service)
}

/// In a folder that the service mounts.
pub fn in_mount(
    application: &Application,
    service: &Service,
    mount: &Mount,
    source: &Path,
) -> BTreeSet<PathBuf> {
    if !mount.hide {
        return BTreeSet::new();
    }
    let mut hidden = never_shown(application);
    let others = mounted_by_others(application, service);
    let meets = meets_others(application, source);
    hidden.extend(others.filter(|path| !(meets && path.starts_with(source))).map(Path::to_path_buf));
    without_what_it_stands_on(hidden, application, service)
}

/// Files of secrets that others are granted, and this service is not.
pub fn secrets_of_others(application: &Application, service: &Service) -> BTreeSet<PathBuf> {
    let secrets = |service: &Service| -> BTreeSet<PathBuf> {
        let secrets = service.files.iter().filter(|grant| grant.secret);
        secrets.filter_map(|grant| file(&grant.content)).map(Path::to_path_buf).collect()
    };
    let own = secrets(service);
    application.services.values().flat_map(secrets).filter(|path| !own.contains(path)).collect()
}

/// Folders of the host that the service mounts, and files.
pub fn bind_sources(service: &Service) -> impl Iterator<Item = &Path> {
    service.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Bind { path, .. } => Some(path.as_path()),
        MountSource::Volume(_) => None,
    })
}

fn never_shown(application: &Application) -> BTreeSet<PathBuf> {
    let mut hidden: BTreeSet<PathBuf> = application.files.iter().cloned().collect();
    // Included projects have folders of their own.
    let read_from: BTreeSet<&Path> = application.files.iter().filter_map(|file| file.parent()).collect();
    for folder in read_from.into_iter().chain([application.folder.as_path()]) {
        hidden.extend(FILES.iter().map(|name| folder.join(name)));
    }
    let grants = application.services.values().flat_map(|service| &service.files);
    hidden.extend(grants.filter_map(|grant| file(&grant.content)).map(Path::to_path_buf));
    hidden
}

fn file(content: &FileContent) -> Option<&Path> {
    match content {
        FileContent::File(path) => Some(path),
        FileContent::Environment(_) | FileContent::Inline(_) => None,
    }
}

fn mounted_by_others<'a>(
    application: &'a Application,
    service: &'a Service,
) -> impl Iterator<Item = &'a Path> {
    let others = application.services.values().filter(|other| other.name != service.name);
    others.flat_map(bind_sources).filter(|path| !names(service, path))
}

/// Whether a word of the command is a path at or below `folder`: `[python3, src/worker.py]` needs `src`.
fn names(service: &Service, folder: &Path) -> bool {
    // A container's program lies in its image.
    service.container.is_none()
        && service.command.iter().any(|word| service.working_dir.join(word).starts_with(folder))
}

/// What others mount below a folder is seen by who mounts the folder, unless it is the project folder or above it: who
/// writes `./web:/web` for one service and `./web/static:/static` for another wants them to meet there.
fn meets_others(application: &Application, source: &Path) -> bool {
    !application.folder.starts_with(source)
}

/// Never what the service needs itself, nor a folder in which that lies.
pub fn without_what_it_stands_on(
    mut hidden: BTreeSet<PathBuf>,
    application: &Application,
    service: &Service,
) -> BTreeSet<PathBuf> {
    let mut own: Vec<&Path> = bind_sources(service).collect();
    let mut program = None;
    if service.container.is_none() {
        own.extend([service.working_dir.as_path(), &application.folder]);
        own.extend(service.read.iter().map(PathBuf::as_path));
        program = service.command.first().map(|program| service.working_dir.join(program));
    }
    own.extend(program.as_deref());
    hidden.retain(|path| !own.iter().any(|needed| needed.starts_with(path)));
    hidden
}
