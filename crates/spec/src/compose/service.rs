//! One service.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use crate::application::Service;
use crate::name::{ApplicationName, ServiceName};

use super::application::Top;
use super::dotenv::{self, Format};
use super::fields::{Field, Keys};
use super::keys::Section;
use super::problem::quote;
use super::source::{At, Findings};
use super::yaml::Value;
use super::{
    ComposeInput, PathKind, container, health, limits, links, logging, mounts, paths, ports, replacing,
    sinew, suggest, units, words,
};

/// What reading a service needs to know.
pub(super) struct Context<'a> {
    pub input: &'a ComposeInput<'a>,
    /// The application's.
    pub name: &'a ApplicationName,
    pub top: &'a Top,
    pub findings: &'a mut Findings,
    /// Those that were read: several services often share one.
    pub env_files: BTreeMap<EnvFile, Vec<(String, String)>>,
}

/// A file, whether it is `raw`, and the environment that its variables are taken from.
pub(super) type EnvFile = (PathBuf, bool, *const BTreeMap<String, String>);

impl Context<'_> {
    /// Of the project that the place belongs to.
    pub fn variable(&self, at: At, name: &str) -> Option<String> {
        self.findings.origin(at).environment.get(name).cloned()
    }
}

/// A service and the places of what can only be checked when all services are known.
pub(super) struct Draft {
    pub service: Service,
    pub profiles: BTreeSet<String>,
    /// As many as `service.published`.
    pub published_at: Vec<(At, String)>,
    /// As many as `service.depends_on`.
    pub depends_at: Vec<(At, String)>,
    /// As many as `service.egress`.
    pub egress_at: Vec<(At, String)>,
    /// As many as `service.mounts`.
    pub mounts_at: Vec<(At, String)>,
    pub working_dir_at: Option<(At, String)>,
}

/// Distinct files over all services.
const ENV_FILES_MAX: usize = 256;
/// Has to fit into one message to the init of the seal, with its names and quotes.
const ENVIRONMENT_BYTES_MAX: usize = 64 * 1024;
const COMMAND_BYTES_MAX: usize = 32 * 1024;

pub(super) fn read(field: &Field<'_>, name: &str, at: At, context: &mut Context<'_>) -> Draft {
    check_name(name, at, &field.path, context.findings);
    let working_dir = context.findings.origin(at).folder.clone();
    let mut draft = Draft {
        service: Service { working_dir, ..Service::new(name, Vec::new()) },
        profiles: BTreeSet::new(),
        published_at: Vec::new(),
        depends_at: Vec::new(),
        egress_at: Vec::new(),
        mounts_at: Vec::new(),
        working_dir_at: None,
    };
    if field.node.failed {
        field.keys(Section::Service, context.findings);
        return draft;
    }
    if field.is_null() {
        let what = format!("the service {} has no content", quote(name));
        context
            .findings
            .problem(at, field.path.clone(), what)
            .hint("its keys are indented below its name, at least: `command: [program, argument]`");
        return draft;
    }
    if !matches!(field.node.value, Value::Mapping(_)) && super::keys::find(Section::Service, name).is_some() {
        let what = format!("`{name}` is no service, but a key of one");
        context
            .findings
            .problem(at, field.path.clone(), what)
            .hint("indent it below the name of its service");
        return draft;
    }
    let Some(keys) = field.keys(Section::Service, context.findings) else { return draft };
    let is_container = container::is_meant(field);
    let [entrypoint, command] = command(field, &keys, at, is_container, context);
    if !is_container {
        draft.service.command = entrypoint.iter().chain(&command).flatten().cloned().collect();
    }
    draft.service.environment = environment(&keys, context);
    process(&keys, is_container, &mut draft, context);
    if is_container {
        container::read(&keys, [entrypoint, command], &mut draft, context);
    } else {
        container::refuse_in_process(&keys, context.findings);
    }
    metadata(&keys, &mut draft, context);
    ports::read(&keys, &mut draft, context);
    links::read(&keys, &mut draft, context);
    limits::read(&keys, &mut draft, context);
    draft.service.log_bytes_max = logging::read(&keys, context.findings);
    mounts::read(&keys, &mut draft, context);
    replacing::read(&keys, &mut draft, context.findings);
    let over_network = sinew::read(&keys, &mut draft, context);
    let has_own_health = over_network.is_some() || keys.get("healthcheck").is_some();
    draft.service.health = health::read(&keys, over_network, context.findings);
    if let Some(container) = &mut draft.service.container {
        container.has_own_health = has_own_health;
    }
    draft
}

fn check_name(name: &str, at: At, path: &str, findings: &mut Findings) {
    let Err(wrong) = ServiceName::parse(name) else { return };
    let lower = name.to_ascii_lowercase().replace(['.', ' '], "-");
    let suggestion = match ServiceName::parse(&lower) {
        Ok(better) => format!(", like `{better}`"),
        Err(_) => String::new(),
    };
    findings.problem(at, path, format!("this cannot be the name of a service: {wrong}")).hint(format!(
        "a service is called by its name (`http://NAME`): lower-case letters, digits, `-` and `_`{suggestion}"
    ));
}

