//! The application's say in changes that clients make to maps.

use gyre_protocol::{Payload, Tags};

use crate::{
    channel::ChannelName,
    ports::{Answer, Caller, HookRefusal, KeyMode},
};

/// Asks the application about changes of maps.
///
/// Cancel safety: a dropped answer changes nothing but that the application may have been asked in vain.
pub trait MapHooks: Send + Sync + 'static {
    /// Asks whether a client may make a change, and how.
    ///
    /// # Errors
    /// The application's refusal; [`gyre_protocol::ClientError::INTERNAL`] if it gave no usable answer in time.
    fn ask(
        &self,
        hook: &str,
        caller: Caller,
        request: MapHookRequest,
    ) -> Answer<Result<MapHookGrant, HookRefusal>>;
}

/// A change a client wants to make.
#[derive(Clone, Debug)]
pub struct MapHookRequest {
    /// Channel.
    pub channel: ChannelName,
    /// Key; empty if the client named none.
    pub key: Box<str>,
    /// Data to be set; `None` for a removal.
    pub data: Option<Payload>,
}

/// How an allowed change is made. What is `None` or empty stays as the client wanted it.
#[derive(Clone, Debug, Default)]
pub struct MapHookGrant {
    /// Another key.
    pub key: Box<str>,
    /// Other data.
    pub data: Option<Payload>,
    /// See [`super::NewEntry::tags`].
    pub tags: Tags,
    /// See [`super::NewEntry::score`].
    pub score: i64,
    /// See [`super::NewEntry::key_mode`].
    pub key_mode: KeyMode,
    /// See [`super::NewEntry::idempotency_key`].
    pub idempotency_key: Box<str>,
    /// See [`super::NewEntry::delta`].
    pub delta: bool,
    /// See [`super::NewEntry::version`].
    pub version: u64,
    /// See [`super::NewEntry::version_epoch`].
    pub version_epoch: Box<str>,
}
