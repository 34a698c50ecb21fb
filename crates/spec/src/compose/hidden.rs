//! Notices of folders that a service may write, and in which something is hidden: what it cannot do there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::application::{Application, MountSource};
use crate::hidden;
use crate::name::ServiceName;

use super::ComposeInput;
use super::problem::quote;
use super::service::Draft;
use super::source::{At, Findings};

/// More are only counted.
const NAMED_MAX: usize = 3;

/// Where the mounts of all services stand, by service and target.
pub(super) struct Places(BTreeMap<(ServiceName, PathBuf), (At, String)>);

impl Places {
    pub fn of(drafts: &[Draft]) -> Self {
        let place = |draft: &Draft| {
            let name = draft.service.name.clone();
            let mounts = draft.service.mounts.iter().zip(draft.mounts_at.clone());
            mounts.map(move |(mount, at)| ((name.clone(), mount.target.clone()), at)).collect::<Vec<_>>()
        };
        Self(drafts.iter().flat_map(place).collect())
    }
}

pub(super) fn warn(
    application: &Application,
    places: &Places,
    input: &ComposeInput<'_>,
    findings: &mut Findings,
) {
    // In a container's folders, entries are covered one by one.
    for service in application.services.values().filter(|service| service.container.is_none()) {
        for mount in service.mounts.iter().filter(|mount| !mount.read_only) {
            let MountSource::Bind { path, .. } = &mount.source else { continue };
            let hidden = hidden::in_mount(application, service, mount, path);
            let below: Vec<&Path> = hidden
                .iter()
                .filter_map(|hidden| hidden.strip_prefix(path).ok())
                .filter(|below| !below.as_os_str().is_empty())
                .collect();
            let place = places.0.get(&(service.name.clone(), mount.target.clone()));
            if let (false, Some((at, key))) = (below.is_empty(), place) {
                let what = format!(
                    "directly in {} nothing can be created, renamed or removed, as {} in it {} hidden from the service",
                    quote(&mount.target.to_string_lossy()),
                    listed(path, &below, input),
                    if below.len() == 1 { "is" } else { "are" }
                );
                findings.warning(*at, key.clone(), what).hint(
                    "files in it can be written, and its folders as usual; mount a folder of its own for what is made at run \
                     time, or write `x-sinew: {hide: false}` in the long syntax: then the service sees and may change \
                     everything in it, compose files and `.env` too",
                );
            }
        }
    }
}

/// Those that are there, the others where none is.
fn listed(folder: &Path, below: &[&Path], input: &ComposeInput<'_>) -> String {
    let there = |path: &&&Path| {
        let path = folder.join(path);
        input.reader.kind(&path).is_some() || input.files.iter().any(|(file, _)| *file == path)
    };
    let mut named: Vec<&&Path> = below.iter().filter(there).collect();
    if named.is_empty() {
        named = below.iter().collect();
    }
    let more = named.len().saturating_sub(NAMED_MAX);
    let shown: Vec<String> =
        named.iter().take(NAMED_MAX).map(|path| quote(&path.to_string_lossy())).collect();
    let shown = shown.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
