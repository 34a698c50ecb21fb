//! What a service finds in its file system: `volumes`, `tmpfs`, `devices`, `configs`, `secrets`.

use std::path::{Path, PathBuf};

use crate::application::{Device, Mount, MountSource};

use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::service::{Context, Draft};
use super::source::At;
use super::suggest::nearest;
use super::yaml::Value;
use super::{PathKind, grants, paths};

const SYNTAX: &str = "a mount is `./folder:/path`, `name:/path` or `name:/path:ro`";

pub(super) fn read(keys: &Keys<'_>, draft: &mut Draft, context: &mut Context<'_>) {
    let mut targets = Targets::default();
    if let Some(field) = keys.get("volumes") {
        for item in field.items(context.findings).unwrap_or_default() {
            let what = match item.node.value {
                Value::Mapping(_) => long(&item, context),
                _ => short(&item, context),
            };
            if let Some(what) = what {
                targets.add(what, &item, context);
            }
        }
    }
    if let Some(field) = keys.get("tmpfs") {
        for item in field.items_or_one(context.findings).unwrap_or_default() {
            if let Some(target) = tmpfs(&item, context) {
                targets.add(What::Tmpfs(target), &item, context);
            }
        }
    }
    for (what, at, path) in targets.list {
        match what {
            What::Mount(mount) => {
                draft.service.mounts.push(mount);
                draft.mounts_at.push((at, path));
            }
            What::Tmpfs(target) => draft.service.tmpfs.push(target),
        }
    }
    if let Some(field) = keys.get("devices") {
        devices(field, draft, context);
    }
    grants::read(keys, draft, context);
}

enum What {
    Mount(Mount),
    Tmpfs(PathBuf),
}

impl What {
    fn target(&self) -> &Path {
        match self {
            Self::Mount(mount) => &mount.target,
            Self::Tmpfs(target) => target,
        }
    }
}

/// One thing at each place: what a later file says wins, twice in one file is a problem.
#[derive(Default)]
struct Targets {
    list: Vec<(What, At, String)>,
}

impl Targets {
    fn add(&mut self, what: What, item: &Field<'_>, context: &mut Context<'_>) {
        let at = item.at();
        let Some(known) = self.list.iter_mut().find(|(known, ..)| known.target() == what.target()) else {
            self.list.push((what, at, item.path.clone()));
            return;
        };
        if known.1.source == at.source {
            let problem = format!("two things are mounted at {}", quote(&what.target().to_string_lossy()));
            item.problem(context.findings, problem).hint(format!("the first is on line {}", known.1.line));
            return;
        }
        *known = (what, at, item.path.clone());
    }
}

fn short(item: &Field<'_>, context: &mut Context<'_>) -> Option<What> {
    let text = item.filled(context.findings)?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => {
            let hint = if target.starts_with('/') {
                format!(
                    "give the volume a name (`name:{target}`), or write `tmpfs: [{target}]` for what need not last"
                )
            } else {
                SYNTAX.to_owned()
            };
            item.problem(context.findings, format!("{} has no source and a target", quote(text))).hint(hint);
            return None;
        }
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => {
            item.problem(context.findings, format!("{} is not a mount", quote(text))).hint(SYNTAX);
            return None;
        }
    };
    let Options { read_only, copy } = mount_options(item, options, context)?;
    let target = paths::inside(item, target, context.findings);
    let source = if source.starts_with(['.', '/', '~']) {
        let path = paths::host(item, source, context.input, context.findings)?;
        MountSource::Bind { path, create: true }
    } else {
        named_volume(item, source, context)?
    };
    Some(What::Mount(Mount { copy, ..Mount::new(source, target?, read_only) }))
}

struct Options {
    read_only: bool,
    copy: bool,
}

