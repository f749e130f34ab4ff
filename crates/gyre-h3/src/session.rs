//! The state of one WebTransport session on its CONNECT stream.

use std::time::Instant;

use crate::capsule::Capsules;

/// A session, from the request for it until both sides are done with its CONNECT stream.
#[derive(Debug)]
pub(crate) struct Session {
    /// The id of its CONNECT stream.
    pub(crate) id: u64,
    pub(crate) capsules: Capsules,
    pub(crate) phase: Phase,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The application has not answered yet.
    Requested,
    /// Accepted.
    Open,
    /// Our close and FIN are on the way; the peer's FIN is waited for until then.
    Closing { until: Instant },
}
