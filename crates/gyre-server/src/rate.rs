//! How many things may happen per second.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// A token bucket: `rate` a second, and as many at once.
#[derive(Debug)]
pub struct RateLimit {
    rate: f64,
    bucket: Mutex<(f64, Instant)>,
}

impl RateLimit {
    /// A full bucket; a rate of 0 is no limit.
    pub fn new(rate: usize, now: Instant) -> Self {
        Self { rate: rate as f64, bucket: Mutex::new((rate as f64, now)) }
    }

    /// Takes one token, if there is one.
    pub fn admits(&self, now: Instant) -> bool {
        if self.rate == 0.0 {
            return true;
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, at) = *bucket;
        let tokens = self.rate.min(tokens + now.saturating_duration_since(at).as_secs_f64() * self.rate);
        let is_admitted = tokens >= 1.0;
        *bucket = (if is_admitted { tokens - 1.0 } else { tokens }, now.max(at));
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The rate holds per second and not per burst: tried with a virtual clock.
    #[test]
    fn refills_at_its_rate() {
        let start = Instant::now();
        let limit = RateLimit::new(10, start);
        assert_eq!((0..20).filter(|_| limit.admits(start)).count(), 10);
        assert!(limit.admits(start + Duration::from_millis(100)));
        assert!(!limit.admits(start + Duration::from_millis(100)));
        let later = start + Duration::from_secs(60);
        assert_eq!((0..20).filter(|_| limit.admits(later)).count(), 10);
    }
}
