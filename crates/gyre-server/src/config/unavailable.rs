//! Keys whose feature this version does not have yet: said at the start, and refused where a server without the feature
//! would let in what it is there to keep out.

use super::{Section, Warning, read::Findings};

/// Switches of what is not there: the object that has each, and the key.
const SWITCHES: [(&str, &str); 9] = [
    ("grpc_api", "enabled"),
    ("admin", "enabled"),
    ("swagger", "enabled"),
    ("debug", "enabled"),
    ("opentelemetry", "enabled"),
    ("graphite", "enabled"),
    ("controller", "enabled"),
    ("client.proxy.connect", "enabled"),
    ("client.proxy.refresh", "enabled"),
];

/// Hooks that decide what a client may do in a channel.
const CHANNEL_HOOKS: [&str; 4] = [
    "subscribe_proxy_enabled",
    "publish_proxy_enabled",
    "sub_refresh_proxy_enabled",
    "subscribe_stream_proxy_enabled",
];

pub(super) fn check(raw: &Section, findings: &mut Findings) {
    let mut warn = |path: &str| {
        let message = format!("{path} is accepted, but this version does nothing with it");
        findings.warnings.push(Warning::new(message));
    };
    for (object, key) in SWITCHES.iter().filter(|(object, key)| raw.at(object).bool(key)) {
        warn(&format!("{object}.{key}"));
    }
    for section in ["client.token", "client.subscription_token"] {
        if !raw.at(section).text("jwks_public_endpoint").is_empty() {
            warn(&format!("{section}.jwks_public_endpoint"));
        }
    }
    for (i, _) in raw.objects("consumers").iter().enumerate().filter(|(_, c)| c.bool("enabled")) {
        warn(&format!("consumers[{i}]"));
    }
    let client = raw.object("client");
    if raw.at("client.proxy.connect").bool("enabled")
        && (client.bool("allow_anonymous_connect_without_token") || client.bool("insecure"))
    {
        let fix = "disable it, or do not allow anonymous connections: without the hook, everybody gets in";
        findings.problem("client.proxy.connect.enabled", "is not available in this version", fix);
    }
    let channel = raw.object("channel");
    refuse_hooks(channel.object("without_namespace"), "channel.without_namespace", findings);
    check_targets(raw, channel.object("without_namespace"), "channel.without_namespace", findings);
    for namespace in channel.objects("namespaces") {
        let path = format!("channel.namespaces[{}]", namespace.text("name"));
        refuse_hooks(namespace, &path, findings);
        check_targets(raw, namespace, &path, findings);
    }
}

/// Hooks of maps and shared polls are called over HTTP only, and some of what a proxy may say is not done for them.
fn check_targets(raw: &Section, options: &Section, path: &str, findings: &mut Findings) {
    let (map, poll) = (options.object("map"), options.object("shared_poll"));
    let kind = options.text("subscription_type");
    let is_map = matches!(kind, "map" | "map_clients" | "map_users");
    let used = [
        (is_map && map.bool("publish_proxy_enabled"), "map_publish", map.text("publish_proxy_name")),
        (is_map && map.bool("remove_proxy_enabled"), "map_remove", map.text("remove_proxy_name")),
        (kind == "shared_poll", "shared_poll_refresh", poll.text("proxy_name")),
    ];
    for (_, hook, name) in used.iter().filter(|(is_used, ..)| *is_used) {
        let proxy = match *name {
            "" | "default" => Some(raw.at(&format!("channel.proxy.{hook}"))),
            name => raw.objects("proxies").iter().find(|proxy| proxy.text("name") == name),
        };
        let Some(proxy) = proxy.filter(|proxy| !proxy.text("endpoint").is_empty()) else { continue };
        let scheme = proxy.text("endpoint").split_once("://").map_or("", |(scheme, _)| scheme);
        if !matches!(scheme, "http" | "https") {
            let fix = "write http://… or https://…";
            findings.problem(path, format!("the endpoint of {hook} is not called over HTTP"), fix);
        }
        let ignored =
            ["http_headers", "emulated_headers"].into_iter().filter(|key| !proxy.list(key).is_empty());
        let ignored =
            ignored.chain(proxy.bool("include_connection_meta").then_some("include_connection_meta"));
        let ignored = ignored.chain(proxy.at("http.tls").bool("enabled").then_some("http.tls"));
        for key in ignored {
            let message = format!("{path}: {key} of the proxy does nothing for {hook} in this version");
            findings.warnings.push(Warning::new(message));
        }
    }
}

fn refuse_hooks(options: &Section, path: &str, findings: &mut Findings) {
    for hook in CHANNEL_HOOKS.iter().filter(|hook| options.bool(hook)) {
        let fix = "disable it: without the hook, the other options of the namespace would decide alone";
        findings.problem(&format!("{path}.{hook}"), "is not available in this version", fix);
    }
}
