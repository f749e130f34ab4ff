//! A session's effects to hub and engine, and their outcomes back.
//!
//! What the engine answers at once is handed back in the same turn. What has to be waited for is waited for on the
//! control runtime and comes back through the shard's mailbox; a connection that is gone by then ignores it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use gyre_core::{
    channel::{ChannelName, MapStorage},
    hub::{Activation, Delta, Joined, Slot, Subscriber},
    ports::{Answer, EngineError, History, HistoryFilter, PresenceEvent},
    rules::{self, Now},
    session::{
        Attached, Effect, EffectId, Outcome, Output, StreamPart, StreamRead, SubscribeEffect, Subscribed,
    },
};
use gyre_protocol::{Disconnect, StreamPosition};

use crate::{
    node::Ports,
    ops::{DisconnectRequest, Target},
    shard::{ConnectionId, ShardState},
};

impl ShardState {
    /// Carries out everything the session in that slot wants.
    ///
    /// # Errors
    /// The disconnect a session answered an outcome with.
    pub(crate) fn drain(&mut self, slot: Slot, now: Now) -> Result<(), Disconnect> {
        loop {
            let Some(connection) = self.connections.at_mut(slot) else { return Ok(()) };
            let Some(output) = connection.session.poll_output() else { return Ok(()) };
            self.counters.observe(&output);
            if !self.taps.is_empty() {
                self.taps.output(&connection.session, connection.transport, &output);
            }
            match output {
                Output::Reply(reply) => self.send(slot, |form| form.reply(&reply).ok()),
                Output::Push(push) => self.send(slot, |form| form.push(&push).ok()),
                Output::Ping => self.send(slot, |form| Some(form.ping())),
                Output::Finish => self.refuse(slot),
                Output::Refused { .. } => {}
                Output::Activate { channel, activation } => self.activate(slot, channel, activation),
                Output::Effect(id, effect) => {
                    if let Some(outcome) = self.execute(slot, id, effect, now) {
                        let Some(connection) = self.connections.at_mut(slot) else { return Ok(()) };
                        let cx = rules::Context { now, rules: &self.rules, patches: &self.patches };
                        connection.session.handle_outcome(&cx, id, outcome)?;
                    }
                }
            }
        }
    }

    fn activate(&mut self, slot: Slot, channel: ChannelName, activation: Activation) {
        let Some(place) = self.place(slot, &channel) else { return };
        let waits_for_patches = matches!(activation.delta, Delta::KeysLater);
        self.hub.activate(place, activation, &mut self.connections);
        if waits_for_patches {
            self.begin_patches_later(slot, channel);
        }
    }

    /// Queues a message, or dooms the connection if its encoding cannot carry it.
    fn send(&mut self, slot: Slot, frame: impl FnOnce(gyre_core::hub::WireForm) -> Option<bytes::Bytes>) {
        let Some(form) = self.connections.form_of(slot) else { return };
        match frame(form) {
            Some(frame) => self.connections.enqueue(slot, frame),
            None => self.connections.doom(slot, Disconnect::INAPPROPRIATE_PROTOCOL),
        }
    }

