//! Messages of the `connections` method.
//!
//! Its published message filters by user, and by two languages that are not offered here. Paging, the other filters and
//! some facts of a connection are additions; their field numbers begin at 100, out of the way of later published ones.
//!
//! Spec: centrifugo `internal/apiproto/api.proto`, ConnectionsRequest, ConnectionInfo

use std::{borrow::Cow, sync::Arc};

use crate::client::Payload;

/// Which connections are to be listed. An empty field filters nothing; several filters apply together.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Connections<'a> {
    /// Those of this user.
    pub user: Cow<'a, str>,
    /// A filter in a language that is not offered.
    pub expression: Cow<'a, str>,
    /// A filter by labels is given, which is not offered.
    pub has_label_filter: bool,
    /// The one of this id.
    pub client: Cow<'a, str>,
    /// Those subscribed to this channel.
    pub channel: Cow<'a, str>,
    /// Connections at most; 0 for the default.
    pub limit: i32,
    /// Where the page before ended.
    pub cursor: Cow<'a, str>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Connection {
    /// Client id: the key in the list.
    pub client: String,
    /// What the client calls itself.
    pub app_name: Box<str>,
    /// And its version.
    pub app_version: Box<str>,
    /// Name of the transport.
    pub transport: &'static str,
    /// `json` or `protobuf`.
    pub protocol: &'static str,
    /// User id; empty for anonymous.
    pub user: Arc<str>,
    /// The first of its channels.
    pub channels: Vec<ConnectionChannel>,
    /// How many it has in all.
    pub num_channels: u32,
    /// What stays on the server.
    pub meta: Payload,
    /// What others see.
    pub info: Payload,
    /// Unix time in milliseconds.
    pub connected_at_ms: u64,
    /// `connecting` while its server-side subscriptions are being made, then `connected`.
    pub status: &'static str,
    /// Bytes waiting to be written to it.
    pub queue_bytes: u64,
    /// The node it is connected to.
    pub node: Box<str>,
}

/// A channel of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConnectionChannel {
    /// Its name.
    pub name: Arc<str>,
    /// Subscribed by the server.
    pub is_server_side: bool,
}
