//! Hooks: what is configured of them as proxies, as the rules and the callers of hooks want it.
//!
//! Spec: configuration `proxies`, `client.proxy.*`, `channel.proxy.*`, `rpc.*`.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use gyre_core::{
    ports::HookRefusal,
    rules::{HookRules, RpcRules},
};
use gyre_protocol::{ClientError, Disconnect};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;

use super::{Section, read::Findings, resolve};
use crate::{
    hooks::{ClientTls, Protocol, Target, Targets},
    secret::Secret,
};

/// Hooks that are configured in their own place, by the place.
const PLACES: [(&str, &str); 13] = [
    ("connect", "client.proxy.connect"),
    ("refresh", "client.proxy.refresh"),
    ("disconnect", "client.proxy.disconnect"),
    ("subscribe", "channel.proxy.subscribe"),
    ("publish", "channel.proxy.publish"),
    ("sub_refresh", "channel.proxy.sub_refresh"),
    ("subscribe_stream", "channel.proxy.subscribe_stream"),
    ("cache_empty", "channel.proxy.cache_empty"),
    ("state", "channel.proxy.state"),
    ("map_publish", "channel.proxy.map_publish"),
    ("map_remove", "channel.proxy.map_remove"),
    ("shared_poll_refresh", "channel.proxy.shared_poll_refresh"),
    ("rpc", "rpc.proxy"),
];

/// Every proxy that is used, with the path of its keys and the name the rules refer to it by.
pub(super) fn proxies(raw: &Section) -> impl Iterator<Item = (String, Box<str>, &Section)> {
    let used = used(raw);
    let placed = PLACES.iter().map(|(kind, path)| ((*path).to_owned(), target_name("", kind), raw.at(path)));
    let named = raw.objects("proxies").iter().enumerate();
    let named = named.map(|(i, proxy)| (format!("proxies[{i}]"), proxy.text("name").into(), proxy));
    placed.chain(named).filter(move |(_, name, _)| used.contains(name))
}

/// The names of the hooks that something asks.
fn used(raw: &Section) -> BTreeSet<Box<str>> {
    let rpc = raw.object("rpc");
    let methods = std::iter::once(rpc.object("without_namespace")).chain(rpc.objects("namespaces"));
    let channel = raw.object("channel");
    let channels = std::iter::once(channel.object("without_namespace")).chain(channel.objects("namespaces"));
    let connection =
        ["connect", "refresh", "disconnect"].into_iter().filter_map(|kind| connection_hook(raw, kind));
    connection.chain(methods.filter_map(rpc_hook)).chain(channels.flat_map(channel_hooks)).collect()
}

/// The hooks that options of channels name.
fn channel_hooks(options: &Section) -> Vec<Box<str>> {
    let map = options.object("map");
    let kind = options.text("subscription_type");
    let kinds = ["subscribe", "publish", "sub_refresh", "subscribe_stream", "cache_empty", "state"];
    let mut hooks: Vec<_> = kinds.iter().filter_map(|kind| hook_of(options, kind, kind)).collect();
    if matches!(kind, "map" | "map_clients" | "map_users") {
        hooks.extend(hook_of(map, "publish", "map_publish"));
        hooks.extend(hook_of(map, "remove", "map_remove"));
    }
    if kind == "shared_poll" {
        hooks.push(target_name(options.object("shared_poll").text("proxy_name"), "shared_poll_refresh"));
    }
    hooks
}

/// The hook an option refers to: one of `proxies`, or the default one of its kind. The slash stands in no name.
pub(super) fn target_name(name: &str, kind: &str) -> Box<str> {
    match name {
        "" | "default" => format!("default/{kind}").into(),
        name => name.into(),
    }
}

/// The hook that options name with `…_proxy_enabled` and `…_proxy_name`, if it is enabled.
pub(super) fn hook_of(options: &Section, key: &str, kind: &str) -> Option<Box<str>> {
    let name = options.text(&format!("{key}_proxy_name"));
    options.bool(&format!("{key}_proxy_enabled")).then(|| target_name(name, kind))
}

fn rpc_hook(options: &Section) -> Option<Box<str>> {
    options.bool("proxy_enabled").then(|| target_name(options.text("proxy_name"), "rpc"))
}

fn connection_hook(raw: &Section, kind: &str) -> Option<Box<str>> {
    raw.at("client.proxy").object(kind).bool("enabled").then(|| target_name("", kind))
}

