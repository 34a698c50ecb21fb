//! `image:`, `build:` and what only containers have. Seals are not weakened: what would, is refused with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::application::{Container, ImageBuild, PullPolicy, UlimitRange};

use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::service::{Context, Draft};
use super::source::Findings;
use super::yaml::Value;
use super::{PathKind, paths, suggest, units};

/// Keys of containers alone.
const OF_CONTAINERS: &[&str] =
    &["pull_policy", "platform", "cap_add", "cap_drop", "security_opt", "group_add", "ulimits", "shm_size"];

/// What a container may be given. None of these reaches beyond it: no network, no mounts, no other processes, no devices.
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

const REFERENCE_BYTES_MAX: usize = 512;

/// Whether the service is a container, as far as its keys say so.
pub(super) fn is_meant(field: &Field<'_>) -> bool {
    ["image", "build"].iter().any(|key| field.node.get(key).is_some())
}

/// What can only be said of containers is a problem in a process.
pub(super) fn refuse_in_process(keys: &Keys<'_>, findings: &mut Findings) {
    for name in OF_CONTAINERS {
        if let Some(field) = keys.get(name) {
            field
                .problem(
                    findings,
                    format!("`{name}` belongs to containers, and this service runs as a process"),
                )
                .hint(process_hint(name));
        }
    }
}

fn process_hint(name: &str) -> &'static str {
    match name {
        "cap_add" | "cap_drop" | "security_opt" => {
            "leave it out; a sealed process has no capabilities and cannot gain any"
        }
        "group_add" => "give the group with the user: `user: \"user:group\"`",
        "ulimits" => "limits are `cpus`, `mem_limit` and `pids_limit`, or `deploy.resources.limits`",
        "shm_size" => "use `tmpfs: [/dev/shm]`",
        _ => "leave it out, or name an `image:`",
    }
}

pub(super) fn read(
    keys: &Keys<'_>,
    command: [Option<Vec<String>>; 2],
    draft: &mut Draft,
    context: &mut Context<'_>,
) {
    let [entrypoint, command] = command;
    let mut container = Container { entrypoint, command, ..Container::default() };
    let image = keys.get("image").map(|field| (field, image(field, context.findings)));
    if let Some(field) = keys.get("build") {
        container.build = build(field, context);
        if let Some(path) = container.build.as_ref().and_then(|build| build.dockerfile.to_str())
            && path.is_empty()
        {
            field.problem(context.findings, "`dockerfile` is empty");
        }
    }
    match image {
        Some((_, Some(name))) => container.image = name,
        Some((_, None)) => {}
        // Compose's name for it, in the space of names that no registry serves.
        None => container.image = format!("localhost/{}-{}:latest", context.name, draft.service.name),
    }
    container.pull = pull_policy(keys, container.build.is_some(), context.findings);
    if let Some(field) = keys.get("platform") {
        container.platform = platform(field, context.findings);
    }
    privileges(keys, &mut container, context.findings);
    resources(keys, &mut container, context.findings);
    if let Some(field) = keys.get("init") {
        container.init = field.boolean(context.findings).unwrap_or_default();
    }
    container.stop_signal = keys.get("stop_signal").map(|_| draft.service.stop_signal);
    draft.service.container = Some(container);
    for key in ["build", "read"] {
        if let Some(field) = keys.get_filled("x-sinew").and_then(|sinew| sinew.child(key)) {
            field
                .problem(
                    context.findings,
                    format!("`x-sinew.{key}` belongs to processes, and this service is a container"),
                )
                .hint(if key == "build" {
                    "build images with `build:`"
                } else {
                    "show files with `volumes:`"
                });
        }
    }
}

/// Compose's grammar of names, as far as a mistake can be told from a name.
fn image(field: &Field<'_>, findings: &mut Findings) -> Option<String> {
    let text = field.filled(findings)?;
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let wrong = if text.len() > REFERENCE_BYTES_MAX {
        Some(format!("it has more than {REFERENCE_BYTES_MAX} bytes"))
    } else if text.contains("://") {
        Some("an image has no `https://` in front".to_owned())
    } else if path.split('/').any(str::is_empty) {
        Some("a part of its name is empty".to_owned())
    } else if let Some(odd) = path.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-/:".contains(*c))) {
        Some(format!("{} cannot stand in its name", quote(&odd.to_string())))
    } else if path
        .split('/')
        .skip(usize::from(path.contains('/')))
        .any(|part| part.contains(char::is_uppercase))
    {
        Some("names of images have small letters only".to_owned())
    } else if tag.is_some_and(|tag| tag.is_empty() || tag.len() > 128) {
        Some("its tag is empty or too long".to_owned())
    } else {
        digest.and_then(wrong_digest)
    };
    if let Some(wrong) = wrong {
        field
            .problem(findings, format!("{} is not an image: {wrong}", quote(text)))
            .hint("an image is `name`, `name:tag`, `registry:port/path/name:tag` or `name@sha256:…`");
        return None;
    }
    Some(text.to_owned())
}

