//! What the core needs from the outside, as contracts: engines fill [`Broker`], [`MapStore`] and
//! [`PresenceStore`], the server fills [`Authenticator`], [`ClientHooks`], [`MapHooks`], [`SharedPollBackend`],
//! [`SubscriptionStreams`] and [`EventHooks`].
//!
//! Every port answers with [`Answer`]: at once where nothing has to be waited for (the memory engine, local token
//! checks), else with a future. The caller treats both alike, but an answer at once costs no allocation and no task.

mod authenticator;
mod broker;
mod events;
mod hooks;
mod map_hooks;
mod map_store;
mod no_application;
mod presence;
mod shared_poll;
mod streams;

use std::{future::Future, pin::Pin};

pub use authenticator::*;
pub use broker::*;
pub use events::*;
pub use hooks::*;
pub use map_hooks::*;
pub use map_store::*;
pub use no_application::NoApplication;
pub use presence::*;
pub use shared_poll::*;
pub use streams::*;

/// The answer of a port.
#[must_use]
pub enum Answer<T> {
    /// Known already.
    Ready(T),
    /// Known when the future resolves. Dropping the future abandons the request; the port's contract says in which
    /// states that may leave the engine.
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
}

impl<T: Send + 'static> Answer<T> {
    /// Waits for the answer.
    pub async fn wait(self) -> T {
        match self {
            Self::Ready(value) => value,
            Self::Later(future) => future.await,
        }
    }

    /// Changes the value once it is there.
    pub fn map<U: Send + 'static>(self, change: impl FnOnce(T) -> U + Send + 'static) -> Answer<U> {
        match self {
            Self::Ready(value) => Answer::Ready(change(value)),
            Self::Later(future) => Answer::Later(Box::pin(async move { change(future.await) })),
        }
    }
}

/// Why an engine could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No answer within the operation timeout, or no connection: the caller may retry.
    #[error("the engine is not available: {reason}")]
    Unavailable {
        /// What the engine's client reported.
        reason: String,
    },
    /// The position asked for belongs to another incarnation of the stream.
    #[error("the position cannot be continued from")]
    UnrecoverablePosition,
    /// The engine cannot do this by its nature or configuration.
    #[error("not supported by this engine")]
    NotAvailable,
    /// A bound of the engine is reached; nothing was changed.
    #[error("a limit of the engine is reached")]
    LimitReached,
}
