//! The application's say in what clients do: hooks.

use std::sync::Arc;

use gyre_protocol::{ClientError, Disconnect, Payload, Tags};

use crate::{
    channel::ChannelName,
    ports::{Answer, ConnectionClaims, SubscriptionGrant},
};

/// Asks the application's hooks, each by the name the rules give it. Where it has no usable answer in time, the outcome
/// is named with each: the caller never waits for ever.
///
/// Cancel safety: a dropped answer changes nothing but that the application may have been asked in vain.
///
/// Spec: centrifugal.dev, "Proxy events from clients to the backend"
pub trait ClientHooks: Send + Sync + 'static {
    /// Asks who a client without token is; `None` if the application does not know it.
    ///
    /// # Errors
    /// The application's refusal; [`ClientError::INTERNAL`] without a usable answer.
    fn connect(
        &self,
        hook: &str,
        caller: Caller,
        question: ConnectQuestion,
    ) -> Answer<Result<Option<Box<ConnectGrant>>, HookRefusal>>;

    /// Asks whether a connection that expires may go on; `None` without a usable answer.
    fn refresh(&self, hook: &str, caller: Caller) -> Answer<Option<Refreshed>>;

    /// Asks whether a client may subscribe, and how.
    ///
    /// # Errors
    /// As [`Self::connect`].
    fn subscribe(
        &self,
        hook: &str,
        caller: Caller,
        channel: ChannelName,
        data: Payload,
    ) -> Answer<Result<SubscribeGrant, HookRefusal>>;

    /// Asks whether a client may publish, and what.
    ///
    /// # Errors
    /// As [`Self::connect`].
    fn publish(
        &self,
        hook: &str,
        caller: Caller,
        channel: ChannelName,
        data: Payload,
    ) -> Answer<Result<PublishGrant, HookRefusal>>;

    /// Calls a method of the application, and returns the data of its answer.
    ///
    /// # Errors
    /// As [`Self::connect`].
    fn rpc(
        &self,
        hook: &str,
        caller: Caller,
        method: Box<str>,
        data: Payload,
    ) -> Answer<Result<Payload, HookRefusal>>;

    /// Asks whether a subscription that expires may go on; `None` without a usable answer.
    fn sub_refresh(&self, hook: &str, caller: Caller, channel: ChannelName) -> Answer<Option<Refreshed>>;
}

/// The connection a hook is asked about.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Client id.
    pub client: Box<str>,
    /// User id; empty for anonymous.
    pub user: Arc<str>,
    /// Name of the transport.
    pub transport: &'static str,
    /// `json` or `protobuf`.
    pub protocol: &'static str,
    /// What its token or connect hook attached to it, for the application only.
    pub meta: Payload,
    /// What hooks may see of its headers, if anything.
    pub headers: Option<Arc<ConnectionHeaders>>,
}

/// What hooks may see of a connection's headers; names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionHeaders {
    /// Of the request that opened the connection; a name may come more than once.
    pub request: RequestHeaders,
    /// Metadata of the gRPC call that opened the connection, in place of a request's headers.
    pub metadata: RequestHeaders,
    /// Of the connect command; each name comes once.
    pub emulated: EmulatedHeaders,
}

/// Headers of a request.
pub type RequestHeaders = Box<[(Box<str>, Box<[u8]>)]>;

/// Headers of a connect command: what stands for headers where a client cannot set them.
pub type EmulatedHeaders = Box<[(Box<str>, Box<str>)]>;

/// What the connect hook is told beside the caller.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectQuestion {
    /// Data of the command.
    pub data: Payload,
    /// Name of the SDK.
    pub name: Box<str>,
    /// Version given by the application's client.
    pub version: Box<str>,
    /// Server-side subscriptions the client named.
    pub channels: Vec<Box<str>>,
}

/// A connection as the application wants it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectGrant {
    /// Who the client is, and its server-side subscriptions.
    pub claims: ConnectionClaims,
    /// Handed to the client.
    pub data: Payload,
}

/// A subscription as the application wants it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscribeGrant {
    /// Unix time of its expiry; 0 is never.
    pub expire_at: i64,
    /// Information, data and overrides.
    pub grant: SubscriptionGrant,
}

/// A publication as the application wants it. What is `None` or empty stays as the client wanted it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishGrant {
    /// Other data.
    pub data: Option<Payload>,
    /// Keep it out of the history.
    pub skip_history: bool,
    /// Tags for filters.
    pub tags: Tags,
    /// See [`super::PublishOptions::idempotency_key`].
    pub idempotency_key: Box<str>,
    /// See [`super::PublishOptions::delta`].
    pub delta: bool,
    /// See [`super::PublishOptions::version`].
    pub version: u64,
    /// See [`super::PublishOptions::version_epoch`].
    pub version_epoch: Box<str>,
}

/// What becomes of a connection or subscription that expires.
#[derive(Clone, Debug, PartialEq)]
pub enum Refreshed {
    /// It ends.
    Expired,
    /// It goes on.
    Prolonged(Box<Prolongation>),
}

/// How a connection or subscription goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prolongation {
    /// Unix time of its next expiry; 0 is never.
    pub expire_at: i64,
    /// New information; empty keeps the old.
    pub info: Payload,
    /// New [`Caller::meta`]; empty keeps the old. Of connections only.
    pub meta: Payload,
}

/// What the application answers instead of allowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookRefusal {
    /// An error reply.
    Error(ClientError),
    /// The end of the connection.
    Disconnect(Disconnect),
}
