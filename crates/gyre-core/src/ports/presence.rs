//! Who is subscribed to a channel, on all nodes.

use std::sync::Arc;

use gyre_protocol::{ClientInfo, PresenceStats};

use crate::{
    channel::ChannelName,
    ports::{Answer, EngineError},
};

/// Keeps the members of channels. An entry lives until it is removed or its time to live (the store's own setting,
/// 60 s unless configured) has passed since the last [`PresenceStore::add`].
pub trait PresenceStore: Send + Sync + 'static {
    /// Adds a member or renews its entry.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`]; the entry may or may not exist then.
    fn add(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> Answer<Result<(), EngineError>>;

    /// Removes a member by its client id. Idempotent.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`]; the entry then ends with its time to live.
    fn remove(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> Answer<Result<(), EngineError>>;

    /// All members, in no particular order.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`].
    fn members(&self, channel: &ChannelName) -> Answer<Result<Vec<Arc<ClientInfo>>, EngineError>>;

    /// How many members and distinct users.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`].
    fn stats(&self, channel: &ChannelName) -> Answer<Result<PresenceStats, EngineError>>;
}
