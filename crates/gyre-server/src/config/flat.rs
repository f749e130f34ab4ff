//! The flat layout of older versions, as their documentation prints it, translated into the nested one.
//!
//! Names of both layouts are told apart by their values: a scalar where the nested layout has an object is the old
//! form. Where both forms set the same thing, the new one wins.
//!
//! Spec: centrifugal.dev, "Migrating to v6"

use serde_json::{Map, Value};

use super::{
    Environment, Warning, flat_hooks,
    read::Findings,
    schema::{self, Key, Kind},
    source,
};

/// Old names whose new path is not told by a family.
const RENAMED: &[(&str, &str)] = &[
    ("address", "http_server.address"),
    ("port", "http_server.port"),
    ("internal_address", "http_server.internal_address"),
    ("internal_port", "http_server.internal_port"),
    ("tls_external", "http_server.tls_external"),
    ("tls_autocert", "http_server.tls_autocert.enabled"),
    ("http3", "http_server.http3.enabled"),
    ("name", "node.name"),
    ("node_info_metrics_aggregate_interval", "node.info_metrics_aggregate_interval"),
    ("allowed_origins", "client.allowed_origins"),
    ("allow_anonymous_connect_without_token", "client.allow_anonymous_connect_without_token"),
    ("client_anonymous", "client.allow_anonymous_connect_without_token"),
    ("disallow_anonymous_connection_tokens", "client.disallow_anonymous_connection_tokens"),
    ("ping_interval", "client.ping_interval"),
    ("pong_timeout", "client.pong_timeout"),
    ("separate_subscription_token_config", "client.subscription_token.enabled"),
    ("user_subscribe_to_personal", "client.subscribe_to_user_personal_channel.enabled"),
    (
        "user_personal_channel_namespace",
        "client.subscribe_to_user_personal_channel.personal_channel_namespace",
    ),
    ("user_personal_single_connection", "client.subscribe_to_user_personal_channel.single_connection"),
    ("global_history_meta_ttl", "channel.history_meta_ttl"),
    ("namespaces", "channel.namespaces"),
    ("rpc_namespaces", "rpc.namespaces"),
    ("rpc_namespace_boundary", "rpc.namespace_boundary"),
    ("rpc_ping", "rpc.ping.enabled"),
    ("rpc_ping_method", "rpc.ping.method"),
    ("rpc_proxy_name", "rpc.without_namespace.proxy_name"),
    ("proxy_connect_endpoint", "client.proxy.connect.endpoint"),
    ("proxy_connect_timeout", "client.proxy.connect.timeout"),
    ("proxy_refresh_endpoint", "client.proxy.refresh.endpoint"),
    ("proxy_refresh_timeout", "client.proxy.refresh.timeout"),
    ("proxy_subscribe_endpoint", "channel.proxy.subscribe.endpoint"),
    ("proxy_subscribe_timeout", "channel.proxy.subscribe.timeout"),
    ("proxy_publish_endpoint", "channel.proxy.publish.endpoint"),
    ("proxy_publish_timeout", "channel.proxy.publish.timeout"),
    ("proxy_sub_refresh_endpoint", "channel.proxy.sub_refresh.endpoint"),
    ("proxy_sub_refresh_timeout", "channel.proxy.sub_refresh.timeout"),
    ("proxy_subscribe_stream_endpoint", "channel.proxy.subscribe_stream.endpoint"),
    ("proxy_subscribe_stream_timeout", "channel.proxy.subscribe_stream.timeout"),
    ("proxy_rpc_endpoint", "rpc.proxy.endpoint"),
    ("proxy_rpc_timeout", "rpc.proxy.timeout"),
    ("websocket_disable", "websocket.disabled"),
    ("api_disable", "http_api.disabled"),
    ("usage_stats_disable", "usage_stats.disabled"),
    ("global_presence_ttl", "engine.redis.presence_ttl"),
    ("presence_ttl", "engine.redis.presence_ttl"),
    ("global_redis_presence_user_mapping", "engine.redis.presence_user_mapping"),
    ("redis_use_lists", "engine.redis.history_use_lists"),
    ("redis_read_timeout", "engine.redis.io_timeout"),
];

