//! One shard: an OS thread with its connections, its part of the hub, its timers, and its turn.
//!
//! A turn reads what is there, applies it, and then flushes every connection that became dirty once. Three small tasks
//! drive it: the mailbox ([`run_mailbox`]), the timers ([`run_timers`]) and the flusher ([`run_flusher`]), which is
//! woken by the first frame of a turn and runs after the tasks that were ready before it. Coalescing under load comes
//! from that, with no added delay when idle.

mod apps;
mod counters;
mod link;
mod listing;
mod queue;
mod simulated;
mod state;
mod wheel;

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    process,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use gyre_protocol::{Command, Disconnect};

pub use counters::Counters;
pub use link::{Commands, ConnectionOptions, Fed, Flushed, Link, OpeningRequest, TransportKind};
pub(crate) use listing::{ConnectionFilter, Listed};
pub use queue::Queue;
pub use simulated::SimulatedShard;
pub use state::ShardSnapshot;
pub(crate) use state::ShardState;

use crate::{mailbox::Message, node::Node};

/// Dirty connections flushed, and messages of the mailbox applied, before other tasks of the shard get their turn.
const SLICE: usize = 256;

/// A connection on its shard. Valid until [`LocalShard::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The shard as transports on its thread see it.
#[derive(Clone)]
pub struct LocalShard {
    node: Arc<Node>,
    index: usize,
    state: Rc<RefCell<ShardState>>,
}

impl LocalShard {
    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Number of this shard on its node.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Takes a new connection; it must connect in time.
    ///
    /// `link` is made from the new id, which its task uses to call back.
    pub fn open(&self, options: ConnectionOptions, link: Box<dyn Link>) -> ConnectionId {
        self.node.connections.fetch_add(1, Ordering::Relaxed);
        self.state.borrow_mut().open(options, link)
    }

    /// True if the node takes another connection (`client.connection_limit`).
    pub fn has_room(&self) -> bool {
        let limit = self.state.borrow().rules.limits.connection_limit;
        limit == 0 || self.node.connections.load(Ordering::Relaxed) < limit
    }

    /// Hands in one command.
    pub fn command(&self, id: ConnectionId, command: Command<'_>) -> Fed {
        self.state.borrow_mut().command(id, command)
    }

    /// Closes a connection for a reason found by its transport (undecodable bytes, size limits).
    pub fn disconnect(&self, id: ConnectionId, disconnect: &Disconnect) {
        self.state.borrow_mut().disconnect(id, disconnect);
    }

    /// Writes what the connection's queue holds; called by a link's task when the peer takes more.
    pub fn flush(&self, id: ConnectionId) -> Flushed {
        self.state.borrow_mut().flush(id)
    }

    /// Queues a frame of the transport's own (a pong, a close frame) behind the session's. False if the connection is
    /// gone.
    pub fn enqueue(&self, id: ConnectionId, frame: Bytes) -> bool {
        self.state.borrow_mut().enqueue_own(id, frame)
    }

    /// The times of a transport's own pings.
    pub fn ping_times(&self) -> PingTimes {
        let limits = &self.state.borrow().rules.limits;
        PingTimes { interval: limits.ping_interval, pong_timeout: limits.pong_timeout }
    }

    /// Counts what happened before there was a connection.
    pub fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut self.state.borrow_mut().counters);
    }

    /// Counts a close whose code is the transport's own.
    pub fn count_close(&self, id: ConnectionId, code: u32) {
        self.state.borrow_mut().count_close(id, code);
    }

    /// Drops whatever waits in the connection's queue.
    pub fn discard_queue(&self, id: ConnectionId) {
        self.state.borrow_mut().discard_queue(id);
    }

    /// Ready when the session takes the next command, or none any more.
    pub fn poll_idle(&self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<Fed> {
        self.state.borrow_mut().poll_idle(id, cx)
    }

    /// The transport is done with the connection, whatever the reason: what is left of its session is given back.
    pub fn release(&self, id: ConnectionId) {
        if self.state.borrow_mut().release(id) {
            self.node.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Closes every connection with 3001. New ones are closed at once from now on.
    pub fn begin_shutdown(&self) {
        self.state.borrow_mut().begin_shutdown();
    }

    /// Ready when no connection is left.
    pub async fn drained(&self) {
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        while !self.state.borrow().is_empty() {
            pause.tick().await;
        }
    }
}

/// When a transport that pings by itself does so.
#[derive(Clone, Copy, Debug)]
pub struct PingTimes {
    /// `client.ping_interval`.
    pub interval: Duration,
    /// `client.pong_timeout`.
    pub pong_timeout: Duration,
}

/// What a shard's thread runs beside its own tasks: listeners, until the node shuts down.
pub type Setup = dyn Fn(LocalShard) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

/// Starts one thread per shard of the node. Each runs `setup` on its own runtime and ends when that does.
///
/// # Errors
/// If a thread cannot be started.
pub fn run_shards(node: &Arc<Node>, setup: Arc<Setup>) -> io::Result<Vec<thread::JoinHandle<()>>> {
    (0..node.shard_count())
        .map(|index| {
            let (node, setup) = (node.clone(), setup.clone());
            thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || run_shard(node, index, &*setup))
        })
        .collect()
}

/// What a shard cannot live without. A panic in it would leave connections that are open and never served again: then the
/// process ends, so that whoever watches it starts another.
struct Vital(&'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(part = self.0, "a shard has panicked: the process ends");
            process::abort();
        }
    }
}

fn run_shard(node: Arc<Node>, index: usize, setup: &Setup) {
    let _vital = Vital("thread");
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(shard = index, %error, "cannot start the shard's runtime");
            return;
        }
    };
    let local = tokio::task::LocalSet::new();
    let state = Rc::new(RefCell::new(ShardState::new(node.clone(), index)));
    let shard = LocalShard { node, index, state };
    local.spawn_local(run_mailbox(shard.clone()));
    local.spawn_local(run_timers(shard.clone()));
    local.spawn_local(run_flusher(shard.clone()));
    local.block_on(&runtime, setup(shard));
}

/// Applies what other threads have sent.
async fn run_mailbox(shard: LocalShard) {
    let _vital = Vital("mailbox");
    let mailbox = shard.node.directory.mailboxes()[shard.index].clone();
    let mut batch: VecDeque<Message> = VecDeque::new();
    loop {
        poll_fn(|cx| mailbox.poll_drain(cx, &mut batch)).await;
        while !batch.is_empty() {
            shard.state.borrow_mut().apply(&mut batch, SLICE);
            if !batch.is_empty() {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Tells connections that something is due.
async fn run_timers(shard: LocalShard) {
    let _vital = Vital("timers");
    let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        poll_fn(|cx| {
            let Some(next) = shard.state.borrow_mut().poll_deadline(cx) else { return Poll::Pending };
            if sleep.deadline() != next.into() {
                sleep.as_mut().reset(next.into());
            }
            sleep.as_mut().poll(cx)
        })
        .await;
        shard.state.borrow_mut().handle_due();
    }
}

/// Writes to every connection that became dirty, once a turn.
async fn run_flusher(shard: LocalShard) {
    let _vital = Vital("flusher");
    loop {
        poll_fn(|cx| shard.state.borrow_mut().poll_dirty(cx)).await;
        while shard.state.borrow_mut().flush_dirty(SLICE) {
            tokio::task::yield_now().await;
        }
    }
}
