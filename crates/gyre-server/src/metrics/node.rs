//! Figures of the node, its clients and its transports.

use std::borrow::Cow;

use gyre_core::session::CommandKind;
use gyre_node::{
    Action, ClientKind, Counters, EventKind, Histogram, Node, NodeCounters, SIZE_BOUNDS, ShardSnapshot,
    TrafficTable, TransportKind,
};

use super::{
    Options,
    api::{Windows, sorted},
    exposition::{Exposition, Kind, Labels},
};

/// Upper bounds for commands, pings and waits, in seconds.
const COMMAND_BUCKETS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds for broadcasts.
const BROADCAST_BUCKETS: [f64; 20] = [
    0.000001, 0.000005, 0.00001, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The namespace of a channel is not told: labels must be few.
const NAMESPACE: (&str, Cow<'static, str>) = ("channel_namespace", Cow::Borrowed(""));

/// Why something was not published, in the order of the engine's enumeration.
const SUPPRESSIONS: [&str; 4] = ["idempotency", "version", "key_exists", "key_not_found"];

fn counter(exposition: &mut Exposition, name: &'static str, help: &'static str, labels: Labels, value: u64) {
    exposition.sample(name, help, Kind::Counter, labels, value as f64);
}

fn gauge(exposition: &mut Exposition, name: &'static str, help: &'static str, labels: Labels, value: u64) {
    exposition.sample(name, help, Kind::Gauge, labels, value as f64);
}

/// Adds everything that the node and its shards tell.
pub(super) async fn add(exposition: &mut Exposition, node: &Node, options: Options, windows: &Windows) {
    let summary = node.summary().await;
    let mut plain = |name, help, value: usize| exposition.gauge(name, help, value as f64);
    plain("centrifugo_node_num_clients", "Connected clients.", summary.clients);
    plain("centrifugo_node_num_users", "Distinct users connected.", summary.users);
    plain("centrifugo_node_num_subscriptions", "Subscriptions.", summary.subscriptions);
    plain("centrifugo_node_num_channels", "Channels with subscribers.", summary.channels);
    plain("centrifugo_node_num_nodes", "Nodes known.", 1);
    let (channels, keys) = node.polled();
    plain("centrifugo_shared_poll_num_channels", "Channels that are polled.", channels);
    plain("centrifugo_shared_poll_num_keys", "Keys that are polled.", keys);
    let version = vec![("version", node.info.version.to_string().into())];
    gauge(exposition, "centrifugo_node_build", "Version of the server.", version, 1);

    let snapshots = node.snapshots().await;
    let counters = node.counters();
    of_node(exposition, &snapshots, &counters, options, windows);
    of_clients(exposition, &snapshots, options, windows);
    of_transports(exposition, &snapshots);
    of_shards(exposition, node, &snapshots);
}

fn of_node(
    exposition: &mut Exposition,
    snapshots: &[ShardSnapshot],
    counters: &NodeCounters,
    options: Options,
    windows: &Windows,
) {
    for (i, action) in Action::ALL.iter().enumerate() {
        let of_shards: u64 = snapshots.iter().map(|shard| shard.counters.actions[i]).sum();
        let labels = vec![("action", action.name().into()), NAMESPACE];
        let name = "centrifugo_node_action_count";
        counter(exposition, name, "What the node did.", labels, counters.actions[i] + of_shards);
    }
    for (i, kind) in EventKind::ALL.iter().enumerate() {
        let labels = || vec![NAMESPACE, ("type", kind.name().into())];
        let sent = "centrifugo_node_messages_sent_count";
        counter(exposition, sent, "Messages given to the engine.", labels(), counters.sent[i]);
        let received = "centrifugo_node_messages_received_count";
        counter(exposition, received, "Messages received from the engine.", labels(), counters.received[i]);
        let times = sum(snapshots, |counters| &counters.broadcasts.times[i]);
        let name = "centrifugo_node_broadcast_duration_seconds";
        let help = "How long it took to bring a message to the subscribers of a shard.";
        exposition.durations(name, help, &BROADCAST_BUCKETS, &labels(), &times);
    }
    let lag = sum(snapshots, |counters| &counters.lag);
    let name = "centrifugo_node_pub_sub_lag_seconds";
    let help = "How long messages waited for a shard: the longest of each batch.";
    exposition.durations(name, help, &COMMAND_BUCKETS, &vec![NAMESPACE], &lag);
    let labels: Labels = vec![("op", "channels".into())];
    let help = "How long it took to ask all shards for their channels.";
    if options.with_summaries {
        let recent = windows.recent("survey", &counters.surveys);
        let name = "centrifugo_node_survey_duration_seconds";
        exposition.summary(name, help, &labels, &recent, &counters.surveys);
    }
    let name = "centrifugo_node_survey_duration_seconds_histogram";
    exposition.durations(name, help, &COMMAND_BUCKETS, &labels, &counters.surveys);
    let filtered = snapshots.iter().map(|shard| shard.filtered).sum();
    let name = "centrifugo_node_tags_filter_dropped_publications";
    counter(exposition, name, "Publications kept back by filters.", vec![NAMESPACE], filtered);
    for (name, help, counts) in [
        ("centrifugo_broker_publish_suppressed_count", "Publications not made.", counters.publish_suppressed),
        ("centrifugo_map_broker_publish_suppressed_count", "Keys not set.", counters.map_publish_suppressed),
        (
            "centrifugo_map_broker_remove_suppressed_count",
            "Keys not removed.",
            counters.map_remove_suppressed,
        ),
    ] {
        for (reason, count) in SUPPRESSIONS.iter().zip(counts).filter(|(_, count)| *count > 0) {
            counter(exposition, name, help, vec![NAMESPACE, ("reason", (*reason).into())], count);
        }
    }
}

fn of_clients(exposition: &mut Exposition, snapshots: &[ShardSnapshot], options: Options, windows: &Windows) {
    let help = "From a command to its reply.";
    for (i, command) in CommandKind::ALL.iter().enumerate() {
        let all = sum(snapshots, |counters| &counters.commands[i]);
        if all.count() == 0 {
            continue;
        }
        let labels: Labels = vec![NAMESPACE, ("method", command.name().into())];
        if options.with_summaries {
            let recent = windows.recent(command.name(), &all);
            let name = "centrifugo_client_command_duration_seconds";
            exposition.summary(name, help, &labels, &recent, &all);
        }
        let name = "centrifugo_client_command_duration_seconds_histogram";
        exposition.durations(name, help, &COMMAND_BUCKETS, &labels, &all);
    }
    for ((method, code), count) in total(snapshots, |counters| {
        counters.reply_errors.iter().map(|((command, code), count)| ((command.name(), *code), *count))
    }) {
        let labels = vec![NAMESPACE, ("code", code.to_string().into()), ("method", method.into())];
        let name = "centrifugo_client_num_reply_errors";
        counter(exposition, name, "Commands answered with an error.", labels, count);
    }
    for (code, count) in total(snapshots, |c| c.unsubscribes.iter().map(|(code, count)| (*code, *count))) {
        let labels = vec![NAMESPACE, ("code", code.to_string().into())];
        let name = "centrifugo_client_num_server_unsubscribes";
        counter(exposition, name, "Unsubscribes by the server.", labels, count);
    }
    for (code, count) in total(snapshots, |c| c.disconnects.iter().map(|(code, count)| (*code, *count))) {
        let labels = vec![("code", code.to_string().into())];
        counter(exposition, "centrifugo_client_num_server_disconnects", "Disconnects.", labels, count);
    }
    let yes = |is: bool| if is { "yes" } else { "no" };
    for ((recovered, has_publications), count) in
        total(snapshots, |counters| counters.recoveries.iter().map(|(key, count)| (*key, *count)))
    {
        let labels = vec![
            NAMESPACE,
            ("has_recovered_publications", yes(has_publications).into()),
            ("recovered", yes(recovered).into()),
        ];
        counter(exposition, "centrifugo_client_recover", "Recoveries asked for.", labels, count);
    }
    if options.with_recovered_publications {
        let mut recovered = Histogram::sizes();
        snapshots.iter().for_each(|shard| recovered.merge(&shard.counters.recovered));
        let name = "centrifugo_client_recovered_publications";
        exposition.sizes(name, "Publications in a recovery.", &SIZE_BOUNDS, &vec![NAMESPACE], &recovered);
    }
    for (i, transport) in TransportKind::ALL.into_iter().enumerate() {
        let times = sum(snapshots, |counters| &counters.pongs[i]);
        if times.count() > 0 {
            let labels = vec![("transport", transport.name().into())];
            let name = "centrifugo_client_ping_pong_duration_seconds";
            exposition.durations(name, "From a ping to its pong.", &COMMAND_BUCKETS, &labels, &times);
        }
    }
    of_connections(exposition, snapshots);
}

fn of_connections(exposition: &mut Exposition, snapshots: &[ShardSnapshot]) {
    for (labels, count) in total(snapshots, |counters| by_kind(&counters.accepted)) {
        let name = "centrifugo_client_connections_accepted";
        counter(exposition, name, "Clients that have connected.", kind_labels(labels), count);
    }
    let mut inflight: Vec<(KindLabels, u64)> = Vec::new();
    snapshots.iter().for_each(|shard| inflight.extend(by_kind(&shard.connected)));
    for (labels, count) in add_up(inflight) {
        let name = "centrifugo_client_connections_inflight";
        gauge(exposition, name, "Clients that are connected.", kind_labels(labels), count);
    }
    for (i, name) in [UNNAMED, UNREGISTERED].into_iter().enumerate() {
        let labels = || vec![NAMESPACE, ("client_name", name.into())];
        let accepted = snapshots.iter().map(|shard| shard.counters.subscriptions[i]).sum();
        let inflight = snapshots.iter().map(|shard| shard.subscribed[i]).sum();
        let name = "centrifugo_client_subscriptions_accepted";
        counter(exposition, name, "Subscriptions made.", labels(), accepted);
        let name = "centrifugo_client_subscriptions_inflight";
        gauge(exposition, name, "Subscriptions that there are.", labels(), inflight);
    }
}

const UNNAMED: &str = "unnamed";
const UNVERSIONED: &str = "unversioned";
/// Names and versions are the clients' own; what they are is not told, because they could make up any number.
const UNREGISTERED: &str = "unregistered";

/// Protocol, name, version, transport.
type KindLabels = [&'static str; 4];

fn by_kind<'a>(counts: impl IntoIterator<Item = (&'a ClientKind, &'a u64)>) -> Vec<(KindLabels, u64)> {
    let labels = |kind: &ClientKind| {
        [
            kind.version.name(),
            if kind.is_named { UNREGISTERED } else { UNNAMED },
            if kind.is_versioned { UNREGISTERED } else { UNVERSIONED },
            kind.transport.name(),
        ]
    };
    counts.into_iter().map(|(kind, count)| (labels(kind), *count)).collect()
}

fn kind_labels([protocol, name, version, transport]: KindLabels) -> Labels {
    vec![
        ("accept_protocol", protocol.into()),
        ("client_name", name.into()),
        ("client_version", version.into()),
        ("transport", transport.into()),
    ]
}

fn of_transports(exposition: &mut Exposition, snapshots: &[ShardSnapshot]) {
    let tables = |of: fn(&ShardSnapshot) -> &TrafficTable| {
        let rows = snapshots.iter().flat_map(|shard| of(shard).iter());
        let rows = rows.map(|(transport, kind, traffic)| ((transport.name(), kind.name()), traffic));
        rows.collect::<Vec<_>>()
    };
    for (rows, messages, bytes, help, bytes_help) in [
        (
            tables(|shard| &shard.sent),
            "centrifugo_transport_messages_sent",
            "centrifugo_transport_messages_sent_size",
            "Messages sent to clients.",
            "Bytes of messages sent to clients.",
        ),
        (
            tables(|shard| &shard.counters.received),
            "centrifugo_transport_messages_received",
            "centrifugo_transport_messages_received_size",
            "Messages received from clients.",
            "Bytes of messages received from clients.",
        ),
    ] {
        let of = |value: fn(&gyre_node::Traffic) -> u64| {
            add_up(rows.iter().map(|(key, traffic)| (*key, value(traffic))).collect())
        };
        let labels = |transport: &'static str, kind: &'static str| -> Labels {
            vec![NAMESPACE, ("frame_type", kind.into()), ("transport", transport.into())]
        };
        for ((transport, kind), count) in of(|traffic| traffic.messages) {
            counter(exposition, messages, help, labels(transport, kind), count);
        }
        for ((transport, kind), count) in of(|traffic| traffic.bytes) {
            counter(exposition, bytes, bytes_help, labels(transport, kind), count);
        }
    }
    for ((transport, code), count) in total(snapshots, |counters| {
        counters.closes.iter().map(|((transport, code), count)| ((transport.name(), *code), *count))
    }) {
        let labels = vec![("code", code.to_string().into()), ("transport", transport.into())];
        let name = "centrifugo_transport_outgoing_close_count";
        counter(exposition, name, "Connections closed by the server.", labels, count);
    }
}

/// What Centrifugo has no name for, and its one name for what is refused.
fn of_shards(exposition: &mut Exposition, node: &Node, snapshots: &[ShardSnapshot]) {
    let add = |of: fn(&Counters) -> u64| snapshots.iter().map(|shard| of(&shard.counters)).sum::<u64>();
    let by_limit = add(|counters| counters.refused_by_limit);
    let name = "centrifugo_node_client_connection_limit";
    exposition.counter(name, "Connections refused by client.connection_limit.", by_limit);
    for (reason, count) in [
        ("connection_limit", by_limit),
        ("connection_rate_limit", add(|counters| counters.refused_by_rate)),
        ("sockets", add(|counters| counters.sockets_refused)),
        ("accept_failed", add(|counters| counters.accepts_failed)),
    ] {
        let labels = vec![("reason", reason.into())];
        counter(exposition, "gyre_connections_refused_total", "Connections not taken.", labels, count);
    }
    for (i, transport) in TransportKind::ALL.into_iter().enumerate() {
        let open = snapshots.iter().map(|shard| shard.open[i]).sum();
        let labels = vec![("transport", transport.name().into())];
        let name = "gyre_connections_open";
        gauge(exposition, name, "Open connections, connected or not.", labels, open);
    }
    for (i, shard) in snapshots.iter().enumerate() {
        let labels = || vec![("shard", i.to_string().into())];
        let open = shard.open.iter().sum();
        gauge(exposition, "gyre_shard_connections", "Open connections of a shard.", labels(), open);
        let sent = "gyre_shard_messages_sent_total";
        counter(exposition, sent, "Messages a shard has sent.", labels(), shard.messages_sent);
        let age = node.heartbeat_age(i).as_secs_f64();
        let name = "gyre_shard_heartbeat_age_seconds";
        exposition.sample(name, "Time since a shard's last turn of its clock.", Kind::Gauge, labels(), age);
    }
}

fn sum(snapshots: &[ShardSnapshot], of: impl Fn(&Counters) -> &Histogram) -> Histogram {
    let mut sum = Histogram::default();
    snapshots.iter().for_each(|shard| sum.merge(of(&shard.counters)));
    sum
}

fn total<'a, K: Ord + Copy, I: IntoIterator<Item = (K, u64)>>(
    snapshots: &'a [ShardSnapshot],
    of: impl Fn(&'a Counters) -> I,
) -> Vec<(K, u64)> {
    let mut rows = Vec::new();
    snapshots.iter().for_each(|shard| rows.extend(of(&shard.counters)));
    add_up(rows)
}

/// The counts of each key together, in the order of keys.
fn add_up<K: Ord + Copy>(rows: Vec<(K, u64)>) -> Vec<(K, u64)> {
    let mut sums: Vec<(K, u64)> = Vec::new();
    for (key, count) in sorted(rows) {
        match sums.last_mut() {
            Some((known, sum)) if *known == key => *sum += count,
            _ => sums.push((key, count)),
        }
    }
    sums
}
