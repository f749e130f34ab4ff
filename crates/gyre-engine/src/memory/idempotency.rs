//! Which publications were made under an idempotency key.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use gyre_core::{channel::ChannelName, ports::IDEMPOTENCY_TTL};
use gyre_protocol::StreamPosition;
use hashbrown::{Equivalent, HashMap};

/// Keys remembered by one stripe; the oldest is forgotten when there are more. One channel can thus be published 218
/// times a second with keys before any is forgotten early.
pub(super) const KEYS_MAX: usize = 1 << 16;
/// Bytes of the keys remembered by one stripe; the oldest are forgotten when there are more.
pub(super) const KEY_BYTES_MAX: usize = 8 << 20;
/// Ended keys freed by each one that comes, so that sweeping need not keep up with publishing.
const FORGET_PER_KEY: usize = 2;

/// Results by channel and key. All live equally long, so they end in the order they came in.
#[derive(Debug, Default)]
pub(super) struct Idempotency {
    results: HashMap<Arc<Key>, Remembered, foldhash::fast::RandomState>,
    by_age: VecDeque<(Instant, Arc<Key>)>,
    key_bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    position: StreamPosition,
    expires: Instant,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    channel: ChannelName,
    key: Box<str>,
}

/// Looks a [`Key`] up without making one: hashes alike, since names and boxes hash as their text.
#[derive(Hash)]
struct KeyRef<'a> {
    channel: &'a str,
    key: &'a str,
}

impl Equivalent<Arc<Key>> for KeyRef<'_> {
    fn equivalent(&self, key: &Arc<Key>) -> bool {
        *self.channel == *key.channel && *self.key == *key.key
    }
}

impl Idempotency {
    /// The position of the publication made under that key.
    pub(super) fn find(&self, channel: &str, key: &str, now: Instant) -> Option<StreamPosition> {
        if key.is_empty() {
            return None;
        }
        let found = self.results.get(&KeyRef { channel, key })?;
        (found.expires > now).then(|| found.position.clone())
    }

    /// Remembers a publication made under a key; the empty key is none. `now` never goes back.
    pub(super) fn remember(
        &mut self,
        channel: &ChannelName,
        key: Box<str>,
        position: StreamPosition,
        now: Instant,
    ) {
        if key.is_empty() {
            return;
        }
        self.sweep(now, FORGET_PER_KEY);
        let expires = now + IDEMPOTENCY_TTL;
        let key = Arc::new(Key { channel: channel.clone(), key });
        self.key_bytes += key.key.len();
        self.by_age.push_back((expires, key.clone()));
        self.results.insert(key, Remembered { position, expires });
        while self.by_age.len() > KEYS_MAX || self.key_bytes > KEY_BYTES_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets what has ended, at most `looks` keys.
    pub(super) fn sweep(&mut self, now: Instant, looks: usize) {
        for _ in 0..looks {
            if self.by_age.front().is_none_or(|(expires, _)| *expires > now) {
                break;
            }
            self.forget_oldest();
        }
        if self.by_age.is_empty() && self.by_age.capacity() > 0 {
            *self = Self::default();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((expires, key)) = self.by_age.pop_front() else { return };
        self.key_bytes -= key.key.len();
        // The key may have ended unswept and been used again since; then the younger result stays.
        if self.results.get(&key).is_some_and(|remembered| remembered.expires == expires) {
            self.results.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(offset: u64) -> StreamPosition {
        StreamPosition { offset, ..StreamPosition::default() }
    }

    /// The oldest keys are forgotten when there are too many; fills one over the limit and asks for both ends.
    #[test]
    fn number_of_keys_is_bounded() {
        let (mut keys, channel, now) = (Idempotency::default(), ChannelName::new("c"), Instant::now());
        for n in 0..=KEYS_MAX {
            keys.remember(&channel, n.to_string().into(), position(n as u64), now);
        }
        assert_eq!(keys.results.len(), KEYS_MAX);
        assert_eq!(keys.by_age.len(), KEYS_MAX);
        assert_eq!(keys.find("c", "0", now), None);
        assert_eq!(keys.find("c", "1", now), Some(position(1)));
        assert_eq!(keys.find("c", &KEYS_MAX.to_string(), now), Some(position(KEYS_MAX as u64)));
    }

    /// The oldest keys are forgotten when they are too long together; two that fit only alone, and one that never fits.
    #[test]
    fn bytes_of_keys_are_bounded() {
        let (mut keys, channel, now) = (Idempotency::default(), ChannelName::new("c"), Instant::now());
        let long = |letter: &str, bytes: usize| letter.repeat(bytes);
        keys.remember(&channel, long("a", KEY_BYTES_MAX).into(), position(1), now);
        assert_eq!(keys.find("c", &long("a", KEY_BYTES_MAX), now), Some(position(1)));
        keys.remember(&channel, long("b", 1).into(), position(2), now);
        assert_eq!(keys.find("c", &long("a", KEY_BYTES_MAX), now), None);
        assert_eq!(keys.find("c", "b", now), Some(position(2)));
        keys.remember(&channel, long("c", KEY_BYTES_MAX + 1).into(), position(3), now);
        assert_eq!((keys.results.len(), keys.by_age.len(), keys.key_bytes), (0, 0, 0));
    }

    /// A key used again after it ended keeps its new result when the old place is freed; the sweep is held back so
    /// that both places exist.
    #[test]
    fn old_place_does_not_end_new_result() {
        let (mut keys, channel, start) = (Idempotency::default(), ChannelName::new("c"), Instant::now());
        for n in 0..10 {
            keys.remember(&channel, n.to_string().into(), position(n), start);
        }
        let later = start + IDEMPOTENCY_TTL;
        assert_eq!(keys.find("c", "9", later), None);
        keys.remember(&channel, "9".into(), position(20), later);
        keys.sweep(later, usize::MAX);
        assert_eq!(keys.find("c", "9", later), Some(position(20)));
        assert_eq!((keys.results.len(), keys.by_age.len()), (1, 1));
        keys.sweep(later + IDEMPOTENCY_TTL, usize::MAX);
        assert_eq!((keys.results.capacity(), keys.by_age.capacity(), keys.key_bytes), (0, 0, 0));
    }
}
