//! From typed values to the options each part of the server owns.

use std::{num::NonZeroU32, time::Duration};

use globset::{Glob, GlobSetBuilder};
use gyre_core::{
    hub::{Deflate, WINDOW_BITS_MAX},
    limits::Limits,
    rules::{ConnectRules, PersonalChannel, Rules},
};
use gyre_h3::Dialects;
use gyre_protocol::Disconnect;
use gyre_transport::{
    http::{OriginPolicy, ProxyProtocol, grpc::MESSAGE_BYTES_MAX},
    streaming,
    websocket::Compression,
};
use http::StatusCode;
use regex::Regex;

use super::{
    Address, HttpServer, Section, TlsOptions,
    channels::namespaces,
    hooks,
    http_server::{self, address, proxy_protocol, tls},
    operation::{Operation, operation},
    read::Findings,
};
use crate::{admin::AdminOptions, api::GrpcApiOptions, hooks::Targets, secret::Secret};

/// Options for each part of the server.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Listeners and TLS.
    pub server: HttpServer,
    /// What applies to sessions.
    pub rules: Rules,
    /// `client.token`.
    pub connection_token: TokenOptions,
    /// `client.subscription_token`, if enabled.
    pub subscription_token: Option<TokenOptions>,
    /// `shared_poll.hmac_secret_key` and what belongs to it.
    pub track: TrackOptions,
    /// Where hooks are called.
    pub hooks: Targets,
    /// `client.allowed_origins`.
    pub origins: OriginPolicy,
    /// `client.user_id_http_header`.
    pub user_header: Option<Box<str>>,
    /// `http_api`.
    pub api: ApiSettings,
    /// `admin`, if enabled.
    pub admin: Option<AdminOptions>,
    /// `websocket`.
    pub websocket: Option<WebSocketOptions>,
    /// `webtransport` and `uni_webtransport`.
    pub webtransport: WebTransportOptions,
    /// `sse`, `http_stream`, `uni_sse` and `uni_http_stream`: those that are enabled.
    pub streaming: Vec<StreamingOptions>,
    /// `emulation`, if `sse` or `http_stream` is enabled.
    pub emulation: Option<EmulationOptions>,
    /// `uni_websocket`.
    pub uni_websocket: Option<UniWebSocketOptions>,
    /// `uni_grpc`.
    pub uni_grpc: Option<GrpcOptions<streaming::grpc::Settings>>,
    /// `grpc_api`.
    pub grpc_api: Option<GrpcOptions<GrpcApiOptions>>,
    /// Paths of the endpoints that are enabled.
    pub health: Option<Box<str>>,
    /// `init`.
    pub init: Option<Box<str>>,
    /// `prometheus`.
    pub prometheus: Option<Box<str>>,
    /// `swagger`.
    pub swagger: Option<Box<str>>,
    /// `shutdown.timeout`.
    pub shutdown_timeout: Duration,
    /// Metrics, logs, traces, profiles.
    pub operation: Operation,
    /// `log.file`.
    pub log_file: Option<String>,
    /// `pid_file`.
    pub pid_file: Option<String>,
    /// `node.name`.
    pub node_name: Option<String>,
}

/// How tokens are verified.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each is the key of that name below `client.token`")]
pub struct TokenOptions {
    pub hmac_secret_key: Secret<String>,
    pub hmac_previous_secret_key: Secret<String>,
    pub hmac_previous_secret_key_valid_until: i64,
    pub jwks_public_endpoint: String,
    pub rsa_public_key: String,
    pub ecdsa_public_key: String,
    pub ed25519_public_key: String,
    pub audience: String,
    pub audience_regex: Option<Regex>,
    pub issuer: String,
    pub issuer_regex: Option<Regex>,
    pub user_id_claim: String,
    pub leeway: Duration,
    /// `client.insecure_skip_token_signature_verify`.
    pub skip_signature: bool,
    /// `client.disallow_anonymous_connection_tokens`.
    pub disallow_anonymous: bool,
}

/// How signatures of tracked keys are verified.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each is the key of that name below `shared_poll`")]
pub struct TrackOptions {
    pub hmac_secret_key: Secret<String>,
    pub hmac_previous_secret_key: Secret<String>,
    pub hmac_previous_secret_key_valid_until: i64,
}

