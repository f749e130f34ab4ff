//! The subscribe command of maps: pages of state, pages of the stream, and going live with nothing missed.
//!
//! A first request is authorised and leaves a [`CatchUp`]; what follows needs it and nothing else. Maps with a stream
//! freeze the position of the first page, read what followed it when they go live, and open the gate at its end. Maps
//! without one are held in the hub from the first page on: what changes meanwhile is delivered behind the live reply.
//!
//! Spec: client protocol, "Map subscriptions"; centrifuge `client_map.go`.

use std::{sync::Arc, time::Instant};

use gyre_protocol::{
    ClientError, ClientInfo, Disconnect, Epoch, Payload, Publication, ReplyBody, StreamPosition,
    SubscribeRequest, SubscribeResult,
};

use super::{
    BusyCommand, Effect, Refusal, Session,
    subscribe::{Grant, negotiate, told_expiry},
    subscription::{Features, Subscription, SubscriptionState},
};
use crate::{
    channel::{Asker, ChannelName, ChannelOptions, MapOptions},
    filter::Filter,
    hub::{Activation, Delta},
    ports::{EngineError, History, HistoryFilter, MapState, StateFilter},
    rules::Context,
    stream::{continues, is_recovered},
};

/// `type` of every kind of map in results.
const KIND_MAP: i32 = 1;
/// Values of `phase`; live is 0, and left out in JSON.
const PHASE_STREAM: i32 = 1;
const PHASE_STATE: i32 = 2;

/// A map subscription on its way to going live.
#[derive(Debug)]
pub(crate) struct CatchUp {
    options: Arc<ChannelOptions>,
    started: Instant,
    /// Data from the token, for the live reply.
    data: Payload,
    /// Only entries and changes that match are told.
    filter: Option<Box<Filter>>,
    /// Changes go out as patches, and in JSON all data as strings, from the first page on.
    delta: bool,
    deliver_joins: bool,
    /// The position of the first page, or the one the client named: what follows it comes from the stream.
    frozen: Option<StreamPosition>,
    /// The client has been told the whole state, the kept page included.
    has_state: bool,
    /// The stream's top at the first request for it, so that a busy stream is not paged for ever.
    stream_end: Option<u64>,
    /// The last page of state, which goes out with the live reply.
    page: Vec<Arc<Publication>>,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) struct MapRequest {
    step: Step,
    limit: i32,
    is_recovering: bool,
}

#[derive(Debug)]
enum Step {
    State { cursor: Box<str>, ascending: bool },
    Stream { since: StreamPosition },
    Live { since: StreamPosition },
}

/// A request whose effect is under way.
#[derive(Debug)]
pub(super) struct MapCommand {
    pub(super) id: u32,
    channel: ChannelName,
    /// Entries or publications wanted.
    size: usize,
    is_recovering: bool,
    waiting: Waiting,
}

#[derive(Debug)]
enum Waiting {
    State,
    Stream { since: StreamPosition },
    Live { since: StreamPosition },
}

impl CatchUp {
    fn map(&self) -> Option<&MapOptions> {
        self.options.map.as_ref()
    }

    /// True if the client is told of a publication.
    fn lets(&self, publication: &Publication) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(&publication.tags))
    }

    /// Those of the publications that the client is told of.
    fn told(&self, mut publications: Vec<Arc<Publication>>) -> Vec<Arc<Publication>> {
        publications.retain(|publication| self.lets(publication));
        publications
    }

    /// How changes go on as patches. The client is not asked what it holds, but only told what it is sent: what it kept of
    /// an earlier session may be gone, or be of a time without delta.
    ///
    /// Spec-deviation: the reference makes patches against what a client that comes back held when it left.
    fn live_delta(&self) -> Delta {
        let has_stream = self.map().is_some_and(|map| map.storage.stream().is_some());
        match (self.delta, has_stream, self.has_state) {
            (false, ..) => Delta::Off,
            (true, true, true) => Delta::Keys { since: 0 },
            (true, true, false) => {
                Delta::Keys { since: self.frozen.as_ref().map_or(0, |frozen| frozen.offset) }
            }
            (true, false, true) => Delta::KeysLater,
            // Followed without its state, a map says nothing of what the client holds.
            (true, false, false) => Delta::Off,
        }
    }

    fn has_timed_out(&self, now: Instant, factor: u32) -> bool {
        let timeout = self.map().and_then(|map| map.catch_up_timeout);
        timeout.is_some_and(|timeout| now.saturating_duration_since(self.started) > timeout * factor)
    }

    /// True if nobody will ever continue it: twice the time has passed.
    pub(super) fn is_abandoned(&self, now: Instant) -> bool {
        self.has_timed_out(now, 2)
    }
}

