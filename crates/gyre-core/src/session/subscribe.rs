//! The subscribe command, and what all ways to a subscription share.
//!
//! Spec: centrifuge `client.go` subscribeCmd; centrifugo `internal/client/handler.go` OnSubscribe.

use std::sync::Arc;

use gyre_protocol::{
    ClientError, ClientInfo, Disconnect, Epoch, Expiry, Payload, Publication, PushBody, ReplyBody,
    StreamPosition, SubscribeRequest, SubscribeResult,
};

use super::{
    BusyCommand, Effect, EffectId, Origin, Output, Question, Refusal, Session, StreamPart, StreamRead,
    SubscribeEffect, Subscribed,
    connect::expiry,
    map::MapRequest,
    shared_poll::KIND_SHARED_POLL,
    subscribe_push,
    subscription::{Features, PendingSubscription, Recovery, Subscription, SubscriptionState},
};
use crate::{
    channel::{Asker, ChannelName, ChannelOptions, RecoveryMode, SubscriptionKind},
    delta,
    filter::{Filter, InvalidFilter},
    hub::{Activation, Delta},
    ports::{
        EngineError, HookRefusal, StreamRequest, SubscribeGrant, SubscriptionClaims, SubscriptionGrant,
        TokenError,
    },
    rules::Context,
    stream::is_recovered,
};

/// What a client asked for, kept while its token is verified or the application is asked.
#[derive(Debug)]
pub(super) struct Intent {
    pub(super) channel: ChannelName,
    since: Option<StreamPosition>,
    pub(super) wishes: Wishes,
    filter: Result<Option<Box<Filter>>, InvalidFilter>,
    reject_unrecovered: bool,
    /// The phase asked for, of a map.
    map: Option<MapRequest>,
}

/// Features a client may ask for; granted only where it has the right.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    pub(super) positioned: bool,
    pub(super) recoverable: bool,
    pub(super) join_leave: bool,
    pub(super) delta: bool,
    pub(super) channel_compaction: bool,
}

/// Everything that is known of a subscription before hub and engine are asked.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) options: Arc<ChannelOptions>,
    pub(super) grant: SubscriptionGrant,
    pub(super) expire_at: Option<i64>,
    pub(super) since: Option<StreamPosition>,
    pub(super) wishes: Wishes,
    pub(super) filter: Option<Box<Filter>>,
    pub(super) reject_unrecovered: bool,
}

impl Grant {
    pub(super) fn server_side(options: Arc<ChannelOptions>, since: Option<StreamPosition>) -> Self {
        Self {
            options,
            grant: SubscriptionGrant::default(),
            expire_at: None,
            since,
            wishes: Wishes::default(),
            filter: None,
            reject_unrecovered: false,
        }
    }
}

/// `flag` bit of a subscribe: the client can do with a channel's number for its name.
const FLAG_CHANNEL_COMPACTION: i64 = 1;
/// `flag` bit of a subscribe: answer error 112 instead of an unrecovered subscription.
const FLAG_REJECT_UNRECOVERED: i64 = 2;
/// `type` of map subscriptions.
const KINDS_MAP: std::ops::RangeInclusive<i32> = 1..=3;