/// Old names that are a prefix and the name of a key in the object at the path.
const FAMILIES: &[(&str, &str)] = &[
    ("tls_autocert_", "http_server.tls_autocert"),
    ("subscription_token_", "client.subscription_token"),
    ("token_", "client.token"),
    ("client_", "client"),
    ("channel_", "channel"),
    ("log_", "log"),
    ("shutdown_", "shutdown"),
    ("webtransport_", "webtransport"),
    ("uni_websocket_", "uni_websocket"),
    ("websocket_", "websocket"),
    ("uni_sse_", "uni_sse"),
    ("sse_", "sse"),
    ("uni_http_stream_", "uni_http_stream"),
    ("http_stream_", "http_stream"),
    ("emulation_", "emulation"),
    ("uni_grpc_", "uni_grpc"),
    ("grpc_api_", "grpc_api"),
    ("api_", "http_api"),
    ("admin_", "admin"),
    ("prometheus_", "prometheus"),
    ("health_", "health"),
    ("swagger_", "swagger"),
    ("debug_", "debug"),
    ("opentelemetry_", "opentelemetry"),
    ("graphite_", "graphite"),
    ("redis_", "engine.redis"),
    ("nats_", "broker.nats"),
];

/// Old names of TLS objects, by their new path.
const TLS: [(&str, &str); 5] = [
    ("tls", "http_server.tls"),
    ("redis_tls", "engine.redis.tls"),
    ("redis_sentinel_tls", "engine.redis.sentinel_tls"),
    ("grpc_api_tls", "grpc_api.tls"),
    ("uni_grpc_tls", "uni_grpc.tls"),
];

/// What follows the old name of a TLS object, and the key of the new one.
const OF_TLS: [(&str, &str); 11] = [
    ("", "enabled"),
    ("_cert", "cert_pem"),
    ("_cert_pem", "cert_pem"),
    ("_key", "key_pem"),
    ("_key_pem", "key_pem"),
    ("_root_ca", "server_ca_pem"),
    ("_root_ca_pem", "server_ca_pem"),
    ("_client_ca", "client_ca_pem"),
    ("_client_ca_pem", "client_ca_pem"),
    ("_server_name", "server_name"),
    ("_insecure_skip_verify", "insecure_skip_verify"),
];

/// Old switches that kept a port for gRPC from the TLS of the main port.
const TLS_DISABLE: [(&str, &str); 2] =
    [("grpc_api", "grpc_api_tls_disable"), ("uni_grpc", "uni_grpc_tls_disable")];

/// Names that mean nothing any more.
const DROPPED: &[&str] = &[
    "sockjs",
    "sockjs_url",
    "sockjs_handler_prefix",
    "sockjs_heartbeat_delay",
    "gomaxprocs",
    "granular_proxy_mode",
    "shutdown_termination_delay",
    "proxy_grpc_cert_file",
    "use_client_protocol_v1_by_default",
    "disable_client_protocol_v1",
    "skip_user_check_in_subscription_token",
    "redis_tls_skip_verify",
    "redis_write_timeout",
    "redis_idle_timeout",
    "websocket_ping_interval",
    "uni_websocket_ping_interval",
];

/// Old names of channel options, at the top and in namespaces.
const CHANNEL_RENAMED: &[(&str, &str)] = &[
    ("proxy_subscribe", "subscribe_proxy_enabled"),
    ("proxy_publish", "publish_proxy_enabled"),
    ("proxy_sub_refresh", "sub_refresh_proxy_enabled"),
    ("proxy_subscribe_stream", "subscribe_stream_proxy_enabled"),
    ("proxy_subscribe_stream_bidirectional", "subscribe_stream_proxy_bidirectional"),
];

/// Where an old key's value goes.
enum Target {
    Path(String),
    Dropped,
}

