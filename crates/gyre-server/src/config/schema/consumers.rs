//! Consumers: commands of the API that come from queues and tables.

use super::{
    Key,
    Kind::{Bool, Duration, Int, List, Text},
    Negative, key, object, secret,
    shared::{TLS, redis},
    switch, text,
};

/// Where a message carries what, in the mode in which messages are data.
macro_rules! publication_data_mode {
    ($what:literal, $noun:literal, $tags:literal) => {
        object(
            "publication_data_mode",
            &[
                switch("enabled", "Messages are the data of publications instead of commands."),
                key(
                    concat!("channels_", $noun),
                    Text,
                    "centrifugo-channels",
                    concat!($what, " with the channels, separated by commas."),
                ),
                key(
                    concat!("idempotency_key_", $noun),
                    Text,
                    "centrifugo-idempotency-key",
                    concat!($what, " with the idempotency key."),
                ),
                key(
                    concat!("delta_", $noun),
                    Text,
                    "centrifugo-delta",
                    concat!($what, " that says whether to publish a delta."),
                ),
                key(
                    concat!("version_", $noun),
                    Text,
                    "centrifugo-version",
                    concat!($what, " with the version of the data."),
                ),
                key(
                    concat!("version_epoch_", $noun),
                    Text,
                    "centrifugo-version-epoch",
                    concat!($what, " with the epoch of the version."),
                ),
                key($tags, Text, "centrifugo-tag-", "Prefix of those with tags."),
            ],
            "Messages of other programs, which know nothing of the API.",
        )
    };
}

const POSTGRESQL: &[Key] = &[
    secret("dsn", "Connection string. Needed."),
    text("outbox_table_name", "Table that commands are read from and deleted in. Needed."),
    key("num_partitions", Int, "1", "Values of the column `partition`; each has its own reader."),
    key("partition_select_limit", Int, "100", "Rows read at once."),
    key("partition_poll_interval", Duration, "300ms", "Time between two looks for new rows."),
    text(
        "partition_notification_channel",
        "Channel of NOTIFY that wakes readers; the payload is the partition.",
    ),
    secret("partition_notification_dsn", "Connection string for notifications, if it differs."),
    object("tls", TLS, "TLS towards the server."),
    switch("use_try_lock", "Does not wait for a partition that another node reads."),
];

const KAFKA: &[Key] = &[
    key("brokers", List, "", "Brokers to connect to: `host:port`. Needed."),
    key("topics", List, "", "Topics to read. Needed."),
    text("consumer_group", "Group the reader belongs to. Needed."),
    key("max_poll_records", Int, "100", "Messages of one poll at most."),
    key("fetch_max_bytes", Int, "", "Bytes of one fetch at most; 0 for the library's default."),
    key("fetch_max_wait", Duration, "500ms", "Time a broker may collect before it answers."),
    switch("fetch_read_uncommitted", "Reads messages of transactions that are not committed."),
    key(
        "partition_queue_max_size",
        Int,
        "1000",
        "Messages of a partition that may wait; -1 pauses at each poll.",
    )
    .negative(Negative::Allowed),
    key("dial_timeout", Duration, "3s", "Time to establish a connection."),
    object("tls", TLS, "TLS towards the brokers."),
    text("sasl_mechanism", "How to authenticate; not at all if empty.").one_of(&[
        "",
        "plain",
        "scram-sha-256",
        "scram-sha-512",
        "aws-msk-iam",
    ]),
    text("sasl_user", "User name."),
    secret("sasl_password", "Password."),
    text("assume_role_arn", "Role to take on; only with `aws-msk-iam`."),
    text("instance_id", "Name of a static member of the group."),
    key("method_header", Text, "centrifugo-method", "Header with the method of a command."),
    publication_data_mode!("Header", "header", "tags_header_prefix"),
];

const NATS_JETSTREAM: &[Key] = &[
    key("url", Text, "nats://127.0.0.1:4222", "URL of the server."),
    text("credentials_file", "File with credentials; wins over user and token."),
    text("username", "User name."),
    secret("password", "Password."),
    secret("token", "Token."),
    text("stream_name", "Stream to read. Needed."),
    key("subjects", List, "", "Subjects of the stream to read; all if empty."),
    text("durable_consumer_name", "Name of the durable consumer. Needed."),
    key("deliver_policy", Text, "new", "Where a new consumer begins: `new` or `all` messages.")
        .one_of(&["new", "all"]),
    key("max_ack_pending", Int, "100", "Messages that may wait for their acknowledgement."),
    switch("use_existing_consumer", "The consumer is there already and is not created."),
    key("method_header", Text, "centrifugo-method", "Header with the method of a command."),
    publication_data_mode!("Header", "header", "tags_header_prefix"),
    object("tls", TLS, "TLS towards the server."),
];

