//! Aligned tables of text, coloured where the terminal takes it.

use crate::terminal::{Paint, Terminal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    pub fn painted(text: impl Into<String>, paint: Paint) -> Self {
        Self { text: text.into(), paint }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), paint: Paint::Plain }
    }
}

#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One cell for each column; missing ones are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Lines, each with its end. A column in which no row has anything is left out. On a terminal the last column is
    /// cut where the line would wrap.
    pub fn render(&self, terminal: &Terminal) -> String {
        const GAP: usize = 2;
        let used: Vec<usize> = (0..self.columns.len())
            .filter(|&at| {
                self.rows.is_empty()
                    || self.rows.iter().any(|row| row.get(at).is_some_and(|c| !c.text.is_empty()))
            })
            .collect();
        let widths: Vec<usize> = used
            .iter()
            .map(|&at| {
                let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| width(&cell.text));
                cells.chain([width(self.columns[at].0)]).max().unwrap_or(0)
            })
            .collect();
        let room_for_last = terminal.width.map(|all| {
            let before: usize = widths.iter().rev().skip(1).map(|w| w + GAP).sum();
            all.saturating_sub(before).max(16)
        });

        let header: Vec<Cell> =
            self.columns.iter().map(|(name, _)| Cell::painted(*name, Paint::Dim)).collect();
        let mut out = String::new();
        for row in [&header].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (nth, (&at, &column_width)) in used.iter().zip(&widths).enumerate() {
                let last = nth + 1 == used.len();
                let empty = Cell::from("");
                let cell = row.get(at).unwrap_or(&empty);
                let text = match room_for_last {
                    Some(room) if last => cut(&cell.text, room),
                    _ => cell.text.clone(),
                };
                let pad = " ".repeat(column_width.saturating_sub(width(&text)));
                let painted = terminal.paint(cell.paint, &text);
                match self.columns[at].1 {
                    Align::Left if last => line.push_str(&painted),
                    Align::Left => line.push_str(&format!("{painted}{pad}")),
                    Align::Right => line.push_str(&format!("{pad}{painted}")),
                }
                if !last {
                    line.push_str(&" ".repeat(GAP));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// At most `room` characters, the last one `…` when something was cut.
pub fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(terminal: &Terminal, expected: &str) {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("EMPTY", Align::Left),
            ("MEMORY", Align::Right),
            ("MESSAGE", Align::Left),
        ]);
        table.row(["broker".into(), "".into(), "9.1 MiB".into(), Cell::from("")]);
        table.row([
            "dashboard-api".into(),
            "".into(),
            "120 MiB".into(),
            Cell::from("the port is closed on both addresses"),
        ]);
        assert_eq!(table.render(terminal), expected);
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        check(
            &Terminal::plain(),
            "NAME            MEMORY  MESSAGE\n\
             broker         9.1 MiB\n\
             dashboard-api  120 MiB  the port is closed on both addresses\n",
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_the_last_column() {
        check(
            &Terminal { width: Some(42), ..Terminal::plain() },
            "NAME            MEMORY  MESSAGE\n\
             broker         9.1 MiB\n\
             dashboard-api  120 MiB  the port is close…\n",
        );
    }
}