/// True for a name of the old layout.
pub(super) fn is_old_key(name: &str) -> bool {
    target(name).is_some()
        || is_switch(name)
        || flat_hooks::is_shared(name)
        || TLS_DISABLE.iter().any(|(_, old)| *old == name)
}

/// True for a name both layouts have, with another type.
fn is_switch(name: &str) -> bool {
    schema::ROOT.iter().any(|key| key.name == name && matches!(key.kind, Kind::Object(_)))
}

fn target(name: &str) -> Option<Target> {
    if DROPPED.contains(&name) || name.starts_with("tarantool_") {
        return Some(Target::Dropped);
    }
    if let Some((_, path)) = RENAMED.iter().find(|(old, _)| *old == name) {
        return Some(Target::Path((*path).into()));
    }
    if let Some(path) = tls_target(name) {
        return Some(Target::Path(path));
    }
    // A name of the new layout's top is never an old one.
    if schema::ROOT.iter().any(|key| key.name == name) {
        return None;
    }
    if let Some((_, option)) = CHANNEL_RENAMED.iter().find(|(old, _)| *old == name) {
        return Some(Target::Path(format!("channel.without_namespace.{option}")));
    }
    if schema::CHANNEL_OPTIONS.iter().any(|key| key.name == name) {
        return Some(Target::Path(format!("channel.without_namespace.{name}")));
    }
    FAMILIES.iter().find_map(|(prefix, path)| {
        let rest = name.strip_prefix(prefix)?;
        knows(path, rest).then(|| Target::Path(format!("{path}.{rest}")))
    })
}

/// The new path of an old name of TLS.
fn tls_target(name: &str) -> Option<String> {
    TLS.iter().find_map(|(old, path)| {
        let rest = name.strip_prefix(old)?;
        OF_TLS.iter().find(|(suffix, _)| *suffix == rest).map(|(_, key)| format!("{path}.{key}"))
    })
}

/// True if the object at a path has that key.
fn knows(path: &str, name: &str) -> bool {
    let mut keys: &'static [Key] = schema::ROOT;
    for part in path.split('.') {
        match keys.iter().find(|key| key.name == part).map(|key| key.kind) {
            Some(Kind::Object(inner)) => keys = inner,
            _ => return false,
        }
    }
    keys.iter().any(|key| key.name == name)
}

/// Moves what is written in the old layout, in the file or the environment, to where it belongs.
pub(super) fn translate(tree: &mut Value, environment: &Environment, findings: &mut Findings) {
    let Value::Object(object) = tree else { return };
    let mut moved: Vec<(String, String, Value)> = Vec::new();
    let names: Vec<String> = object.keys().cloned().collect();
    for name in names {
        let is_object = object.get(&name).is_some_and(|value| value.is_object() || value.is_null());
        if is_switch(&name) && !is_object {
            let inner = if matches!(&*name, "engine" | "broker") { "type" } else { "enabled" };
            let Some(value) = object.remove(&name) else { continue };
            if value.as_str() == Some("") {
                continue;
            }
            // A scalar for an object that cannot be switched stays a mistake.
            match RENAMED.iter().find(|(old, _)| *old == name) {
                Some((_, path)) => moved.push((name, (*path).into(), value)),
                None if knows(&name, inner) => moved.push((name.clone(), format!("{name}.{inner}"), value)),
                None => {
                    object.insert(name, value);
                }
            }
            continue;
        }
        match target(&name) {
            Some(Target::Path(path)) => {
                if let Some(value) = object.remove(&name) {
                    moved.push((name, path, value));
                }
            }
            Some(Target::Dropped) => {
                object.remove(&name);
                findings
                    .warnings
                    .push(Warning::new(format!("\"{name}\" has no meaning any more and is ignored")));
            }
            None => {}
        }
    }
    for (name, path, value) in &moved {
        let (path, given, mut value) = (path.as_str(), value, value.clone());
        findings.warnings.push(Warning::new(format!("\"{name}\" is now written \"{path}\"")));
        if name == "tls_autocert_host_whitelist"
            && let Value::String(hosts) = &value
        {
            value = hosts.split(',').map(|host| Value::from(host.trim())).collect();
        }
        place(tree, path, value, name, findings);
        turn_on(tree, name, given);
    }
    let is_old_file = !moved.is_empty();
    let mut names: Vec<String> = moved.into_iter().map(|(name, ..)| name).collect();
    for (name, path, value) in from_environment(environment) {
        turn_on(tree, &name, &value);
        source::set(tree, &path, value);
        let variable = name.to_uppercase();
        findings.warnings.push(Warning::new(format!("the environment's {variable} is now \"{path}\"")));
        names.push(name);
    }
    flat_hooks::share_environment(tree, environment);
    translate_namespaces(tree);
    let was_moved = |name: &str| names.iter().any(|old| old == name);
    flat_hooks::translate(tree, was_moved, findings);
    share_tls(tree, environment, was_moved);
    enable_consumers(tree, is_old_file);
    translate_pem(tree, schema::ROOT);
}