fn wrong_digest(digest: &str) -> Option<String> {
    const HEX_DIGITS: usize = 64;
    let hex = digest.strip_prefix("sha256:")?;
    let good = hex.len() == HEX_DIGITS
        && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (!good).then(|| format!("a digest is `sha256:` and {HEX_DIGITS} digits of 0-9 and a-f"))
}

fn build(field: &Field<'_>, context: &mut Context<'_>) -> Option<ImageBuild> {
    let mut build = ImageBuild { dockerfile: "Dockerfile".into(), ..ImageBuild::default() };
    let Value::Mapping(_) = field.node.value else {
        let text = field.filled(context.findings)?;
        build.context = folder(field, text, context)?;
        return dockerfile(field, build, context);
    };
    let keys = field.keys(Section::Build, context.findings)?;
    build.context = match keys.get("context") {
        Some(field) => {
            let text = field.filled(context.findings)?;
            folder(field, text, context)?
        }
        None => context.findings.origin(field.at()).folder.clone(),
    };
    if let Some(field) = keys.get("dockerfile") {
        build.dockerfile = PathBuf::from(field.filled(context.findings)?);
    }
    if let Some(field) = keys.get_filled("args") {
        for pair in field.pairs(context.findings).unwrap_or_default() {
            if let Some(value) = pair.value.or_else(|| context.variable(pair.at, &pair.key)) {
                build.arguments.insert(pair.key, value);
            }
        }
    }
    if let Some(field) = keys.get_filled("labels") {
        for pair in field.pairs(context.findings).unwrap_or_default() {
            build.labels.insert(pair.key, pair.value.unwrap_or_default());
        }
    }
    if let Some(field) = keys.get("target") {
        build.target = field.filled(context.findings).map(str::to_owned);
    }
    for (name, value) in [("no_cache", &mut build.no_cache), ("pull", &mut build.pull)] {
        if let Some(field) = keys.get(name) {
            *value = field.boolean(context.findings).unwrap_or_default();
        }
    }
    dockerfile(keys.get("dockerfile").unwrap_or(field), build, context)
}

fn folder(field: &Field<'_>, text: &str, context: &mut Context<'_>) -> Option<PathBuf> {
    if text.contains("://") || text.starts_with("git@") {
        field
            .problem(context.findings, format!("{} is not a folder of this host", quote(text)))
            .hint("clone it, and build from the folder");
        return None;
    }
    let path = paths::host(field, text, context.input, context.findings)?;
    paths::must_exist(field, &path, PathKind::Folder, context.input, context.findings).then_some(path)
}

fn dockerfile(field: &Field<'_>, mut build: ImageBuild, context: &mut Context<'_>) -> Option<ImageBuild> {
    let whole = paths::normalize(&build.context.join(&build.dockerfile));
    let Ok(below) = whole.strip_prefix(&build.context) else {
        let what = format!("the Dockerfile {} lies outside of the build's context", whole.display());
        field.problem(context.findings, what).hint("make `context` a folder that holds it");
        return None;
    };
    if !paths::must_exist(field, &whole, PathKind::File, context.input, context.findings) {
        return None;
    }
    build.dockerfile = Path::new(below).to_path_buf();
    Some(build)
}

fn pull_policy(keys: &Keys<'_>, is_built: bool, findings: &mut Findings) -> PullPolicy {
    let Some(field) = keys.get("pull_policy") else { return PullPolicy::Missing };
    let words = [
        ("missing", PullPolicy::Missing),
        ("if_not_present", PullPolicy::Missing),
        ("always", PullPolicy::Always),
        ("never", PullPolicy::Never),
        ("build", PullPolicy::Build),
    ];
    let policy = field.word(findings, &words).unwrap_or_default();
    if policy == PullPolicy::Build && !is_built {
        field
            .problem(findings, "`pull_policy: build` needs a `build`")
            .hint("write `build: ./folder` beside it");
    }
    policy
}

