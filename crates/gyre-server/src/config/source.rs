//! Files to trees, and trees to one.

use std::{io, path::Path};

use serde_json::{Map, Value};

use super::{Warning, read::Findings};

/// Reads a file by its extension.
pub(super) fn read_file(path: &Path, may_be_missing: bool, findings: &mut Findings) -> Value {
    let empty = || Value::Object(Map::new());
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_be_missing => {
            findings.warnings.push(Warning::new(format!("config file not found: {shown}")));
            return empty();
        }
        Err(error) => {
            findings.problem(
                "",
                format!("cannot read {shown}: {error}"),
                "name a readable file with --config",
            );
            return empty();
        }
    };
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    let parsed = match extension {
        "json" => serde_json::from_str(&text).map_err(|error| error.to_string()),
        "yaml" | "yml" => serde_yaml_ng::from_str(&text).map_err(|error| error.to_string()),
        "toml" => toml::from_str(&text).map_err(|error| error.to_string()),
        _ => {
            let fix = "use a name that ends in .json, .yaml, .yml or .toml";
            findings.problem("", format!("the format of {shown} is not known"), fix);
            return empty();
        }
    };
    match parsed {
        Ok(Value::Null) => empty(),
        Ok(tree @ Value::Object(_)) => tree,
        Ok(_) => {
            findings.problem("", format!("{shown} does not hold an object"), "put the keys at the top");
            empty()
        }
        Err(error) => {
            findings.problem("", format!("{shown} cannot be parsed: {error}"), "correct the syntax");
            empty()
        }
    }
}

/// Keys match in any case.
pub(super) fn lower_cased(tree: Value) -> Value {
    match tree {
        Value::Object(object) => {
            object.into_iter().map(|(name, value)| (name.to_lowercase(), lower_cased(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(lower_cased).collect(),
        scalar => scalar,
    }
}

/// Sets the value at a dotted path, making objects on the way.
pub(super) fn set(tree: &mut Value, path: &str, value: Value) {
    let mut place = tree;
    for name in path.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(object) = place else { return };
        place = object.entry(name).or_insert(Value::Null);
    }
    *place = value;
}

/// The value at a dotted path.
pub(super) fn get<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |tree, name| tree.get(name)).filter(|value| !value.is_null())
}

/// Fills what `tree` does not say from `below`.
pub(super) fn lay_below(tree: &mut Value, below: &Value) {
    match (tree, below) {
        (Value::Object(object), Value::Object(below)) => {
            for (name, value) in below {
                lay_below(object.entry(name).or_insert(Value::Null), value);
            }
        }
        (tree @ Value::Null, below) => *tree = below.clone(),
        _ => {}
    }
}