/// entrypoint and command, as far as they are said.
fn command(
    field: &Field<'_>,
    keys: &Keys<'_>,
    at: At,
    is_container: bool,
    context: &mut Context<'_>,
) -> [Option<Vec<String>>; 2] {
    let mut known = true;
    let parts = ["entrypoint", "command"].map(|key| {
        let field = keys.get_filled(key)?;
        let words = command_words(field, context.findings);
        known &= words.is_some();
        words
    });
    let words = || parts.iter().flatten().flatten();
    let elsewhere = is_container || field.node.get("provider").is_some();
    if words().next().is_none() && known && !elsewhere {
        context
            .findings
            .problem(at, field.path.clone(), "the service has no command")
            .hint("write `command: [program, argument]`, or name an `image:`");
    }
    if words().map(|word| word.len() + 1).sum::<usize>() > COMMAND_BYTES_MAX {
        let what = format!("the command has more than {COMMAND_BYTES_MAX} bytes");
        context.findings.problem(at, field.path.clone(), what);
    }
    if words().next().is_some_and(String::is_empty) {
        context.findings.problem(at, field.path.clone(), "the first word of the command is empty");
    }
    parts
}

/// A list of words, or a string that is split like a shell would.
pub(super) fn command_words(field: &Field<'_>, findings: &mut Findings) -> Option<Vec<String>> {
    if let Value::Sequence(_) = field.node.value {
        let items = field.items(findings)?;
        let words: Vec<Option<String>> =
            items.iter().map(|item| item.text(findings).map(str::to_owned)).collect();
        return words.into_iter().collect();
    }
    if let Value::Mapping(_) = field.node.value {
        let what = format!("`{}` must be a list of words or a string, found a mapping", field.name());
        field
            .problem(findings, what)
            .hint("write `[program, argument]`; text that contains `: ` must stand in quotes");
        return None;
    }
    let text = field.text(findings)?;
    match words::split(text) {
        Ok(words) => {
            if let Some(operator) = words::shell_operator(&words) {
                let what =
                    format!("`{operator}` is passed to the program as it is: no shell runs the command");
                findings
                    .warning(field.at(), field.path.clone(), what)
                    .hint("for a shell write `command: [sh, -c, \"…\"]`");
            }
            Some(words)
        }
        Err(unfinished) => {
            field.problem(findings, unfinished.what);
            None
        }
    }
}

fn environment(keys: &Keys<'_>, context: &mut Context<'_>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    if let Some(field) = keys.get("env_file")
        && let Some(items) = field.items_or_one(context.findings)
    {
        for item in items {
            environment.extend(env_file(&item, context).unwrap_or_default());
        }
    }
    let Some(field) = keys.get_filled("environment") else { return environment };
    let mut seen = BTreeMap::new();
    for pair in field.pairs(context.findings).unwrap_or_default() {
        if let Some(what) = dotenv::wrong_name(&pair.key) {
            let problem = context.findings.problem(pair.at, pair.path, what);
            if pair.value.is_none() && pair.key.contains(": ") {
                problem.hint("write `- NAME=value`, or leave out the dashes: `NAME: value`");
            }
            continue;
        }
        if pair.value.as_deref().is_some_and(|value| value.contains('\0')) {
            context.findings.problem(pair.at, pair.path, "the value contains a NUL character");
            continue;
        }
        if let Some(first) = seen.insert(pair.key.clone(), pair.at)
            && first.source == pair.at.source
        {
            let what = format!("the variable `{}` is written twice; the last one counts", pair.key);
            let line = context.findings.mention(first, pair.at);
            context.findings.warning(pair.at, pair.path, what).hint(format!("the first is on {line}"));
        }
        match pair.value.or_else(|| context.variable(pair.at, &pair.key)) {
            Some(value) => environment.insert(pair.key, value),
            // As in Compose: a variable that is passed on and not set is not set inside either.
            None => environment.remove(&pair.key),
        };
    }
    let bytes: usize = environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if bytes > ENVIRONMENT_BYTES_MAX {
        let what = format!("the environment has {bytes} bytes; it may have {ENVIRONMENT_BYTES_MAX}");
        field.problem(context.findings, what).hint("give large values as files: `configs` or `secrets`");
    }
    environment
}

