//! What the two output streams can do, and how text gets there. Text of services is never trusted: control characters
//! would move the reader's cursor.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Dim,
    Bold,
    Good,
    Bad,
    Warn,
    /// One of the colours that tell services apart.
    Service(usize),
}

/// Standard output, most of all.
#[derive(Clone, Debug)]
pub struct Terminal {
    pub format: Format,
    pub color: bool,
    pub color_error: bool,
    pub is_terminal: bool,
    /// Columns; `None` when the output is no terminal: nothing is cut then.
    pub width: Option<usize>,
}

impl Terminal {
    pub fn detect(format: Format, color: ColorChoice) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self {
            format,
            color: wants_color(color, is_terminal),
            color_error: wants_color(color, io::stderr().is_terminal()),
            is_terminal,
            width: is_terminal.then(sys::columns).flatten(),
        }
    }

    /// No terminal, no colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { format: Format::Text, color: false, color_error: false, is_terminal: false, width: None }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    pub fn paint(&self, paint: Paint, text: &str) -> String {
        paint_if(self.color, paint, text)
    }

    pub fn paint_error(&self, paint: Paint, text: &str) -> String {
        paint_if(self.color_error, paint, text)
    }

    /// Writes text as it is.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
    }

    pub fn print_json<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::output(error.into()))?;
        self.print(&format!("{text}\n"))
    }

    /// One document on one line, for streams.
    pub fn print_json_line<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::output(error.into()))?;
        self.print(&format!("{text}\n"))
    }
}

/// `NO_COLOR` (any value but empty) wins over a terminal; `--color` wins over both.
fn wants_color(choice: ColorChoice, is_terminal: bool) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            is_terminal && !forbidden && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}

fn paint_if(color: bool, paint: Paint, text: &str) -> String {
    const SERVICES: [&str; 10] = ["36", "33", "32", "35", "34", "96", "93", "92", "95", "94"];
    let code = match paint {
        _ if !color || text.is_empty() => return text.to_owned(),
        Paint::Plain => return text.to_owned(),
        Paint::Dim => "2",
        Paint::Bold => "1",
        Paint::Good => "32",
        Paint::Bad => "31",
        Paint::Warn => "33",
        Paint::Service(nth) => SERVICES[nth % SERVICES.len()],
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Text of a service for one line of a terminal: colours (SGR) are kept when `color`, every other control character
/// and escape sequence is taken out, and so is what reorders or hides text.
pub fn harmless(text: &str, color: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut colored = false;
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\t' => out.push('\t'),
            '\x1b' if rest.peek() == Some(&'[') => {
                rest.next();
                let mut parameters = String::new();
                let end = loop {
                    match rest.next() {
                        Some(c @ ('0'..='9' | ';' | ':')) if parameters.len() < 64 => parameters.push(c),
                        other => break other,
                    }
                };
                if end == Some('m')
                    && color
                    && let Some(parameters) = without_conceal(&parameters)
                {
                    out.push_str(&format!("\x1b[{parameters}m"));
                    colored = true;
                }
            }
            c if c.is_control() || is_deceptive(c) => {}
            c => out.push(c),
        }
    }
    if colored {
        out.push_str("\x1b[0m");
    }
    out
}

/// Reorders the text around it, breaks a line where none is, or is seen by nobody (the tags).
fn is_deceptive(character: char) -> bool {
    matches!(
        character,
        '\u{061c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Parameters of SGR without 8 (conceal: text that is there and not seen). An 8 among the numbers of a colour
/// (`38;5;8`, `48;2;8;8;8`) stays. `None`: nothing sensible is left; no parameters at all mean a reset, which is something.
fn without_conceal(parameters: &str) -> Option<String> {
    let words: Vec<&str> = parameters.split(';').collect();
    let number = |word: &str| word.parse::<u32>().ok();
    let mut kept = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        // `8:…` with colons is one parameter with parts.
        if word.split(':').next().and_then(number) == Some(8) {
            continue;
        }
        kept.push(*word);
        if matches!(number(word), Some(38 | 48 | 58)) {
            let kind = rest.next()?;
            kept.push(*kind);
            let numbers = match number(kind) {
                Some(5) => 1,
                Some(2) => 3,
                // Terminals do not agree on what this means.
                _ => return None,
            };
            kept.extend(rest.by_ref().take(numbers));
        }
    }
    (!kept.is_empty()).then(|| kept.join(";"))
}

mod sys {
    #![allow(unsafe_code)]

    /// Columns of the terminal that standard output is.
    pub fn columns() -> Option<usize> {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, which points at one; std has no call for it.
        let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
        (done == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_services_cannot_move_the_cursor() {
        let check = |text: &str, color: bool, shown: &str| assert_eq!(harmless(text, color), shown);
        check("plain\ttext", true, "plain\ttext");
        check("\x1b[31mred\x1b[0m", false, "red");
        check("\x1b[31mred", true, "\x1b[31mred\x1b[0m");
        check("a\x1b[2Jb\x1b[1;1Hc\r\x07d", true, "abcd");
        check("\x1b]0;title\x07x", true, "]0;titlex");
        check("cut \x1b[31", true, "cut ");
        check("\u{9b}31mx", true, "31mx");
        // Neither turned around (U+202E) nor hidden.
        check("a\u{202e}b\u{2066}c\u{200f}d\u{61c}e\u{e0041}f\u{2028}g", false, "abcdefg");
        check("\x1b[8mhidden", true, "hidden");
        check("\x1b[1;08;31mx\x1b[m", true, "\x1b[1;31mx\x1b[m\x1b[0m");
        check("\x1b[8:1mx", true, "x");
        check("\x1b[38;5;8mgrey", true, "\x1b[38;5;8mgrey\x1b[0m");
        check("\x1b[48;2;8;8;8;8mx", true, "\x1b[48;2;8;8;8mx\x1b[0m");
        check("\x1b[38;8mx", true, "x");
    }

    #[test]
    fn color_is_what_was_asked_for() {
        assert!(wants_color(ColorChoice::Always, false));
        assert!(!wants_color(ColorChoice::Never, true));
        assert!(!wants_color(ColorChoice::Auto, false));
    }
}
