//! Objects that several keys have: TLS, the application's backends, Redis, PostgreSQL.

use super::{
    Key,
    Kind::{Bool, Duration, Int, List, Map, Pem, Text},
    key, object, objects, secret, switch, text,
};

/// Keys of every `proxy_protocol` object.
pub(super) const PROXY_PROTOCOL: &[Key] = &[
    switch("enabled", "Connections begin with the header."),
    key("networks", List, "", "Proxies that send it; if empty, every connection begins with it."),
    key("timeout", Duration, "5s", "Time until the whole header is there."),
];

/// Keys of every `tls` object.
pub(super) const TLS: &[Key] = &[
    switch("enabled", "Turns TLS on. Versions 1.2 and 1.3 are spoken."),
    key(
        "cert_pem",
        Pem,
        "",
        "Certificate chain, the own certificate first: PEM, its base64, or the path of a PEM file.",
    ),
    key("key_pem", Pem, "", "Private key of the certificate: PEM, its base64, or the path of a PEM file."),
    key(
        "server_ca_pem",
        Pem,
        "",
        "Authorities the peer's certificate is verified with where Gyre is the client: PEM, its base64, or a path. \
         Those of the system count without it.",
    ),
    key(
        "client_ca_pem",
        Pem,
        "",
        "Authorities of client certificates where Gyre is the server: PEM, its base64, or a path. With it, every client \
         must have a certificate of theirs.",
    ),
    switch(
        "insecure_skip_verify",
        "Trusts any certificate of the peer where Gyre is the client. For tests only.",
    ),
    text(
        "server_name",
        "Name the peer's certificate must have where Gyre is the client; the host's own without it.",
    ),
];

pub(super) const CODE_AND_REASON: &[Key] = &[
    key("code", Int, "", "Code of the disconnect; 4000–4999 are the application's."),
    text("reason", "Reason the client is told; ASCII, at most 123 bytes."),
];

const TO_ERROR: &[Key] = &[
    key("code", Int, "", "Code of the error; 400–1999 are the application's."),
    text("message", "Message of the error; ASCII, at most 123 bytes."),
    switch("temporary", "The client may try again."),
];

const STATUS_TRANSFORM: &[Key] = &[
    key("status_code", Int, "", "HTTP status of the backend's response. Needed."),
    object("to_error", TO_ERROR, "The error the client is told in its place."),
    object("to_disconnect", CODE_AND_REASON, "The disconnect the client gets in its place."),
];

const PROXY_HTTP: &[Key] = &[
    object("tls", TLS, "TLS towards the backend, for `https://`: own authorities, a client certificate."),
    key(
        "static_headers",
        Map,
        "",
        "Headers of every call. `${GYRE_VAR_…}` or `${CENTRIFUGO_VAR_…}` in a value stands for the variable of that \
         name.",
    ),
    objects(
        "status_to_code_transforms",
        STATUS_TRANSFORM,
        "What a client is told when the backend answers with a status other than 200: for each status either \
         `to_error` or `to_disconnect`. The first that matches counts.",
    ),
];

const PROXY_GRPC: &[Key] = &[
    object("tls", TLS, "TLS towards the backend."),
    text(
        "credentials_key",
        "Name of a metadata entry that every call carries and nothing a client sends replaces.",
    ),
    secret("credentials_value", "Value of that entry."),
    switch("compression", "Compresses requests with gzip."),
    key(
        "static_metadata",
        Map,
        "",
        "Metadata of every call. `${GYRE_VAR_…}` or `${CENTRIFUGO_VAR_…}` in a value stands for the variable of that \
         name.",
    ),
];

/// Keys of a proxy; `enabled` exists where a proxy is configured in its place, `name` in the list of proxies.
macro_rules! proxy {
    ($($first:expr),*) => {
        &[
            $($first,)*
            key(
                "endpoint",
                Text,
                "",
                "The backend: `http://…` or `https://…` for calls over HTTP, `grpc://host:port` or `host:port` for gRPC; \
                 `unix:/path` for a socket. Needed where the hook is used.",
            ),
            key("timeout", Duration, "1s", "Time of a whole call; a call that takes longer has failed. Not 0."),
            key(
                "concurrency_limit",
                Int,
                "",
                "Calls under way at most, and open subscription streams; 4096 and 65536 if 0. Further calls wait within \
                 their `timeout`.",
            ),
            key(
                "http_headers",
                List,
                "",
                "Names of headers of the client's own request that are passed on, such as `Cookie`. Any case.",
            ),
            key(
                "grpc_metadata",
                List,
                "",
                "Names of metadata of the client's own gRPC call that is passed on; for `uni_grpc`.",
            ),
            key(
                "emulated_headers",
                List,
                "",
                "Names of headers that the client sends in its connect command (browsers cannot set headers of \
                 WebSocket) and that are passed on. They are the client's word.",
            ),
            key("binary_encoding", Bool, "", "Data goes to the backend in base64, as `b64data`, for payloads that are no JSON."),
            key(
                "include_connection_meta",
                Bool,
                "",
                "Every call but connect carries `meta` of the connection, as its token or the connect hook gave it.",
            ),
            object("http", PROXY_HTTP, "For calls over HTTP."),
            object("grpc", PROXY_GRPC, "For calls over gRPC."),
        ]
    };
}