impl Session {
    pub(super) fn subscribe(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        request: &SubscribeRequest<'_>,
    ) -> Result<(), Refusal> {
        let is_map = KINDS_MAP.contains(&request.kind);
        if is_map && let Some(outcome) = self.continue_map(cx, id, request) {
            return outcome;
        }
        let options = self.check_subscribe(cx, request)?;
        let map = is_map.then(|| MapRequest::first(request, &options)).transpose()?;
        let intent = Intent {
            channel: ChannelName::new(&request.channel),
            since: request
                .recover
                .then(|| StreamPosition { offset: request.offset, epoch: Epoch::new(&request.epoch) }),
            wishes: Wishes {
                positioned: request.positioned,
                recoverable: request.recoverable,
                join_leave: request.join_leave,
                delta: request.delta == delta::FOSSIL,
                channel_compaction: request.flag & FLAG_CHANNEL_COMPACTION != 0,
            },
            filter: filter_of(request, &options),
            reject_unrecovered: request.flag & FLAG_REJECT_UNRECOVERED != 0,
            map,
        };
        if !request.token.is_empty() {
            let token = request.token.as_ref().into();
            self.wait_for(Effect::Verify { token }, BusyCommand::VerifySubscribe { id, intent });
            return Ok(());
        }
        if let Some(hook) = &options.subscribe_hook
            && !cx.rules.is_user_limited(&intent.channel, &options)
        {
            let data = received(self.encoding, &request.data);
            let question = Question::Subscribe { channel: intent.channel.clone(), data };
            self.ask(hook.clone(), question, BusyCommand::AskSubscribe { id, intent });
            return Ok(());
        }
        if let Some(hook) = &options.stream_hook
            && options.kind == SubscriptionKind::Stream
            && !cx.rules.is_user_limited(&intent.channel, &options)
        {
            let request = StreamRequest {
                channel: intent.channel.clone(),
                data: received(self.encoding, &request.data),
                is_bidirectional: hook.is_bidirectional,
            };
            let question = Question::OpenStream(request);
            self.ask(hook.name.clone(), question, BusyCommand::OpenStream { id, intent });
            return Ok(());
        }
        let Some(live) = self.live() else { return Ok(()) };
        if !cx.rules.may_subscribe(&intent.channel, &options, &live.user) {
            return Err(ClientError::PERMISSION_DENIED.into());
        }
        let grant = Grant {
            since: intent.since,
            wishes: intent.wishes,
            filter: intent.filter.map_err(|InvalidFilter| ClientError::BAD_REQUEST)?,
            reject_unrecovered: intent.reject_unrecovered,
            ..Grant::server_side(options, None)
        };
        self.begin(cx, id, intent.channel, grant, intent.map);
        Ok(())
    }

    /// Makes an authorised subscription of its kind.
    fn begin(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        channel: ChannelName,
        grant: Grant,
        map: Option<MapRequest>,
    ) {
        match (map, &grant.options.shared_poll) {
            (Some(map), _) => self.begin_map(cx, id, channel, grant, map),
            (None, Some(options)) => {
                let options = options.clone();
                self.begin_polled(id, channel, grant, options);
            }
            (None, None) => self.begin_subscription(cx, Origin::Command { id }, channel, grant),
        }
    }

