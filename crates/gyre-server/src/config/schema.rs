//! Every configuration key: its name, kind, default and meaning. Reading, environment names, hints for misspelt keys
//! and the reference all come from this table.
//!
//! Spec: centrifugal.dev, "Configure"; centrifugo `internal/configtypes/types.go`.

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// Text.
    Text,
    /// A duration such as `1m30s`.
    Duration,
    /// Texts.
    List,
    /// Texts by name: an object, or a list of `{"key", "value"}` where the case of names matters.
    Map,
    /// PEM: the text itself, its base64, or the path of a file.
    Pem,
    /// An object of keys.
    Object(&'static [Key]),
    /// A list of objects. Those with a `name` can be addressed by environment variables.
    Objects(&'static [Key]),
    /// An object that is accepted for a feature of a later release, whatever it holds.
    Opaque,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name within its object.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Default as it would be written; empty for the zero value.
    pub default: &'static str,
    /// What it is for, for keys that are not their own explanation.
    pub about: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { name, kind, default, about: "" }
}

const fn about(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, about }
}

use Kind::{Bool, Duration, Int, List, Map, Object, Objects, Opaque, Pem, Text};

const TLS: &[Key] = &[
    key("enabled", Bool, ""),
    about("cert_pem", Pem, "", "certificate chain"),
    about("key_pem", Pem, "", "private key"),
    about("server_ca_pem", Pem, "", "authorities servers are verified with (client side)"),
    about("client_ca_pem", Pem, "", "authorities of client certificates; they are then mandatory"),
    key("insecure_skip_verify", Bool, ""),
    key("server_name", Text, ""),
];

const STATUS_TRANSFORM: &[Key] = &[
    key("status_code", Int, ""),
    key(
        "to_error",
        Object(&[key("code", Int, ""), key("message", Text, ""), key("temporary", Bool, "")]),
        "",
    ),
    key("to_disconnect", Object(CODE_AND_REASON), ""),
];

const CODE_AND_REASON: &[Key] = &[key("code", Int, ""), key("reason", Text, "")];

const PROXY_HTTP: &[Key] = &[
    key("tls", Object(TLS), ""),
    about("static_headers", Map, "", "headers of every call"),
    about("status_to_code_transforms", Objects(STATUS_TRANSFORM), "", "statuses that stand for an answer"),
];

const PROXY_GRPC: &[Key] = &[
    key("tls", Object(TLS), ""),
    about("credentials_key", Text, "", "metadata that nothing replaces"),
    key("credentials_value", Text, ""),
    about("compression", Bool, "", "of questions, with gzip"),
    about("static_metadata", Map, "", "metadata of every call"),
];

/// Keys of a proxy; `enabled` exists where a proxy is configured in its place, `name` in the list of proxies.
macro_rules! proxy {
    ($($first:expr),*) => {
        &[
            $($first,)*
            about("endpoint", Text, "", "the backend: http://, https://, grpc://host:port or unix:/path"),
            about("timeout", Duration, "1s", "of a whole call"),
            about("concurrency_limit", Int, "", "calls under way, and open subscription streams; 0 for 4096 and 65536"),
            about("http_headers", List, "", "headers of the client's request that are passed on"),
            about("grpc_metadata", List, "", "metadata of the client's gRPC call that is passed on"),
            about("emulated_headers", List, "", "headers in the connect command that are passed on"),
            about("binary_encoding", Bool, "", "data in base64, as b64data"),
            about("include_connection_meta", Bool, "", "meta of the connection is sent as well"),
            key("http", Object(PROXY_HTTP), ""),
            key("grpc", Object(PROXY_GRPC), ""),
        ]
    };
}

const PROXY: &[Key] = proxy!();
const ENABLED_PROXY: &[Key] = proxy!(key("enabled", Bool, ""));
const NAMED_PROXY: &[Key] = proxy!(key("name", Text, ""));

