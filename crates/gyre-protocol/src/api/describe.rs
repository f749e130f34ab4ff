//! What the methods and their messages are for, field by field: documents of the API are made from it. Tests hold it
//! against the codec.
//!
//! Spec: centrifugo `internal/apiproto/api.proto`

use super::Method;

/// A method, and the fields of its request and result.
#[derive(Debug)]
pub struct Description {
    /// Name of the method.
    pub method: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Fields of its request.
    pub request: &'static [Field],
    /// Fields of its result.
    pub result: &'static [Field],
}

/// A field of a message in JSON.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: FieldKind,
    /// A request without it is refused.
    pub is_required: bool,
    /// What it is for.
    pub about: &'static str,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is the JSON of that name, unless said otherwise")]
pub enum FieldKind {
    Text,
    Bool,
    Integer,
    /// Any JSON.
    Any,
    Texts,
    /// Texts by name.
    Tags,
    Object(&'static [Field]),
    List(&'static [Field]),
    /// Objects by name.
    Objects(&'static [Field]),
}

use FieldKind::{Any, Bool, Integer, List, Object, Objects, Tags, Text, Texts};

impl Method {
    /// What there is to say of the method.
    pub fn description(self) -> Option<&'static Description> {
        DESCRIPTIONS.iter().find(|description| description.method == self.name())
    }
}

const fn field(name: &'static str, kind: FieldKind, about: &'static str) -> Field {
    Field { name, kind, is_required: false, about }
}

const fn needed(name: &'static str, kind: FieldKind, about: &'static str) -> Field {
    Field { is_required: true, ..field(name, kind, about) }
}

const CHANNEL: Field = needed("channel", Text, "Name of the channel.");
const USER: Field = field("user", Text, "User whose connections are meant; empty for those without a user.");
const CLIENT: Field = field("client", Text, "Only the connection with this id.");
const SESSION: Field = field("session", Text, "Only the connection with this session.");
const OFFSET: Field = field("offset", Integer, "Position in the channel's stream.");
const EPOCH: Field = field("epoch", Text, "Epoch of the stream: positions of another one say nothing.");
const POSITION: &[Field] = &[OFFSET, EPOCH];
const DATA: Field = field("data", Any, "Data, as JSON.");
const B64DATA: Field = field("b64data", Text, "Data in base64, in place of `data`.");
const TAGS: Field = field("tags", Tags, "Texts that go with the publication; clients can filter by them.");
const IDEMPOTENCY_KEY: Field =
    field("idempotency_key", Text, "A second request with the same key within five minutes does nothing.");
const DELTA: Field = field("delta", Bool, "Clients that negotiated deltas get one.");
const VERSION: Field =
    field("version", Integer, "Version of the data; one that is not above the last is dropped. 0 for none.");
const VERSION_EPOCH: Field = field("version_epoch", Text, "Versions of another epoch are not compared.");
const SKIP_HISTORY: Field = field("skip_history", Bool, "The publication is not kept.");
const INFO: Field = field("info", Any, "Information about the connection that others see.");
const B64INFO: Field = field("b64info", Text, "The same in base64, in place of `info`.");
const EXPIRE_AT: Field =
    field("expire_at", Integer, "Unix time in seconds at which it expires; 0 for never.");
const LIMIT: Field = field("limit", Integer, "Entries at most; 0 for the position only, -1 for all.");
const REVERSE: Field = field("reverse", Bool, "Newest first.");
const KEY: Field = needed("key", Text, "Key of the entry.");

const OVERRIDE: &[Field] = &[
    field("presence", Object(VALUE), "Presence."),
    field("join_leave", Object(VALUE), "Join and leave messages."),
    field("force_recovery", Object(VALUE), "Recovery."),
    field("force_positioning", Object(VALUE), "Positioning."),
    field("force_push_join_leave", Object(VALUE), "Join and leave messages without asking."),
];
const VALUE: &[Field] = &[field("value", Bool, "On or off.")];

const MEMBER: &[Field] = &[
    field("user", Text, "User of the connection."),
    field("client", Text, "Id of the connection."),
    field("conn_info", Any, "Information about the connection."),
    field("chan_info", Any, "Information about the connection in this channel."),
];

const PUBLICATION: &[Field] = &[
    DATA,
    field("info", Object(MEMBER), "Who published it, if it was a client."),
    OFFSET,
    field("tags", Tags, "What was given with it."),
];

const ENTRY: &[Field] = &[
    field("key", Text, "Key of the entry."),
    DATA,
    field("tags", Tags, "What was given with it."),
    OFFSET,
    field("score", Integer, "Its place in an ordered map."),
    field("removed", Bool, "The key was removed."),
];

const PUBLISHED: &[Field] = POSITION;

const ERROR: &[Field] =
    &[field("code", Integer, "Code of the error, from 100 on."), field("message", Text, "What it means.")];

const MAP_RESULT: &[Field] = &[
    OFFSET,
    EPOCH,
    field("suppressed", Bool, "Nothing was changed."),
    field(
        "suppress_reason",
        Text,
        "Why: idempotency, version, key_exists, key_not_found or position_mismatch.",
    ),
];

const NODE: &[Field] = &[
    field("uid", Text, "Id of the node, new at each start."),
    field("name", Text, "Name of the node."),
    field("version", Text, "Its version."),
    field("num_clients", Integer, "Connections."),
    field("num_users", Integer, "Users."),
    field("num_channels", Integer, "Channels with subscribers."),
    field("num_subs", Integer, "Subscriptions."),
    field("uptime", Integer, "Seconds since its start."),
];

const CONNECTION: &[Field] = &[
    field("user", Text, "User of the connection."),
    field("transport", Text, "How it came."),
    field("protocol", Text, "`json` or `protobuf`."),
    field("app_name", Text, "What the client calls itself."),
    field("app_version", Text, "And its version."),
    field(
        "state",
        Object(&[
            field(
                "channels",
                Objects(&[field("server_side", Bool, "Subscribed by the server.")]),
                "Its channels by name.",
            ),
            field("meta", Any, "What stays on the server."),
        ]),
        "More of it.",
    ),
    field("info", Any, "Information that others see."),
    field("connected_at_ms", Integer, "Unix time in milliseconds at which it connected."),
    field("num_channels", Integer, "Its channels, those not listed included."),
    field("status", Text, "`connecting` or `connected`."),
    field("queue_bytes", Integer, "Bytes that wait to be written to it."),
    field("node", Text, "Node it is connected to."),
];

/// All of them.
pub const DESCRIPTIONS: &[Description] = &[
    Description {
        method: "publish",
        about: "Publishes data to a channel.",
        request: &[
            CHANNEL,
            DATA,
            B64DATA,
            SKIP_HISTORY,
            TAGS,
            IDEMPOTENCY_KEY,
            DELTA,
            VERSION,
            VERSION_EPOCH,
        ],
        result: PUBLISHED,
    },
    Description {
        method: "broadcast",
        about: "Publishes the same data to many channels.",
        request: &[
            needed("channels", Texts, "Names of the channels."),
            DATA,
            B64DATA,
            SKIP_HISTORY,
            TAGS,
            IDEMPOTENCY_KEY,
            DELTA,
            VERSION,
            VERSION_EPOCH,
        ],
        result: &[field(
            "responses",
            List(&[
                field("result", Object(PUBLISHED), "Where it was published."),
                field("error", Object(ERROR), "Why it was not."),
            ]),
            "One for each channel, in the same order.",
        )],
    },
    Description {
        method: "subscribe",
        about: "Subscribes the connections of a user to a channel.",
        request: &[
            CHANNEL,
            USER,
            CLIENT,
            SESSION,
            EXPIRE_AT,
            INFO,
            B64INFO,
            field("data", Any, "Data the client is told with it."),
            B64DATA,
            field("recover_since", Object(POSITION), "Position to recover from."),
            field("override", Object(OVERRIDE), "Options of the channel that differ for this subscription."),
        ],
        result: &[],
    },
    Description {
        method: "unsubscribe",
        about: "Unsubscribes the connections of a user from a channel, or from all of them.",
        request: &[field("channel", Text, "Name of the channel; empty for all."), USER, CLIENT, SESSION],
        result: &[],
    },
    Description {
        method: "disconnect",
        about: "Disconnects the connections of a user.",
        request: &[
            USER,
            CLIENT,
            SESSION,
            field("whitelist", Texts, "Ids of connections that stay."),
            field(
                "disconnect",
                Object(&[
                    field(
                        "code",
                        Integer,
                        "Code of the disconnect; 4000 to 4499 let the client come back, 4500 to 4999 do not.",
                    ),
                    field("reason", Text, "Reason of the disconnect."),
                ]),
                "What the client is told; 3503 without it.",
            ),
        ],
        result: &[],
    },
    Description {
        method: "refresh",
        about: "Prolongs the connections of a user, or lets them expire.",
        request: &[USER, CLIENT, SESSION, field("expired", Bool, "They expire now."), EXPIRE_AT, INFO],
        result: &[],
    },
    Description {
        method: "presence",
        about: "Tells who is in a channel.",
        request: &[CHANNEL],
        result: &[field("presence", Objects(MEMBER), "Connections by their id.")],
    },
    Description {
        method: "presence_stats",
        about: "Tells how many are in a channel.",
        request: &[CHANNEL],
        result: &[field("num_clients", Integer, "Connections."), field("num_users", Integer, "Users.")],
    },
    Description {
        method: "history",
        about: "Reads publications of a channel.",
        request: &[
            CHANNEL,
            LIMIT,
            field("since", Object(POSITION), "Only what came behind this position; before it, if `reverse`."),
            REVERSE,
        ],
        result: &[
            field("publications", List(PUBLICATION), "What was asked for."),
            field("epoch", Text, "Epoch of the stream."),
            field("offset", Integer, "Position of the newest publication."),
        ],
    },
    Description {
        method: "history_remove",
        about: "Removes the publications of a channel.",
        request: &[CHANNEL],
        result: &[],
    },
    Description {
        method: "info",
        about: "Tells of all nodes.",
        request: &[],
        result: &[field("nodes", List(NODE), "The nodes.")],
    },
    Description {
        method: "rpc",
        about: "Calls a method that the server itself has; there are none yet.",
        request: &[needed("method", Text, "Name of the method.")],
        result: &[],
    },
    Description {
        method: "channels",
        about: "Lists channels that have subscribers.",
        request: &[field("pattern", Text, "Only those that match, with `*` and `?`.")],
        result: &[field(
            "channels",
            Objects(&[field("num_clients", Integer, "Subscribers.")]),
            "Channels by their name.",
        )],
    },
    Description {
        method: "connections",
        about: "Lists connections, page by page.",
        request: &[
            field("user", Text, "Only those of this user."),
            CLIENT,
            field("channel", Text, "Only those subscribed to this channel."),
            field("limit", Integer, "Connections at most."),
            field("cursor", Text, "Where the page before ended."),
        ],
        result: &[
            field("connections", Objects(CONNECTION), "Connections by their id."),
            field("cursor", Text, "Where the next page begins; empty if there is none."),
        ],
    },
    Description {
        method: "revoke_token",
        about: "Refuses one token from now on.",
        request: &[
            needed("uid", Text, "Id of the token: its claim `jti`."),
            field("expire_at", Integer, "Unix time in seconds until which it is remembered."),
        ],
        result: &[],
    },
    Description {
        method: "invalidate_user_tokens",
        about: "Refuses all tokens of a user that were issued before a time.",
        request: &[
            needed("user", Text, "The user."),
            field("channel", Text, "Only tokens for this channel."),
            field("issued_before", Integer, "Unix time in seconds; now if 0."),
            field("expire_at", Integer, "Unix time in seconds until which it is remembered."),
        ],
        result: &[],
    },
    Description {
        method: "map_publish",
        about: "Sets a key of a map.",
        request: &[
            CHANNEL,
            KEY,
            DATA,
            B64DATA,
            TAGS,
            IDEMPOTENCY_KEY,
            DELTA,
            VERSION,
            VERSION_EPOCH,
            field("score", Integer, "Its place in an ordered map."),
            field("key_mode", Text, "`if_new`: only a key that is not there. `if_exists`: only one that is."),
        ],
        result: MAP_RESULT,
    },
    Description {
        method: "map_remove",
        about: "Removes a key of a map.",
        request: &[CHANNEL, KEY, IDEMPOTENCY_KEY],
        result: MAP_RESULT,
    },
    Description {
        method: "map_read_state",
        about: "Reads the entries of a map, page by page, or one of them.",
        request: &[
            CHANNEL,
            field("cursor", Text, "Where the page before ended."),
            LIMIT,
            field("key", Text, "Only this entry."),
            field("asc", Bool, "Lowest first, in an ordered map."),
            field("revision_epoch", Text, "Epoch of the page before: error 112 if it is another by now."),
        ],
        result: &[
            field("entries", List(ENTRY), "The entries."),
            OFFSET,
            EPOCH,
            field("cursor", Text, "Where the next page begins; empty if there is none."),
        ],
    },
    Description {
        method: "map_read_stream",
        about: "Reads the changes of a map.",
        request: &[
            CHANNEL,
            field("since_offset", Integer, "Only what came behind this position."),
            field("since_epoch", Text, "Epoch of that position."),
            LIMIT,
            REVERSE,
        ],
        result: &[field("entries", List(ENTRY), "The changes."), OFFSET, EPOCH],
    },
    Description {
        method: "map_stats",
        about: "Tells how many keys a map has.",
        request: &[CHANNEL],
        result: &[field("num_keys", Integer, "Keys.")],
    },
    Description {
        method: "map_clear",
        about: "Removes all keys of a map.",
        request: &[CHANNEL],
        result: &[],
    },
    Description {
        method: "shared_poll_publish",
        about: "Publishes data of a key of a shared poll, between two polls.",
        request: &[
            CHANNEL,
            KEY,
            DATA,
            B64DATA,
            needed("version", Integer, "Version of the data, above 0."),
            field("epoch", Text, "Versions of another epoch are not compared."),
        ],
        result: &[],
    },
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Payload,
        api::{Node, ResultBody, decode_request, encode_result},
        client::{ClientInfo, PresenceStats, Publication},
    };

    /// A value of a field that is not its zero value.
    fn sample(kind: FieldKind) -> String {
        match kind {
            Text => r#""x""#.into(),
            Bool => "true".into(),
            Integer => "7".into(),
            Any => r#"{"a":1}"#.into(),
            Texts => r#"["x"]"#.into(),
            Tags => r#"{"a":"b"}"#.into(),
            Object(fields) | List(fields) | Objects(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|f| format!("\"{}\":{}", f.name, sample(f.kind))).collect();
                format!("{{{}}}", fields.join(","))
            }
        }
    }