const REDIS_STREAM: &[Key] = redis!(
    key("streams", List, "", "Streams to read. Needed."),
    text("consumer_group", "Group the reader belongs to. Needed."),
    key(
        "visibility_timeout",
        Duration,
        "30s",
        "Time after which a message that nobody acknowledged is read again."
    ),
    key("num_workers", Int, "1", "Readers of each stream."),
    key("payload_value", Text, "payload", "Field with the payload of a command."),
    key("method_value", Text, "method", "Field with the method of a command."),
    publication_data_mode!("Field", "value", "tags_value_prefix"),
);

const GOOGLE_PUB_SUB: &[Key] = &[
    text("project_id", "Project. Needed."),
    key("subscriptions", List, "", "Subscriptions to read. Needed."),
    key("max_outstanding_messages", Int, "100", "Messages that may be on their way at once."),
    key("max_outstanding_bytes", Int, "1000000", "Their bytes at most."),
    text("auth_mechanism", "How to authenticate: `default` credentials or those of a `service_account`.")
        .one_of(&["", "default", "service_account"]),
    text("credentials_file", "File with the key of the service account."),
    key("method_attribute", Text, "centrifugo-method", "Attribute with the method of a command."),
    publication_data_mode!("Attribute", "attribute", "tags_attribute_prefix"),
];

const AWS_SQS: &[Key] = &[
    key("queues", List, "", "URLs of queues to read. Needed."),
    switch("sns_envelope", "Messages come through SNS: the payload is in `Message`."),
    text("region", "Region of the queues."),
    key("max_number_of_messages", Int, "10", "Messages of one request at most."),
    key(
        "wait_time_time",
        Duration,
        "20s",
        "Time a request may wait for messages. The name is the reference's.",
    ),
    key(
        "visibility_timeout",
        Duration,
        "30s",
        "Time after which a message that was not deleted is read again.",
    ),
    key("max_concurrency", Int, "1", "Requests at once."),
    text("credentials_profile", "Profile of the credentials."),
    text("assume_role_arn", "Role to take on."),
    key("method_attribute", Text, "centrifugo-method", "Attribute with the method of a command."),
    text("localstack_endpoint", "Endpoint of a local stand-in, for tests."),
    publication_data_mode!("Attribute", "attribute", "tags_attribute_prefix"),
];

const AZURE_SERVICE_BUS: &[Key] = &[
    secret("connection_string", "Connection string; this or an identity."),
    key("use_azure_identity", Bool, "", "Authenticates with an identity instead."),
    text("fully_qualified_namespace", "Host of the namespace, with an identity."),
    text("tenant_id", "Tenant of the identity."),
    text("client_id", "Client of the identity."),
    secret("client_secret", "Secret of the identity."),
    key("queues", List, "", "Queues to read. Needed."),
    switch("use_sessions", "Queues have sessions: messages of one come in order."),
    key("max_concurrent_calls", Int, "1", "Messages processed at once."),
    key("max_receive_messages", Int, "1", "Messages of one request at most."),
    key("method_property", Text, "centrifugo-method", "Property with the method of a command."),
    publication_data_mode!("Property", "property", "tags_property_prefix"),
];

pub(super) const CONSUMER: &[Key] = &[
    text("name", "Name of the consumer in logs and metrics. Needed."),
    text("type", "Kind of source. Needed, also for consumers that are not enabled.").one_of(&[
        "postgresql",
        "kafka",
        "nats_jetstream",
        "redis_stream",
        "google_pub_sub",
        "aws_sqs",
        "azure_service_bus",
    ]),
    switch("enabled", "Reads from the source."),
    object("postgresql", POSTGRESQL, "An outbox table in PostgreSQL."),
    object("kafka", KAFKA, "Topics of Kafka."),
    object("nats_jetstream", NATS_JETSTREAM, "A stream of NATS JetStream."),
    object("redis_stream", REDIS_STREAM, "Streams of Redis."),
    object("google_pub_sub", GOOGLE_PUB_SUB, "Subscriptions of Google Cloud Pub/Sub."),
    object("aws_sqs", AWS_SQS, "Queues of Amazon SQS."),
    object("azure_service_bus", AZURE_SERVICE_BUS, "Queues of Azure Service Bus."),
];
