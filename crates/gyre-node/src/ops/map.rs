//! map_publish, map_remove, map_read_state, map_read_stream, map_stats and map_clear.

use gyre_core::{
    channel::{ChannelName, MapOptions},
    limits::KEY_BYTES_MAX,
    ports::{Answer, History, HistoryFilter, KeyMode, MapPublished, MapState, NewEntry, StateFilter},
    stream::continues,
};
use gyre_protocol::{Epoch, Payload, StreamPosition, Tags};

use super::{ApiAnswer, ApiError};
use crate::node::Node;

/// An entry of the application.
#[derive(Clone, Debug, Default)]
pub struct MapPublishRequest {
    /// Key.
    pub key: Box<str>,
    /// Application data.
    pub data: Payload,
    /// Tags for filters.
    pub tags: Tags,
    /// See [`NewEntry::score`].
    pub score: i64,
    /// See [`NewEntry::idempotency_key`].
    pub idempotency_key: Box<str>,
    /// Deliver as a delta; the namespace's `delta_publish` has the same effect.
    pub delta: bool,
    /// See [`NewEntry::version`].
    pub version: u64,
    /// See [`NewEntry::version_epoch`].
    pub version_epoch: Box<str>,
    /// Condition on the key.
    pub key_mode: KeyMode,
}

/// Which entries of a map are wanted.
#[derive(Clone, Debug, Default)]
pub struct StatePage {
    /// This one only; empty for a page.
    pub key: Box<str>,
    /// Where the page begins.
    pub cursor: Box<str>,
    /// Entries at most: 0 the position only, negative all.
    pub limit: i32,
    /// Lowest score first, in maps ordered by score.
    pub ascending: bool,
    /// The epoch of the pages before; empty matches any.
    pub epoch: Epoch,
}

/// Which changes of a map are wanted.
#[derive(Clone, Debug, Default)]
pub struct StreamPage {
    /// Position to read from; offset 0 without epoch is the oldest (newest) change.
    pub since: StreamPosition,
    /// Changes at most: 0 the position only, negative all.
    pub limit: i32,
    /// Newest first.
    pub reverse: bool,
}

impl Node {
    /// Sets a key.
    ///
    /// # Errors
    /// 107 (name, kind of channel, key), 102, 108 for a version without stream, 100.
    pub fn map_publish(&self, channel: &str, request: MapPublishRequest) -> ApiAnswer<MapPublished> {
        let (name, map, delta_publish) = match self.map_channel(channel) {
            Ok(found) => found,
            Err(error) => return Answer::Ready(Err(error)),
        };
        if request.key.is_empty() || request.key.len() > KEY_BYTES_MAX {
            return Answer::Ready(Err(ApiError::BAD_REQUEST));
        }
        let entry = NewEntry {
            key: request.key,
            data: request.data,
            info: None,
            tags: request.tags,
            score: request.score,
            key_mode: request.key_mode,
            idempotency_key: request.idempotency_key,
            delta: request.delta || delta_publish,
            version: request.version,
            version_epoch: request.version_epoch,
        };
        let published = self.ports.maps.publish(&name, entry, map.storage);
        published.map(|result| result.map_err(ApiError::from))
    }

    /// Removes a key.
    ///
    /// # Errors
    /// 107, 102, 100.
    pub fn map_remove(&self, channel: &str, key: &str, idempotency_key: &str) -> ApiAnswer<MapPublished> {
        match self.map_channel(channel) {
            Ok(_) if key.is_empty() => Answer::Ready(Err(ApiError::BAD_REQUEST)),
            Ok((name, map, _)) => {
                let removed = self.ports.maps.remove(&name, key, idempotency_key.into(), map.storage);
                removed.map(|result| result.map_err(ApiError::from))
            }
            Err(error) => Answer::Ready(Err(error)),
        }
    }

    /// Reads entries. The page sizes of clients do not apply.
    ///
    /// # Errors
    /// 107, 102, 112 if the epoch has changed or the cursor is of another order, 100.
    pub fn map_read_state(&self, channel: &str, page: StatePage) -> ApiAnswer<MapState> {
        let (name, map, _) = match self.map_channel(channel) {
            Ok(found) => found,
            Err(error) => return Answer::Ready(Err(error)),
        };
        let filter = match page.key.is_empty() {
            true => StateFilter::Page {
                cursor: page.cursor,
                limit: usize::try_from(page.limit).ok(),
                ascending: page.ascending,
            },
            false => StateFilter::Key(page.key),
        };
        let epoch = page.epoch;
        self.ports.maps.read_state(&name, filter, map.storage).map(move |result| match result {
            Ok(state) if !epoch.is_empty() && !epoch.is_same(&state.position.epoch) => {
                Err(ApiError::UNRECOVERABLE_POSITION)
            }
            result => result.map_err(ApiError::from),
        })
    }

    /// Reads changes.
    ///
    /// # Errors
    /// 107, 102, 108 without a stream, 112 for a foreign epoch or changes no longer kept, 100.
    pub fn map_read_stream(&self, channel: &str, page: StreamPage) -> ApiAnswer<History> {
        let (name, map, _) = match self.map_channel(channel) {
            Ok(found) => found,
            Err(error) => return Answer::Ready(Err(error)),
        };
        let StreamPosition { offset, epoch } = &page.since;
        let since = (*offset > 0 || !epoch.is_empty()).then(|| page.since.clone());
        let limit = usize::try_from(page.limit).ok();
        // A gap at the start is an error forward only, and only where something is read.
        let after = since.as_ref().map(|since| since.offset).filter(|_| !page.reverse && limit != Some(0));
        let filter = HistoryFilter { since, limit, reverse: page.reverse };
        self.ports.maps.read_stream(&name, filter, map.storage).map(move |result| match (result, after) {
            (Ok(history), Some(after)) if !continues(after, &history) => {
                Err(ApiError::UNRECOVERABLE_POSITION)
            }
            (result, _) => result.map_err(ApiError::from),
        })
    }

    /// How many keys a map has.
    ///
    /// # Errors
    /// 107, 102, 100.
    pub fn map_stats(&self, channel: &str) -> ApiAnswer<usize> {
        match self.map_channel(channel) {
            Ok((name, ..)) => self.ports.maps.key_count(&name).map(|result| result.map_err(ApiError::from)),
            Err(error) => Answer::Ready(Err(error)),
        }
    }

    /// Forgets a map.
    ///
    /// # Errors
    /// 107, 102, 100.
    pub fn map_clear(&self, channel: &str) -> ApiAnswer<()> {
        match self.map_channel(channel) {
            Ok((name, ..)) => self.ports.maps.clear(&name).map(|result| result.map_err(ApiError::from)),
            Err(error) => Answer::Ready(Err(error)),
        }
    }

    /// The name of a map, its options, and whether its namespace publishes deltas.
    fn map_channel(&self, channel: &str) -> Result<(ChannelName, MapOptions, bool), ApiError> {
        let options = self.api_channel(channel)?;
        let map = options.map.clone().ok_or(ApiError::BAD_REQUEST)?;
        Ok((ChannelName::new(channel), map, options.delta_publish))
    }
}
