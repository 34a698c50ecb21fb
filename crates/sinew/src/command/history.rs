//! `sinew history`.

use sinew_node::folders::Folders;
use sinew_node::update::history;
use sinew_spec::name::ApplicationName;
use sinew_spec::update::{HistoryEntry, ImageVersion, What};

use super::Context;
use crate::arguments::Files;
use crate::failure::Failure;
use crate::table::{Align, Cell, Table};
use crate::target;
use crate::terminal::{Terminal, harmless};
use crate::time::rfc3339_seconds;

/// Show what became of images: updated, taken back and why, rolled back
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew history\n  \
    sinew history web\n  \
    sinew history -o json | jq '.[] | select(.what == \"taken_back\")'")]
pub struct Arguments {
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    files: Files,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    // Also of one that does not run, and whose file is wrong or gone.
    let name = match &context.common.project {
        Some(name) => ApplicationName::new(name.as_str()),
        None => context.load(None, &arguments.files)?.application.name,
    };
    let folders = Folders::new(&target::bases()?, &name);
    let mut entries = history::read(&folders).map_err(|error| {
        let path = folders.history();
        Failure::failed("history", format!("{} cannot be read: {error}", path.display()))
    })?;
    let meant = |entry: &HistoryEntry| arguments.services.iter().any(|name| name == entry.service.as_str());
    entries.retain(|entry| arguments.services.is_empty() || meant(entry));
    if context.terminal.is_json() {
        return context.terminal.print_json(&entries);
    }
    if entries.is_empty() {
        return context.terminal.print("nothing was updated yet\n");
    }
    context.terminal.print(&render(&entries, &context.terminal))
}

/// Newest last, as in a log.
fn render(entries: &[HistoryEntry], terminal: &Terminal) -> String {
    let mut table = Table::new(&[
        ("TIME", Align::Left),
        ("SERVICE", Align::Left),
        ("WHAT", Align::Left),
        ("IMAGE", Align::Left),
        ("FROM", Align::Left),
        ("TO", Align::Left),
        ("WHY", Align::Left),
    ]);
    let short = |version: &Option<ImageVersion>| {
        version.as_ref().map_or_else(|| "-".to_owned(), |version| version.shown().short().to_owned())
    };
    for entry in entries {
        let what = match entry.what {
            What::Updated => "updated",
            What::RolledBack => "rolled back",
            What::TakenBack => "taken back",
            What::NotPulled => "not pulled",
        };
        table.row([
            rfc3339_seconds(entry.unix_ms).into(),
            entry.service.as_str().into(),
            what.into(),
            harmless(&entry.reference, false).into(),
            short(&entry.from).into(),
            short(&entry.to).into(),
            Cell::from(harmless(&entry.reason.clone().unwrap_or_default(), false)),
        ]);
    }
    // The reason is what people look for: it is never cut.
    table.render(&Terminal { width: None, ..terminal.clone() })
}
