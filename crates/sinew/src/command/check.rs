//! `sinew check`.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use serde::Serialize;
use sinew_client::admin::Client;
use sinew_node::folders::Folders;
use sinew_node::seal::check::{self, Finding};
use sinew_node::seal::own_program;
use sinew_spec::application::{Application, Service};

use super::Context;
use crate::arguments::Files;
use crate::failure::{Failure, from_here};
use crate::target;
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

pub async fn run(arguments: &Arguments, context: &Context) -> Result<(), Failure> {
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
    if !explicit {
        host = check::check(own_program(), &std::env::temp_dir()).await;
        // What nobody asks for here may be missing.
        if let Some(loaded) = &loaded {
            host.retain(|finding| finding.ok || is_needed(finding, &loaded.application));
            host.extend(memory_of_values(&loaded.application));
            host.extend(ports(&loaded.application).await);
        }
    }
    let file = loaded.map(|loaded| FileReport {
        application: loaded.application.name.to_string(),
        services: loaded.application.services.len(),
        instances: loaded.application.services.values().map(|service| u64::from(service.replicas)).sum(),
        files: loaded.application.files,
        warnings: loaded.warnings,
    });
    let report = Report { file, host };
    // Without a file nobody has asked for limits or other users yet.
    let lacking =
        report.host.iter().filter(|finding| !finding.ok && (report.file.is_some() || !is_optional(finding)));
    let lacking = lacking.count();
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
        let mark = match finding.ok {
            true => &good,
            false if report.file.is_none() && is_optional(finding) => "--",
            false => &bad,
        };
        out.push_str(&format!("{mark}  {}: {}\n", finding.what, finding.detail));
        if let Some(hint) = &finding.hint {
            out.push_str(&format!("    {} {hint}\n", terminal.paint(Paint::Bold, "hint:")));
        }
    }
    terminal.print(&out)
}

/// Most applications do without.
fn is_optional(finding: &Finding) -> bool {
    finding.what == "users" || finding.what.starts_with("limits: ")
}

/// Whether the application cannot do without what was looked at.
fn is_needed(finding: &Finding, application: &Application) -> bool {
    let any = |wants: fn(&Service) -> bool| application.services.values().any(wants);
    match finding.what.as_str() {
        "limits: cpu" => any(|service| service.limits.cpu_milli.is_some()),
        "limits: memory" => any(|service| service.limits.memory_bytes.is_some()),
        "limits: pids" => any(|service| service.limits.pids.is_some()),
        "users" => any(|service| service.user.is_some()),
        _ => true,
    }
}

/// Where the values of `environment:` lie while the application runs. Nothing is lacking, but somebody may want it
/// otherwise.
fn memory_of_values(application: &Application) -> Option<Finding> {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    if application.services.values().all(|service| service.environment.is_empty()) {
        return None;
    }
    let run = target::bases().ok()?.run;
    let there = run.ancestors().find(|folder| folder.exists())?;
    let in_memory = statfs(there).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
    let what = "values of `environment:`".to_owned();
    let place = run.display();
    Some(match in_memory {
        true => Finding { what, ok: true, detail: format!("in memory only ({place})"), hint: None },
        false => Finding {
            what,
            ok: true,
            detail: format!("readable to you alone, on a disk while the application runs ({place})"),
            hint: Some(
                "use `secrets:` for what must not be there, or set SINEW_RUN_DIR to a folder in memory"
                    .to_owned(),
            ),
        },
    })
}

/// Whether the published ports are free, or held by the application itself.
async fn ports(application: &Application) -> Vec<Finding> {
    let folders = target::bases().map(|bases| Folders::new(&bases, &application.name));
    let running = match folders {
        Ok(folders) => {
            Client::new(application.name.as_str(), folders.admin_socket()).status(false).await.ok()
        }
        Err(_) => None,
    };
    let held: BTreeSet<String> =
        running.into_iter().flat_map(|status| status.published).map(|port| port.listen).collect();
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
            let what = format!("port {address}");
            if held.contains(&address.to_string()) {
                let detail = format!("serves {service} of the running application");
                return Finding { what, ok: true, detail, hint: None };
            }
            match TcpListener::bind(address) {
                Ok(_) => Finding { what, ok: true, detail: format!("free for {service}"), hint: None },
                Err(error) => Finding {
                    what,
                    ok: false,
                    detail: format!("cannot be opened for {service}: {error}"),
                    hint: Some(match error.kind() {
                        std::io::ErrorKind::PermissionDenied => {
                            "ports below 1024 are root's: publish a higher one".to_owned()
                        }
                        _ => {
                            let port = address.port();
                            format!("`ss -ltnp 'sport = :{port}'` shows who has it; publish another one")
                        }
                    }),
                },
            }
        })
        .collect()
}
