//! What makes no sense together, found before anything starts.
//!
//! Spec: centrifugo `internal/config/validate.go`; Gyre allows HTTP/3 together with ACME.

use std::time::Duration;

use gyre_core::channel::ChannelPattern;
use regex::Regex;

use super::{Section, Warning, channels::catch_up_timeout, hooks, http_server::unix_path, read::Findings};

/// Checks everything and collects all problems.
pub(super) fn validate(raw: &Section, findings: &mut Findings) {
    server(raw, findings);
    grpc(raw, findings);
    client(raw.object("client"), raw.object("channel"), findings);
    proxies(raw, findings);
    channels(raw, findings);
    engines(raw, findings);
    consumers(raw.objects("consumers"), findings);
    for (section, transforms) in [("uni_sse", true), ("uni_http_stream", true)] {
        let list = raw.object(section).object("connect_code_to_http_response").objects("transforms");
        for (i, transform) in list.iter().enumerate().filter(|_| transforms) {
            if transform.int("code") == 0 || transform.object("to").int("status_code") == 0 {
                let path = format!("{section}.connect_code_to_http_response.transforms[{i}]");
                findings.problem(&path, "code and to.status_code are needed", "set both");
            }
        }
    }
    for section in ["http_api", "grpc_api"] {
        let mode = raw.object(section).text("error_mode");
        if !matches!(mode, "" | "transport") {
            let path = format!("{section}.error_mode");
            findings.problem(
                &path,
                format!("\"{mode}\" is not a mode"),
                "leave it out or write \"transport\"",
            );
        }
    }
}

/// Each listener for gRPC has a port of its own: sockets that share one would take each other's clients.
fn grpc(raw: &Section, findings: &mut Findings) {
    let server = raw.object("http_server");
    let api = raw.object("grpc_api");
    if api.bool("enabled") && api.text("key").is_empty() {
        let message = "grpc_api.key is not set: everybody who reaches the port may call the API";
        findings.warnings.push(Warning::open_door(message));
    }
    let mut taken = vec![(server.int("port"), "http_server")];
    taken.extend(server.text("internal_port").parse().ok().map(|port| (port, "http_server")));
    for name in ["uni_grpc", "grpc_api"] {
        let (section, path) = (raw.object(name), format!("{name}.port"));
        let has_port = unix_path(section.text("address")).is_none();
        if !section.bool("enabled") || !has_port {
            continue;
        }
        let port = section.int("port");
        if !(1..=65535).contains(&port) {
            findings.problem(&path, format!("{port} is not a port"), "use 1 to 65535");
        } else if let Some((_, other)) = taken.iter().find(|(known, _)| *known == port) {
            findings.problem(&path, format!("{port} is a port of {other}"), "use another port");
        }
        taken.push((port, name));
    }
}

