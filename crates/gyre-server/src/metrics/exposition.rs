//! Figures with their names and labels, and how Prometheus reads them.
//!
//! The text format without OpenMetrics: there, counters are called `…_total`, and dashboards made for Centrifugo would
//! find none of them.
//!
//! Spec: prometheus.io, "Exposition formats", text-based format

use std::{borrow::Cow, collections::HashMap};

use gyre_node::Histogram;

/// The media type of [`Exposition::to_text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Nanoseconds of a second: histograms hold the former, metrics show the latter.
const NANOSECONDS: f64 = 1e9;

/// Labels of one sample, by name in alphabetical order.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Numbers of values up to bounds.
    Histogram,
    /// Quantiles.
    Summary,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// All figures of one name.
#[derive(Clone, Debug)]
pub struct Family {
    /// The whole name.
    pub name: Cow<'static, str>,
    /// What it means.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its figures.
    pub samples: Vec<Sample>,
}

/// One figure.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Appended to the name: `_bucket`, `_sum` or `_count`; empty for most.
    pub suffix: &'static str,
    /// What tells it from the others.
    pub labels: Labels,
    /// The figure.
    pub value: f64,
}

/// Everything that is told at one moment.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    families: Vec<Family>,
    places: HashMap<Cow<'static, str>, usize>,
}

impl Exposition {
    /// The figures by name.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Adds a figure without labels.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.sample(name, help, Kind::Gauge, Labels::new(), value);
    }

    /// Adds a count without labels.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.sample(name, help, Kind::Counter, Labels::new(), value as f64);
    }

    /// Adds a figure.
    pub fn sample(&mut self, name: &'static str, help: &'static str, kind: Kind, labels: Labels, value: f64) {
        self.push(name.into(), help, kind, Sample { suffix: "", labels, value });
    }

    /// Adds durations as a histogram with these bounds, in seconds.
    pub fn durations(
        &mut self,
        name: &'static str,
        help: &'static str,
        bounds: &[f64],
        labels: &Labels,
        histogram: &Histogram,
    ) {
        let up_to = |bound: f64| histogram.count_up_to((bound * NANOSECONDS).round() as u64);
        let buckets = bounds.iter().map(|&bound| (bound, up_to(bound)));
        self.buckets(name, help, labels, buckets, histogram.sum() as f64 / NANOSECONDS, histogram.count());
    }

    /// Adds numbers of things as a histogram with these bounds.
    pub fn sizes(
        &mut self,
        name: &'static str,
        help: &'static str,
        bounds: &[u64],
        labels: &Labels,
        histogram: &Histogram,
    ) {
        let buckets = bounds.iter().map(|&bound| (bound as f64, histogram.count_up_to(bound)));
        self.buckets(name, help, labels, buckets, histogram.sum() as f64, histogram.count());
    }

    fn buckets(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &Labels,
        buckets: impl Iterator<Item = (f64, u64)>,
        sum: f64,
        count: u64,
    ) {
        let mut push = |suffix, labels, value| {
            self.push(name.into(), help, Kind::Histogram, Sample { suffix, labels, value });
        };
        for (bound, up_to) in buckets {
            push("_bucket", with(labels, "le", bound.to_string().into()), up_to as f64);
        }
        push("_bucket", with(labels, "le", "+Inf".into()), count as f64);
        push("_sum", labels.clone(), sum);
        push("_count", labels.clone(), count as f64);
    }

    /// Adds quantiles of `recent` durations, and the sum and number of all.
    pub fn summary(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &Labels,
        recent: &Histogram,
        all: &Histogram,
    ) {
        let mut push = |suffix, labels, value| {
            self.push(name.into(), help, Kind::Summary, Sample { suffix, labels, value });
        };
        for (quantile, text) in [(0.5, "0.5"), (0.99, "0.99"), (0.999, "0.999")] {
            let value = recent.quantile(quantile).map_or(f64::NAN, |value| value / NANOSECONDS);
            push("", with(labels, "quantile", text.into()), value);
        }
        push("_sum", labels.clone(), all.sum() as f64 / NANOSECONDS);
        push("_count", labels.clone(), all.count() as f64);
    }

    fn push(&mut self, name: Cow<'static, str>, help: &'static str, kind: Kind, sample: Sample) {
        let at = *self.places.entry(name.clone()).or_insert_with(|| {
            self.families.push(Family { name, help, kind, samples: Vec::new() });
            self.families.len() - 1
        });
        self.families[at].samples.push(sample);
    }

    /// The text that Prometheus reads.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for family in &self.families {
            let Family { name, help, kind, samples } = family;
            text += &format!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.name());
            for sample in samples {
                text.push_str(name);
                text.push_str(sample.suffix);
                write_labels(&sample.labels, &mut text);
                text += &format!(" {}\n", sample.value);
            }
        }
        text
    }
}

fn with(labels: &Labels, name: &'static str, value: Cow<'static, str>) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value));
    labels
}

fn write_labels(labels: &Labels, text: &mut String) {
    for (i, (name, value)) in labels.iter().enumerate() {
        text.push(if i == 0 { '{' } else { ',' });
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                character => text.push(character),
            }
        }
        text.push('"');
    }
    if !labels.is_empty() {
        text.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One family of each kind, as text: compared with what Prometheus' documentation asks for.
    ///
    /// Spec: prometheus.io, "Exposition formats"
    #[test]
    fn writes_the_text_format() {
        let mut exposition = Exposition::default();
        exposition.gauge("g", "G.", 2.5);
        let label = |value: &'static str| vec![("l", Cow::Borrowed(value))];
        exposition.sample("c", "C.", Kind::Counter, label("a\"b\\c\nd"), 3.0);
        let mut histogram = Histogram::default();
        [1_000_000, 2_000_000, 3_000_000_000].iter().for_each(|value| histogram.record(*value));
        exposition.durations("h", "H.", &[0.001, 0.0025, 1.0], &label("x"), &histogram);
        exposition.sample("c", "C.", Kind::Counter, label("z"), 1.0);
        assert_eq!(
            exposition.to_text(),
            "# HELP g G.\n# TYPE g gauge\ng 2.5\n\
             # HELP c C.\n# TYPE c counter\nc{l=\"a\\\"b\\\\c\\nd\"} 3\nc{l=\"z\"} 1\n\
             # HELP h H.\n# TYPE h histogram\n\
             h_bucket{l=\"x\",le=\"0.001\"} 1\nh_bucket{l=\"x\",le=\"0.0025\"} 2\nh_bucket{l=\"x\",le=\"1\"} 2\n\
             h_bucket{l=\"x\",le=\"+Inf\"} 3\nh_sum{l=\"x\"} 3.003\nh_count{l=\"x\"} 3\n"
        );
    }

    /// Quantiles come from what is recent, sum and number from all; without recent values a quantile is no number.
    #[test]
    fn summarizes() {
        let (mut recent, mut all) = (Histogram::default(), Histogram::default());
        recent.record(1_000_000_000);
        (0..4).for_each(|_| all.record(1_000_000_000));
        let mut exposition = Exposition::default();
        exposition.summary("s", "S.", &Labels::new(), &recent, &all);
        exposition.summary("t", "T.", &Labels::new(), &Histogram::default(), &all);
        let text = exposition.to_text();
        assert!(text.contains("s{quantile=\"0.999\"} 0.99"), "{text}");
        assert!(text.contains("s_sum 4\ns_count 4\n"), "{text}");
        assert!(text.contains("t{quantile=\"0.5\"} NaN\n"), "{text}");
    }
}
