//! The port of maps, filled by the memory engine.

use std::time::Instant;

use super::{
    MemoryEngine, Stripe,
    epochs::Epochs,
    map::{Change, Map},
};
use gyre_core::{
    channel::{ChannelName, MapStorage},
    ports::{
        Answer, ChannelEvent, EngineError, History, HistoryFilter, MapPublished, MapState, MapStore,
        NewEntry, StateFilter, Suppression,
    },
};

impl Stripe {
    /// Changes a channel's map, which begins (anew) if there is none.
    fn with_map<R>(
        &mut self,
        channel: &ChannelName,
        storage: MapStorage,
        now: Instant,
        epochs: &Epochs,
        change: impl FnOnce(&mut Map) -> R,
    ) -> R {
        self.maps.update(
            channel,
            || Map::new(channel.clone(), storage, epochs.next()),
            |map| {
                map.refresh(storage, now, || epochs.next());
                change(map)
            },
        )
    }
}

impl MemoryEngine {
    /// Makes a change under the stripe's lock, delivers it, and remembers it under its idempotency key.
    fn change_map(
        &self,
        channel: &ChannelName,
        storage: MapStorage,
        idempotency_key: Box<str>,
        change: impl FnOnce(&mut Map, Instant) -> Result<Change, EngineError>,
    ) -> Result<MapPublished, EngineError> {
        let (mut stripe, now) = self.stripe(channel);
        if let Some(position) = stripe.idempotency.find(channel, &idempotency_key, now) {
            return Ok(MapPublished { position, suppressed: Some(Suppression::Idempotency) });
        }
        let Change { deliver, published } =
            stripe.with_map(channel, storage, now, &self.epochs, |map| change(map, now))?;
        if published.suppressed.is_none() {
            stripe.idempotency.remember(channel, idempotency_key, published.position.clone(), now);
        }
        self.deliver_changes(channel, deliver);
        drop(stripe);
        Ok(published)
    }

    /// Delivers changes of a map. To be called under the stripe's lock.
    pub(super) fn deliver_changes(&self, channel: &ChannelName, changes: Vec<ChannelEvent>) {
        for change in changes {
            self.sink.deliver(channel, change);
        }
    }
}

impl MapStore for MemoryEngine {
    fn subscribe(&self, _channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        Answer::Ready(Ok(()))
    }

    fn unsubscribe(&self, _channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        Answer::Ready(Ok(()))
    }

    fn publish(
        &self,
        channel: &ChannelName,
        mut entry: NewEntry,
        storage: MapStorage,
    ) -> Answer<Result<MapPublished, EngineError>> {
        let idempotency_key = std::mem::take(&mut entry.idempotency_key);
        Answer::Ready(self.change_map(channel, storage, idempotency_key, |map, now| map.publish(entry, now)))
    }

    fn remove(
        &self,
        channel: &ChannelName,
        key: &str,
        idempotency_key: Box<str>,
        storage: MapStorage,
    ) -> Answer<Result<MapPublished, EngineError>> {
        Answer::Ready(self.change_map(channel, storage, idempotency_key, |map, now| Ok(map.remove(key, now))))
    }

    fn read_state(
        &self,
        channel: &ChannelName,
        filter: StateFilter,
        storage: MapStorage,
    ) -> Answer<Result<MapState, EngineError>> {
        let (mut stripe, now) = self.stripe(channel);
        Answer::Ready(
            stripe.with_map(channel, storage, now, &self.epochs, |map| map.read_state(&filter, now)),
        )
    }

    fn read_stream(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        storage: MapStorage,
    ) -> Answer<Result<History, EngineError>> {
        let (mut stripe, now) = self.stripe(channel);
        Answer::Ready(stripe.with_map(channel, storage, now, &self.epochs, |map| map.read_stream(&filter)))
    }

    fn key_count(&self, channel: &ChannelName) -> Answer<Result<usize, EngineError>> {
        let (stripe, now) = self.stripe(channel);
        Answer::Ready(Ok(stripe.maps.find(channel).map_or(0, |map| map.key_count(now))))
    }

    fn clear(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        let (mut stripe, _) = self.stripe(channel);
        let Some(map) = stripe.maps.remove(channel) else { return Answer::Ready(Ok(())) };
        self.sink.deliver(channel, ChannelEvent::Lost);
        drop(stripe);
        // A large map is freed with no publisher waiting.
        drop(map);
        Answer::Ready(Ok(()))
    }
}