    /// Does the work of one effect; the outcome if it is known at once.
    fn execute(&mut self, slot: Slot, id: EffectId, effect: Effect, now: Now) -> Option<Outcome> {
        let node = self.node.clone();
        let ports = &node.ports;
        match effect {
            Effect::Authenticate { token } => {
                let claims = ports.authenticator.connection(&token, now.unix_seconds());
                let outcome = claims.map(|claims| Outcome::Authenticated(claims.map(Box::new)));
                self.answer(slot, id, outcome)
            }
            Effect::Verify { token } => {
                let claims = ports.authenticator.subscription(&token, now.unix_seconds());
                self.answer(slot, id, claims.map(|claims| Outcome::Verified(claims.map(Box::new))))
            }
            Effect::Ask { hook, caller, question } => self.ask(slot, id, &hook, *caller, *question),
            Effect::KeepHeaders { headers } => {
                self.connections.at_mut(slot)?.keep_headers(headers);
                None
            }
            Effect::Attach { user } => Some(Outcome::Attached(self.attach(slot, user, now))),
            Effect::Subscribe { channel, request } => self.subscribe(slot, id, channel, request),
            Effect::Unsubscribe { channel, presence, leave } => {
                self.unsubscribe(slot, &channel);
                if let Some(info) = presence {
                    self.forget("remove presence", ports.presence.remove(&channel, info));
                }
                if let Some(info) = leave {
                    self.forget(
                        "publish leave",
                        ports.broker.publish_presence(&channel, PresenceEvent::Leave(info)),
                    );
                }
                None
            }
            Effect::EndOthers { user } => {
                self.end_others(slot, &user);
                None
            }
            Effect::Join { channel, info } => {
                self.forget(
                    "publish join",
                    ports.broker.publish_presence(&channel, PresenceEvent::Join(info)),
                );
                None
            }
            Effect::RenewPresence { channel, info } => {
                self.forget("renew presence", ports.presence.add(&channel, info));
                None
            }
            Effect::CheckPosition { channel, meta_ttl } => {
                self.check_position(slot, channel, meta_ttl);
                None
            }
            Effect::Publish { channel, publication, options } => {
                let published = ports.broker.publish(&channel, publication, options);
                self.answer(slot, id, published.map(|result| Outcome::Published(result.map(|_| ()))))
            }
            Effect::Presence { channel } => {
                self.answer(slot, id, ports.presence.members(&channel).map(Outcome::Presence))
            }
            Effect::PresenceStats { channel } => {
                self.answer(slot, id, ports.presence.stats(&channel).map(Outcome::PresenceStats))
            }
            Effect::History { channel, filter, meta_ttl } => {
                self.answer(slot, id, ports.broker.history(&channel, filter, meta_ttl).map(Outcome::History))
            }
            Effect::ReadMapState { .. }
            | Effect::ReadMapStream { .. }
            | Effect::FollowMap { .. }
            | Effect::ChangeMap { .. }
            | Effect::EnterMap { .. }
            | Effect::LeaveMap { .. } => self.execute_map(slot, id, effect),
            Effect::FollowStream { stream, channel } => {
                self.follow_stream(slot, stream, channel);
                None
            }
            Effect::EndStream { stream } => {
                self.end_stream(slot, stream);
                None
            }
            Effect::PublishToStream { stream, data } => {
                let sent = self.publish_to_stream(slot, stream, data);
                self.answer(slot, id, sent.map(Outcome::Published))
            }
            Effect::JoinPoll { .. }
            | Effect::VerifyTrack { .. }
            | Effect::Track { .. }
            | Effect::Untrack { .. } => self.execute_poll(slot, effect, now),
        }
    }

    /// Registers the connection under its user.
    fn attach(&mut self, slot: Slot, user: Arc<str>, now: Now) -> Attached {
        if !self.node.users.enter(&user, self.rules.limits.user_connection_limit) {
            return Attached::LimitReached;
        }
        if let Some(connection) = self.connections.at_mut(slot) {
            connection.connected_at_ms = now.unix_ms;
        }
        self.users.entry(user).or_default().push(slot);
        Attached::Yes
    }

    /// Ends the user's other connections, on every shard.
    fn end_others(&mut self, slot: Slot, user: &str) {
        let Some(connection) = self.connections.at_mut(slot) else { return };
        let own = connection.session.client().to_string().into();
        let target = Target { user: user.into(), ..Target::default() };
        let request = DisconnectRequest { disconnect: Disconnect::CONNECTION_LIMIT, whitelist: vec![own] };
        let node = self.node.clone();
        drop(self.node.control.spawn(async move { node.disconnect(target, request).await }));
    }

    /// Undoes [`Self::attach`].
    pub(crate) fn detach(&mut self, slot: Slot, user: &Arc<str>) {
        let Some(slots) = self.users.get_mut(user) else { return };
        let Some(at) = slots.iter().position(|&known| known == slot) else { return };
        slots.swap_remove(at);
        if slots.is_empty() {
            self.users.remove(user);
        }
        self.node.users.leave(user);
    }

