//! Secrets that are kept in files of their own: `<key>_file` in place of the key.

use std::{fs::File, io::Read};

use serde_json::Value;

use super::{read::Findings, schema::Key};

/// Bytes of such a file at most.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The value of a secret: as given, or what the file holds that is named instead, without the line ends behind it.
pub(super) fn value<'a>(
    key: &Key,
    given: &'a Value,
    file: Option<&'a Value>,
    path: &str,
    findings: &mut Findings,
) -> std::borrow::Cow<'a, Value> {
    use std::borrow::Cow::{Borrowed, Owned};
    let Some(file) = file.filter(|file| !file.is_null()) else { return Borrowed(given) };
    let path = format!("{path}{}", super::schema::FILE_SUFFIX);
    if !given.is_null() {
        findings.problem(&path, format!("{} is set as well", key.name), "keep one of them");
        return Borrowed(given);
    }
    let Some(name) = file.as_str().filter(|name| !name.is_empty()) else {
        findings.problem(&path, "is not the path of a file", "write the path in quotes");
        return Borrowed(given);
    };
    match read(name) {
        Ok(content) => Owned(Value::from(content.trim_end_matches(['\r', '\n']))),
        Err(reason) => {
            findings.problem(&path, format!("cannot read {name}: {reason}"), "name a readable text file");
            Borrowed(given)
        }
    }
}

fn read(name: &str) -> Result<String, String> {
    let mut content = String::new();
    let file = File::open(name).map_err(|error| error.to_string())?;
    let count =
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut content).map_err(|error| error.to_string())?;
    match count as u64 > FILE_BYTES_MAX {
        true => Err(format!("it has more than {FILE_BYTES_MAX} bytes")),
        false => Ok(content),
    }
}
