//! Which streams have been heard of.
//!
//! Streams are opened in order but heard of in any order: a stream may name a session whose CONNECT is late. Telling
//! that from a session that is over takes the streams that were passed over. QUIC lets few of them exist.

/// Streams passed over that are remembered; earlier ones are taken for gone. More than QUIC lets a peer have open.
const MISSING_MAX: u64 = 256;

/// The streams of one initiator and direction, by index: the stream id without its two lowest bits.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// One more than the highest index heard of.
    next: u64,
    missing: Vec<u64>,
}

impl Arrivals {
    /// Notes that a stream was heard of; true if it is the first time.
    pub(crate) fn arrive(&mut self, index: u64) -> bool {
        if index >= self.next {
            self.missing.extend(self.next.max(index.saturating_sub(MISSING_MAX))..index);
            let excess = self.missing.len().saturating_sub(MISSING_MAX as usize);
            self.missing.drain(..excess);
            self.next = index + 1;
            return true;
        }
        let found = self.missing.iter().position(|&missing| missing == index);
        found.map(|at| self.missing.remove(at)).is_some()
    }

    /// True if the stream was not heard of yet.
    pub(crate) fn is_outstanding(&self, index: u64) -> bool {
        index >= self.next || self.missing.contains(&index)
    }

    /// One more than the highest index heard of.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams out of order are each new once, and a jump far ahead costs bounded memory.
    #[test]
    fn streams_arrive_once_in_any_order() {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.is_outstanding(0));
        assert!(arrivals.arrive(2));
        assert!(arrivals.is_outstanding(0) && !arrivals.is_outstanding(2) && arrivals.is_outstanding(3));
        assert!(arrivals.arrive(0));
        assert!(!arrivals.arrive(0) && !arrivals.arrive(2));
        assert!(arrivals.arrive(1 << 59));
        assert_eq!(arrivals.missing.len() as u64, MISSING_MAX);
        assert!(!arrivals.is_outstanding(1), "too long ago");
        assert!(arrivals.arrive((1 << 59) - 1));
    }
}
