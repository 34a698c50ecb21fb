//! Texts and places in them, and the list of what was found.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::problem::{Problem, Problems, printable};

/// One document of one file. Later ones are later layers of the merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SourceId(u16);

/// A place: line and column from 1; both 0: the file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub source: SourceId,
    pub line: u32,
    pub column: u32,
}

impl At {
    pub fn new(source: SourceId, line: usize, column: usize) -> Self {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self { source, line: small(line), column: small(column) }
    }

    pub fn start(source: SourceId) -> Self {
        Self { source, line: 1, column: 1 }
    }

    pub fn whole(source: SourceId) -> Self {
        Self { source, line: 0, column: 0 }
    }
}

/// What the words of a text mean: the project that it belongs to.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// What relative paths start from; absolute.
    pub folder: PathBuf,
    /// Over `.env`: what variables are taken from.
    pub environment: Rc<BTreeMap<String, String>>,
}

struct Source {
    origin: Rc<Origin>,
    path: PathBuf,
    text: Rc<str>,
    /// Whether its lines may be shown.
    shown: bool,
}

/// The texts that were read and what was found in them so far.
#[derive(Default)]
pub(super) struct Findings {
    sources: Vec<Source>,
    problems: Kept,
    warnings: Kept,
}

#[derive(Default)]
struct Kept {
    list: Vec<(SourceId, Problem)>,
    dropped: usize,
    /// Written to when the list is full.
    spare: Option<Problem>,
}

/// More than are shown, because they are sorted before they are cut.
const KEPT_MAX: usize = 2_000;

impl Kept {
    fn add(&mut self, problem: Problem, source: SourceId) -> &mut Problem {
        if self.list.len() >= KEPT_MAX {
            self.dropped += 1;
            return self.spare.insert(problem);
        }
        self.list.push((source, problem));
        &mut self.list.last_mut().expect("one was pushed").1
    }
}

impl Findings {
    pub fn add_source(&mut self, path: &Path, text: &str, shown: bool) -> SourceId {
        self.push(Source { origin: Rc::default(), path: path.to_owned(), text: text.into(), shown })
    }

    /// A further document of the same file, or a further layer of the same document.
    pub fn add_document(&mut self, of: SourceId) -> SourceId {
        let Source { origin, path, text, shown } = &self.sources[usize::from(of.0)];
        let source = Source { origin: origin.clone(), path: path.clone(), text: text.clone(), shown: *shown };
        self.push(source)
    }

    /// Before the text is read: its documents have it too.
    pub fn set_origin(&mut self, source: SourceId, origin: &Rc<Origin>) {
        self.sources[usize::from(source.0)].origin = origin.clone();
    }

    pub fn origin(&self, at: At) -> &Rc<Origin> {
        &self.sources[usize::from(at.source.0)].origin
    }

    fn push(&mut self, source: Source) -> SourceId {
        // The number of files is limited by those who add them, far below.
        let last = usize::from(u16::MAX);
        self.sources.truncate(last);
        self.sources.push(source);
        SourceId(u16::try_from(self.sources.len() - 1).expect("it was made to fit"))
    }

    pub fn text(&self, source: SourceId) -> Rc<str> {
        self.sources[usize::from(source.0)].text.clone()
    }

    pub fn path(&self, source: SourceId) -> &Path {
        &self.sources[usize::from(source.0)].path
    }

    /// The file's name alone, for the mention of a second place in a message.
    pub fn file_name(&self, source: SourceId) -> String {
        let path = self.path(source);
        path.file_name()
            .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// How a second place is mentioned in a message about the first: `line 7`, or `base.yaml:7` in another file.
    pub fn mention(&self, other: At, from: At) -> String {
        if self.path(other.source) == self.path(from.source) {
            format!("line {}", other.line)
        } else {
            format!("{}:{}", self.file_name(other.source), other.line)
        }
    }

    pub fn has_problems(&self) -> bool {
        !self.problems.list.is_empty()
    }

    pub fn problem(&mut self, at: At, path: impl Into<String>, what: impl Into<String>) -> &mut Problem {
        let problem = self.new_problem(at, path.into(), what.into());
        self.problems.add(problem, at.source)
    }

    pub fn warning(&mut self, at: At, path: impl Into<String>, what: impl Into<String>) -> &mut Problem {
        let problem = self.new_problem(at, path.into(), what.into());
        self.warnings.add(problem, at.source)
    }

    fn new_problem(&self, at: At, path: String, what: String) -> Problem {
        let file = self.path(at.source).to_owned();
        Problem { file, line: at.line, column: at.column, path, what, hint: None, source: None }
    }

    /// Problems and warnings, ordered: files in the order given, then what they refer to.
    pub fn finish(mut self) -> (Problems, Problems) {
        let problems = std::mem::take(&mut self.problems);
        let warnings = std::mem::take(&mut self.warnings);
        (self.order(problems), self.order(warnings))
    }

    fn order(&self, kept: Kept) -> Problems {
        let mut list = kept.list;
        let rank = |source: SourceId| {
            let path = self.path(source);
            self.sources.iter().position(|known| known.path == path)
        };
        list.sort_by_cached_key(|(source, problem)| (rank(*source), problem.line, problem.column));
        // The content of an anchor is read once for each alias.
        let mut seen = HashSet::new();
        list.retain(|(_, problem)| {
            seen.insert((problem.file.clone(), problem.line, problem.column, problem.what.clone()))
        });
        let lines = |source: SourceId, line: u32| {
            let source = &self.sources[usize::from(source.0)];
            let line = usize::try_from(line).ok()?.checked_sub(1)?;
            source
                .shown
                .then(|| source.text.lines().nth(line))?
                .map(|line| line.chars().map(printable).collect())
        };
        Problems::new(list, kept.dropped, lines)
    }
}