    /// Puts the connection into the channel, and reads the stream only then, so that nothing falls between.
    fn subscribe(
        &mut self,
        slot: Slot,
        id: EffectId,
        channel: ChannelName,
        request: SubscribeEffect,
    ) -> Option<Outcome> {
        let subscriber = match &request.stream {
            Some(_) => {
                Subscriber::positioned(slot, request.join_leave, self.rules.limits.subscribe_buffer_max)
            }
            None => Subscriber::unpositioned(slot, request.join_leave),
        };
        let channel_id = self.enter_channel(&channel, subscriber);
        let ports = self.node.ports.clone();
        let work = async move {
            let result = read_stream(&ports, &channel, request).await;
            let result = result.map(|subscribed| Subscribed { channel_id, ..subscribed });
            Outcome::Subscribed { channel, result }
        };
        self.answer(slot, id, poll_once(Box::pin(work)))
    }

    /// Puts a connection into a channel of the hub, and makes the shard interested in it. Returns the channel's number.
    pub(crate) fn enter_channel(&mut self, channel: &ChannelName, subscriber: Subscriber) -> u32 {
        let channel = self.hub.shared_name(channel).unwrap_or(channel).clone();
        let slot = subscriber.slot;
        let (place, joined) = self.hub.insert(&channel, subscriber);
        if let Some(connection) = self.connections.at_mut(slot) {
            connection.places.push(place);
        }
        if joined == Joined::First {
            self.node.directory.add_interest(&channel, self.index);
            self.note_state(&channel);
        }
        self.hub.channel_id(place)
    }

    fn unsubscribe(&mut self, slot: Slot, channel: &ChannelName) {
        let Some(place) = self.place(slot, channel) else { return };
        let removed = self.hub.remove(place);
        if let Some(connection) = self.connections.at_mut(slot) {
            connection.places.retain(|known| *known != place);
        }
        if let Some((moved, from, to)) = removed.moved
            && let Some(connection) = self.connections.at_mut(moved)
            && let Some(known) = connection.places.iter_mut().find(|known| **known == from)
        {
            *known = to;
        }
        let Some(channel) = removed.emptied else { return };
        let is_last = self.node.directory.remove_interest(&channel, self.index);
        self.note_state(&channel);
        let is_polled = self.close_polled(&channel);
        if is_last && !is_polled {
            let ports = &self.node.ports;
            let unsubscribed = match self.map_storage(&channel) {
                Some(_) => ports.maps.unsubscribe(&channel),
                None => ports.broker.unsubscribe(&channel),
            };
            self.forget("unsubscribe from the engine", unsubscribed);
        }
    }

    /// The shard's interest in a channel has begun or ended: some applications want to know.
    fn note_state(&self, channel: &ChannelName) {
        let Some(hook) =
            self.rules.namespaces.options(channel).and_then(|options| options.state_hook.as_ref())
        else {
            return;
        };
        let delay = self.rules.hooks.vacated_delay;
        self.node.states.note(hook, channel, delay, crate::clock::now(), &self.node.control);
    }

    /// What the channel keeps, if it is a map.
    fn map_storage(&self, channel: &str) -> Option<MapStorage> {
        let options = self.rules.namespaces.options(channel)?;
        options.map.as_ref().map(|map| map.storage)
    }

    /// Where the connection stands in the channel.
    pub(crate) fn place(&mut self, slot: Slot, channel: &str) -> Option<gyre_core::hub::Place> {
        let connection = self.connections.at_mut(slot)?;
        self.hub.find(&connection.places, channel)
    }

    /// Compares the position a subscriber has reached with the top of the stream. Whoever is behind with nothing on the
    /// way has lost something.
    fn check_position(&mut self, slot: Slot, channel: ChannelName, meta_ttl: std::time::Duration) {
        let Some(place) = self.place(slot, &channel) else { return };
        let Some(reached) = self.hub.position_at(place).cloned() else { return };
        let filter = HistoryFilter { limit: Some(0), ..HistoryFilter::default() };
        let top = match self.map_storage(&channel) {
            Some(storage) => self.node.ports.maps.read_stream(&channel, filter, storage),
            None => self.node.ports.broker.history(&channel, filter, meta_ttl),
        };
        let Some(connection) = self.connections.at_mut(slot) else { return };
        let id = ConnectionId { slot, generation: connection.generation };
        let mailbox = self.node.directory.mailboxes()[self.index].clone();
        // Through the mailbox also when the answer is there: deliveries that precede it must be applied first.
        let judge = move |top: Result<History, EngineError>| {
            mailbox.run(Box::new(move |shard| shard.judge_position(id, &channel, &reached, top)));
        };
        match top {
            Answer::Ready(top) => judge(top),
            Answer::Later(later) => drop(self.node.control.spawn(async move { judge(later.await) })),
        }
    }

