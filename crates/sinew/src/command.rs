//! One file per subcommand: its arguments, its help, what it does.

use crate::arguments::{Common, Files};
use crate::terminal::Terminal;

pub mod completions;
pub mod version;

/// What every command is handed.
pub struct Context {
    pub common: Common,
    /// `-f` before the subcommand.
    pub files: Files,
    pub terminal: Terminal,
}
