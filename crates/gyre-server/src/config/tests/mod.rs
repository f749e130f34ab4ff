mod layers;
mod mistakes;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use gyre_protocol::ClientError;
use serde_json::json;

use super::*;
use crate::hooks::Protocol;

/// Loads a tree as if it were the file.
fn load_tree(tree: Value) -> Result<Loaded, Vec<Problem>> {
    load_with(tree, &[])
}

fn load_with(tree: Value, environment: &[(&str, &str)]) -> Result<Loaded, Vec<Problem>> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(&Sources { environment: Environment::new(environment), defaults_below: tree, ..Sources::default() })
}

/// Loads text as a file of that extension.
fn load_text(extension: &str, text: &str) -> Result<Loaded, Vec<Problem>> {
    static FOLDERS: AtomicU32 = AtomicU32::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("gyre-config-test-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("config.{extension}"));
    std::fs::write(&file, text).unwrap();
    let loaded = load(&Sources { file: Some(file), ..Sources::default() });
    std::fs::remove_dir_all(folder).unwrap();
    loaded
}

fn paths(result: Result<Loaded, Vec<Problem>>) -> Vec<String> {
    result.err().into_iter().flatten().map(|problem| problem.path).collect()
}

/// The defaults are those of the documentation, and every key resolves.
#[test]
fn defaults_are_the_documented_ones() {
    let resolved = load_tree(json!({})).unwrap().resolved;
    assert_eq!(resolved.rules.limits, gyre_core::limits::Limits::default());
    assert_eq!((resolved.server.port, resolved.server.http3), (8000, false));
    assert_eq!(resolved.api.prefix.as_deref(), Some("/api"));
    assert!(resolved.websocket.is_some() && !resolved.webtransport.is_enabled() && resolved.health.is_none());
    let namespaces = &resolved.rules.namespaces;
    assert_eq!((&*namespaces.private_prefix, &*namespaces.user_boundary), ("$", "#"));
}

/// One configuration in three formats is one configuration; broken text is told with its place.
#[test]
fn formats_are_told_by_extension() {
    let json = r#"{"client": {"ping_interval": "1m30s"}, "channel": {"namespaces": [{"name": "chat"}]}}"#;
    let yaml = "client: {ping_interval: 1m30s}\nchannel:\n  namespaces: [{name: chat}]\n";
    let toml = "[client]\nping_interval = \"1m30s\"\n[[channel.namespaces]]\nname = \"chat\"\n";
    for (extension, text) in [("json", json), ("yaml", yaml), ("yml", yaml), ("toml", toml)] {
        let rules = load_text(extension, text).unwrap().resolved.rules;
        assert_eq!(rules.limits.ping_interval.as_secs(), 90, "{extension}");
        assert!(rules.namespaces.named.contains_key("chat"), "{extension}");
    }
    for (extension, text) in [("json", "{"), ("yaml", "a: [b"), ("toml", "a ="), ("conf", "{}")] {
        assert_eq!(paths(load_text(extension, text)), [""], "{extension}");
    }
    let missing = Sources { file: Some(PathBuf::from("/nonexistent/config.json")), ..Sources::default() };
    assert!(load(&missing).is_err());
    let loaded = load(&Sources { may_be_missing: true, ..missing }).unwrap();
    assert!(loaded.warnings[0].message.contains("not found"));
}

/// Types are taken weakly, keys in any case; what cannot be meant is a problem with its path.
#[test]
fn values_are_taken_weakly() {
    let loaded = load_tree(json!({
        "http_server": {"port": "9000"},
        "client": {"insecure": "true", "allowed_origins": "http://a.example", "channel_limit": "0x10", "queue_max_size": 2e6},
    }));
    let resolved = loaded.unwrap().resolved;
    assert_eq!((resolved.server.port, resolved.rules.limits.channel_limit), (9000, 16));
    assert!(resolved.rules.connect.insecure && resolved.rules.limits.queue_bytes_max == 2_000_000);
    let upper = load_text("json", r#"{"CLIENT": {"Channel_Limit": 10}}"#).unwrap();
    assert_eq!(upper.resolved.rules.limits.channel_limit, 10);
    let wrong =
        json!({"client": {"channel_limit": "many", "ping_interval": "25", "insecure": []}, "log": "x"});
    let mut found = paths(load_tree(wrong));
    found.sort();
    assert_eq!(found[..3], ["client.channel_limit", "client.insecure", "client.ping_interval"]);
}

/// Ten mistakes are ten problems, each with its key.
#[test]
fn all_problems_are_reported_at_once() {
    let found = paths(load_tree(json!({
        "webtransport": {"enabled": true, "session_limit": 0},
        "client": {"ping_interval": "5s", "token": {"audience": "a", "audience_regex": "a", "user_id_claim": "a-b"}},
        "http_api": {"error_mode": "custom"},
        "broker": {"type": "x"},
        "channel": {"without_namespace": {"history_size": 1, "channel_regex": "("}, "namespaces": [{"name": "a"}]},
    })));
    assert_eq!(found.len(), 10, "{found:?}");
    assert!(
        found.contains(&"channel.namespaces[a].name".to_owned())
            || found.contains(&"channel.namespaces[0].name".to_owned())
    );
}

/// A name that begins with a slash belongs to the pattern it matches, one without variables first, or to none; the whole
/// of it is matched by `channel_regex`. Patterns that match the same names are refused.
#[test]
fn channels_have_patterns() {
    let namespaces = |second: &str| {
        json!([
            {"name": "user", "pattern": "/users/:name", "history_size": 1, "history_ttl": "1s"},
            {"name": "other", "pattern": second, "channel_regex": "^/users/all$"},
        ])
    };
    let channel = |second| json!({"channel": {"patterns": true, "namespaces": namespaces(second)}});
    let rules = load_tree(channel("/users/all")).unwrap().resolved.rules;
    assert!(rules.client_channel("/users/mary").unwrap().history.is_some());
    assert!(rules.client_channel("/users/all").unwrap().history.is_none());
    assert_eq!(rules.client_channel("/users").unwrap_err(), ClientError::UNKNOWN_CHANNEL);
    assert_eq!(rules.client_channel("user:mary").unwrap_err(), ClientError::UNKNOWN_CHANNEL);
    assert!(rules.client_channel("news").is_ok());

    let rivals = load_tree(channel("/users/:other"));
    assert_eq!(paths(rivals), ["channel.namespaces[other].pattern"]);
    assert_eq!(paths(load_tree(channel("/users/:"))), ["channel.namespaces[other].pattern"]);
    let off = load_tree(json!({"channel": {"namespaces": namespaces("/b")}})).unwrap();
    assert!(off.warnings.iter().any(|warning| warning.message.contains("namespaces[user].pattern")));
    assert!(off.resolved.rules.client_channel("/users/mary").unwrap().history.is_none());
}

/// The page of the older documentation, as printed: HTTP/3, TLS and WebTransport.
#[test]
fn the_flat_layout_is_accepted() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let tree = json!({
        "http3": true,
        "tls": true,
        "tls_cert": made.cert.pem(),
        "tls_key": made.signing_key.serialize_pem(),
        "webtransport": true,
        "namespaces": [{"name": "chat", "presence": true}],
        "presence": true,
        "client_channel_limit": 3,
        "token_hmac_secret_key": "s",
        "api_key": "k",
        "websocket_disable": true,
        "sockjs": true,
        "engine": "memory",
        "allowed_origins": ["*"],
    });
    let loaded = load_text("json", &tree.to_string()).unwrap();
    let resolved = &loaded.resolved;
    assert!(resolved.server.http3 && resolved.server.tls.is_some() && resolved.webtransport.is_enabled());
    assert!(resolved.websocket.is_none() && resolved.api.key.is_some());
    assert_eq!(resolved.rules.limits.channel_limit, 3);
    assert_eq!(resolved.connection_token.hmac_secret_key.expose(), "s");
    assert!(
        resolved.rules.namespaces.without_namespace.presence
            && resolved.rules.namespaces.named["chat"].presence
    );
    assert!(loaded.warnings.iter().all(|warning| !warning.is_unknown_key), "{:?}", loaded.warnings);
    let both = json!({"api_key": "old", "http_api": {"key": "new"}});
    let resolved = load_text("json", &both.to_string()).unwrap().resolved;
    assert_eq!(resolved.api.key.unwrap().expose(), "new", "the new form wins");
}

/// Variables win over the file, `GYRE_` over `CENTRIFUGO_`; empty ones and other people's do nothing.
#[test]
fn the_environment_is_laid_over() {
    let file = json!({"channel": {"namespaces": [{"name": "my-ns"}]}, "client": {"channel_limit": 1}});
    let loaded = load_with(
        file,
        &[
            ("CENTRIFUGO_CLIENT_CHANNEL_LIMIT", "2"),
            ("GYRE_CLIENT_CHANNEL_LIMIT", "3"),
            ("CENTRIFUGO_CLIENT_ALLOWED_ORIGINS", "https://a https://b"),
            ("CENTRIFUGO_CHANNEL_NAMESPACES", "chat"),
            ("CENTRIFUGO_CHANNEL_NAMESPACES_CHAT_PRESENCE", "true"),
            ("CENTRIFUGO_HTTP_API_KEY", ""),
            ("CENTRIFUGO_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
            ("CENTRIFUGO_VAR_X", "1"),
            ("GYRE_SERVICE_HOST", "10.0.0.1"),
            ("CENTRIFUGO_FOO", "1"),
        ],
    );
    let loaded = loaded.unwrap();
    assert_eq!(loaded.resolved.rules.limits.channel_limit, 3);
    assert_eq!(loaded.raw.object("client").list("allowed_origins"), ["https://a", "https://b"]);
    assert!(loaded.resolved.rules.namespaces.named["chat"].presence);
    let unknown: Vec<_> = loaded.warnings.iter().map(|warning| &*warning.message).collect();
    assert_eq!(unknown, ["unknown environment variable CENTRIFUGO_FOO is ignored"]);
    let file = load_text("json", r#"{"channel": {"namespaces": [{"name": "my-ns"}]}}"#);
    assert!(file.is_ok());
    assert!(load_with(json!({}), &[("CENTRIFUGO_PROMETHEUS_ENABLED", "yes")]).is_err());
    let flat = load_with(
        json!({}),
        &[
            ("CENTRIFUGO_API_KEY", "k"),
            ("CENTRIFUGO_HEALTH", "true"),
            ("CENTRIFUGO_PORT", "tcp://10.0.0.1:80"),
            ("CENTRIFUGO_ALLOWED_ORIGINS", "https://a https://b"),
            ("CENTRIFUGO_NAMESPACES", r#"[{"NAME": "chat"}]"#),
        ],
    )
    .unwrap();
    assert_eq!(flat.raw.object("client").list("allowed_origins").len(), 2);
    assert!(flat.resolved.rules.namespaces.named.contains_key("chat") && flat.resolved.server.port == 8000);
    assert!(flat.resolved.api.key.is_some() && flat.resolved.health.is_some());
}

/// Maps are read by key, and by score where `map.ordered` says so.
#[test]
fn maps_are_ordered_on_request() {
    use gyre_core::channel::MapOrder;
    let map = |extra: Value| {
        let mut map = json!({"mode": "ephemeral", "key_ttl": "1m"});
        map.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let namespace = json!({"name": "ns", "subscription_type": "map", "map": map});
        let loaded = load_tree(json!({"channel": {"namespaces": [namespace]}})).unwrap();
        assert!(loaded.warnings.is_empty());
        loaded.resolved.rules.namespaces.named["ns"].map.as_ref().unwrap().storage.order
    };
    assert_eq!(map(json!({})), MapOrder::Key);
    assert_eq!(map(json!({"ordered": false})), MapOrder::Key);
    assert_eq!(map(json!({"ordered": true})), MapOrder::Score);
}

/// A misspelt key is named with its path and the nearest one that exists.
#[test]
fn misspelt_keys_are_hinted_at() {
    let warnings =
        load_text("json", r#"{"client": {"chanel_limit": 1}, "nosuch": {"key": 1}}"#).unwrap().warnings;
    let messages: Vec<_> = warnings.iter().map(|warning| &*warning.message).collect();
    let hinted =
        |message: &str| message.contains("client.chanel_limit") && message.contains("\"channel_limit\"?");
    assert!(messages.iter().any(|message| hinted(message)), "{messages:?}");
    assert!(messages.iter().any(|message| message.contains("\"nosuch\" is ignored")), "{messages:?}");
}

/// What is not there is said.
#[test]
fn what_is_not_available_is_told() {
    let loaded = load_tree(json!({
        "controller": {"enabled": true, "type": "postgres"},
    }));
    let warnings: Vec<_> = loaded.unwrap().warnings.into_iter().map(|warning| warning.message).collect();
    let keys: Vec<_> = warnings.iter().filter_map(|message| message.split(' ').next()).collect();
    assert_eq!(keys, ["controller.enabled"]);
}

/// A hook that is asked must be there and be usable: each problem has the path of its key.
#[test]
fn hooks_must_be_usable() {
    let loaded = load_tree(json!({
        "client": {"proxy": {"connect": {"enabled": true, "endpoint": "http://a", "timeout": "0s"}}},
        "rpc": {"without_namespace": {"proxy_enabled": true}, "namespaces": [
            {"name": "math", "proxy_enabled": true, "proxy_name": "other"},
            {"name": "bad", "proxy_enabled": true, "proxy_name": "broken"},
        ]},
        "channel": {"proxy": {"publish": {"timeout": "0s"}}, "without_namespace": {"subscribe_proxy_enabled": true}},
        "proxies": [{
            "name": "broken", "endpoint": "http://", "http": {"static_headers": {"a b": "c"}},
        }, {
            "name": "headers", "endpoint": "http://a", "http_headers": ["a b"],
        }],
    }));
    assert_eq!(
        paths(loaded),
        [
            "client.proxy.connect.timeout",
            "channel.proxy.subscribe.endpoint",
            "rpc.proxy.endpoint",
            "rpc.namespaces[0].proxy_name",
            "proxies[0].endpoint",
        ]
    );
    let headers =
        |proxy: serde_json::Value| paths(load_tree(json!({"client": {"proxy": {"connect": proxy}}})));
    let broken = json!({
        "enabled": true, "endpoint": "http://a", "http_headers": ["a b"], "emulated_headers": ["ä"],
        "http": {"static_headers": {"a b": "c"}, "tls": {"enabled": true, "server_ca_pem": "nowhere", "key_pem": "-----BEGIN"}},
    });
    let at = |key: &str| format!("client.proxy.connect.{key}");
    assert_eq!(
        headers(broken),
        ["http.static_headers", "http.tls.server_ca_pem", "http.tls", "http_headers", "emulated_headers"]
            .map(at)
    );
}

/// Endpoints that are no URL of HTTP are host and port of gRPC, with or without a scheme; TLS is an option of its own.
#[test]
fn hooks_over_grpc_are_resolved() {
    let load = |proxy: serde_json::Value| load_tree(json!({"client": {"proxy": {"connect": proxy}}}));
    for endpoint in ["grpc://h:1", "h:1", "grpc://[::1]:1", "127.0.0.1:1", "dns:///h:1", "passthrough:///h:1"]
    {
        let grpc = json!({
            "credentials_key": "authorization", "credentials_value": "c", "compression": true,
            "static_metadata": {"x-s": "s"},
        });
        let proxy = json!({"enabled": true, "endpoint": endpoint, "grpc_metadata": ["X-M"], "grpc": grpc});
        let target = &load(proxy).unwrap().resolved.hooks["default/connect"];
        assert_eq!((target.endpoint.scheme_str(), target.endpoint.port_u16()), (Some("http"), Some(1)));
        assert_eq!(
            (target.grpc_metadata[0].as_str(), target.static_headers["x-s"].as_bytes()),
            ("x-m", &b"s"[..])
        );
        let Protocol::Grpc { credentials, compresses } = &target.protocol else { panic!("{endpoint}") };
        let (name, value) = credentials.as_ref().unwrap();
        assert_eq!((name.as_str(), value.is_sensitive(), *compresses), ("authorization", true, true));
    }
    let tls = json!({"enabled": true, "endpoint": "h:1", "grpc": {"tls": {"enabled": true}}});
    assert_eq!(load(tls).unwrap().resolved.hooks["default/connect"].endpoint.scheme_str(), Some("https"));
    for endpoint in ["unix:///a/b", "unix:/a/b"] {
        let loaded = load(json!({"enabled": true, "endpoint": endpoint})).unwrap();
        let socket = loaded.resolved.hooks["default/connect"].socket.clone();
        assert_eq!(socket.as_deref(), Some(std::path::Path::new("/a/b")), "{endpoint}");
    }
    for endpoint in ["grpc://h", "h", "grpc://h:1/path", "unix:", "dns://server/h:1", "grpc://", "ftp://h:1"]
    {
        let proxy = json!({"enabled": true, "endpoint": endpoint});
        assert_eq!(paths(load(proxy)), ["client.proxy.connect.endpoint"], "{endpoint}");
    }
    let broken = json!({
        "enabled": true, "endpoint": "h:1", "grpc_metadata": ["a b"],
        "grpc": {"credentials_key": "a b", "static_metadata": {"c d": "e"}, "tls": {"enabled": true, "cert_pem": "nowhere"}},
    });
    let at = |key: &str| format!("client.proxy.connect.{key}");
    let expected =
        ["grpc.tls.cert_pem", "grpc.tls", "grpc.credentials_key", "grpc.static_metadata", "grpc_metadata"];
    assert_eq!(paths(load(broken)), expected.map(at));
}

/// Hooks of the flat layout: each is asked where it was, and sees what it saw. Named ones were their own switches.
///
/// Spec: centrifugal.dev, "Migrating to v6", proxies
#[test]
fn hooks_of_the_flat_layout_are_asked() {
    let load = |flat: serde_json::Value| load_text("json", &flat.to_string());
    let flat = load(json!({
        "proxy_connect_endpoint": "http://connect", "proxy_http_headers": ["X-A"], "proxy_binary_encoding": true,
        "proxy_static_http_headers": {"x-s": "1"}, "proxy_include_connection_meta": true,
        "refresh_proxy_name": "named", "rpc_proxy_name": "named", "subscribe_proxy_name": "named",
        "proxies": [{"name": "named", "endpoint": "http://named", "static_http_headers": {"x-n": "2"}}],
        "namespaces": [{"name": "chat", "publish_proxy_name": "named"}, {"name": "free"}],
        "rpc_namespaces": [{"name": "math", "rpc_proxy_name": "named"}, {"name": "none"}],
    }));
    let resolved = flat.unwrap().resolved;
    let rules = &resolved.rules;
    assert_eq!(rules.hooks.connect.as_deref(), Some("default/connect"));
    assert_eq!(&*rules.hooks.emulated_headers, ["x-a".into()]);
    let (connect, refresh) = (&resolved.hooks["default/connect"], &resolved.hooks["default/refresh"]);
    assert!(connect.is_binary && connect.includes_meta && connect.http_headers == ["x-a"]);
    assert!(connect.static_headers.contains_key("x-s"));
    assert_eq!(refresh.endpoint, "http://named/");
    assert!(refresh.static_headers.contains_key("x-n") && !refresh.is_binary);
    assert_eq!(rules.namespaces.without_namespace.subscribe_hook.as_deref(), Some("named"));
    assert_eq!(rules.namespaces.named["chat"].publish_hook.as_deref(), Some("named"));
    assert_eq!(rules.namespaces.named["free"].publish_hook, None);
    assert_eq!((rules.rpc.hook("math:x"), rules.rpc.hook("x")), (Ok("named"), Ok("named")));
    assert!(rules.rpc.hook("none:x").is_err());
    assert_eq!(paths(load(json!({"connect_proxy_name": "nosuch"}))), ["connect_proxy_name"]);
    let nested = json!({
        "channel": {"without_namespace": {"subscribe_proxy_name": "named"}},
        "proxies": [{"name": "named", "endpoint": "http://named"}],
    });
    let rules = load(nested).unwrap().resolved.rules;
    assert_eq!(rules.namespaces.without_namespace.subscribe_hook, None, "a name enables nothing there");
}

/// What hooks may see and where each is asked, resolved from a whole configuration.
#[test]
fn hooks_are_resolved() {
    let loaded = load_tree(json!({
        "client": {"proxy": {"connect": {"enabled": true, "endpoint": "http://a", "emulated_headers": ["X-A"]}}},
        "rpc": {"proxy": {"endpoint": "http://user:p%40ss@rpc"}, "namespaces": [{"name": "math", "proxy_enabled": true}]},
        "channel": {"namespaces": [
            {"name": "chat", "publish_proxy_enabled": true, "publish_proxy_name": "named"},
        ]},
        "proxies": [
            {"name": "named", "endpoint": "https://b", "emulated_headers": ["x-b"]},
            {"name": "unused", "endpoint": "http://c", "emulated_headers": ["x-c"]},
        ],
    }));
    let resolved = loaded.unwrap().resolved;
    let rules = &resolved.rules;
    assert_eq!(rules.hooks.connect.as_deref(), Some("default/connect"));
    assert_eq!(rules.hooks.refresh, None);
    assert_eq!(&*rules.hooks.emulated_headers, ["x-a".into(), "x-b".into()]);
    assert_eq!(rules.namespaces.named["chat"].publish_hook.as_deref(), Some("named"));
    assert_eq!(rules.rpc.hook("math:sum"), Ok("default/rpc"));
    assert_eq!(rules.rpc.hook("sum").err().map(|error| error.code), Some(108));
    let mut names: Vec<_> = resolved.hooks.keys().map(|name| &**name).collect();
    names.sort_unstable();
    assert_eq!(names, ["default/connect", "default/rpc", "named"]);
    let credentials = &resolved.hooks["default/rpc"].static_headers["authorization"];
    assert_eq!((credentials.as_bytes(), credentials.is_sensitive()), (&b"Basic dXNlcjpwQHNz"[..], true));
}

/// Each listener for gRPC has a port of its own.
#[test]
fn grpc_listeners_have_their_own_ports() {
    for name in ["uni_grpc", "grpc_api"] {
        let paths_of = |grpc: i64, internal: &str| {
            let server = json!({"port": 8000, "internal_port": internal});
            paths(load_tree(json!({"http_server": server, (name): {"enabled": true, "port": grpc}})))
        };
        assert_eq!(paths_of(11000, "9000"), Vec::<String>::new());
        for (grpc, internal) in [(8000, ""), (9000, "9000"), (-1, ""), (65536, "")] {
            assert_eq!(paths_of(grpc, internal), [format!("{name}.port")], "{grpc} {internal}");
        }
    }
    let both = json!({"enabled": true, "port": 11000});
    assert_eq!(paths(load_tree(json!({"uni_grpc": both, "grpc_api": both}))), ["grpc_api.port"]);
}

/// Addresses are hosts with ports, or sockets, wherever they are configured; a socket's permissions are octal.
#[test]
fn addresses_are_hosts_or_sockets() {
    let resolved = |tree| load_tree(tree).unwrap().resolved;
    let host = |host: &str, port| Address::Host(host.into(), port);
    let socket = |path: &str| Address::Unix(path.into());
    let default = resolved(json!({})).server;
    assert_eq!((default.addresses, default.internal_addresses), (vec![host("", 8000)], vec![]));
    assert_eq!(default.unix_socket_mode, 0o660);
    let loaded = resolved(json!({
        "http_server": {
            "address": "unix:/a", "addresses": ["unix:///b", ":1"], "internal_address": "unix:c",
            "internal_addresses": ["h:2"], "unix_socket_mode": "0600",
        },
        "uni_grpc": {"enabled": true, "address": "unix:/d", "port": 8000, "proxy_protocol": {"enabled": true}},
    }));
    assert_eq!(loaded.server.addresses, [socket("/a"), socket("/b"), host("", 1)]);
    assert_eq!(loaded.server.internal_addresses, [socket("c"), host("h", 2)]);
    assert_eq!(loaded.server.unix_socket_mode, 0o600);
    let grpc = loaded.uni_grpc.unwrap();
    assert_eq!((grpc.address, grpc.proxy_protocol.is_some()), (socket("/d"), true));

    let internal = resolved(json!({"http_server": {"address": "h", "internal_port": "2"}})).server;
    assert_eq!(internal.internal_addresses, [host("h", 2)]);
    let mistakes = json!({"http_server": {
        "address": "unix:", "addresses": [format!("unix:/{}", "x".repeat(200))], "unix_socket_mode": "0999",
    }});
    let mut found = paths(load_tree(mistakes));
    found.sort();
    assert_eq!(found, ["http_server.address", "http_server.addresses", "http_server.unix_socket_mode"]);
    let open = json!({"http_server": {"address": "unix:/a", "internal_port": "9000"}});
    assert_eq!(paths(load_tree(open)), ["http_server.internal_address"]);
}

/// What is configured of the API over gRPC, and what it is without.
#[test]
fn the_grpc_api_is_resolved() {
    let options = |section: Value| {
        let loaded = load_tree(json!({"grpc_api": section})).unwrap();
        let grpc = loaded.resolved.grpc_api?;
        let key = grpc.settings.key.map(|key| key.expose().clone());
        let Address::Host(_, port) = grpc.address else { return None };
        Some((port, key, grpc.settings.transport_errors, grpc.settings.message_bytes_max))
    };
    assert_eq!(options(json!({"key": "k"})), None);
    assert_eq!(options(json!({"enabled": true})), Some((10000, None, false, 4 << 20)));
    let all = json!({"enabled": true, "port": 1, "key": "k", "error_mode": "transport", "max_receive_message_size": 9});
    assert_eq!(options(all), Some((1, Some("k".into()), true, 9)));
}

/// Origins match by pattern in lower case; without patterns no page gets in, but what is no page does.
#[test]
fn origins_are_matched_by_pattern() {
    let policy = resolve_origins(&["https://*.example.com".into(), "http://[[]::1]:8000".into()]);
    let allows = |origin: &'static str| {
        let mut headers = http::HeaderMap::new();
        headers.insert("origin", http::HeaderValue::from_static(origin));
        policy.allows(&headers)
    };
    assert!(
        allows("https://a.example.com") && allows("HTTPS://A.Example.com") && allows("http://[::1]:8000")
    );
    assert!(!allows("https://example.org") && !allows("http://a.example.com"));
    assert!(policy.allows(&http::HeaderMap::new()));
    assert!(!resolve_origins(&[]).allows(&http::HeaderMap::from_iter([(
        http::header::ORIGIN,
        http::HeaderValue::from_static("https://a")
    )])));
}
