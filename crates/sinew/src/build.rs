//! `x-sinew.build`: commands that run before anything starts, outside any seal, as the user who typed `sinew up`.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use sinew_spec::application::{Application, BuildCommand};
use sinew_spec::name::ServiceName;

use crate::failure::Failure;
use crate::table::cut;
use crate::terminal::{Paint, Terminal, harmless};
use crate::units::span;

/// Of the output of a build that fails.
const LINES_SHOWN_MAX: usize = 40;

/// Runs every command once, in the order of the services; the first failure ends it.
pub fn run(application: &Application, terminal: &Terminal) -> Result<(), Failure> {
    let mut done: BTreeSet<(&[String], &std::path::Path)> = BTreeSet::new();
    for service in application.services.values() {
        for build in &service.build {
            // Services of one workspace often share their build.
            if done.insert((&build.command, &build.working_dir)) {
                run_one(&service.name, build, terminal)?;
            }
        }
    }
    Ok(())
}

fn run_one(service: &ServiceName, build: &BuildCommand, terminal: &Terminal) -> Result<(), Failure> {
    let shown = build.command.join(" ");
    let what = format!("building `{service}` with `{shown}` in {}", build.working_dir.display());
    let start_failed = |error: io::Error| {
        Failure::failed("build", format!("{what} could not be started: {error}"))
            .hint("is it installed and on the PATH? `sinew up --no-build` starts without building")
    };
    let [program, arguments @ ..] = build.command.as_slice() else { return Ok(()) };
    let (output, inside) = io::pipe().map_err(start_failed)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&build.working_dir).stdin(Stdio::null());
    command.stdout(inside.try_clone().map_err(start_failed)?).stderr(inside);
    let started = Instant::now();
    let mut child = command.spawn().map_err(start_failed)?;
    // Our copies of the pipe's inner end: the child's are to be the only ones.
    drop(command);

    let spinner = Spinner::new("building", service, &shown, terminal);
    let mut last = VecDeque::new();
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        spinner.line(&line);
        if last.len() == LINES_SHOWN_MAX {
            last.pop_front();
        }
        last.push_back(line);
    }
    let ended = child.wait();
    spinner.finish();
    match ended {
        Ok(status) if status.success() => {
            let text = format!("built {service} in {}\n", span(started.elapsed()));
            if terminal.is_json() { Ok(()) } else { terminal.print(&terminal.paint(Paint::Dim, &text)) }
        }
        Ok(status) => {
            let lines = last.iter().map(|line| harmless(line, false)).collect();
            Err(Failure::failed("build", format!("{what} failed: {status}"))
                .log(lines)
                .hint("nothing was started; `sinew up --no-build` starts without building"))
        }
        Err(error) => Err(Failure::failed("build", format!("{what}: its end could not be awaited: {error}"))),
    }
}

/// On a terminal one line that moves; else a line for each line.
pub struct Spinner<'a> {
    bar: Option<ProgressBar>,
    service: &'a ServiceName,
    terminal: &'a Terminal,
}

impl<'a> Spinner<'a> {
    /// `verb`: what is done for the service, with `shown`.
    pub fn new(verb: &str, service: &'a ServiceName, shown: &str, terminal: &'a Terminal) -> Self {
        if terminal.is_json() {
            return Self { bar: None, service, terminal };
        }
        if !terminal.is_terminal {
            eprintln!("{verb} {service}: {shown}");
            return Self { bar: None, service, terminal };
        }
        let bar = ProgressBar::new_spinner().with_prefix(format!("{verb} {service}"));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed}  {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_message(shown.to_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        Self { bar: Some(bar), service, terminal }
    }

    pub fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(cut(&harmless(line, false), 200)),
            None if self.terminal.is_json() => {}
            None => eprintln!("build {} | {line}", self.service),
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &[&str], expected: Result<(), &str>) {
        let build = BuildCommand {
            command: command.iter().map(|&part| part.to_owned()).collect(),
            working_dir: std::env::temp_dir(),
        };
        let done = run_one(&"orders".into(), &build, &Terminal::plain());
        match (done, expected) {
            (Ok(()), Ok(())) => {}
            (Err(failure), Err(part)) => {
                let text = format!("{} {:?}", failure.message, failure.log);
                assert!(text.contains(part), "{text}");
            }
            (done, expected) => panic!("{done:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_build_succeeds_or_shows_its_last_lines() {
        check(&["true"], Ok(()));
        check(&["sh", "-c", "echo out; echo wrong >&2; exit 3"], Err(r#"exit status: 3 ["out", "wrong"]"#));
        check(&["sh", "-c", "for i in $(seq 100); do echo $i; done; exit 1"], Err(r#"["61", "62","#));
        check(&["/nonexistent/tool"], Err("could not be started: No such file"));
    }
}
