//! What a connected session is, for whoever lists connections.

use gyre_protocol::{ClientInfo, Payload};

use super::Session;
use crate::channel::ChannelName;

/// One of a session's channels.
#[derive(Clone, Copy, Debug)]
pub struct ChannelView<'a> {
    /// Its name.
    pub name: &'a ChannelName,
    /// Subscribed by the server, not by the client.
    pub is_server_side: bool,
}

impl Session {
    /// The connection as others see it; `None` unless it is connected or about to be.
    pub fn info(&self) -> Option<&ClientInfo> {
        self.live().map(|live| &*live.info)
    }

    /// What the application attached to the connection.
    pub fn meta(&self) -> Option<&Payload> {
        self.live()?.meta.as_deref()
    }

    /// The channels it is subscribed to or subscribing to, in no order.
    pub fn channels(&self) -> impl Iterator<Item = ChannelView<'_>> {
        self.live().into_iter().flat_map(|live| live.subscriptions.iter()).map(|(name, subscription)| {
            ChannelView { name, is_server_side: subscription.features.is_server_side }
        })
    }
}
