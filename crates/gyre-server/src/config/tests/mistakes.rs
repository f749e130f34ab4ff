//! What is refused, what is warned of, and how.

use super::*;

/// One configuration with ten mistakes of ten kinds has ten problems, each with the path of its key.
#[test]
fn ten_mistakes_are_ten_problems() {
    let tree = json!({
        "http_server": {"h2c_external": true},
        "webtransport": {"dialects": ["99"]},
        "client": {
            "ping_interval": "5s",
            "allowed_origins": ["["],
            "token": {"rsa_public_key": "none", "ecdsa_public_key": "none"},
            "channel_limit": "many",
        },
        "controller": {"enabled": true},
        "http_api": {"error_mode": "custom"},
        "channel": {"without_namespace": {"publish_proxy_name": "nosuch"}},
    });
    let mut found = paths(load_tree(tree));
    found.sort();
    let expected = [
        "channel.without_namespace.publish_proxy_name",
        "client.allowed_origins",
        "client.channel_limit",
        "client.ping_interval",
        "client.token.ecdsa_public_key",
        "client.token.rsa_public_key",
        "controller.type",
        "http_api.error_mode",
        "http_server.h2c_external",
        "webtransport.dialects",
    ];
    assert_eq!(found, expected);
}

/// Names of proxies must exist even where their hook is off, wherever a proxy can be named.
///
/// Spec: centrifugo `internal/config/validate.go`
#[test]
fn named_proxies_must_exist() {
    let options = json!({
        "subscribe_proxy_name": "a", "publish_proxy_name": "b", "sub_refresh_proxy_name": "c",
        "subscribe_stream_proxy_name": "d", "map": {"publish_proxy_name": "e", "remove_proxy_name": "f"},
        "shared_poll": {"proxy_name": "g"},
    });
    let tree = json!({
        "channel": {"without_namespace": options},
        "rpc": {"without_namespace": {"proxy_name": "h"}, "namespaces": [{"name": "math", "proxy_name": "i"}]},
    });
    let found = paths(load_tree(tree));
    assert_eq!(found.len(), 9, "{found:?}");
    assert!(found.iter().all(|path| path.ends_with("proxy_name")), "{found:?}");
    let named = json!({"proxies": [{"name": "ab", "endpoint": "http://a"}], "rpc": {"without_namespace": {"proxy_name": "ab"}}});
    assert!(load_tree(named).is_ok());
}

/// Zero where it would let nothing through is the default, numbers below zero are zero; both are said, as is TLS without
/// a certificate. What cannot be meant at all is refused.
#[test]
fn senseless_numbers_are_told() {
    let tree = json!({
        "client": {"queue_max_size": 0, "channel_limit": -1, "connection_limit": -5, "stale_close_delay": "0s"},
        "channel": {"history_meta_ttl": "0s", "without_namespace": {"history_size": 1, "history_ttl": "1s"}},
        "uni_grpc": {"enabled": true, "port": 0},
    });
    let loaded = load_tree(tree).unwrap();
    let limits = &loaded.resolved.rules.limits;
    assert_eq!((limits.queue_bytes_max, limits.channel_limit, limits.connection_limit), (1 << 20, 128, 0));
    assert_eq!(limits.stale_close_delay.as_secs(), 10);
    assert_eq!(loaded.resolved.uni_grpc.unwrap().address, Address::Host(String::new(), 11000));
    let warned: Vec<_> =
        loaded.warnings.iter().filter_map(|warning| warning.message.split(':').next()).collect();
    let expected = [
        "client.stale_close_delay",
        "client.channel_limit",
        "client.queue_max_size",
        "client.connection_limit",
        "channel.history_meta_ttl",
        "uni_grpc.port",
    ];
    assert_eq!(warned, expected);

    let map = json!({"mode": "ephemeral", "key_ttl": "1m", "max_page_size": -1});
    let namespace = json!({"name": "maps", "subscription_type": "map", "map": map});
    let found = paths(load_tree(json!({"channel": {"namespaces": [namespace]}})));
    assert_eq!(found, ["channel.namespaces[0].map.max_page_size"]);
    let empty = json!({
        "webtransport": {"enabled": true, "dialects": []},
        "http_server": {"http3": {"enabled": true}, "tls": {"enabled": true}},
    });
    assert_eq!(paths(load_tree(empty)), ["webtransport.dialects"]);
    let bare = load_tree(json!({"http_server": {"tls": {"enabled": true}}})).unwrap();
    assert!(bare.resolved.server.tls.is_some_and(|tls| tls.certificate.is_none()));
    assert!(bare.warnings.iter().any(|warning| warning.message.contains("http_server.tls")));
}

/// What is accepted and does nothing yet is said, each key once.
#[test]
fn values_without_effect_are_told() {
    let tree = json!({"shutdown": {"drain_window": "1s"}, "client": {"write_delay": "1ms"}});
    let warnings = load_tree(tree).unwrap().warnings;
    let keys: Vec<_> = warnings.iter().filter_map(|warning| warning.message.split(' ').next()).collect();
    assert_eq!(keys, ["shutdown.drain_window", "client.write_delay"]);
}
