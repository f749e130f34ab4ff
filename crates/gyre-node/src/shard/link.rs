//! What a transport gives a shard for one connection.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use gyre_core::{hub::WireForm, limits::Limits, ports::ConnectionHeaders, session::Pings};
use gyre_protocol::Disconnect;
use tokio::sync::oneshot;

use crate::shard::Queue;

/// The writing half of a connection.
///
/// A link is called from the shard's turn: it must neither wait nor call back into the shard. It wakes its own task
/// where something takes longer.
pub trait Link {
    /// Writes as much of the queue as the peer takes now.
    fn flush(&mut self, queue: &mut Queue) -> Flushed;

    /// The session is over. The link appends its transport's own last words to the queue (which already holds the
    /// disconnect push, where the transport announces disconnects that way) and begins its closing sequence. The
    /// queue is flushed as before until the transport calls [`super::LocalShard::release`].
    fn close(&mut self, disconnect: &Disconnect, queue: &mut Queue);

    /// The connect was refused with an error reply: once it is written, the peer is expected to leave. The link
    /// stops reading commands and closes in its transport's way if the peer stays.
    fn finish(&mut self);

    /// Commands of the session came by another way than its connection. Only links of emulated transports have one;
    /// others drop them.
    fn receive(&mut self, _commands: Commands) {}
}

/// Commands that came for a session through [`crate::Node::receive`].
#[derive(Debug)]
pub struct Commands {
    /// In the encoding of the session, in one frame.
    pub frame: Bytes,
    /// To be sent, or dropped, once they are handed in.
    pub handled: oneshot::Sender<()>,
}

/// How far a flush came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything is written.
    Done,
    /// The peer takes no more now; the link's task calls [`super::LocalShard::flush`] when it does.
    Blocked,
    /// The connection is broken.
    Failed,
}

/// The transports, by the names used in metrics, logs and hook requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the transport of that name")]
pub enum TransportKind {
    WebSocket,
    WebTransport,
    Sse,
    HttpStream,
    UniWebSocket,
    UniSse,
    UniHttpStream,
    UniGrpc,
    UniWebTransport,
}

impl TransportKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::WebSocket,
        Self::WebTransport,
        Self::Sse,
        Self::HttpStream,
        Self::UniWebSocket,
        Self::UniSse,
        Self::UniHttpStream,
        Self::UniGrpc,
        Self::UniWebTransport,
    ];

    /// The name in metrics, logs and hook requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::WebTransport => "webtransport",
            Self::Sse => "sse",
            Self::HttpStream => "http_stream",
            Self::UniWebSocket => "uni_websocket",
            Self::UniSse => "uni_sse",
            Self::UniHttpStream => "uni_http_stream",
            Self::UniGrpc => "uni_grpc",
            Self::UniWebTransport => "uni_webtransport",
        }
    }

    /// True where the client's commands come by requests of their own, addressed to its session.
    pub fn is_emulated(self) -> bool {
        matches!(self, Self::Sse | Self::HttpStream)
    }

    /// How long a peer may take nothing of what waits for it; `None` is for ever, as far as other limits let it.
    pub(crate) fn write_timeout(self, limits: &Limits) -> Option<Duration> {
        let timeout = match self {
            Self::WebSocket => limits.websocket_write_timeout,
            Self::UniWebSocket => limits.uni_websocket_write_timeout,
            Self::Sse | Self::HttpStream | Self::UniSse | Self::UniHttpStream => STREAM_WRITE_TIMEOUT,
            // A page that is suspended takes nothing, and loses no connection for it; the queue's limit holds.
            Self::WebTransport | Self::UniWebTransport | Self::UniGrpc => Duration::ZERO,
        };
        (!timeout.is_zero()).then_some(timeout)
    }

    /// True if clients of it are told an address of their session. It also names a unidirectional session to
    /// operations.
    pub fn has_session_address(self) -> bool {
        !matches!(self, Self::WebSocket | Self::WebTransport)
    }
}

/// The versions of HTTP a connection can begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "their names say it")]
pub enum HttpVersion {
    #[default]
    Http1,
    Http2,
    Http3,
}

impl HttpVersion {
    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
        }
    }
}

/// How long the reader of a streaming response may take nothing.
const STREAM_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a shard needs to know of a new connection.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Which transport it came by.
    pub transport: TransportKind,
    /// How its messages are written.
    pub form: WireForm,
    /// True where the disconnect push is the carrier of code and reason (WebSocket has close frames instead).
    pub announces_disconnect: bool,
    /// Who checks the peer's liveness.
    pub pings: Pings,
    /// What the request that opened it said.
    pub opening: OpeningRequest,
}

/// What the request that opened a connection said of it.
#[derive(Clone, Debug, Default)]
pub struct OpeningRequest {
    /// The version of HTTP it came with.
    pub version: HttpVersion,
    /// User named by a trusted header.
    pub user: Option<Box<str>>,
    /// Headers that some hook may see.
    pub headers: Option<Arc<ConnectionHeaders>>,
}

/// What came of handing in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fed {
    /// Go on.
    Open,
    /// The command waits for something: hand in the next one after [`super::LocalShard::poll_idle`].
    Busy,
    /// The session takes no further command.
    Over,
}

/// A frame that is the same for every connection of a form.
pub(crate) type Frame = Bytes;
