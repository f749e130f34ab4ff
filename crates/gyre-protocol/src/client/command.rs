//! What a client sends.

use std::borrow::Cow;

/// One command. An empty command (id 0 and no request) is the pong.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Command<'a> {
    /// Identifies the reply; 0 only for a pong and for `send`.
    pub id: u32,
    /// The first request present, in the order of the protocol's dispatch; others are ignored.
    pub request: Option<Request<'a>>,
}

/// The request of a command.
///
/// Spec: centrifuge `client.go` dispatchCommand: connect, subscribe, unsubscribe, publish, presence, presence_stats,
/// history, rpc, send, refresh, sub_refresh; `ping` last, because it is only refused.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is named for its message")]
pub enum Request<'a> {
    Connect(Box<ConnectRequest<'a>>),
    Subscribe(Box<SubscribeRequest<'a>>),
    Unsubscribe(ChannelRequest<'a>),
    Publish(PublishRequest<'a>),
    Presence(ChannelRequest<'a>),
    PresenceStats(ChannelRequest<'a>),
    History(HistoryRequest<'a>),
    Rpc(RpcRequest<'a>),
    Send(SendRequest<'a>),
    Refresh(RefreshRequest<'a>),
    SubRefresh(Box<SubRefreshRequest<'a>>),
    Ping,
}

/// Opens the session.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ConnectRequest<'a> {
    /// Connection token (JWT); empty for none.
    pub token: Cow<'a, str>,
    /// Data for the connect hook; raw JSON on JSON connections.
    pub data: Cow<'a, [u8]>,
    /// Server-side subscriptions wanted or to be recovered. Only recover, offset, epoch and delta are read.
    pub subs: Vec<(Cow<'a, str>, SubscribeRequest<'a>)>,
    /// Name of the SDK.
    pub name: Cow<'a, str>,
    /// Version given by the application.
    pub version: Cow<'a, str>,
    /// Emulated request headers.
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Feature bits of the connection.
    pub flag: i64,
}

/// Subscribes to a channel.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SubscribeRequest<'a> {
    /// Channel.
    pub channel: Cow<'a, str>,
    /// Subscription token (JWT); empty for none.
    pub token: Cow<'a, str>,
    /// Ask for what was missed since `offset` and `epoch`.
    pub recover: bool,
    /// Epoch of the last position seen; empty matches any.
    pub epoch: Cow<'a, str>,
    /// Last offset seen.
    pub offset: u64,
    /// Data for the subscribe hook.
    pub data: Cow<'a, [u8]>,
    /// Ask for positioning.
    pub positioned: bool,
    /// Ask for recovery.
    pub recoverable: bool,
    /// Ask for join and leave pushes.
    pub join_leave: bool,
    /// Delta algorithm wanted; `fossil` or empty.
    pub delta: Cow<'a, str>,
    /// Tags filter.
    pub tf: Option<FilterNode<'a>>,
    /// Feature bits: 1 channel compaction, 2 reject unrecovered.
    pub flag: i64,
    /// Kind of subscription: 0 stream, 1 map, 2 map clients, 3 map users, 4 shared poll.
    pub kind: i32,
    /// Map phase: 0 live, 1 stream, 2 state.
    pub phase: i32,
    /// Map page cursor.
    pub cursor: Cow<'a, str>,
    /// Map page size.
    pub limit: i32,
    /// Map order.
    pub asc: bool,
}

/// A node of a tags filter.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FilterNode<'a> {
    /// `and`, `or`, `not`, or empty for a leaf.
    pub op: Cow<'a, str>,
    /// Tag looked at by a leaf.
    pub key: Cow<'a, str>,
    /// Comparison of a leaf.
    pub cmp: Cow<'a, str>,
    /// Value compared with.
    pub val: Cow<'a, str>,
    /// Values compared with.
    pub vals: Vec<Cow<'a, str>>,
    /// Children of an operator.
    pub nodes: Vec<FilterNode<'a>>,
}

/// A request that names a channel and nothing else: unsubscribe, presence, presence_stats.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ChannelRequest<'a> {
    /// Channel.
    pub channel: Cow<'a, str>,
}

/// Publishes into a channel.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct PublishRequest<'a> {
    /// Channel.
    pub channel: Cow<'a, str>,
    /// Data; raw JSON on JSON connections; empty if the field was missing.
    pub data: Cow<'a, [u8]>,
    /// 0 stream, 1 map.
    pub kind: i32,
    /// Key of a map entry.
    pub key: Cow<'a, str>,
    /// Remove the key.
    pub removed: bool,
}

/// Reads history.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HistoryRequest<'a> {
    /// Channel.
    pub channel: Cow<'a, str>,
    /// Publications wanted: 0 none, negative all (within the server's cap).
    pub limit: i32,
    /// Position to read from: offset and epoch.
    pub since: Option<(u64, Cow<'a, str>)>,
    /// Newest first.
    pub reverse: bool,
}

/// Calls a remote procedure.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RpcRequest<'a> {
    /// Parameters.
    pub data: Cow<'a, [u8]>,
    /// Method.
    pub method: Cow<'a, str>,
}

/// Sends a message without reply.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SendRequest<'a> {
    /// Data.
    pub data: Cow<'a, [u8]>,
}

/// Prolongs the connection with a new token.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RefreshRequest<'a> {
    /// Connection token.
    pub token: Cow<'a, str>,
}

/// Prolongs a subscription with a new token, or changes the tracked keys of a shared poll subscription.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SubRefreshRequest<'a> {
    /// Channel.
    pub channel: Cow<'a, str>,
    /// Subscription token.
    pub token: Cow<'a, str>,
    /// 0 token refresh, 1 track, 2 untrack.
    pub kind: i32,
    /// Signed batches of keys to track.
    pub track: Vec<TrackBatch<'a>>,
    /// Keys no longer wanted.
    pub untrack: Vec<Cow<'a, str>>,
}

/// Keys to track under one signature.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TrackBatch<'a> {
    /// `iat:exp:hex`.
    pub signature: Cow<'a, str>,
    /// Keys and the versions the client holds.
    pub items: Vec<(Cow<'a, str>, u64)>,
}

/// The body of a request to the emulation endpoint: commands for a session whose stream runs the other way.
///
/// Spec: centrifugal/protocol client.proto, EmulationRequest
#[derive(Clone, Debug, PartialEq, Default)]
pub struct EmulationRequest<'a> {
    /// The node the session lives on.
    pub node: Cow<'a, str>,
    /// The session.
    pub session: Cow<'a, str>,
    /// Commands in the session's encoding; in JSON a string. `None` if that is missing or no string.
    pub data: Option<Cow<'a, [u8]>>,
}
