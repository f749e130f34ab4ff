//! Options of shared poll channels: keys whose data a backend is asked for on behalf of everybody.
//!
//! Spec: configuration `channel.namespaces[].shared_poll`.

use std::time::Duration;

/// Options of one namespace of shared polls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPollOptions {
    /// Name of the backend; meaningful to whoever asks it.
    pub backend: Box<str>,
    /// `refresh_interval`: every tracked key is asked for once in it.
    pub refresh_interval: Duration,
    /// `refresh_batch_size`: keys of one call at most.
    pub batch_keys_max: usize,
    /// `max_keys_per_connection` (error 106).
    pub keys_max: usize,
    /// `mode`.
    pub versions: Versions,
    /// `channel_shutdown_delay`: what is known is kept for so long after the last subscriber has left.
    pub shutdown_delay: Duration,
    /// `track_expired_extra_delay`: grace after the expiry of a signature.
    pub expired_extra_delay: Duration,
    /// `publish_enabled`: the application may publish versions itself.
    pub publish_enabled: bool,
    /// Updates may go out as patches: the newest data of every tracked key is kept. One copy for the node, and no more
    /// than the backend has answered.
    pub delta: bool,
}

/// Who counts the versions of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Versions {
    /// This server, whenever the data changes (`versionless`).
    #[default]
    Ours,
    /// The backend (`versioned`).
    Backend,
}
