//! What a server answers.

use std::sync::Arc;

use crate::{
    client::{ClientInfo, Epoch, Payload, Publication},
    codes::ClientError,
};

/// The answer to the command with that id.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Id of the command.
    pub id: u32,
    /// Result or error.
    pub body: ReplyBody,
}

/// Result or error of a command.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is named for its message")]
pub enum ReplyBody {
    Error(ClientError),
    Connect(Box<ConnectResult>),
    Subscribe(Box<SubscribeResult>),
    Unsubscribe,
    Publish,
    Presence(Vec<Arc<ClientInfo>>),
    PresenceStats(PresenceStats),
    History(HistoryResult),
    Rpc(Payload),
    Refresh(Expiry),
    SubRefresh(SubRefreshResult),
}

/// Whether something expires, and when: the `expires` and `ttl` fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Expiry {
    /// The client must refresh before `ttl` has passed.
    pub expires: bool,
    /// Whole seconds left; written only with `expires`.
    pub ttl: u32,
}

/// The session was opened. Also the `connect` push of unidirectional transports.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ConnectResult {
    /// Client id.
    pub client: Box<str>,
    /// Version of the server.
    pub version: Box<str>,
    /// Set if the client has to refresh.
    pub expiry: Expiry,
    /// Data from the connect hook.
    pub data: Payload,
    /// Server-side subscriptions.
    pub subs: Vec<(Arc<str>, SubscribeResult)>,
    /// Ping interval in whole seconds; 0 without pings.
    pub ping: u32,
    /// The server expects pongs.
    pub pong: bool,
    /// Session id (unidirectional and emulated transports).
    pub session: Box<str>,
    /// Node id (emulated transports).
    pub node: Box<str>,
    /// Unix time of the server in milliseconds; 0 unless configured.
    pub time: i64,
}

/// A subscription was made.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SubscribeResult {
    /// Set if the client has to refresh the subscription.
    pub expiry: Expiry,
    /// Recovery is on.
    pub recoverable: bool,
    /// Epoch of the stream.
    pub epoch: Epoch,
    /// What was missed, ascending.
    pub publications: Vec<Arc<Publication>>,
    /// Everything missed is in `publications`.
    pub recovered: bool,
    /// Stream top, or the client's own offset when recovered.
    pub offset: u64,
    /// Positioning is on.
    pub positioned: bool,
    /// Data from the subscription's token or hook.
    pub data: Payload,
    /// The client asked for recovery (or the server forced it).
    pub was_recovering: bool,
    /// Delta was accepted: on JSON connections every `data` is a JSON string.
    pub delta: bool,
    /// Numeric channel id; 0 without channel compaction.
    pub id: i64,
    /// Kind: 0 stream, 1 map, 4 shared poll.
    pub kind: i32,
    /// Map phase.
    pub phase: i32,
    /// Map page cursor.
    pub cursor: Box<str>,
    /// Map state page.
    pub state: Vec<Arc<Publication>>,
}

/// How many are present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PresenceStats {
    /// Connections subscribed.
    pub num_clients: u32,
    /// Distinct users among them.
    pub num_users: u32,
}

/// A page of history and the stream's top.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HistoryResult {
    /// The publications asked for.
    pub publications: Vec<Arc<Publication>>,
    /// Epoch of the stream.
    pub epoch: Epoch,
    /// Offset of the newest publication.
    pub offset: u64,
}

/// The subscription was prolonged, or keys are tracked.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SubRefreshResult {
    /// Set if the client has to refresh again.
    pub expiry: Expiry,
    /// Current data of tracked keys.
    pub items: Vec<Arc<Publication>>,
}
