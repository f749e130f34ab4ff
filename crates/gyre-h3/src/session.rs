//! The state of one WebTransport session on its CONNECT stream.

use std::time::Instant;

use crate::{StreamId, capsule::Capsules, headers::RequestHead};

/// A session, from the request for it until both sides are done with its CONNECT stream.
#[derive(Debug)]
pub(crate) struct Session {
    /// The id of its CONNECT stream.
    pub(crate) id: StreamId,
    pub(crate) capsules: Capsules,
    pub(crate) phase: Phase,
}

#[derive(Debug)]
pub(crate) enum Phase {
    /// The peer's SETTINGS are not here. The application does not know of the session yet.
    Held { head: Box<RequestHead>, until: Instant },
    /// The application has not answered yet.
    Requested,
    /// Accepted.
    Open,
    /// Our close and FIN are on the way; the peer's FIN is waited for until then.
    Closing { until: Instant },
}
