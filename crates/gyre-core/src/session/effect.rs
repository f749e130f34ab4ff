//! What a session asks for, and what comes back.

use std::{sync::Arc, time::Duration};

use gyre_protocol::{ClientInfo, Epoch, Payload, PresenceStats, Request, StreamPosition, SubscribePush};

use crate::{
    channel::{ChannelName, MapStorage, SharedPollOptions},
    hub::Activation,
    ports::{
        Caller, ConnectGrant, ConnectQuestion, ConnectionClaims, EmulatedHeaders, EngineError, History,
        HistoryFilter, HookRefusal, MapHookGrant, MapHookRequest, MapState, NewEntry, NewPublication,
        PublishGrant, PublishOptions, Refreshed, StateFilter, StreamRequest, SubscribeGrant,
        SubscriptionClaims, TokenError,
    },
};

/// Names a request of one session, so that a late outcome finds its place or is recognised as stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EffectId(pub(crate) u32);

/// Work a session wants done. Each kind is answered by the [`Outcome`] named with it, or not at all.
#[derive(Debug)]
pub enum Effect {
    /// Verify a connection token, on connect or refresh. → [`Outcome::Authenticated`]
    Authenticate {
        /// The token.
        token: Box<str>,
    },
    /// Register the connection under its user. → [`Outcome::Attached`]
    Attach {
        /// User id; empty for anonymous.
        user: Arc<str>,
    },
    /// Verify a subscription token, on subscribe or sub_refresh. → [`Outcome::Verified`]
    Verify {
        /// The token.
        token: Box<str>,
    },
    /// Put the connection into the channel and read what it needs to know of the stream. → [`Outcome::Subscribed`]
    Subscribe {
        /// Channel.
        channel: ChannelName,
        /// What is asked of the hub and the engine.
        request: SubscribeEffect,
    },
    /// Take the connection out of the channel. No outcome.
    Unsubscribe {
        /// Channel.
        channel: ChannelName,
        /// The member to remove from presence.
        presence: Option<Arc<ClientInfo>>,
        /// The member whose leave is to be published.
        leave: Option<Arc<ClientInfo>>,
    },
    /// End the user's other connections with 3504. No outcome.
    EndOthers {
        /// The user; never the anonymous one.
        user: Arc<str>,
    },
    /// Publish the join of a new subscriber. No outcome.
    Join {
        /// Channel.
        channel: ChannelName,
        /// The member.
        info: Arc<ClientInfo>,
    },
    /// Renew the presence entry. No outcome.
    RenewPresence {
        /// Channel.
        channel: ChannelName,
        /// The member.
        info: Arc<ClientInfo>,
    },
    /// Compare the subscriber's position with the top of the stream. No outcome; a mismatch comes as
    /// [`super::Session::handle_lost_position`].
    CheckPosition {
        /// Channel.
        channel: ChannelName,
        /// How long the engine keeps the position.
        meta_ttl: Duration,
    },
    /// Publish. → [`Outcome::Published`]
    Publish {
        /// Channel.
        channel: ChannelName,
        /// What.
        publication: NewPublication,
        /// How.
        options: PublishOptions,
    },
    /// List the members of a channel. → [`Outcome::Presence`]
    Presence {
        /// Channel.
        channel: ChannelName,
    },
    /// Count the members of a channel. → [`Outcome::PresenceStats`]
    PresenceStats {
        /// Channel.
        channel: ChannelName,
    },
    /// Read history. → [`Outcome::History`]
    History {
        /// Channel.
        channel: ChannelName,
        /// Which part.
        filter: HistoryFilter,
        /// How long the engine keeps the position from now on.
        meta_ttl: Duration,
    },
    /// Read a page of a map's state. → [`Outcome::MapState`]
    ReadMapState {
        /// Channel.
        channel: ChannelName,
        /// Which page.
        filter: StateFilter,
        /// What the map keeps.
        storage: MapStorage,
        /// Put the connection into the channel first, unless it is there, and hold back what comes until it is
        /// activated; with joins and leaves or without.
        hold: Option<bool>,
    },
    /// Read a page of a map's changes. → [`Outcome::MapStream`]
    ReadMapStream {
        /// Channel.
        channel: ChannelName,
        /// Which part.
        filter: HistoryFilter,
        /// What the map keeps.
        storage: MapStorage,
    },
    /// Put the connection into a map's channel, hold back what comes until it is activated, and read what preceded.
    /// → [`Outcome::MapFollowed`]
    FollowMap {
        /// Channel.
        channel: ChannelName,
        /// Deliver joins and leaves.
        join_leave: bool,
        /// The changes to read, and what the map keeps; `None` without a stream.
        stream: Option<(HistoryFilter, MapStorage)>,
    },
    /// Change a map. → [`Outcome::Published`]
    ChangeMap {
        /// Channel.
        channel: ChannelName,
        /// What.
        change: MapChange,
        /// What the map keeps.
        storage: MapStorage,
    },
    /// Ask the application; the driver adds what it knows of the connection. → the outcome named with the question
    Ask {
        /// Which hook.
        hook: Box<str>,
        /// Who it is about, as far as the session knows.
        caller: Box<Caller>,
        /// What is asked.
        question: Box<Question>,
    },
    /// Keep headers of the connect command for the hooks that are asked from now on. No outcome.
    KeepHeaders {
        /// Those that some hook may see.
        headers: EmulatedHeaders,
    },
    /// Read a stream that was opened; what comes is handed in with [`super::Session::handle_streamed`] and
    /// [`super::Session::handle_stream_end`]. No outcome.
    FollowStream {
        /// The effect that opened it.
        stream: EffectId,
        /// Whose subscription it feeds.
        channel: ChannelName,
    },
    /// End a stream, also one that is being opened. No outcome.
    EndStream {
        /// The effect that opened it.
        stream: EffectId,
    },
    /// Send a publication up a stream. → [`Outcome::Published`]
    PublishToStream {
        /// The effect that opened it.
        stream: EffectId,
        /// What.
        data: Payload,
    },
    /// Set a key that tells of the client, or keep it alive. No outcome.
    EnterMap {
        /// Channel of the map.
        channel: ChannelName,
        /// Key.
        key: Box<str>,
        /// The client.
        info: Option<Arc<ClientInfo>>,
        /// What the map keeps.
        storage: MapStorage,
    },
    /// Remove a key that told of the client. No outcome.
    LeaveMap {
        /// Channel of the map.
        channel: ChannelName,
        /// Key.
        key: Box<str>,
        /// What the map keeps.
        storage: MapStorage,
    },
    /// Put the connection into a polled channel. → [`Outcome::PollJoined`]
    JoinPoll {
        /// Channel.
        channel: ChannelName,
        /// How it is polled.
        options: Arc<SharedPollOptions>,
    },
    /// Verify the signatures of keys to be tracked. → [`Outcome::TrackVerified`]
    VerifyTrack {
        /// Channel.
        channel: ChannelName,
        /// Who tracks.
        user: Arc<str>,
        /// Keys by signature.
        batches: Vec<TrackBatch>,
    },
    /// Deliver keys from now on, above the version named with each. No outcome.
    Track {
        /// Channel.
        channel: ChannelName,
        /// Keys and versions.
        keys: Vec<(Box<str>, u64)>,
        /// Updates may go out as patches.
        delta: bool,
    },
    /// Deliver keys no longer. No outcome.
    Untrack {
        /// Channel.
        channel: ChannelName,
        /// Keys.
        keys: Vec<Box<str>>,
    },
}

