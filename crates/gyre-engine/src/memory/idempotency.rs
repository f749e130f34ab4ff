//! Which publications were made under an idempotency key.

use std::{collections::VecDeque, time::Instant};

use gyre_core::{channel::ChannelName, ports::IDEMPOTENCY_TTL};
use gyre_protocol::StreamPosition;
use hashbrown::HashMap;

/// Keys remembered by one stripe; the oldest is forgotten when there are more.
const KEYS_MAX: usize = 16_384;

/// Results by channel and key. All live equally long, so they expire in the order they came in.
#[derive(Debug, Default)]
pub(super) struct Idempotency {
    results: HashMap<(ChannelName, Box<str>), StreamPosition, foldhash::fast::RandomState>,
    by_age: VecDeque<(Instant, (ChannelName, Box<str>))>,
}

impl Idempotency {
    pub(super) fn find(&mut self, channel: &ChannelName, key: &str, now: Instant) -> Option<StreamPosition> {
        if key.is_empty() || self.results.is_empty() {
            return None;
        }
        self.sweep(now);
        self.results.get(&(channel.clone(), Box::from(key))).cloned()
    }

    pub(super) fn remember(
        &mut self,
        channel: &ChannelName,
        key: &str,
        position: StreamPosition,
        now: Instant,
    ) {
        let entry = (channel.clone(), Box::from(key));
        self.by_age.push_back((now + IDEMPOTENCY_TTL, entry.clone()));
        self.results.insert(entry, position);
        if self.by_age.len() > KEYS_MAX {
            self.forget_oldest();
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        while self.by_age.front().is_some_and(|(expires, _)| *expires <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, entry)) = self.by_age.pop_front() {
            self.results.remove(&entry);
        }
    }
}
