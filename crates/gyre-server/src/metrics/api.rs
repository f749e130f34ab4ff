//! What the server API, hooks and HTTP endpoints count, and the windows of summaries.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use gyre_node::{Histogram, Striped};

use super::exposition::{Exposition, Kind, Labels};

/// Upper bounds of the histograms of API and hooks, in seconds: the usual ones.
pub(super) const DEFAULT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Quantiles of summaries are those of about this time.
const WINDOW: Duration = Duration::from_secs(600);
/// How far two states that a window is made of are apart, at least.
const WINDOW_STEP: Duration = Duration::from_secs(60);

/// A door of the API and a method.
type ApiKey = (&'static str, &'static str);
/// A hook's protocol, kind and name.
type HookKey = (&'static str, &'static str, Box<str>);

#[derive(Debug, Default)]
struct ApiCounts {
    errors: HashMap<(&'static str, &'static str, Box<str>), u64>,
    durations: HashMap<ApiKey, Histogram>,
}

/// What the server API counts.
#[derive(Debug, Default)]
pub struct ApiMetrics {
    counts: Striped<ApiCounts>,
    windows: Windows,
}

impl ApiMetrics {
    /// An API command took that long. `protocol` is the door it came through, here as below.
    pub fn command(&self, protocol: &'static str, method: &'static str, duration: Duration) {
        self.counts.count(|counts| {
            counts.durations.entry((protocol, method)).or_default().record_duration(duration);
        });
    }

    /// An API command failed: a code, or what could not be read.
    pub fn error(&self, protocol: &'static str, method: &'static str, error: &str) {
        self.counts.count(|counts| {
            *counts.errors.entry((protocol, method, error.into())).or_default() += 1;
        });
    }

    pub(super) fn add(&self, exposition: &mut Exposition, with_summaries: bool) {
        let (mut errors, mut durations) = (HashMap::new(), HashMap::<ApiKey, Histogram>::new());
        self.counts.for_each(|counts| {
            for (key, count) in &counts.errors {
                *errors.entry(key.clone()).or_insert(0) += count;
            }
            merge(&mut durations, &counts.durations);
        });
        for ((protocol, method, error), count) in sorted(errors) {
            let labels = vec![
                ("error", error.into_string().into()),
                ("method", method.into()),
                ("protocol", protocol.into()),
            ];
            let help = "API commands answered with an error.";
            exposition.sample(
                "centrifugo_api_command_errors_total",
                help,
                Kind::Counter,
                labels,
                count as f64,
            );
        }
        let (summary, histogram) =
            ("centrifugo_api_command_duration_seconds", "centrifugo_api_command_duration_seconds_histogram");
        let help = "Duration of API commands.";
        for ((protocol, method), all) in sorted(durations) {
            let labels: Labels = vec![("method", method.into()), ("protocol", protocol.into())];
            if with_summaries {
                let recent = self.windows.recent(&format!("{protocol} {method}"), &all);
                exposition.summary(summary, help, &labels, &recent, &all);
            }
            exposition.durations(histogram, help, &DEFAULT_BUCKETS, &labels, &all);
        }
    }
}

#[derive(Debug, Default)]
struct HookCounts {
    errors: HashMap<HookKey, u64>,
    /// Calls begun and ended: their difference is under way.
    calls: HashMap<HookKey, i64>,
    durations: HashMap<HookKey, Histogram>,
}

/// What hooks count.
#[derive(Debug, Default)]
pub struct HookMetrics {
    counts: Striped<HookCounts>,
    windows: Windows,
}

impl HookMetrics {
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let mut exposition = Exposition::default();
        self.add(&mut exposition, true);
        exposition.to_text()
    }

    /// A call begins; it ends when the value is dropped.
    pub fn begin(&self, protocol: &'static str, kind: &'static str, name: &str) -> HookCall<'_> {
        // The names of default hooks have their kind behind a slash.
        let name = name.split('/').next().unwrap_or_default();
        let key: HookKey = (protocol, kind, name.into());
        self.counts.count(|counts| *counts.calls.entry(key.clone()).or_default() += 1);
        HookCall { metrics: self, key, began: Instant::now() }
    }

    pub(super) fn add(&self, exposition: &mut Exposition, with_summaries: bool) {
        let mut sum = HookCounts::default();
        self.counts.for_each(|counts| {
            for (key, count) in &counts.errors {
                *sum.errors.entry(key.clone()).or_default() += count;
            }
            for (key, count) in &counts.calls {
                *sum.calls.entry(key.clone()).or_default() += count;
            }
            merge(&mut sum.durations, &counts.durations);
        });
        for (key, count) in sorted(sum.errors) {
            let help = "Calls of hooks without a usable answer.";
            let labels = hook_labels(&key);
            exposition.sample("centrifugo_proxy_errors", help, Kind::Counter, labels, count as f64);
        }
        for (key, count) in sorted(sum.calls) {
            let help = "Calls of hooks under way.";
            let labels = hook_labels(&key);
            exposition.sample("centrifugo_proxy_inflight_requests", help, Kind::Gauge, labels, count as f64);
        }
        let help = "Duration of calls of hooks.";
        for (key, all) in sorted(sum.durations) {
            let labels = hook_labels(&key);
            if with_summaries {
                let recent = self.windows.recent(&format!("{key:?}"), &all);
                exposition.summary("centrifugo_proxy_duration_seconds", help, &labels, &recent, &all);
            }
            let histogram = "centrifugo_proxy_duration_seconds_histogram";
            exposition.durations(histogram, help, &DEFAULT_BUCKETS, &labels, &all);
        }
    }
}