/// In the old layout an endpoint, or a broker's name, was its own switch.
fn turn_on(tree: &mut Value, name: &str, value: &Value) {
    let switch = match name {
        "proxy_connect_endpoint" => "client.proxy.connect.enabled",
        "proxy_refresh_endpoint" => "client.proxy.refresh.enabled",
        "proxy_rpc_endpoint" => "rpc.without_namespace.proxy_enabled",
        "rpc_proxy_name" => "rpc.without_namespace.proxy_enabled",
        "broker" => "broker.enabled",
        _ => return,
    };
    if value.as_str() == Some("") {
        return;
    }
    if source::get(tree, switch).is_none() {
        source::set(tree, switch, Value::Bool(true));
    }
}

/// In the old layout the ports for gRPC had the TLS of the main port, unless they had their own or it was disabled.
fn share_tls(tree: &mut Value, environment: &Environment, was_moved: impl Fn(&str) -> bool) {
    for (section, disable) in TLS_DISABLE {
        let in_file = tree.as_object_mut().and_then(|object| object.remove(disable));
        let in_environment = environment.get(&disable.to_uppercase()).map(Value::from);
        let is_disabled = in_environment.or(in_file).is_some_and(|value| {
            value == true
                || value
                    .as_str()
                    .is_some_and(|text| matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True"))
        });
        let own = format!("{section}.tls");
        if !was_moved(section) || !was_moved("tls") || is_disabled || source::get(tree, &own).is_some() {
            continue;
        }
        if let Some(tls) = source::get(tree, "http_server.tls").cloned() {
            source::set(tree, &own, tls);
        }
    }
}

/// In the old layout consumers were enabled unless they were `disabled`. It has no other key that tells it apart from
/// the new one, so that a consumer without either is one of the old layout only if the rest is.
fn enable_consumers(tree: &mut Value, is_old: bool) {
    let consumers = tree.get_mut("consumers").and_then(Value::as_array_mut);
    for consumer in consumers.into_iter().flatten().filter_map(Value::as_object_mut) {
        let disabled = consumer.remove("disabled");
        if disabled.is_some() || is_old {
            let is_disabled = disabled.is_some_and(|value| value == true || value == "true");
            consumer.entry("enabled").or_insert(Value::Bool(!is_disabled));
        }
    }
}

/// In the old layout PEM in objects had a name for each form; now one name takes all.
fn translate_pem(tree: &mut Value, keys: &'static [Key]) {
    for key in keys {
        match (key.kind, tree.get_mut(key.name)) {
            (Kind::Object(keys), Some(inner)) => translate_pem(inner, keys),
            (Kind::Objects(keys), Some(Value::Array(items))) => {
                items.iter_mut().for_each(|item| translate_pem(item, keys));
            }
            (Kind::Pem, None) => {
                let old = format!("{}_b64", key.name);
                if let Some(object) = tree.as_object_mut()
                    && let Some(value) = object.remove(&old)
                {
                    object.insert(key.name.into(), value);
                }
            }
            _ => {}
        }
    }
}

/// Puts an old key's value in its new place, unless the new form is there.
fn place(tree: &mut Value, path: &str, value: Value, name: &str, findings: &mut Findings) {
    match source::get(tree, path) {
        Some(_) => {
            let message = format!("\"{name}\" is ignored because \"{path}\" is set as well");
            findings.warnings.push(Warning::new(message));
        }
        None => source::set(tree, path, value),
    }
}

/// Old names among the variables; those that have the form of a new one are not theirs.
fn from_environment(environment: &Environment) -> Vec<(String, String, Value)> {
    let switches = schema::ROOT.iter().filter(|key| matches!(key.kind, Kind::Object(_))).filter_map(|key| {
        let inner = if matches!(key.name, "engine" | "broker") { "type" } else { "enabled" };
        let path = knows(key.name, inner).then(|| format!("{}.{inner}", key.name))?;
        Some((key.name.to_owned(), path))
    });
    let renamed = RENAMED.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned()));
    let tls = TLS.iter().flat_map(|(old, path)| {
        OF_TLS.iter().map(move |(suffix, key)| (format!("{old}{suffix}"), format!("{path}.{key}")))
    });
    let options = schema::CHANNEL_OPTIONS.iter().map(|key| (key.name, key.name));
    let options = options.chain(CHANNEL_RENAMED.iter().copied());
    let options = options.map(|(old, new)| (old.to_owned(), format!("channel.without_namespace.{new}")));
    let members = FAMILIES.iter().flat_map(|(prefix, path)| {
        let keys = keys_at(path).iter().filter(|key| !matches!(key.kind, Kind::Object(_)));
        keys.map(move |key| (format!("{prefix}{}", key.name), format!("{path}.{}", key.name)))
    });
    let all = switches.chain(renamed).chain(tls).chain(options).chain(members);
    all.filter_map(|(old, path)| {
        let name = old.to_uppercase();
        let value = environment.get(&name)?;
        let is_new_name = path.replace('.', "_").to_uppercase() == name;
        // Kubernetes sets variables of such names for a service: they hold addresses.
        let is_foreign = value.starts_with("tcp://") || value.starts_with("udp://");
        let is_old = !is_new_name && !is_foreign && !value.trim_start().starts_with('{');
        is_old.then(|| (old, value_at(&path, value))).map(|(old, value)| (old, path, value))
    })
    .collect()
}