impl MapRequest {
    fn new(request: &SubscribeRequest<'_>) -> Result<Self, ClientError> {
        let since = StreamPosition { offset: request.offset, epoch: Epoch::new(&request.epoch) };
        let step = match request.phase {
            PHASE_STATE => Step::State { cursor: request.cursor.as_ref().into(), ascending: request.asc },
            PHASE_STREAM => Step::Stream { since },
            0 => Step::Live { since },
            _ => return Err(ClientError::BAD_REQUEST),
        };
        Ok(Self { step, limit: request.limit, is_recovering: request.recover })
    }

    /// What a request asks for that no other one preceded.
    pub(super) fn first(
        request: &SubscribeRequest<'_>,
        options: &ChannelOptions,
    ) -> Result<Self, ClientError> {
        let map = options.map.as_ref().ok_or(ClientError::INTERNAL)?;
        let wanted = Self::new(request)?;
        match &wanted.step {
            Step::State { cursor, .. } if !cursor.is_empty() => Err(ClientError::PERMISSION_DENIED),
            Step::Stream { .. } if map.storage.stream().is_none() => Err(ClientError::BAD_REQUEST),
            Step::Stream { .. } if !wanted.is_recovering => Err(ClientError::PERMISSION_DENIED),
            _ => Ok(wanted),
        }
    }

    /// The epoch the client believes in; empty if it names none.
    fn epoch(&self, request: &SubscribeRequest<'_>) -> Epoch {
        match &self.step {
            Step::State { .. } => Epoch::new(&request.epoch),
            Step::Stream { since } | Step::Live { since } => since.epoch.clone(),
        }
    }
}

impl Session {
    /// Goes on with a catch-up. `None` if there is none, or the request begins one.
    pub(super) fn continue_map(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        request: &SubscribeRequest<'_>,
    ) -> Option<Result<(), Refusal>> {
        self.drop_abandoned_catch_ups(cx, &request.channel);
        if request.phase == PHASE_STATE && request.cursor.is_empty() {
            return None;
        }
        let catch_up = self.catch_up_mut(&request.channel)?;
        Some(match catch_up.check(cx, request) {
            Ok(wanted) => {
                self.map_step(id, ChannelName::new(&request.channel), wanted);
                Ok(())
            }
            Err(refusal) => {
                if matches!(&refusal, Refusal::Error(error) if *error == ClientError::UNRECOVERABLE_POSITION)
                {
                    self.drop_subscription(&request.channel);
                }
                Err(refusal)
            }
        })
    }

