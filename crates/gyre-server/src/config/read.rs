//! From a tree of JSON, YAML or TOML to typed values by the table of keys.
//!
//! Types are taken weakly, as the reference does: `"8000"` is a number, `1` is true, a text is a list of one. Every
//! problem is collected with its path; reading goes on.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use super::{
    Problem, Warning, duration,
    schema::{Key, Kind, Negative},
    secret_file,
};

/// The values of one object: those given, and the defaults of those that are not.
#[derive(Clone, Default)]
pub struct Section {
    values: BTreeMap<&'static str, Setting>,
}

/// Values are never printed: some are secrets.
impl std::fmt::Debug for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// One value.
#[derive(Clone)]
pub(super) enum Setting {
    Bool(bool),
    Int(i64),
    Text(String),
    Duration(Duration),
    List(Vec<String>),
    Map(Vec<(String, String)>),
    Object(Section),
    Objects(Vec<Section>),
}

/// Reads values are asked by name; the table has each of them, which a test of the whole configuration proves.
macro_rules! getter {
    ($(#[$doc:meta])* $name:ident $variant:ident -> $type:ty, $convert:expr) => {
        $(#[$doc])*
        pub fn $name(&self, name: &str) -> $type {
            match self.values.get(name) {
                Some(Setting::$variant(value)) => $convert(value),
                _ => {
                    debug_assert!(false, "no such key: {name}");
                    Default::default()
                }
            }
        }
    };
}

impl Section {
    getter!(
        /// The value of a boolean key.
        bool Bool -> bool, |value: &bool| *value
    );
    getter!(
        /// The value of a number.
        int Int -> i64, |value: &i64| *value
    );
    getter!(
        /// The value of a text.
        text Text -> &str, |value| -> &str { value }
    );
    getter!(
        /// The value of a duration.
        duration Duration -> Duration, |value: &Duration| *value
    );
    getter!(
        /// The value of a list.
        list List -> &[String], |value| -> &[String] { value }
    );
    getter!(
        /// The value of a map.
        map Map -> &[(String, String)], |value| -> &[(String, String)] { value }
    );
    getter!(
        /// The objects of a list.
        objects Objects -> &[Section], |value| -> &[Section] { value }
    );

    /// The object of a key.
    pub fn object(&self, name: &str) -> &Section {
        static EMPTY: Section = Section { values: BTreeMap::new() };
        match self.values.get(name) {
            Some(Setting::Object(section)) => section,
            _ => &EMPTY,
        }
    }

    /// The object at a dotted path.
    pub fn at(&self, path: &str) -> &Section {
        path.split('.').fold(self, |section, name| section.object(name))
    }

    /// A value of whatever kind.
    pub(super) fn value(&self, name: &str) -> Option<&Setting> {
        self.values.get(name)
    }

    /// True for a value that is not nothing, zero or false.
    pub(super) fn is_set(&self, name: &str) -> bool {
        match self.values.get(name) {
            Some(Setting::Bool(value)) => *value,
            Some(Setting::Int(value)) => *value != 0,
            Some(Setting::Text(text)) => !text.is_empty(),
            Some(Setting::Duration(value)) => !value.is_zero(),
            Some(Setting::List(items)) => !items.is_empty(),
            _ => false,
        }
    }

    /// A number that cannot be negative.
    pub fn size(&self, name: &str) -> usize {
        usize::try_from(self.int(name)).unwrap_or(0)
    }
}

/// What was found besides values.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What makes the configuration unusable.
    pub(super) problems: Vec<Problem>,
    /// What is odd.
    pub(super) warnings: Vec<Warning>,
}

impl Findings {
    /// Notes a problem.
    pub(super) fn problem(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), message: message.into(), fix: fix.into() });
    }
}

