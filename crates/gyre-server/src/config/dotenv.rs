//! `.env`: variables for a server started by hand.
//!
//! Lines are `NAME=value`, with `export` before them or not; values may be in single quotes, as they are, or in double
//! ones, with `\n`, `\r`, `\t`, `\"`, `\\` and `\$`; what follows `#` is a comment. Other variables are not filled in.

use std::{collections::HashSet, io, path::Path};

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the variables of a file; none if there is no such file.
///
/// # Errors
/// What is wrong, with the line.
pub fn read(path: &Path) -> Result<Vec<(String, String)>, String> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(file) if file.len() > FILE_BYTES_MAX => {
            return Err(format!("{shown} has more than {FILE_BYTES_MAX} bytes"));
        }
        _ => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    parse(&text).map_err(|line| format!("{shown}, line {line}: write NAME=value"))
}

/// The variables of the process, and below them those of a file: what is set, even to nothing, stays.
pub fn over(
    below: Vec<(String, String)>,
    process: impl Iterator<Item = (String, String)>,
) -> impl Iterator<Item = (String, String)> {
    let process: Vec<_> = process.collect();
    let names: HashSet<String> = process.iter().map(|(name, _)| name.clone()).collect();
    below.into_iter().filter(move |(name, _)| !names.contains(name)).chain(process)
}

/// `Err` has the number of the line that cannot be read.
fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let number = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = after;
            continue;
        }
        let (name, value) = rest.split_once('=').filter(|(name, _)| !name.contains('\n')).ok_or(number)?;
        let name = name.trim();
        let name =
            name.strip_prefix("export").filter(|name| name.starts_with([' ', '\t'])).unwrap_or(name).trim();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')) {
            return Err(number);
        }
        let (value, after) = value_of(value.trim_start_matches([' ', '\t'])).ok_or(number)?;
        variables.push((name.to_owned(), value));
        rest = after;
    }
    Ok(variables)
}

/// A value, and what follows its line. `None` if its quotes do not end, or something is behind them.
fn value_of(text: &str) -> Option<(String, &str)> {
    let (value, behind) = match text.chars().next() {
        Some('\'') => {
            let (value, behind) = text[1..].split_once('\'')?;
            (value.to_owned(), behind)
        }
        Some('"') => quoted(&text[1..])?,
        _ => {
            let (line, after) = text.split_once('\n').unwrap_or((text, ""));
            let comment = if line.starts_with('#') { Some(0) } else { line.find(" #") };
            let value = comment.map_or(line, |at| &line[..at]).trim();
            return Some((value.to_owned(), after));
        }
    };
    let (line, after) = behind.split_once('\n').unwrap_or((behind, ""));
    let line = line.trim();
    (line.is_empty() || line.starts_with('#')).then_some((value, after))
}

/// What is in double quotes, and what is behind them.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                escaped @ ('"' | '\\' | '$') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every form of a line, one file.
    #[test]
    fn lines_are_read() {
        let text = "\u{feff}# comment\n\nA=1\r\nexport B = two words # comment\nC='$A # \\n'\nD=\"a\\n\\\"b\\\" \\x\" # c\n\
                    E=\nF=#none\nexported=x#y\nG=\"two\nlines\"\nH=last";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A # \\n"),
            ("D", "a\n\"b\" \\x"),
            ("E", ""),
            ("F", ""),
            ("exported", "x#y"),
            ("G", "two\nlines"),
            ("H", "last"),
        ];
        let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(parse(text), Ok(expected));
    }

    /// What is no variable is told with its line.
    #[test]
    fn broken_lines_are_told() {
        for (text, line) in [
            ("A=1\nnothing\nB=2", 2),
            ("A B=1", 1),
            ("A='x\n\nB=1", 1),
            ("A=1\nB=\"x", 2),
            ("=1", 1),
            ("A='x' y", 1),
        ] {
            assert_eq!(parse(text), Err(line), "{text}");
        }
    }

    /// Variables of the process win, empty ones as well.
    #[test]
    fn what_is_set_stays() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let file = vec![pair("A", "file"), pair("B", "file"), pair("C", "file")];
        let all: Vec<_> = over(file, [pair("A", "process"), pair("B", "")].into_iter()).collect();
        assert_eq!(all, [pair("C", "file"), pair("A", "process"), pair("B", "")]);
    }

    /// A file that is not there is none; a folder is no file.
    #[test]
    fn no_file_is_no_variable() {
        assert_eq!(read(Path::new("/nonexistent/.env")), Ok(Vec::new()));
        assert!(read(Path::new("/")).unwrap_err().starts_with("cannot read /"));
    }
}