    /// Enters the subscription of an authorised first request, and carries the request out.
    pub(super) fn begin_map(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        channel: ChannelName,
        granted: Grant,
        wanted: MapRequest,
    ) {
        let Some(live) = self.live() else { return };
        let asker = Asker { user: &live.user, is_subscribed: false };
        let negotiated = negotiate(cx, &granted.options, &granted.grant, granted.wishes, asker);
        let info = match granted.grant.info.is_empty() {
            true => live.info.clone(),
            false => Arc::new(ClientInfo { chan_info: granted.grant.info, ..(*live.info).clone() }),
        };
        let has_stream = granted.options.map.as_ref().is_some_and(|map| map.storage.stream().is_some());
        let features = Features {
            is_server_side: false,
            presence: negotiated.presence,
            join_leave: negotiated.join_leave,
            positioned: has_stream,
        };
        let catch_up = CatchUp {
            started: cx.now.instant,
            data: granted.grant.data,
            filter: granted.filter,
            delta: negotiated.delta,
            deliver_joins: negotiated.push_join_leave,
            frozen: match &wanted.step {
                Step::State { .. } => None,
                Step::Stream { since } | Step::Live { since } => Some(since.clone()),
            },
            has_state: false,
            stream_end: None,
            page: Vec::new(),
            options: granted.options,
        };
        let subscription = Subscription {
            state: SubscriptionState::CatchUp(Box::new(catch_up)),
            info,
            expire_at: granted.expire_at,
            features,
            map_keys: None,
            refreshing: None,
            stream: None,
        };
        let jitter = self.jitter;
        let Some(live) = self.live_mut() else { return };
        live.subscriptions.insert(channel.clone(), subscription);
        live.timers.start_tick(&cx.now, &cx.rules.limits, jitter);
        self.map_step(id, channel, wanted);
    }

    /// Asks for what a request wants.
    fn map_step(&mut self, id: u32, channel: ChannelName, wanted: MapRequest) {
        let Some(catch_up) = self.catch_up_mut(&channel) else { return };
        let Some(map) = catch_up.options.map.as_ref() else { return };
        let (size, storage) = (map.pages.clamp(wanted.limit), map.storage);
        let (effect, waiting) = match wanted.step {
            Step::State { cursor, ascending } => {
                let filter = StateFilter::Page { cursor, limit: Some(size), ascending };
                let hold = storage.stream().is_none().then_some(catch_up.deliver_joins);
                (Effect::ReadMapState { channel: channel.clone(), filter, storage, hold }, Waiting::State)
            }
            Step::Stream { since } => {
                let filter = HistoryFilter { since: Some(since.clone()), limit: Some(size), reverse: false };
                let effect = Effect::ReadMapStream { channel: channel.clone(), filter, storage };
                (effect, Waiting::Stream { since })
            }
            Step::Live { since } => {
                let effect = live_effect(catch_up, channel.clone(), &since);
                (effect, Waiting::Live { since })
            }
        };
        let command = MapCommand { id, channel, size, is_recovering: wanted.is_recovering, waiting };
        self.wait_for(effect, BusyCommand::Map(command));
    }

    /// A page of state has been read.
    pub(super) fn map_state_read(
        &mut self,
        cx: &Context<'_>,
        command: MapCommand,
        result: Result<MapState, EngineError>,
    ) {
        let Some(catch_up) = self.catch_up_mut(&command.channel) else { return self.map_vanished(command) };
        let MapState { entries, position: top, cursor } = match result {
            Ok(state) => state,
            Err(EngineError::UnrecoverablePosition) => {
                return self.refuse_map(command, ClientError::UNRECOVERABLE_POSITION);
            }
            Err(_) => return self.refuse_map(command, ClientError::INTERNAL),
        };
        let frozen = catch_up.frozen.get_or_insert_with(|| top.clone()).clone();
        if !frozen.epoch.is_same(&top.epoch) {
            return self.refuse_map(command, ClientError::UNRECOVERABLE_POSITION);
        }
        // What is newer comes by the stream.
        let is_told = |entry: &Arc<Publication>| entry.offset <= frozen.offset && catch_up.lets(entry);
        let page: Vec<_> = entries.into_iter().filter(is_told).collect();
        let has_stream = catch_up.map().is_some_and(|map| map.storage.stream().is_some());
        let is_last = cursor.is_empty();
        catch_up.has_state |= is_last;
        if is_last && !has_stream {
            catch_up.page = page;
            return self.map_live(cx, command, None);
        }
        if is_last && frozen.offset.saturating_add(command.size as u64) >= top.offset {
            catch_up.page = page;
            return self.map_go_live(command, frozen);
        }
        let result = SubscribeResult {
            kind: KIND_MAP,
            phase: PHASE_STATE,
            cursor,
            epoch: frozen.epoch,
            offset: frozen.offset,
            // Told with every page, because it is what makes strings of the data.
            delta: catch_up.delta,
            state: page,
            ..SubscribeResult::default()
        };
        self.reply(command.id, ReplyBody::Subscribe(Box::new(result)));
    }

