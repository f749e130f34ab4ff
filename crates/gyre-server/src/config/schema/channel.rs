//! Channels and their namespaces, calls, and shared polls.

use super::{
    Key,
    Kind::{Duration, Int, List, Text},
    Negative, key, object, objects, secret,
    shared::PROXY,
    switch, text,
};

const MAP_OPTIONS: &[Key] = &[
    text(
        "mode",
        "`ephemeral`: keys expire, no stream of changes. `recoverable`: keys expire, clients that come back catch up by \
         the stream. `persistent`: keys stay. Needed for maps.",
    )
    .one_of(&["ephemeral", "recoverable", "persistent"]),
    key("key_ttl", Duration, "", "How long a key lives after its last publication: whole of `ephemeral` and `recoverable` maps, not of persistent ones."),
    key("stream_size", Int, "", "Changes kept for clients that come back; 100 if 0. Not for `ephemeral`.").negative(Negative::Refused),
    key("stream_ttl", Duration, "", "How long changes are kept; 1 minute if 0. Not for `ephemeral`."),
    key(
        "meta_ttl",
        Duration,
        "",
        "How long position and epoch of a map outlive its last change; ten times `stream_ttl` if 0. Not for `ephemeral`.",
    ),
    switch("ordered", "Pages of state come by score instead of key."),
    switch("remove_client_on_unsubscribe", "The key of a client that unsubscribes is removed at once, not when it expires."),
    text("client_key", "The server names the key of what clients publish: their `client_id` or `user_id`. Not with map hooks.")
        .one_of(&["", "client_id", "user_id"]),
    switch("allow_publish_for_client", "Every client with a user may publish keys."),
    switch("allow_publish_for_subscriber", "Subscribers may publish keys."),
    switch("allow_publish_for_anonymous", "The two above count for clients without a user as well."),
    switch("allow_remove_for_client", "Every client with a user may remove keys."),
    switch("allow_remove_for_subscriber", "Subscribers may remove keys."),
    switch("allow_remove_for_anonymous", "The two above count for clients without a user as well."),
    switch("publish_proxy_enabled", "The application decides over each publication of a key."),
    key("publish_proxy_name", Text, "default", "The backend: one of `proxies`, or `default` for `channel.proxy.map_publish`."),
    switch("remove_proxy_enabled", "The application decides over each removal of a key."),
    key("remove_proxy_name", Text, "default", "The backend: one of `proxies`, or `default` for `channel.proxy.map_remove`."),
    key("default_page_size", Int, "", "Entries of a page of state where the client asks for no number; 100 if 0.").negative(Negative::Refused),
    key("min_page_size", Int, "", "Least entries of a page, but for the last; 100 if 0.").negative(Negative::Refused),
    key("max_page_size", Int, "", "Most entries of a page; 1000 if 0.").negative(Negative::Refused),
    key(
        "live_transition_max_publication_limit",
        Int,
        "",
        "Changes that may come while a client reads the last page; `max_page_size` if 0.",
    )
    .negative(Negative::Refused),
    key(
        "subscribe_catch_up_timeout",
        Text,
        "5s",
        "Time from the first page to going live (3008); negative for no limit.",
    ),
];

const SHARED_POLL_OPTIONS: &[Key] = &[
    key("proxy_name", Text, "default", "The backend: one of `proxies`, or `default` for `channel.proxy.shared_poll_refresh`."),
    key("refresh_interval", Duration, "", "Time between two polls of a channel's keys; 10 seconds if 0."),
    key("refresh_batch_size", Int, "", "Keys of one call of the backend at most; 1000 if 0."),
    key("max_keys_per_connection", Int, "", "Keys one client may track in a channel; 5000 if 0."),
    text(
        "mode",
        "`versionless` (also if empty): changes are found by comparing data. `versioned`: the backend gives versions.",
    )
    .one_of(&["", "versionless", "versioned"]),
    key("channel_shutdown_delay", Duration, "", "How long polling goes on after the last client left; 1 second if 0."),
    key("track_expired_extra_delay", Duration, "", "How long a key stays tracked after its signature expired; 25 seconds if 0."),
    switch("publish_enabled", "The API may publish keys between two polls. Needs `versioned`."),
];

