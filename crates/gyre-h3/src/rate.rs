//! Counting what a peer may do only so often.

use std::time::{Duration, Instant};

/// Counts in windows of [`Rate::WINDOW`].
#[derive(Debug)]
pub(crate) struct Rate {
    count: u32,
    since: Instant,
}

impl Rate {
    pub(crate) const WINDOW: Duration = Duration::from_secs(10);

    pub(crate) fn new(now: Instant) -> Self {
        Self { count: 0, since: now }
    }

    /// Counts `more`; true if that makes more than `max` within the window.
    pub(crate) fn exceeds(&mut self, now: Instant, more: u32, max: u32) -> bool {
        if now.saturating_duration_since(self.since) > Self::WINDOW {
            *self = Self::new(now);
        }
        self.count = self.count.saturating_add(more);
        self.count > max
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test is where time comes from")]
mod tests {
    use super::*;

    /// The limit holds within a window, and a new window starts afresh.
    #[test]
    fn windows_are_counted_apart() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        assert!(!rate.exceeds(start, 3, 3));
        assert!(rate.exceeds(start + Rate::WINDOW, 1, 3));
        assert!(!rate.exceeds(start + Rate::WINDOW * 2, 3, 3));
    }
}