    /// Every method is described, and each field of its request is one that the decoder reads, with a value of that kind.
    #[test]
    fn requests_are_those_of_the_decoder() {
        for &method in Method::ALL {
            let description =
                method.description().unwrap_or_else(|| panic!("{} is not described", method.name()));
            let empty = decode_request(method, b"{}").unwrap();
            for field in description.request {
                let body = format!("{{\"{}\":{}}}", field.name, sample(field.kind));
                let request = decode_request(method, body.as_bytes());
                let is_read = request.as_ref().is_ok_and(|request| *request != empty);
                assert!(is_read, "{}: {body}: {request:?}", method.name());
            }
        }
    }

    fn check(value: &serde_json::Value, fields: &[Field], path: &str) {
        for (name, value) in value.as_object().unwrap() {
            let field = fields.iter().find(|field| field.name == name);
            let field = field.unwrap_or_else(|| panic!("{path}.{name} is not described"));
            let path = format!("{path}.{name}");
            match field.kind {
                Object(fields) => check(value, fields, &path),
                List(fields) => value.as_array().unwrap().iter().for_each(|item| check(item, fields, &path)),
                Objects(fields) => {
                    value.as_object().unwrap().values().for_each(|item| check(item, fields, &path));
                }
                Text => assert!(value.is_string(), "{path}"),
                Bool => assert!(value.is_boolean(), "{path}"),
                Integer => assert!(value.is_i64() || value.is_u64(), "{path}"),
                Tags => assert!(value.is_object(), "{path}"),
                Any | Texts => {}
            }
        }
    }

