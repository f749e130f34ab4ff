//! Endpoints that clients connect to.

use super::{
    Key,
    Kind::{Bool, Duration, Int, List, Text},
    Negative, key, object, objects,
    operation::endpoint,
    shared::{PROXY_PROTOCOL, TLS},
    switch, text,
};

macro_rules! websocket_options {
    ($prefix:literal, $($first:expr),* $(,)?) => {
        &[
            $($first,)*
            key("handler_prefix", Text, $prefix, "Path of the endpoint."),
            switch("compression", "Offers permessage-deflate: less traffic for more processor time and memory."),
            key("compression_min_size", Int, "", "Messages of fewer bytes are not compressed."),
            key("compression_level", Int, "1", "Effort of compression: 1 (fast) to 9 (small).").negative(Negative::Allowed),
            key("read_buffer_size", Int, "", "Accepted for compatibility: Gyre has no such buffers."),
            key("write_buffer_size", Int, "", "Accepted for compatibility: Gyre has no such buffers."),
            switch("use_write_buffer_pool", "Accepted for compatibility: Gyre has no such buffers."),
            key(
                "write_timeout",
                Duration,
                "1s",
                "A client that takes nothing at all of what waits for it for so long is given up (3009); 0 for no limit.",
            ),
            key("message_size_limit", Int, "65536", "Bytes of a message from a client at most; 0 stands for the default."),
            key(
                "decompressed_message_size_limit",
                Int,
                "",
                "Bytes of a message after decompression at most; ten times `message_size_limit` if 0.",
            ),
        ]
    };
}

macro_rules! stream_options {
    ($prefix:literal $(, $more:expr)*) => {
        &[
            switch("enabled", "Serves the endpoint."),
            key("handler_prefix", Text, $prefix, "Path of the endpoint."),
            key(
                "max_request_body_size",
                Int,
                "65536",
                "Bytes of a request's body at most (413 beyond); 0 stands for the default.",
            ),
            $($more,)*
        ]
    };
}

const CODE_TO_RESPONSE: Key = object(
    "connect_code_to_http_response",
    &[
        switch("enabled", "Translates."),
        objects(
            "transforms",
            &[
                key("code", Int, "", "Code of the error or disconnect. Needed."),
                object(
                    "to",
                    &[
                        key("status_code", Int, "", "HTTP status of the response. Needed."),
                        text("body", "Body of the response."),
                    ],
                    "The response in its place.",
                ),
            ],
            "Which code becomes which response.",
        ),
    ],
    "What is answered over HTTP when a connect fails, in place of a stream with the error.",
);

pub(super) const WEBSOCKET: &[Key] =
    websocket_options!("/connection/websocket", switch("disabled", "Turns the endpoint off."));

pub(super) const UNI_WEBSOCKET: &[Key] = websocket_options!(
    "/connection/uni_websocket",
    switch("enabled", "Serves the endpoint."),
    switch("disable_closing_handshake", "Ends connections without a close frame."),
    switch(
        "disable_disconnect_push",
        "Sends no push with code and reason before a disconnect; the close frame has both."
    ),
    switch("join_push_messages", "Joins pushes that wait into one frame, one per line, up to 64 KiB."),
);

pub(super) const WEBTRANSPORT: &[Key] = &[
    switch("enabled", "Serves the endpoint; needs `http_server.http3.enabled`."),
    key("handler_prefix", Text, "/connection/webtransport", "Path of the endpoint."),
    key(
        "message_size_limit",
        Int,
        "65536",
        "Bytes of a message from a client at most; 0 stands for the default.",
    ),
    key(
        "dialects",
        List,
        "02 07 13",
        "Drafts of WebTransport over HTTP/3 that are offered: `02`, `07` and `13`. Browsers choose the newest they know.",
    ),
    key(
        "session_limit",
        Int,
        "1",
        "Sessions of one QUIC connection at most, 1 to 256; more only for clients that pool.",
    )
    .negative(Negative::Allowed),
    key("stream_open_timeout", Duration, "10s", "Time a client has to open its stream (3502).")
        .zero_is_default(),
    key(
        "close_timeout",
        Duration,
        "3s",
        "Time a client has to acknowledge the last messages before its session closes.",
    ),
    key(
        "close_linger",
        Duration,
        "500ms",
        "Time a client has to close by itself after a disconnect was pushed.",
    ),
    key(
        "ascii_json",
        Bool,
        "true",
        "Escapes characters beyond ASCII in JSON. Clients up to centrifuge-js 5.7.3 need it: they decode each chunk \
         apart.",
    ),
    key(
        "refused_user_agents",
        List,
        "",
        "Parts of `User-Agent`: sessions of these clients are answered with 501.",
    ),
    switch(
        "pinned_certificate",
        "Serves a short-lived certificate of its own, which pages name by its hash. For development (`--dev` sets it).",
    ),
];

pub(super) const UNI_WEBTRANSPORT: &[Key] = endpoint!("/connection/uni_webtransport");
pub(super) const SSE: &[Key] = stream_options!("/connection/sse");
pub(super) const HTTP_STREAM: &[Key] = stream_options!("/connection/http_stream");
pub(super) const UNI_SSE: &[Key] = stream_options!("/connection/uni_sse", CODE_TO_RESPONSE);
pub(super) const UNI_HTTP_STREAM: &[Key] = stream_options!("/connection/uni_http_stream", CODE_TO_RESPONSE);
pub(super) const INIT: &[Key] = endpoint!("/connection/init");

pub(super) const EMULATION: &[Key] = &[
    key("handler_prefix", Text, "/emulation", "Path of the endpoint."),
    key(
        "max_request_body_size",
        Int,
        "65536",
        "Bytes of a request's body at most (413 beyond); 0 stands for the default.",
    ),
];

pub(super) const UNI_GRPC: &[Key] = &[
    switch("enabled", "Opens the port."),
    text("address", "Address to listen on, or `unix:/path` of a socket; all addresses if empty."),
    key("port", Int, "11000", "Port to listen on.").zero_is_default().negative(Negative::Allowed),
    key("max_receive_message_size", Int, "", "Bytes of a request at most; 4 MiB if 0."),
    object("tls", TLS, "TLS of this port."),
    object("proxy_protocol", PROXY_PROTOCOL, "The header by which proxies of TCP tell the client's address."),
];
