//! Publications, their history, and joins and leaves.

use std::{sync::Arc, time::Duration};

use gyre_protocol::{ClientInfo, Payload, Publication, StreamPosition, Tags};

use crate::{
    channel::{ChannelName, HistoryOptions},
    ports::{Answer, EngineError},
};

/// What happens in a channel, on its way to every node that is interested in it.
#[derive(Clone, Debug, PartialEq)]
pub enum ChannelEvent {
    /// A publication. `offset` and `epoch` are set if it is part of the channel's history.
    Publication(Arc<Publication>),
    /// A publication whose publisher wants it delivered as a patch where possible ([`PublishOptions::delta`]).
    DeltaPublication(Arc<Publication>),
    /// The same of a key that was there already ([`super::NewEntry::delta`]): the patch is made against the publication of
    /// the key before it, which comes along, because nobody on the way keeps those of every key.
    DeltaChange {
        /// The change.
        publication: Arc<Publication>,
        /// What the key was until then.
        base: Arc<Publication>,
    },
    /// Someone subscribed.
    Join(Arc<ClientInfo>),
    /// Someone left.
    Leave(Arc<ClientInfo>),
    /// Events of this channel were lost on the way to this node; positions can no longer be trusted.
    Lost,
}

/// Where a broker delivers the events of channels this node is subscribed to.
pub trait EventSink: Send + Sync + 'static {
    /// Takes one event. Must not block: it is called while the broker holds the channel's order.
    fn deliver(&self, channel: &ChannelName, event: ChannelEvent);
}

/// A publication to be made.
#[derive(Clone, Debug, Default)]
pub struct NewPublication {
    /// Application data.
    pub data: Payload,
    /// The publishing client, if a client publishes.
    pub info: Option<Arc<ClientInfo>>,
    /// Tags for filters.
    pub tags: Tags,
}

/// How a publication is made.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// Append to the channel's history; `None` delivers only.
    pub history: Option<HistoryOptions>,
    /// A publication with the same key in this channel within [`IDEMPOTENCY_TTL`] is not made again; empty is off.
    pub idempotency_key: Box<str>,
    /// Deliver as a delta to those who asked for it: as [`ChannelEvent::DeltaPublication`]. The patch is made on the way
    /// to them, against what they received last.
    pub delta: bool,
    /// A publication whose version is not above the stream's is not made (only with history); 0 is off, and leaves the
    /// stream's version as it is.
    pub version: u64,
    /// Versions of different epochs are not compared; the empty epoch is compared with any.
    pub version_epoch: Box<str>,
}

/// How long an idempotency key is remembered.
///
/// Spec: centrifuge `broker_memory.go`, defaultIdempotentResultTTL.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(300);

/// The outcome of a publish.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Published {
    /// Position of the publication (or the current top, if it was suppressed); zero without history.
    pub position: StreamPosition,
    /// The publication was suppressed by its idempotency key or version: nothing was delivered, and neither position
    /// nor times to live changed.
    pub is_suppressed: bool,
}

/// Which part of a stream to read.
///
/// Forward: offsets above `since`, ascending; from the oldest one kept, if those that follow `since` are gone. Reverse:
/// offsets below `since`, descending; nothing if the one just below is not there.
///
/// Spec: centrifugal.dev, "History and recovery"; centrifuge `HistoryFilter`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HistoryFilter {
    /// Read after (or, in reverse, before) this offset; `None` from the oldest (newest). A non-empty epoch must match.
    pub since: Option<StreamPosition>,
    /// Publications wanted at most; `None` all; `Some(0)` the position only.
    pub limit: Option<usize>,
    /// Newest first.
    pub reverse: bool,
}

/// A part of a stream and the stream's top.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct History {
    /// Publications in the order asked for.
    pub publications: Vec<Arc<Publication>>,
    /// The newest publication's position.
    pub top: StreamPosition,
}

/// Publishes into channels and keeps their history.
///
/// Ordering: events of one channel reach the [`EventSink`] in the order of their offsets, joins and leaves in the
/// order they were published in.
pub trait Broker: Send + Sync + 'static {
    /// Starts delivery of a channel to this node. Resolves only when active: whatever the engine accepts afterwards is
    /// delivered. Called for every subscriber: where the channel is active the answer is there at once. What is called
    /// last for a channel, this or [`Broker::unsubscribe`], is what is in force in the end.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`]; the channel is then not subscribed.
    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>>;

    /// Ends delivery of a channel to this node. Idempotent.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`]; events may then still arrive and are ignored.
    fn unsubscribe(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>>;

    /// Makes a publication: appends it to the history if asked to, and delivers it to every subscribed node.
    ///
    /// Offsets of a stream start at 1 and have no gaps. The newest `size` publications are kept until `ttl` after the
    /// last one, the position until `meta_ttl` after the last publication or reading; then the next stream begins
    /// under another epoch.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`]; whether the publication was made is then unknown.
    fn publish(
        &self,
        channel: &ChannelName,
        publication: NewPublication,
        options: PublishOptions,
    ) -> Answer<Result<Published, EngineError>>;

    /// Delivers a join or leave to every subscribed node.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`].
    fn publish_presence(
        &self,
        channel: &ChannelName,
        event: PresenceEvent,
    ) -> Answer<Result<(), EngineError>>;

    /// Reads history. A stream that does not exist yet is created empty, so that its epoch is known.
    ///
    /// `meta_ttl` is how long offset and epoch must be kept from now on.
    ///
    /// # Errors
    /// [`EngineError::UnrecoverablePosition`] if `since` names another epoch; [`EngineError::Unavailable`].
    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> Answer<Result<History, EngineError>>;

    /// Removes all publications of a channel and keeps its position.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`].
    fn remove_history(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>>;
}

/// A join or a leave.
#[derive(Clone, Debug, PartialEq)]
pub enum PresenceEvent {
    /// Someone subscribed.
    Join(Arc<ClientInfo>),
    /// Someone left.
    Leave(Arc<ClientInfo>),
}