/// The HTTP API.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Where it is served; `None` if disabled.
    pub prefix: Option<Box<str>>,
    /// On the external port as well.
    pub external: bool,
    /// `http_api.key`.
    pub key: Option<Secret<String>>,
    /// `http_api.insecure`.
    pub insecure: bool,
    /// `http_api.error_mode: transport`.
    pub transport_errors: bool,
    /// `http_api.connections`.
    pub lists_connections: bool,
}

/// The WebSocket endpoint.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// Where it is served.
    pub prefix: Box<str>,
    /// `message_size_limit`.
    pub message_bytes_max: usize,
    /// `compression` and what belongs to it.
    pub compression: Option<Compression>,
}

/// A listener for gRPC.
#[derive(Clone, Debug)]
pub struct GrpcOptions<S> {
    /// Where to listen.
    pub address: Address,
    /// What connections begin with.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Its TLS.
    pub tls: Option<TlsOptions>,
    /// What the service needs to know.
    pub settings: S,
}

/// The unidirectional WebSocket endpoint.
#[derive(Clone, Debug)]
pub struct UniWebSocketOptions {
    /// Where it is served, `message_size_limit` and `compression`.
    pub socket: WebSocketOptions,
    /// `disable_closing_handshake`.
    pub disable_closing_handshake: bool,
    /// `disable_disconnect_push`.
    pub disable_disconnect_push: bool,
    /// `join_push_messages`.
    pub join_push_messages: bool,
}

/// An endpoint whose response is the connection.
#[derive(Clone, Debug)]
pub struct StreamingOptions {
    /// Where it is served.
    pub prefix: Box<str>,
    /// Which one it is, `max_request_body_size` and `connect_code_to_http_response`.
    pub settings: streaming::Settings,
}

/// The endpoint for commands of sessions that listen to such a response.
#[derive(Clone, Debug)]
pub struct EmulationOptions {
    /// Where it is served.
    pub prefix: Box<str>,
    /// `max_request_body_size`.
    pub request_bytes_max: usize,
}

/// The WebTransport endpoints, which differ in their paths only.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the key of that name below `webtransport`")]
pub struct WebTransportOptions {
    /// `webtransport.handler_prefix`, if enabled.
    pub prefix: Option<Box<str>>,
    /// `uni_webtransport.handler_prefix`, if enabled.
    pub unidirectional_prefix: Option<Box<str>>,
    pub message_bytes_max: usize,
    pub dialects: Dialects,
    pub session_limit: usize,
    pub stream_open_timeout: Duration,
    pub close_timeout: Duration,
    pub close_linger: Duration,
    pub ascii_json: bool,
    pub refused_user_agents: Vec<String>,
}

impl WebTransportOptions {
    /// True if sessions are taken at all.
    pub fn is_enabled(&self) -> bool {
        self.prefix.is_some() || self.unidirectional_prefix.is_some()
    }
}

/// Version and edition, as clients and `info` see it.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " OSS");

/// Resolves everything. `None` if something is missing that the findings tell of.
pub(super) fn resolve(raw: &Section, findings: &mut Findings) -> Option<Resolved> {
    let client = raw.object("client");
    let subscription_token = client.object("subscription_token");
    let uni_settings =
        streaming::grpc::Settings { message_bytes_max: grpc_message_limit(raw.object("uni_grpc")) };
    Some(Resolved {
        server: http_server::resolve(raw, findings),
        rules: rules(raw),
        connection_token: token(client.object("token"), client),
        subscription_token: subscription_token.bool("enabled").then(|| token(subscription_token, client)),
        track: track(raw.object("shared_poll")),
        hooks: hooks::targets(raw, findings),
        origins: resolve_origins(client.list("allowed_origins")),
        user_header: non_empty(client.text("user_id_http_header")).map(Into::into),
        api: api(raw.object("http_api")),
        admin: admin(raw.object("admin")),
        websocket: websocket(raw.object("websocket")),
        webtransport: webtransport(raw),
        streaming: streaming(raw),
        emulation: emulation(raw),
        uni_websocket: uni_websocket(raw.object("uni_websocket")),
        uni_grpc: grpc(raw, "uni_grpc", uni_settings, findings),
        grpc_api: grpc(raw, "grpc_api", grpc_api(raw.object("grpc_api")), findings),
        health: endpoint(raw.object("health")),
        init: endpoint(raw.object("init")),
        prometheus: endpoint(raw.object("prometheus")),
        swagger: endpoint(raw.object("swagger")),
        shutdown_timeout: raw.object("shutdown").duration("timeout"),
        operation: operation(raw, findings),
        log_file: non_empty(raw.object("log").text("file")).map(Into::into),
        pid_file: non_empty(raw.text("pid_file")).map(Into::into),
        node_name: non_empty(raw.object("node").text("name")).map(Into::into),
    })
}

