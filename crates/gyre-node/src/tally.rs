//! Counts of what happens beside the shards' own state: a few stripes, each used by few threads, so that threads that
//! count do not meet.

use std::{
    cell::Cell,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use gyre_core::ports::ChannelEvent;
#[cfg(doc)]
use gyre_core::ports::Suppression;

use crate::histogram::Histogram;

/// More than there are busy threads on most machines; threads beyond share.
const STRIPES: usize = 16;

/// One value for each stripe, to be added up by whoever asks.
#[derive(Debug)]
pub struct Striped<T>(Box<[Aligned<T>]>);

/// Alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Aligned<T>(Mutex<T>);

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        stripe.get()
    })
}

impl<T: Default> Default for Striped<T> {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| Aligned::default()).collect())
    }
}

impl<T> Striped<T> {
    /// Counts on the stripe of this thread. Waits only for one who adds up just then, or shares the stripe.
    pub fn count(&self, count: impl FnOnce(&mut T)) {
        count(&mut lock(&self.0[stripe()].0));
    }

    /// Shows every stripe to `add`.
    pub fn for_each(&self, mut add: impl FnMut(&T)) {
        self.0.iter().for_each(|stripe| add(&lock(&stripe.0)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Numbers stay numbers, whoever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

macro_rules! names {
    ($(#[$meta:meta])* $type:ident { $($variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "their names say it")]
        pub enum $type { $($variant,)* }

        impl $type {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

names! {
    /// What a node does for its clients and its application.
    ///
    /// Spec: centrifuge `metrics.go`, node_action_count
    Action {
        AddClient = "add_client",
        RemoveClient = "remove_client",
        AddSubscription = "add_subscription",
        RemoveSubscription = "remove_subscription",
        BrokerSubscribe = "broker_subscribe",
        BrokerUnsubscribe = "broker_unsubscribe",
        MapBrokerSubscribe = "map_broker_subscribe",
        MapBrokerUnsubscribe = "map_broker_unsubscribe",
        AddPresence = "add_presence",
        RemovePresence = "remove_presence",
        Presence = "presence",
        PresenceStats = "presence_stats",
        History = "history",
        HistoryRecover = "history_recover",
        HistoryStreamTop = "history_stream_top",
        HistoryRemove = "history_remove",
        Survey = "survey",
        MapStateRead = "map_state_read",
        MapStreamRead = "map_stream_read",
        MapStreamPosition = "map_stream_position",
        MapStats = "map_stats",
        MapPublish = "map_publish",
        MapRemove = "map_remove",
        MapClear = "map_clear",
    }
}

names! {
    /// What travels through an engine.
    EventKind {
        Publication = "publication",
        Join = "join",
        Leave = "leave",
    }
}

impl EventKind {
    /// The kind of an event; `None` if it only says that others were lost.
    pub(crate) fn of(event: &ChannelEvent) -> Option<Self> {
        match event {
            ChannelEvent::Publication(_)
            | ChannelEvent::DeltaPublication(_)
            | ChannelEvent::DeltaChange { .. } => Some(Self::Publication),
            ChannelEvent::Join(_) => Some(Self::Join),
            ChannelEvent::Leave(_) => Some(Self::Leave),
            ChannelEvent::Lost => None,
        }
    }
}

/// What a node counts outside its shards.
#[derive(Clone, Debug, Default)]
pub struct NodeCounters {
    /// Events given to the engine and received from it; in the order of [`EventKind::ALL`].
    pub sent: [u64; EventKind::ALL.len()],
    /// See [`Self::sent`].
    pub received: [u64; EventKind::ALL.len()],
    /// What the application had done; in the order of [`Action::ALL`].
    pub actions: [u64; Action::ALL.len()],
    /// Publications that were not made, by reason; in the order of [`Suppression`].
    pub publish_suppressed: [u64; 4],
    /// The same of keys of maps that were to be set.
    pub map_publish_suppressed: [u64; 4],
    /// The same of keys that were to be removed.
    pub map_remove_suppressed: [u64; 4],
    /// How long it took to ask every shard for its channels.
    pub surveys: Histogram,
}

impl NodeCounters {
    /// Adds what another stripe has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        add(&mut self.sent, &other.sent);
        add(&mut self.received, &other.received);
        add(&mut self.actions, &other.actions);
        add(&mut self.publish_suppressed, &other.publish_suppressed);
        add(&mut self.map_publish_suppressed, &other.map_publish_suppressed);
        add(&mut self.map_remove_suppressed, &other.map_remove_suppressed);
        self.surveys.merge(&other.surveys);
    }
}

fn add<const N: usize>(sums: &mut [u64; N], more: &[u64; N]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is lost between threads: four of them count, and the sum is theirs.
    #[test]
    fn adds_up_what_threads_count() {
        let striped = Striped::<u64>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| striped.count(|count| *count += 1)));
            }
        });
        let mut sum = 0;
        striped.for_each(|count| sum += count);
        assert_eq!(sum, 4000);
    }
}
