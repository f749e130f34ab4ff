//! A map whose entries end at their own time.
//!
//! Every entry stands in the agenda at most once, never later than its deadline. A deadline that moves away is not
//! moved in the agenda: the entry is looked at when its old turn comes and gets a new one. So a channel published a
//! million times costs one place, and [`ExpiringMap::sweep`] touches only what is due.

use std::{collections::BTreeSet, time::Instant};

use gyre_core::channel::ChannelName;
use hashbrown::{HashMap, hash_map};

/// A map grows back soon: it gives memory back only when it holds more room than this for nothing.
const SPARE_ENTRIES_MAX: usize = 64;

/// What can end at a time.
pub(super) trait Expire {
    /// What is taken out of a value when it ends; the owner drops it when no lock is held.
    type Freed;

    /// When [`Expire::expire`] has something to do; `None` is never.
    fn deadline(&self) -> Option<Instant>;

    /// Takes out what has ended by `now`.
    fn expire(&mut self, now: Instant) -> Option<Self::Freed>;

    /// True if nothing is left that is worth an entry.
    fn is_over(&self, now: Instant) -> bool;
}

/// Values by channel.
#[derive(Debug)]
pub(super) struct ExpiringMap<V> {
    entries: HashMap<ChannelName, Entry<V>, foldhash::fast::RandomState>,
    agenda: BTreeSet<(Instant, ChannelName)>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    scheduled: Option<Instant>,
}

impl<V> Default for ExpiringMap<V> {
    fn default() -> Self {
        Self { entries: HashMap::default(), agenda: BTreeSet::new() }
    }
}

impl<V: Expire> ExpiringMap<V> {
    /// The value of a channel. It may have ended: the caller compares times.
    pub(super) fn find(&self, channel: &ChannelName) -> Option<&V> {
        self.entries.get(channel).map(|entry| &entry.value)
    }

    /// Changes the value of a channel if there is one; `change` may not bring its deadline forward.
    pub(super) fn find_mut(&mut self, channel: &ChannelName) -> Option<&mut V> {
        self.entries.get_mut(channel).map(|entry| &mut entry.value)
    }

    /// Changes the value of a channel, which is made if there is none.
    pub(super) fn update<R>(
        &mut self,
        channel: &ChannelName,
        make: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> R {
        let entry =
            self.entries.entry(channel.clone()).or_insert_with(|| Entry { value: make(), scheduled: None });
        let result = change(&mut entry.value);
        schedule(&mut self.agenda, channel, entry);
        result
    }

    /// Removes a channel.
    pub(super) fn remove(&mut self, channel: &ChannelName) -> Option<V> {
        let entry = self.entries.remove(channel)?;
        if let Some(at) = entry.scheduled {
            self.agenda.remove(&(at, channel.clone()));
        }
        Some(entry.value)
    }

    /// Looks at what is due, at most `looks` entries, and returns what was taken out.
    pub(super) fn sweep(&mut self, now: Instant, looks: usize) -> Vec<V::Freed> {
        let mut freed = Vec::new();
        for _ in 0..looks {
            if self.agenda.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            let Some((_, channel)) = self.agenda.pop_first() else { break };
            let hash_map::Entry::Occupied(mut entry) = self.entries.entry(channel.clone()) else { continue };
            let found = entry.get_mut();
            found.scheduled = None;
            freed.extend(found.value.expire(now));
            if found.value.is_over(now) {
                entry.remove();
            } else {
                schedule(&mut self.agenda, &channel, found);
            }
        }
        self.give_back();
        freed
    }

    /// After many entries have ended, keeps room for twice of what is left.
    fn give_back(&mut self) {
        let left = self.entries.len();
        if self.entries.capacity() > 4 * left + SPARE_ENTRIES_MAX {
            self.entries.shrink_to(2 * left);
        }
    }
}

#[cfg(test)]
impl<V> ExpiringMap<V> {
    /// Entries, and places in the agenda.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.entries.len(), self.agenda.len())
    }
}

/// Gives the entry a place in the agenda that is not later than its deadline.
fn schedule<V: Expire>(
    agenda: &mut BTreeSet<(Instant, ChannelName)>,
    channel: &ChannelName,
    entry: &mut Entry<V>,
) {
    let Some(deadline) = entry.value.deadline() else { return };
    match entry.scheduled {
        Some(at) if at <= deadline => return,
        Some(at) => {
            agenda.remove(&(at, channel.clone()));
        }
        None => {}
    }
    agenda.insert((deadline, channel.clone()));
    entry.scheduled = Some(deadline);
}
