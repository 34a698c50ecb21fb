//! Where progress is shown: a picture that moves on a terminal, else lines.

use indicatif::{ProgressBar, ProgressStyle};

use super::model::Model;
use super::picture;
use crate::failure::Failure;
use crate::table::cut;
use crate::terminal::{Paint, Terminal};

pub struct Screen<'a> {
    terminal: &'a Terminal,
    /// The moving picture.
    bar: Option<ProgressBar>,
    frame: usize,
    /// Below the picture.
    reminder: Vec<String>,
}

impl<'a> Screen<'a> {
    pub fn new(terminal: &'a Terminal) -> Self {
        let bar = (terminal.is_terminal && !terminal.is_json()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { terminal, bar, frame: 0, reminder: Vec::new() }
    }

    /// Without a moving picture everything is told by lines.
    pub fn lines(&self, lines: &[String]) -> Result<(), Failure> {
        if self.terminal.is_json() || self.bar.as_ref().is_some_and(|bar| !bar.is_finished()) {
            return Ok(());
        }
        self.terminal.print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())
    }

    /// Whether everything is told by a picture.
    pub fn moves(&self) -> bool {
        self.bar.is_some()
    }

    /// What is shown below the picture from now on.
    pub fn remind(&mut self, lines: Vec<String>) {
        self.reminder = lines;
    }

    pub fn draw(&mut self, model: &Model) {
        self.frame += 1;
        if let Some(bar) = &self.bar {
            let mut picture = picture::draw(model.services(), self.terminal, self.frame);
            for line in &self.reminder {
                let line = cut(line, self.terminal.width.unwrap_or(usize::MAX));
                picture.push('\n');
                picture.push_str(&self.terminal.paint(Paint::Dim, &line));
            }
            bar.set_message(picture);
            bar.tick();
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
