//! Listeners, the server API, and the process itself.

use super::{
    Key,
    Kind::{Duration, Int, List, Map, Pem, Text},
    Negative, key, object, secret,
    shared::{PROXY_PROTOCOL, TLS},
    switch, text,
};

pub(super) const HTTP_SERVER: &[Key] = &[
    text(
        "address",
        "Address to listen on: a host, an IP address, or `unix:/path` of a socket; all addresses if empty.",
    ),
    key("port", Int, "8000", "Port to listen on.").zero_is_default().negative(Negative::Allowed),
    text(
        "internal_address",
        "Address of the internal port, or `unix:/path` of a socket; that of `address` if empty.",
    ),
    text(
        "internal_port",
        "Port that the API, `admin`, `prometheus`, `health`, `swagger` and `debug` move to; clients keep the other one. \
         Without it, one port serves everything.",
    ),
    key(
        "addresses",
        List,
        "",
        "Further addresses that serve the same as the external port: `host:port`, `:port`, or `unix:/path` of a \
         socket.",
    ),
    key("internal_addresses", List, "", "Further addresses that serve the same as the internal port."),
    key("unix_socket_mode", Text, "0660", "Permissions of the files of unix sockets, octal."),
    object(
        "proxy_protocol",
        PROXY_PROTOCOL,
        "The header by which proxies of TCP tell the client's address, versions 1 and 2, on the external port.",
    ),
    key(
        "trusted_forwarders",
        List,
        "",
        "Networks of proxies whose `X-Forwarded-For` and `X-Real-IP` are believed; `unix` for those on unix sockets.",
    ),
    object("hsts", HSTS, "`Strict-Transport-Security` in responses over TLS."),
    object("tls", TLS, "TLS of both ports, unless the keys below say otherwise."),
    switch("tls_external", "TLS for the external port only; the internal one is plain text."),
    object("internal_tls", TLS, "TLS of the internal port, if it is to differ."),
    object("tls_autocert", TLS_AUTOCERT, "Certificates obtained by ACME, such as from Let's Encrypt."),
    object(
        "http3",
        &[switch(
            "enabled",
            "HTTP/3 on the UDP port of the same number; TCP responses say so with `Alt-Svc`. Needs TLS.",
        )],
        "HTTP over QUIC, which WebTransport needs.",
    ),
    switch("h2c_external", "HTTP/2 without TLS on the external port; needs an internal port of its own."),
];

const HSTS: &[Key] = &[
    switch("enabled", "Sends the header."),
    key("max_age", Duration, "8760h", "How long browsers use TLS only."),
    switch("include_subdomains", "The same for all hosts below this one."),
    switch("preload", "Agrees to be in the lists that browsers come with."),
];

const TLS_AUTOCERT: &[Key] = &[
    switch("enabled", "Obtains and renews certificates."),
    key(
        "host_whitelist",
        List,
        "",
        "Names certificates are obtained for; whatever clients ask for if empty.",
    ),
    text("cache_dir", "Folder where certificates and the account are kept over restarts."),
    text("email", "Where the authority reaches you."),
    text("server_name", "Name that is assumed for clients that give none."),
    switch("http", "Proofs over HTTP as well, at `http_addr`; other requests there are sent to HTTPS."),
    key("http_addr", Text, ":80", "Where proofs over HTTP are given: `host:port` or `:port`."),
    key(
        "directory_url",
        Text,
        "https://acme-v02.api.letsencrypt.org/directory",
        "Directory of the authority that gives certificates.",
    ),
    key("directory_ca_pem", Pem, "", "Authorities the directory is verified with, instead of the system's."),
    text("eab_key_id", "Account you have with the authority, if it asks for one."),
    secret("eab_hmac_key", "Key of that account, base64url."),
];

pub(super) const LOG: &[Key] = &[
    key(
        "level",
        Text,
        "info",
        "Least important messages that are logged; an unknown level counts as `info`.",
    )
    .one_of(&["none", "trace", "debug", "info", "warn", "error", "fatal"]),
    text("file", "File that JSON lines are appended to; without it, text goes to the standard error output."),
    key(
        "levels",
        Map,
        "",
        "Levels of parts of the server, such as `{\"hooks\": \"debug\"}`: by subsystem or by module. They win over `level`.",
    ),
];

pub(super) const NODE: &[Key] = &[
    text(
        "name",
        "Name of the node in `info` and metrics; the host's name and the port, such as `host_8000`, if empty.",
    ),
    key(
        "info_metrics_aggregate_interval",
        Duration,
        "60s",
        "Window over which the metrics in `info` of the API are counted.",
    ),
];

pub(super) const SHUTDOWN: &[Key] = &[
    key(
        "timeout",
        Duration,
        "30s",
        "How long clients and requests have to end; then the process exits with status 1.",
    ),
    key(
        "drain_window",
        Duration,
        "0s",
        "Time over which the disconnects (3001) of all clients are spread, so that they do not come back all at once; \
         below `timeout`.",
    ),
];

pub(super) const HTTP_API: &[Key] = &[
    switch("disabled", "Turns the HTTP API off."),
    key("handler_prefix", Text, "/api", "Path of the API; methods are below it."),
    secret(
        "key",
        "Key that requests must carry, in `X-API-Key`, `Authorization: apikey KEY` or `?api_key=`. Without one every \
         request is refused (401).",
    ),
    text(
        "error_mode",
        "Empty: errors come with status 200. `transport`: they come with a status of their own.",
    )
    .one_of(&["", "transport"]),
    switch("external", "Serves the API on the external port too, where there is an internal one."),
    switch("insecure", "Lets everybody in without a key. For tests only."),
    switch("connections", "Offers the method `connections`, which tells who is connected."),
];

pub(super) const GRPC_API: &[Key] = &[
    switch("enabled", "Turns the gRPC API on."),
    text("address", "Address to listen on, or `unix:/path` of a socket; all addresses if empty."),
    key("port", Int, "10000", "Port to listen on.").zero_is_default().negative(Negative::Allowed),
    secret(
        "key",
        "Key that calls must carry as metadata `authorization: apikey KEY`. Without one everybody gets in.",
    ),
    text("error_mode", "Empty: errors are part of responses. `transport`: they are statuses of calls.")
        .one_of(&["", "transport"]),
    object("tls", TLS, "TLS of this port."),
    object("proxy_protocol", PROXY_PROTOCOL, "The header by which proxies of TCP tell the client's address."),
    switch("reflection", "Tells clients which methods there are."),
    switch("connections", "Offers the method `Connections`, which tells who is connected."),
    key("max_receive_message_size", Int, "", "Bytes of a request at most; 4 MiB if 0."),
];
