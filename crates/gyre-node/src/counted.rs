//! The engine's ports as the node uses them: every request is counted on its way.

use std::{sync::Arc, time::Duration};

use gyre_core::{
    channel::{ChannelName, MapStorage},
    ports::{
        Answer, Broker, EngineError, History, HistoryFilter, MapPublished, MapState, MapStore, NewEntry,
        NewPublication, PresenceEvent, PresenceStore, PublishOptions, Published, StateFilter, Suppression,
    },
};
use gyre_protocol::{ClientInfo, PresenceStats};

use crate::tally::{Action, EventKind, NodeCounters, Striped};

/// A port and where it is counted.
pub(crate) struct Counted<P: ?Sized> {
    tally: Arc<Striped<NodeCounters>>,
    port: Arc<P>,
}

impl<P: ?Sized> Counted<P> {
    pub(crate) fn new(port: Arc<P>, tally: &Arc<Striped<NodeCounters>>) -> Arc<Self> {
        Arc::new(Self { tally: tally.clone(), port })
    }

    fn act(&self, action: Action) {
        self.tally.count(|counters| counters.actions[action as usize] += 1);
    }

    fn sent(&self, kind: EventKind) {
        self.tally.count(|counters| counters.sent[kind as usize] += 1);
    }

    /// Lets `count` see what came of a request.
    fn noting<T: Send + 'static>(
        &self,
        answer: Answer<Result<T, EngineError>>,
        count: impl FnOnce(&mut NodeCounters, &T) + Send + 'static,
    ) -> Answer<Result<T, EngineError>> {
        let note = |tally: &Striped<NodeCounters>, result: Result<T, EngineError>| {
            if let Ok(value) = &result {
                tally.count(|counters| count(counters, value));
            }
            result
        };
        match answer {
            Answer::Ready(result) => Answer::Ready(note(&self.tally, result)),
            Answer::Later(later) => {
                let tally = self.tally.clone();
                Answer::Later(Box::pin(async move { note(&tally, later.await) }))
            }
        }
    }
}

fn read_action(filter: &HistoryFilter) -> Option<Action> {
    (filter.limit == Some(0)).then_some(Action::HistoryStreamTop)
}

impl Broker for Counted<dyn Broker> {
    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        self.port.subscribe(channel)
    }

    fn unsubscribe(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        self.port.unsubscribe(channel)
    }

    fn publish(
        &self,
        channel: &ChannelName,
        publication: NewPublication,
        options: PublishOptions,
    ) -> Answer<Result<Published, EngineError>> {
        self.sent(EventKind::Publication);
        if options.idempotency_key.is_empty() && options.version == 0 {
            return self.port.publish(channel, publication, options);
        }
        // The engine looks at the key first; which of two it was where both are given, it does not tell.
        let reason = match options.idempotency_key.is_empty() {
            true => Suppression::Version,
            false => Suppression::Idempotency,
        };
        let published = self.port.publish(channel, publication, options);
        self.noting(published, move |counters, published| {
            counters.publish_suppressed[reason as usize] += u64::from(published.is_suppressed);
        })
    }

    fn publish_presence(
        &self,
        channel: &ChannelName,
        event: PresenceEvent,
    ) -> Answer<Result<(), EngineError>> {
        self.sent(match &event {
            PresenceEvent::Join(_) => EventKind::Join,
            PresenceEvent::Leave(_) => EventKind::Leave,
        });
        self.port.publish_presence(channel, event)
    }

    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> Answer<Result<History, EngineError>> {
        if let Some(action) = read_action(&filter) {
            self.act(action);
        }
        self.port.history(channel, filter, meta_ttl)
    }

    fn remove_history(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        self.act(Action::HistoryRemove);
        self.port.remove_history(channel)
    }
}

impl MapStore for Counted<dyn MapStore> {
    fn subscribe(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        self.port.subscribe(channel)
    }

    fn unsubscribe(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        self.port.unsubscribe(channel)
    }

    fn publish(
        &self,
        channel: &ChannelName,
        entry: NewEntry,
        storage: MapStorage,
    ) -> Answer<Result<MapPublished, EngineError>> {
        self.act(Action::MapPublish);
        self.sent(EventKind::Publication);
        let published = self.port.publish(channel, entry, storage);
        self.noting(published, |counters, published| {
            if let Some(reason) = published.suppressed {
                counters.map_publish_suppressed[reason as usize] += 1;
            }
        })
    }

    fn remove(
        &self,
        channel: &ChannelName,
        key: &str,
        idempotency_key: Box<str>,
        storage: MapStorage,
    ) -> Answer<Result<MapPublished, EngineError>> {
        self.act(Action::MapRemove);
        self.sent(EventKind::Publication);
        let removed = self.port.remove(channel, key, idempotency_key, storage);
        self.noting(removed, |counters, removed| {
            if let Some(reason) = removed.suppressed {
                counters.map_remove_suppressed[reason as usize] += 1;
            }
        })
    }

    fn read_state(
        &self,
        channel: &ChannelName,
        filter: StateFilter,
        storage: MapStorage,
    ) -> Answer<Result<MapState, EngineError>> {
        self.act(Action::MapStateRead);
        self.port.read_state(channel, filter, storage)
    }

    fn read_stream(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        storage: MapStorage,
    ) -> Answer<Result<History, EngineError>> {
        self.act(match filter.limit {
            Some(0) => Action::MapStreamPosition,
            _ => Action::MapStreamRead,
        });
        self.port.read_stream(channel, filter, storage)
    }

    fn key_count(&self, channel: &ChannelName) -> Answer<Result<usize, EngineError>> {
        self.act(Action::MapStats);
        self.port.key_count(channel)
    }

    fn clear(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        self.act(Action::MapClear);
        self.port.clear(channel)
    }
}

impl PresenceStore for Counted<dyn PresenceStore> {
    fn add(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> Answer<Result<(), EngineError>> {
        self.act(Action::AddPresence);
        self.port.add(channel, info)
    }

    fn remove(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> Answer<Result<(), EngineError>> {
        self.act(Action::RemovePresence);
        self.port.remove(channel, info)
    }

    fn members(&self, channel: &ChannelName) -> Answer<Result<Vec<Arc<ClientInfo>>, EngineError>> {
        self.act(Action::Presence);
        self.port.members(channel)
    }

    fn stats(&self, channel: &ChannelName) -> Answer<Result<PresenceStats, EngineError>> {
        self.act(Action::PresenceStats);
        self.port.stats(channel)
    }
}
