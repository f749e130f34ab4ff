//! What the application can ask of a node, each as one operation behind all doors (HTTP, batch, later gRPC and
//! consumers).
//!
//! Operations that only touch the engine answer with [`Answer`] and may be called on a shard; those that concern
//! connections ask every shard and have to be waited for.

mod connection_list;
mod connections;
mod history;
mod info;
mod map;
mod presence;
mod publish;
mod shared_poll;
mod tokens;

use std::borrow::Cow;

use gyre_core::{
    channel::ChannelOptions,
    ports::{Answer, EngineError},
};

pub use connection_list::{ConnectionList, ConnectionPage};
pub use connections::{DisconnectRequest, RefreshRequest, SubscribeRequest, Target, UnsubscribeRequest};
pub use history::HistoryPage;
pub use info::NodeSummary;
pub use map::{MapPublishRequest, StatePage, StreamPage};
pub use publish::PublishRequest;

use crate::node::Node;

/// Why an operation was refused or failed. The code table is the server API's own.
///
/// Spec: centrifugo `internal/apiproto/errors.go`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// 100–113.
    pub code: u32,
    /// Text for developers.
    pub message: Cow<'static, str>,
}

impl ApiError {
    /// Something failed that is not the caller's fault.
    pub const INTERNAL: Self = Self::new(100, "internal server error");
    /// The channel's namespace is not configured.
    pub const UNKNOWN_CHANNEL: Self = Self::new(102, "unknown channel");
    /// No such method.
    pub const METHOD_NOT_FOUND: Self = Self::new(104, "not found");
    /// The request makes no sense.
    pub const BAD_REQUEST: Self = Self::new(107, "bad request");
    /// The feature is not enabled.
    pub const NOT_AVAILABLE: Self = Self::new(108, "not available");
    /// The stream cannot be read from that position.
    pub const UNRECOVERABLE_POSITION: Self = Self::new(112, "unrecoverable position");
    /// The key or version is taken.
    pub const CONFLICT: Self = Self::new(113, "conflict");

    const fn new(code: u32, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message) }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::UnrecoverablePosition => Self::UNRECOVERABLE_POSITION,
            EngineError::NotAvailable => Self::NOT_AVAILABLE,
            EngineError::LimitReached => {
                tracing::warn!("an operation reached a limit of the engine");
                Self::INTERNAL
            }
            EngineError::Unavailable { reason } => {
                tracing::warn!(reason, "an operation failed in the engine");
                Self::INTERNAL
            }
        }
    }
}

/// The answer of an operation.
pub type ApiAnswer<T> = Answer<Result<T, ApiError>>;

impl Node {
    /// The options of a channel the application named. The naming rules for clients do not apply.
    ///
    /// # Errors
    /// 107 for no name, 102 for an unknown namespace.
    pub(crate) fn api_channel(&self, channel: &str) -> Result<std::sync::Arc<ChannelOptions>, ApiError> {
        if channel.is_empty() {
            return Err(ApiError::BAD_REQUEST);
        }
        self.rules().namespaces.options(channel).cloned().ok_or(ApiError::UNKNOWN_CHANNEL)
    }
}
