//! Hooks in the flat layout: names that were their own switches, and options that all hooks without a name shared.
//!
//! Spec: centrifugal.dev, "Migrating to v6", proxies

use serde_json::{Map, Value};

use super::{Environment, Warning, flat, read::Findings, source};

/// Hooks without a name, by their new place.
const PLACES: [&str; 7] = [
    "client.proxy.connect",
    "client.proxy.refresh",
    "channel.proxy.subscribe",
    "channel.proxy.publish",
    "channel.proxy.sub_refresh",
    "channel.proxy.subscribe_stream",
    "rpc.proxy",
];

/// Options that all of them shared, and what each is in its place.
const SHARED: [(&str, &[&str]); 10] = [
    // Headers of a connect command were taken for headers of the request.
    ("proxy_http_headers", &["http_headers", "emulated_headers"]),
    ("proxy_grpc_metadata", &["grpc_metadata"]),
    ("proxy_binary_encoding", &["binary_encoding"]),
    ("proxy_include_connection_meta", &["include_connection_meta"]),
    ("proxy_static_http_headers", &["http.static_headers"]),
    ("proxy_http_status_code_transforms", &["http.status_to_code_transforms"]),
    ("proxy_grpc_tls", &["grpc.tls"]),
    ("proxy_grpc_compression", &["grpc.compression"]),
    ("proxy_grpc_credentials_key", &["grpc.credentials_key"]),
    ("proxy_grpc_credentials_value", &["grpc.credentials_value"]),
];

/// Old names of the options of one proxy.
const OF_ONE: [(&str, &str); 5] = [
    ("static_http_headers", "http.static_headers"),
    ("grpc_tls", "grpc.tls"),
    ("grpc_compression", "grpc.compression"),
    ("grpc_credentials_key", "grpc.credentials_key"),
    ("grpc_credentials_value", "grpc.credentials_value"),
];

/// Hooks of channels that were enabled by being named.
const OF_CHANNELS: [&str; 4] = ["subscribe", "publish", "sub_refresh", "subscribe_stream"];

/// True for an old name of an option that all hooks without a name shared.
pub(super) fn is_shared(name: &str) -> bool {
    SHARED.iter().any(|(old, _)| *old == name)
}

/// Lays such options in the environment over those of the file.
pub(super) fn share_environment(tree: &mut Value, environment: &Environment) {
    for (old, paths) in SHARED {
        if let Some(text) = environment.get(&old.to_uppercase()) {
            let value = flat::value_at(&format!("{}.{}", PLACES[0], paths[0]), text);
            source::set(tree, old, value);
        }
    }
}

/// Moves what is written in the old layout. `was_moved` tells whether an old name was found and moved already.
pub(super) fn translate(tree: &mut Value, was_moved: impl Fn(&str) -> bool, findings: &mut Findings) {
    for proxy in items(tree, "/proxies") {
        for (old, path) in OF_ONE {
            if let Some(value) = proxy.as_object_mut().and_then(|proxy| proxy.remove(old)) {
                set_unless_there(proxy, path, value);
            }
        }
    }
    share(tree, findings);
    for kind in ["connect", "refresh"] {
        name_hook(tree, kind, findings);
    }
    for kind in OF_CHANNELS {
        if was_moved(&format!("{kind}_proxy_name"))
            && let Some(options) = tree.pointer_mut("/channel/without_namespace")
        {
            enable(options, kind);
        }
    }
    if was_moved("namespaces") {
        for namespace in items(tree, "/channel/namespaces") {
            OF_CHANNELS.iter().for_each(|kind| enable(namespace, kind));
        }
    }
    for namespace in items(tree, "/rpc/namespaces") {
        let name = namespace.as_object_mut().and_then(|namespace| namespace.remove("rpc_proxy_name"));
        if let Some(name) = name.filter(|name| name.as_str() != Some("")) {
            set_unless_there(namespace, "proxy_name", name);
            set_unless_there(namespace, "proxy_enabled", true.into());
        }
    }
}

/// The objects of a list.
fn items<'t>(tree: &'t mut Value, pointer: &str) -> impl Iterator<Item = &'t mut Value> {
    let items = tree.pointer_mut(pointer).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter(|item| item.is_object())
}

fn set_unless_there(tree: &mut Value, path: &str, value: Value) {
    if source::get(tree, path).is_none() {
        source::set(tree, path, value);
    }
}

/// Enables a hook that is named.
fn enable(options: &mut Value, kind: &str) {
    let name = options.get(format!("{kind}_proxy_name")).and_then(Value::as_str);
    if name.is_some_and(|name| !name.is_empty()) {
        set_unless_there(options, &format!("{kind}_proxy_enabled"), true.into());
    }
}

/// Gives the options that all hooks without a name share to each that has an endpoint.
fn share(tree: &mut Value, findings: &mut Findings) {
    for (old, paths) in SHARED {
        let Some(value) = tree.as_object_mut().and_then(|object| object.remove(old)) else { continue };
        let message =
            format!("\"{old}\" is now written for each hook, such as \"{}.{}\"", PLACES[0], paths[0]);
        findings.warnings.push(Warning::new(message));
        for place in PLACES {
            if source::get(tree, &format!("{place}.endpoint")).is_some() {
                for path in paths {
                    set_unless_there(tree, &format!("{place}.{path}"), value.clone());
                }
            }
        }
    }
}

/// A hook of connections that is one of `proxies`: it is copied to the place it has now.
fn name_hook(tree: &mut Value, kind: &str, findings: &mut Findings) {
    let old = format!("{kind}_proxy_name");
    let name = tree.as_object_mut().and_then(|object| object.remove(&old));
    let Some(name) = name.as_ref().and_then(Value::as_str).filter(|name| !name.is_empty()) else { return };
    let place = format!("client.proxy.{kind}");
    findings.warnings.push(Warning::new(format!("\"{old}\" is now written \"{place}\"")));
    let named = items(tree, "/proxies").find(|proxy| proxy.get("name").and_then(Value::as_str) == Some(name));
    let Some(proxy) = named.and_then(|proxy| proxy.as_object().cloned()) else {
        findings.problem(&old, format!("the proxy \"{name}\" does not exist"), "add it to proxies");
        return;
    };
    let options: Map<String, Value> = proxy.into_iter().filter(|(key, _)| key != "name").collect();
    for (key, value) in options {
        set_unless_there(tree, &format!("{place}.{key}"), value);
    }
    set_unless_there(tree, &format!("{place}.enabled"), true.into());
}
