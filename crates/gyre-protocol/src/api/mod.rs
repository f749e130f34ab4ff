//! The server API: what the application asks, and what it is answered, in JSON and in Protobuf ([`protobuf`]).
//!
//! In JSON, field names match in any case, unknown ones are ignored, the last of equal ones wins, `null` is a zero
//! value; a value of another type is an error. Payloads are raw JSON.
//!
//! Spec: centrifugo `internal/apiproto/api.proto`; centrifugal.dev, "Server API walkthrough".

mod connections;
mod decode;
pub mod describe;
mod encode;
pub mod protobuf;

use std::{borrow::Cow, sync::Arc};

use crate::client::{ClientInfo, PresenceStats, Publication, RawPayload};

pub use connections::{Connection, ConnectionChannel, Connections};
pub use decode::{LegacyCommand, decode_batch, decode_legacy, decode_request};
pub use encode::{encode_broadcast, encode_error, encode_result};

macro_rules! methods {
    ($($variant:ident $name:literal $rpc:literal $legacy:literal $field:literal;)*) => {
        /// The methods of the server API, in the order in which a batch command's fields are looked at.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is the method of that name")]
        pub enum Method { $($variant,)* }

        impl Method {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in paths, batch commands and metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The name in the gRPC service.
            pub fn rpc_name(self) -> &'static str {
                match self { $(Self::$variant => $rpc,)* }
            }

            /// The number in the legacy format.
            fn legacy_number(self) -> u32 {
                match self { $(Self::$variant => $legacy,)* }
            }

            /// The field of a batch's commands and replies.
            pub fn field_number(self) -> u64 {
                match self { $(Self::$variant => $field,)* }
            }
        }
    };
}

methods! {
    Publish "publish" "Publish" 0 4;
    Broadcast "broadcast" "Broadcast" 1 5;
    Subscribe "subscribe" "Subscribe" 11 6;
    Unsubscribe "unsubscribe" "Unsubscribe" 2 7;
    Disconnect "disconnect" "Disconnect" 3 8;
    History "history" "History" 6 11;
    HistoryRemove "history_remove" "HistoryRemove" 7 12;
    Presence "presence" "Presence" 4 9;
    PresenceStats "presence_stats" "PresenceStats" 5 10;
    Info "info" "Info" 9 13;
    Rpc "rpc" "RPC" 10 14;
    Refresh "refresh" "Refresh" 12 15;
    Channels "channels" "Channels" 8 16;
    MapPublish "map_publish" "MapPublish" 33 36;
    MapRemove "map_remove" "MapRemove" 34 37;
    MapReadState "map_read_state" "MapReadState" 35 38;
    MapReadStream "map_read_stream" "MapReadStream" 36 39;
    MapStats "map_stats" "MapStats" 37 40;
    MapClear "map_clear" "MapClear" 38 41;
    SharedPollPublish "shared_poll_publish" "SharedPollPublish" 39 42;
    Connections "connections" "Connections" 14 17;
    RevokeToken "revoke_token" "RevokeToken" 20 23;
    InvalidateUserTokens "invalidate_user_tokens" "InvalidateUserTokens" 21 24;
}

