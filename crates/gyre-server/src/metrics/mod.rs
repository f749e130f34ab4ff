//! Prometheus metrics under the names of Centrifugo, so that its dashboards work.
//!
//! Figures of connections are kept by the shards and read when somebody asks; only those of the API and of hooks are counted here.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use gyre_node::{Node, TransportKind};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

type Labels = Vec<(&'static str, String)>;

/// Upper bounds of the duration histogram, in seconds.
const DURATION_BUCKETS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The same for calls of hooks: as the reference has them.
const HOOK_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What the server API counts.
#[derive(Debug)]
pub struct ApiMetrics {
    registry: Mutex<Registry>,
    errors: Family<Labels, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Default for ApiMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("centrifugo");
        let errors = Family::<Labels, Counter>::default();
        let durations: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS));
        registry.register("api_command_errors", "API commands answered with an error", errors.clone());
        registry.register(
            "api_command_duration_seconds_histogram",
            "Duration of API commands",
            durations.clone(),
        );
        Self { registry: Mutex::new(registry), errors, durations }
    }
}

impl ApiMetrics {
    /// An API command took that long.
    pub fn command(&self, method: &'static str, duration: Duration) {
        let labels = vec![("method", method.into()), ("protocol", "http".into())];
        self.durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// An API command failed: a code, or what could not be read.
    pub fn error(&self, method: &'static str, error: &str) {
        let labels = vec![("error", error.into()), ("method", method.into()), ("protocol", "http".into())];
        self.errors.get_or_create(&labels).inc();
    }
}

/// What hooks count.
#[derive(Debug)]
pub struct HookMetrics {
    registry: Mutex<Registry>,
    errors: Family<Labels, Counter>,
    inflight: Family<Labels, Gauge>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Default for HookMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("centrifugo");
        let errors = Family::<Labels, Counter>::default();
        let inflight = Family::<Labels, Gauge>::default();
        let durations: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(HOOK_BUCKETS));
        registry.register("proxy_errors", "Calls of hooks without a usable answer", errors.clone());
        registry.register("proxy_inflight_requests", "Calls of hooks under way", inflight.clone());
        registry.register(
            "proxy_duration_seconds_histogram",
            "Duration of calls of hooks",
            durations.clone(),
        );
        Self { registry: Mutex::new(registry), errors, inflight, durations }
    }
}

impl HookMetrics {
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner)).unwrap();
        text
    }

    /// A call begins; it ends when the value is dropped.
    pub fn begin(&self, kind: &'static str, name: &str) -> HookCall<'_> {
        // The names of default hooks have their kind behind a slash.
        let name = name.split('/').next().unwrap_or_default().to_owned();
        let labels = vec![("protocol", "http".to_owned()), ("type", kind.to_owned()), ("name", name)];
        self.inflight.get_or_create(&labels).inc();
        HookCall { metrics: self, labels, began: Instant::now() }
    }
}

/// A call of a hook that is under way.
#[derive(Debug)]
pub struct HookCall<'a> {
    metrics: &'a HookMetrics,
    labels: Labels,
    began: Instant,
}

impl HookCall<'_> {
    /// It gave no usable answer.
    pub fn failed(&self) {
        self.metrics.errors.get_or_create(&self.labels).inc();
    }
}

impl Drop for HookCall<'_> {
    fn drop(&mut self) {
        self.metrics.inflight.get_or_create(&self.labels).dec();
        let seconds = self.began.elapsed().as_secs_f64();
        self.metrics.durations.get_or_create(&self.labels).observe(seconds);
    }
}

/// The text of `/metrics`.
pub async fn render(node: &Node, api: &ApiMetrics, hooks: &HookMetrics) -> String {
    let summary = node.summary().await;
    let mut registry = Registry::with_prefix("centrifugo");
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: usize| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value as i64);
        registry.register(name, help, gauge);
    };
    gauge(&mut registry, "node_num_clients", "Connected clients", summary.clients);
    gauge(&mut registry, "node_num_users", "Distinct users connected", summary.users);
    gauge(&mut registry, "node_num_subscriptions", "Subscriptions", summary.subscriptions);
    gauge(&mut registry, "node_num_channels", "Channels with subscribers", summary.channels);
    gauge(&mut registry, "node_num_nodes", "Nodes known", 1);
    let build = Family::<Labels, Gauge>::default();
    build.get_or_create(&vec![("version", node.info.version.to_string())]).set(1);
    registry.register("node_build", "Version of the server", build);

    let disconnects = Family::<Labels, Counter>::default();
    let accepted = Family::<Labels, Counter>::default();
    let inflight = Family::<Labels, Gauge>::default();
    let (commands, messages): (Counter, Counter) = Default::default();
    for shard in node.snapshots().await {
        for (code, count) in shard.disconnects {
            disconnects.get_or_create(&vec![("code", code.to_string())]).inc_by(count);
        }
        for (i, kind) in TransportKind::ALL.into_iter().enumerate() {
            let labels = vec![("transport", kind.name().to_owned())];
            accepted.get_or_create(&labels).inc_by(shard.accepted[i]);
            inflight.get_or_create(&labels).inc_by(shard.open[i] as i64);
        }
        commands.inc_by(shard.commands);
        messages.inc_by(shard.messages_sent);
    }
    registry.register("client_num_server_disconnects", "Disconnects by code", disconnects);
    registry.register("client_connections_accepted", "Connections accepted", accepted);
    registry.register("client_connections_inflight", "Connections open", inflight);
    registry.register("client_commands_received", "Commands received from clients", commands);
    registry.register("client_messages_sent", "Replies, pushes and pings sent to clients", messages);

    let mut text = String::new();
    let api = api.registry.lock().unwrap_or_else(PoisonError::into_inner);
    let hooks = hooks.registry.lock().unwrap_or_else(PoisonError::into_inner);
    for registry in [&registry, &*api, &*hooks] {
        // Writing into a string cannot fail.
        if encode(&mut text, registry).is_err() {
            text.clear();
        }
    }
    // Each registry ends with the marker; only the last one may.
    text.replacen("# EOF\n", "", 2)
}
