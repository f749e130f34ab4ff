//! The messages and calls of the gRPC API, described in the way that generic clients understand.
//!
//! Made from the table of methods and, for what they carry, from the tables below: facts that the codec knows in another
//! form. A test decodes what is described here.
//!
//! Spec: protocolbuffers `google/protobuf/descriptor.proto`; centrifugo `internal/apiproto/api.proto`

use gyre_protocol::{api::Method, codec::protobuf::wire::Message};

/// The package of everything.
pub(super) const PACKAGE: &str = "centrifugal.centrifugo.api";
/// The service.
pub(super) const SERVICE: &str = "CentrifugoApi";
/// What the file is called.
pub(super) const FILE: &str = "api.proto";

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bytes,
    Bool,
    I32,
    I64,
    U32,
    U64,
    F64,
    /// A message.
    Of(&'static str),
    /// A list of texts.
    Texts,
    /// A list of messages.
    Each(&'static str),
    /// Texts to texts.
    Tags,
    /// Texts to numbers.
    Numbers,
    /// Texts to messages.
    Map(&'static str),
}

use Kind::{Bool, Bytes, Each, F64, I32, I64, Map, Numbers, Of, Tags, Text, Texts, U32, U64};

type Field = (&'static str, u64, Kind);

/// Appends the file's descriptor.
pub(super) fn write_file(m: &mut Message<'_>) {
    m.string(1, FILE);
    m.string(2, PACKAGE);
    for (name, fields) in MESSAGES {
        m.message(4, |m| write_message(m, name, fields));
    }
    for method in Method::ALL {
        let name = method.rpc_name();
        m.message(4, |m| {
            m.string(1, &format!("{name}Response"));
            write_field(m, "error", 1, Of("Error"), "");
            write_reference(m, "result", 2, &format!("{name}Result"));
        });
    }
    for (message, suffix) in [("Command", "Request"), ("Reply", "Result")] {
        m.message(4, |m| {
            m.string(1, message);
            if suffix == "Result" {
                write_field(m, "error", 2, Of("Error"), "");
            }
            for method in Method::ALL {
                let name = format!("{}{suffix}", method.rpc_name());
                write_reference(m, method.name(), method.field_number(), &name);
            }
        });
    }
    m.message(6, |m| {
        m.string(1, SERVICE);
        for name in Method::ALL.iter().map(|method| method.rpc_name()).chain(["Batch"]) {
            m.message(2, |m| {
                m.string(1, name);
                m.string(2, &format!(".{PACKAGE}.{name}Request"));
                m.string(3, &format!(".{PACKAGE}.{name}Response"));
            });
        }
    });
    m.string(12, "proto3");
}

/// True if the package has a message of that name, or the service.
pub(super) fn has(name: &str) -> bool {
    let is_response = || {
        let method = name.strip_suffix("Response").and_then(Method::from_rpc_name);
        method.is_some()
    };
    [SERVICE, "Command", "Reply"].contains(&name)
        || MESSAGES.iter().any(|(known, _)| *known == name)
        || is_response()
}

fn write_message(m: &mut Message<'_>, name: &str, fields: &[Field]) {
    m.string(1, name);
    for (field, number, kind) in fields {
        write_field(m, field, *number, *kind, name);
    }
    for (field, _, kind) in fields {
        let value = match kind {
            Tags => Text,
            Numbers => F64,
            Map(message) => Of(message),
            _ => continue,
        };
        m.message(3, |m| {
            m.string(1, &entry_name(field));
            write_field(m, "key", 1, Text, "");
            write_field(m, "value", 2, value, "");
            // MessageOptions.map_entry
            m.message(7, |m| m.bool(7, true));
        });
    }
}

/// The message of a map's entries: the field's name in camel case, as compilers make it.
fn entry_name(field: &str) -> String {
    let words = field.split('_').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    words.collect::<String>() + "Entry"
}

fn write_field(m: &mut Message<'_>, name: &str, number: u64, kind: Kind, parent: &str) {
    /// FieldDescriptorProto.Label
    const OPTIONAL: u64 = 1;
    const REPEATED: u64 = 3;
    let (label, type_number, type_name) = match kind {
        F64 => (OPTIONAL, 1, None),
        I64 => (OPTIONAL, 3, None),
        U64 => (OPTIONAL, 4, None),
        I32 => (OPTIONAL, 5, None),
        Bool => (OPTIONAL, 8, None),
        Text => (OPTIONAL, 9, None),
        Texts => (REPEATED, 9, None),
        Bytes => (OPTIONAL, 12, None),
        U32 => (OPTIONAL, 13, None),
        Of(message) => (OPTIONAL, MESSAGE_TYPE, Some(format!(".{PACKAGE}.{message}"))),
        Each(message) => (REPEATED, MESSAGE_TYPE, Some(format!(".{PACKAGE}.{message}"))),
        Tags | Numbers | Map(_) => {
            (REPEATED, MESSAGE_TYPE, Some(format!(".{PACKAGE}.{parent}.{}", entry_name(name))))
        }
    };
    m.message(2, |m| {
        m.string(1, name);
        m.uint(3, number);
        m.uint(4, label);
        m.uint(5, type_number);
        m.string(6, type_name.as_deref().unwrap_or(""));
    });
}

/// A field with a message whose name is put together.
fn write_reference(m: &mut Message<'_>, name: &str, number: u64, message: &str) {
    m.message(2, |m| {
        m.string(1, name);
        m.uint(3, number);
        m.uint(4, 1);
        m.uint(5, MESSAGE_TYPE);
        m.string(6, &format!(".{PACKAGE}.{message}"));
    });
}

/// FieldDescriptorProto.Type
const MESSAGE_TYPE: u64 = 11;

/// Messages but responses, commands and replies, which follow from the methods.
const MESSAGES: &[(&str, &[Field])] = &[
    ("Error", &[("code", 1, U32), ("message", 2, Text)]),
    ("BatchRequest", &[("commands", 1, Each("Command")), ("parallel", 2, Bool)]),
    ("BatchResponse", &[("replies", 1, Each("Reply"))]),
    ("BoolValue", &[("value", 1, Bool)]),
    ("StreamPosition", &[("offset", 1, U64), ("epoch", 2, Text)]),
    (
        "ClientInfo",
        &[("user", 1, Text), ("client", 2, Text), ("conn_info", 3, Bytes), ("chan_info", 4, Bytes)],
    ),
    (
        "Publication",
        &[("data", 2, Bytes), ("info", 3, Of("ClientInfo")), ("offset", 4, U64), ("tags", 5, Tags)],
    ),
    (
        "PublishRequest",
        &[
            ("channel", 1, Text),
            ("data", 2, Bytes),
            ("b64data", 3, Text),
            ("skip_history", 4, Bool),
            ("tags", 5, Tags),
            ("idempotency_key", 6, Text),
            ("delta", 7, Bool),
            ("version", 8, U64),
            ("version_epoch", 9, Text),
        ],
    ),
    ("PublishResult", &[("offset", 1, U64), ("epoch", 2, Text)]),
    (
        "BroadcastRequest",
        &[
            ("channels", 1, Texts),
            ("data", 2, Bytes),
            ("b64data", 3, Text),
            ("skip_history", 4, Bool),
            ("tags", 5, Tags),
            ("idempotency_key", 6, Text),
            ("delta", 7, Bool),
            ("version", 8, U64),
            ("version_epoch", 9, Text),
        ],
    ),
    ("BroadcastResult", &[("responses", 1, Each("PublishResponse"))]),
    (
        "SubscribeRequest",
        &[
            ("channel", 1, Text),
            ("user", 2, Text),
            ("expire_at", 3, I64),
            ("info", 4, Bytes),
            ("b64info", 5, Text),
            ("client", 6, Text),
            ("data", 7, Bytes),
            ("b64data", 8, Text),
            ("recover_since", 9, Of("StreamPosition")),
            ("override", 10, Of("SubscribeOptionOverride")),
            ("session", 11, Text),
        ],
    ),
    (
        "SubscribeOptionOverride",
        &[
            ("presence", 1, Of("BoolValue")),
            ("join_leave", 2, Of("BoolValue")),
            ("force_recovery", 3, Of("BoolValue")),
            ("force_positioning", 4, Of("BoolValue")),
            ("force_push_join_leave", 5, Of("BoolValue")),
        ],
    ),
    ("SubscribeResult", &[]),
    (
        "UnsubscribeRequest",
        &[("channel", 1, Text), ("user", 2, Text), ("client", 3, Text), ("session", 4, Text)],
    ),
    ("UnsubscribeResult", &[]),
    ("Disconnect", &[("code", 1, U32), ("reason", 2, Text)]),
    (
        "DisconnectRequest",
        &[
            ("user", 1, Text),
            ("disconnect", 2, Of("Disconnect")),
            ("client", 3, Text),
            ("whitelist", 4, Texts),
            ("session", 5, Text),
        ],
    ),
    ("DisconnectResult", &[]),
    (
        "RefreshRequest",
        &[
            ("user", 1, Text),
            ("client", 2, Text),
            ("expired", 3, Bool),
            ("expire_at", 4, I64),
            ("info", 5, Bytes),
            ("session", 6, Text),
        ],
    ),
    ("RefreshResult", &[]),
    ("PresenceRequest", &[("channel", 1, Text)]),
    ("PresenceResult", &[("presence", 1, Map("ClientInfo"))]),
    ("PresenceStatsRequest", &[("channel", 1, Text)]),
    ("PresenceStatsResult", &[("num_clients", 1, U32), ("num_users", 2, U32)]),
    (
        "HistoryRequest",
        &[("channel", 1, Text), ("limit", 2, I32), ("since", 3, Of("StreamPosition")), ("reverse", 4, Bool)],
    ),
    ("HistoryResult", &[("publications", 1, Each("Publication")), ("epoch", 2, Text), ("offset", 3, U64)]),
    ("HistoryRemoveRequest", &[("channel", 1, Text)]),
    ("HistoryRemoveResult", &[]),
    ("InfoRequest", &[]),
    ("InfoResult", &[("nodes", 1, Each("NodeResult"))]),
    (
        "NodeResult",
        &[
            ("uid", 1, Text),
            ("name", 2, Text),
            ("version", 3, Text),
            ("num_clients", 4, U32),
            ("num_users", 5, U32),
            ("num_channels", 6, U32),
            ("uptime", 7, U32),
            ("metrics", 8, Of("Metrics")),
            ("process", 9, Of("Process")),
            ("num_subs", 10, U32),
        ],
    ),
    ("Metrics", &[("interval", 1, F64), ("items", 2, Numbers)]),
    ("Process", &[("cpu", 1, F64), ("rss", 2, I64)]),
    ("RPCRequest", &[("method", 1, Text), ("params", 2, Bytes)]),
    ("RPCResult", &[("data", 1, Bytes)]),
    ("ChannelsRequest", &[("pattern", 1, Text)]),
    ("ChannelsResult", &[("channels", 1, Map("ChannelInfo"))]),
    ("ChannelInfo", &[("num_clients", 1, U32)]),
    (
        "MapPublishRequest",
        &[
            ("channel", 1, Text),
            ("key", 2, Text),
            ("data", 3, Bytes),
            ("b64data", 4, Text),
            ("tags", 7, Tags),
            ("idempotency_key", 8, Text),
            ("delta", 9, Bool),
            ("version", 10, U64),
            ("version_epoch", 11, Text),
            ("score", 12, I64),
            ("key_mode", 13, Text),
        ],
    ),
    (
        "MapPublishResult",
        &[("offset", 1, U64), ("epoch", 2, Text), ("suppressed", 3, Bool), ("suppress_reason", 4, Text)],
    ),
    ("MapRemoveRequest", &[("channel", 1, Text), ("key", 2, Text), ("idempotency_key", 3, Text)]),
    (
        "MapRemoveResult",
        &[("offset", 1, U64), ("epoch", 2, Text), ("suppressed", 3, Bool), ("suppress_reason", 4, Text)],
    ),
    (
        "MapReadStateRequest",
        &[
            ("channel", 1, Text),
            ("cursor", 2, Text),
            ("limit", 3, I32),
            ("key", 4, Text),
            ("asc", 5, Bool),
            ("revision_offset", 6, U64),
            ("revision_epoch", 7, Text),
        ],
    ),
    (
        "MapReadStateResult",
        &[("entries", 1, Each("MapEntry")), ("offset", 2, U64), ("epoch", 3, Text), ("cursor", 4, Text)],
    ),
    (
        "MapReadStreamRequest",
        &[
            ("channel", 1, Text),
            ("since_offset", 2, U64),
            ("since_epoch", 3, Text),
            ("limit", 4, I32),
            ("reverse", 5, Bool),
        ],
    ),
    ("MapReadStreamResult", &[("entries", 1, Each("MapEntry")), ("offset", 2, U64), ("epoch", 3, Text)]),
    (
        "MapEntry",
        &[
            ("key", 1, Text),
            ("data", 2, Bytes),
            ("tags", 3, Tags),
            ("offset", 4, U64),
            ("score", 5, I64),
            ("removed", 6, Bool),
            ("time", 7, I64),
        ],
    ),
    ("MapStatsRequest", &[("channel", 1, Text)]),
    ("MapStatsResult", &[("num_keys", 1, I32)]),
    ("MapClearRequest", &[("channel", 1, Text)]),
    ("MapClearResult", &[]),
    (
        "SharedPollPublishRequest",
        &[
            ("channel", 1, Text),
            ("key", 2, Text),
            ("data", 3, Bytes),
            ("b64data", 4, Text),
            ("version", 5, U64),
            ("epoch", 6, Text),
        ],
    ),
    ("SharedPollPublishResult", &[]),
    (
        "ConnectionsRequest",
        &[
            ("user", 1, Text),
            ("client", 100, Text),
            ("channel", 101, Text),
            ("limit", 102, I32),
            ("cursor", 103, Text),
        ],
    ),
    ("ConnectionsResult", &[("connections", 1, Map("ConnectionInfo")), ("cursor", 100, Text)]),
    (
        "ConnectionInfo",
        &[
            ("app_name", 1, Text),
            ("app_version", 2, Text),
            ("transport", 3, Text),
            ("protocol", 4, Text),
            ("user", 8, Text),
            ("state", 9, Of("ConnectionState")),
            ("connected_at_ms", 10, I64),
            ("num_channels", 100, U32),
            ("status", 101, Text),
            ("queue_bytes", 102, U64),
            ("node", 103, Text),
            ("info", 104, Bytes),
        ],
    ),
    ("ConnectionState", &[("channels", 1, Map("ChannelContext")), ("meta", 4, Bytes)]),
    ("ChannelContext", &[("source", 1, U32), ("server_side", 100, Bool)]),
    ("RevokeTokenRequest", &[("expire_at", 1, I64), ("uid", 2, Text)]),
    ("RevokeTokenResult", &[]),
    (
        "InvalidateUserTokensRequest",
        &[("expire_at", 1, I64), ("user", 2, Text), ("issued_before", 3, I64), ("channel", 4, Text)],
    ),
    ("InvalidateUserTokensResult", &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every message a field refers to is described, as is what every method takes and gives.
    #[test]
    fn nothing_is_missing() {
        for (message, fields) in MESSAGES {
            for (field, _, kind) in *fields {
                if let Of(name) | Each(name) | Map(name) = kind {
                    assert!(has(name), "{message}.{field}: {name}");
                }
            }
        }
        for method in Method::ALL {
            for suffix in ["Request", "Result", "Response"] {
                let name = format!("{}{suffix}", method.rpc_name());
                assert!(has(&name), "{name}");
            }
        }
        assert!(!has("Nothing") && !has("Response"));
        assert_eq!(entry_name("user_tags"), "UserTagsEntry");
    }
}