const TOKEN: &[Key] = &[
    key("enabled", Bool, ""),
    key("hmac_secret_key", Text, ""),
    key("hmac_previous_secret_key", Text, ""),
    key("hmac_previous_secret_key_valid_until", Int, ""),
    key("rsa_public_key", Text, ""),
    key("ecdsa_public_key", Text, ""),
    about("ed25519_public_key", Text, "", "PEM public key or certificate for EdDSA"),
    about("jwks_public_endpoint", Text, "", "URL of published keys; the other keys do not count then"),
    key("audience", Text, ""),
    key("audience_regex", Text, ""),
    key("issuer", Text, ""),
    key("issuer_regex", Text, ""),
    key("user_id_claim", Text, ""),
    key("insecure_skip_jwks_endpoint_safety_check", Bool, ""),
    about("leeway", Duration, "0s", "clock difference tolerated for exp and nbf"),
];

const CLIENT: &[Key] = &[
    key("allowed_origins", List, ""),
    key("token", Object(TOKEN), ""),
    key("subscription_token", Object(TOKEN), ""),
    key("allow_anonymous_connect_without_token", Bool, ""),
    key("disallow_anonymous_connection_tokens", Bool, ""),
    key("ping_interval", Duration, "25s"),
    key("pong_timeout", Duration, "8s"),
    key("expired_close_delay", Duration, "25s"),
    key("expired_sub_close_delay", Duration, "25s"),
    key("stale_close_delay", Duration, "10s"),
    key("channel_limit", Int, "128"),
    key("queue_max_size", Int, "1048576"),
    key("concurrency", Int, ""),
    key("presence_update_interval", Duration, "27s"),
    key("channel_position_check_delay", Duration, "40s"),
    key("channel_position_max_time_lag", Duration, ""),
    key("connection_limit", Int, ""),
    key("user_connection_limit", Int, ""),
    key("connection_rate_limit", Int, ""),
    key("connect_include_server_time", Bool, ""),
    key("history_max_publication_limit", Int, "300"),
    key("recovery_max_publication_limit", Int, "300"),
    key("user_id_http_header", Text, ""),
    key("insecure_skip_token_signature_verify", Bool, ""),
    key("insecure", Bool, ""),
    about("write_delay", Duration, "", "window in which messages of one connection are collected"),
    key(
        "subscribe_to_user_personal_channel",
        Object(&[
            key("enabled", Bool, ""),
            key("personal_channel_namespace", Text, ""),
            key("single_connection", Bool, ""),
        ]),
        "",
    ),
    key(
        "connect_code_to_unidirectional_disconnect",
        Object(&[
            key("enabled", Bool, ""),
            key("transforms", Objects(&[key("code", Int, ""), key("to", Object(CODE_AND_REASON), "")]), ""),
        ]),
        "",
    ),
    key(
        "proxy",
        Object(&[
            key("connect", Object(ENABLED_PROXY), ""),
            key("refresh", Object(ENABLED_PROXY), ""),
            about("disconnect", Object(ENABLED_PROXY), "", "told when a client has left"),
        ]),
        "",
    ),
];

const MAP_OPTIONS: &[Key] = &[
    key("mode", Text, ""),
    key("key_ttl", Duration, ""),
    key("stream_size", Int, ""),
    key("stream_ttl", Duration, ""),
    key("meta_ttl", Duration, ""),
    about("ordered", Bool, "", "pages of state by score instead of key"),
    key("remove_client_on_unsubscribe", Bool, ""),
    key("client_key", Text, ""),
    key("allow_publish_for_client", Bool, ""),
    key("allow_publish_for_subscriber", Bool, ""),
    key("allow_publish_for_anonymous", Bool, ""),
    key("allow_remove_for_client", Bool, ""),
    key("allow_remove_for_subscriber", Bool, ""),
    key("allow_remove_for_anonymous", Bool, ""),
    key("publish_proxy_enabled", Bool, ""),
    key("publish_proxy_name", Text, "default"),
    key("remove_proxy_enabled", Bool, ""),
    key("remove_proxy_name", Text, "default"),
    key("default_page_size", Int, ""),
    key("min_page_size", Int, ""),
    key("max_page_size", Int, ""),
    key("live_transition_max_publication_limit", Int, ""),
    about(
        "subscribe_catch_up_timeout",
        Text,
        "5s",
        "from the first page to going live (3008); negative for no limit",
    ),
];