fn server(raw: &Section, findings: &mut Findings) {
    let server = raw.object("http_server");
    let (port, internal) = (server.int("port"), server.text("internal_port"));
    if !(0..=65535).contains(&port) {
        findings.problem("http_server.port", format!("{port} is not a port"), "use 1 to 65535");
    }
    if !internal.is_empty() && internal.parse::<u16>().is_err() {
        findings.problem(
            "http_server.internal_port",
            format!("\"{internal}\" is not a port"),
            "use 1 to 65535",
        );
    }
    let has_tls = server.object("tls").bool("enabled");
    if server.bool("h2c_external") {
        if internal.is_empty() || internal == port.to_string() {
            let fix = "set http_server.internal_port to another port";
            findings.problem("http_server.h2c_external", "needs an internal port of its own", fix);
        }
        if has_tls || server.object("tls_autocert").bool("enabled") {
            findings.problem(
                "http_server.h2c_external",
                "cannot be combined with TLS",
                "disable one of them",
            );
        }
    }
    let has_http3 = server.object("http3").bool("enabled");
    let has_acme = server.object("tls_autocert").bool("enabled");
    let has_pinned = raw.object("webtransport").bool("pinned_certificate");
    if has_http3 && !has_tls && !has_acme && !has_pinned {
        let fix =
            "set http_server.tls.enabled with cert_pem and key_pem, or http_server.tls_autocert.enabled";
        findings.problem("http_server.http3.enabled", "HTTP/3 needs TLS", fix);
    }
    let webtransport = raw.object("webtransport");
    for section in ["webtransport", "uni_webtransport"] {
        if raw.object(section).bool("enabled") && !has_http3 {
            let fix = "set http_server.http3.enabled to true";
            findings.problem(&format!("{section}.enabled"), "WebTransport needs HTTP/3", fix);
        }
    }
    for dialect in webtransport.list("dialects") {
        if !matches!(&**dialect, "02" | "07" | "13") {
            let fix = "use \"02\", \"07\" and \"13\"";
            findings.problem(
                "webtransport.dialects",
                format!("\"{dialect}\" is not a draft that is spoken"),
                fix,
            );
        }
    }
    if webtransport.bool("enabled") && webtransport.list("dialects").is_empty() {
        let fix = "leave it out, or disable WebTransport";
        findings.problem("webtransport.dialects", "without a draft nobody can connect", fix);
    }
    if !(1..=256).contains(&webtransport.int("session_limit")) {
        findings.problem(
            "webtransport.session_limit",
            "must be 1 to 256",
            "use 1 unless clients pool connections",
        );
    }
    let shutdown = raw.object("shutdown");
    if !shutdown.duration("drain_window").is_zero()
        && shutdown.duration("drain_window") >= shutdown.duration("timeout")
    {
        findings.problem("shutdown.drain_window", "must be below shutdown.timeout", "lengthen the timeout");
    }
}

fn client(client: &Section, channel: &Section, findings: &mut Findings) {
    if !client.duration("ping_interval").is_zero()
        && client.duration("ping_interval") <= client.duration("pong_timeout")
    {
        let fix = "lengthen the interval or shorten the timeout";
        findings.problem("client.ping_interval", "must be longer than client.pong_timeout", fix);
    }
    for origin in client.list("allowed_origins") {
        if globset::Glob::new(origin).is_err() {
            let fix = "use * and ? as wildcards";
            findings.problem("client.allowed_origins", format!("\"{origin}\" is not a pattern"), fix);
        }
    }
    for section in ["token", "subscription_token"] {
        token(client.object(section), &format!("client.{section}"), findings);
    }
    let personal = client.object("subscribe_to_user_personal_channel");
    if personal.bool("enabled") {
        let path = "client.subscribe_to_user_personal_channel";
        let name = personal.text("personal_channel_namespace");
        let options = match name {
            "" => Some(channel.object("without_namespace")),
            name => channel.objects("namespaces").iter().find(|namespace| namespace.text("name") == name),
        };
        match options {
            None => findings.problem(
                &format!("{path}.personal_channel_namespace"),
                format!("the namespace \"{name}\" does not exist"),
                "add it to channel.namespaces",
            ),
            Some(options) if personal.bool("single_connection") && !options.bool("presence") => findings
                .problem(
                    &format!("{path}.single_connection"),
                    "needs presence in the namespace of the personal channel",
                    "set presence there",
                ),
            Some(_) => {}
        }
    }
    let transforms = client.object("connect_code_to_unidirectional_disconnect").objects("transforms");
    for (i, transform) in transforms.iter().enumerate() {
        let path = format!("client.connect_code_to_unidirectional_disconnect.transforms[{i}]");
        let to = transform.object("to");
        if transform.int("code") == 0 || to.int("code") == 0 {
            findings.problem(&path, "code and to.code are needed", "set both");
        }
        if !to.text("reason").is_ascii() {
            findings.problem(&path, "the reason must be ASCII", "write it without accents");
        }
    }
}