    /// What the encoder writes is described: results with every field set.
    #[test]
    fn results_are_those_of_the_encoder() {
        let info = ClientInfo { user: "u".into(), client: "c".into(), ..ClientInfo::default() };
        let publication = Publication {
            key: "k".into(),
            data: Payload::json(&b"{}"[..]),
            offset: 1,
            score: 2,
            removed: true,
            info: Some(Arc::new(info.clone())),
            ..Publication::default()
        };
        let node =
            Node { uid: "u".into(), name: "n".into(), version: "v".into(), uptime: 1, ..Node::default() };
        let published = ResultBody::Publish { offset: 1, epoch: "e".into() };
        let error = crate::api::Error { code: 102, message: "m".into() };
        let entries = |cursor: &str| ResultBody::MapEntries {
            entries: vec![Arc::new(publication.clone())],
            offset: 1,
            epoch: "e".into(),
            cursor: cursor.into(),
        };
        let results = [
            (Method::Publish, published.clone()),
            (Method::Broadcast, ResultBody::Broadcast(vec![Ok(published), Err(error)])),
            (Method::Presence, ResultBody::Presence(vec![Arc::new(info)])),
            (
                Method::PresenceStats,
                ResultBody::PresenceStats(PresenceStats { num_clients: 1, num_users: 1 }),
            ),
            (
                Method::History,
                ResultBody::History {
                    publications: vec![Arc::new(Publication {
                        key: "".into(),
                        score: 0,
                        removed: false,
                        ..publication.clone()
                    })],
                    epoch: "e".into(),
                    offset: 1,
                },
            ),
            (Method::Info, ResultBody::Info(vec![node])),
            (Method::Channels, ResultBody::Channels(vec![("c".into(), 1)])),
            (
                Method::MapPublish,
                ResultBody::MapPublish { offset: 1, epoch: "e".into(), suppress_reason: Some("version") },
            ),
            (Method::MapReadState, entries("c")),
            (Method::MapReadStream, entries("")),
            (Method::MapStats, ResultBody::MapStats { num_keys: 1 }),
        ];
        for (method, result) in results {
            let mut json = Vec::new();
            encode_result(&result, &mut json).unwrap();
            let json = serde_json::from_slice(&json).unwrap();
            check(&json, method.description().unwrap().result, method.name());
        }
    }
}
