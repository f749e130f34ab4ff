//! How long to wait before something is tried again.

use std::time::Duration;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pauses that double, from 100 ms to 5 s, the last quarter of each random, so that nodes do not return in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.last.map_or(PAUSE_MIN, |last| (last * 2).min(PAUSE_MAX));
        self.last = Some(pause);
        pause.mul_f64(0.75 + rand::random::<f64>() / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses grow up to the longest, each within its last quarter.
    #[test]
    fn pauses_grow() {
        let mut backoff = Backoff::default();
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(Duration::from_millis) {
            let pause = backoff.next();
            assert!(pause <= expected && pause >= expected.mul_f64(0.75), "{pause:?} of {expected:?}");
        }
    }
}
