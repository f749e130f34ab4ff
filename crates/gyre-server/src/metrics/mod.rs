//! Prometheus metrics under the names of Centrifugo, so that its dashboards work.
//!
//! Figures of connections are kept by the shards and read when somebody asks; only those of the API and of hooks are counted here.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use gyre_node::{Node, ShardSnapshot, TransportKind};
use gyre_transport::quic;
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
    /// An API command took that long. `protocol` is the door it came through, here as below.
    pub fn command(&self, protocol: &'static str, method: &'static str, duration: Duration) {
        let labels = vec![("method", method.into()), ("protocol", protocol.into())];
        self.durations.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// An API command failed: a code, or what could not be read.
    pub fn error(&self, protocol: &'static str, method: &'static str, error: &str) {
        let labels = vec![("error", error.into()), ("method", method.into()), ("protocol", protocol.into())];
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
    pub fn begin(&self, protocol: &'static str, kind: &'static str, name: &str) -> HookCall<'_> {
        // The names of default hooks have their kind behind a slash.
        let name = name.split('/').next().unwrap_or_default().to_owned();
        let labels = vec![("protocol", protocol.to_owned()), ("type", kind.to_owned()), ("name", name)];
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

/// The counters of all shards together.
#[derive(Default)]
struct Counted {
    accepted: Family<Labels, Counter>,
    inflight: Family<Labels, Gauge>,
    disconnects: Family<Labels, Counter>,
    closes: Family<Labels, Counter>,
    unsubscribes: Family<Labels, Counter>,
    reply_errors: Family<Labels, Counter>,
    recoveries: Family<Labels, Counter>,
    commands: Counter,
    messages: Counter,
    refused_by_limit: Counter,
    refused_by_rate: Counter,
    sockets_refused: Counter,
    accepts_failed: Counter,
}

impl Counted {
    fn add(&mut self, shard: &ShardSnapshot) {
        let counters = &shard.counters;
        let add = |family: &Family<Labels, Counter>, labels: Labels, count: u64| {
            family.get_or_create(&labels).inc_by(count);
        };
        for (i, kind) in TransportKind::ALL.into_iter().enumerate() {
            let labels = vec![("transport", kind.name().to_owned())];
            add(&self.accepted, labels.clone(), counters.accepted[i]);
            self.inflight.get_or_create(&labels).inc_by(shard.open[i] as i64);
        }
        for (code, count) in &counters.disconnects {
            add(&self.disconnects, vec![("code", code.to_string())], *count);
        }
        for ((transport, code), count) in &counters.closes {
            let labels = vec![("transport", transport.name().to_owned()), ("code", code.to_string())];
            add(&self.closes, labels, *count);
        }
        for (code, count) in &counters.unsubscribes {
            add(&self.unsubscribes, vec![("code", code.to_string())], *count);
        }
        for ((command, code), count) in &counters.reply_errors {
            let labels = vec![("method", command.name().to_owned()), ("code", code.to_string())];
            add(&self.reply_errors, labels, *count);
        }
        for ((is_recovered, has_publications), count) in &counters.recoveries {
            let yes = |is: &bool| if *is { "yes" } else { "no" }.to_owned();
            let labels =
                vec![("recovered", yes(is_recovered)), ("has_recovered_publications", yes(has_publications))];
            add(&self.recoveries, labels, *count);
        }
        self.commands.inc_by(counters.commands);
        self.messages.inc_by(shard.messages_sent);
        self.refused_by_limit.inc_by(counters.refused_by_limit);
        self.refused_by_rate.inc_by(counters.refused_by_rate);
        self.sockets_refused.inc_by(counters.sockets_refused);
        self.accepts_failed.inc_by(counters.accepts_failed);
    }

    fn register(self, registry: &mut Registry) {
        registry.register("client_connections_accepted", "Connections accepted", self.accepted);
        registry.register("client_connections_inflight", "Connections open", self.inflight);
        registry.register("client_num_server_disconnects", "Disconnects by code", self.disconnects);
        registry.register("client_num_server_unsubscribes", "Unsubscribes by the server", self.unsubscribes);
        registry.register("client_num_reply_errors", "Commands answered with an error", self.reply_errors);
        registry.register("client_recover", "Recoveries asked for", self.recoveries);
        registry.register("client_commands_received", "Commands received from clients", self.commands);
        registry.register("client_messages_sent", "Replies, pushes and pings sent to clients", self.messages);
        registry.register("transport_outgoing_close_count", "Closes by the server", self.closes);
        let by_limit = "Connections refused by client.connection_limit";
        registry.register("node_client_connection_limit", by_limit, self.refused_by_limit);
        let by_rate = "Connections refused by client.connection_rate_limit";
        registry.register("node_client_connection_rate_limit", by_rate, self.refused_by_rate);
        let sockets = "TCP connections closed because too many were open";
        registry.register("node_sockets_refused", sockets, self.sockets_refused);
        registry.register("node_accepts_failed", "TCP connections not accepted", self.accepts_failed);
    }
}

/// The text of `/metrics`.
pub async fn render(node: &Node, api: &ApiMetrics, hooks: &HookMetrics, quic: &quic::Statistics) -> String {
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

    let mut counted = Counted::default();
    for shard in node.snapshots().await {
        counted.add(&shard);
    }
    counted.register(&mut registry);

    let quic = quic_registry(&quic.counts());
    let mut text = String::new();
    let api = api.registry.lock().unwrap_or_else(PoisonError::into_inner);
    let hooks = hooks.registry.lock().unwrap_or_else(PoisonError::into_inner);
    for registry in [&registry, &quic, &*api, &*hooks] {
        // Writing into a string cannot fail.
        if encode(&mut text, registry).is_err() {
            text.clear();
        }
    }
    // Each registry ends with the marker; only the last one may.
    text.replacen("# EOF\n", "", 3)
}

/// What is counted of QUIC and WebTransport; under a prefix of our own, because the reference has nothing like it.
fn quic_registry(counts: &quic::Counts) -> Registry {
    let mut registry = Registry::with_prefix("gyre");
    let plain = [
        ("quic_handshakes", "QUIC handshakes begun", counts.handshakes),
        ("quic_handshakes_failed", "QUIC handshakes that failed", counts.handshakes_failed),
        ("quic_retries", "Clients asked to prove their address", counts.retries),
        ("quic_connections", "QUIC connections that were open", counts.connections),
        ("webtransport_sessions", "WebTransport sessions accepted", counts.sessions),
    ];
    for (name, help, count) in plain {
        let counter: Counter = Counter::default();
        counter.inc_by(count);
        registry.register(name, help, counter);
    }
    let family = |entries: Vec<(Labels, u64)>| {
        let family = Family::<Labels, Counter>::default();
        for (labels, count) in entries {
            family.get_or_create(&labels).inc_by(count);
        }
        family
    };
    let text = |code: &Option<u64>| code.map_or_else(String::new, |code| code.to_string());
    let closes = counts
        .closes
        .iter()
        .map(|((cause, code), count)| (vec![("cause", (*cause).to_owned()), ("code", text(code))], *count));
    registry.register("quic_closes", "QUIC connections closed", family(closes.collect()));
    let refused = counts.sessions_refused.iter();
    let refused = refused.map(|(status, count)| (vec![("status", status.to_string())], *count));
    registry.register("webtransport_refused", "WebTransport sessions refused", family(refused.collect()));
    registry
}