const SHARED_POLL_OPTIONS: &[Key] = &[
    key("proxy_name", Text, "default"),
    key("refresh_interval", Duration, ""),
    key("refresh_batch_size", Int, ""),
    key("max_keys_per_connection", Int, ""),
    key("mode", Text, ""),
    key("channel_shutdown_delay", Duration, ""),
    key("track_expired_extra_delay", Duration, ""),
    key("publish_enabled", Bool, ""),
];

macro_rules! channel_options {
    ($($first:expr),*) => {
        &[
            $($first,)*
            key("presence", Bool, ""),
            key("join_leave", Bool, ""),
            key("force_push_join_leave", Bool, ""),
            key("history_size", Int, ""),
            key("history_ttl", Duration, ""),
            key("history_meta_ttl", Duration, ""),
            key("force_positioning", Bool, ""),
            key("allow_positioning", Bool, ""),
            key("force_recovery", Bool, ""),
            key("allow_recovery", Bool, ""),
            key("force_recovery_mode", Text, ""),
            key("auto_cache_recover", Bool, ""),
            key("allowed_delta_types", List, ""),
            key("delta_publish", Bool, ""),
            key("allow_tags_filter", Bool, ""),
            key("allow_channel_compaction", Bool, ""),
            key("allow_subscribe_for_client", Bool, ""),
            key("allow_subscribe_for_anonymous", Bool, ""),
            key("allow_publish_for_client", Bool, ""),
            key("allow_publish_for_subscriber", Bool, ""),
            key("allow_publish_for_anonymous", Bool, ""),
            key("allow_presence_for_client", Bool, ""),
            key("allow_presence_for_subscriber", Bool, ""),
            key("allow_presence_for_anonymous", Bool, ""),
            key("allow_history_for_client", Bool, ""),
            key("allow_history_for_subscriber", Bool, ""),
            key("allow_history_for_anonymous", Bool, ""),
            key("allow_user_limited_channels", Bool, ""),
            key("channel_regex", Text, ""),
            key("publication_data_format", Text, ""),
            key("subscribe_proxy_enabled", Bool, ""),
            key("subscribe_proxy_name", Text, "default"),
            key("publish_proxy_enabled", Bool, ""),
            key("publish_proxy_name", Text, "default"),
            key("sub_refresh_proxy_enabled", Bool, ""),
            key("sub_refresh_proxy_name", Text, "default"),
            key("subscribe_stream_proxy_enabled", Bool, ""),
            key("subscribe_stream_proxy_name", Text, "default"),
            key("subscribe_stream_proxy_bidirectional", Bool, ""),
            about("cache_empty_proxy_enabled", Bool, "", "told when there is nothing to recover in cache mode"),
            key("cache_empty_proxy_name", Text, "default"),
            about("state_proxy_enabled", Bool, "", "told of first and last subscribers"),
            key("state_proxy_name", Text, "default"),
            key("subscription_type", Text, ""),
            key("map_clients_presence_channel_prefix", Text, ""),
            key("map_users_presence_channel_prefix", Text, ""),
            key("map", Object(MAP_OPTIONS), ""),
            key("shared_poll", Object(SHARED_POLL_OPTIONS), ""),
        ]
    };
}

/// Keys of `channel.without_namespace`.
pub const CHANNEL_OPTIONS: &[Key] = channel_options!();
/// Keys of one of `channel.namespaces`.
pub const NAMESPACE: &[Key] = channel_options!(key("name", Text, ""), key("pattern", Text, ""));

