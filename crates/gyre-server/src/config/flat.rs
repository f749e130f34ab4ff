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
    ("tls", "http_server.tls.enabled"),
    ("tls_external", "http_server.tls_external"),
    ("tls_cert", "http_server.tls.cert_pem"),
    ("tls_cert_pem", "http_server.tls.cert_pem"),
    ("tls_key", "http_server.tls.key_pem"),
    ("tls_key_pem", "http_server.tls.key_pem"),
    ("tls_root_ca", "http_server.tls.server_ca_pem"),
    ("tls_root_ca_pem", "http_server.tls.server_ca_pem"),
    ("tls_client_ca", "http_server.tls.client_ca_pem"),
    ("tls_client_ca_pem", "http_server.tls.client_ca_pem"),
    ("tls_server_name", "http_server.tls.server_name"),
    ("tls_insecure_skip_verify", "http_server.tls.insecure_skip_verify"),
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
    target(name).is_some() || is_switch(name)
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

/// True if the object at a path has that key; whatever is kept unread has all.
fn knows(path: &str, name: &str) -> bool {
    let mut keys: &'static [Key] = schema::ROOT;
    for part in path.split('.') {
        match keys.iter().find(|key| key.name == part).map(|key| key.kind) {
            Some(Kind::Object(inner)) => keys = inner,
            Some(Kind::Opaque) => return true,
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
        let (path, mut value) = (path.as_str(), value.clone());
        findings.warnings.push(Warning::new(format!("\"{name}\" is now written \"{path}\"")));
        if name == "tls_autocert_host_whitelist"
            && let Value::String(hosts) = &value
        {
            value = hosts.split(',').map(|host| Value::from(host.trim())).collect();
        }
        place(tree, path, value, name, findings);
        // In the old layout an endpoint, or a broker's name, was its own switch.
        let switch = match &**name {
            "proxy_connect_endpoint" => "client.proxy.connect.enabled",
            "proxy_refresh_endpoint" => "client.proxy.refresh.enabled",
            "proxy_rpc_endpoint" => "rpc.without_namespace.proxy_enabled",
            "rpc_proxy_name" => "rpc.without_namespace.proxy_enabled",
            "broker" => "broker.enabled",
            _ => continue,
        };
        if source::get(tree, switch).is_none() {
            source::set(tree, switch, Value::Bool(true));
        }
    }
    for (name, path, value) in from_environment(environment) {
        source::set(tree, &path, value);
        findings.warnings.push(Warning::new(format!("the environment's {name} is now \"{path}\"")));
    }
    translate_namespaces(tree);
    flat_hooks::translate(tree, moved.iter().map(|(name, ..)| &**name), findings);
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
    let options = schema::CHANNEL_OPTIONS
        .iter()
        .map(|key| (key.name.to_owned(), format!("channel.without_namespace.{}", key.name)));
    let families = [("token_", "client.token"), ("client_", "client"), ("api_", "http_api")];
    let members = families.iter().flat_map(|(prefix, path)| {
        keys_at(path).iter().filter(|key| !matches!(key.kind, Kind::Object(_))).filter_map(move |key| {
            let old = format!("{prefix}{}", key.name);
            // CLIENT_CHANNEL_LIMIT is the same name in both layouts.
            (old.replace('_', ".") != format!("{path}.{}", key.name))
                .then(|| (old, format!("{path}.{}", key.name)))
        })
    });
    switches
        .chain(renamed)
        .chain(options)
        .chain(members)
        .filter_map(|(old, path)| {
            let name = old.to_uppercase();
            let value = environment.get(&name)?;
            let is_new_name = path.replace('.', "_").to_uppercase() == name;
            // Kubernetes sets variables of such names for a service: they hold addresses.
            let is_foreign = value.starts_with("tcp://") || value.starts_with("udp://");
            let is_old = !is_new_name && !is_foreign && !value.trim_start().starts_with('{');
            is_old
                .then(|| (name, value_at(&path, value), path))
                .map(|(name, value, path)| (name, path, value))
        })
        .collect()
}

/// A variable's text as the file would have it at that path.
fn value_at(path: &str, text: &str) -> Value {
    let (object, name) = path.rsplit_once('.').unwrap_or(("", path));
    let keys = if object.is_empty() { schema::ROOT } else { keys_at(object) };
    match keys.iter().find(|key| key.name == name).map(|key| key.kind) {
        Some(Kind::List) => text.split_whitespace().map(Value::from).collect(),
        Some(Kind::Objects(_)) => {
            serde_json::from_str(text).map_or_else(|_| Value::from(text), source::lower_cased)
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
