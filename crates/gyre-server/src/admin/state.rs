//! Figures of the node for the web interface: counts and gauges of its shards, the process, and QUIC.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gyre_node::{Node, ShardSnapshot, TransportKind};
use gyre_transport::quic;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::now;

/// Whoever asks within this time is given the same figures, so that many who look cost no more than one.
const KEPT_FOR: Duration = Duration::from_millis(900);
/// Paths listed one by one.
const PATHS_SHOWN_MAX: usize = 50;
/// Upper bounds of the histogram of round trip times, in milliseconds; the last column is open.
const RTT_BOUNDS: [f64; 8] = [1.0, 5.0, 20.0, 50.0, 100.0, 200.0, 400.0, 800.0];
/// Clock ticks of `/proc` in a second: the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The latest figures.
#[derive(Debug, Default)]
pub(super) struct LatestState(Mutex<Option<(Instant, Bytes)>>);

impl LatestState {
    /// The figures as a JSON document.
    pub(super) async fn document(&self, node: &Node, quic: Option<&quic::Statistics>) -> Bytes {
        let mut latest = self.0.lock().await;
        if let Some((at, document)) = &*latest
            && at.elapsed() < KEPT_FOR
        {
            return document.clone();
        }
        let document = Bytes::from(take(node, quic).await.to_string());
        *latest = Some((Instant::now(), document.clone()));
        document
    }
}

async fn take(node: &Node, quic: Option<&quic::Statistics>) -> Value {
    let shards = node.snapshots().await;
    let sum = |figure: fn(&ShardSnapshot) -> u64| shards.iter().map(figure).sum::<u64>();
    let transports: Vec<_> = TransportKind::ALL
        .into_iter()
        .enumerate()
        .map(|(i, kind)| {
            let open: u64 = shards.iter().map(|shard| shard.open[i]).sum();
            let accepted = shards.iter().flat_map(|shard| &shard.counters.accepted);
            let accepted = accepted.filter(|(client, _)| client.transport == kind);
            let accepted: u64 = accepted.map(|(_, count)| *count).sum();
            json!({"name": kind.name(), "open": open, "accepted": accepted})
        })
        .collect();
    let mut disconnects = BTreeMap::<u32, u64>::new();
    let mut closes = BTreeMap::<(&str, u32), u64>::new();
    let mut unsubscribes = BTreeMap::<u32, u64>::new();
    let mut errors = BTreeMap::<(&str, u32), u64>::new();
    let mut recoveries = [0, 0];
    for counters in shards.iter().map(|shard| &shard.counters) {
        counters.disconnects.iter().for_each(|(code, count)| *disconnects.entry(*code).or_default() += count);
        for ((transport, code), count) in &counters.closes {
            *closes.entry((transport.name(), *code)).or_default() += count;
        }
        counters
            .unsubscribes
            .iter()
            .for_each(|(code, count)| *unsubscribes.entry(*code).or_default() += count);
        for ((command, code), count) in &counters.reply_errors {
            *errors.entry((command.name(), *code)).or_default() += count;
        }
        for ((is_recovered, _), count) in &counters.recoveries {
            recoveries[usize::from(*is_recovered)] += count;
        }
    }
    let quic = match quic {
        Some(statistics) => Some(quic_figures(statistics).await),
        None => None,
    };
    json!({
        "time": now().as_millis() as u64,
        "node": {
            "uid": &*node.info.uid, "name": &*node.info.name, "version": &*node.info.version,
            "uptime": node.uptime_seconds(), "shards": node.shard_count(),
        },
        "clients": sum(|shard| shard.clients as u64),
        "users": node.user_count(),
        "channels": node.channel_count(),
        "subscriptions": sum(|shard| shard.subscriptions as u64),
        "messages_sent": sum(|shard| shard.messages_sent),
        "commands": sum(|shard| shard.counters.received.messages()),
        "process": process(),
        "transports": transports,
        "disconnects": pairs(&disconnects),
        "unsubscribes": pairs(&unsubscribes),
        "closes": triples(&closes),
        "errors": triples(&errors),
        "recoveries": {"failed": recoveries[0], "recovered": recoveries[1]},
        "refused": {
            "connection_limit": sum(|shard| shard.counters.refused_by_limit),
            "connection_rate": sum(|shard| shard.counters.refused_by_rate),
            "sockets": sum(|shard| shard.counters.sockets_refused),
            "accepts_failed": sum(|shard| shard.counters.accepts_failed),
        },
        "quic": quic,
    })
}