const CHANNEL: &[Key] = &[
    key("without_namespace", Object(CHANNEL_OPTIONS), ""),
    key("namespaces", Objects(NAMESPACE), ""),
    key("patterns", Bool, "false"),
    key(
        "proxy",
        Object(&[
            key("subscribe", Object(PROXY), ""),
            key("publish", Object(PROXY), ""),
            key("sub_refresh", Object(PROXY), ""),
            key("subscribe_stream", Object(PROXY), ""),
            key("map_publish", Object(PROXY), ""),
            key("map_remove", Object(PROXY), ""),
            key("shared_poll_refresh", Object(PROXY), ""),
            key("cache_empty", Object(PROXY), ""),
            key("state", Object(PROXY), ""),
        ]),
        "",
    ),
    about("vacated_delay", Duration, "1s", "without subscribers until a channel is reported as vacated"),
    key("history_meta_ttl", Duration, "720h"),
    key("publication_data_format", Text, ""),
    key("max_length", Int, "255"),
    key("private_prefix", Text, "$"),
    key("namespace_boundary", Text, ":"),
    key("user_boundary", Text, "#"),
    key("user_separator", Text, ","),
];

const RPC_OPTIONS: &[Key] = &[key("proxy_enabled", Bool, ""), key("proxy_name", Text, "default")];
const RPC_NAMESPACE: &[Key] =
    &[key("name", Text, ""), key("proxy_enabled", Bool, ""), key("proxy_name", Text, "default")];

const RPC: &[Key] = &[
    key("proxy", Object(PROXY), ""),
    key("without_namespace", Object(RPC_OPTIONS), ""),
    key("namespaces", Objects(RPC_NAMESPACE), ""),
    key("ping", Object(&[key("enabled", Bool, ""), key("method", Text, "ping")]), ""),
    key("namespace_boundary", Text, ":"),
];

const HTTP_SERVER: &[Key] = &[
    about("address", Text, "", "host to listen on; empty for all addresses"),
    key("port", Int, "8000"),
    about("internal_address", Text, "", "host of the internal port"),
    about("internal_port", Text, "", "where API, admin, metrics and health move"),
    key("tls", Object(TLS), ""),
    about("tls_external", Bool, "", "TLS for the external port only"),
    about("internal_tls", Object(TLS), "", "TLS of the internal port"),
    key(
        "tls_autocert",
        Object(&[
            key("enabled", Bool, ""),
            key("host_whitelist", List, ""),
            key("cache_dir", Text, ""),
            key("email", Text, ""),
            key("server_name", Text, ""),
            key("http", Bool, ""),
            key("http_addr", Text, ":80"),
        ]),
        "",
    ),
    about("http3", Object(&[key("enabled", Bool, "")]), "", "HTTP/3 on the UDP port of the same number"),
    key("h2c_external", Bool, ""),
];

macro_rules! websocket_options {
    ($prefix:literal, $($first:expr),*) => {
        &[
            $($first,)*
            key("handler_prefix", Text, $prefix),
            key("compression", Bool, ""),
            key("compression_min_size", Int, ""),
            key("compression_level", Int, "1"),
            key("read_buffer_size", Int, ""),
            key("write_buffer_size", Int, ""),
            key("use_write_buffer_pool", Bool, ""),
            key("write_timeout", Duration, "1s"),
            key("message_size_limit", Int, "65536"),
            key("decompressed_message_size_limit", Int, ""),
        ]
    };
}

macro_rules! stream_options {
    ($prefix:literal $(, $more:expr)*) => {
        &[
            key("enabled", Bool, ""),
            key("handler_prefix", Text, $prefix),
            key("max_request_body_size", Int, "65536"),
            $($more,)*
        ]
    };
}

macro_rules! endpoint {
    ($prefix:literal $(, $more:expr)*) => {
        &[key("enabled", Bool, ""), key("handler_prefix", Text, $prefix), $($more,)*]
    };
}

