//! The memory engine: streams, maps and presence of one node, in this process.
//!
//! Striped by channel. A stripe's lock is held while a publication gets its offset *and* while it is delivered, so that
//! every subscriber sees the order of the stream; nothing waits under it. All answers are there at once.
//!
//! Time to live is counted by an injected clock; what has ended is never seen, and [`MemoryEngine::sweep`] frees it.
//! Nothing survives a restart: every stream then begins anew under another epoch.

mod epochs;
mod expiring;
mod idempotency;
mod map;
mod map_store;
mod presence;
mod ranking;
mod stream;

#[cfg(test)]
mod tests;

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
use gyre_protocol::{ClientInfo, PresenceStats, Publication, StreamPosition};
use rand::rngs::StdRng;

use epochs::Epochs;
use expiring::ExpiringMap;
use idempotency::Idempotency;
use map::Map;
use presence::Members;
use stream::{Stream, Version};

/// Independent parts of the engine.
const STRIPES: usize = 64;
/// Channels, and as many idempotency keys, that one sweep looks at in each stripe at most: a stripe is locked for less
/// than a millisecond. What is left waits for the next sweep; it is not seen meanwhile.
const SWEEP_LOOKS_MAX: usize = 1024;

/// Where the engine reads the time. Must not go back.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Streams, maps and presence in memory.
///
/// A channel costs nothing until it is published with history, its history is read, or somebody is present in it.
pub struct MemoryEngine {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: foldhash::fast::RandomState,
    sink: Arc<dyn EventSink>,
    clock: Clock,
    epochs: Epochs,
    presence_ttl: Duration,
}

impl std::fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryEngine").field("presence_ttl", &self.presence_ttl).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Stripe {
    streams: ExpiringMap<Stream>,
    presence: ExpiringMap<Members>,
    idempotency: Idempotency,
    maps: ExpiringMap<Map>,
}

impl MemoryEngine {
    /// How long a presence entry lives after its last renewal, unless configured.
    pub const PRESENCE_TTL: Duration = Duration::from_secs(60);

    /// An engine that delivers into `sink`. Presence entries live for `presence_ttl` after their last renewal.
    pub fn new(sink: Arc<dyn EventSink>, clock: Clock, presence_ttl: Duration) -> Self {
        Self::with_generator(sink, clock, presence_ttl, rand::make_rng())
    }

    /// Like [`MemoryEngine::new`]; the same generator makes the same epochs.
    pub fn with_generator(
        sink: Arc<dyn EventSink>,
        clock: Clock,
        presence_ttl: Duration,
        generator: StdRng,
    ) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            sink,
            clock,
            epochs: Epochs::new(generator),
            presence_ttl,
        }
    }

    /// Frees what has ended by the engine's clock. To be called about once a second; takes one stripe at a time, and
    /// only what is due.
    pub fn sweep(&self) {
        for stripe in &self.stripes {
            let mut stripe = lock(stripe);
            let now = (self.clock)();
            let freed = stripe.streams.sweep(now, SWEEP_LOOKS_MAX);
            stripe.presence.sweep(now, SWEEP_LOOKS_MAX);
            stripe.idempotency.sweep(now, SWEEP_LOOKS_MAX);
            let mut ended = stripe.maps.sweep(now, SWEEP_LOOKS_MAX);
            for map in &mut ended {
                self.deliver_changes(&map.channel, std::mem::take(&mut map.removals));
            }
            drop(stripe);
            drop(ended);
            // A long history is freed with no publisher waiting.
            drop(freed);
        }
    }

    /// The stripe of a channel, and the time, which is read under its lock so that it never goes back in a stripe.
    fn stripe(&self, channel: &ChannelName) -> (MutexGuard<'_, Stripe>, Instant) {
        let stripe = lock(&self.stripes[self.hasher.hash_one(&**channel) as usize % STRIPES]);
        (stripe, (self.clock)())
    }
}

impl Stripe {
    /// Changes a channel's stream, which begins (anew) if there is none.
    fn with_stream<R>(
        &mut self,
        channel: &ChannelName,
        now: Instant,
        epochs: &Epochs,
        change: impl FnOnce(&mut Stream) -> R,
    ) -> R {
        self.streams.update(
            channel,
            || Stream::new(epochs.next()),
            |stream| {
                stream.refresh(now, || epochs.next());
                change(stream)
            },
        )
    }
}

fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    // Every change leaves the stripe whole before anything that could panic is called.
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (mut stripe, now) = self.stripe(channel);
        let PublishOptions { history, idempotency_key, delta, version, version_epoch } = options;
        if let Some(position) = stripe.idempotency.find(channel, &idempotency_key, now) {
            return Answer::Ready(Ok(Published { position, is_suppressed: true }));
        }
        let NewPublication { data, info, tags } = publication;
        let publication = Publication { data, info, tags, ..Publication::default() };
        let version = Version { number: version, epoch: version_epoch };
        let appended = match &history {
            None => Ok(Arc::new(publication)),
            Some(history) => stripe.with_stream(channel, now, &self.epochs, |stream| {
                stream.append(publication, version, history, now)
            }),
        };
        let publication = match appended {
            Ok(publication) => publication,
            Err(position) => return Answer::Ready(Ok(Published { position, is_suppressed: true })),
        };
        let position = StreamPosition { offset: publication.offset, epoch: publication.epoch.clone() };
        stripe.idempotency.remember(channel, idempotency_key, position.clone(), now);
        let event = match delta {
            true => ChannelEvent::DeltaPublication(publication),
            false => ChannelEvent::Publication(publication),
        };
        self.sink.deliver(channel, event);
        drop(stripe);
        Answer::Ready(Ok(Published { position, is_suppressed: false }))
    }

    fn publish_presence(
        &self,
        channel: &ChannelName,
        event: PresenceEvent,
    ) -> Answer<Result<(), EngineError>> {
        let (stripe, _) = self.stripe(channel);
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
        let (mut stripe, now) = self.stripe(channel);
        let history = stripe.with_stream(channel, now, &self.epochs, |stream| {
            stream.keep_position(now, meta_ttl);
            stream.read(&filter)
        });
        Answer::Ready(history)
    }

    fn remove_history(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        let (mut stripe, _) = self.stripe(channel);
        let freed = stripe.streams.find_mut(channel).and_then(Stream::clear);
        drop(stripe);
        drop(freed);
        Answer::Ready(Ok(()))
    }
}

impl PresenceStore for MemoryEngine {
    fn add(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> Answer<Result<(), EngineError>> {
        let (mut stripe, now) = self.stripe(channel);
        stripe.presence.update(channel, || Members::new(self.presence_ttl), |members| members.add(info, now));
        Answer::Ready(Ok(()))
    }

    fn remove(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> Answer<Result<(), EngineError>> {
        let (mut stripe, _) = self.stripe(channel);
        if stripe.presence.find_mut(channel).is_some_and(|members| members.remove(&info.client)) {
            drop(stripe.presence.remove(channel));
        }
        Answer::Ready(Ok(()))
    }

    fn members(&self, channel: &ChannelName) -> Answer<Result<Vec<Arc<ClientInfo>>, EngineError>> {
        let (stripe, now) = self.stripe(channel);
        Answer::Ready(Ok(stripe.presence.find(channel).map_or_else(Vec::new, |members| members.list(now))))
    }

    fn stats(&self, channel: &ChannelName) -> Answer<Result<PresenceStats, EngineError>> {
        let (stripe, now) = self.stripe(channel);
        Answer::Ready(Ok(stripe.presence.find(channel).map_or_else(PresenceStats::default, |m| m.stats(now))))
    }
}
