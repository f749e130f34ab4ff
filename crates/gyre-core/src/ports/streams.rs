//! Streams of an application: what feeds one subscription of one client, and what takes the client's publications.

use std::{future::Future, pin::Pin, sync::Arc};

use gyre_protocol::{Payload, Publication};

use crate::{
    channel::ChannelName,
    ports::{Answer, Caller, EngineError, HookRefusal, SubscribeGrant},
};

/// Opens streams at the application, one for each subscription that wants one.
///
/// Spec: centrifugal.dev, "Proxy subscription streams"
pub trait SubscriptionStreams: Send + Sync + 'static {
    /// Asks whether a client may subscribe; the answer comes with the stream. Dropping the answer ends the stream.
    ///
    /// # Errors
    /// The application's refusal; [`gyre_protocol::ClientError::INTERNAL`] without a usable answer in time, or with as
    /// many streams open as there may be.
    fn open(
        &self,
        hook: &str,
        caller: Caller,
        request: StreamRequest,
    ) -> Answer<Result<OpenStream, HookRefusal>>;
}

/// What a stream is opened for.
#[derive(Clone, Debug)]
pub struct StreamRequest {
    /// Channel.
    pub channel: ChannelName,
    /// Data of the subscribe command.
    pub data: Payload,
    /// The client's publications go up the stream.
    pub is_bidirectional: bool,
}

/// A stream the application has answered on.
pub struct OpenStream {
    /// The subscription as the application wants it.
    pub grant: SubscribeGrant,
    /// What comes. Dropping it ends the stream; while nobody reads, the application is held back.
    pub source: Box<dyn StreamSource>,
    /// Where the client's publications go; `None` for a unidirectional stream.
    pub sink: Option<Arc<dyn StreamSink>>,
}

impl std::fmt::Debug for OpenStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenStream").field("grant", &self.grant).finish_non_exhaustive()
    }
}

/// What comes from an application.
pub trait StreamSource: Send {
    /// The next publications: those that arrived together.
    ///
    /// # Errors
    /// The end; nothing comes after it.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<Vec<Publication>, StreamEnd>> + Send + '_>>;
}

/// What goes to an application.
pub trait StreamSink: Send + Sync {
    /// Hands over a publication; waits while the application takes none.
    ///
    /// # Errors
    /// [`EngineError::Unavailable`] if the stream has ended or takes nothing for too long.
    fn send(&self, data: Payload) -> Answer<Result<(), EngineError>>;
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The application ended it: there is no more.
    Complete,
    /// It broke: the client may subscribe again.
    Broken,
}
