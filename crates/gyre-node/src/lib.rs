//! One Gyre node: shard threads with their sessions, the channel directory between them, and the operations the
//! application calls.
//!
//! A connection, its session, its subscriptions and its queue live on one shard from accept to close. Between threads
//! only messages travel ([`mailbox`]). Nothing here knows HTTP, QUIC or an engine: transports hand in [`Link`]s,
//! engines fill the ports of `gyre-core`.

mod clock;
mod departures;
mod directory;
mod driver;
mod driver_hooks;
mod driver_map;
mod driver_poll;
mod driver_stream;
mod events;
mod mailbox;
mod node;
pub mod ops;
mod polls;
mod retry;
mod sessions;
mod shard;
mod states;
mod trace;
mod users;

pub use clock::now;
pub use directory::Directory;
pub use node::{Node, NodeInfo, Ports};
pub use polls::CONCURRENCY as POLL_CONCURRENCY;
pub use sessions::Received;
pub use shard::{
    Commands, ConnectionId, ConnectionOptions, Counters, Fed, Flushed, Link, LocalShard, OpeningRequest,
    PingTimes, Queue, Setup, ShardSnapshot, SimulatedShard, TransportKind, run_shards,
};
pub use trace::{Activity, TRACE_EVENTS_MAX, TRACES_MAX, Trace, TraceError, TraceEvent, TraceSubject};
