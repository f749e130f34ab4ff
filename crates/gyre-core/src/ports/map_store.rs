//! Keyed state with a stream of its changes.

use std::sync::Arc;

use gyre_protocol::{ClientInfo, Payload, Publication, StreamPosition, Tags};

use crate::{
    channel::{ChannelName, MapStorage},
    ports::{Answer, EngineError, History, HistoryFilter},
};

/// An entry to be published.
#[derive(Clone, Debug, Default)]
pub struct NewEntry {
    /// Key; not empty.
    pub key: Box<str>,
    /// Application data.
    pub data: Payload,
    /// The publishing client, if a client publishes.
    pub info: Option<Arc<ClientInfo>>,
    /// Tags for filters; the removal of the key carries them too.
    pub tags: Tags,
    /// Told with the entry; where it stands in a map ordered by score. Any number.
    pub score: i64,
    /// Whether the key may or must be there.
    pub key_mode: KeyMode,
    /// See [`super::PublishOptions::idempotency_key`].
    pub idempotency_key: Box<str>,
    /// Deliver as a delta to those who asked for it: as [`super::ChannelEvent::DeltaChange`], unless the key is new.
    pub delta: bool,
    /// An entry whose version is not above the key's is not published; 0 is off, and leaves the key's version as it is.
    pub version: u64,
    /// Versions of different epochs are not compared; the empty epoch is compared with any.
    pub version_epoch: Box<str>,
}

/// A condition on the key of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KeyMode {
    /// None.
    #[default]
    Any,
    /// The key must not be there.
    IfNew,
    /// The key must not be there; if it is, its time to live begins again and nothing else happens.
    IfNewOrRenew,
    /// The key must be there.
    IfExists,
}

/// The outcome of a change.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MapPublished {
    /// Position of the change, or the current one if it was suppressed. The offset is 0 without a stream.
    pub position: StreamPosition,
    /// Why nothing was changed and nothing delivered.
    pub suppressed: Option<Suppression>,
}

/// Why a change was not made. Asked in this order.
///
/// Spec: Centrifugo server API, `map_publish`, suppress_reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppression {
    /// A change with that idempotency key was made already; its position is told.
    Idempotency,
    /// The version is not above the key's.
    Version,
    /// The key exists.
    KeyExists,
    /// The key does not exist.
    KeyNotFound,
}

/// Which entries to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateFilter {
    /// One key.
    Key(Box<str>),
    /// The entries behind a cursor.
    Page {
        /// [`MapState::cursor`] of the page before; empty for the first.
        cursor: Box<str>,
        /// Entries wanted at most; `None` all, `Some(0)` the position only. An engine may return more.
        limit: Option<usize>,
        /// Lowest score first. Maps ordered by key have one direction and ignore it.
        ascending: bool,
    },
}

/// A part of a map's state, as publications that have a key.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MapState {
    /// The entries in the order of the map: by key in ascending order of bytes; or by score and, where scores are equal,
    /// key, both descending or both ascending.
    pub entries: Vec<Arc<Publication>>,
    /// Where the stream was when they were read: changes after it are not in them, changes up to it are.
    pub position: StreamPosition,
    /// Where the next page begins; empty after the last one. Means nothing to others than the engine.
    pub cursor: Box<str>,
}

/// Keeps maps: for every channel the newest publication of each key, and the stream of changes.
///
/// Ordering: every change (publication, removal, end of a key's time to live) is one [`Publication`] with a key. With
/// a stream, changes of a channel have the offsets 1, 2, 3… of one epoch and reach the [`super::EventSink`] in that
/// order; without one they have offset 0 and reach it in the order they were made in.
///
/// Atomicity: a change is in state and stream at once or in neither, and its conditions are judged in the same step. A
/// page of state and its position belong to one moment; two pages do not.
///
/// Pages: a cursor names the last entry of its page and where it stood, and the next page begins behind that place,
/// whatever has become of the entry. So pages show every key once that stayed where it was, and a key that was set or
/// removed meanwhile once, twice or not at all: its change is in the stream behind the position of the first page. A page
/// of n entries costs n steps and the way to the first of them, in either order.
///
/// Order: a map keeps one order at a time, that of the options of the last call.
///
/// Time: a key ends `key_ttl` after its last publication. It is not seen from then on; its removal is delivered within
/// about a second as a change like any other. The newest `size` changes are kept for `ttl` after the last one. A map
/// without keys is forgotten `meta_ttl` (`key_ttl` without a stream) after the last change or reading; the next one
/// has another epoch.
///
/// Cancel safety: an answer that is dropped may or may not have taken effect; nothing is half made.
pub trait MapStore: Send + Sync + 'static {
    /// Starts delivery of a channel to this node; see [`super::Broker::subscribe`].
    ///
    /// # Errors
    /// [`EngineError::Unavailable`]; the channel is then not subscribed.
    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>>;

    /// Ends delivery of a channel to this node; see [`super::Broker::unsubscribe`].
    ///
    /// # Errors
    /// [`EngineError::Unavailable`]; changes may then still arrive and are ignored.
    fn unsubscribe(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>>;

    /// Sets a key, if its conditions hold.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`]; whether the change was made is then unknown. [`EngineError::LimitReached`] if the
    /// map has too many keys; [`EngineError::NotAvailable`] for a version without a stream.
    fn publish(
        &self,
        channel: &ChannelName,
        entry: NewEntry,
        storage: MapStorage,
    ) -> Answer<Result<MapPublished, EngineError>>;

    /// Removes a key. A key that is not there is a [`Suppression::KeyNotFound`].
    ///
    /// # Errors
    /// [`EngineError::Unavailable`]; whether the change was made is then unknown.
    fn remove(
        &self,
        channel: &ChannelName,
        key: &str,
        idempotency_key: Box<str>,
        storage: MapStorage,
    ) -> Answer<Result<MapPublished, EngineError>>;

    /// Reads entries. A map that does not exist yet is created empty, so that its epoch is known.
    ///
    /// # Errors
    /// [`EngineError::UnrecoverablePosition`] if the cursor is none of this map; [`EngineError::Unavailable`].
    fn read_state(
        &self,
        channel: &ChannelName,
        filter: StateFilter,
        storage: MapStorage,
    ) -> Answer<Result<MapState, EngineError>>;

    /// Reads the stream of changes; see [`HistoryFilter`]. A map that does not exist yet is created empty.
    ///
    /// # Errors
    /// [`EngineError::UnrecoverablePosition`] if `since` names another epoch; [`EngineError::NotAvailable`] without a
    /// stream; [`EngineError::Unavailable`].
    fn read_stream(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        storage: MapStorage,
    ) -> Answer<Result<History, EngineError>>;

    /// How many keys a map has.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`].
    fn key_count(&self, channel: &ChannelName) -> Answer<Result<usize, EngineError>>;

    /// Forgets a map, its keys, stream and epoch. Those who follow it are told by [`super::ChannelEvent::Lost`].
    ///
    /// # Errors
    /// [`EngineError::Unavailable`].
    fn clear(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>>;
}
