//! A configuration written out: as a file, or as environment variables.

use serde_json::{Map, Value, json};

use super::{
    duration,
    env::PREFIXES,
    read::{Section, Setting},
    schema::{self, Key, Kind},
};

/// Formats of configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.json`
    Json,
    /// `.yaml`, `.yml`
    Yaml,
    /// `.toml`
    Toml,
}

impl Format {
    /// The format of files with this extension.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }

    /// The text of a file with this content.
    ///
    /// # Errors
    /// If the format cannot hold it.
    pub fn write(self, tree: &Value) -> Result<String, String> {
        match self {
            Self::Json => {
                serde_json::to_string_pretty(tree).map(|text| text + "\n").map_err(|error| error.to_string())
            }
            Self::Yaml => serde_yaml_ng::to_string(tree).map_err(|error| error.to_string()),
            Self::Toml => toml::to_string_pretty(tree).map_err(|error| error.to_string()),
        }
    }
}

impl Section {
    /// All keys with their values, in the order of the table. What has no value of its own is left out.
    pub fn to_tree(&self) -> Value {
        self.tree_of(schema::ROOT)
    }

    fn tree_of(&self, keys: &'static [Key]) -> Value {
        let entries = keys.iter().filter_map(|key| {
            let value = self.value(key.name)?;
            Some((key.name.to_owned(), tree_of_setting(value, key.kind)))
        });
        entries.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
    }

    /// All keys as lines `KEY="value"`, sorted by name. With `only_set` those that hold their zero value are left out.
    /// Objects in lists follow by their names.
    ///
    /// Spec: configuration part 2, `defaultenv`.
    pub fn to_environment(&self, only_set: bool) -> Vec<String> {
        let mut variables = Vec::new();
        self.variables_of(schema::ROOT, PREFIXES[0], &mut variables);
        variables.retain(|(_, value)| !only_set || !is_zero(value));
        variables.sort();
        variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn variables_of(&self, keys: &'static [Key], prefix: &str, variables: &mut Vec<(String, String)>) {
        for key in keys {
            let name = format!("{prefix}{}", key.name.to_uppercase());
            match (self.value(key.name), key.kind) {
                (Some(Setting::Object(section)), Kind::Object(keys)) => {
                    section.variables_of(keys, &format!("{name}_"), variables);
                }
                (Some(Setting::Objects(sections)), Kind::Objects(keys))
                    if keys.iter().any(|key| key.name == "name") =>
                {
                    let names: Vec<_> = sections.iter().map(|section| section.text("name")).collect();
                    for (section, own) in sections.iter().zip(&names) {
                        let own = own.to_uppercase().replace(['.', '-'], "_");
                        section.variables_of(keys, &format!("{name}_{own}_"), variables);
                    }
                    variables.push((name, quoted(&names.join(" "))));
                }
                (Some(value), kind) => match tree_of_setting(value, kind) {
                    Value::Null => {}
                    Value::String(text) => variables.push((name, quoted(&text))),
                    Value::Array(items) if matches!(kind, Kind::List) => {
                        let texts: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                        variables.push((name, quoted(&texts.join(" "))));
                    }
                    value @ (Value::Array(_) | Value::Object(_)) => {
                        variables.push((name, quoted(&value.to_string())));
                    }
                    plain => variables.push((name, plain.to_string())),
                },
                (None, _) => {}
            }
        }
    }
}

pub(super) fn tree_of_setting(setting: &Setting, kind: Kind) -> Value {
    match (setting, kind) {
        (Setting::Bool(value), _) => json!(value),
        (Setting::Int(value), _) => json!(value),
        (Setting::Text(value), _) => json!(value),
        (Setting::Duration(value), _) => json!(duration::format(*value)),
        (Setting::List(value), _) => json!(value),
        (Setting::Map(entries), _) => {
            entries.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>().into()
        }
        (Setting::Object(section), Kind::Object(keys)) => section.tree_of(keys),
        (Setting::Objects(sections), Kind::Objects(keys)) => {
            sections.iter().map(|section| section.tree_of(keys)).collect()
        }
        // The kind of a setting is that of its key.
        (Setting::Object(_) | Setting::Objects(_), _) => Value::Null,
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn is_zero(value: &str) -> bool {
    matches!(value, "false" | "0" | "\"\"" | "\"0s\"" | "\"{}\"" | "\"[]\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Sources, load};

    fn tree() -> Value {
        json!({
            "http_server": {"port": 9000},
            "client": {
                "allowed_origins": ["https://a.example", "https://b.example"],
                "ping_interval": "1m30s", "token": {"hmac_secret_key": "a \"quoted\" \\ secret"},
            },
            "channel": {"namespaces": [{"name": "my-chat", "presence": true, "history_size": 10, "history_ttl": "300s"}]},
        })
    }

    fn load_tree(tree: Value) -> Section {
        let sources =
            Sources { environment: Environment::new([]), defaults_below: tree, ..Sources::default() };
        load(&sources).unwrap().raw
    }

    /// Every format gives the same values again, all keys of the table included.
    #[test]
    fn files_are_read_back() {
        let whole = load_tree(tree()).to_tree();
        assert_eq!(whole["client"]["ping_interval"], "1m30s");
        assert_eq!(whole["channel"]["max_length"], 255);
        let json = Format::Json.write(&whole).unwrap();
        assert_eq!(load_tree(serde_json::from_str(&json).unwrap()).to_tree(), whole);
        let yaml = Format::Yaml.write(&whole).unwrap();
        assert_eq!(load_tree(serde_yaml_ng::from_str(&yaml).unwrap()).to_tree(), whole);
        let toml = Format::Toml.write(&whole).unwrap();
        assert_eq!(load_tree(toml::from_str(&toml).unwrap()).to_tree(), whole);
    }

    /// The variables give the same values again when the shell has taken the quotes away.
    #[test]
    fn the_environment_is_read_back() {
        let section = load_tree(tree());
        let lines = section.to_environment(false);
        assert!(lines.is_sorted());
        assert!(lines.contains(&r#"CENTRIFUGO_CLIENT_PING_INTERVAL="1m30s""#.to_owned()));
        assert!(lines.contains(&r#"CENTRIFUGO_CHANNEL_NAMESPACES="my-chat""#.to_owned()));
        assert!(lines.contains(&"CENTRIFUGO_CHANNEL_NAMESPACES_MY_CHAT_PRESENCE=true".to_owned()));
        let variables = lines.iter().map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            (name.to_owned(), value.replace("\\\"", "\"").replace("\\\\", "\\"))
        });
        let environment = Environment::new(variables);
        let again = load(&Sources { environment, ..Sources::default() }).unwrap();
        assert_eq!(again.raw.to_tree(), section.to_tree());
        assert_eq!(again.warnings.len(), 0, "{:?}", again.warnings);
        assert!(section.to_environment(true).len() < lines.len());
    }
}
