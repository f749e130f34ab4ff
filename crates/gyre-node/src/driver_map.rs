//! Effects on maps: reading state and stream, following, changing.

use gyre_core::{
    channel::{ChannelName, MapStorage},
    hub::{Slot, Subscriber},
    ports::{EngineError, HistoryFilter, KeyMode, NewEntry, StateFilter},
    session::{Effect, EffectId, MapChange, Outcome},
};

use crate::{
    driver::poll_once,
    shard::{ConnectionId, ShardState},
};

impl ShardState {
    /// Does the work of one effect on a map; the outcome if it is known at once.
    pub(crate) fn execute_map(&mut self, slot: Slot, id: EffectId, effect: Effect) -> Option<Outcome> {
        let maps = self.node.ports.maps.clone();
        match effect {
            Effect::ReadMapState { channel, filter, storage, hold } => {
                self.read_map_state(slot, id, channel, filter, storage, hold)
            }
            Effect::ReadMapStream { channel, filter, storage } => {
                self.answer(slot, id, maps.read_stream(&channel, filter, storage).map(Outcome::MapStream))
            }
            Effect::FollowMap { channel, join_leave, stream } => {
                self.follow_map(slot, id, channel, join_leave, stream)
            }
            Effect::ChangeMap { channel, change, storage } => {
                let changed = match change {
                    MapChange::Publish(entry) => maps.publish(&channel, *entry, storage),
                    MapChange::Remove { key, idempotency_key } => {
                        maps.remove(&channel, &key, idempotency_key, storage)
                    }
                };
                self.answer(slot, id, changed.map(|result| Outcome::Published(result.map(|_| ()))))
            }
            Effect::EnterMap { channel, key, info, storage } => {
                let entry = NewEntry { key, info, key_mode: KeyMode::IfNewOrRenew, ..NewEntry::default() };
                let entered = maps.publish(&channel, entry, storage);
                self.forget("enter a presence map", entered.map(|result| result.map(|_| ())));
                None
            }
            Effect::LeaveMap { channel, key, storage } => {
                let left = maps.remove(&channel, &key, Box::default(), storage);
                self.forget("leave a presence map", left.map(|result| result.map(|_| ())));
                None
            }
            _ => None,
        }
    }

    /// Reads a page. Where changes have no offsets, the connection is in the hub first, so that nothing falls between;
    /// and what was on its way before that is let pass unseen, because some of what followed it may never come.
    fn read_map_state(
        &mut self,
        slot: Slot,
        id: EffectId,
        channel: ChannelName,
        filter: StateFilter,
        storage: MapStorage,
        hold: Option<bool>,
    ) -> Option<Outcome> {
        let Some(join_leave) = hold.filter(|_| self.place(slot, &channel).is_none()) else {
            return self.read_state_now(slot, id, channel, filter, storage);
        };
        let subscriber = Subscriber::unpositioned(slot, join_leave).keeping_state();
        self.enter_channel(&channel, subscriber);
        let connection = ConnectionId { slot, generation: self.connections.at_mut(slot)?.generation };
        self.node.directory.mailboxes()[self.index].run(Box::new(move |shard| {
            if shard.connections.get_mut(connection).is_none() {
                return;
            }
            if let Some(place) = shard.place(slot, &channel) {
                shard.hub.hold(place, shard.rules.limits.subscribe_buffer_max);
            }
            if let Some(outcome) = shard.read_state_now(slot, id, channel, filter, storage) {
                shard.with_session(slot, |session, cx| session.handle_outcome(cx, id, outcome));
            }
        }));
        None
    }

    fn read_state_now(
        &mut self,
        slot: Slot,
        id: EffectId,
        channel: ChannelName,
        filter: StateFilter,
        storage: MapStorage,
    ) -> Option<Outcome> {
        let is_held = storage.stream().is_none();
        let maps = self.node.ports.maps.clone();
        let work = async move {
            if is_held && let Err(error) = maps.subscribe(&channel).wait().await {
                return Outcome::MapState(Err(error));
            }
            Outcome::MapState(maps.read_state(&channel, filter, storage).wait().await)
        };
        self.answer(slot, id, poll_once(Box::pin(work)))
    }

    /// Lets a subscriber of a map without positions have patches once everything has been delivered that the state it has
    /// read may be newer than.
    pub(crate) fn begin_patches_later(&mut self, slot: Slot, channel: ChannelName) {
        let Some(generation) = self.connections.at_mut(slot).map(|connection| connection.generation) else {
            return;
        };
        let connection = ConnectionId { slot, generation };
        self.node.directory.mailboxes()[self.index].run(Box::new(move |shard| {
            if shard.connections.get_mut(connection).is_some()
                && let Some(place) = shard.place(slot, &channel)
            {
                shard.hub.begin_patches(place);
            }
        }));
    }

    fn follow_map(
        &mut self,
        slot: Slot,
        id: EffectId,
        channel: ChannelName,
        join_leave: bool,
        stream: Option<(HistoryFilter, MapStorage)>,
    ) -> Option<Outcome> {
        if self.place(slot, &channel).is_none() {
            let buffer_max = self.rules.limits.subscribe_buffer_max;
            let subscriber = Subscriber::positioned(slot, join_leave, buffer_max).keeping_state();
            self.enter_channel(&channel, subscriber);
        }
        let maps = self.node.ports.maps.clone();
        let work = async move {
            maps.subscribe(&channel).wait().await?;
            match stream {
                None => Ok(None),
                Some((filter, storage)) => maps.read_stream(&channel, filter, storage).wait().await.map(Some),
            }
        };
        let work = async move { Outcome::MapFollowed(work.await as Result<_, EngineError>) };
        self.answer(slot, id, poll_once(Box::pin(work)))
    }
}
