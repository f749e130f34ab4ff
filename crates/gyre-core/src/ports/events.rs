//! What the application is told about channels and connections, and may ignore.

use gyre_protocol::Disconnect;

use crate::{
    channel::ChannelName,
    ports::{Answer, Caller},
};

/// Tells the application's hooks what has happened, each by the name the rules give it.
///
/// Spec: centrifugo `internal/proxyproto/proxy.proto`, NotifyCacheEmpty and NotifyChannelState
pub trait EventHooks: Send + Sync + 'static {
    /// A subscriber found nothing to recover in a channel that keeps the latest publication. True if the application
    /// has published one since; false also without a usable answer.
    fn cache_empty(&self, hook: &str, channel: &ChannelName) -> Answer<bool>;

    /// Channels got their first subscriber, or lost their last one.
    fn channel_states(&self, hook: &str, events: Vec<ChannelStateEvent>) -> Answer<Delivery>;

    /// A client that was connected is so no longer.
    fn disconnected(&self, hook: &str, event: DisconnectEvent) -> Answer<Delivery>;
}

/// Whether the application has got an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// It has answered, whatever.
    Done,
    /// It may not have got it: to be sent again.
    Failed,
}

/// A channel got its first subscriber, or lost its last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStateEvent {
    /// Channel.
    pub channel: ChannelName,
    /// True if it has subscribers now.
    pub is_occupied: bool,
    /// When that became so, Unix time in milliseconds.
    pub time_ms: u64,
}

/// The end of a connection.
#[derive(Clone, Debug)]
pub struct DisconnectEvent {
    /// Which connection.
    pub caller: Caller,
    /// How it ended; 3000 if the client has left.
    pub disconnect: Disconnect,
    /// How long it was open, milliseconds.
    pub duration_ms: u64,
    /// When it ended, Unix time in milliseconds.
    pub time_ms: u64,
}
