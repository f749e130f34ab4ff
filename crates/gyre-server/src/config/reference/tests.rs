use serde_json::Value;

use super::*;
use crate::config::write::Format;

/// The committed page is what the table says. To bring it up to date: the command in its first lines.
#[test]
fn the_page_in_docs_is_current() {
    let page = include_str!("../../../../../docs/configuration.md");
    let (_, reference) = page.split_once("<!-- keys -->\n\n").unwrap();
    assert!(
        reference == markdown("", 2),
        "run `cargo run -p gyre-server -- configdoc --markdown` and put what it prints below the mark in \
         docs/configuration.md"
    );
}

/// Every key of the table is told once in Markdown and HTML, in the place of its object or in a shape, and every key
/// with its whole path in plain text; links lead somewhere.
#[test]
fn every_key_is_told() {
    fn paths(keys: &'static [Key], path: &str, found: &mut Vec<String>) {
        for key in keys {
            let path = join(path, key.name);
            match key.keys() {
                [] => found.push(path),
                keys => paths(keys, &path, found),
            }
        }
    }
    let mut all = Vec::new();
    paths(ROOT, "", &mut all);
    let text = terminal("");
    let told: Vec<_> = text.lines().filter(|line| !line.starts_with(' ') && !line.is_empty()).collect();
    assert_eq!(told.len(), all.len());
    for path in &all {
        assert!(told.iter().any(|line| line.starts_with(&format!("{path}  ("))), "{path}");
    }
    let markdown = markdown("", 2);
    for shape in SHAPES {
        for key in shape.keys.iter().filter(|key| key.keys().is_empty()) {
            assert!(markdown.contains(&format!("| `{}` |", key.name)), "{}", key.name);
        }
    }
    let headings: Vec<_> = markdown.lines().filter(|line| line.starts_with('#')).collect();
    for heading in ["## `http_server`", "### `http_server.tls`", "## `TLS`", "### `channel.namespaces[]`"] {
        assert!(headings.contains(&heading), "{heading}");
    }
    let mut once = headings.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), headings.len(), "a heading is there twice");
}

/// A part of the reference has its keys only, all of them, without reference to what is not printed.
#[test]
fn a_section_stands_alone() {
    let part = markdown("client.proxy.connect", 3);
    assert!(part.contains("| `endpoint` |") && part.contains("| `credentials_key` |"), "{part}");
    assert!(!part.contains("](#") && !part.contains("allowed_origins"), "{part}");
    assert!(part.contains("GYRE_CLIENT_PROXY_CONNECT_HTTP_TLS_"), "{part}");
    assert!(markdown("nosuch", 2).is_empty());
}

/// The page needs nothing from elsewhere, and nothing of a description is taken for HTML.
#[test]
fn the_page_stands_alone() {
    let page = page("");
    assert!(!page.contains("src=") && !page.contains("@import") && !page.contains("<link"));
    assert!(page.contains("GYRE_CHANNEL_NAMESPACES_&lt;NAME&gt;_"));
    assert_eq!(page.matches("<table>").count(), page.matches("</table>").count());
}

/// The schema knows what the server knows: a whole configuration with all its defaults fits, other keys do not.
#[test]
fn the_schema_fits_the_defaults() {
    let schema = json_schema();
    let sources = crate::config::Sources::default();
    let whole = crate::config::load(&sources).unwrap().raw.to_tree();
    fits(&whole, &schema, &schema, "");
    assert!(schema["properties"]["client"]["properties"].get("tokens").is_none());
    assert_eq!(schema["properties"]["client"]["additionalProperties"], false);
    assert_eq!(schema["properties"]["client"]["properties"]["token"]["unevaluatedProperties"], false);
    assert!(Format::Json.write(&schema).unwrap().contains("hmac_secret_key_file"));
}

/// Checks what of JSON Schema the reference uses.
fn fits(value: &Value, schema: &Value, root: &Value, path: &str) {
    let find = |name: &str| {
        let shape = schema.get("$ref").and_then(Value::as_str).map(|reference| {
            let title = reference.strip_prefix("#/$defs/").unwrap().replace("%20", " ");
            &root["$defs"][&title]["properties"]
        });
        let own = schema["properties"].get(name);
        own.or_else(|| shape?.get(name)).unwrap_or_else(|| panic!("{path}.{name} is not in the schema"))
    };
    match value {
        Value::Object(object) if schema["type"] == "object" => {
            for (name, value) in object {
                fits(value, find(name), root, &join(path, name));
            }
        }
        Value::Bool(_) => assert_eq!(schema["type"], "boolean", "{path}"),
        Value::Number(_) => assert_eq!(schema["type"], "integer", "{path}"),
        Value::Array(_) => assert_eq!(schema["type"], "array", "{path}"),
        value if schema.get("enum").is_some() => {
            let choices = schema["enum"].as_array().unwrap();
            assert!(choices.contains(value), "{path}: {value}");
        }
        Value::String(_) => assert!(schema["type"] == "string" || schema["type"].is_array(), "{path}"),
        _ => {}
    }
}