pub(super) fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// A path without trailing slash; none is the root.
fn prefix(text: &str) -> Box<str> {
    match text.trim_end_matches('/') {
        "" => "/".into(),
        prefix => prefix.into(),
    }
}

pub(super) fn endpoint(section: &Section) -> Option<Box<str>> {
    section.bool("enabled").then(|| prefix(section.text("handler_prefix")))
}

/// Decides by patterns over the origin in lower case; none lets no page in.
pub fn resolve_origins(patterns: &[String]) -> OriginPolicy {
    let mut builder = GlobSetBuilder::new();
    for glob in patterns.iter().filter_map(|pattern| Glob::new(&pattern.to_lowercase()).ok()) {
        builder.add(glob);
    }
    let set = builder.build().unwrap_or_default();
    OriginPolicy::new(move |origin| set.is_match(origin))
}

/// The PEM a key gives; a problem if it gives none.
pub(super) fn read_pem(
    section: &Section,
    path: &str,
    name: &str,
    findings: &mut Findings,
) -> Option<Vec<u8>> {
    match http_server::pem(section.text(name)) {
        Ok(pem) => Some(pem),
        Err(message) => {
            let fix = "give PEM, its base64, or the path of a PEM file";
            findings.problem(&format!("{path}.{name}"), message, fix);
            None
        }
    }
}

fn rules(raw: &Section) -> Rules {
    let (client, channel) = (raw.object("client"), raw.object("channel"));
    let personal = client.object("subscribe_to_user_personal_channel");
    Rules {
        limits: Limits {
            poll_concurrency: raw.object("shared_poll").size("concurrency_limit"),
            ..limits(client, channel, raw)
        },
        namespaces: namespaces(channel),
        connect: ConnectRules {
            allow_anonymous_without_token: client.bool("allow_anonymous_connect_without_token"),
            insecure: client.bool("insecure"),
            include_server_time: client.bool("connect_include_server_time"),
            personal_channel: personal.bool("enabled").then(|| PersonalChannel {
                namespace: personal.text("personal_channel_namespace").into(),
                is_single: personal.bool("single_connection"),
            }),
            unidirectional_disconnects: unidirectional_disconnects(
                client.object("connect_code_to_unidirectional_disconnect"),
            ),
        },
        rpc: hooks::rpc_rules(raw.object("rpc")),
        hooks: hooks::hook_rules(raw),
        version: VERSION.into(),
    }
}

fn unidirectional_disconnects(section: &Section) -> Vec<(u32, Disconnect)> {
    let transforms = section.objects("transforms").iter().filter(|_| section.bool("enabled"));
    transforms
        .filter_map(|transform| {
            let to = transform.object("to");
            let disconnect = Disconnect {
                code: to.int("code").try_into().ok()?,
                reason: to.text("reason").to_owned().into(),
            };
            Some((transform.int("code").try_into().ok()?, disconnect))
        })
        .collect()
}

fn limits(client: &Section, channel: &Section, raw: &Section) -> Limits {
    Limits {
        websocket_write_timeout: raw.object("websocket").duration("write_timeout"),
        uni_websocket_write_timeout: raw.object("uni_websocket").duration("write_timeout"),
        ping_interval: client.duration("ping_interval"),
        pong_timeout: client.duration("pong_timeout"),
        stale_close_delay: client.duration("stale_close_delay"),
        expired_close_delay: client.duration("expired_close_delay"),
        expired_sub_close_delay: client.duration("expired_sub_close_delay"),
        presence_update_interval: client.duration("presence_update_interval"),
        channel_position_check_delay: client.duration("channel_position_check_delay"),
        channel_limit: client.size("channel_limit"),
        channel_length_max: channel.size("max_length"),
        queue_bytes_max: client.size("queue_max_size"),
        history_publications_max: client.size("history_max_publication_limit"),
        recovery_publications_max: client.size("recovery_max_publication_limit"),
        connection_limit: client.size("connection_limit"),
        connection_rate_limit: client.size("connection_rate_limit"),
        user_connection_limit: client.size("user_connection_limit"),
        concurrency: client.size("concurrency"),
        ..Limits::default()
    }
}

