//! `sinew logs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use sinew_node::folders::{Folders, InstanceFolder};
use sinew_spec::name::InstanceName;

use super::Context;
use crate::failure::Failure;
use crate::log::{Entry, Past, Reader, in_order, instances_on_disk};
use crate::select::select_all;
use crate::suggest;
use crate::target::Target;
use crate::terminal::{Paint, Terminal, harmless};
use crate::time::{parse_since, rfc3339};
use crate::units::now_unix_ms;

/// Show what services wrote
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew logs\n  \
    sinew logs -f orders billing\n  \
    sinew logs --tail 20 orders-2\n  \
    sinew logs --since 10m -t\n  \
    sinew logs -o json | jq -r 'select(.stream == \"stderr\").text'\n\n\
    The last few megabytes of each instance are kept, also those of its earlier lives.")]
pub struct Arguments {
    /// Services (`orders`) or instances (`orders-2`) [default: all]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Go on with what comes, until Ctrl-C or the end of the application
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines of each instance
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_tail)]
    tail: Option<Tail>,
    /// Only what was written since: `10m`, `1h30m` or `2026-11-21T08:30:00Z`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// Do not show which instance wrote a line
    #[arg(long, alias = "no-log-prefix")]
    no_prefix: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tail(Option<usize>);

/// How often files are looked at while following.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let now = now_unix_ms();
    let since_unix_ms = arguments
        .since
        .as_deref()
        .map(|since| parse_since(since, now))
        .transpose()
        .map_err(|wrong| Failure::bad_input("arguments", format!("--since: {wrong}")))?;
    let past = Past { tail: arguments.tail.and_then(|tail| tail.0), since_unix_ms };
    let target = context.target()?;
    let mut wanted = Instances::of(&target, &arguments.services).await?;

    let mut reader = Reader::default();
    let mut entries = Vec::new();
    for (instance, folder) in wanted.list() {
        entries.extend(reader.add(&instance, &folder, past));
    }
    in_order(&mut entries);
    let mut writer = Writer::new(&context.terminal, arguments.timestamps, !arguments.no_prefix);
    writer.know(wanted.list().iter().map(|(instance, _)| instance));
    writer.write(&entries)?;
    if !arguments.follow {
        return Ok(());
    }
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        // Instances that came meanwhile are read from their start.
        for (instance, folder) in wanted.list() {
            writer.write(&reader.add(&instance, &folder, Past::default()))?;
        }
        writer.write(&reader.read())?;
        if !target.folders.run.exists() {
            return Ok(());
        }
    }
}

/// The instances whose logs are wanted; new ones appear as they come.
struct Instances {
    folders: Folders,
    /// Names that the launcher gave: they may differ from those of the folders when they are long.
    named: BTreeMap<InstanceName, InstanceFolder>,
    /// What was typed; empty: all.
    typed: BTreeSet<String>,
}

impl Instances {
    /// Asks the launcher for names; when there is none, the folders have to tell.
    async fn of(target: &Target, typed: &[String]) -> Result<Self, Failure> {
        let folders = target.folders.clone();
        let typed_set = typed.iter().cloned().collect();
        if let Ok(status) = target.client().status(false).await {
            let mut named = BTreeMap::new();
            for selected in select_all(&status, typed)? {
                let instances = match selected.instance {
                    Some(instance) => std::slice::from_ref(instance),
                    None => &selected.service.instances,
                };
                named.extend(instances.iter().map(|i| (i.name.clone(), folders.instance(&i.name))));
            }
            return Ok(Self { folders, named, typed: typed_set });
        }
        let known = instances_on_disk(&folders);
        for typed in typed {
            if !known.iter().any(|(instance, _)| belongs(instance, typed)) {
                let names: BTreeSet<&str> = known.iter().map(|(instance, _)| service_of(instance)).collect();
                return Err(Failure::bad_input("unknown_service", format!("there are no logs of `{typed}`"))
                    .hint(suggest::hint(typed, "service", names)));
            }
        }
        Ok(Self { folders, named: BTreeMap::new(), typed: typed_set })
    }

    fn list(&mut self) -> Vec<(InstanceName, InstanceFolder)> {
        for (instance, folder) in instances_on_disk(&self.folders) {
            let is_known = self.named.values().any(|known| *known == folder);
            let is_wanted = self.typed.is_empty() || self.typed.iter().any(|typed| belongs(&instance, typed));
            if is_wanted && !is_known && !instance.as_str().starts_with('_') {
                self.named.insert(instance, folder);
            }
        }
        self.named.iter().map(|(instance, folder)| (instance.clone(), folder.clone())).collect()
    }
}