macro_rules! channel_options {
    ($($first:expr),* $(,)?) => {
        &[
            $($first,)*
            switch("presence", "Keeps who is in a channel: for the presence and presence_stats commands."),
            switch("join_leave", "Tells subscribers who comes and goes, where they ask for it."),
            switch("force_push_join_leave", "Tells all subscribers who comes and goes, without their asking."),
            key("history_size", Int, "", "Publications kept at most. With `history_ttl` it turns history on: both or none."),
            key("history_ttl", Duration, "", "How long publications are kept: whole seconds."),
            key(
                "history_meta_ttl",
                Duration,
                "",
                "How long position and epoch of a channel outlive its last publication: whole seconds, not below \
                 `history_ttl`; `channel.history_meta_ttl` if 0.",
            ),
            switch("force_positioning", "Every subscription knows its position: a client that lost messages is told (2500)."),
            switch("allow_positioning", "Clients may ask for the same."),
            switch("force_recovery", "Clients that come back get what they missed. Needs history."),
            switch("allow_recovery", "Clients may ask for the same. Needs history."),
            text("force_recovery_mode", "`stream` (also if empty): all that was missed. `cache`: the newest publication only.")
                .one_of(&["", "stream", "cache"]),
            switch(
                "auto_cache_recover",
                "Every subscription starts with the newest publication. Needs `force_recovery` in mode `cache`.",
            ),
            key("allowed_delta_types", List, "", "Deltas that clients may negotiate: `fossil` is known."),
            switch("delta_publish", "Publications are sent as deltas to clients that negotiated them, without the API's asking."),
            switch("allow_tags_filter", "Clients may subscribe with a filter over tags of publications."),
            switch("allow_channel_compaction", "Clients may have a number stand for the channel's name in pushes."),
            switch("allow_subscribe_for_client", "Every client with a user may subscribe without a token."),
            switch("allow_subscribe_for_anonymous", "The same counts for clients without a user."),
            switch("allow_publish_for_client", "Every client with a user may publish."),
            switch("allow_publish_for_subscriber", "Subscribers may publish."),
            switch("allow_publish_for_anonymous", "The two above count for clients without a user as well."),
            switch("allow_presence_for_client", "Every client with a user may ask who is in a channel. Needs `presence`."),
            switch("allow_presence_for_subscriber", "Subscribers may. Needs `presence`."),
            switch("allow_presence_for_anonymous", "The two above count for clients without a user as well."),
            switch("allow_history_for_client", "Every client with a user may read history. Needs history."),
            switch("allow_history_for_subscriber", "Subscribers may. Needs history."),
            switch("allow_history_for_anonymous", "The two above count for clients without a user as well."),
            switch(
                "allow_user_limited_channels",
                "Users named in a channel behind `channel.user_boundary`, such as `dialog#42,43`, may subscribe, and \
                 nobody else.",
            ),
            text("channel_regex", "Regular expression that names must match, without their namespace. With it, names beyond ASCII are allowed."),
            text(
                "publication_data_format",
                "What data must be: `json`, `json_object` or `binary` (anything, even nothing); \
                 `channel.publication_data_format` if empty.",
            )
            .one_of(&["", "json", "json_object", "binary"]),
            switch("subscribe_proxy_enabled", "The application decides over each subscription."),
            key("subscribe_proxy_name", Text, "default", "The backend: one of `proxies`, or `default` for `channel.proxy.subscribe`."),
            switch("publish_proxy_enabled", "The application decides over each publication of a client."),
            key("publish_proxy_name", Text, "default", "The backend: one of `proxies`, or `default` for `channel.proxy.publish`."),
            switch("sub_refresh_proxy_enabled", "The application prolongs subscriptions that expire."),
            key("sub_refresh_proxy_name", Text, "default", "The backend: one of `proxies`, or `default` for `channel.proxy.sub_refresh`."),
            switch("subscribe_stream_proxy_enabled", "Each subscription is a stream from the application, over gRPC. Not with the three hooks above."),
            key("subscribe_stream_proxy_name", Text, "default", "The backend: one of `proxies`, or `default` for `channel.proxy.subscribe_stream`."),
            switch("subscribe_stream_proxy_bidirectional", "What the client publishes goes into that stream."),
            switch(
                "cache_empty_proxy_enabled",
                "The application is told when there is nothing to recover in cache mode, and may publish it.",
            ),
            key("cache_empty_proxy_name", Text, "default", "The backend: one of `proxies`, or `default` for `channel.proxy.cache_empty`."),
            switch("state_proxy_enabled", "The application is told when a channel gets its first and loses its last subscriber."),
            key("state_proxy_name", Text, "default", "The backend: one of `proxies`, or `default` for `channel.proxy.state`."),
            text(
                "subscription_type",
                "What channels are: `stream` (also if empty), `map`, `map_clients` and `map_users` (presence kept as a \
                 map), or `shared_poll`.",
            )
            .one_of(&["", "stream", "map", "map_clients", "map_users", "shared_poll"]),
            text(
                "map_clients_presence_channel_prefix",
                "Presence by connection is kept in the map channel of this prefix and the channel's name; the prefix \
                 names a namespace of type `map_clients`.",
            ),
            text("map_users_presence_channel_prefix", "The same by user, in a namespace of type `map_users`."),
            object("map", MAP_OPTIONS, "Options of maps."),
            object("shared_poll", SHARED_POLL_OPTIONS, "Options of shared polls."),
        ]
    };
}