fn mount_options(item: &Field<'_>, options: &str, context: &mut Context<'_>) -> Option<Options> {
    let (mut read_only, mut copy) = (false, true);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" => copy = false,
            "cached" | "delegated" | "consistent" => {
                let what = format!("the mount option `{option}` has no effect");
                context.findings.warning(item.at(), item.path.clone(), what);
            }
            _ => {
                let what = format!("the mount option {} is not supported", quote(option));
                item.problem(context.findings, what).hint("the options are `ro` and `rw`");
                return None;
            }
        }
    }
    Some(Options { read_only, copy })
}

fn named_volume(item: &Field<'_>, name: &str, context: &mut Context<'_>) -> Option<MountSource> {
    if context.top.volumes.take(name).is_some() {
        return Some(MountSource::Volume(name.to_owned()));
    }
    let what = format!("the volume {} is not declared", quote(name));
    let hint = if name.contains('/') {
        format!("a path begins with `./`: `./{name}`")
    } else {
        match nearest(name, context.top.volumes.names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it at the top level: `volumes: {{{name}: }}`; a folder is `./{name}`"),
        }
    };
    item.problem(context.findings, what).hint(hint);
    None
}

#[derive(Clone, Copy)]
enum Kind {
    Volume,
    Bind,
    Tmpfs,
}

fn long(item: &Field<'_>, context: &mut Context<'_>) -> Option<What> {
    let keys = item.keys(Section::ServiceVolume, context.findings)?;
    let Some(kind) = keys.get("type") else {
        item.problem(context.findings, "an entry of `volumes` needs a `type`")
            .hint("write `type: volume`, `type: bind` or `type: tmpfs`");
        return None;
    };
    let kind = kind
        .word(context.findings, &[("volume", Kind::Volume), ("bind", Kind::Bind), ("tmpfs", Kind::Tmpfs)])?;
    let Some(target) = keys.get("target") else {
        item.problem(
            context.findings,
            "an entry of `volumes` needs a `target`: the path that the service sees",
        );
        return None;
    };
    let target =
        target.filled(context.findings).and_then(|text| paths::inside(target, text, context.findings));
    let read_only = match keys.get("read_only") {
        Some(field) => field.boolean(context.findings)?,
        None => false,
    };
    let bind =
        keys.get_filled("bind").and_then(|field| field.keys(Section::ServiceVolumeBind, context.findings));
    let volume = keys
        .get_filled("volume")
        .and_then(|field| field.keys(Section::ServiceVolumeVolume, context.findings));
    let copy = match volume.as_ref().and_then(|volume| volume.get("nocopy")) {
        Some(field) => !field.boolean(context.findings)?,
        None => true,
    };
    let hide = hide(&keys, kind, context)?;
    if let Some(field) = keys.get_filled("tmpfs") {
        field.keys(Section::ServiceVolumeTmpfs, context.findings);
    }
    let source = keys.get("source");
    if let Kind::Tmpfs = kind {
        if let Some(source) = source {
            source.problem(context.findings, "a tmpfs has no `source`: it begins empty");
        }
        return Some(What::Tmpfs(target?));
    }
    let Some(source) = source else {
        item.problem(context.findings, "an entry of `volumes` needs a `source`")
            .hint("the name of a volume, or with `type: bind` a path");
        return None;
    };
    let text = source.filled(context.findings)?;
    let from = match kind {
        Kind::Bind => {
            let path = paths::host(source, text, context.input, context.findings)?;
            let create = match bind.as_ref().and_then(|bind| bind.get("create_host_path")) {
                Some(field) => field.boolean(context.findings)?,
                None => false,
            };
            if !create && context.input.reader.kind(&path).is_none() {
                source
                    .problem(context.findings, format!("{} does not exist", path.display()))
                    .hint("create it, or write `bind: {create_host_path: true}`");
            }
            MountSource::Bind { path, create }
        }
        Kind::Volume | Kind::Tmpfs => {
            if text.starts_with(['.', '/', '~']) {
                source
                    .problem(context.findings, format!("{} is a path, not the name of a volume", quote(text)))
                    .hint("write `type: bind`");
                return None;
            }
            named_volume(source, text, context)?
        }
    };
    Some(What::Mount(Mount { hide, copy, ..Mount::new(from, target?, read_only) }))
}

