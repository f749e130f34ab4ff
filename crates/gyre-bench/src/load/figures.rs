//! Figures of a run: latencies and failures.

use std::{
    collections::BTreeMap,
    fmt::{Display, Formatter},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::ClientError;

/// Longest latency told apart, in microseconds: a minute.
const LATENCY_MAX: u64 = 60_000_000;
/// Kinds of failures told apart.
const KINDS_MAX: usize = 16;

/// Latencies of a run, exact to a thousandth.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    #[expect(clippy::expect_used, reason = "the bounds are constants that the histogram takes")]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("valid bounds"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds.
        _ = self.0.add(&other.0);
    }

    /// What is told of them; `None` if there are none.
    pub fn percentiles(&self) -> Option<Percentiles> {
        if self.0.is_empty() {
            return None;
        }
        let at = |quantile: f64| self.0.value_at_quantile(quantile);
        let max = self.0.max();
        Some(Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max })
    }
}

/// Latencies below which so many per cent lie, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Half.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// All.
    pub max: u64,
}

impl Display for Percentiles {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let all = [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("max", self.max),
        ];
        for (i, (name, micros)) in all.into_iter().enumerate() {
            let space = if i == 0 { "" } else { "  " };
            write!(f, "{space}{name} {:.2} ms", micros as f64 / 1000.0)?;
        }
        Ok(())
    }
}

/// Failures by what they say.
#[derive(Debug, Default, Serialize)]
pub struct Failures {
    /// How many, by text; beyond sixteen kinds they are counted as "other".
    pub by_cause: BTreeMap<String, u64>,
}

impl Failures {
    /// Adds one.
    pub fn add(&mut self, error: &ClientError) {
        let cause = error.to_string();
        let is_told_apart = self.by_cause.len() < KINDS_MAX || self.by_cause.contains_key(&cause);
        *self.by_cause.entry(if is_told_apart { cause } else { "other".into() }).or_default() += 1;
    }

    /// How many.
    pub fn total(&self) -> u64 {
        self.by_cause.values().sum()
    }
}

impl Display for Failures {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.by_cause.iter().try_for_each(|(cause, count)| writeln!(f, "  {count} × {cause}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Percentiles of a thousand known latencies are what counting gives, to the histogram's precision.
    #[test]
    fn percentiles_are_exact_to_a_thousandth() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles(), None);
        (1..=1000).for_each(|i| latencies.record(Duration::from_micros(i)));
        let percentiles = latencies.percentiles().unwrap();
        assert_eq!((percentiles.p50, percentiles.p90, percentiles.max), (500, 900, 1000));
        assert_eq!((percentiles.p99, percentiles.p999), (990, 999));
        latencies.record(Duration::from_secs(3600));
        assert!(
            latencies.percentiles().unwrap().max >= LATENCY_MAX,
            "longer than the bound counts as the bound"
        );
    }

    /// However many kinds of failures there are, the table stays small and the total right.
    #[test]
    fn kinds_of_failures_are_bounded() {
        let mut failures = Failures::default();
        for i in 0..100 {
            failures.add(&ClientError::Transport(format!("{i}")));
        }
        assert_eq!(failures.total(), 100);
        assert!(failures.by_cause.len() <= KINDS_MAX + 1);
        assert!(failures.by_cause["other"] >= 84);
    }
}
