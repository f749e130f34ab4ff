//! Messages of the protocol in JSON, as far as a command line needs them.
//!
//! Spec: centrifugal/protocol client.proto, Command, Reply and Push.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A request with an id; exactly one of the bodies is there.
#[derive(Debug, Default, Serialize)]
pub struct Command<'a> {
    /// Number of the command, from 1.
    pub id: u32,
    /// Begins the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Connect<'a>>,
    /// Begins a subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Subscribe<'a>>,
    /// Publishes into a channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish<'a>>,
}

/// Body of a connect command.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Connect<'a> {
    /// Connection token.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub token: &'a str,
    /// Name of the client's program.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// Body of a subscribe command.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Subscribe<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Subscription token.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub token: &'a str,
    /// True to get what was published since the position.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recover: bool,
    /// Offset of the last publication seen.
    #[serde(skip_serializing_if = "is_zero")]
    pub offset: u64,
    /// Epoch of the stream the offset belongs to.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub epoch: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(offset: &u64) -> bool {
    *offset == 0
}

/// Body of a publish command.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Publish<'a> {
    /// The channel.
    pub channel: &'a str,
    /// What to publish, as it is.
    pub data: &'a RawValue,
}

/// A reply to a command, a push, or a ping if it holds nothing.
#[derive(Debug, Default, Deserialize)]
pub struct Message {
    /// Number of the command it answers; 0 for a push or ping.
    #[serde(default)]
    pub id: u32,
    /// The command failed.
    pub error: Option<Failure>,
    /// What the server sends on its own.
    pub push: Option<Push>,
    /// Answer to connect.
    pub connect: Option<Connected>,
    /// Answer to subscribe.
    pub subscribe: Option<Subscribed>,
}

/// Why a command failed.
#[derive(Debug, Deserialize)]
pub struct Failure {
    /// Code of the protocol.
    #[serde(default)]
    pub code: u32,
    /// Text for people.
    #[serde(default)]
    pub message: String,
}

/// What the server says of a new session.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Connected {
    /// Id of the connection.
    #[serde(default)]
    pub client: String,
    /// Seconds between two pings of the server; 0 for none.
    #[serde(default)]
    pub ping: u32,
    /// True if the server wants an answer to its pings.
    #[serde(default)]
    pub pong: bool,
}

/// What the server says of a new subscription.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Subscribed {
    /// True if the position is known and can be recovered from.
    #[serde(default)]
    pub recoverable: bool,
    /// Epoch of the stream.
    #[serde(default)]
    pub epoch: String,
    /// Offset of the newest publication.
    #[serde(default)]
    pub offset: u64,
    /// True if nothing was lost since the position that was asked for.
    #[serde(default)]
    pub recovered: bool,
    /// What was published since then.
    #[serde(default)]
    pub publications: Vec<Box<RawValue>>,
}

/// What the server sends on its own.
#[derive(Debug, Deserialize)]
pub struct Push {
    /// Channel it is about, if any.
    #[serde(default)]
    pub channel: String,
    /// A publication, whole.
    #[serde(rename = "pub")]
    pub publication: Option<Box<RawValue>>,
    /// Somebody came.
    pub join: Option<Box<RawValue>>,
    /// Somebody went.
    pub leave: Option<Box<RawValue>>,
    /// The server ended the subscription.
    pub unsubscribe: Option<Ended>,
    /// The server ends the connection.
    pub disconnect: Option<Ended>,
}

/// Code and reason of an end.
#[derive(Debug, Deserialize)]
pub struct Ended {
    /// Code of the protocol.
    #[serde(default)]
    pub code: u32,
    /// Text for people.
    #[serde(default)]
    pub reason: String,
}

/// The parts of a publication that are looked at.
#[derive(Debug, Deserialize)]
pub struct Publication<'a> {
    /// What was published.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    /// Its place in the stream; 0 without history.
    #[serde(default)]
    pub offset: u64,
}
