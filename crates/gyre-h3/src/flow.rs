//! Flow control of sessions, as far as it reaches today: its capsules are known and passed over.
//!
//! It is in force only if both sides declared it. We grant all a session could use from the start (see `settings`), so
//! no capsule has to be sent, and a peer without flow control of its own (Chromium, Firefox) is served in full. What is
//! not here: keeping to limits a peer sets for a session, which matters once the server offers sessions real windows.
//!
//! Spec: draft-ietf-webtrans-http3, "Flow Control"

/// Value of a flow-control capsule at most: one varint.
const VALUE_BYTES_MAX: u64 = 8;

/// True for a capsule of flow control that is no larger than it may be. These are as frequent as traffic demands, so
/// they are not charged to the budget of unknown capsules.
pub(crate) fn is_capsule(kind: u64, length: u64) -> bool {
    const MAX_DATA: u64 = 0x190b_4d3d;
    const STREAMS_BLOCKED_UNI: u64 = 0x190b_4d44;
    (MAX_DATA..=STREAMS_BLOCKED_UNI).contains(&kind) && length <= VALUE_BYTES_MAX
}
