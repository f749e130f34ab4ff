//! Options of map channels: keyed state, and how clients reach it.
//!
//! Spec: configuration `channel.namespaces[].map`.

use std::time::Duration;

use crate::channel::{CallRights, HistoryOptions};

/// How a map is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapStorage {
    /// `mode`, `key_ttl`, `stream_size`, `stream_ttl`, `meta_ttl`.
    pub retention: MapRetention,
    /// `ordered`.
    pub order: MapOrder,
}

/// The order in which a map's state is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MapOrder {
    /// By key, ascending.
    #[default]
    Key,
    /// By score and, where scores are equal, key: descending unless asked otherwise.
    Score,
}

/// What a map keeps, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapRetention {
    /// Keys only, each for `key_ttl` after its last publication. Changes have no offsets and cannot be recovered.
    Ephemeral {
        /// How long a key lives.
        key_ttl: Duration,
    },
    /// Keys that end like those of ephemeral maps, and a stream of the changes.
    Recoverable {
        /// How long a key lives.
        key_ttl: Duration,
        /// The changes kept.
        stream: HistoryOptions,
    },
    /// Keys that do not end, and a stream of the changes.
    Persistent {
        /// The changes kept.
        stream: HistoryOptions,
    },
}

impl MapStorage {
    /// A map that is read in the order of its keys.
    pub const fn by_key(retention: MapRetention) -> Self {
        Self { retention, order: MapOrder::Key }
    }

    /// A map that is read in the order of its scores.
    pub const fn by_score(retention: MapRetention) -> Self {
        Self { retention, order: MapOrder::Score }
    }

    /// How long a key lives; `None` is for ever.
    pub fn key_ttl(&self) -> Option<Duration> {
        match self.retention {
            MapRetention::Ephemeral { key_ttl } | MapRetention::Recoverable { key_ttl, .. } => Some(key_ttl),
            MapRetention::Persistent { .. } => None,
        }
    }

    /// The changes kept; `None` without a stream. A `meta_ttl` of [`Duration::MAX`] is for ever.
    pub fn stream(&self) -> Option<&HistoryOptions> {
        match &self.retention {
            MapRetention::Ephemeral { .. } => None,
            MapRetention::Recoverable { stream, .. } | MapRetention::Persistent { stream } => Some(stream),
        }
    }
}

/// Options of one namespace of maps.
#[derive(Clone, Debug)]
pub struct MapOptions {
    /// What is kept, and in which order it is read.
    pub storage: MapStorage,
    /// `allow_publish_for_*`.
    pub publish: CallRights,
    /// `allow_remove_for_*`.
    pub remove: CallRights,
    /// `publish_proxy_enabled`, `publish_proxy_name`: the hook that decides on publications instead of `publish`.
    pub publish_hook: Option<Box<str>>,
    /// `remove_proxy_enabled`, `remove_proxy_name`: the hook that decides on removals instead of `remove`.
    pub remove_hook: Option<Box<str>>,
    /// `client_key`.
    pub client_key: ClientKey,
    /// `remove_client_on_unsubscribe`: a client takes the key named for it along.
    pub remove_client_on_unsubscribe: bool,
    /// `default_page_size`, `min_page_size`, `max_page_size`.
    pub pages: PageSizes,
    /// `live_transition_max_publication_limit`: publications missed at most when a subscription goes live (error 112).
    pub live_publications_max: usize,
    /// `subscribe_catch_up_timeout`: from the first page to going live (3008); `None` without limit.
    pub catch_up_timeout: Option<Duration>,
}

/// How many entries a page may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSizes {
    /// When the client names no size.
    pub default: usize,
    /// Smaller wishes are raised to it.
    pub min: usize,
    /// Larger wishes are lowered to it.
    pub max: usize,
}

impl PageSizes {
    /// The size of a page for which that many were asked; 0 or less is no wish.
    pub fn clamp(&self, wish: i32) -> usize {
        let wish = usize::try_from(wish).ok().filter(|&wish| wish > 0).unwrap_or(self.default);
        wish.clamp(self.min.min(self.max), self.max)
    }
}

/// Who names the key of a client's publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientKey {
    /// The client.
    #[default]
    Given,
    /// The key is the client id.
    ClientId,
    /// The key is the user id; anonymous clients have none.
    UserId,
}
