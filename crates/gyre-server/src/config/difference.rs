//! What tells two configurations apart: said after a reload.

use std::fmt;

use serde_json::Value;

use super::{
    Section,
    schema::{self, Kind},
};

/// Keys that a reload takes over, with all below them; others count from the next start on.
const RELOADED: [&str; 13] = [
    "log.level",
    "log.levels",
    "channel",
    "client",
    "rpc",
    "proxies",
    "shared_poll",
    "http_server.tls",
    "http_server.internal_tls",
    "uni_grpc.tls",
    "grpc_api.tls",
    "websocket.write_timeout",
    "uni_websocket.write_timeout",
];
/// Keys of those that are read once nevertheless.
const READ_ONCE: [&str; 5] = [
    "http_server.tls.enabled",
    "http_server.internal_tls.enabled",
    "uni_grpc.tls.enabled",
    "grpc_api.tls.enabled",
    "shared_poll.concurrency_limit",
];
/// True if a change of the key at this path counts from the next start on.
pub(super) fn needs_restart(path: &str) -> bool {
    let is_in = |list: &[&str]| {
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        list.iter().any(|key| path.strip_prefix(key).is_some_and(is_below))
    };
    !is_in(&RELOADED) || is_in(&READ_ONCE)
}

/// A key with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its path; entries of lists are named by their `name`, or counted.
    pub path: String,
    before: Value,
    after: Value,
}

impl Change {
    /// True if it counts from the next start on.
    pub fn needs_restart(&self) -> bool {
        needs_restart(&self.path)
    }

    /// A value as it may be shown.
    fn shown(&self, value: &Value) -> String {
        let is_secret = schema::find(&self.path)
            .is_none_or(|key| key.is_secret || matches!(key.kind, Kind::Pem | Kind::Map));
        // Addresses may have a password in them.
        let is_secret = is_secret || value.as_str().is_some_and(|text| text.contains('@'));
        match value {
            Value::Null => "nothing".into(),
            Value::Object(_) | Value::Array(_) => "…".into(),
            Value::String(text) if is_secret && !text.is_empty() => "(secret)".into(),
            value => value.to_string(),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.path, self.shown(&self.before), self.shown(&self.after))
    }
}

/// Every key whose value differs, in the order of the table.
pub fn changes(before: &Section, after: &Section) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", &before.to_tree(), &after.to_tree(), &mut found);
    found
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<Change>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|name| !new.contains_key(*name));
            for name in new.keys().chain(gone) {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let value =
                    |object: &serde_json::Map<String, Value>| object.get(name).cloned().unwrap_or_default();
                compare(&inner, &value(old), &value(new), found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.iter().chain(new).any(Value::is_object) => {
            let names: Vec<String> = new.iter().enumerate().map(|(i, entry)| name_of(i, entry)).collect();
            let entry = |list: &[Value], name: &str| {
                let found = list.iter().enumerate().find(|(i, entry)| name_of(*i, entry) == name);
                found.map(|(_, entry)| entry.clone()).unwrap_or_default()
            };
            let gone = old
                .iter()
                .enumerate()
                .map(|(i, entry)| name_of(i, entry))
                .filter(|name| !names.contains(name));
            for name in names.iter().cloned().chain(gone) {
                compare(&format!("{path}[{name}]"), &entry(old, &name), &entry(new, &name), found);
            }
        }
        _ => found.push(Change { path: path.into(), before: before.clone(), after: after.clone() }),
    }
}

fn name_of(at: usize, entry: &Value) -> String {
    match entry.get("name").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => name.into(),
        _ => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Environment, Sources, load};

    fn section(tree: Value) -> Section {
        let sources =
            Sources { environment: Environment::new([]), defaults_below: tree, ..Sources::default() };
        load(&sources).unwrap().raw
    }

    /// Each difference is one line with its key, secrets are not shown, and it is told which wait for a restart.
    #[test]
    fn differences_are_named() {
        let before = section(json!({
            "client": {"token": {"hmac_secret_key": "old"}, "allowed_origins": ["*"]},
            "channel": {"namespaces": [{"name": "na", "presence": true}, {"name": "nb"}]},
        }));
        let after = section(json!({
            "http_server": {"port": 9000},
            "client": {"token": {"hmac_secret_key": "new"}, "ping_interval": "30s"},
            "channel": {"namespaces": [{"name": "nc"}, {"name": "na"}]},
        }));
        let found = changes(&before, &after);
        let mut lines: Vec<_> =
            found.iter().map(|change| (change.to_string(), change.needs_restart())).collect();
        lines.sort();
        let expected = [
            ("channel.namespaces[na].presence: true → false", false),
            ("channel.namespaces[nb]: … → nothing", false),
            ("channel.namespaces[nc]: nothing → …", false),
            ("client.allowed_origins: … → …", false),
            ("client.ping_interval: \"25s\" → \"30s\"", false),
            ("client.token.hmac_secret_key: (secret) → (secret)", false),
            ("http_server.port: 8000 → 9000", true),
        ];
        assert_eq!(lines, expected.map(|(line, restart)| (line.to_owned(), restart)));
        assert_eq!(changes(&before, &before), []);
    }
}