impl Method {
    /// The method of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|method| method.name() == name)
    }

    /// The method of that name in the gRPC service.
    pub fn from_rpc_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|method| method.rpc_name() == name)
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is named for its method")]
pub enum Request<'a> {
    Publish(Publish<'a>),
    Broadcast(Publish<'a>),
    Subscribe(Box<Subscribe<'a>>),
    Unsubscribe(Target<'a>),
    Disconnect(Target<'a>),
    Presence(Cow<'a, str>),
    PresenceStats(Cow<'a, str>),
    History(History<'a>),
    HistoryRemove(Cow<'a, str>),
    Info,
    Rpc { method: Cow<'a, str> },
    Refresh(Target<'a>),
    Channels { pattern: Cow<'a, str> },
    MapPublish(Box<Map<'a>>),
    MapRemove(Box<Map<'a>>),
    MapReadState(Box<Map<'a>>),
    MapReadStream(Box<Map<'a>>),
    MapStats(Cow<'a, str>),
    MapClear(Cow<'a, str>),
    SharedPollPublish(Box<Map<'a>>),
    Connections(Box<Connections<'a>>),
    RevokeToken { uid: Cow<'a, str>, expire_at: i64 },
    InvalidateUserTokens(InvalidateUserTokens<'a>),
}

impl Request<'_> {
    /// The method it calls.
    pub fn method(&self) -> Method {
        match self {
            Self::Publish(_) => Method::Publish,
            Self::Broadcast(_) => Method::Broadcast,
            Self::Subscribe(_) => Method::Subscribe,
            Self::Unsubscribe(_) => Method::Unsubscribe,
            Self::Disconnect(_) => Method::Disconnect,
            Self::Presence(_) => Method::Presence,
            Self::PresenceStats(_) => Method::PresenceStats,
            Self::History(_) => Method::History,
            Self::HistoryRemove(_) => Method::HistoryRemove,
            Self::Info => Method::Info,
            Self::Rpc { .. } => Method::Rpc,
            Self::Refresh(_) => Method::Refresh,
            Self::Channels { .. } => Method::Channels,
            Self::MapPublish(_) => Method::MapPublish,
            Self::MapRemove(_) => Method::MapRemove,
            Self::MapReadState(_) => Method::MapReadState,
            Self::MapReadStream(_) => Method::MapReadStream,
            Self::MapStats(_) => Method::MapStats,
            Self::MapClear(_) => Method::MapClear,
            Self::SharedPollPublish(_) => Method::SharedPollPublish,
            Self::Connections(_) => Method::Connections,
            Self::RevokeToken { .. } => Method::RevokeToken,
            Self::InvalidateUserTokens(_) => Method::InvalidateUserTokens,
        }
    }
}

/// publish (`channel`) and broadcast (`channels`).
#[derive(Clone, Debug, PartialEq, Default)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub struct Publish<'a> {
    pub channel: Cow<'a, str>,
    pub channels: Vec<Cow<'a, str>>,
    pub data: RawPayload<'a>,
    pub b64data: Cow<'a, str>,
    pub skip_history: bool,
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub idempotency_key: Cow<'a, str>,
    pub delta: bool,
    pub version: u64,
    pub version_epoch: Cow<'a, str>,
}

/// subscribe.
#[derive(Clone, Debug, PartialEq, Default)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub struct Subscribe<'a> {
    pub channel: Cow<'a, str>,
    pub user: Cow<'a, str>,
    pub client: Cow<'a, str>,
    pub session: Cow<'a, str>,
    pub expire_at: i64,
    pub info: RawPayload<'a>,
    pub b64info: Cow<'a, str>,
    pub data: RawPayload<'a>,
    pub b64data: Cow<'a, str>,
    pub recover_since: Option<(u64, Cow<'a, str>)>,
    pub overrides: Overrides,
}

/// `override`: options of the namespace replaced for one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each is the option of that name")]
pub struct Overrides {
    pub presence: Option<bool>,
    pub join_leave: Option<bool>,
    pub force_recovery: Option<bool>,
    pub force_positioning: Option<bool>,
    pub force_push_join_leave: Option<bool>,
}

/// unsubscribe, disconnect and refresh: the connections meant, and what each method adds.
#[derive(Clone, Debug, PartialEq, Default)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub struct Target<'a> {
    pub user: Cow<'a, str>,
    pub client: Cow<'a, str>,
    pub session: Cow<'a, str>,
    /// unsubscribe.
    pub channel: Cow<'a, str>,
    /// disconnect: code and reason.
    pub disconnect: Option<(u32, Cow<'a, str>)>,
    /// disconnect.
    pub whitelist: Vec<Cow<'a, str>>,
    /// refresh.
    pub expired: bool,
    /// refresh.
    pub expire_at: i64,
    /// refresh.
    pub info: RawPayload<'a>,
}

/// history.
#[derive(Clone, Debug, PartialEq, Default)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub struct History<'a> {
    pub channel: Cow<'a, str>,
    pub limit: i32,
    pub since: Option<(u64, Cow<'a, str>)>,
    pub reverse: bool,
}

/// map_publish, map_remove, map_read_state, map_read_stream and shared_poll_publish: each reads its own of the fields.
#[derive(Clone, Debug, PartialEq, Default)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub struct Map<'a> {
    pub channel: Cow<'a, str>,
    pub key: Cow<'a, str>,
    pub data: RawPayload<'a>,
    pub b64data: Cow<'a, str>,
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub idempotency_key: Cow<'a, str>,
    pub delta: bool,
    pub version: u64,
    pub version_epoch: Cow<'a, str>,
    pub score: i64,
    pub key_mode: Cow<'a, str>,
    pub cursor: Cow<'a, str>,
    pub limit: i32,
    pub asc: bool,
    pub revision_epoch: Cow<'a, str>,
    pub since_offset: u64,
    pub since_epoch: Cow<'a, str>,
    pub reverse: bool,
    /// shared_poll_publish.
    pub epoch: Cow<'a, str>,
}

/// invalidate_user_tokens.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub struct InvalidateUserTokens<'a> {
    pub user: Cow<'a, str>,
    pub channel: Cow<'a, str>,
    pub issued_before: i64,
    pub expire_at: i64,
}

/// What a request is answered with. The error table is the server API's own.
pub type Outcome = Result<ResultBody, Error>;

/// An error of the server API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// 100–113.
    pub code: u32,
    /// Text for developers.
    pub message: Cow<'static, str>,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is named for its method")]
pub enum ResultBody {
    Empty,
    Publish { offset: u64, epoch: String },
    Broadcast(Vec<Outcome>),
    Presence(Vec<Arc<ClientInfo>>),
    PresenceStats(PresenceStats),
    History { publications: Vec<Arc<Publication>>, epoch: String, offset: u64 },
    Info(Vec<Node>),
    Channels(Vec<(String, u32)>),
    MapPublish { offset: u64, epoch: String, suppress_reason: Option<&'static str> },
    MapEntries { entries: Vec<Arc<Publication>>, offset: u64, epoch: String, cursor: Box<str> },
    MapStats { num_keys: u32 },
    Connections { connections: Vec<Connection>, cursor: String },
}

/// A node, as `info` tells of it.
#[derive(Clone, Debug, PartialEq, Default)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub struct Node {
    pub uid: String,
    pub name: String,
    pub version: String,
    pub num_clients: u32,
    pub num_users: u32,
    pub num_channels: u32,
    pub num_subs: u32,
    pub uptime: u32,
}
