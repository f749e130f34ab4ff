//! The configuration in force as it may be shown: every key with its value and where that comes from, secrets hidden.

use serde_json::{Map, Value, json};

use super::{
    Loaded, Section, changes,
    read::Setting,
    schema::{self, Key, Kind},
    write::tree_of_setting,
};

/// What stands for a value that is not shown.
const HIDDEN: &str = "••••••";
/// A configuration tree after each step of its making.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers(Vec<(&'static str, Value)>);

impl Layers {
    /// Notes the tree after a step.
    pub(super) fn note(&mut self, step: &'static str, tree: &Value) {
        self.0.push((step, tree.clone()));
    }

    /// The step that gave a key its value; `None` for the default.
    fn source(&self, pointer: &str) -> Option<&'static str> {
        let mut before = None;
        let mut source = None;
        for (step, tree) in &self.0 {
            let value = tree.pointer(pointer).filter(|value| !value.is_null());
            if value.is_some() && value != before {
                source = Some(*step);
            }
            before = value;
        }
        source
    }
}

/// A JSON document: a list of all keys in the order of the table. `started` is what the server was started with: keys that
/// differ from it and wait for a restart are marked.
pub fn shown(loaded: &Loaded, started: &Section) -> Value {
    let waiting: Vec<String> = changes(started, &loaded.raw)
        .into_iter()
        .filter(|change| change.needs_restart())
        .map(|change| change.path)
        .collect();
    let mut walk = Walk { layers: &loaded.layers, waiting: &waiting, entries: Vec::new() };
    walk.section(&loaded.raw, schema::ROOT, "", "");
    walk.entries.into()
}

struct Walk<'a> {
    layers: &'a Layers,
    waiting: &'a [String],
    entries: Vec<Value>,
}

impl Walk<'_> {
    fn section(&mut self, section: &Section, keys: &[Key], path: &str, pointer: &str) {
        for key in keys {
            let Some(setting) = section.value(key.name) else { continue };
            let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            let pointer = format!("{pointer}/{}", key.name);
            match (setting, key.kind) {
                (Setting::Object(inner), Kind::Object(keys)) => self.section(inner, keys, &path, &pointer),
                (Setting::Objects(sections), Kind::Objects(keys)) => {
                    for (i, inner) in sections.iter().enumerate() {
                        let has_name = keys.iter().any(|key| key.name == "name");
                        let name = if has_name { inner.text("name") } else { "" };
                        let name = if name.is_empty() { i.to_string() } else { name.to_owned() };
                        self.section(inner, keys, &format!("{path}[{name}]"), &format!("{pointer}/{i}"));
                    }
                }
                (setting, _) => self.entry(setting, key, path, &pointer),
            }
        }
    }

    fn entry(&mut self, setting: &Setting, key: &Key, path: String, pointer: &str) {
        let value = tree_of_setting(setting, key.kind);
        let shown = masked(key, &value);
        let waits = self.waiting.iter().any(|waiting| path.starts_with(&**waiting));
        let mut entry = Map::from_iter([
            ("secret".to_owned(), json!(shown != value)),
            ("value".to_owned(), shown),
            ("source".to_owned(), json!(self.layers.source(pointer))),
        ]);
        if !key.about.is_empty() {
            entry.insert("about".to_owned(), json!(key.about));
        }
        if waits {
            entry.insert("waits_for_restart".to_owned(), json!(true));
        }
        entry.insert("path".to_owned(), json!(path));
        self.entries.push(entry.into());
    }
}

/// A value as it may be shown.
fn masked(key: &Key, value: &Value) -> Value {
    match (key.kind, value) {
        (_, Value::String(text)) if text.is_empty() => value.clone(),
        (Kind::Pem, Value::String(_)) => HIDDEN.into(),
        (Kind::Text, Value::String(_)) if key.is_secret => HIDDEN.into(),
        (Kind::Text, Value::String(text)) => masked_address(text).into(),
        (Kind::List, _) if key.is_secret => hide(value),
        // Headers and metadata of calls: names are shown, values are not.
        (Kind::Map, _) => hide(value),
        _ => value.clone(),
    }
}

fn hide(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            object.iter().map(|(name, value)| (name.clone(), hide(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(hide).collect(),
        Value::String(text) if !text.is_empty() => HIDDEN.into(),
        value => value.clone(),
    }
}

/// An address without what may be a password in it: user information and query.
fn masked_address(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (address, query) = match rest.split_once('?') {
        Some((address, _)) => (address, format!("?{HIDDEN}")),
        None => (rest, String::new()),
    };
    let (authority, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{HIDDEN}@{host}"),
        None => authority.to_owned(),
    };
    format!("{scheme}://{authority}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Sources, load};

    fn loaded(below: Value, flags: Vec<(String, Value)>) -> Loaded {
        let variables = [("CENTRIFUGO_CLIENT_PING_INTERVAL", "31s"), ("GYRE_HTTP_API_KEY", "fromthe-env")];
        let environment = Environment::new(variables.map(|(name, value)| (name.into(), value.into())));
        load(&Sources { environment, flags, defaults_below: below, ..Sources::default() }).unwrap()
    }

    fn entry<'a>(document: &'a Value, path: &str) -> &'a Value {
        document.as_array().unwrap().iter().find(|entry| entry["path"] == path).unwrap()
    }

    /// No secret of any kind is in the document, wherever it stands: looked for as text. What is none is there, with its
    /// source.
    #[test]
    fn secrets_are_hidden_and_sources_named() {
        let tree = json!({
            "client": {
                "token": {"hmac_secret_key": "hush-1"},
                "proxy": {"connect": {
                    "enabled": true, "endpoint": "https://user:hush-2@backend.example/hook?api_key=hush-3",
                    "http": {"static_headers": {"Authorization": "hush-4"}},
                }},
            },
            "admin": {"enabled": true, "password": "hush-5", "secret": "hush-6"},
            "http_server": {"tls": {"enabled": false, "key_pem": "hush-7"}},
            "channel": {"namespaces": [{"name": "chat", "presence": true}]},
        });
        let loaded = loaded(tree, vec![("http_server.port".into(), json!(9001))]);
        let document = shown(&loaded, &loaded.raw);
        let text = document.to_string();
        assert!(!text.contains("hush") && !text.contains("fromthe-env"), "{text}");
        let endpoint = entry(&document, "client.proxy.connect.endpoint");
        assert_eq!(endpoint["value"], "https://••••••@backend.example/hook?••••••");
        assert_eq!(entry(&document, "client.token.hmac_secret_key")["secret"], true);
        assert_eq!(entry(&document, "http_server.port")["value"], 9001);
        let sources = [
            ("http_server.port", json!("flag")),
            ("client.ping_interval", json!("environment")),
            ("http_api.key", json!("environment")),
            ("channel.namespaces[chat].presence", json!("development mode")),
            ("client.pong_timeout", Value::Null),
        ];
        for (path, source) in sources {
            assert_eq!(entry(&document, path)["source"], source, "{path}");
        }
    }

    /// After a reload, keys that wait for a restart are marked, and only those.
    #[test]
    fn what_waits_for_a_restart_is_marked() {
        let before = loaded(json!({}), Vec::new());
        let after = loaded(json!({"admin": {"external": true}, "channel": {"max_length": 99}}), Vec::new());
        let document = shown(&after, &before.raw);
        assert_eq!(entry(&document, "admin.external")["waits_for_restart"], true);
        assert_eq!(entry(&document, "channel.max_length")["waits_for_restart"], Value::Null);
        assert_eq!(entry(&document, "channel.max_length")["value"], 99);
    }
}