/// What the application is asked about a client.
#[derive(Debug)]
pub enum Question {
    /// Who it is. → [`Outcome::ConnectAnswered`]
    Connect(ConnectQuestion),
    /// Whether its connection may go on. → [`Outcome::RefreshAnswered`]
    Refresh,
    /// Whether it may subscribe. → [`Outcome::SubscribeAnswered`]
    Subscribe {
        /// Channel.
        channel: ChannelName,
        /// Data of the command.
        data: Payload,
    },
    /// Whether it may publish. → [`Outcome::PublishAnswered`]
    Publish {
        /// Channel.
        channel: ChannelName,
        /// What it wants to publish.
        data: Payload,
    },
    /// What a method answers. → [`Outcome::RpcAnswered`]
    Rpc {
        /// Method.
        method: Box<str>,
        /// Data of the command.
        data: Payload,
    },
    /// Whether its subscription may go on. → [`Outcome::SubRefreshAnswered`]
    SubRefresh {
        /// Channel.
        channel: ChannelName,
    },
    /// Whether it may subscribe, with a stream that feeds its subscription; the effect's id names the stream from then on.
    /// → [`Outcome::StreamOpened`]
    OpenStream(StreamRequest),
    /// Whether it may change a map. → [`Outcome::MapHookAnswered`]
    Map(MapHookRequest),
}