fn belongs(instance: &InstanceName, typed: &str) -> bool {
    instance.as_str() == typed || service_of(instance) == typed
}

/// `orders-2` -> `orders`
pub fn service_of(instance: &InstanceName) -> &str {
    match instance.as_str().rsplit_once('-') {
        Some((service, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            service
        }
        _ => instance.as_str(),
    }
}

/// Lines as they are shown: `orders-1  | text`, each service in its colour.
pub struct Writer<'a> {
    terminal: &'a Terminal,
    timestamps: bool,
    prefix: bool,
    width: usize,
    colors: BTreeMap<String, usize>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(flatten)]
    entry: &'a Entry,
}

impl<'a> Writer<'a> {
    pub fn new(terminal: &'a Terminal, timestamps: bool, prefix: bool) -> Self {
        Self { terminal, timestamps, prefix, width: 0, colors: BTreeMap::new() }
    }

    /// Names that will come: prefixes get the width of the longest.
    pub fn know<'b>(&mut self, instances: impl IntoIterator<Item = &'b InstanceName>) {
        for instance in instances {
            self.width = self.width.max(instance.as_str().chars().count());
            let next = self.colors.len();
            self.colors.entry(service_of(instance).to_owned()).or_insert(next);
        }
    }

    pub fn write(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut out = String::new();
        for entry in entries {
            if self.terminal.is_json() {
                let line = Line { time: entry.unix_ms.map(rfc3339), entry };
                out.push_str(&serde_json::to_string(&line).map_err(|error| Failure::output(error.into()))?);
                out.push('\n');
                continue;
            }
            self.know([&entry.instance]);
            out.push_str(&self.line(entry));
        }
        self.terminal.print(&out)
    }

    fn line(&self, entry: &Entry) -> String {
        let mut line = String::new();
        if self.prefix {
            let color = self.colors.get(service_of(&entry.instance)).copied().unwrap_or_default();
            let name = format!("{:width$} |", entry.instance.as_str(), width = self.width);
            line.push_str(&self.terminal.paint(Paint::Service(color), &name));
            line.push(' ');
        }
        if self.timestamps {
            let time = entry.unix_ms.map(rfc3339).unwrap_or_default();
            line.push_str(&self.terminal.paint(Paint::Dim, &time));
            line.push(' ');
        }
        if self.terminal.is_terminal {
            line.push_str(&harmless(&entry.text, self.terminal.color));
        } else {
            line.push_str(&entry.text);
        }
        line.push('\n');
        line
    }
}

fn parse_tail(text: &str) -> Result<Tail, String> {
    if text == "all" {
        return Ok(Tail(None));
    }
    text.parse().map(|number| Tail(Some(number))).map_err(|_| "a number of lines, or `all`".to_owned())
}

#[cfg(test)]
mod tests {
    use sinew_spec::log::Stream;

    use super::*;

    fn entry(instance: &str, text: &str) -> Entry {
        Entry {
            unix_ms: Some(1_000),
            instance: instance.into(),
            stream: Stream::Error,
            text: text.to_owned(),
        }
    }

    #[test]
    fn prefixes_are_aligned_and_coloured_by_service() {
        let check = |terminal: &Terminal, timestamps, prefix, text: &str, shown: &str| {
            let mut writer = Writer::new(terminal, timestamps, prefix);
            writer.know([&InstanceName::from("historian-1")]);
            assert_eq!(writer.line(&entry("db-1", text)), shown);
        };
        let plain = Terminal::plain();
        check(&plain, false, true, "hello", "db-1        | hello\n");
        check(&plain, true, false, "hello", "1970-01-01T00:00:01.000Z hello\n");
        check(&plain, false, false, "\x1b[2Jraw", "\x1b[2Jraw\n");
        let color = Terminal { color: true, is_terminal: true, ..Terminal::plain() };
        check(&color, false, true, "\x1b[2Jx", "\x1b[36mdb-1        |\x1b[0m x\n");
    }

    #[test]
    fn the_service_stands_before_the_number() {
        for (instance, service) in
            [("orders-2", "orders"), ("a-b-10", "a-b"), ("odd", "odd"), ("odd-", "odd-"), ("a-b", "a-b")]
        {
            assert_eq!(service_of(&instance.into()), service);
        }
    }

    #[test]
    fn lines_as_json_tell_time_and_stream() {
        let line = Line { time: Some(rfc3339(1_000)), entry: &entry("db-1", "x") };
        assert_eq!(
            serde_json::to_string(&line).expect("plain data"),
            r#"{"time":"1970-01-01T00:00:01.000Z","unix_ms":1000,"instance":"db-1","stream":"stderr","text":"x"}"#
        );
    }
}
