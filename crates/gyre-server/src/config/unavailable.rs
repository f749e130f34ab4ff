//! Keys whose feature this version does not have yet: said at the start, and refused where a server without the feature
//! would let in what it is there to keep out.

use super::{Section, Warning, read::Findings};

/// Switches of what is not there: the object that has each, and the key.
const SWITCHES: [(&str, &str); 15] = [
    ("sse", "enabled"),
    ("http_stream", "enabled"),
    ("uni_websocket", "enabled"),
    ("uni_sse", "enabled"),
    ("uni_http_stream", "enabled"),
    ("uni_grpc", "enabled"),
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
    let channel = raw.object("channel");
    refuse_hooks(channel.object("without_namespace"), "channel.without_namespace", findings);
    for namespace in channel.objects("namespaces") {
        refuse_hooks(namespace, &format!("channel.namespaces[{}]", namespace.text("name")), findings);
    }
}

fn refuse_hooks(options: &Section, path: &str, findings: &mut Findings) {
    for hook in CHANNEL_HOOKS.iter().filter(|hook| options.bool(hook)) {
        let fix = "disable it: without the hook, the other options of the namespace would decide alone";
        findings.problem(&format!("{path}.{hook}"), "is not available in this version", fix);
    }
}