/// A variable's text as the file would have it at that path.
pub(super) fn value_at(path: &str, text: &str) -> Value {
    let (object, name) = path.rsplit_once('.').unwrap_or(("", path));
    let keys = if object.is_empty() { schema::ROOT } else { keys_at(object) };
    let json = |text: &str| serde_json::from_str::<Value>(text).ok();
    match keys.iter().find(|key| key.name == name).map(|key| key.kind) {
        Some(Kind::List) if text.trim_start().starts_with('[') => json(text).unwrap_or_else(|| text.into()),
        Some(Kind::List) => text.split_whitespace().map(Value::from).collect(),
        Some(Kind::Map) => json(text).unwrap_or_else(|| text.into()),
        Some(Kind::Objects(_) | Kind::Object(_)) => {
            json(text).map_or_else(|| Value::from(text), source::lower_cased)
        }
        _ => Value::from(text),
    }
}

fn keys_at(path: &str) -> &'static [Key] {
    path.split('.').fold(schema::ROOT, |keys, part| {
        match keys.iter().find(|key| key.name == part).map(|key| key.kind) {
            Some(Kind::Object(inner)) => inner,
            _ => &[],
        }
    })
}

fn translate_namespaces(tree: &mut Value) {
    let Some(Value::Array(namespaces)) = tree.pointer_mut("/channel/namespaces") else { return };
    for namespace in namespaces.iter_mut().filter_map(Value::as_object_mut) {
        rename_options(namespace);
    }
}

fn rename_options(options: &mut Map<String, Value>) {
    for (old, new) in CHANNEL_RENAMED {
        if let Some(value) = options.remove(*old) {
            options.entry(*new).or_insert(value);
        }
    }
}
