//! Connections of clients and their tokens.

use super::{
    Key,
    Kind::{Duration, Int, List},
    key, object, objects, secret,
    shared::{CODE_AND_REASON, ENABLED_PROXY},
    switch, text,
};

/// Keys of `client.token` and `client.subscription_token`.
macro_rules! token {
    ($($first:expr)?) => {
        &[
            $($first,)?
            secret("hmac_secret_key", "Secret of tokens signed with HS256, HS384 or HS512."),
            secret("hmac_previous_secret_key", "Secret that is accepted as well, while keys are exchanged."),
            key(
                "hmac_previous_secret_key_valid_until",
                Int,
                "",
                "Unix time in seconds after which the previous secret is refused; 0 for never.",
            ),
            text("rsa_public_key", "Public key of tokens signed with RS256, RS384 or RS512: PEM text of a key or certificate."),
            text("ecdsa_public_key", "Public key of tokens signed with ES256, ES384 or ES512: PEM text of a key or certificate."),
            text("ed25519_public_key", "Public key of tokens signed with EdDSA (Ed25519): PEM text of a key or certificate."),
            text(
                "jwks_public_endpoint",
                "URL where public keys are published (JWKS). The other keys do not count then. `{{group}}` stands for a \
                 named group of `issuer_regex` or `audience_regex`.",
            ),
            text("audience", "`aud` that tokens must have. Not with `audience_regex`."),
            text("audience_regex", "Regular expression that an `aud` of the token must match somewhere."),
            text("issuer", "`iss` that tokens must have. Not with `issuer_regex`."),
            text("issuer_regex", "Regular expression that `iss` must match somewhere."),
            text("user_id_claim", "Claim that names the user, in place of `sub`: letters and underscores."),
            switch(
                "insecure_skip_jwks_endpoint_safety_check",
                "Allows placeholders in `jwks_public_endpoint` that could be filled with anything.",
            ),
            key("leeway", Duration, "0s", "Difference between clocks that is tolerated for `exp` and `nbf`."),
        ]
    };
}

/// What the keys of both kinds of tokens have.
pub(super) const TOKEN_KEYS: &[Key] = token!();
const TOKEN: &[Key] =
    token!(switch("enabled", "Without effect here: connection tokens are always accepted."));
const SUBSCRIPTION_TOKEN: &[Key] =
    token!(switch("enabled", "Subscription tokens have these keys; without it, those of `client.token`."));

pub(super) const CLIENT: &[Key] = &[
    key(
        "allowed_origins",
        List,
        "",
        "Patterns of the `Origin` of pages that may connect, with `*` and `?`, such as `https://*.example.com`; `*` for \
         all. If empty, only requests without `Origin` get in: those of other programs than browsers.",
    ),
    object("token", TOKEN, "How the JWTs that clients connect with are verified."),
    object("subscription_token", SUBSCRIPTION_TOKEN, "How the JWTs that clients subscribe with are verified."),
    switch("allow_anonymous_connect_without_token", "Clients without a token connect as the user with the empty id."),
    switch("disallow_anonymous_connection_tokens", "Tokens without a user are refused (3507)."),
    key(
        "ping_interval",
        Duration,
        "25s",
        "Time between two pings to a client; longer than `pong_timeout`. 0 for no pings.",
    ),
    key("pong_timeout", Duration, "8s", "A client that has not answered a ping for so long is disconnected (3012)."),
    key("expired_close_delay", Duration, "25s", "Time a client has to renew its token after it expired (3005)."),
    key("expired_sub_close_delay", Duration, "25s", "Time a client has to renew a subscription after it expired (2501)."),
    key("stale_close_delay", Duration, "10s", "Time a client has to connect successfully; then it is disconnected (3502).")
        .zero_is_default(),
    key(
        "channel_limit",
        Int,
        "128",
        "Subscriptions of one connection at most: error 106 for one more, disconnect 3505 if the server itself makes \
         more.",
    )
    .zero_is_default(),
    key(
        "queue_max_size",
        Int,
        "1048576",
        "Bytes that may wait for a client that does not read; more and it is disconnected as slow (3008).",
    )
    .zero_is_default(),
    key(
        "concurrency",
        Int,
        "",
        "Commands of one client that may wait for the application at the same time; their replies come as they are \
         ready. 0 and 1: one after another.",
    ),
    key(
        "presence_update_interval",
        Duration,
        "27s",
        "Time between two renewals of presence; positions and expiries are looked at in the same tick.",
    )
    .zero_is_default(),
    key("channel_position_check_delay", Duration, "40s", "Least time between two checks of a subscription's position."),
    key(
        "channel_position_max_time_lag",
        Duration,
        "",
        "Accepted for compatibility: lag of an engine that counts as a lost position. The memory engine has none.",
    ),
    key("connection_limit", Int, "", "Connections of this node at most (503 for one more); 0 for no limit."),
    key(
        "user_connection_limit",
        Int,
        "",
        "Connections of one user on this node at most (3504 for one more); 0 for no limit.",
    ),
    key("connection_rate_limit", Int, "", "New connections of this node a second at most (503 beyond); 0 for no limit."),
    switch("connect_include_server_time", "The reply to connect carries the server's time, in milliseconds."),
    key("history_max_publication_limit", Int, "300", "Publications in one reply to a history command at most.")
        .zero_is_default(),
    key(
        "recovery_max_publication_limit",
        Int,
        "300",
        "Publications that a client recovers when it comes back, at most; with more, it is told that it did not recover.",
    )
    .zero_is_default(),
    text(
        "user_id_http_header",
        "Header that names the user of a connection that has neither a token nor a connect hook. Only behind a proxy \
         that sets it itself.",
    ),
    switch(
        "insecure_skip_token_signature_verify",
        "Signatures of tokens are not verified; their claims still are. For tests only.",
    ),
    switch("insecure", "No token is needed, and every client may do everything. For tests only."),
    key(
        "write_delay",
        Duration,
        "",
        "Window in which messages of one connection are collected into one write; 0 for none.",
    ),
    object(
        "subscribe_to_user_personal_channel",
        &[
            switch("enabled", "Every user is subscribed to `#USER` on connect."),
            text("personal_channel_namespace", "Namespace of the channel, which is then `NAMESPACE:#USER`; it must exist."),
            switch(
                "single_connection",
                "A new connection of a user ends the others (3504). Needs `presence` in that namespace.",
            ),
        ],
        "A channel of each user's own.",
    ),
    object(
        "connect_code_to_unidirectional_disconnect",
        &[
            switch("enabled", "Translates."),
            objects(
                "transforms",
                &[
                    key("code", Int, "", "Code of the error. Needed."),
                    object("to", CODE_AND_REASON, "The disconnect in its place. Its code is needed."),
                ],
                "Which error becomes which disconnect.",
            ),
        ],
        "What unidirectional clients, which get no replies, are told when their connect fails with an error.",
    ),
    object(
        "proxy",
        &[
            object("connect", ENABLED_PROXY, "Asked when a client without a token connects: who it is."),
            object("refresh", ENABLED_PROXY, "Asked when a connection expires that the connect hook let in."),
            object("disconnect", ENABLED_PROXY, "Told when a client has left: who, after how long, code and reason."),
        ],
        "Hooks of connections: calls of the application's backend.",
    ),
];