fn pairs(counts: &BTreeMap<u32, u64>) -> Vec<Value> {
    counts.iter().map(|(code, count)| json!([code, count])).collect()
}

fn triples(counts: &BTreeMap<(&str, u32), u64>) -> Vec<Value> {
    counts.iter().map(|((name, code), count)| json!([name, code, count])).collect()
}

/// Memory and processor time of this process, where the system tells.
fn process() -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program comes first, in brackets, and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().ok());
    let ticks = ticks.next().flatten().zip(ticks.next().flatten());
    json!({
        "memory_bytes": kilobytes.map(|kilobytes| kilobytes * 1024),
        "cpu_seconds": ticks.map(|(user, system)| (user + system) as f64 / TICKS_PER_SECOND),
    })
}

async fn quic_figures(statistics: &quic::Statistics) -> Value {
    let counts = statistics.counts();
    let quic::Sample { open, mut paths } = statistics.sample().await;
    let mut times: Vec<f64> = paths.iter().map(|path| path.rtt.as_secs_f64() * 1000.0).collect();
    times.sort_unstable_by(f64::total_cmp);
    let quantile = |part: f64| times.get(((times.len() as f64 - 1.0).max(0.0) * part).round() as usize);
    let mut columns = [0; RTT_BOUNDS.len() + 1];
    times.iter().for_each(|time| columns[RTT_BOUNDS.partition_point(|bound| bound < time)] += 1);
    let sent: u64 = paths.iter().map(|path| path.packets_sent).sum();
    let lost: u64 = paths.iter().map(|path| path.packets_lost).sum();
    paths.sort_unstable_by_key(|path| std::cmp::Reverse((path.packets_lost, path.rtt)));
    let shown: Vec<_> = paths.iter().take(PATHS_SHOWN_MAX).map(path_view).collect();
    let closes: Vec<_> =
        counts.closes.iter().map(|((cause, code), count)| json!([cause, code, count])).collect();
    let ended: Vec<_> = counts.sessions_ended.iter().map(|(code, count)| json!([code, count])).collect();
    let refused: Vec<_> =
        counts.sessions_refused.iter().map(|(status, count)| json!([status, count])).collect();
    json!({
        "open": open,
        "sampled": paths.len(),
        "handshakes": counts.handshakes,
        "handshakes_failed": counts.handshakes_failed,
        "retries": counts.retries,
        "connections": counts.connections,
        "closes": closes,
        "sessions": counts.sessions,
        "sessions_ended": ended,
        "sessions_refused": refused,
        "rtt_ms": {"p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99)},
        "rtt_histogram": {"bounds": RTT_BOUNDS, "counts": columns},
        "packets_sent": sent,
        "packets_lost": lost,
        "ended_packets_sent": counts.packets_sent,
        "ended_packets_lost": counts.packets_lost,
        "paths": shown,
    })
}

fn path_view(path: &quic::PathView) -> Value {
    json!({
        "address": path.address.to_string(),
        "rtt_ms": path.rtt.as_secs_f64() * 1000.0,
        "packets_sent": path.packets_sent,
        "packets_lost": path.packets_lost,
        "congestion_events": path.congestion_events,
        "window_bytes": path.window_bytes,
        "mtu": path.mtu,
        "bytes_sent": path.bytes_sent,
        "bytes_received": path.bytes_received,
    })
}
