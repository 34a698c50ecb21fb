//! What is wrong with a file, in words for the person who wrote it: where, what, and what to do.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::source::SourceId;

/// One thing that is wrong (or, among warnings, odd).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1; 0 when the problem has no place in the file.
    pub line: u32,
    /// From 1, in characters; 0 when the problem has no place in the file.
    pub column: u32,
    /// `services.orders.ports[1]`; empty for what concerns the file as a whole.
    pub path: String,
    pub what: String,
    pub hint: Option<String>,
    /// The line of the file, without control characters. `None` where it may hold what is not for logs (`.env` files).
    pub source: Option<String>,
}

impl Problem {
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }
}

/// At the most this many problems are kept; more are counted.
pub const PROBLEMS_MAX: usize = 100;

/// Everything that is wrong, in the order of the files and lines. As JSON: an array.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// `list` is in order; `line` finds the text of a line.
    pub(super) fn new(
        mut list: Vec<(SourceId, Problem)>,
        dropped: usize,
        line: impl Fn(SourceId, u32) -> Option<String>,
    ) -> Self {
        let left_out = list.len().saturating_sub(PROBLEMS_MAX) + dropped;
        list.truncate(PROBLEMS_MAX);
        let mut list: Vec<Problem> = list
            .into_iter()
            .map(|(source, problem)| Problem { source: line(source, problem.line), ..harmless(problem) })
            .collect();
        if left_out > 0
            && let Some(file) = list.last().map(|last| last.file.clone())
        {
            let what = format!("{left_out} more problems are not shown");
            list.push(Problem {
                file,
                line: 0,
                column: 0,
                path: String::new(),
                what,
                hint: None,
                source: None,
            });
        }
        Self { list }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.list.iter().enumerate() {
            if position > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            writeln!(f, "{}: {}", self.file.display(), self.what)?;
        } else {
            writeln!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.what)?;
        }
        if !self.path.is_empty() {
            writeln!(f, "  at {}", self.path)?;
        }
        if let Some(source) = &self.source {
            let (text, caret) = window(source, self.column as usize);
            let line = self.line.to_string();
            writeln!(f, "  {line} | {text}")?;
            writeln!(f, "  {:width$} | {:caret$}^", "", "", width = line.len())?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Names of the file come up in words of all kinds, in hints too: none of them reaches a terminal with what it would obey.
fn harmless(problem: Problem) -> Problem {
    let clean = |text: String| -> String {
        if text.chars().all(|character| printable(character) == character) {
            return text;
        }
        text.chars().map(printable).collect()
    };
    Problem { path: clean(problem.path), what: clean(problem.what), hint: problem.hint.map(clean), ..problem }
}

const WINDOW_MAX: usize = 100;

/// The part of a line around a column (from 1), and how many characters stand before that column in it.
fn window(line: &str, column: usize) -> (String, usize) {
    let column = column.saturating_sub(1);
    let length = line.chars().count();
    if length <= WINDOW_MAX {
        return (line.to_owned(), column.min(length));
    }
    let start = column.saturating_sub(WINDOW_MAX / 2).min(length - WINDOW_MAX);
    let mut text: String = line.chars().skip(start).take(WINDOW_MAX).collect();
    let mut caret = column.min(length) - start;
    if start > 0 {
        text.insert(0, '…');
        caret += 1;
    }
    if start + WINDOW_MAX < length {
        text.push('…');
    }
    (text, caret)
}

/// What a person wrote, as part of a message: in backticks, on one line, not longer than a line, and without
/// anything that a terminal would obey.
pub(super) fn quote(text: &str) -> String {
    const QUOTED_MAX: usize = 60;
    let mut quoted: String = text.chars().take(QUOTED_MAX).map(printable).collect();
    if text.chars().nth(QUOTED_MAX).is_some() {
        quoted.push('…');
    }
    format!("`{quoted}`")
}

/// The character itself, or something harmless of the same width.
pub(super) fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        // Bidirectional controls reorder what a terminal shows.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => '\u{fffd}',
        character if character.is_control() => '\u{fffd}',
        character => character,
    }
}