/// Keys under one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackBatch {
    /// `iat:exp:hex`.
    pub signature: Box<str>,
    /// Keys in the order they were signed in.
    pub keys: Vec<Box<str>>,
}

/// A client's change of a map.
#[derive(Debug)]
pub enum MapChange {
    /// Set a key.
    Publish(Box<NewEntry>),
    /// Remove a key.
    Remove {
        /// Key.
        key: Box<str>,
        /// See [`NewEntry::idempotency_key`].
        idempotency_key: Box<str>,
    },
}

/// What a subscription needs from hub and engine.
#[derive(Clone, Debug, Default)]
pub struct SubscribeEffect {
    /// Deliver joins and leaves.
    pub join_leave: bool,
    /// Keep the position; `None` for at-most-once delivery.
    pub stream: Option<StreamRead>,
    /// Become a member of the channel's presence.
    pub presence: Option<Arc<ClientInfo>>,
}

/// What is read of a stream while subscribing.
#[derive(Clone, Debug)]
pub struct StreamRead {
    /// Which part.
    pub part: StreamPart,
    /// How long the engine keeps the position from now on.
    pub meta_ttl: Duration,
    /// The hook that is told if there is no publication ([`StreamPart::Latest`] only); it may publish one.
    pub empty_hook: Option<Box<str>>,
}

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamPart {
    /// The position of the newest publication only.
    Top,
    /// That many of the newest publications, the newest first.
    Latest(usize),
    /// What follows a position, that many publications at most.
    Since(StreamPosition, usize),
}

