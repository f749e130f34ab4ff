//! The environment: `CENTRIFUGO_…` and `GYRE_…`, of which the latter wins.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Warning,
    read::Findings,
    schema::{self, Key, Kind},
    source,
};

pub(super) const PREFIXES: [&str; 2] = ["CENTRIFUGO_", "GYRE_"];

/// The variables that concern the server, by their name without prefix.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Variable>,
}

#[derive(Clone, Debug)]
struct Variable {
    full_name: String,
    value: String,
}

impl Environment {
    /// Picks them out of all variables. An empty value counts as not set.
    pub fn new(all: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut variables = BTreeMap::new();
        let all: Vec<_> = all.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        for prefix in PREFIXES {
            for (full_name, value) in &all {
                if let Some(name) = full_name.strip_prefix(prefix) {
                    let variable = Variable { full_name: full_name.clone(), value: value.clone() };
                    variables.insert(name.to_owned(), variable);
                }
            }
        }
        Self { variables }
    }

    /// The value of a variable, by its name without prefix.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|variable| &*variable.value)
    }

    /// Lays the variables over a tree, and warns about those nobody reads.
    pub(super) fn apply(&self, tree: &mut Value, findings: &mut Findings) {
        let mut used = Vec::new();
        self.apply_object(schema::ROOT, "", tree, &mut used, findings);
        for (name, variable) in &self.variables {
            let is_flat = super::flat::is_old_key(&name.to_lowercase());
            if !used.contains(name) && !is_exempt(name) && !is_flat {
                let message = format!("unknown environment variable {} is ignored", variable.full_name);
                findings.warnings.push(Warning::new(message));
            }
        }
    }

    fn apply_object(
        &self,
        keys: &'static [Key],
        prefix: &str,
        tree: &mut Value,
        used: &mut Vec<String>,
        findings: &mut Findings,
    ) {
        for key in keys {
            let name = format!("{prefix}{}", key.name.to_uppercase());
            let inner = format!("{name}_");
            self.apply_file(key, &name, tree, used);
            if let Some(value) = self.get(&name) {
                used.push(name.clone());
                // Kubernetes sets such variables for a service: they hold addresses.
                if value.starts_with("tcp://") || value.starts_with("udp://") {
                    continue;
                }
                if self.rank(&format!("{name}_FILE")) > self.rank(&name) {
                    continue;
                }
                if let Some(value) = self.value_of(key, &name, value, tree, findings) {
                    source::set(tree, key.name, value);
                    self.drop_file(key, &name, tree);
                }
            }
            // Most objects have no variable: they are not made for nothing.
            if !self
                .variables
                .range(inner.clone()..)
                .next()
                .is_some_and(|(known, _)| known.starts_with(&inner))
            {
                continue;
            }
            match key.kind {
                Kind::Object(keys) => {
                    let mut object = tree.get(key.name).cloned().unwrap_or(Value::Null);
                    self.apply_object(keys, &inner, &mut object, used, findings);
                    if object.is_object() {
                        source::set(tree, key.name, object);
                    }
                }
                Kind::Objects(keys) => {
                    if let Some(Value::Array(items)) = tree.get_mut(key.name) {
                        for item in items {
                            let Some(name) = item.get("name").and_then(Value::as_str) else { continue };
                            let name = name.to_uppercase().replace(['.', '-'], "_");
                            self.apply_object(keys, &format!("{inner}{name}_"), item, used, findings);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A variable that names the file of a secret replaces both the secret and its file of what is below.
    fn apply_file(&self, key: &Key, name: &str, tree: &mut Value, used: &mut Vec<String>) {
        let Some(file) = key.file_name() else { return };
        let variable = format!("{name}_FILE");
        if let Some(value) = self.get(&variable) {
            used.push(variable);
            source::set(tree, &file, Value::from(value));
            if let Some(object) = tree.as_object_mut() {
                object.remove(key.name);
            }
        }
    }

    /// A variable with a secret replaces the file of what is below; beside a file of the same rank it is a problem.
    fn drop_file(&self, key: &Key, name: &str, tree: &mut Value) {
        if let (Some(file), Some(object)) = (key.file_name(), tree.as_object_mut())
            && self.rank(&format!("{name}_FILE")) < self.rank(name)
        {
            object.remove(&file);
        }
    }

    /// Which of two variables wins: 0 for one that is not there, else by its prefix.
    fn rank(&self, name: &str) -> usize {
        let prefix = self
            .variables
            .get(name)
            .and_then(|variable| PREFIXES.iter().position(|prefix| variable.full_name.starts_with(prefix)));
        prefix.map_or(0, |place| place + 1)
    }

    /// The value of a variable as the file would have it.
    fn value_of(
        &self,
        key: &Key,
        name: &str,
        text: &str,
        tree: &Value,
        findings: &mut Findings,
    ) -> Option<Value> {
        let mut json = |what: &str| {
            let parsed = serde_json::from_str::<Value>(text);
            if parsed.is_err() {
                findings.problem(name, format!("the environment variable is not {what}"), "correct its JSON");
            }
            parsed.ok()
        };
        match key.kind {
            Kind::List => Some(text.split_whitespace().map(Value::from).collect()),
            Kind::Map => json("a JSON object"),
            // Anything else is the old layout's switch of that name.
            Kind::Object(_) if !text.trim_start().starts_with('{') => None,
            Kind::Object(_) => json("a JSON object").map(source::lower_cased),
            Kind::Objects(_) if text.trim_start().starts_with('[') => {
                json("a JSON list").map(source::lower_cased)
            }
            // Names of empty entries, appended to those of the file.
            Kind::Objects(_) => {
                let mut items = tree.get(key.name).and_then(Value::as_array).cloned().unwrap_or_default();
                for name in text.split_whitespace() {
                    let entry = Map::from_iter([("name".to_owned(), Value::from(name))]);
                    items.push(Value::Object(entry));
                }
                Some(Value::Array(items))
            }
            _ => Some(Value::from(text)),
        }
    }

    /// Fills `${CENTRIFUGO_VAR_…}` and `${GYRE_VAR_…}` in the values of maps.
    pub(super) fn substitute(
        &self,
        keys: &'static [Key],
        tree: &mut Value,
        path: &str,
        findings: &mut Findings,
    ) {
        for key in keys {
            let Some(value) = tree.get_mut(key.name) else { continue };
            let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            match (key.kind, value) {
                (Kind::Object(keys), value) => self.substitute(keys, value, &path, findings),
                (Kind::Objects(keys), Value::Array(items)) => {
                    items.iter_mut().for_each(|item| self.substitute(keys, item, &path, findings));
                }
                (Kind::Map, Value::Object(entries)) => {
                    entries.iter_mut().for_each(|(_, value)| self.substitute_text(value, &path, findings));
                }
                (Kind::Map, Value::Array(items)) => {
                    let values = items.iter_mut().filter_map(|item| item.get_mut("value"));
                    values.for_each(|value| self.substitute_text(value, &path, findings));
                }
                _ => {}
            }
        }
    }

    fn substitute_text(&self, value: &mut Value, path: &str, findings: &mut Findings) {
        let Value::String(text) = value else { return };
        let mut filled = String::new();
        let mut rest = &**text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else { break };
            filled.push_str(before);
            let known = PREFIXES.iter().find_map(|prefix| self.get(name.strip_prefix(prefix)?));
            match known.filter(|_| name.contains("_VAR_")) {
                Some(value) => filled.push_str(value),
                None => findings.problem(
                    path,
                    format!("the variable {name} is not set"),
                    "set it before starting",
                ),
            }
            rest = after;
        }
        filled.push_str(rest);
        *text = filled;
    }
}

/// Variables with another purpose: those for substitution, and what Kubernetes sets for a service of the server's name.
fn is_exempt(name: &str) -> bool {
    let is_kubernetes = |name: &str| name.starts_with("PORT") || name.starts_with("SERVICE_");
    name.starts_with("VAR_")
        || is_kubernetes(name)
        || name.match_indices('_').any(|(at, _)| is_kubernetes(&name[at + 1..]))
}