/// Hooks of connections, and what all may see.
pub(super) fn hook_rules(raw: &Section) -> HookRules {
    let emulated = proxies(raw).flat_map(|(.., proxy)| proxy.list("emulated_headers"));
    let emulated: BTreeSet<Box<str>> = emulated.map(|name| name.to_lowercase().into()).collect();
    HookRules {
        connect: connection_hook(raw, "connect"),
        refresh: connection_hook(raw, "refresh"),
        disconnect: connection_hook(raw, "disconnect"),
        vacated_delay: raw.object("channel").duration("vacated_delay"),
        emulated_headers: emulated.into_iter().collect(),
    }
}

pub(super) fn rpc_rules(rpc: &Section) -> RpcRules {
    let namespaces = rpc.objects("namespaces").iter();
    let ping = rpc.object("ping");
    RpcRules {
        ping: ping.bool("enabled").then(|| ping.text("method").into()),
        namespace_boundary: rpc.text("namespace_boundary").into(),
        without_namespace: rpc_hook(rpc.object("without_namespace")),
        namespaces: namespaces.map(|options| (options.text("name").into(), rpc_hook(options))).collect(),
    }
}

/// Where hooks are called. What cannot be used of them is a problem.
pub(super) fn targets(raw: &Section, findings: &mut Findings) -> Targets {
    proxies(raw).filter_map(|(path, name, proxy)| Some((name, target(proxy, &path, findings)?))).collect()
}

/// `None` if it cannot be used. That there is no endpoint is found elsewhere.
fn target(proxy: &Section, path: &str, findings: &mut Findings) -> Option<Target> {
    let endpoint = proxy.text("endpoint");
    let carried = match endpoint {
        "" => return None,
        endpoint if is_http(endpoint) => http(endpoint, proxy.object("http"), path, findings)?,
        endpoint => grpc(endpoint, proxy.object("grpc"), path, findings)?,
    };
    Some(Target {
        endpoint: carried.endpoint,
        socket: carried.socket,
        timeout: proxy.duration("timeout"),
        concurrency_limit: proxy.size("concurrency_limit"),
        static_headers: carried.static_headers,
        http_headers: names(proxy, path, "http_headers", findings),
        grpc_metadata: names(proxy, path, "grpc_metadata", findings),
        emulated_headers: names(proxy, path, "emulated_headers", findings),
        is_binary: proxy.bool("binary_encoding"),
        includes_meta: proxy.bool("include_connection_meta"),
        tls: carried.tls,
        protocol: carried.protocol,
    })
}

/// What is configured for one protocol.
struct Carried {
    endpoint: Uri,
    socket: Option<Arc<Path>>,
    static_headers: HeaderMap,
    tls: Option<ClientTls>,
    protocol: Protocol,
}

fn http(endpoint: &str, http: &Section, path: &str, findings: &mut Findings) -> Option<Carried> {
    let Ok(endpoint) = endpoint.parse::<Uri>() else {
        findings.problem(&format!("{path}.endpoint"), "is not a URL", "write http://… or https://…");
        return None;
    };
    let mut static_headers = headers(http, "static_headers", &format!("{path}.http"), findings);
    if let Some(credentials) = basic_credentials(&endpoint) {
        static_headers.entry(header::AUTHORIZATION).or_insert(credentials);
    }
    Some(Carried {
        endpoint,
        socket: None,
        static_headers,
        tls: client_tls(http.object("tls"), &format!("{path}.http.tls"), findings),
        protocol: Protocol::Http {
            transforms: http.objects("status_to_code_transforms").iter().filter_map(transform).collect(),
        },
    })
}

fn grpc(endpoint: &str, grpc: &Section, path: &str, findings: &mut Findings) -> Option<Carried> {
    let tls = client_tls(grpc.object("tls"), &format!("{path}.grpc.tls"), findings);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let socket = unix_socket(endpoint);
    let host = match &socket {
        // A host must be named to the backend; gRPC names this one.
        Some(_) => "localhost",
        None => host_and_port(endpoint),
    };
    let uri = format!("{scheme}://{host}").parse::<Uri>().ok();
    let Some(endpoint) =
        uri.filter(|uri| (socket.is_some() || uri.port_u16().is_some()) && matches!(uri.path(), "" | "/"))
    else {
        let fix = "write grpc://host:port, unix:/path, or a URL with http:// or https://";
        findings.problem(&format!("{path}.endpoint"), "is neither host and port nor a URL of HTTP", fix);
        return None;
    };
    let (name, value) = (grpc.text("credentials_key"), grpc.text("credentials_value"));
    let credentials = match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
        _ if name.is_empty() => None,
        (Ok(name), Ok(mut value)) => {
            value.set_sensitive(true);
            Some((name, value))
        }
        _ => {
            let key = format!("{path}.grpc.credentials_key");
            findings.problem(&key, "key and value cannot be sent as metadata", "correct them");
            None
        }
    };
    Some(Carried {
        endpoint,
        socket,
        static_headers: headers(grpc, "static_metadata", &format!("{path}.grpc"), findings),
        tls,
        protocol: Protocol::Grpc { credentials, compresses: grpc.bool("compression") },
    })
}

