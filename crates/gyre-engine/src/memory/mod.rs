//! The memory engine: streams and presence of one node, in this process.
//!
//! Striped by channel. A stripe's lock is held while a publication gets its offset *and* while it is delivered, so that
//! every subscriber sees the order of the stream; nothing waits under it. All answers are there at once.
//!
//! Time to live is counted by an injected clock; what has expired is never seen, and [`MemoryEngine::sweep`] frees it.

mod idempotency;
mod presence;
mod stream;

use std::{
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gyre_core::{
    channel::ChannelName,
    ports::{
        Answer, Broker, ChannelEvent, EngineError, EventSink, History, HistoryFilter, NewPublication,
        PresenceEvent, PresenceStore, PublishOptions, Published,
    },
};
use gyre_protocol::{ClientInfo, Epoch, PresenceStats, Publication, StreamPosition};
use hashbrown::HashMap;

use idempotency::Idempotency;
use presence::Members;
use stream::Stream;

/// Independent parts of the engine.
const STRIPES: usize = 64;
/// Letters of an epoch.
const EPOCH_LETTERS: usize = 8;

type Map<V> = HashMap<ChannelName, V, foldhash::fast::RandomState>;

/// Where the engine reads the time.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Streams and presence in memory.
pub struct MemoryEngine {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: foldhash::fast::RandomState,
    sink: Arc<dyn EventSink>,
    clock: Clock,
    presence_ttl: Duration,
}

impl std::fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryEngine").field("presence_ttl", &self.presence_ttl).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Stripe {
    streams: Map<Stream>,
    presence: Map<Members>,
    idempotency: Idempotency,
}

impl MemoryEngine {
    /// An engine that delivers into `sink`. Presence entries live for `presence_ttl` after their last renewal.
    pub fn new(sink: Arc<dyn EventSink>, clock: Clock, presence_ttl: Duration) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            sink,
            clock,
            presence_ttl,
        }
    }

    /// Frees what has expired. Called about once a second; takes one stripe at a time.
    pub fn sweep(&self) {
        let now = (self.clock)();
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            stripe.streams.retain(|_, stream| !stream.sweep(now));
            stripe.presence.retain(|_, members| !members.sweep(now));
            stripe.idempotency.sweep(now);
        }
    }

    fn stripe(&self, channel: &ChannelName) -> MutexGuard<'_, Stripe> {
        lock(&self.stripes[self.hasher.hash_one(&**channel) as usize % STRIPES])
    }
}

fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    // Every change leaves the stripe whole before anything that could panic is called.
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name for a new incarnation of a stream.
fn new_epoch() -> Epoch {
    let letters: [u8; EPOCH_LETTERS] = rand::random();
    let text: String = letters
        .map(|byte| char::from(if byte & 1 == 0 { b'a' } else { b'A' } + (byte >> 1) % 26))
        .iter()
        .collect();
    Epoch::new(&text)
}

impl Broker for MemoryEngine {
    fn subscribe(&self, _channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        Answer::Ready(Ok(()))
    }

    fn unsubscribe(&self, _channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        Answer::Ready(Ok(()))
    }

    fn publish(
        &self,
        channel: &ChannelName,
        publication: NewPublication,
        options: PublishOptions,
    ) -> Answer<Result<Published, EngineError>> {
        let now = (self.clock)();
        let mut stripe = self.stripe(channel);
        let key = &options.idempotency_key;
        if let Some(position) = stripe.idempotency.find(channel, key, now) {
            return Answer::Ready(Ok(Published { position, is_suppressed: true }));
        }
        let NewPublication { data, info, tags } = publication;
        let mut publication = Publication { data, info, tags, ..Publication::default() };
        let mut position = StreamPosition::default();
        let publication = match options.history {
            None => Arc::new(publication),
            Some(history) => {
                let stream =
                    stripe.streams.entry(channel.clone()).or_insert_with(|| Stream::new(new_epoch()));
                stream.refresh(now, new_epoch);
                if stream.is_outdated(options.version, &options.version_epoch) {
                    let position = stream.top();
                    return Answer::Ready(Ok(Published { position, is_suppressed: true }));
                }
                position = stream.next_position();
                publication.offset = position.offset;
                publication.epoch = position.epoch.clone();
                let publication = Arc::new(publication);
                stream.append(publication.clone(), &history, now);
                stream.set_version(options.version, options.version_epoch);
                publication
            }
        };
        if !key.is_empty() {
            stripe.idempotency.remember(channel, key, position.clone(), now);
        }
        self.sink.deliver(channel, ChannelEvent::Publication(publication));
        drop(stripe);
        Answer::Ready(Ok(Published { position, is_suppressed: false }))
    }

    fn publish_presence(
        &self,
        channel: &ChannelName,
        event: PresenceEvent,
    ) -> Answer<Result<(), EngineError>> {
        let stripe = self.stripe(channel);
        self.sink.deliver(
            channel,
            match event {
                PresenceEvent::Join(info) => ChannelEvent::Join(info),
                PresenceEvent::Leave(info) => ChannelEvent::Leave(info),
            },
        );
        drop(stripe);
        Answer::Ready(Ok(()))
    }

    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> Answer<Result<History, EngineError>> {
        let now = (self.clock)();
        let mut stripe = self.stripe(channel);
        let stream = stripe.streams.entry(channel.clone()).or_insert_with(|| Stream::new(new_epoch()));
        stream.refresh(now, new_epoch);
        stream.keep_position(now, meta_ttl);
        Answer::Ready(stream.read(&filter))
    }

    fn remove_history(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        if let Some(stream) = self.stripe(channel).streams.get_mut(channel) {
            stream.clear();
        }
        Answer::Ready(Ok(()))
    }
}

impl PresenceStore for MemoryEngine {
    fn add(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> Answer<Result<(), EngineError>> {
        let expires = (self.clock)() + self.presence_ttl;
        self.stripe(channel).presence.entry(channel.clone()).or_default().add(info, expires);
        Answer::Ready(Ok(()))
    }

    fn remove(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> Answer<Result<(), EngineError>> {
        let mut stripe = self.stripe(channel);
        if stripe.presence.get_mut(channel).is_some_and(|members| members.remove(&info.client)) {
            stripe.presence.remove(channel);
        }
        Answer::Ready(Ok(()))
    }

    fn members(&self, channel: &ChannelName) -> Answer<Result<Vec<Arc<ClientInfo>>, EngineError>> {
        let now = (self.clock)();
        let stripe = self.stripe(channel);
        Answer::Ready(Ok(stripe.presence.get(channel).map_or_else(Vec::new, |members| members.list(now))))
    }

    fn stats(&self, channel: &ChannelName) -> Answer<Result<PresenceStats, EngineError>> {
        let now = (self.clock)();
        let stripe = self.stripe(channel);
        Answer::Ready(Ok(stripe.presence.get(channel).map_or_else(PresenceStats::default, |m| m.stats(now))))
    }
}