const CODE_TO_RESPONSE: Key = key(
    "connect_code_to_http_response",
    Object(&[
        key("enabled", Bool, ""),
        key(
            "transforms",
            Objects(&[
                key("code", Int, ""),
                key("to", Object(&[key("status_code", Int, ""), key("body", Text, "")]), ""),
            ]),
            "",
        ),
    ]),
    "",
);

const WEBTRANSPORT: &[Key] = &[
    key("enabled", Bool, ""),
    key("handler_prefix", Text, "/connection/webtransport"),
    key("message_size_limit", Int, "65536"),
    about("dialects", List, "02 07 13", "drafts offered"),
    about("session_limit", Int, "1", "sessions of one QUIC connection, 256 at most"),
    about("stream_open_timeout", Duration, "10s", "for the client to open its stream (3502)"),
    about("close_timeout", Duration, "3s", "for the acknowledgement of the last messages"),
    about("close_linger", Duration, "500ms", "for the client's own close after a disconnect"),
    about("ascii_json", Bool, "true", "escape non-ASCII characters, for SDKs up to 5.7.3"),
    about("refused_user_agents", List, "", "parts of user agents answered with 501"),
    about("pinned_certificate", Bool, "", "serve an own short-lived certificate pinned by its hash"),
];

const CONSUMER: &[Key] = &[
    key("name", Text, ""),
    key("type", Text, ""),
    key("enabled", Bool, ""),
    key("postgresql", Opaque, ""),
    key("kafka", Opaque, ""),
    key("nats_jetstream", Opaque, ""),
    key("redis_stream", Opaque, ""),
    key("google_pub_sub", Opaque, ""),
    key("aws_sqs", Opaque, ""),
    key("azure_service_bus", Opaque, ""),
];

