//! A JSON schema of configuration files, by which editors complete and check them.
//!
//! Spec: JSON Schema 2020-12

use serde_json::{Map, Value, json};

use crate::config::schema::{Key, Kind, ROOT, SHAPES};

/// The schema. It takes what is documented; what is taken besides (numbers in quotes, keys in capitals, the flat layout)
/// is marked by editors, and still works.
pub fn json_schema() -> Value {
    let mut schema = object(ROOT);
    let shapes =
        SHAPES.iter().map(|shape| (shape.title.to_owned(), json!({"properties": properties(shape.keys)})));
    let more = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Gyre",
        "$defs": shapes.collect::<Map<_, _>>(),
    });
    if let (Value::Object(schema), Value::Object(more)) = (&mut schema, more) {
        schema.extend(more);
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.insert("$schema".into(), json!({"type": "string"}));
        }
    }
    schema
}

fn object(keys: &'static [Key]) -> Value {
    match SHAPES.iter().find(|shape| shape.is_in(keys)) {
        None => json!({"type": "object", "additionalProperties": false, "properties": properties(keys)}),
        Some(shape) => {
            let own: Map<_, _> =
                properties(keys).into_iter().filter(|(name, _)| !shape.has_name(name)).collect();
            json!({
                "type": "object",
                "$ref": format!("#/$defs/{}", shape.title.replace(' ', "%20")),
                "properties": own,
                "unevaluatedProperties": false,
            })
        }
    }
}

fn properties(keys: &'static [Key]) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in keys {
        properties.insert(key.name.into(), property(key));
        if let Some(file) = key.file_name() {
            let about = format!("File with the value of `{}`.", key.name);
            properties.insert(file, json!({"type": "string", "description": about}));
        }
    }
    properties
}

fn property(key: &'static Key) -> Value {
    let mut schema = match key.kind {
        Kind::Bool => json!({"type": "boolean", "default": key.default == "true"}),
        Kind::Int => json!({"type": "integer", "default": key.default.parse::<i64>().unwrap_or(0)}),
        Kind::Text if key.choices.is_empty() => json!({"type": "string", "default": key.default}),
        // A whole configuration written out has the default, even where it is no choice.
        Kind::Text if !key.choices.contains(&key.default) => {
            let choices = [&[key.default], key.choices].concat();
            json!({"enum": choices, "default": key.default})
        }
        Kind::Text => json!({"enum": key.choices, "default": key.default}),
        Kind::Pem => json!({"type": "string"}),
        Kind::Duration => json!({
            "type": "string",
            "pattern": "^(0|([0-9]+(\\.[0-9]*)?(ns|us|µs|μs|ms|s|m|h))+)$",
            "default": if key.default.is_empty() { "0s" } else { key.default },
        }),
        Kind::List => json!({
            "type": "array",
            "items": {"type": "string"},
            "default": key.default.split_whitespace().collect::<Vec<_>>(),
        }),
        Kind::Map => json!({
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": "string"}},
                {"type": "array", "items": {
                    "type": "object",
                    "properties": {"key": {"type": "string"}, "value": {"type": "string"}},
                    "required": ["key", "value"],
                }},
            ],
        }),
        Kind::Object(keys) => object(keys),
        Kind::Objects(keys) => json!({"type": "array", "items": object(keys)}),
    };
    if matches!(key.name, "internal_port") {
        schema["type"] = json!(["string", "integer"]);
    }
    schema["description"] = key.about.into();
    schema
}