    /// A page of changes has been read.
    pub(super) fn map_stream_read(&mut self, command: MapCommand, result: Result<History, EngineError>) {
        let Some(catch_up) = self.catch_up_mut(&command.channel) else { return self.map_vanished(command) };
        let Waiting::Stream { since } = &command.waiting else { return };
        let since = since.clone();
        let history = match result {
            Ok(history) if continues(since.offset, &history) => history,
            Ok(_) | Err(EngineError::UnrecoverablePosition) => {
                return self.refuse_map(command, ClientError::UNRECOVERABLE_POSITION);
            }
            Err(_) => return self.refuse_map(command, ClientError::INTERNAL),
        };
        let end = *catch_up.stream_end.get_or_insert(history.top.offset);
        if since.offset.saturating_add(command.size as u64) >= end {
            return self.map_go_live(command, since);
        }
        let result = SubscribeResult {
            kind: KIND_MAP,
            phase: PHASE_STREAM,
            offset: history.publications.last().map_or(since.offset, |last| last.offset),
            epoch: history.top.epoch,
            delta: catch_up.delta,
            publications: catch_up.told(history.publications),
            ..SubscribeResult::default()
        };
        self.reply(command.id, ReplyBody::Subscribe(Box::new(result)));
    }

    /// Asks for the hub's gate and what followed the position.
    fn map_go_live(&mut self, command: MapCommand, since: StreamPosition) {
        let Some(catch_up) = self.catch_up_mut(&command.channel) else { return };
        let effect = live_effect(catch_up, command.channel.clone(), &since);
        let command = MapCommand { waiting: Waiting::Live { since }, ..command };
        self.wait_for(effect, BusyCommand::Map(command));
    }

    /// The connection is in the hub, and what followed its position has been read.
    ///
    /// # Errors
    /// 3004 if the engine cannot deliver the channel.
    pub(super) fn map_live_read(
        &mut self,
        cx: &Context<'_>,
        command: MapCommand,
        result: Result<Option<History>, EngineError>,
    ) -> Result<(), Disconnect> {
        let Some(catch_up) = self.catch_up_mut(&command.channel) else {
            self.map_vanished(command);
            return Ok(());
        };
        let limit = catch_up.map().map_or(0, |map| map.live_publications_max);
        let Waiting::Live { since } = &command.waiting else { return Err(Disconnect::SERVER_ERROR) };
        match result {
            Ok(Some(history))
                if history.publications.len() <= limit && is_recovered(since.offset, &history) =>
            {
                self.map_live(cx, command, Some(history));
            }
            Ok(None) => self.map_live(cx, command, None),
            Ok(Some(_)) | Err(EngineError::UnrecoverablePosition) => {
                self.refuse_map(command, ClientError::UNRECOVERABLE_POSITION);
            }
            Err(_) => return Err(Disconnect::SERVER_ERROR),
        }
        Ok(())
    }

