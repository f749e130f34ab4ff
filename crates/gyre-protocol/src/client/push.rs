//! What a server sends without being asked.

use std::sync::Arc;

use crate::{
    client::{ClientInfo, ConnectResult, Epoch, Expiry, Payload, Publication},
    codes::{Disconnect, Unsubscribe},
};

/// One push. An empty reply (bidirectional) or push (unidirectional) is a ping and has no value of this type.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The channel; empty for pushes that concern the connection.
    pub channel: Arc<str>,
    /// Numeric channel id: written instead of `channel` when not 0.
    pub id: i64,
    /// What happened.
    pub body: PushBody,
}

/// What a push says.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is named for its message")]
pub enum PushBody {
    Publication(Arc<Publication>),
    Join(Arc<ClientInfo>),
    Leave(Arc<ClientInfo>),
    Unsubscribe(Unsubscribe),
    Message(Payload),
    Subscribe(SubscribePush),
    Connect(Box<ConnectResult>),
    Disconnect(Disconnect),
    Refresh(Expiry),
}

/// A server-side subscription was added.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SubscribePush {
    /// Recovery is on.
    pub recoverable: bool,
    /// Epoch of the stream.
    pub epoch: Epoch,
    /// Stream top.
    pub offset: u64,
    /// Positioning is on.
    pub positioned: bool,
    /// Data for the application.
    pub data: Payload,
}
