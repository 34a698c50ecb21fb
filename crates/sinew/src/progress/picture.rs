//! The moving picture: one line for each service.

use sinew_spec::status::ServiceStatus;

use super::words::{mark, phase};
use crate::table::cut;
use crate::terminal::{Paint, Terminal};
use crate::view::is_settled;

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// More would not fit on a small screen; those that are up are left out first.
const ROWS_MAX: usize = 20;

pub fn draw<'a>(
    services: impl Iterator<Item = &'a ServiceStatus>,
    terminal: &Terminal,
    frame: usize,
) -> String {
    let services: Vec<&ServiceStatus> = services.collect();
    let width = services.iter().map(|service| service.name.as_str().chars().count()).max().unwrap_or(0);
    let mut rows = services.clone();
    if rows.len() > ROWS_MAX {
        rows.sort_by_key(|service| is_settled(service));
        rows.truncate(ROWS_MAX);
    }
    let room = terminal.width.unwrap_or(usize::MAX).saturating_sub(width + 6).max(16);
    let mut lines: Vec<String> = rows
        .iter()
        .map(|service| {
            let (mark, paint) = mark(service, SPINNER[frame % SPINNER.len()]);
            let words = cut(&phase(service), room);
            let name = format!("{:width$}", service.name.as_str());
            let words_paint = if paint == Paint::Good { Paint::Plain } else { paint };
            format!("{} {name}  {}", terminal.paint(paint, mark), terminal.paint(words_paint, &words))
        })
        .collect();
    if services.len() > ROWS_MAX {
        let up = services.iter().filter(|service| is_settled(service)).count();
        lines.push(format!("{up} of {} up", services.len()));
    }
    lines.join("\n")
}