fn token(token: &Section, client: &Section) -> TokenOptions {
    let regex = |name: &str| non_empty(token.text(name)).and_then(|pattern| Regex::new(pattern).ok());
    TokenOptions {
        hmac_secret_key: Secret::new(token.text("hmac_secret_key").into()),
        hmac_previous_secret_key: Secret::new(token.text("hmac_previous_secret_key").into()),
        hmac_previous_secret_key_valid_until: token.int("hmac_previous_secret_key_valid_until"),
        jwks_public_endpoint: token.text("jwks_public_endpoint").into(),
        rsa_public_key: token.text("rsa_public_key").into(),
        ecdsa_public_key: token.text("ecdsa_public_key").into(),
        ed25519_public_key: token.text("ed25519_public_key").into(),
        audience: token.text("audience").into(),
        audience_regex: regex("audience_regex"),
        issuer: token.text("issuer").into(),
        issuer_regex: regex("issuer_regex"),
        user_id_claim: token.text("user_id_claim").into(),
        leeway: token.duration("leeway"),
        skip_signature: client.bool("insecure_skip_token_signature_verify"),
        disallow_anonymous: client.bool("disallow_anonymous_connection_tokens"),
    }
}

fn track(poll: &Section) -> TrackOptions {
    TrackOptions {
        hmac_secret_key: Secret::new(poll.text("hmac_secret_key").into()),
        hmac_previous_secret_key: Secret::new(poll.text("hmac_previous_secret_key").into()),
        hmac_previous_secret_key_valid_until: poll.int("hmac_previous_secret_key_valid_until"),
    }
}

fn admin(admin: &Section) -> Option<AdminOptions> {
    admin.bool("enabled").then(|| AdminOptions {
        prefix: admin.text("handler_prefix").into(),
        password: Secret::new(admin.text("password").into()),
        secret: Secret::new(admin.text("secret").into()),
        insecure: admin.bool("insecure"),
        external: admin.bool("external"),
        web_path: admin.text("web_path").into(),
        web_proxy_address: admin.text("web_proxy_address").into(),
    })
}

fn api(api: &Section) -> ApiSettings {
    ApiSettings {
        prefix: (!api.bool("disabled")).then(|| prefix(api.text("handler_prefix"))),
        external: api.bool("external"),
        key: non_empty(api.text("key")).map(|key| Secret::new(key.into())),
        insecure: api.bool("insecure"),
        transport_errors: api.text("error_mode") == "transport",
        lists_connections: api.bool("connections"),
    }
}

/// 0 means the default.
fn message_limit(section: &Section) -> usize {
    match section.size("message_size_limit") {
        0 => 65_536,
        limit => limit,
    }
}

fn websocket(section: &Section) -> Option<WebSocketOptions> {
    (!section.bool("disabled")).then(|| WebSocketOptions {
        prefix: prefix(section.text("handler_prefix")),
        message_bytes_max: message_limit(section),
        compression: section.bool("compression").then(|| compression(section)),
    })
}

/// An inflated message may have ten times the bytes of one on the wire unless configured.
fn compression(section: &Section) -> Compression {
    let inflated = match section.size("decompressed_message_size_limit") {
        0 => message_limit(section).saturating_mul(10),
        limit => limit,
    };
    let level = match section.int("compression_level") {
        // Huffman codes only, and the default of the field.
        -2 => 1,
        -1 => 6,
        level => level.clamp(0, 9) as u8,
    };
    Compression {
        deflate: Deflate {
            level,
            bytes_min: section.size("compression_min_size").try_into().unwrap_or(u32::MAX),
            window_bits: WINDOW_BITS_MAX,
        },
        inflated_bytes_max: NonZeroU32::new(inflated.try_into().unwrap_or(u32::MAX))
            .unwrap_or(NonZeroU32::MAX),
    }
}

fn uni_websocket(section: &Section) -> Option<UniWebSocketOptions> {
    section.bool("enabled").then(|| UniWebSocketOptions {
        socket: WebSocketOptions {
            prefix: prefix(section.text("handler_prefix")),
            message_bytes_max: message_limit(section),
            compression: section.bool("compression").then(|| compression(section)),
        },
        disable_closing_handshake: section.bool("disable_closing_handshake"),
        disable_disconnect_push: section.bool("disable_disconnect_push"),
        join_push_messages: section.bool("join_push_messages"),
    })
}