    fn judge_position(
        &mut self,
        id: ConnectionId,
        channel: &ChannelName,
        before: &StreamPosition,
        top: Result<History, EngineError>,
    ) {
        let Ok(History { top, .. }) = top else { return };
        if self.connections.get_mut(id).is_none() {
            return;
        }
        let Some(place) = self.place(id.slot, channel) else { return };
        let Some(reached) = self.hub.position_at(place) else { return };
        // Publications that came since then prove that the flow is alive.
        let is_behind = !reached.epoch.is_same(&top.epoch) || reached.offset < top.offset;
        if reached == before && is_behind {
            self.with_session(id.slot, |session, _| session.handle_lost_position(channel));
        }
    }

    /// The outcome if it is known; else it is waited for and comes back through the mailbox.
    pub(crate) fn answer(
        &mut self,
        slot: Slot,
        effect: EffectId,
        answer: Answer<Outcome>,
    ) -> Option<Outcome> {
        let later = match answer {
            Answer::Ready(outcome) => return Some(outcome),
            Answer::Later(later) => later,
        };
        let id = ConnectionId { slot, generation: self.connections.at_mut(slot)?.generation };
        let mailbox = self.node.directory.mailboxes()[self.index].clone();
        drop(self.node.control.spawn(async move {
            let outcome = later.await;
            mailbox.run(Box::new(move |shard| {
                if shard.connections.get_mut(id).is_some() {
                    shard.with_session(id.slot, |session, cx| session.handle_outcome(cx, effect, outcome));
                }
            }));
        }));
        None
    }

    /// Carries out work whose result changes nothing for the session; failures are logged.
    pub(crate) fn forget(&self, what: &'static str, answer: Answer<Result<(), EngineError>>) {
        let report = move |result: Result<(), EngineError>| {
            if let Err(error) = result {
                tracing::warn!(%error, "cannot {what}");
            }
        };
        match answer {
            Answer::Ready(result) => report(result),
            Answer::Later(later) => drop(self.node.control.spawn(async move { report(later.await) })),
        }
    }
}

/// Makes sure that the node is subscribed, reads what the subscriber needs, and makes it a member.
async fn read_stream(
    ports: &Ports,
    channel: &ChannelName,
    request: SubscribeEffect,
) -> Result<Subscribed, EngineError> {
    // Not only the first: whoever comes while the first one's request is on its way must wait for it as well.
    ports.broker.subscribe(channel).wait().await?;
    let subscribed = match request.stream {
        None => Subscribed::default(),
        Some(StreamRead { part, meta_ttl, empty_hook }) => {
            let top_only = HistoryFilter { limit: Some(0), ..HistoryFilter::default() };
            let filter = match part {
                StreamPart::Top => top_only.clone(),
                StreamPart::Latest(limit) => HistoryFilter { limit: Some(limit), reverse: true, since: None },
                StreamPart::Since(since, limit) => {
                    HistoryFilter { since: Some(since), limit: Some(limit), reverse: false }
                }
            };
            let mut history = ports.broker.history(channel, filter.clone(), meta_ttl).wait().await;
            if let (Ok(History { publications, .. }), Some(hook)) = (&history, empty_hook)
                && publications.is_empty()
                && ports.events.cache_empty(&hook, channel).wait().await
            {
                history = ports.broker.history(channel, filter, meta_ttl).wait().await;
            }
            match history {
                Err(EngineError::UnrecoverablePosition) => {
                    let history = ports.broker.history(channel, top_only, meta_ttl).wait().await?;
                    Subscribed { history: Some(history), ..Subscribed::default() }
                }
                history => {
                    Subscribed { history: Some(history?), is_continuous: true, ..Subscribed::default() }
                }
            }
        }
    };
    if let Some(info) = request.presence {
        ports.presence.add(channel, info).wait().await?;
    }
    Ok(subscribed)
}

/// Polls work once, because an engine in this process answers at once.
pub(crate) fn poll_once<T>(mut work: Pin<Box<dyn Future<Output = T> + Send>>) -> Answer<T> {
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Answer::Ready(value),
        Poll::Pending => Answer::Later(work),
    }
}