pub(super) const PROXY: &[Key] = proxy!();
pub(super) const ENABLED_PROXY: &[Key] = proxy!(switch("enabled", "The hook is asked."));
pub(super) const NAMED_PROXY: &[Key] = proxy!(text("name", "Name that hooks refer to. Needed."));

/// Keys of every connection to Redis, and what is the user's own behind them.
macro_rules! redis {
    ($($more:expr),* $(,)?) => {
        &[
            key(
                "address",
                List,
                "redis://127.0.0.1:6379",
                "Servers: `host:port`, `unix://path`, or a URL with the scheme `redis`, `rediss`, `redis+sentinel`, \
                 `rediss+sentinel` or `redis+cluster`, with user, password, database and options. Several are shards: \
                 channels are spread over them.",
            ),
            key("connect_timeout", Duration, "1s", "Time to establish a connection."),
            key("io_timeout", Duration, "4s", "Time for one operation; the server counts as unreachable then."),
            key("db", Int, "", "Number of the database. Not in a cluster."),
            text("user", "User name."),
            secret("password", "Password."),
            text("client_name", "Name of the connections as the server lists them."),
            switch("force_resp2", "Speaks version 2 of the protocol, for servers that do not know version 3."),
            key(
                "cluster_address",
                List,
                "",
                "Clusters: each item is a comma-separated list of `host:port` of nodes of one. Wins over `address` and \
                 Sentinel.",
            ),
            object("tls", TLS, "TLS towards the servers."),
            key("sentinel_address", List, "", "Sentinels that tell the address of the primary: `host:port`."),
            text("sentinel_user", "User name at the Sentinels."),
            secret("sentinel_password", "Password at the Sentinels."),
            text("sentinel_master_name", "Name the Sentinels know the primary by. Needed with Sentinels."),
            text("sentinel_client_name", "Name of the connections to Sentinels as they list them."),
            object("sentinel_tls", TLS, "TLS towards the Sentinels."),
            object(
                "replica_client",
                &[switch("enabled", "Reads go to replicas where that is possible.")],
                "Connections to replicas.",
            ),
            $($more,)*
        ]
    };
}
pub(super) use redis;

/// What all connections to Redis have.
pub(super) const REDIS: &[Key] = redis!();

/// Prefix of all keys in Redis.
pub(super) const REDIS_PREFIX: Key = key(
    "prefix",
    Text,
    "centrifugo",
    "Prefix of all keys and channels in Redis. Nodes that share it are one cluster.",
);

pub(super) const HISTORY_USE_LISTS: Key = switch(
    "history_use_lists",
    "Keeps history in lists instead of streams: no pagination, no idempotent publications, no reverse order.",
);

/// Keys of presence in Redis.
macro_rules! presence_keys {
    () => {
        [
            key(
                "presence_ttl",
                Duration,
                "60s",
                "How long an entry lives after its last renewal (`client.presence_update_interval`).",
            ),
            switch("presence_hash_field_ttl", "Lets Redis expire entries one by one; needs Redis 7.4."),
            switch(
                "presence_user_mapping",
                "Keeps the number of connections of each user, so that statistics are cheap.",
            ),
        ]
    };
}
pub(super) const PRESENCE: [Key; 3] = presence_keys!();

/// Keys that the outbox tables of brokers in PostgreSQL have in common.
macro_rules! postgres_broker {
    ($($more:expr),* $(,)?) => {
        &[
            secret("dsn", "Connection string, such as `postgresql://user:password@host:5432/database`. Needed."),
            object("tls", TLS, "TLS towards the server."),
            key("pool_size", Int, "16", "Connections at most."),
            key("num_shards", Int, "8", "Parts that channels are spread over; each has its own reader."),
            key("cleanup_interval", Duration, "1m", "Time between two rounds that delete what has expired."),
            key("idempotent_result_ttl", Duration, "5m", "How long the result of a publication with `idempotency_key` is kept."),
            switch("binary_data", "Payloads are bytes instead of JSON in the tables."),
            key("stream_retention", Duration, "24h", "How long entries of streams are kept at most."),
            switch("use_notify", "Readers are woken by LISTEN/NOTIFY instead of waiting for their next poll."),
            secret("notify_dsn", "Connection string for notifications, where `dsn` leads through a pool that cannot keep sessions."),
            key("table_prefix", Text, "cf", "Prefix of the names of tables."),
            switch("skip_schema_init", "Does not create tables at start: they are there already."),
            object(
                "outbox",
                &[
                    key("poll_interval", Duration, "100ms", "Time between two looks for new entries."),
                    key("batch_size", Int, "1000", "Entries read at once."),
                ],
                "How new entries are read.",
            ),
            key("partition_lookahead_days", Int, "2", "Daily partitions that are made ahead."),
            key("partition_retention_days", Int, "7", "Days after which partitions are dropped."),
            $($more,)*
        ]
    };
}
pub(super) use postgres_broker;

/// What all brokers in PostgreSQL have.
pub(super) const POSTGRES_BROKER: &[Key] = postgres_broker!();