/// A listener for gRPC, if it is enabled.
fn grpc<S>(raw: &Section, name: &str, settings: S, findings: &mut Findings) -> Option<GrpcOptions<S>> {
    let section = raw.object(name);
    section.bool("enabled").then(|| GrpcOptions {
        // What is no port is a problem already.
        address: address(
            section,
            name,
            "address",
            u16::try_from(section.int("port")).unwrap_or_default(),
            findings,
        ),
        proxy_protocol: proxy_protocol(
            section.object("proxy_protocol"),
            &format!("{name}.proxy_protocol"),
            findings,
        ),
        tls: tls(section.object("tls"), &format!("{name}.tls"), findings),
        settings,
    })
}

fn grpc_message_limit(section: &Section) -> usize {
    match section.size("max_receive_message_size") {
        0 => MESSAGE_BYTES_MAX,
        limit => limit,
    }
}

fn grpc_api(section: &Section) -> GrpcApiOptions {
    GrpcApiOptions {
        key: non_empty(section.text("key")).map(|key| Secret::new(key.into())),
        transport_errors: section.text("error_mode") == "transport",
        message_bytes_max: grpc_message_limit(section),
        has_reflection: section.bool("reflection"),
        lists_connections: section.bool("connections"),
    }
}

const STREAMING: [(&str, streaming::Kind); 4] = [
    ("sse", streaming::Kind::Sse),
    ("http_stream", streaming::Kind::HttpStream),
    ("uni_sse", streaming::Kind::UniSse),
    ("uni_http_stream", streaming::Kind::UniHttpStream),
];

fn streaming(raw: &Section) -> Vec<StreamingOptions> {
    let enabled = STREAMING.into_iter().filter(|(name, _)| raw.object(name).bool("enabled"));
    enabled
        .map(|(name, kind)| {
            let section = raw.object(name);
            let is_unidirectional = matches!(kind, streaming::Kind::UniSse | streaming::Kind::UniHttpStream);
            let refusals = is_unidirectional
                .then(|| section.object("connect_code_to_http_response"))
                .filter(|codes| codes.bool("enabled"));
            StreamingOptions {
                prefix: prefix(section.text("handler_prefix")),
                settings: streaming::Settings {
                    kind,
                    request_bytes_max: body_limit(section),
                    refusals: refusals.map(|codes| resolve_refusals(codes.objects("transforms"))),
                },
            }
        })
        .collect()
}

fn resolve_refusals(transforms: &[Section]) -> streaming::Refusals {
    let refusals = transforms.iter().filter_map(|transform| {
        let to = transform.object("to");
        let status = u16::try_from(to.int("status_code")).ok();
        Some(streaming::Refusal {
            code: transform.int("code").try_into().ok()?,
            status: status.and_then(|status| StatusCode::from_u16(status).ok())?,
            body: to.text("body").into(),
        })
    });
    streaming::Refusals(refusals.collect())
}

fn emulation(raw: &Section) -> Option<EmulationOptions> {
    let is_needed = raw.object("sse").bool("enabled") || raw.object("http_stream").bool("enabled");
    let section = raw.object("emulation");
    is_needed.then(|| EmulationOptions {
        prefix: prefix(section.text("handler_prefix")),
        request_bytes_max: body_limit(section),
    })
}

/// 0 means the default.
fn body_limit(section: &Section) -> usize {
    match section.size("max_request_body_size") {
        0 => 65_536,
        limit => limit,
    }
}

fn webtransport(raw: &Section) -> WebTransportOptions {
    let section = raw.object("webtransport");
    let has = |dialect: &str| section.list("dialects").iter().any(|known| known == dialect);
    WebTransportOptions {
        prefix: endpoint(section),
        unidirectional_prefix: endpoint(raw.object("uni_webtransport")),
        message_bytes_max: message_limit(section),
        dialects: Dialects { draft02: has("02"), draft07: has("07"), draft13: has("13") },
        session_limit: section.size("session_limit"),
        stream_open_timeout: section.duration("stream_open_timeout"),
        close_timeout: section.duration("close_timeout"),
        close_linger: section.duration("close_linger"),
        ascii_json: section.bool("ascii_json"),
        refused_user_agents: section.list("refused_user_agents").to_vec(),
    }
}