fn hook_labels((protocol, kind, name): &HookKey) -> Labels {
    vec![("name", Cow::Owned(name.to_string())), ("protocol", (*protocol).into()), ("type", (*kind).into())]
}

/// A call of a hook that is under way.
#[derive(Debug)]
pub struct HookCall<'a> {
    metrics: &'a HookMetrics,
    key: HookKey,
    began: Instant,
}

impl HookCall<'_> {
    /// It gave no usable answer.
    pub fn failed(&self) {
        self.metrics.counts.count(|counts| *counts.errors.entry(self.key.clone()).or_default() += 1);
    }
}

impl Drop for HookCall<'_> {
    fn drop(&mut self) {
        let (key, duration) = (self.key.clone(), self.began.elapsed());
        self.metrics.counts.count(|counts| {
            *counts.calls.entry(key.clone()).or_default() -= 1;
            counts.durations.entry(key).or_default().record_duration(duration);
        });
    }
}

/// Requests of HTTP by route, method and status; counted if `prometheus.instrument_http_handlers`.
#[derive(Debug, Default)]
pub struct HttpMetrics(Striped<HashMap<Answered, u64>>);

/// A route, a method and a status.
type Answered = (Box<str>, &'static str, u16);

impl HttpMetrics {
    /// A request was answered. `route` is the path of an endpoint, never whatever a client wrote.
    pub fn request(&self, route: &str, method: &http::Method, status: u16) {
        let method = match method.as_str() {
            "GET" => "get",
            "POST" => "post",
            "PUT" => "put",
            "DELETE" => "delete",
            "HEAD" => "head",
            "OPTIONS" => "options",
            "CONNECT" => "connect",
            "PATCH" => "patch",
            // A client may make up as many as it likes.
            _ => "other",
        };
        self.0.count(|counts| *counts.entry((route.into(), method, status)).or_default() += 1);
    }

    pub(super) fn add(&self, exposition: &mut Exposition) {
        let mut sum = HashMap::new();
        self.0.for_each(|counts| {
            for (key, count) in counts {
                *sum.entry(key.clone()).or_insert(0) += count;
            }
        });
        for ((path, method, status), count) in sorted(sum) {
            let labels: Labels = vec![
                ("method", method.into()),
                ("path", path.into_string().into()),
                ("status", status.to_string().into()),
            ];
            let help = "Requests of HTTP.";
            let name = "centrifugo_node_incoming_http_requests_total";
            exposition.sample(name, help, Kind::Counter, labels, count as f64);
        }
    }
}

fn merge<K: Clone + Eq + Hash>(sums: &mut HashMap<K, Histogram>, more: &HashMap<K, Histogram>) {
    for (key, histogram) in more {
        sums.entry(key.clone()).or_default().merge(histogram);
    }
}

/// In the order of keys, so that one text looks like the next.
pub(super) fn sorted<K: Ord, V>(map: impl IntoIterator<Item = (K, V)>) -> Vec<(K, V)> {
    let mut entries: Vec<_> = map.into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
}

/// Former states of histograms, so that quantiles can be told of what is recent. Kept by whoever asks, at most one a
/// minute; nothing is kept where values are entered.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<HashMap<String, VecDeque<(Instant, Histogram)>>>);

impl Windows {
    /// What was entered lately into the histogram of that name, which holds `all` by now. Names are few: they are made of
    /// labels.
    pub(super) fn recent(&self, name: &str, all: &Histogram) -> Histogram {
        self.recent_at(name, all, Instant::now())
    }

    fn recent_at(&self, name: &str, all: &Histogram, now: Instant) -> Histogram {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let states = windows.entry(name.to_owned()).or_default();
        while states.len() > 1 && now.saturating_duration_since(states[1].0) >= WINDOW {
            states.pop_front();
        }
        let is_old = |(at, _): &(Instant, Histogram)| now.saturating_duration_since(*at) >= WINDOW;
        let recent = match states.front() {
            Some(state) if is_old(state) => all.since(&state.1),
            _ => all.clone(),
        };
        if states.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= WINDOW_STEP) {
            states.push_back((now, all.clone()));
        }
        recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was entered more than ten minutes ago no longer counts: a histogram asked once a minute, with one value at
    /// the beginning and another at the end.
    #[test]
    fn windows_forget() {
        let (windows, start) = (Windows::default(), Instant::now());
        let mut all = Histogram::default();
        all.record(1);
        for minute in 0..10 {
            assert_eq!(windows.recent_at("n", &all, start + WINDOW_STEP * minute).count(), 1, "{minute}");
        }
        all.record(1);
        for minute in 10..20 {
            assert_eq!(windows.recent_at("n", &all, start + WINDOW_STEP * minute).count(), 1, "{minute}");
        }
        assert_eq!(windows.recent_at("n", &all, start + WINDOW_STEP * 30).count(), 0);
        let states = windows.0.lock().unwrap()["n"].len();
        assert!(states <= 12, "{states}");
    }
}
