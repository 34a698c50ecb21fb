//! The log files of an instance: written by its init, read by `sinew logs` while they are written.
//!
//! Two files in the instance's folder: [`FILE`] is appended to; when it is full it is renamed to [`FILE_OLD`] (whatever
//! was there goes) and a new one is begun. A line is `<unix ms> <o|e> <text>`, ended by a line feed; `o` is standard
//! output, `e` standard error. A line of the service that is longer than [`LINE_BYTES_MAX`] is cut into several.

pub const FILE: &str = "log";
pub const FILE_OLD: &str = "log.old";
/// What a line on standard error begins with that is the init's own and not the service's.
pub const NOTE: &str = "sinew: ";
/// Of the text of one line.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Output,
    Error,
}

/// What stands before the text.
pub fn prefix(unix_ms: u64, stream: Stream) -> String {
    let letter = match stream {
        Stream::Output => 'o',
        Stream::Error => 'e',
    };
    format!("{unix_ms} {letter} ")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// `None`: the line is not in this form (it was cut by a crash, say); all of it is `text`.
    pub unix_ms: Option<u64>,
    pub stream: Stream,
    pub text: &'a [u8],
}

/// `line`: without its line feed.
pub fn parse(line: &[u8]) -> Line<'_> {
    parse_prefixed(line).unwrap_or(Line { unix_ms: None, stream: Stream::Output, text: line })
}

fn parse_prefixed(line: &[u8]) -> Option<Line<'_>> {
    const DIGITS_MAX: usize = 20;
    let space = line.iter().take(DIGITS_MAX + 1).position(|&byte| byte == b' ')?;
    let unix_ms = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
    let stream = match line.get(space + 1)? {
        b'o' => Stream::Output,
        b'e' => Stream::Error,
        _ => return None,
    };
    let text = line.get(space + 2..)?.strip_prefix(b" ")?;
    Some(Line { unix_ms: Some(unix_ms), stream, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        for (unix_ms, stream, text) in [
            (1_700_000_000_000, Stream::Output, "hello"),
            (0, Stream::Error, ""),
            (u64::MAX, Stream::Error, " a b "),
        ] {
            let line = format!("{}{text}", prefix(unix_ms, stream));
            assert_eq!(
                parse(line.as_bytes()),
                Line { unix_ms: Some(unix_ms), stream, text: text.as_bytes() }
            );
        }
    }

    #[test]
    fn what_is_in_another_form_is_text() {
        for text in ["", "hello", "12", "12 o", "12 x y", "x o y", "99999999999999999999 o y", "12 ohello"] {
            assert_eq!(
                parse(text.as_bytes()),
                Line { unix_ms: None, stream: Stream::Output, text: text.as_bytes() }
            );
        }
    }
}