fn token(token: &Section, path: &str, findings: &mut Findings) {
    for name in ["audience", "issuer"] {
        let (plain, pattern) = (token.text(name), token.text(&format!("{name}_regex")));
        if !plain.is_empty() && !pattern.is_empty() {
            let path = format!("{path}.{name}");
            findings.problem(&path, format!("cannot be combined with {name}_regex"), "keep one of them");
        }
        if let Err(error) = Regex::new(pattern) {
            findings.problem(&format!("{path}.{name}_regex"), error.to_string(), "correct the expression");
        }
    }
    let claim = token.text("user_id_claim");
    if !claim.chars().all(|c| c.is_ascii_alphabetic() || c == '_') {
        findings.problem(
            &format!("{path}.user_id_claim"),
            "must be letters and underscores",
            "rename the claim",
        );
    }
    let jwks = token.text("jwks_public_endpoint");
    if !jwks.is_empty() && !hooks::is_http(jwks) {
        let fix = "write http://… or https://…";
        findings.problem(&format!("{path}.jwks_public_endpoint"), "is not a URL of HTTP", fix);
    }
    if jwks.contains("{{") && !token.bool("insecure_skip_jwks_endpoint_safety_check") {
        let patterns = [token.text("issuer_regex"), token.text("audience_regex")];
        if patterns.iter().any(|pattern| has_open_group(pattern)) {
            let fix = "write the groups as alternatives, such as (?P<tenant>a|b)";
            findings.problem(
                &format!("{path}.jwks_public_endpoint"),
                "a placeholder could be filled with anything",
                fix,
            );
        }
    }
}

/// True if an expression has a named group that matches more than a list of words.
fn has_open_group(pattern: &str) -> bool {
    pattern.match_indices("(?P<").any(|(start, _)| {
        let body = pattern[start..].split_once('>').map_or("", |(_, body)| body);
        let body = body.split_once(')').map_or(body, |(body, _)| body);
        body.contains(['[', '.', '*', '+', '\\', '{'])
    })
}

fn check_proxy(proxy: &Section, path: &str, findings: &mut Findings) {
    if proxy.text("endpoint").is_empty() {
        findings.problem(&format!("{path}.endpoint"), "is needed", "name the URL of the backend");
    }
    if proxy.duration("timeout").is_zero() {
        findings.problem(&format!("{path}.timeout"), "cannot be 0", "leave it out for 1s");
    }
    check_transforms(proxy, path, findings);
}

