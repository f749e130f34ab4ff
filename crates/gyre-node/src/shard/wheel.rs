//! When which connection has something due: buckets of [`TICK`], so that deadlines that lie close together cost one
//! wake-up.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use gyre_core::hub::Slot;

/// Precision of deadlines: none is met earlier than asked for, and none later than this.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// The deadlines of one shard. An entry is a hint: the connection is asked what is really due, so entries need not be
/// removed.
#[derive(Debug)]
pub(crate) struct Wheel {
    origin: Instant,
    buckets: BTreeMap<u64, Vec<(Slot, u32)>>,
}

impl Wheel {
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, buckets: BTreeMap::new() }
    }

    /// The tick in which `deadline` has passed.
    pub(crate) fn tick_of(&self, deadline: Instant) -> u64 {
        let since = deadline.saturating_duration_since(self.origin);
        (since.as_millis() as u64).div_ceil(TICK.as_millis() as u64)
    }

    /// Enters a connection (slot and generation) for a tick.
    pub(crate) fn insert(&mut self, tick: u64, slot: Slot, generation: u32) {
        self.buckets.entry(tick).or_default().push((slot, generation));
    }

    /// When the first bucket is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.buckets.first_key_value().map(|(&tick, _)| self.origin + TICK * tick as u32)
    }

    /// The first bucket, if it is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(u64, Vec<(Slot, u32)>)> {
        let first = self.buckets.first_entry()?;
        if self.origin + TICK * *first.key() as u32 > now {
            return None;
        }
        Some(first.remove_entry())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deadline is never popped before it has passed, and at most one tick later.
    #[test]
    fn deadlines_are_met_within_one_tick() {
        let origin = Instant::now();
        let mut wheel = Wheel::new(origin);
        let deadline = origin + Duration::from_millis(120);
        wheel.insert(wheel.tick_of(deadline), 7, 1);
        assert_eq!(wheel.next(), Some(origin + Duration::from_millis(150)));
        assert!(wheel.pop_due(deadline).is_none());
        assert_eq!(wheel.pop_due(deadline + TICK), Some((3, vec![(7, 1)])));
        assert_eq!(wheel.next(), None);
    }
}
