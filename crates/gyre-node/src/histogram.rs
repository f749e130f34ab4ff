//! Distributions of what is measured: plain numbers of one owner, added up when somebody asks.

use std::time::Duration;

/// Upper bounds for durations, in nanoseconds: from 1 µs to 10 s, ten in each power of ten. Every bound that Centrifugo's
/// histograms have is among them, so that theirs are exact; the others let quantiles be told to about a tenth.
pub const DURATION_BOUNDS: [u64; 71] = duration_bounds();

/// Upper bounds for numbers of things.
pub const SIZE_BOUNDS: [u64; 14] = [0, 1, 2, 5, 10, 20, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

const fn duration_bounds() -> [u64; 71] {
    const STEPS: [u64; 10] = [100, 125, 150, 200, 250, 300, 400, 500, 600, 800];
    let mut bounds = [0; 71];
    let mut scale = 10;
    let mut i = 0;
    while i < 71 {
        bounds[i] = STEPS[i % 10] * scale;
        i += 1;
        if i % 10 == 0 {
            scale *= 10;
        }
    }
    bounds
}

/// How often values fell between bounds, and their sum. Takes a fixed space, whatever it is given.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than bounds: the last is for what exceeds them all.
    counts: Box<[u64]>,
    sum: u64,
}

impl Default for Histogram {
    /// One of durations.
    fn default() -> Self {
        Self::new(&DURATION_BOUNDS)
    }
}

impl Histogram {
    /// An empty one with these bounds, which ascend.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1].into(), sum: 0 }
    }

    /// An empty one of numbers of things.
    pub fn sizes() -> Self {
        Self::new(&SIZE_BOUNDS)
    }

    /// Enters a value.
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Enters the same value that often.
    pub fn record_many(&mut self, value: u64, times: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at] += times;
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
    }

    /// Enters a duration.
    pub fn record_duration(&mut self, duration: Duration) {
        self.record(nanoseconds(duration));
    }

    /// Adds what another one with the same bounds holds.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds.len(), other.bounds.len());
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// What has been entered since `earlier`, a former state of this one.
    pub fn since(&self, earlier: &Self) -> Self {
        let differences =
            self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then));
        Self { bounds: self.bounds, counts: differences.collect(), sum: self.sum.saturating_sub(earlier.sum) }
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Number of values up to a bound; exact for a bound of this histogram.
    pub fn count_up_to(&self, bound: u64) -> u64 {
        let buckets = self.bounds.partition_point(|known| *known <= bound);
        self.counts[..buckets].iter().sum()
    }

    /// The value that the given part of all values does not exceed, read between two bounds; `None` without values.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let wanted = part * total as f64;
        let mut seen = 0.0;
        for (i, &count) in self.counts.iter().enumerate() {
            let count = count as f64;
            if count > 0.0 && seen + count >= wanted {
                let below = if i == 0 { 0 } else { self.bounds[i - 1] } as f64;
                // What exceeds all bounds is told as the last of them.
                let above = self.bounds.get(i).map_or(below, |bound| *bound as f64);
                return Some(below + (above - below) * ((wanted - seen) / count).clamp(0.0, 1.0));
            }
            seen += count;
        }
        self.bounds.last().map(|bound| *bound as f64)
    }
}

/// Whole nanoseconds of a duration; 500 years at most.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts up to a bound are exact and those at the bound belong below: values on and beside bounds, counted by hand.
    #[test]
    fn counts_up_to_bounds() {
        let mut histogram = Histogram::default();
        for nanoseconds in [999, 1000, 1001, 250_000, 250_001, 20_000_000_000] {
            histogram.record(nanoseconds);
        }
        assert_eq!(histogram.count_up_to(1000), 2);
        assert_eq!(histogram.count_up_to(250_000), 4);
        assert_eq!(histogram.count_up_to(10_000_000_000), 5);
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.sum(), 20_000_503_001);
    }

    /// The bounds ascend from 1 µs to 10 s and hold those that dashboards know: looked up one by one.
    #[test]
    fn has_the_known_bounds() {
        assert!(DURATION_BOUNDS.is_sorted_by(|a, b| a < b));
        assert_eq!((DURATION_BOUNDS[0], DURATION_BOUNDS[70]), (1000, 10_000_000_000));
        for micros in [1, 5, 10, 50, 100, 250, 500, 1000, 5000, 10_000, 25_000, 250_000, 2_500_000] {
            assert!(DURATION_BOUNDS.contains(&(micros * 1000)), "{micros} µs");
        }
    }

    /// Quantiles are off by less than a bucket, of a window as well: 1 to 1000 ms, then the same plus slow ones.
    #[test]
    fn tells_quantiles() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.record(ms * 1_000_000));
        let median = histogram.quantile(0.5).unwrap() / 1e6;
        assert!((450.0..550.0).contains(&median), "{median}");
        let before = histogram.clone();
        (0..10).for_each(|_| histogram.record(7_000_000_000));
        let recent = histogram.since(&before);
        assert_eq!((recent.count(), recent.sum()), (10, 70_000_000_000));
        assert!(recent.quantile(0.5).unwrap() > 6e9);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    /// Two halves make the same as the whole: merged and compared.
    #[test]
    fn merges() {
        let (mut whole, mut a, mut b) = (Histogram::sizes(), Histogram::sizes(), Histogram::sizes());
        for value in 0..300 {
            whole.record(value);
            if value % 3 == 0 { a.record(value) } else { b.record(value) }
        }
        a.merge(&b);
        assert_eq!((a.counts, a.sum), (whole.counts, whole.sum));
    }
}
