//! `sinew check`.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use serde::Serialize;
use sinew_spec::application::Application;

use super::Context;
use crate::arguments::Files;
use crate::failure::{Failure, from_here};
use crate::terminal::Paint;
use crate::units::count;

/// Say what is wrong with a compose file, and what this host lacks; nothing is started
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    sinew check                           the file of this folder, and this host\n  \
    sinew check compose.yaml              the file alone\n  \
    sinew check -f compose.yaml -f production.yaml\n  \
    sinew check -o json\n\n\
    Exit codes: 0 all is well, 1 the host lacks something, 2 the file is wrong.")]
pub struct Arguments {
    /// A compose file, or a folder with one; the host is not looked at then
    #[arg(value_name = "FILE|DIR", value_hint = clap::ValueHint::AnyPath)]
    place: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
}

#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    host: Vec<Finding>,
}

#[derive(Serialize)]
struct FileReport {
    application: String,
    files: Vec<PathBuf>,
    services: usize,
    instances: u64,
    warnings: sinew_spec::compose::Problems,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    what: String,
    ok: bool,
    /// What was found.
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
    let wanted = context.wanted(arguments.place.as_deref(), &arguments.files);
    let explicit = wanted.place.is_some() || !wanted.files.is_empty();
    let loaded = match context.load(arguments.place.as_deref(), &arguments.files) {
        // The host alone can be checked anywhere.
        Err(failure) if failure.code == "no_file" && !explicit => {
            if !context.terminal.is_json() {
                context.terminal.print("no compose file here: only the host is looked at\n")?;
            }
            None
        }
        loaded => Some(loaded?),
    };
    let mut host = Vec::new();
    if !explicit && let Some(loaded) = &loaded {
        host.extend(ports(&loaded.application));
    }
    let file = loaded.map(|loaded| FileReport {
        application: loaded.application.name.to_string(),
        services: loaded.application.services.len(),
        instances: loaded.application.services.values().map(|service| u64::from(service.replicas)).sum(),
        files: loaded.application.files,
        warnings: loaded.warnings,
    });
    let report = Report { file, host };
    let lacking = report.host.iter().filter(|finding| !finding.ok).count();
    if context.terminal.is_json() {
        context.terminal.print_json(&report)?;
    } else {
        print(&report, context)?;
    }
    match lacking {
        0 => Ok(()),
        _ if context.terminal.is_json() => Err(Failure::silent()),
        lacking => Err(Failure::failed("host", format!("this host lacks {}", count(lacking, "thing")))),
    }
}

fn print(report: &Report, context: &Context) -> Result<(), Failure> {
    let terminal = &context.terminal;
    let (good, bad) = (terminal.paint(Paint::Good, "ok"), terminal.paint(Paint::Bad, "no"));
    let mut out = String::new();
    if let Some(file) = &report.file {
        context.warn(&file.warnings);
        let names: Vec<String> =
            file.files.iter().map(|file| from_here(file).display().to_string()).collect();
        out.push_str(&format!(
            "{good}  {}: application {}, {}, {}\n",
            names.join(", "),
            terminal.paint(Paint::Bold, &file.application),
            count(file.services, "service"),
            count(usize::try_from(file.instances).unwrap_or(usize::MAX), "instance")
        ));
    }
    for finding in &report.host {
        let mark = if finding.ok { &good } else { &bad };
        out.push_str(&format!("{mark}  {}: {}\n", finding.what, finding.detail));
        if let Some(hint) = &finding.hint {
            out.push_str(&format!("    {} {hint}\n", terminal.paint(Paint::Bold, "hint:")));
        }
    }
    terminal.print(&out)
}

/// Whether the published ports are free.
fn ports(application: &Application) -> Vec<Finding> {
    let published = application.services.values().flat_map(|service| {
        service
            .published
            .iter()
            .filter_map(|port| Some((SocketAddr::new(port.host, port.published?), &service.name)))
    });
    let wanted: BTreeSet<_> = published.collect();
    wanted
        .into_iter()
        .map(|(address, service)| {
            let bound = TcpListener::bind(address);
            Finding {
                what: format!("port {address}"),
                ok: bound.is_ok(),
                detail: match &bound {
                    Ok(_) => format!("free for {service}"),
                    Err(error) => format!("cannot be opened for {service}: {error}"),
                },
                hint: bound.err().map(|_| {
                    let port = address.port();
                    format!("`ss -ltnp 'sport = :{port}'` shows who has it (this application, when it runs); publish another one")
                }),
            }
        })
        .collect()
}