/// The keys at the top.
pub const ROOT: &[Key] = &[
    key("http_server", Object(HTTP_SERVER), ""),
    key(
        "log",
        Object(&[
            key("level", Text, "info"),
            key("file", Text, ""),
            about("levels", Map, "", "levels of parts of the server, by subsystem or module"),
        ]),
        "",
    ),
    key("pid_file", Text, ""),
    key(
        "node",
        Object(&[key("name", Text, ""), key("info_metrics_aggregate_interval", Duration, "60s")]),
        "",
    ),
    key(
        "shutdown",
        Object(&[
            key("timeout", Duration, "30s"),
            about("drain_window", Duration, "0s", "over which disconnects are spread; below the timeout"),
        ]),
        "",
    ),
    key("enable_unreleased_features", Bool, ""),
    about("usage_stats", Object(&[key("disabled", Bool, "")]), "", "nothing is ever sent"),
    key("engine", Object(&[key("type", Text, "memory"), key("redis", Opaque, "")]), ""),
    key(
        "broker",
        Object(&[
            key("enabled", Bool, ""),
            key("type", Text, "memory"),
            key("redis", Opaque, ""),
            key("nats", Opaque, ""),
            key("postgres", Opaque, ""),
        ]),
        "",
    ),
    key(
        "presence_manager",
        Object(&[key("enabled", Bool, ""), key("type", Text, "memory"), key("redis", Opaque, "")]),
        "",
    ),
    key(
        "map_broker",
        Object(&[key("type", Text, "memory"), key("redis", Opaque, ""), key("postgres", Opaque, "")]),
        "",
    ),
    key(
        "controller",
        Object(&[key("enabled", Bool, ""), key("type", Text, ""), key("postgres", Opaque, "")]),
        "",
    ),
    key("client", Object(CLIENT), ""),
    key("channel", Object(CHANNEL), ""),
    key("rpc", Object(RPC), ""),
    key(
        "shared_poll",
        Object(&[
            key("hmac_secret_key", Text, ""),
            key("hmac_previous_secret_key", Text, ""),
            key("hmac_previous_secret_key_valid_until", Int, ""),
            key("concurrency_limit", Int, ""),
        ]),
        "",
    ),
    key("proxies", Objects(NAMED_PROXY), ""),
    key(
        "http_api",
        Object(&[
            key("disabled", Bool, ""),
            key("handler_prefix", Text, "/api"),
            key("key", Text, ""),
            key("error_mode", Text, ""),
            key("external", Bool, ""),
            key("insecure", Bool, ""),
        ]),
        "",
    ),
    key(
        "grpc_api",
        Object(&[
            key("enabled", Bool, ""),
            key("address", Text, ""),
            key("port", Int, "10000"),
            about("key", Text, "", "without one everybody gets in"),
            about("error_mode", Text, "", "transport: errors are statuses of calls"),
            key("tls", Object(TLS), ""),
            key("reflection", Bool, ""),
            about("max_receive_message_size", Int, "", "bytes of a request, 4 MiB if 0"),
        ]),
        "",
    ),
    key("consumers", Objects(CONSUMER), ""),
    key("websocket", Object(websocket_options!("/connection/websocket", key("disabled", Bool, ""))), ""),
    key("webtransport", Object(WEBTRANSPORT), ""),
    key("sse", Object(stream_options!("/connection/sse")), ""),
    key("http_stream", Object(stream_options!("/connection/http_stream")), ""),
    key(
        "emulation",
        Object(&[key("handler_prefix", Text, "/emulation"), key("max_request_body_size", Int, "65536")]),
        "",
    ),
    key(
        "uni_websocket",
        Object(websocket_options!(
            "/connection/uni_websocket",
            key("enabled", Bool, ""),
            key("disable_closing_handshake", Bool, ""),
            key("disable_disconnect_push", Bool, ""),
            key("join_push_messages", Bool, "")
        )),
        "",
    ),
    key("uni_sse", Object(stream_options!("/connection/uni_sse", CODE_TO_RESPONSE)), ""),
    key("uni_http_stream", Object(stream_options!("/connection/uni_http_stream", CODE_TO_RESPONSE)), ""),
    about(
        "uni_webtransport",
        Object(endpoint!("/connection/uni_webtransport")),
        "",
        "a stream of pushes opened by the server; what else is set comes from `webtransport`",
    ),
    key(
        "uni_grpc",
        Object(&[
            key("enabled", Bool, ""),
            key("address", Text, ""),
            key("port", Int, "11000"),
            key("max_receive_message_size", Int, ""),
            key("tls", Object(TLS), ""),
        ]),
        "",
    ),
    key("init", Object(endpoint!("/connection/init")), ""),
    key(
        "admin",
        Object(endpoint!(
            "",
            key("password", Text, ""),
            key("secret", Text, ""),
            key("insecure", Bool, ""),
            key("web_path", Text, ""),
            key("web_proxy_address", Text, ""),
            key("external", Bool, "")
        )),
        "",
    ),
    key(
        "prometheus",
        Object(endpoint!(
            "/metrics",
            key("instrument_http_handlers", Bool, ""),
            key("recovered_publications_histogram", Bool, ""),
            key("native_histograms", Bool, "")
        )),
        "",
    ),
    key("health", Object(endpoint!("/health")), ""),
    key("swagger", Object(endpoint!("/swagger")), ""),
    key("debug", Object(endpoint!("/debug/pprof")), ""),
    key(
        "opentelemetry",
        Object(&[
            key("enabled", Bool, ""),
            key("api", Bool, ""),
            key("consuming", Bool, ""),
            key("google_cloud_adc_auth", Bool, ""),
        ]),
        "",
    ),
    key(
        "graphite",
        Object(&[
            key("enabled", Bool, ""),
            key("host", Text, "localhost"),
            key("port", Int, "2003"),
            key("prefix", Text, "centrifugo"),
            key("interval", Duration, "10s"),
            key("tags", Bool, ""),
        ]),
        "",
    ),
];