    /// The checks that need no token, in the protocol's order.
    fn check_subscribe(
        &self,
        cx: &Context<'_>,
        request: &SubscribeRequest<'_>,
    ) -> Result<Arc<ChannelOptions>, Refusal> {
        let channel = &*request.channel;
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let configured = cx.rules.namespaces.options(channel).map(|options| options.kind);
        match (configured, request.kind) {
            // Spec-deviation: the reference closes the connection with 3004 on unknown kinds.
            (_, ..0 | 5..) => return Err(ClientError::BAD_REQUEST.into()),
            (Some(SubscriptionKind::SharedPoll), KIND_SHARED_POLL) => {}
            (Some(SubscriptionKind::SharedPoll), _) => return Err(ClientError::BAD_REQUEST.into()),
            (_, KIND_SHARED_POLL) => return Err(ClientError::NOT_AVAILABLE.into()),
            _ => {}
        }
        if !matches!(&*request.delta, "" | delta::FOSSIL) {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        if channel.len() > cx.rules.limits.channel_length_max {
            return Err(ClientError::BAD_REQUEST.into());
        }
        let Some(live) = self.live() else { return Err(Disconnect::SERVER_ERROR.into()) };
        if live.subscriptions.contains(channel) || live.is_subscribing(channel) {
            return Err(ClientError::ALREADY_SUBSCRIBED.into());
        }
        if live.subscriptions.len() + live.wanted_channels().count() >= cx.rules.limits.channel_limit {
            return Err(ClientError::LIMIT_EXCEEDED.into());
        }
        let options = cx.rules.client_channel(channel)?.clone();
        if kind_of(options.kind) != request.kind {
            return Err(ClientError::PERMISSION_DENIED.into());
        }
        if request.token.is_empty() && cx.rules.namespaces.parts(channel).is_private {
            return Err(ClientError::PERMISSION_DENIED.into());
        }
        Ok(options)
    }

    pub(super) fn subscribe_verified(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        intent: Intent,
        claims: Result<Box<SubscriptionClaims>, TokenError>,
    ) -> Result<(), Refusal> {
        let claims = claims.map_err(|error| match error {
            TokenError::Expired => ClientError::TOKEN_EXPIRED,
            _ => ClientError::PERMISSION_DENIED,
        })?;
        let Some(live) = self.live() else { return Ok(()) };
        if *claims.channel != *intent.channel || !self.is_bearer(&claims, &live.user) {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        self.begin_granted(cx, id, intent, claims.grant, claims.expire_at)
    }

    /// The application has judged a subscribe. It decides about recovery and joins as well: what the client wished for
    /// does not count.
    pub(super) fn subscribe_answered(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        mut intent: Intent,
        answer: Result<Box<SubscribeGrant>, HookRefusal>,
    ) -> Result<(), Refusal> {
        let SubscribeGrant { expire_at, grant } = *answer?;
        let Wishes { delta, channel_compaction, .. } = intent.wishes;
        intent.wishes = Wishes { delta, channel_compaction, ..Wishes::default() };
        self.begin_granted(cx, id, intent, grant, Some(expire_at))
    }

    /// Makes a subscription that a token or the application grants.
    pub(super) fn begin_granted(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        intent: Intent,
        grant: SubscriptionGrant,
        expire_at: Option<i64>,
    ) -> Result<(), Refusal> {
        let expire_at = expire_at.filter(|&at| at > 0);
        if is_past(expire_at, cx) {
            return Err(ClientError::EXPIRED.into());
        }
        let options = cx.rules.namespaces.options(&intent.channel).ok_or(ClientError::UNKNOWN_CHANNEL)?;
        let grant = Grant {
            options: options.clone(),
            grant,
            expire_at,
            since: intent.since,
            wishes: intent.wishes,
            filter: intent.filter.map_err(|InvalidFilter| ClientError::BAD_REQUEST)?,
            reject_unrecovered: intent.reject_unrecovered,
        };
        self.begin(cx, id, intent.channel, grant, intent.map);
        Ok(())
    }

    /// True if the token was made for this session's user and, if it names one, for this client.
    pub(super) fn is_bearer(&self, claims: &SubscriptionClaims, user: &str) -> bool {
        *claims.user == *user && (claims.client.is_empty() || self.client.is(&claims.client))
    }

    /// Enters the subscription as pending and asks hub and engine.
    pub(super) fn begin_subscription(
        &mut self,
        cx: &Context<'_>,
        origin: Origin,
        channel: ChannelName,
        granted: Grant,
    ) {
        let Some(live) = self.live() else { return };
        let Grant { options, grant, expire_at, since, wishes, filter, reject_unrecovered } = granted;
        let asker = Asker { user: &live.user, is_subscribed: false };
        let features = negotiate(cx, &options, &grant, wishes, asker);
        let info = match grant.info.is_empty() {
            true => live.info.clone(),
            false => Arc::new(ClientInfo { chan_info: grant.info, ..(*live.info).clone() }),
        };
        let is_cache = options.recovery_mode == RecoveryMode::Cache;
        let is_forced =
            (options.auto_cache_recover || (grant.cache_recover && is_cache)) && features.recoverable;
        let is_recovering = since.is_some() || is_forced;
        let recovery = match since {
            _ if !is_recovering || !features.recoverable => Recovery::None,
            since if is_cache => Recovery::Cache(since.unwrap_or_default()),
            since => Recovery::Stream(since.unwrap_or_default()),
        };
        let presence = features.presence.then(|| info.clone());
        let meta_ttl = cx.rules.namespaces.history_meta_ttl_of(&channel);
        let part = match &recovery {
            Recovery::None => StreamPart::Top,
            // The newest one that passes the filter may lie further back.
            Recovery::Cache(_) if filter.is_some() => {
                StreamPart::Latest(cx.rules.limits.recovery_publications_max)
            }
            Recovery::Cache(_) => StreamPart::Latest(1),
            Recovery::Stream(since) => {
                StreamPart::Since(since.clone(), cx.rules.limits.recovery_publications_max)
            }
        };
        let empty_hook = match &part {
            StreamPart::Latest(_) => options.cache_empty_hook.clone(),
            _ => None,
        };
        let stream = features.positioned.then_some(StreamRead { part, meta_ttl, empty_hook });
        let request = SubscribeEffect { join_leave: features.push_join_leave, stream, presence };
        let effect = self.effect(Effect::Subscribe { channel: channel.clone(), request });
        let is_client_side = matches!(origin, Origin::Command { .. });
        let result = SubscribeResult {
            expiry: if is_client_side { told_expiry(expire_at, &channel, cx) } else { Default::default() },
            recoverable: features.recoverable,
            positioned: features.positioned,
            data: grant.data,
            was_recovering: is_recovering,
            delta: features.delta,
            ..SubscribeResult::default()
        };
        let top = StreamPosition::default();
        let activation = Activation {
            delta: if features.delta { Delta::Full } else { Delta::Off },
            filter,
            is_compact: features.channel_compaction,
            position: None,
        };
        let pending =
            PendingSubscription { effect, origin, result, recovery, top, activation, reject_unrecovered };
        let subscription = Subscription {
            state: SubscriptionState::Pending(Box::new(pending)),
            info,
            expire_at,
            features: Features {
                is_server_side: !is_client_side,
                presence: features.presence,
                join_leave: features.join_leave,
                positioned: features.positioned,
            },
            map_keys: None,
            refreshing: None,
            stream: None,
        };
        let Some(live) = self.live_mut() else { return };
        live.subscriptions.insert(channel, subscription);
        if is_client_side {
            live.wait(effect, BusyCommand::Subscribe);
        }
    }

    /// Hub and engine have answered.
    pub(super) fn subscribed(
        &mut self,
        cx: &Context<'_>,
        effect: EffectId,
        channel: &ChannelName,
        outcome: Result<Subscribed, EngineError>,
    ) -> Result<(), Disconnect> {
        let Some(live) = self.live_mut() else { return Ok(()) };
        // Also where the application has ended the subscription meanwhile.
        live.take_busy(effect);
        let Some(subscription) = live.subscriptions.get_mut(channel) else { return Ok(()) };
        let SubscriptionState::Pending(pending) = &mut subscription.state else { return Ok(()) };
        if pending.effect != effect {
            return Ok(());
        }
        let (origin, reject_unrecovered) = (pending.origin, pending.reject_unrecovered);
        let Ok(subscribed) = outcome else { return Err(Disconnect::SERVER_ERROR) };
        fill_result(cx, pending, subscribed);
        let result = &pending.result;
        let is_rejected = reject_unrecovered && result.was_recovering && !result.recovered;
        if let Origin::Connect = origin {
            let result = result.clone();
            self.connect_subscribed(cx, channel, result);
            return Ok(());
        }
        match origin {
            Origin::Command { id } if is_rejected => {
                self.drop_subscription(channel);
                self.reply(id, ReplyBody::Error(ClientError::UNRECOVERABLE_POSITION));
            }
            Origin::Command { id } => {
                let result = result.clone();
                self.reply(id, ReplyBody::Subscribe(Box::new(result)));
                self.activate(cx, channel);
            }
            Origin::Server | Origin::Connect => {
                let push = subscribe_push(result);
                self.push(Some(channel), PushBody::Subscribe(push));
                self.activate(cx, channel);
            }
        }
        Ok(())
    }

    /// The client has been told: publications may flow from here on, and the join is published.
    pub(super) fn activate(&mut self, cx: &Context<'_>, channel: &ChannelName) {
        let Some(live) = self.live_mut() else { return };
        let Some(subscription) = live.subscriptions.get_mut(channel) else { return };
        let state = std::mem::replace(&mut subscription.state, SubscriptionState::Active);
        let SubscriptionState::Pending(pending) = state else { return };
        let position = pending.result.positioned.then_some(pending.top);
        self.let_flow(cx, channel, Activation { position, ..pending.activation });
    }

    /// Opens the gate of an active subscription, publishes its join, and enters it where it is to be seen.
    pub(super) fn let_flow(&mut self, cx: &Context<'_>, channel: &ChannelName, activation: Activation) {
        self.outputs.push_back(Output::Activate { channel: channel.clone(), activation });
        self.enter_maps(cx, channel);
        let jitter = self.jitter;
        let Some(live) = self.live_mut() else { return };
        let Some(subscription) = live.subscriptions.get_mut(channel) else { return };
        let stream = subscription.stream;
        let join = subscription.features.join_leave.then(|| subscription.info.clone());
        if subscription.needs_tick() {
            live.timers.start_tick(&cx.now, &cx.rules.limits, jitter);
        }
        if let Some(stream) = stream {
            self.effect(Effect::FollowStream { stream, channel: channel.clone() });
        }
        if let Some(info) = join {
            self.effect(Effect::Join { channel: channel.clone(), info });
        }
    }

    /// Forgets a subscription and gives back what it holds.
    pub(super) fn drop_subscription(&mut self, channel: &str) -> bool {
        let Some((channel, subscription)) =
            self.live_mut().and_then(|live| live.subscriptions.remove(channel))
        else {
            return false;
        };
        self.give_back(channel, subscription);
        true
    }
}

/// The filter a client asks for. Patches build on one another, so that a subscription with delta cannot leave
/// publications out.
fn filter_of(
    request: &SubscribeRequest<'_>,
    options: &ChannelOptions,
) -> Result<Option<Box<Filter>>, InvalidFilter> {
    let Some(node) = &request.tf else { return Ok(None) };
    let has_delta = options.allow_delta_fossil && request.delta == delta::FOSSIL;
    // Spec-deviation: the reference accepts a filter with delta and ignores it.
    if has_delta || !options.allow_tags_filter {
        return Err(InvalidFilter);
    }
    Filter::compile(node).map(|filter| Some(Box::new(filter)))
}

/// Completes the result with what was read of the stream.
fn fill_result(cx: &Context<'_>, pending: &mut PendingSubscription, subscribed: Subscribed) {
    let PendingSubscription { result, activation, .. } = pending;
    if activation.is_compact {
        result.id = subscribed.channel_id.into();
    }
    let Some(mut history) = subscribed.history else { return };
    pending.top = history.top.clone();
    result.epoch = history.top.epoch.clone();
    result.offset = history.top.offset;
    let filter = activation.filter.as_deref();
    let passes =
        |publication: &Arc<Publication>| filter.is_none_or(|filter| filter.matches(&publication.tags));
    match &pending.recovery {
        Recovery::Stream(since) if subscribed.is_continuous && is_recovered(since.offset, &history) => {
            result.recovered = true;
            // The client's own offset: it advances by the publications that follow.
            result.offset = since.offset;
            history.publications.retain(passes);
            result.publications = history.publications;
        }
        Recovery::Cache(held) => {
            let is_held = held.offset > 0
                && held.offset == history.top.offset
                && held.epoch.is_same(&history.top.epoch);
            let is_complete = history.publications.first().is_some_and(|p| p.offset == history.top.offset);
            let latest = history.publications.into_iter().find(passes).filter(|_| is_complete);
            if is_held || latest.is_some() {
                result.recovered = true;
                result.offset = held.offset;
                result.publications = latest.into_iter().filter(|_| !is_held).collect();
            }
        }
        Recovery::None | Recovery::Stream(_) => {}
    }
    if let Some(last) = result.publications.last().filter(|_| result.delta) {
        activation.delta = Delta::From(last.clone());
        result.publications = cx.patches.chained(&result.publications, cx.now.instant);
    }
}

/// What a subscription gets out of namespace, grant and wishes.
pub(super) struct Negotiated {
    pub(super) presence: bool,
    pub(super) join_leave: bool,
    pub(super) push_join_leave: bool,
    positioned: bool,
    recoverable: bool,
    pub(super) delta: bool,
    channel_compaction: bool,
}

/// Forced features come from the namespace or the grant; wishes are granted where the client has the right, else
/// silently ignored.
pub(super) fn negotiate(
    cx: &Context<'_>,
    options: &ChannelOptions,
    grant: &SubscriptionGrant,
    wishes: Wishes,
    asker: Asker<'_>,
) -> Negotiated {
    let overrides = &grant.overrides;
    let join_leave = overrides.join_leave.unwrap_or(options.join_leave);
    let may_read = options.history.is_some() && cx.rules.may_call(options.history_call, asker);
    let may_see = cx.rules.may_call(options.presence_call, asker);
    let recoverable = overrides.force_recovery.unwrap_or(options.force_recovery)
        || (wishes.recoverable && (options.allow_recovery || may_read));
    Negotiated {
        presence: overrides.presence.unwrap_or(options.presence),
        join_leave,
        push_join_leave: join_leave
            && (overrides.force_push_join_leave.unwrap_or(options.force_push_join_leave)
                || (wishes.join_leave && may_see)),
        positioned: recoverable
            || overrides.force_positioning.unwrap_or(options.force_positioning)
            || (wishes.positioned && (options.allow_positioning || may_read)),
        recoverable,
        delta: wishes.delta && options.allow_delta_fossil,
        channel_compaction: wishes.channel_compaction && options.allow_channel_compaction,
    }
}

fn kind_of(kind: SubscriptionKind) -> i32 {
    match kind {
        SubscriptionKind::Stream => 0,
        SubscriptionKind::Map => 1,
        SubscriptionKind::MapClients => 2,
        SubscriptionKind::MapUsers => 3,
        SubscriptionKind::SharedPoll => KIND_SHARED_POLL,
    }
}

/// The expiry of a subscription as far as its client has to do something about it.
pub(super) fn told_expiry(expire_at: Option<i64>, channel: &str, cx: &Context<'_>) -> Expiry {
    let options = cx.rules.namespaces.options(channel);
    match options.is_some_and(|options| options.sub_refresh_hook.is_some()) {
        true => Expiry::default(),
        false => expiry(expire_at, &cx.now),
    }
}

/// True if an expiry has passed.
pub(super) fn is_past(expire_at: Option<i64>, cx: &Context<'_>) -> bool {
    expire_at.is_some_and(|at| at <= (cx.now.unix_ms / 1000) as i64)
}

/// Data as received, remembered as JSON where the encoding guarantees it.
pub(super) fn received(encoding: gyre_protocol::codec::Encoding, data: &[u8]) -> Payload {
    let bytes = bytes::Bytes::copy_from_slice(data);
    match encoding {
        gyre_protocol::codec::Encoding::Json if !data.is_empty() => Payload::json(bytes),
        _ => Payload::new(bytes),
    }
}