/// Reads an object by its table.
pub(super) fn read(keys: &'static [Key], tree: &Value, path: &str, findings: &mut Findings) -> Section {
    static NONE: Value = Value::Null;
    let empty = Map::new();
    let object = match tree {
        Value::Object(object) => object,
        Value::Null => &empty,
        _ => {
            findings.problem(path, "must be an object", "write it as { … }");
            &empty
        }
    };
    let is_known = |name: &str| {
        // Editors find the JSON schema of a file by this name.
        (path.is_empty() && name == "$schema")
            || keys.iter().any(|key| key.name == name || key.file_name().as_deref() == Some(name))
    };
    for name in object.keys().filter(|name| !is_known(name)) {
        findings.warnings.push(Warning::unknown_key(&join(path, name), keys));
    }
    let values = keys.iter().map(|key| {
        let given = object.get(key.name).unwrap_or(&NONE);
        let file = key.file_name().and_then(|name| object.get(&name));
        let path = join(path, key.name);
        let given = secret_file::value(key, given, file, &path, findings);
        (key.name, setting(key, &given, &path, findings))
    });
    Section { values: values.collect() }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

fn setting(key: &Key, given: &Value, path: &str, findings: &mut Findings) -> Setting {
    let is_given = !given.is_null();
    let mut wrong = |what: &str, fix: &str| {
        let is_shown = !key.is_secret && given.to_string().len() <= 60;
        let shown = if is_shown { given.to_string() } else { "the value".to_owned() };
        findings.problem(path, format!("{shown} is not {what}"), fix);
    };
    match key.kind {
        Kind::Bool => Setting::Bool(match given {
            Value::Null => key.default == "true",
            Value::Bool(value) => *value,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => match &**text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                "0" | "f" | "F" | "false" | "FALSE" | "False" | "" => false,
                _ => {
                    wrong("true or false", "write true or false");
                    false
                }
            },
            _ => {
                wrong("true or false", "write true or false");
                false
            }
        }),
        Kind::Int => Setting::Int({
            let number = match given {
                Value::Null => Some(key.default.parse().unwrap_or(0)),
                Value::Number(number) => whole(number),
                Value::Bool(value) => Some(i64::from(*value)),
                Value::String(text) => parse_int(text),
                _ => None,
            };
            if number.is_none() {
                wrong("a whole number", "write a number without a fraction");
            }
            meaning(key, number.unwrap_or(0), path, findings)
        }),
        Kind::Text | Kind::Pem => Setting::Text(match given {
            Value::Null => key.default.into(),
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            _ => {
                wrong("a text", "write it in quotes");
                String::new()
            }
        }),
        Kind::Duration => Setting::Duration({
            let default = || duration::parse(key.default).unwrap_or_default();
            let duration = match given {
                Value::Null => Some(default()),
                // A bare number counts nanoseconds, as in the reference.
                Value::Number(number) => number.as_u64().map(Duration::from_nanos),
                Value::String(text) => duration::parse(text),
                _ => None,
            };
            match duration {
                None => {
                    wrong("a duration", "write a number with its unit, such as \"25s\" or \"1m30s\"");
                    Duration::ZERO
                }
                Some(Duration::ZERO) if key.zero_is_default => {
                    findings.warnings.push(Warning::zero(key, path));
                    default()
                }
                Some(duration) => duration,
            }
        }),
        Kind::List => Setting::List(match given {
            Value::Null => key.default.split_whitespace().map(String::from).collect(),
            Value::Array(items) if items.iter().all(is_scalar) => items.iter().map(scalar_text).collect(),
            item if is_scalar(item) => vec![scalar_text(item)],
            _ => {
                wrong("a list of texts", "write it as [\"…\", \"…\"]");
                Vec::new()
            }
        }),
        Kind::Map => Setting::Map(read_map(given).unwrap_or_else(|| {
            wrong("a map of texts", "write it as {\"name\": \"value\"}");
            Vec::new()
        })),
        Kind::Object(keys) => Setting::Object(read(keys, given, path, findings)),
        Kind::Objects(keys) => Setting::Objects(match given {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(i, item)| read(keys, item, &format!("{path}[{i}]"), findings))
                .collect(),
            _ => {
                if is_given {
                    findings.problem(path, "must be a list of objects", "write it as [{ … }]");
                }
                Vec::new()
            }
        }),
    }
}

/// What a number stands for where zero, or numbers below it, have no meaning of their own.
fn meaning(key: &Key, number: i64, path: &str, findings: &mut Findings) -> i64 {
    match (number, key.negative) {
        (..0, Negative::Refused) => {
            findings.problem(path, format!("{number} is below zero"), "use 0 or more");
            0
        }
        (0, _) | (..0, Negative::IsZero) if key.zero_is_default => {
            findings.warnings.push(Warning::zero(key, path));
            key.default.parse().unwrap_or(0)
        }
        (..0, Negative::IsZero) => {
            let message = format!("{path}: {number} is below zero and counts as 0");
            findings.warnings.push(Warning::new(message));
            0
        }
        _ => number,
    }
}

/// A number that may be written with an exponent, such as `1e3`.
fn whole(number: &serde_json::Number) -> Option<i64> {
    let fits = |value: f64| value.fract() == 0.0 && value.abs() < 2f64.powi(53);
    number.as_i64().or_else(|| number.as_f64().filter(|value| fits(*value)).map(|value| value as i64))
}

/// A number as Go reads it with base 0.
fn parse_int(text: &str) -> Option<i64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        _ => (text, 10),
    };
    i64::from_str_radix(digits, radix).ok()
}

fn is_scalar(value: &Value) -> bool {
    matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_))
}

fn scalar_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// A map in either form; `None` if it is neither, or names a key twice.
fn read_map(given: &Value) -> Option<Vec<(String, String)>> {
    match given {
        Value::Null => Some(Vec::new()),
        Value::Object(object) => {
            object.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.into()))).collect()
        }
        Value::Array(items) => {
            let mut entries: Vec<(String, String)> = Vec::new();
            for item in items {
                let (name, value) = (item.get("key")?.as_str()?, item.get("value")?.as_str()?);
                if entries.iter().any(|(known, _)| known == name) {
                    return None;
                }
                entries.push((name.into(), value.into()));
            }
            Some(entries)
        }
        _ => None,
    }
}
