//! How a command ends when it does not succeed: exit code, words, and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use sinew_spec::admin::AdminError;
use sinew_spec::compose::{Problem, Problems};

use crate::terminal::{Paint, Terminal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was tried and failed: 1.
    Failed,
    /// File, arguments or an impossible request: 2. Nothing was done.
    BadInput,
    /// A command that was to be run on somebody's behalf could not be started: the code of a shell, 126 or 127.
    NotStarted(u8),
    /// It failed and everything has been said.
    Silent,
    /// The reader of our output went away: nothing is said, 0 as everybody else does.
    BrokenPipe,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    #[serde(skip)]
    pub exit: Exit,
    /// Stable word for scripts: `unknown_service`.
    pub code: &'static str,
    /// What was attempted and with what.
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Everything that is wrong with the files, when that is the reason.
    #[serde(skip_serializing_if = "Problems::is_empty")]
    pub problems: Problems,
    /// The last lines that the failing service wrote.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl Failure {
    pub fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, message)
    }

    pub fn bad_input(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, code, message)
    }

    /// `exit`: what a shell would exit with.
    pub fn not_started(code: &'static str, exit: u8, message: impl Into<String>) -> Self {
        Self::new(Exit::NotStarted(exit), code, message)
    }

    /// It failed; the result that was printed tells all.
    pub fn silent() -> Self {
        Self::new(Exit::Silent, "failed", "")
    }

    /// Writing to standard output failed.
    pub fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::BrokenPipe, "broken_pipe", "the reader of the output went away");
        }
        Self::failed("output", format!("could not write to standard output: {error}"))
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn problems(mut self, problems: Problems) -> Self {
        self.problems = problems;
        self
    }

    #[must_use]
    pub fn log(mut self, log: Vec<String>) -> Self {
        self.log = log;
        self
    }

    /// Says it: text to standard error, JSON to standard output (one document, success or not).
    pub fn report(&self, terminal: &Terminal) -> ExitCode {
        if !matches!(self.exit, Exit::Silent | Exit::BrokenPipe) {
            if terminal.is_json() {
                // When even this cannot be written there is nobody left to tell.
                let _ = terminal.print_json(&serde_json::json!({ "error": self }));
            } else {
                eprint!("{}", self.render(terminal));
            }
        }
        ExitCode::from(match self.exit {
            Exit::Failed | Exit::Silent => 1,
            Exit::BadInput => 2,
            Exit::NotStarted(code) => code,
            Exit::BrokenPipe => 0,
        })
    }

    fn render(&self, terminal: &Terminal) -> String {
        let label = |paint, text| terminal.paint_error(paint, text);
        let mut out = String::new();
        for problem in &self.problems {
            out.push_str(&problem_in_words(problem, Paint::Bad, "error", terminal));
            out.push('\n');
        }
        out.push_str(&format!("{} {}\n", label(Paint::Bad, "error:"), self.message));
        for line in &self.log {
            out.push_str(&format!("  {} {line}\n", label(Paint::Dim, "|")));
        }
        if let Some(hint) = &self.hint {
            out.push_str(&format!("{} {hint}\n", label(Paint::Bold, "hint:")));
        }
        out
    }

    fn new(exit: Exit, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            code,
            message: message.into(),
            hint: None,
            problems: Problems::default(),
            log: Vec::new(),
        }
    }
}

/// What a problem says of itself, its first line painted, its file as seen from here.
pub fn problem_in_words(problem: &Problem, paint: Paint, label: &str, terminal: &Terminal) -> String {
    let mut problem = problem.clone();
    problem.file = from_here(&problem.file);
    let text = problem.to_string();
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let first = terminal.paint_error(Paint::Bold, first);
    format!("{} {first}\n{rest}", terminal.paint_error(paint, &format!("{label}:")))
}

/// Shorter where the file lies in the working folder or below.
pub fn from_here(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    below.filter(|below| !below.as_os_str().is_empty()).unwrap_or_else(|| path.to_path_buf())
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let exit = if error.code.is_bad_input() { Exit::BadInput } else { Exit::Failed };
        Self { hint: error.hint, ..Self::new(exit, error.code.as_str(), error.message) }
    }
}

#[cfg(test)]
mod tests {
    use sinew_spec::admin::ErrorCode;

    use super::*;

    #[test]
    fn says_what_where_and_what_to_do() {
        let failure = Failure::bad_input("invalid_file", "1 problem in compose.yaml; nothing was started")
            .hint("fix it");
        assert_eq!(
            failure.render(&Terminal::plain()),
            "error: 1 problem in compose.yaml; nothing was started\n\
             hint: fix it\n"
        );
    }

    #[test]
    fn errors_of_the_admin_api_keep_their_code_and_hint() {
        let failure = Failure::from(AdminError::new(ErrorCode::UnknownService, "no service `x`").hint("y"));
        assert_eq!((failure.exit, failure.code), (Exit::BadInput, "unknown_service"));
        assert_eq!(failure.hint.as_deref(), Some("y"));
        let serialized = serde_json::to_value(ErrorCode::UnknownService).expect("a word");
        assert_eq!(serialized, ErrorCode::UnknownService.as_str());
        let json = serde_json::json!({ "error": failure }).to_string();
        assert_eq!(json, r#"{"error":{"code":"unknown_service","hint":"y","message":"no service `x`"}}"#);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit, Exit::BrokenPipe);
    }
}