/// The path in the name of a unix socket.
///
/// Spec: grpc/grpc doc/naming.md
fn unix_socket(endpoint: &str) -> Option<Arc<Path>> {
    let path = endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:"))?;
    (!path.is_empty()).then(|| Path::new(path).into())
}

/// Host and port in a name of gRPC, whose host the system looks up.
///
/// Spec: grpc/grpc doc/naming.md
fn host_and_port(endpoint: &str) -> &str {
    let schemes = ["grpc://", "dns:///", "dns:", "passthrough:///", "ipv4:", "ipv6:"];
    schemes.iter().find_map(|scheme| endpoint.strip_prefix(scheme)).unwrap_or(endpoint).trim_end_matches('/')
}

/// True for an endpoint that is called over HTTP; any other is called over gRPC.
pub(super) fn is_http(endpoint: &str) -> bool {
    endpoint.starts_with("http://") || endpoint.starts_with("https://")
}

/// User and password in a URL stand for a header.
///
/// Spec: RFC 7617 section 2
fn basic_credentials(url: &Uri) -> Option<HeaderValue> {
    let (credentials, _) = url.authority()?.as_str().rsplit_once('@')?;
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let plain = |text| percent_decode_str(text).collect::<Vec<u8>>();
    let credentials = [plain(user), plain(password)].join(&b':');
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(credentials))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn headers(section: &Section, key: &str, path: &str, findings: &mut Findings) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in section.map(key) {
        match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            (Ok(name), Ok(mut value)) => {
                // Most of them are keys: they must not be printed.
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            _ => {
                let path = format!("{path}.{key}");
                findings.problem(&path, format!("\"{name}\" cannot be sent as a header"), "correct it");
            }
        }
    }
    headers
}

fn names(proxy: &Section, path: &str, key: &str, findings: &mut Findings) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for name in proxy.list(key) {
        match name.parse() {
            Ok(name) => names.push(name),
            Err(_) => {
                findings.problem(&format!("{path}.{key}"), format!("\"{name}\" is no header"), "correct it");
            }
        }
    }
    names
}

fn client_tls(tls: &Section, path: &str, findings: &mut Findings) -> Option<ClientTls> {
    if !tls.bool("enabled") {
        return None;
    }
    let read = |name: &str| {
        (!tls.text(name).is_empty()).then(|| resolve::read_pem(tls, path, name, findings)).flatten()
    };
    let [authorities, certificates, key] = ["server_ca_pem", "cert_pem", "key_pem"].map(read);
    if tls.text("cert_pem").is_empty() != tls.text("key_pem").is_empty() {
        findings.problem(path, "cert_pem and key_pem belong together", "set both or none");
    }
    Some(ClientTls {
        authorities,
        identity: certificates.zip(key.map(Secret::new)),
        server_name: Some(tls.text("server_name").to_owned()).filter(|name| !name.is_empty()),
        skips_verification: tls.bool("insecure_skip_verify"),
    })
}

/// What a client is told when a backend answers with a status.
fn transform(transform: &Section) -> Option<(StatusCode, HookRefusal)> {
    let status = StatusCode::from_u16(u16::try_from(transform.int("status_code")).ok()?).ok()?;
    let (error, disconnect) = (transform.object("to_error"), transform.object("to_disconnect"));
    let code = |section: &Section| u32::try_from(section.int("code")).ok().filter(|&code| code > 0);
    let refusal = match (code(error), code(disconnect)) {
        (Some(code), _) => HookRefusal::Error(ClientError {
            code,
            message: error.text("message").to_owned().into(),
            temporary: error.bool("temporary"),
        }),
        (None, Some(code)) => {
            HookRefusal::Disconnect(Disconnect { code, reason: disconnect.text("reason").to_owned().into() })
        }
        (None, None) => return None,
    };
    Some((status, refusal))
}
