//! Which shards of this node are interested in a channel.
//!
//! Striped by channel, so that publishers of different channels do not meet. Lock order: a stripe of the memory engine
//! may be held while a stripe of the directory is taken, and a directory stripe while a mailbox is; never the other
//! way round.

use std::{
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gyre_core::{
    channel::ChannelName,
    ports::{ChannelEvent, EventSink},
};
use hashbrown::{HashMap, hash_map::Entry};

use crate::{
    mailbox::Mailbox,
    trace::{ChannelTaps, Tap},
};

/// Shards a node can have: one bit each.
pub(crate) const SHARDS_MAX: usize = 64;
const STRIPES: usize = 64;

type Stripe = HashMap<ChannelName, u64, foldhash::fast::RandomState>;

/// Channel → interested shards, and the way to their mailboxes.
#[derive(Debug)]
pub struct Directory {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: foldhash::fast::RandomState,
    mailboxes: Box<[Arc<Mailbox>]>,
    taps: ChannelTaps,
}

impl Directory {
    /// A directory for that many shards, at most 64.
    pub fn new(shards: usize) -> Self {
        let shards = shards.clamp(1, SHARDS_MAX);
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            mailboxes: (0..shards).map(|_| Arc::default()).collect(),
            taps: ChannelTaps::default(),
        }
    }

    /// The mailboxes of all shards.
    pub(crate) fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes
    }

    /// From now on, events of the channel reach the shard.
    pub(crate) fn add_interest(&self, channel: &ChannelName, shard: usize) {
        *self.stripe(channel).entry(channel.clone()).or_default() |= 1 << shard;
    }

    /// Events of the channel no longer concern the shard. True if none is interested any more, and nobody looks on.
    pub(crate) fn remove_interest(&self, channel: &ChannelName, shard: usize) -> bool {
        let mut stripe = self.stripe(channel);
        let Entry::Occupied(mut entry) = stripe.entry(channel.clone()) else {
            return !self.taps.contains(channel);
        };
        *entry.get_mut() &= !(1 << shard);
        if *entry.get() != 0 {
            return false;
        }
        entry.remove();
        !self.taps.contains(channel)
    }

    /// From now on, events of the channel reach one who looks on.
    pub(crate) fn add_tap(&self, channel: &ChannelName, tap: Tap) {
        let _stripe = self.stripe(channel);
        self.taps.add(channel, tap);
    }

    /// Undoes [`Self::add_tap`]. True if the channel concerns nobody any more.
    pub(crate) fn remove_tap(&self, channel: &ChannelName, number: u64) -> bool {
        let stripe = self.stripe(channel);
        self.taps.remove(channel, number);
        !stripe.contains_key(channel) && !self.taps.contains(channel)
    }

    /// Ends everybody's looking on.
    pub(crate) fn clear_taps(&self) {
        self.taps.clear();
    }

    /// Channels that some shard is interested in.
    pub(crate) fn channel_count(&self) -> usize {
        let count = |stripe: &Mutex<Stripe>| stripe.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.stripes.iter().map(count).sum()
    }

    /// True if any shard is interested in the channel.
    pub(crate) fn has_interest(&self, channel: &ChannelName) -> bool {
        self.stripe(channel).contains_key(channel)
    }

    fn stripe(&self, channel: &ChannelName) -> MutexGuard<'_, Stripe> {
        let hash = self.hasher.hash_one(&**channel) as usize;
        // A panic elsewhere cannot leave a half-made entry: every change is one step.
        self.stripes[hash % STRIPES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Directory {
    fn deliver(&self, channel: &ChannelName, event: ChannelEvent) {
        // The stripe stays locked, so that two events of one channel reach every mailbox in the same order.
        let stripe = self.stripe(channel);
        if !self.taps.is_empty() {
            self.taps.tell(channel, &event);
        }
        let Some((name, &shards)) = stripe.get_key_value(channel) else { return };
        let mut left = shards;
        while left != 0 {
            let shard = left.trailing_zeros() as usize;
            left &= left - 1;
            self.mailboxes[shard].deliver(name.clone(), event.clone());
        }
    }
}
