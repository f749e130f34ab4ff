//! The only place where clocks are read for sessions.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gyre_core::rules::Now;

/// Reads both clocks.
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix_ms: unix.as_millis() as u64 }
}
