//! What other threads send to a shard.
//!
//! Bounded: when a shard falls behind by [`EVENTS_MAX`] events, further events are not queued, but their channels are
//! remembered, and the shard treats each as a gap: subscribers with a position are told, nothing is lost silently.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use gyre_core::{channel::ChannelName, ports::ChannelEvent};
use hashbrown::HashSet;

use crate::shard::ShardState;

/// Events waiting for one shard at most.
pub(crate) const EVENTS_MAX: usize = 1 << 16;

/// A piece of work for a shard.
pub(crate) type Task = Box<dyn FnOnce(&mut ShardState) + Send>;

/// One thing for a shard to do.
pub(crate) enum Message {
    /// Deliver an event to the channel's subscribers.
    Event(ChannelName, ChannelEvent),
    /// Do some work for an operation.
    Task(Task),
}

/// The mailbox of one shard.
#[derive(Default)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Message>,
    lost: HashSet<ChannelName>,
    waker: Option<Waker>,
    /// When the oldest event came that waits.
    since: Option<Instant>,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("queued", &self.lock().queue.len()).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// Queues an event, or remembers that it was lost.
    pub(crate) fn deliver(&self, channel: ChannelName, event: ChannelEvent) {
        let waker = {
            let mut inner = self.lock();
            // Once for each batch: an event that finds others waiting reads no clock.
            if inner.since.is_none() {
                inner.since = Some(Instant::now());
            }
            if inner.queue.len() < EVENTS_MAX {
                inner.queue.push_back(Message::Event(channel, event));
            } else {
                inner.lost.insert(channel);
            }
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Queues work. Operations wait for their answers, so their number is bounded by the requests in flight.
    pub(crate) fn run(&self, task: Task) {
        let waker = {
            let mut inner = self.lock();
            inner.queue.push_back(Message::Task(task));
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves what has come into `batch` (which must be empty), oldest first. Channels that lost events follow as
    /// [`ChannelEvent::Lost`].
    /// Tells when the oldest event came, if there are events.
    pub(crate) fn poll_drain(
        &self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Message>,
    ) -> Poll<Option<Instant>> {
        let mut inner = self.lock();
        if inner.queue.is_empty() && inner.lost.is_empty() {
            if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                inner.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        mem::swap(&mut inner.queue, batch);
        for channel in inner.lost.drain() {
            batch.push_back(Message::Event(channel, ChannelEvent::Lost));
        }
        Poll::Ready(inner.since.take())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Queue and set are changed in single steps: a panic elsewhere leaves them usable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
