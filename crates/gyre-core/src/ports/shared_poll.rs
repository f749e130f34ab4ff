//! The backend that knows the data of shared poll channels.

use std::sync::Arc;

use gyre_protocol::{Epoch, Payload};

use crate::{channel::ChannelName, ports::Answer};

/// Asks a backend for the data of keys.
///
/// Cancel safety: a dropped answer changes nothing but that the backend may have been asked in vain.
pub trait SharedPollBackend: Send + Sync + 'static {
    /// Asks for the data of keys; each comes with the version already known, 0 for none. The backend answers those it
    /// has something newer of, in any order; what it leaves out is unchanged.
    ///
    /// # Errors
    /// If there is no usable answer in time. The keys are asked for again later.
    fn refresh(
        &self,
        backend: &str,
        channel: &ChannelName,
        keys: Vec<(Arc<str>, u64)>,
    ) -> Answer<Result<Polled, PollError>>;
}

/// A backend's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Polled {
    /// Keys and their data.
    pub items: Vec<PolledItem>,
    /// The incarnation the versions count in; empty for none.
    pub epoch: Epoch,
}

/// One key of a backend's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolledItem {
    /// Key.
    pub key: Box<str>,
    /// Its data.
    pub data: Payload,
    /// Its version, where the backend counts them.
    pub version: u64,
    /// The key is no more.
    pub removed: bool,
}

/// Why a backend gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the backend gave no usable answer: {reason}")]
pub struct PollError {
    /// What went wrong.
    pub reason: String,
}