fn check_transforms(proxy: &Section, path: &str, findings: &mut Findings) {
    for (i, transform) in proxy.object("http").objects("status_to_code_transforms").iter().enumerate() {
        let path = format!("{path}.http.status_to_code_transforms[{i}]");
        let (error, disconnect) = (transform.object("to_error"), transform.object("to_disconnect"));
        if transform.int("status_code") == 0 {
            findings.problem(&path, "status_code is needed", "set it");
        }
        match (error.int("code") > 0, disconnect.int("code") > 0) {
            (true, false) | (false, true) => {}
            _ => findings.problem(&path, "exactly one of to_error and to_disconnect is needed", "set one"),
        }
        for text in [error.text("message"), disconnect.text("reason")] {
            if !text.is_ascii() || text.len() > 123 {
                findings.problem(&path, "texts must be ASCII and at most 123 bytes", "shorten the text");
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    name.len() >= 2 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Names in a list: well formed, and each once.
fn names<'a>(sections: &'a [Section], path: &str, findings: &mut Findings) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for (i, section) in sections.iter().enumerate() {
        let name = section.text("name");
        let path = format!("{path}[{i}].name");
        if !is_name(name) {
            let fix = "use at least two letters, digits, '-', '_' or '.'";
            findings.problem(&path, format!("\"{name}\" is not a name"), fix);
        }
        if seen.contains(&name) {
            findings.problem(&path, format!("\"{name}\" is used twice"), "rename one");
        }
        seen.push(name);
    }
    seen
}

fn proxies(raw: &Section, findings: &mut Findings) {
    let list = raw.objects("proxies");
    names(list, "proxies", findings);
    for (i, proxy) in list.iter().enumerate() {
        let path = format!("proxies[{i}]");
        if proxy.text("name") == "default" {
            findings.problem(&format!("{path}.name"), "\"default\" is reserved", "rename the proxy");
        }
        check_proxy(proxy, &path, findings);
    }
    for (path, _, proxy) in hooks::proxies(raw).filter(|(path, ..)| !path.starts_with("proxies")) {
        check_proxy(proxy, &path, findings);
    }
    let rpc = raw.object("rpc");
    names(rpc.objects("namespaces"), "rpc.namespaces", findings);
    let without = [("rpc.without_namespace".to_owned(), rpc.object("without_namespace"))];
    let named =
        rpc.objects("namespaces").iter().enumerate().map(|(i, n)| (format!("rpc.namespaces[{i}]"), n));
    for (path, options) in without.into_iter().chain(named) {
        proxy_reference(raw, &path, "proxy_name", options.text("proxy_name"), findings);
    }
}

/// A proxy that is named must be there, even where its hook is off. Those without a name are checked in their place.
fn proxy_reference(raw: &Section, path: &str, key: &str, name: &str, findings: &mut Findings) {
    let is_default = matches!(name, "default" | "");
    if !is_default && !raw.objects("proxies").iter().any(|proxy| proxy.text("name") == name) {
        let message = format!("the proxy \"{name}\" does not exist");
        findings.problem(&format!("{path}.{key}"), message, "add it to proxies");
    }
}

fn channels(raw: &Section, findings: &mut Findings) {
    let channel = raw.object("channel");
    data_format(channel.text("publication_data_format"), "channel", findings);
    whole_seconds(channel.duration("history_meta_ttl"), "channel.history_meta_ttl", findings);
    names(channel.objects("namespaces"), "channel.namespaces", findings);
    options(raw, channel.object("without_namespace"), "channel.without_namespace", findings);
    for (i, namespace) in channel.objects("namespaces").iter().enumerate() {
        let name = namespace.text("name");
        let path = if name.is_empty() {
            format!("channel.namespaces[{i}]")
        } else {
            format!("channel.namespaces[{name}]")
        };
        options(raw, namespace, &path, findings);
    }
    patterns(channel, findings);
}

/// Every channel has one namespace: two patterns with variables may not match the same name, nor two without.
fn patterns(channel: &Section, findings: &mut Findings) {
    let mut known: Vec<(&str, ChannelPattern)> = Vec::new();
    for namespace in channel.objects("namespaces") {
        let (name, text) = (namespace.text("name"), namespace.text("pattern"));
        if text.is_empty() {
            continue;
        }
        let path = format!("channel.namespaces[{name}].pattern");
        if !channel.bool("patterns") {
            let message = format!("{path}: has no effect while channel.patterns is false");
            findings.warnings.push(Warning::new(message));
        }
        match ChannelPattern::parse(text) {
            Err(error) => findings.problem(&path, error.to_string(), "write it like /users/:name"),
            Ok(pattern) => {
                let is_rival = |other: &ChannelPattern| {
                    other.is_static() == pattern.is_static() && other.overlaps(&pattern)
                };
                if let Some((other, _)) = known.iter().find(|(_, other)| is_rival(other)) {
                    let message = format!("some channels match it and the pattern of \"{other}\"");
                    findings.problem(&path, message, "make one of them differ in a segment without variable");
                }
                known.push((name, pattern));
            }
        }
    }
}

fn whole_seconds(duration: Duration, path: &str, findings: &mut Findings) {
    if duration.subsec_nanos() != 0 {
        findings.problem(path, "must be whole seconds", "round it");
    }
}

fn data_format(format: &str, path: &str, findings: &mut Findings) {
    if !matches!(format, "" | "json" | "json_object" | "binary") {
        let path = format!("{path}.publication_data_format");
        findings.problem(&path, format!("\"{format}\" is not a format"), "use json, json_object or binary");
    }
}

fn options(raw: &Section, options: &Section, path: &str, findings: &mut Findings) {
    let channel = raw.object("channel");
    let at = |key: &str| format!("{path}.{key}");
    data_format(options.text("publication_data_format"), path, findings);
    let (size, ttl) = (options.int("history_size"), options.duration("history_ttl"));
    let meta_ttl = match options.duration("history_meta_ttl") {
        Duration::ZERO => channel.duration("history_meta_ttl"),
        own => own,
    };
    whole_seconds(ttl, &at("history_ttl"), findings);
    whole_seconds(options.duration("history_meta_ttl"), &at("history_meta_ttl"), findings);
    if (size > 0) == ttl.is_zero() {
        findings.problem(
            &at("history_size"),
            "history_size and history_ttl belong together",
            "set both or none",
        );
    }
    if ttl > meta_ttl {
        findings.problem(&at("history_ttl"), "is longer than history_meta_ttl", "lengthen history_meta_ttl");
    }
    let has_history = size > 0 && !ttl.is_zero();
    if options.bool("force_recovery") && !has_history {
        findings.problem(&at("force_recovery"), "needs history", "set history_size and history_ttl");
    }
    let mode = options.text("force_recovery_mode");
    if !matches!(mode, "" | "stream" | "cache") {
        findings.problem(
            &at("force_recovery_mode"),
            format!("\"{mode}\" is not a mode"),
            "use stream or cache",
        );
    }
    if options.bool("auto_cache_recover") && !(options.bool("force_recovery") && mode == "cache") {
        let fix = "set force_recovery and force_recovery_mode: cache";
        findings.problem(&at("auto_cache_recover"), "needs forced recovery in cache mode", fix);
    }
    for kind in options.list("allowed_delta_types").iter().filter(|kind| **kind != "fossil") {
        findings.problem(&at("allowed_delta_types"), format!("\"{kind}\" is not known"), "use fossil");
    }
    if let Err(error) = Regex::new(options.text("channel_regex")) {
        findings.problem(&at("channel_regex"), error.to_string(), "correct the expression");
    }
    let proxies = channel.object("proxy");
    for name in ["subscribe", "publish", "sub_refresh", "subscribe_stream", "cache_empty", "state"] {
        let key = format!("{name}_proxy_name");
        proxy_reference(raw, path, &key, options.text(&key), findings);
    }
    for name in ["publish", "remove"] {
        let key = format!("{name}_proxy_name");
        proxy_reference(raw, path, &format!("map.{key}"), options.object("map").text(&key), findings);
    }
    let poll = options.object("shared_poll").text("proxy_name");
    proxy_reference(raw, path, "shared_poll.proxy_name", poll, findings);
    if options.bool("cache_empty_proxy_enabled") && mode != "cache" {
        let fix = "set force_recovery_mode: cache";
        findings.problem(&at("cache_empty_proxy_enabled"), "needs recovery in cache mode", fix);
    }
    if options.bool("subscribe_stream_proxy_enabled") {
        for other in ["subscribe", "publish", "sub_refresh"] {
            if options.bool(&format!("{other}_proxy_enabled")) {
                let key = at("subscribe_stream_proxy_enabled");
                findings.problem(
                    &key,
                    format!("cannot be combined with {other}_proxy_enabled"),
                    "disable one",
                );
            }
        }
        let name = options.text("subscribe_stream_proxy_name");
        let proxy = match name {
            "default" => Some(proxies.object("subscribe_stream")),
            name => raw.objects("proxies").iter().find(|proxy| proxy.text("name") == name),
        };
        if proxy.is_some_and(|proxy| proxy.text("endpoint").starts_with("http")) {
            findings.problem(
                &at("subscribe_stream_proxy_name"),
                "needs a gRPC endpoint",
                "write grpc://host:port",
            );
        }
    }
    subscription_type(raw, options, path, findings);
}

fn subscription_type(raw: &Section, options: &Section, path: &str, findings: &mut Findings) {
    let at = |key: &str| format!("{path}.{key}");
    let (kind, map) = (options.text("subscription_type"), options.object("map"));
    let is_map = matches!(kind, "map" | "map_clients" | "map_users");
    if !is_map && !matches!(kind, "" | "stream" | "shared_poll") {
        let fix = "use stream, map, map_clients, map_users or shared_poll";
        findings.problem(&at("subscription_type"), format!("\"{kind}\" is not a type"), fix);
    }
    if is_map {
        let (mode, key_ttl) = (map.text("mode"), map.duration("key_ttl"));
        match mode {
            "ephemeral" | "recoverable" if key_ttl.is_zero() => {
                findings.problem(
                    &at("map.key_ttl"),
                    format!("is needed in mode {mode}"),
                    "set how long keys live",
                );
            }
            "persistent" if !key_ttl.is_zero() => {
                findings.problem(&at("map.key_ttl"), "keys of persistent maps do not expire", "leave it out");
            }
            "persistent" if kind != "map" => {
                findings.problem(
                    &at("map.mode"),
                    "presence kept as a map cannot be persistent",
                    "use ephemeral",
                );
            }
            "ephemeral" | "recoverable" | "persistent" => {}
            _ => findings.problem(&at("map.mode"), "is needed", "use ephemeral, recoverable or persistent"),
        }
        let has_stream = map.int("stream_size") != 0
            || !map.duration("stream_ttl").is_zero()
            || !map.duration("meta_ttl").is_zero();
        if catch_up_timeout(map.text("subscribe_catch_up_timeout")).is_none() {
            let fix = "write a number with its unit, such as \"5s\" or \"-1s\"";
            findings.problem(&at("map.subscribe_catch_up_timeout"), "is no duration", fix);
        }
        if mode == "ephemeral" && has_stream {
            findings.problem(
                &at("map.stream_size"),
                "ephemeral maps have no stream",
                "leave out the stream keys",
            );
        }
        let (ttl, meta_ttl) = (map.duration("stream_ttl"), map.duration("meta_ttl"));
        if !meta_ttl.is_zero() && meta_ttl < ttl {
            findings.problem(&at("map.meta_ttl"), "is shorter than map.stream_ttl", "lengthen it");
        }
        let sizes = ["min_page_size", "default_page_size", "max_page_size"].map(|key| map.int(key));
        let [min, default, max] = [(sizes[0], 100), (sizes[1], 100), (sizes[2], 1000)]
            .map(|(size, default)| if size == 0 { default } else { size });
        if min > default || default > max {
            findings.problem(
                &at("map.default_page_size"),
                "page sizes are out of order",
                "min ≤ default ≤ max",
            );
        }
    } else if map.bool("remove_client_on_unsubscribe") {
        findings.problem(&at("map.remove_client_on_unsubscribe"), "is for maps only", "leave it out");
    }
    match map.text("client_key") {
        "" => {}
        "client_id" | "user_id" if map.bool("publish_proxy_enabled") || map.bool("remove_proxy_enabled") => {
            findings.problem(&at("map.client_key"), "cannot be combined with map proxies", "disable one");
        }
        "client_id" | "user_id" => {}
        _ => findings.problem(&at("map.client_key"), "is not known", "use client_id or user_id"),
    }
    for (key, wanted) in [
        ("map_clients_presence_channel_prefix", "map_clients"),
        ("map_users_presence_channel_prefix", "map_users"),
    ] {
        let prefix = options.text(key);
        let namespace = prefix.split(raw.object("channel").text("namespace_boundary")).next().unwrap_or("");
        if !prefix.is_empty() {
            let found =
                raw.object("channel").objects("namespaces").iter().find(|n| n.text("name") == namespace);
            if found.is_none_or(|found| found.text("subscription_type") != wanted) {
                let fix = format!("name a namespace of subscription_type {wanted}");
                findings.problem(&at(key), "points to no such namespace", fix);
            }
        }
    }
    if kind == "shared_poll" {
        let poll = options.object("shared_poll");
        if raw.object("shared_poll").text("hmac_secret_key").is_empty() {
            findings.problem(
                "shared_poll.hmac_secret_key",
                "is needed for shared_poll channels",
                "set a secret",
            );
        }
        match poll.text("mode") {
            "" | "versionless" if poll.bool("publish_enabled") => {
                findings.problem(&at("shared_poll.publish_enabled"), "needs mode versioned", "set the mode");
            }
            "" | "versionless" | "versioned" => {}
            _ => findings.problem(&at("shared_poll.mode"), "is not known", "use versionless or versioned"),
        }
    }
}

fn engines(raw: &Section, findings: &mut Findings) {
    let mut check = |section: &str, known: &[&str], available: &[&str], is_used: bool| {
        let kind = raw.object(section).text("type");
        let path = format!("{section}.type");
        if !known.contains(&kind) {
            findings.problem(
                &path,
                format!("\"{kind}\" is not known"),
                format!("use one of {}", known.join(", ")),
            );
        } else if is_used && !available.contains(&kind) {
            let fix = format!("use {}", available.join(" or "));
            findings.problem(&path, format!("\"{kind}\" is not available in this version"), fix);
        }
    };
    check("engine", &["memory", "redis"], &["memory"], true);
    let is_enabled = |section: &str| raw.object(section).bool("enabled");
    check("broker", &["memory", "nats", "redis", "redisnats", "postgres"], &["memory"], is_enabled("broker"));
    check("presence_manager", &["memory", "redis"], &["memory"], is_enabled("presence_manager"));
    check("map_broker", &["memory", "redis", "postgres"], &["memory"], true);
    let controller = raw.object("controller");
    if controller.bool("enabled") && controller.text("type") != "postgres" {
        let message = format!("\"{}\" is no controller", controller.text("type"));
        findings.problem("controller.type", message, "use postgres, or disable the controller");
    }
}

fn consumers(list: &[Section], findings: &mut Findings) {
    /// Types, and the options each cannot do without.
    const TYPES: [(&str, &[&str]); 7] = [
        ("postgresql", &["dsn", "outbox_table_name"]),
        ("kafka", &["brokers", "topics", "consumer_group"]),
        ("nats_jetstream", &["stream_name", "durable_consumer_name"]),
        ("redis_stream", &["streams", "consumer_group"]),
        ("google_pub_sub", &["project_id", "subscriptions"]),
        ("aws_sqs", &["queues"]),
        ("azure_service_bus", &["queues"]),
    ];
    let mut seen = Vec::new();
    for (i, consumer) in list.iter().enumerate() {
        let path = format!("consumers[{i}]");
        let name = consumer.text("name");
        let is_name = name.len() >= 2 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name || seen.contains(&name) {
            let fix = "use letters, digits and underscores, each name once";
            findings.problem(&format!("{path}.name"), format!("\"{name}\" is not a name or used twice"), fix);
        }
        seen.push(name);
        let kind = consumer.text("type");
        let Some((_, required)) = TYPES.iter().find(|(known, _)| *known == kind) else {
            findings.problem(
                &format!("{path}.type"),
                format!("\"{kind}\" is not known"),
                "see the reference",
            );
            continue;
        };
        if consumer.bool("enabled") {
            for key in *required {
                if !consumer.object(kind).is_set(key) {
                    findings.problem(&format!("{path}.{kind}.{key}"), "is needed", "set it");
                }
            }
            findings.problem(
                &format!("{path}.enabled"),
                "consumers are not available in this version",
                "disable the consumer",
            );
        }
    }
}