/// Keys of `channel.without_namespace`.
pub const CHANNEL_OPTIONS: &[Key] = channel_options!();
/// Keys of one of `channel.namespaces`.
const NAMESPACE: &[Key] = channel_options!(
    text("name", "Name of the namespace: what stands before `channel.namespace_boundary`. Needed."),
    text(
        "pattern",
        "Pattern of names that begin with `/` and belong to this namespace, such as `/users/:name`. Needs \
         `channel.patterns`.",
    ),
);

pub(super) const CHANNEL: &[Key] = &[
    object("without_namespace", CHANNEL_OPTIONS, "Options of channels whose name has no namespace."),
    objects(
        "namespaces",
        NAMESPACE,
        "Options of channels by namespace. Names are unique, at least two characters of `a-z`, `A-Z`, `0-9`, `-`, `_` \
         and `.`.",
    ),
    switch("patterns", "Namespaces may have a `pattern`; names that begin with `/` belong to the one they match."),
    object(
        "proxy",
        &[
            object("subscribe", PROXY, "Asked whether a client may subscribe."),
            object("publish", PROXY, "Asked whether a client may publish, and what."),
            object("sub_refresh", PROXY, "Asked whether a subscription that expires goes on."),
            object("subscribe_stream", PROXY, "The application's stream that a subscription is; gRPC only."),
            object("map_publish", PROXY, "Asked whether a client may publish a key of a map."),
            object("map_remove", PROXY, "Asked whether a client may remove a key of a map."),
            object("shared_poll_refresh", PROXY, "Asked for the data of keys of shared polls."),
            object("cache_empty", PROXY, "Told when a channel has nothing to recover in cache mode."),
            object("state", PROXY, "Told when channels become occupied and vacated."),
        ],
        "Hooks of channels by kind: the backends that the name `default` stands for.",
    ),
    key("vacated_delay", Duration, "1s", "How long a channel is without subscribers until it is reported as vacated."),
    key(
        "history_meta_ttl",
        Duration,
        "720h",
        "How long position and epoch of a channel outlive its last publication: whole seconds, not below any \
         `history_ttl`.",
    )
    .zero_is_default(),
    text(
        "publication_data_format",
        "What data must be everywhere: `json`, `json_object` or `binary` (anything, even nothing); anything but nothing \
         if empty.",
    )
    .one_of(&["", "json", "json_object", "binary"]),
    key("max_length", Int, "255", "Bytes of a channel's name at most (error 107 beyond).").zero_is_default(),
    key("private_prefix", Text, "$", "Channels whose name starts with it need a subscription token. Empty for none."),
    key("namespace_boundary", Text, ":", "What ends the namespace in a channel's name. Empty for no namespaces."),
    key("user_boundary", Text, "#", "What stands before the users in the name of a user-limited channel. Empty for none."),
    key("user_separator", Text, ",", "What stands between those users."),
];

const RPC_OPTIONS: &[Key] = &[
    switch("proxy_enabled", "The application answers calls."),
    key("proxy_name", Text, "default", "The backend: one of `proxies`, or `default` for `rpc.proxy`."),
];

const RPC_NAMESPACE: &[Key] = &[
    text("name", "Name of the namespace: what stands before `rpc.namespace_boundary` in a method. Needed."),
    RPC_OPTIONS[0],
    RPC_OPTIONS[1],
];

pub(super) const RPC: &[Key] = &[
    object("proxy", PROXY, "The backend that the name `default` stands for."),
    object("without_namespace", RPC_OPTIONS, "Methods whose name has no namespace."),
    objects("namespaces", RPC_NAMESPACE, "Methods by namespace; names as those of `channel.namespaces`."),
    object(
        "ping",
        &[
            switch("enabled", "Answers a method that does nothing, for clients that measure."),
            key("method", Text, "ping", "Name of the method."),
        ],
        "A method of the server's own.",
    ),
    key("namespace_boundary", Text, ":", "What ends the namespace in a method's name."),
];

pub(super) const SHARED_POLL: &[Key] = &[
    secret(
        "hmac_secret_key",
        "Secret of the signatures that allow clients to track keys. Needed where there are shared polls.",
    ),
    secret("hmac_previous_secret_key", "Secret that is accepted as well, while keys are exchanged."),
    key(
        "hmac_previous_secret_key_valid_until",
        Int,
        "",
        "Unix time in seconds after which the previous secret is refused; 0 for never.",
    ),
    key("concurrency_limit", Int, "", "Calls of backends on their way at once; 64 if 0."),
];
