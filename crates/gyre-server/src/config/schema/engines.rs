//! Engines and what can be taken apart from them.

use super::{
    Key,
    Kind::{Duration, Int, List, Map, Text},
    key, object, secret,
    shared::{HISTORY_USE_LISTS, PRESENCE, REDIS_PREFIX, TLS, postgres_broker, redis},
    switch, text,
};

const ENGINE_REDIS: &[Key] = redis!(REDIS_PREFIX, HISTORY_USE_LISTS, PRESENCE[0], PRESENCE[1], PRESENCE[2]);
const BROKER_REDIS: &[Key] = redis!(REDIS_PREFIX, HISTORY_USE_LISTS);
const PRESENCE_REDIS: &[Key] = redis!(REDIS_PREFIX, PRESENCE[0], PRESENCE[1], PRESENCE[2]);
const MAP_REDIS: &[Key] = redis!(
    REDIS_PREFIX,
    key("cleanup_interval", Duration, "1s", "Time between two rounds that remove keys that have expired."),
    key("cleanup_batch_size", Int, "100", "Keys removed in one round at most."),
    key(
        "idempotent_result_ttl",
        Duration,
        "5m",
        "How long the result of a publication with `idempotency_key` is kept."
    ),
    switch("skip_pub_sub", "Does not tell other nodes: clients read state only."),
);

const NATS: &[Key] = &[
    key("prefix", Text, "centrifugo", "Prefix of all subjects."),
    key(
        "url",
        Text,
        "nats://localhost:4222",
        "URL of the server, with user and password; several separated by commas.",
    ),
    key("dial_timeout", Duration, "1s", "Time to establish a connection."),
    key("write_timeout", Duration, "1s", "Time for one write."),
    object("tls", TLS, "TLS towards the server."),
    switch("allow_wildcards", "Clients may subscribe to patterns of subjects."),
    object(
        "raw_mode",
        &[
            switch("enabled", "Channels are subjects as they are, and messages are data as it is."),
            key("channel_replacements", Map, "", "What is replaced in a channel's name to make the subject."),
            key("prefix", Text, "", "Prefix of subjects in raw mode."),
        ],
        "Messages of other programs.",
    ),
];

const CONTROLLER_POSTGRES: &[Key] = &[
    secret("dsn", "Connection string. Needed."),
    object("tls", TLS, "TLS towards the server."),
    key("pool_size", Int, "8", "Connections at most."),
    key("num_shards", Int, "1", "Parts that messages are spread over; each has its own reader."),
    key("table_prefix", Text, "cf", "Prefix of the names of tables."),
    key("poll_interval", Duration, "50ms", "Time between two looks for new messages."),
    switch("use_notify", "Readers are woken by LISTEN/NOTIFY instead of waiting for their next poll."),
    secret(
        "notify_dsn",
        "Connection string for notifications, where `dsn` leads through a pool that cannot keep sessions.",
    ),
    key("partition_retention_days", Int, "1", "Days after which partitions are dropped."),
    key("partition_lookahead_days", Int, "2", "Daily partitions that are made ahead."),
    key("partition_cleanup_interval", Duration, "1m", "Time between two looks for partitions to drop."),
    key("batch_size", Int, "1000", "Messages read at once."),
    switch("skip_schema_init", "Does not create tables at start: they are there already."),
];

pub(super) const ENGINE: &[Key] = &[
    key("type", Text, "memory", "`memory`: within this process, one node. `redis`: nodes share a Redis.")
        .one_of(&["memory", "redis"]),
    object("redis", ENGINE_REDIS, "The engine in Redis."),
];

pub(super) const BROKER: &[Key] = &[
    switch("enabled", "Takes the broker's part from the engine."),
    key("type", Text, "memory", "Which one it is.").one_of(&[
        "memory",
        "nats",
        "redis",
        "redisnats",
        "postgres",
    ]),
    object("redis", BROKER_REDIS, "The broker in Redis."),
    object("nats", NATS, "The broker in NATS: publications only, no history."),
    object("postgres", postgres_broker!(), "The broker in PostgreSQL."),
];

pub(super) const PRESENCE_MANAGER: &[Key] = &[
    switch("enabled", "Takes presence from the engine."),
    key("type", Text, "memory", "Which one it is.").one_of(&["memory", "redis"]),
    object("redis", PRESENCE_REDIS, "Presence in Redis."),
];

pub(super) const MAP_BROKER: &[Key] = &[
    key("type", Text, "memory", "Which one it is.").one_of(&["memory", "redis", "postgres"]),
    object("redis", MAP_REDIS, "Maps in Redis."),
    object(
        "postgres",
        postgres_broker!(key(
            "ttl_check_interval",
            Duration,
            "1s",
            "Time between two looks for keys that have expired."
        )),
        "Maps in PostgreSQL.",
    ),
];

pub(super) const CONTROLLER: &[Key] = &[
    switch("enabled", "Takes messages between nodes from the engine. Needs a `type`."),
    key("type", Text, "", "Which one it is: `postgres`.").one_of(&["", "postgres"]),
    object("postgres", CONTROLLER_POSTGRES, "The controller in PostgreSQL."),
];