fn env_file(item: &Field<'_>, context: &mut Context<'_>) -> Option<Vec<(String, String)>> {
    let mut format = Format::Compose;
    let mut required = true;
    let path_field;
    if let Value::Mapping(_) = item.node.value {
        let keys = item.keys(Section::EnvFile, context.findings)?;
        if let Some(field) = keys.get("required") {
            required = field.boolean(context.findings)?;
        }
        if let Some(field) = keys.get("format") {
            format = field.word(context.findings, &[("raw", Format::Raw)])?;
        }
        let Some(field) = keys.get("path") else {
            item.problem(context.findings, "an entry of `env_file` needs a `path`");
            return None;
        };
        path_field = field.clone();
    } else {
        path_field = item.clone();
    }
    let text = path_field.filled(context.findings)?;
    let path = paths::host(&path_field, text, context.input, context.findings)?;
    let origin = context.findings.origin(path_field.at()).clone();
    let key = (path.clone(), format == Format::Raw, Rc::as_ptr(&origin.environment));
    if let Some(pairs) = context.env_files.get(&key) {
        return Some(pairs.clone());
    }
    if context.env_files.len() == ENV_FILES_MAX {
        path_field.problem(context.findings, format!("there are more than {ENV_FILES_MAX} `env_file`s"));
        return None;
    }
    let text = match context.input.reader.kind(&path) {
        None if !required => return None,
        None => Err("does not exist".to_owned()),
        Some(PathKind::Folder) => Err("is a folder".to_owned()),
        Some(_) => context.input.reader.read(&path).map_err(|error| format!("cannot be read: {error}")),
    };
    let text = match text {
        Ok(text) => text,
        Err(state) => {
            let problem =
                path_field.problem(context.findings, format!("the file {} {state}", path.display()));
            if state == "does not exist" {
                problem.hint("create it, or write `{path: …, required: false}`");
            }
            return None;
        }
    };
    let source = context.findings.add_source(&path, &text, false);
    let pairs = dotenv::parse(source, format, &origin.environment, context.findings);
    context.env_files.insert(key, pairs.clone());
    Some(pairs)
}

/// Where and as whom the process runs, and how it ends.
fn process(keys: &Keys<'_>, is_container: bool, draft: &mut Draft, context: &mut Context<'_>) {
    if is_container {
        draft.service.working_dir = keys
            .get("working_dir")
            .and_then(|field| paths::within_image(field, field.filled(context.findings)?, context.findings))
            .unwrap_or_default();
    } else if let Some(field) = keys.get("working_dir")
        && let Some(text) = field.filled(context.findings)
        && let Some(path) = paths::host(field, text, context.input, context.findings)
    {
        draft.service.working_dir = path;
        draft.working_dir_at = Some((field.at(), field.path.clone()));
    }
    if let Some(field) = keys.get("user")
        && let Some(text) = field.filled(context.findings)
    {
        let parts: Vec<&str> = text.split(':').collect();
        let good = parts.len() <= 2
            && parts
                .iter()
                .all(|part| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c == '/'));
        if good {
            draft.service.user = Some(text.to_owned());
        } else {
            field
                .problem(context.findings, format!("{} is not a user", quote(text)))
                .hint("a user is `name`, `1000`, `name:group` or `\"1000:1000\"`");
        }
    }
    if let Some(field) = keys.get("stop_signal")
        && let Some(text) = field.number_or_text(context.findings, "a signal like `SIGTERM`")
    {
        match units::signal(text) {
            Ok(signal) => draft.service.stop_signal = signal,
            Err(wrong) => field.wrong(context.findings, wrong),
        }
    }
    if let Some(field) = keys.get("stop_grace_period")
        && let Some(ms) = field.duration_ms(context.findings)
    {
        draft.service.stop_grace_ms = ms;
    }
    if let Some(field) = keys.get("hostname")
        && let Some(text) = field.filled(context.findings)
    {
        if is_host_name(text) {
            draft.service.hostname = Some(text.to_owned());
        } else {
            field
                .problem(context.findings, format!("{} is not a host name", quote(text)))
                .hint("a host name has letters, digits, `-` and `.`, at most 63 characters");
        }
    }
    if let Some(field) = keys.get("init") {
        field.boolean(context.findings);
    }
    if let Some(field) = keys.get("read_only") {
        draft.service.read_only = field.boolean(context.findings).unwrap_or_default();
    }
}

/// Labels of letters, digits, `-` and `_`, joined by dots (RFC 1123, section 2.1, and what people use besides).
pub(super) fn is_host_name(text: &str) -> bool {
    const LENGTH_MAX: usize = 63;
    text.len() <= LENGTH_MAX
        && text.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

fn metadata(keys: &Keys<'_>, draft: &mut Draft, context: &mut Context<'_>) {
    if let Some(field) = keys.get_filled("labels") {
        for pair in field.pairs(context.findings).unwrap_or_default() {
            draft.service.labels.insert(pair.key, pair.value.unwrap_or_default());
        }
    }
    if let Some(field) = keys.get_filled("profiles") {
        for item in field.items(context.findings).unwrap_or_default() {
            if let Some(text) = item.filled(context.findings) {
                draft.profiles.insert(text.to_owned());
            }
        }
    }
    if let Some(field) = keys.get("container_name")
        && let Some(text) = field.filled(context.findings)
        && text != draft.service.name.as_str()
    {
        let name = draft.service.name.clone();
        let hint = match suggest::nearest(text, [name.as_str()]) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "remove it: instances are called `{name}-1`, `{name}-2`…, and others call it `{name}`"
            ),
        };
        field
            .problem(context.findings, "`container_name` can only be the name of the service itself")
            .hint(hint);
    }
}
