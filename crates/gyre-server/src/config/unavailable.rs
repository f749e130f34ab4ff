//! Keys whose feature this version does not have yet: said at the start, and refused where a server without the feature
//! would let in what it is there to keep out.

use super::{Section, Warning, read::Findings};

/// Switches of what is not there: the object that has each, and the key.
const SWITCHES: [(&str, &str); 3] =
    [("grpc_api", "reflection"), ("swagger", "enabled"), ("controller", "enabled")];

pub(super) fn check(raw: &Section, findings: &mut Findings) {
    if raw.at("admin").bool("enabled") {
        let message = "admin.enabled serves login and API; this version has no web interface";
        findings.warnings.push(Warning::new(message));
    }
    let mut warn = |path: &str| {
        let message = format!("{path} is accepted, but this version does nothing with it");
        findings.warnings.push(Warning::new(message));
    };
    for (object, key) in SWITCHES.iter().filter(|(object, key)| raw.at(object).bool(key)) {
        warn(&format!("{object}.{key}"));
    }
    for (i, _) in raw.objects("consumers").iter().enumerate().filter(|(_, c)| c.bool("enabled")) {
        warn(&format!("consumers[{i}]"));
    }
    let channel = raw.object("channel");
    refuse_streams(channel.object("without_namespace"), "channel.without_namespace", findings);
    for namespace in channel.objects("namespaces") {
        let path = format!("channel.namespaces[{}]", namespace.text("name"));
        refuse_streams(namespace, &path, findings);
    }
}

fn refuse_streams(options: &Section, path: &str, findings: &mut Findings) {
    if options.bool("subscribe_stream_proxy_enabled") {
        let fix = "disable it: without it, the other options of the namespace would decide alone";
        let key = format!("{path}.subscribe_stream_proxy_enabled");
        findings.problem(&key, "is not available in this version", fix);
    }
}
