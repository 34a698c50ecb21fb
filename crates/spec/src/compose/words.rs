//! A command as one string -> words, by the shell's rules of quoting. No shell is involved: nothing is expanded.

/// What is wrong with the string.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    pub what: &'static str,
}

/// POSIX quoting: backslash, single quotes, double quotes (in which a backslash escapes `"`, `\`, `$` and a backtick).
pub(super) fn split(text: &str) -> Result<Vec<String>, Unfinished> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\\' => {
                let Some(next) = characters.next() else {
                    return Err(Unfinished { what: "the command ends with a backslash" });
                };
                // A backslash at the end of a line: it goes on.
                if next != '\n' {
                    word.get_or_insert_default().push(next);
                }
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(character) => word.push(character),
                        None => {
                            return Err(Unfinished { what: "a single quote in the command is not closed" });
                        }
                    }
                }
            }
            '"' => double_quoted(&mut characters, word.get_or_insert_default())?,
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(characters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), Unfinished> {
    let unfinished = Unfinished { what: "a double quote in the command is not closed" };
    loop {
        match characters.next() {
            Some('"') => return Ok(()),
            Some('\\') => match characters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some('\n') => {}
                Some(other) => word.extend(['\\', other]),
                None => return Err(unfinished),
            },
            Some(character) => word.push(character),
            None => return Err(unfinished),
        }
    }
}

/// A word that only a shell would understand, when there is one: `&&`, `|`, `>`…
pub(super) fn shell_operator(words: &[String]) -> Option<&str> {
    words.iter().map(String::as_str).find(|word| {
        matches!(*word, "&&" | "||" | "|" | ";" | "&" | ">" | ">>" | "<" | "2>" | "2>&1" | "1>&2" | ">&2")
    })
}

#[cfg(test)]
mod tests;
