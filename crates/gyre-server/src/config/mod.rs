//! Configuration: files, environment and flags to plain options.
//!
//! Flags win over the environment, the environment over the file, the file over the defaults laid below (development
//! mode's), those over the built-in ones. Reading never touches the process: the environment is handed in, so a reload
//! is the same call again. All problems are reported at once, each with its key and the fix.

mod channels;
mod difference;
pub mod dotenv;
pub mod duration;
mod env;
mod flat;
mod flat_hooks;
mod hooks;
mod http_server;
mod keys;
mod operation;
mod read;
pub mod reference;
mod resolve;
pub mod schema;
mod secret_file;
mod shown;
mod source;
mod unavailable;
mod validate;
mod write;

use std::{fmt, path::PathBuf};

use serde_json::Value;

pub use difference::{Change, changes};
pub use env::Environment;
pub use http_server::{Address, HttpServer, InternalTls, TlsOptions, TlsSource};
pub use operation::Operation;
pub use read::Section;
pub use resolve::{
    ApiSettings, EmulationOptions, GrpcOptions, Resolved, StreamingOptions, TokenOptions, TrackOptions,
    UniWebSocketOptions, WebSocketOptions, WebTransportOptions, resolve_origins,
};
pub use shown::shown;
pub use write::Format;

/// Something that makes the configuration unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{} ({})", self.message, self.fix)
    }
}

/// Something odd that does not stop the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is odd, with its place.
    pub message: String,
    /// The key is unknown: `checkconfig --strict` fails on it.
    pub is_unknown_key: bool,
    /// It lets people in whom nobody asks for a key: `checkconfig --strict` fails on it as well.
    pub is_open_door: bool,
}

impl Warning {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_unknown_key: false, is_open_door: false }
    }

    /// Nobody is asked for a key.
    fn open_door(message: impl Into<String>) -> Self {
        Self { is_open_door: true, ..Self::new(message) }
    }

    /// A value that would let nothing through.
    fn zero(key: &schema::Key, path: &str) -> Self {
        Self::new(format!(
            "{path}: a value of 0 or below makes no sense: the default, {}, is used",
            key.default
        ))
    }

    /// A key nobody knows, with the nearest one that is known.
    fn unknown_key(path: &str, keys: &[schema::Key]) -> Self {
        let name = path.rsplit('.').next().unwrap_or(path);
        let nearest = keys.iter().map(|key| (distance(name, key.name), key.name)).min();
        let hint = match nearest {
            Some((distance, nearest)) if distance <= 1 + name.len() / 4 => {
                format!("; did you mean \"{nearest}\"?")
            }
            _ => String::new(),
        };
        Self { is_unknown_key: true, ..Self::new(format!("unknown key \"{path}\" is ignored{hint}")) }
    }
}

/// How many letters have to change.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// Where a configuration comes from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The file; `None` for none.
    pub file: Option<PathBuf>,
    /// A missing file is a warning, not a problem.
    pub may_be_missing: bool,
    /// The environment's variables.
    pub environment: Environment,
    /// Flags given, by dotted key.
    pub flags: Vec<(String, Value)>,
    /// Defaults laid under everything else.
    pub defaults_below: Value,
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// Typed values of all keys.
    pub raw: Section,
    /// Options for each part of the server.
    pub resolved: Resolved,
    /// What is odd about it.
    pub warnings: Vec<Warning>,
    /// How it came to be, for those who ask where a value is from.
    layers: shown::Layers,
}

/// Reads, checks and resolves a configuration.
///
/// # Errors
/// All problems found.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Problem>> {
    let mut findings = read::Findings::default();
    let mut tree = match &sources.file {
        None => Value::Object(Default::default()),
        Some(path) => source::lower_cased(source::read_file(path, sources.may_be_missing, &mut findings)),
    };
    let mut layers = shown::Layers::default();
    flat::translate(&mut tree, &sources.environment, &mut findings);
    layers.note("file", &tree);
    sources.environment.apply(&mut tree, &mut findings);
    layers.note("environment", &tree);
    for (path, value) in &sources.flags {
        source::set(&mut tree, path, value.clone());
    }
    layers.note("flag", &tree);
    source::lay_below(&mut tree, &sources.defaults_below);
    layers.note("development mode", &tree);
    sources.environment.substitute(schema::ROOT, &mut tree, "", &mut findings);
    let raw = read::read(schema::ROOT, &tree, "", &mut findings);
    validate::validate(&raw, &mut findings);
    unavailable::check(&raw, &mut findings);
    let resolved = resolve::resolve(&raw, &mut findings);
    if let Some(resolved) = &resolved {
        keys::check(resolved, &mut findings);
    }
    match (findings.problems.is_empty(), resolved) {
        (true, Some(resolved)) => Ok(Loaded { raw, resolved, warnings: findings.warnings, layers }),
        _ => Err(findings.problems),
    }
}

#[cfg(test)]
mod tests;