fn platform(field: &Field<'_>, findings: &mut Findings) -> Option<String> {
    let text = field.filled(findings)?;
    let good = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let parts: Vec<&str> = text.split('/').collect();
    if !(2..=3).contains(&parts.len()) || !parts.iter().all(|part| good(part)) {
        field
            .problem(findings, format!("{} is not a platform", quote(text)))
            .hint("write `linux/amd64` or `linux/arm64`");
        return None;
    }
    if parts[0] != "linux" {
        field.problem(findings, format!("images for {} do not run here", quote(parts[0])));
        return None;
    }
    Some(text.to_owned())
}

fn privileges(keys: &Keys<'_>, container: &mut Container, findings: &mut Findings) {
    if let Some(field) = keys.get_filled("cap_add") {
        container.capabilities_added = capabilities(field, false, findings);
    }
    if let Some(field) = keys.get_filled("cap_drop") {
        container.capabilities_dropped = capabilities(field, true, findings);
    }
    if let Some(field) = keys.get_filled("group_add") {
        for item in field.items(findings).unwrap_or_default() {
            if let Some(text) = item.number_or_text(findings, "a group") {
                container.groups.push(text.to_owned());
            }
        }
    }
    let options = keys.get_filled("security_opt").and_then(|field| field.items(findings));
    for item in options.unwrap_or_default() {
        let Some(text) = item.filled(findings) else { continue };
        match text.replace('=', ":").as_str() {
            "no-new-privileges" | "no-new-privileges:true" => container.new_privileges = false,
            "no-new-privileges:false" => container.new_privileges = true,
            other => {
                let kind = other.split(':').next().unwrap_or_default();
                let hint = match kind {
                    "seccomp" => "containers run with the engine's own filter of system calls; leave it out",
                    "label" | "apparmor" => {
                        "containers run with the engine's own labels and profiles; leave it out"
                    }
                    "systempaths" | "unmask" | "mask" => {
                        "what the engine hides in /proc and /sys stays hidden; leave it out"
                    }
                    _ => {
                        "`no-new-privileges:true` (the default here) and `no-new-privileges:false` are supported"
                    }
                };
                item.problem(findings, format!("the security option {} is not supported", quote(text)))
                    .hint(hint);
            }
        }
    }
}

fn capabilities(field: &Field<'_>, dropped: bool, findings: &mut Findings) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for item in field.items(findings).unwrap_or_default() {
        let Some(text) = item.filled(findings) else { continue };
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        // What is not there may be dropped all the same.
        let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        if dropped && is_word || CAPABILITIES.contains(&name) {
            names.insert(name.to_owned());
        } else {
            let hint = match suggest::nearest(name, CAPABILITIES.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "it could reach beyond the container; these can be added: {}",
                    CAPABILITIES.join(", ")
                ),
            };
            item.problem(findings, format!("the capability {} cannot be added", quote(text))).hint(hint);
        }
    }
    names
}

fn resources(keys: &Keys<'_>, container: &mut Container, findings: &mut Findings) {
    if let Some(field) = keys.get("shm_size")
        && let Some(text) = field.number_or_text(findings, "an amount of memory like `64m`")
    {
        match units::bytes(text) {
            Ok(bytes) => container.shm_bytes = Some(bytes),
            Err(wrong) => field.wrong(findings, wrong),
        }
    }
    let Some(field) = keys.get_filled("ulimits") else { return };
    container.ulimits = ulimits(field, findings).unwrap_or_default();
}

fn ulimits(field: &Field<'_>, findings: &mut Findings) -> Option<BTreeMap<String, UlimitRange>> {
    let mut limits = BTreeMap::new();
    for entry in field.entries(findings)? {
        let field = Field::of(entry, &field.path);
        if !ULIMITS.contains(&entry.key.as_str()) {
            let problem = findings.problem(
                entry.key_at,
                field.path.clone(),
                format!("{} is not a limit", quote(&entry.key)),
            );
            problem.hint(match suggest::nearest(&entry.key, ULIMITS.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it is one of {}", ULIMITS.join(", ")),
            });
            continue;
        }
        let number = |field: &Field<'_>, findings: &mut Findings| field.integer(findings, -1, i64::MAX);
        let range = if let Value::Mapping(_) = field.node.value {
            let Some(keys) = field.keys(Section::Ulimit, findings) else { continue };
            let (Some(soft), Some(hard)) = (keys.get("soft"), keys.get("hard")) else {
                field.problem(findings, "a limit has `soft` and `hard`, or is one number for both");
                continue;
            };
            let (Some(soft), Some(hard)) = (number(soft, findings), number(hard, findings)) else { continue };
            UlimitRange { soft, hard }
        } else {
            let Some(both) = number(&field, findings) else { continue };
            UlimitRange { soft: both, hard: both }
        };
        limits.insert(entry.key.clone(), range);
    }
    Some(limits)
}