    /// Answers, and lets what follows flow.
    fn map_live(&mut self, cx: &Context<'_>, command: MapCommand, history: Option<History>) {
        let Some(subscription) = self.live_mut().and_then(|l| l.subscriptions.get_mut(&command.channel))
        else {
            return;
        };
        let expiry = told_expiry(subscription.expire_at, &command.channel, cx);
        let state = std::mem::replace(&mut subscription.state, SubscriptionState::Active);
        let SubscriptionState::CatchUp(catch_up) = state else { return };
        let position = history.as_ref().map(|history| history.top.clone());
        let delta = catch_up.live_delta();
        let has_delta = !matches!(delta, Delta::Off);
        let mut publications = history.map_or_else(Vec::new, |history| catch_up.told(history.publications));
        if has_delta {
            publications = cx.patches.chained_by_key(&publications, cx.now.instant);
        }
        let told = position.clone().or(catch_up.frozen).unwrap_or_default();
        let result = SubscribeResult {
            // Spec-deviation: the reference never tells that a map subscription expires.
            expiry,
            kind: KIND_MAP,
            recoverable: position.is_some(),
            epoch: told.epoch,
            offset: told.offset,
            publications,
            state: catch_up.page,
            data: catch_up.data,
            delta: has_delta,
            was_recovering: command.is_recovering,
            recovered: command.is_recovering,
            ..SubscribeResult::default()
        };
        self.reply(command.id, ReplyBody::Subscribe(Box::new(result)));
        let activation = Activation { position, delta, filter: catch_up.filter, ..Activation::default() };
        self.let_flow(cx, &command.channel, activation);
        if let Some(subscription) = self.live().and_then(|live| live.subscriptions.get(&command.channel))
            && subscription.features.presence
        {
            let info = subscription.info.clone();
            self.effect(Effect::RenewPresence { channel: command.channel, info });
        }
    }

    /// Ends a catch-up with an error; the client may begin again.
    fn refuse_map(&mut self, command: MapCommand, error: ClientError) {
        self.drop_subscription(&command.channel);
        self.reply(command.id, ReplyBody::Error(error));
    }

    /// The subscription was ended by the application while an effect was under way, which is undone.
    fn map_vanished(&mut self, command: MapCommand) {
        self.effect(Effect::Unsubscribe { channel: command.channel, presence: None, leave: None });
        self.reply(command.id, ReplyBody::Error(ClientError::INTERNAL));
    }

    fn catch_up_mut(&mut self, channel: &str) -> Option<&mut CatchUp> {
        match &mut self.live_mut()?.subscriptions.get_mut(channel)?.state {
            SubscriptionState::CatchUp(catch_up) => Some(catch_up),
            _ => None,
        }
    }

    /// Forgets catch-ups that nobody continues, but for that of the channel being asked for.
    fn drop_abandoned_catch_ups(&mut self, cx: &Context<'_>, except: &str) {
        let Some(live) = self.live() else { return };
        let abandoned: Vec<ChannelName> = live
            .subscriptions
            .iter()
            .filter(|(channel, subscription)| {
                matches!(&subscription.state, SubscriptionState::CatchUp(c) if c.has_timed_out(cx.now.instant, 1))
                    && ***channel != *except
            })
            .map(|(channel, _)| channel.clone())
            .collect();
        for channel in abandoned {
            self.drop_subscription(&channel);
        }
    }
}

impl CatchUp {
    /// Judges a request that goes on with the catch-up.
    fn check(&self, cx: &Context<'_>, request: &SubscribeRequest<'_>) -> Result<MapRequest, Refusal> {
        if self.has_timed_out(cx.now.instant, 1) {
            return Err(Disconnect::SLOW.into());
        }
        let wanted = MapRequest::new(request)?;
        let has_stream = self.map().is_some_and(|map| map.storage.stream().is_some());
        if matches!(wanted.step, Step::Stream { .. }) && !has_stream {
            return Err(ClientError::BAD_REQUEST.into());
        }
        let epoch = wanted.epoch(request);
        if let Some(frozen) = &self.frozen
            && !epoch.is_empty()
            && !epoch.is_same(&frozen.epoch)
        {
            return Err(ClientError::UNRECOVERABLE_POSITION.into());
        }
        Ok(wanted)
    }
}

/// The effect that puts a connection into the hub and reads what followed its position, one more than it may have
/// missed.
fn live_effect(catch_up: &CatchUp, channel: ChannelName, since: &StreamPosition) -> Effect {
    let map = catch_up.map();
    let stream = map.filter(|map| map.storage.stream().is_some()).map(|map| {
        let limit = Some(map.live_publications_max.saturating_add(1));
        let filter = HistoryFilter { since: Some(since.clone()), limit, reverse: false };
        (filter, map.storage)
    });
    Effect::FollowMap { channel, join_leave: catch_up.deliver_joins, stream }
}
