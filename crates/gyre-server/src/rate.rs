//! How many things may happen per second.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// A token bucket: `rate` a second, and as many at once.
#[derive(Debug)]
pub struct RateLimit {
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    at: Instant,
}

impl RateLimit {
    /// A full bucket; a rate of 0 is no limit.
    pub fn new(rate: usize, now: Instant) -> Self {
        let rate = rate as f64;
        Self { bucket: Mutex::new(Bucket { rate, tokens: rate, at: now }) }
    }

    /// Another rate from now on; the bucket is full if it had none.
    pub fn set_rate(&self, rate: usize) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = rate as f64;
        bucket.tokens = if bucket.rate == 0.0 { rate } else { bucket.tokens.min(rate) };
        bucket.rate = rate;
    }

    /// Takes one token, if there is one.
    pub fn admits(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let Bucket { rate, tokens, at } = *bucket;
        if rate == 0.0 {
            return true;
        }
        let tokens = rate.min(tokens + now.saturating_duration_since(at).as_secs_f64() * rate);
        let is_admitted = tokens >= 1.0;
        *bucket = Bucket { rate, tokens: if is_admitted { tokens - 1.0 } else { tokens }, at: now.max(at) };
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
        limit.set_rate(0);
        assert!((0..20).all(|_| limit.admits(later)));
        limit.set_rate(3);
        assert_eq!((0..20).filter(|_| limit.admits(later)).count(), 3);
    }
}