/// `None`: it is not said as it must be.
fn hide(keys: &Keys<'_>, kind: Kind, context: &mut Context<'_>) -> Option<bool> {
    let Some(field) = keys.get_filled("x-sinew") else { return Some(true) };
    let keys = field.keys(Section::SinewVolume, context.findings)?;
    let Some(hide) = keys.get("hide") else {
        return Some(true);
    };
    let value = hide.boolean(context.findings)?;
    if !matches!(kind, Kind::Bind) {
        hide.problem(context.findings, "`hide` is about folders of the host: nothing is hidden in a volume")
            .hint("it belongs to an entry with `type: bind`");
        return None;
    }
    Some(value)
}

fn tmpfs(item: &Field<'_>, context: &mut Context<'_>) -> Option<PathBuf> {
    let text = item.filled(context.findings)?;
    if let Some((path, options)) = text.split_once(':') {
        item.problem(context.findings, format!("options of a tmpfs are not supported: {}", quote(options)))
            .hint(format!("write `{path}`; its memory counts against the service's `mem_limit`"));
        return None;
    }
    paths::inside(item, text, context.findings)
}

fn devices(field: &Field<'_>, draft: &mut Draft, context: &mut Context<'_>) {
    for item in field.items(context.findings).unwrap_or_default() {
        let device = match item.node.value {
            Value::Mapping(_) => long_device(&item, context),
            _ => short_device(&item, context),
        };
        let Some(device) = device else { continue };
        draft.service.devices.retain(|known| known.target != device.target);
        draft.service.devices.push(device);
    }
}

fn short_device(item: &Field<'_>, context: &mut Context<'_>) -> Option<Device> {
    let text = item.filled(context.findings)?;
    let mut parts = text.split(':');
    let source = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or(source);
    let permissions = parts.next().unwrap_or("rwm");
    if parts.next().is_some() || source.is_empty() {
        item.problem(context.findings, format!("{} is not a device", quote(text)))
            .hint("a device is `/dev/ttyUSB0` or `/dev/ttyUSB0:/dev/ttyS0:rw`");
        return None;
    }
    device(item, source, (item, target), (item, permissions), context)
}

fn long_device(item: &Field<'_>, context: &mut Context<'_>) -> Option<Device> {
    let keys = item.keys(Section::Device, context.findings)?;
    let Some(source) = keys.get("source") else {
        item.problem(context.findings, "an entry of `devices` needs a `source`");
        return None;
    };
    let from = source.filled(context.findings)?;
    let target = match keys.get("target") {
        Some(field) => (field, field.filled(context.findings)?),
        None => (source, from),
    };
    let permissions = match keys.get("permissions") {
        Some(field) => (field, field.filled(context.findings)?),
        None => (source, "rwm"),
    };
    device(source, from, target, permissions, context)
}

fn device(
    field: &Field<'_>,
    source: &str,
    (target_field, target): (&Field<'_>, &str),
    (permissions_field, permissions): (&Field<'_>, &str),
    context: &mut Context<'_>,
) -> Option<Device> {
    if !source.starts_with('/') {
        field
            .problem(context.findings, format!("{} is not the path of a device", quote(source)))
            .hint("a device is like `/dev/ttyUSB0`");
        return None;
    }
    let source = paths::normalize(Path::new(source));
    // A folder of devices, like /dev/snd, counts.
    if context.input.reader.kind(&source) != Some(PathKind::Folder) {
        paths::must_exist(field, &source, PathKind::Device, context.input, context.findings);
    }
    let good = !permissions.is_empty() && permissions.chars().all(|letter| "rwm".contains(letter));
    if !good {
        permissions_field
            .problem(context.findings, format!("{} are not the permissions of a device", quote(permissions)))
            .hint("they are letters of `rwm`: read, write, make");
        return None;
    }
    Some(Device {
        source,
        target: paths::inside(target_field, target, context.findings)?,
        read: permissions.contains('r'),
        write: permissions.contains('w'),
    })
}