/// The answer to an [`Effect`].
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Effect::Authenticate`].
    Authenticated(Result<Box<ConnectionClaims>, TokenError>),
    /// Of [`Effect::Attach`].
    Attached(Attached),
    /// Of [`Effect::Verify`].
    Verified(Result<Box<SubscriptionClaims>, TokenError>),
    /// Of [`Effect::Subscribe`]. After an error the session closes and gives back what was done.
    Subscribed {
        /// Channel of the effect.
        channel: ChannelName,
        /// What was read.
        result: Result<Subscribed, EngineError>,
    },
    /// Of [`Question::Connect`]; `None` if the application does not know the client.
    ConnectAnswered(Result<Option<Box<ConnectGrant>>, HookRefusal>),
    /// Of [`Question::Refresh`]; `None` without a usable answer.
    RefreshAnswered(Option<Refreshed>),
    /// Of [`Question::Subscribe`].
    SubscribeAnswered(Result<Box<SubscribeGrant>, HookRefusal>),
    /// Of [`Question::OpenStream`]. Without an error there is a stream, to be followed or ended.
    StreamOpened(Result<Box<SubscribeGrant>, HookRefusal>),
    /// Of [`Question::Publish`].
    PublishAnswered(Result<Box<PublishGrant>, HookRefusal>),
    /// Of [`Question::Rpc`].
    RpcAnswered(Result<Payload, HookRefusal>),
    /// Of [`Question::SubRefresh`]; `None` without a usable answer.
    SubRefreshAnswered {
        /// Channel of the question.
        channel: ChannelName,
        /// The answer.
        answer: Option<Refreshed>,
    },
    /// Of [`Question::Map`].
    MapHookAnswered(Result<Box<MapHookGrant>, HookRefusal>),
    /// Of [`Effect::JoinPoll`]: the epoch of the channel's versions, empty if not known yet.
    PollJoined(Epoch),
    /// Of [`Effect::VerifyTrack`]: when each batch expires (Unix time), or why one of them is refused.
    TrackVerified(Result<Vec<Option<i64>>, TokenError>),
    /// Of [`Effect::ReadMapState`].
    MapState(Result<MapState, EngineError>),
    /// Of [`Effect::ReadMapStream`].
    MapStream(Result<History, EngineError>),
    /// Of [`Effect::FollowMap`]. After an error the session gives back what was done.
    MapFollowed(Result<Option<History>, EngineError>),
    /// Of [`Effect::Publish`], [`Effect::ChangeMap`] and [`Effect::PublishToStream`].
    Published(Result<(), EngineError>),
    /// Of [`Effect::Presence`].
    Presence(Result<Vec<Arc<ClientInfo>>, EngineError>),
    /// Of [`Effect::PresenceStats`].
    PresenceStats(Result<PresenceStats, EngineError>),
    /// Of [`Effect::History`].
    History(Result<History, EngineError>),
}

/// Whether a connection may join its user's others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Registered.
    Yes,
    /// `client.user_connection_limit` is reached.
    LimitReached,
}

/// What is known of the stream after hub and engine have the subscription.
#[derive(Debug, Default)]
pub struct Subscribed {
    /// The part read and the top; `None` without positioning.
    pub history: Option<History>,
    /// False if the requested position was refused by the engine (another epoch).
    pub is_continuous: bool,
    /// The channel's number on this shard, from 1 ([`crate::hub::Hub::channel_id`]).
    pub channel_id: u32,
}

/// Something for the driver to do after an input was handled.
#[derive(Debug)]
pub enum Output {
    /// Send a reply.
    Reply(gyre_protocol::Reply),
    /// Send a push.
    Push(gyre_protocol::Push),
    /// Send a ping.
    Ping,
    /// Do some work.
    Effect(EffectId, Effect),
    /// The subscription is made: deliveries may flow, and those held back are looked at again. Comes right after the
    /// reply.
    Activate {
        /// Channel.
        channel: ChannelName,
        /// What may flow, and in which form.
        activation: Activation,
    },
    /// A command was answered with an error; for those who count.
    Refused {
        /// Which.
        command: CommandKind,
        /// Code of the error.
        code: u32,
    },
    /// Nothing more will come: let the peer read what was sent, then end the connection.
    Finish,
}

/// The commands there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "their names say it")]
pub enum CommandKind {
    Connect,
    Subscribe,
    Unsubscribe,
    Publish,
    Presence,
    PresenceStats,
    History,
    Rpc,
    Send,
    Refresh,
    SubRefresh,
    Ping,
}

impl CommandKind {
    /// The kind of a request.
    pub fn of(request: &Request<'_>) -> Self {
        match request {
            Request::Connect(_) => Self::Connect,
            Request::Subscribe(_) => Self::Subscribe,
            Request::Unsubscribe(_) => Self::Unsubscribe,
            Request::Publish(_) => Self::Publish,
            Request::Presence(_) => Self::Presence,
            Request::PresenceStats(_) => Self::PresenceStats,
            Request::History(_) => Self::History,
            Request::Rpc(_) => Self::Rpc,
            Request::Send(_) => Self::Send,
            Request::Refresh(_) => Self::Refresh,
            Request::SubRefresh(_) => Self::SubRefresh,
            Request::Ping => Self::Ping,
        }
    }

    /// The name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
            Self::Publish => "publish",
            Self::Presence => "presence",
            Self::PresenceStats => "presence_stats",
            Self::History => "history",
            Self::Rpc => "rpc",
            Self::Send => "send",
            Self::Refresh => "refresh",
            Self::SubRefresh => "sub_refresh",
            Self::Ping => "ping",
        }
    }
}

/// Options of a subscription made by the application at run time.
#[derive(Clone, Debug, Default)]
pub struct ServerSubscribe {
    /// Unix time of its expiry; `None` or 0 is never.
    pub expire_at: Option<i64>,
    /// Information, data and overrides.
    pub grant: crate::ports::SubscriptionGrant,
    /// Position to start from.
    pub since: Option<StreamPosition>,
}

/// Changes of a connection made by the application at run time.
#[derive(Clone, Debug, Default)]
pub struct ServerRefresh {
    /// New expiry in Unix seconds; 0 ends the expiry.
    pub expire_at: i64,
    /// New connection information; empty keeps the old.
    pub info: Payload,
}

/// Body of the push that announces a server-side subscription.
pub(crate) fn subscribe_push(result: &gyre_protocol::SubscribeResult) -> SubscribePush {
    SubscribePush {
        recoverable: result.recoverable,
        epoch: result.epoch.clone(),
        offset: result.offset,
        positioned: result.positioned,
        data: result.data.clone(),
    }
}
