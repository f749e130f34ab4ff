//! The connect command: who the client is, and the server-side subscriptions it starts with.
//!
//! Spec: centrifuge `client.go` connectCmd; centrifugo `internal/client/handler.go` OnClientConnecting.

use std::{sync::Arc, time::Instant};

use gyre_protocol::{
    ClientError, ClientInfo, ConnectRequest, ConnectResult, Disconnect, Epoch, Expiry, Payload, PushBody,
    ReplyBody, StreamPosition, SubscribeResult,
};

use super::{
    Attached, Busy, BusyCommand, Live, Origin, Question, Refusal, State, Subscriptions, Timers,
    busy::NO_EFFECT,
    hooks::kept_headers,
    subscribe::{Grant, Wishes, received},
};
use crate::{
    channel::{ChannelName, ChannelOptions},
    hub::Direction,
    limits::EXPIRY_MAX,
    ports::{
        ConnectGrant, ConnectQuestion, ConnectionClaims, HookRefusal, ServerSubscription, SubscriptionGrant,
        TokenError,
    },
    rules::{Context, Now},
    session::{Effect, EffectId, Outcome, Pings, Session},
};

/// A connect whose credentials are being looked at.
#[derive(Debug)]
pub(super) struct Connecting {
    id: u32,
    effect: EffectId,
    /// Server-side subscriptions the client named: wanted ones, or positions to recover from.
    requested: Vec<Requested>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The token is being verified.
    Authenticating,
    /// The application is being asked; the user a trusted header names counts if it does not know the client.
    Asking { header_user: Option<Box<str>> },
    /// The connection is being registered under its user.
    Attaching(Box<Identified>),
}

/// A connect whose server-side subscriptions are being made.
#[derive(Debug)]
pub(super) struct Subscribing {
    id: u32,
    /// Subscriptions not answered yet.
    remaining: usize,
    result: Box<ConnectResult>,
}

#[derive(Debug)]
struct Requested {
    channel: Box<str>,
    since: Option<StreamPosition>,
    delta: bool,
}

/// What the server-side subscriptions a client named are good for.
enum Requests {
    /// Those it may have are made.
    Honoured(Vec<Requested>),
    /// They tell from where to recover what is granted: the application, which was told of them, decides.
    Positions(Vec<Requested>),
}

#[derive(Debug)]
struct Identified {
    user: Arc<str>,
    info: Payload,
    meta: Payload,
    /// Handed to the client.
    data: Payload,
    expire_at: Option<i64>,
    token_channels: Box<[Box<str>]>,
    wanted: Vec<Wanted>,
}

/// A server-side subscription to be made.
#[derive(Debug)]
struct Wanted {
    channel: ChannelName,
    options: Arc<ChannelOptions>,
    grant: SubscriptionGrant,
    since: Option<StreamPosition>,
    /// Delta compression is wished for.
    delta: bool,
}

impl Session {
    pub(super) fn connect(
        &mut self,
        cx: &Context<'_>,
        id: u32,
        request: ConnectRequest<'_>,
    ) -> Result<(), Disconnect> {
        let State::Fresh { stale_at, header_user } = &mut self.state else {
            return Err(Disconnect::BAD_REQUEST);
        };
        let (stale_at, header_user) = (*stale_at, header_user.take());
        let requested = request.subs.iter().map(|(channel, subscribe)| Requested {
            channel: channel.as_ref().into(),
            since: subscribe
                .recover
                .then(|| StreamPosition { offset: subscribe.offset, epoch: Epoch::new(&subscribe.epoch) }),
            delta: subscribe.delta == crate::delta::FOSSIL,
        });
        let requested: Vec<Requested> = requested.collect();
        let headers = kept_headers(cx, request.headers.iter().map(|(name, value)| (&**name, &**value)));
        if !headers.is_empty() {
            self.effect(Effect::KeepHeaders { headers });
        }
        let (effect, step) = match &cx.rules.hooks.connect {
            _ if !request.token.is_empty() => {
                (Effect::Authenticate { token: request.token.into() }, Step::Authenticating)
            }
            Some(hook) => {
                let question = Question::Connect(ConnectQuestion {
                    data: received(self.encoding, &request.data),
                    name: request.name.into(),
                    version: request.version.into(),
                    channels: requested.iter().map(|requested| requested.channel.clone()).collect(),
                });
                (self.question(hook.clone(), question), Step::Asking { header_user })
            }
            None => return self.connect_unproven(cx, stale_at, id, header_user, requested),
        };
        let effect = self.effect(effect);
        let pending = Connecting { id, effect, requested, step };
        self.state = State::Connecting { stale_at, pending: Box::new(pending) };
        Ok(())
    }

    /// Neither token nor application say who the client is.
    fn connect_unproven(
        &mut self,
        cx: &Context<'_>,
        stale_at: Instant,
        id: u32,
        header_user: Option<Box<str>>,
        requested: Vec<Requested>,
    ) -> Result<(), Disconnect> {
        let rules = &cx.rules.connect;
        let user = match header_user {
            _ if rules.allow_anonymous_without_token || rules.insecure => "".into(),
            Some(user) => user,
            None => return Err(Disconnect::BAD_REQUEST),
        };
        let grant = ConnectGrant {
            claims: ConnectionClaims { user, ..ConnectionClaims::default() },
            ..ConnectGrant::default()
        };
        self.identified(cx, stale_at, id, grant, Requests::Honoured(requested))
    }

    pub(super) fn connect_outcome(
        &mut self,
        cx: &Context<'_>,
        effect: EffectId,
        outcome: Outcome,
    ) -> Result<(), Disconnect> {
        let State::Connecting { stale_at, pending } = &mut self.state else { return Ok(()) };
        if pending.effect != effect {
            return Ok(());
        }
        let (stale_at, id) = (*stale_at, pending.id);
        let requested = std::mem::take(&mut pending.requested);
        match (std::mem::replace(&mut pending.step, Step::Authenticating), outcome) {
            (Step::Authenticating, Outcome::Authenticated(Ok(claims))) => {
                let grant = ConnectGrant { claims: *claims, ..ConnectGrant::default() };
                self.identified(cx, stale_at, id, grant, Requests::Honoured(requested))
            }
            (Step::Authenticating, Outcome::Authenticated(Err(error))) => match error {
                TokenError::Expired => self.refuse_connect(cx, stale_at, id, ClientError::TOKEN_EXPIRED),
                TokenError::Undecodable { .. } => {
                    self.refuse_connect(cx, stale_at, id, ClientError::INTERNAL)
                }
                TokenError::AnonymousNotAllowed => Err(Disconnect::PERMISSION_DENIED),
                TokenError::Invalid { .. } | TokenError::Unverifiable { .. } => {
                    Err(Disconnect::INVALID_TOKEN)
                }
            },
            (Step::Asking { header_user }, Outcome::ConnectAnswered(answer)) => match answer {
                Ok(Some(grant)) => self.identified(cx, stale_at, id, *grant, Requests::Positions(requested)),
                Ok(None) => self.connect_unproven(cx, stale_at, id, header_user, requested),
                Err(HookRefusal::Error(error)) => self.refuse_connect(cx, stale_at, id, error),
                Err(HookRefusal::Disconnect(disconnect)) => Err(disconnect),
            },
            (Step::Attaching(_), Outcome::Attached(Attached::LimitReached)) => {
                Err(Disconnect::CONNECTION_LIMIT)
            }
            (Step::Attaching(identified), Outcome::Attached(Attached::Yes)) => {
                self.attached(cx, stale_at, id, *identified)
            }
            _ => Err(Disconnect::SERVER_ERROR),
        }
    }

    /// The user is known: the server-side subscriptions are put together, and the connection is registered.
    fn identified(
        &mut self,
        cx: &Context<'_>,
        stale_at: Instant,
        id: u32,
        grant: ConnectGrant,
        requests: Requests,
    ) -> Result<(), Disconnect> {
        let ConnectGrant { claims, data } = grant;
        let expire_at = if cx.rules.connect.insecure { None } else { claims.expire_at.filter(|&at| at > 0) };
        let token_channels = claims.subs.iter().map(|s| s.channel.clone()).collect();
        let wanted = match wanted_subscriptions(cx, &claims.user, claims.subs, requests) {
            Ok(wanted) => wanted,
            Err(Refusal::Error(error)) => return self.refuse_connect(cx, stale_at, id, error),
            Err(Refusal::Disconnect(disconnect)) => return Err(disconnect),
        };
        if wanted.len() > cx.rules.limits.channel_limit {
            return Err(Disconnect::CHANNEL_LIMIT);
        }
        if expire_at.is_some_and(|at| (at as f64) < cx.now.unix_seconds().floor()) {
            return self.refuse_connect(cx, stale_at, id, ClientError::EXPIRED);
        }
        let user: Arc<str> = claims.user.into();
        let effect = self.effect(Effect::Attach { user: user.clone() });
        let (info, meta) = (claims.info, claims.meta);
        let identified = Identified { user, info, meta, data, expire_at, token_channels, wanted };
        let step = Step::Attaching(Box::new(identified));
        let pending = Connecting { id, effect, requested: Vec::new(), step };
        self.state = State::Connecting { stale_at, pending: Box::new(pending) };
        Ok(())
    }

    fn attached(
        &mut self,
        cx: &Context<'_>,
        stale_at: Instant,
        id: u32,
        identified: Identified,
    ) -> Result<(), Disconnect> {
        let Identified { user, info, meta, data, expire_at, token_channels, wanted } = identified;
        let client: Box<str> = self.client.to_string().into();
        let pings = self.pings == Pings::Protocol && !cx.rules.limits.ping_interval.is_zero();
        let limits = &cx.rules.limits;
        let address = self.address.as_deref().cloned().unwrap_or_default();
        let result = ConnectResult {
            client: client.clone(),
            version: cx.rules.version.clone(),
            // Clients are told only of what they have to do something about.
            expiry: if cx.rules.hooks.refresh.is_some() {
                Expiry::default()
            } else {
                expiry(expire_at, &cx.now)
            },
            data,
            ping: if pings { limits.ping_interval.as_secs() as u32 } else { 0 },
            pong: pings && self.direction == Direction::Bidirectional,
            session: address.session,
            node: address.node,
            time: if cx.rules.connect.include_server_time { cx.now.unix_ms as i64 } else { 0 },
            ..ConnectResult::default()
        };
        let subscribing = Subscribing { id, remaining: wanted.len(), result: Box::new(result) };
        let busy = Busy { effect: NO_EFFECT, command: BusyCommand::Connect(subscribing), next: None };
        let info =
            ClientInfo { user: (*user).into(), client, conn_info: info, chan_info: Payload::default() };
        self.state = State::Live(Box::new(Live {
            user,
            info: Arc::new(info),
            subscriptions: Subscriptions::default(),
            token_channels,
            busy: Some(Box::new(busy)),
            timers: Timers::connecting(stale_at, expire_at, cx),
            meta: (!meta.is_empty()).then(|| Box::new(meta)),
            refreshing: None,
        }));
        for Wanted { channel, options, grant, since, delta } in wanted {
            let wishes = Wishes { delta, ..Wishes::default() };
            let grant = Grant { grant, wishes, ..Grant::server_side(options, since) };
            self.begin_subscription(cx, Origin::Connect, channel, grant);
        }
        self.finish_connect(cx);
        Ok(())
    }

    /// Takes the result of one server-side subscription of the connect.
    pub(super) fn connect_subscribed(
        &mut self,
        cx: &Context<'_>,
        channel: &ChannelName,
        result: SubscribeResult,
    ) {
        if let Some(Busy { command: BusyCommand::Connect(connect), .. }) =
            self.live_mut().and_then(|live| live.busy.as_deref_mut())
        {
            connect.result.subs.push((channel.as_shared().clone(), result));
            connect.remaining -= 1;
        }
        self.finish_connect(cx);
    }

    /// Answers the connect once nothing is waited for; only then may publications follow.
    fn finish_connect(&mut self, cx: &Context<'_>) {
        let (pings, jitter) = (self.pings, self.jitter);
        let Some(live) = self.live_mut() else { return };
        let is_complete =
            |busy: &Busy| matches!(&busy.command, BusyCommand::Connect(connect) if connect.remaining == 0);
        let Some(BusyCommand::Connect(Subscribing { id, result, .. })) = live.take_waiting(is_complete)
        else {
            return;
        };
        live.timers.connected(&cx.now, &cx.rules.limits, pings, jitter);
        let channels: Vec<ChannelName> = live.subscriptions.channels().cloned().collect();
        match self.direction {
            Direction::Bidirectional => self.reply(id, ReplyBody::Connect(result)),
            Direction::Unidirectional => self.push(None, PushBody::Connect(result)),
        }
        for channel in channels {
            self.activate(cx, &channel);
        }
        if cx.rules.connect.personal_channel.as_ref().is_some_and(|personal| personal.is_single)
            && let Some(user) = self.user().filter(|user| !user.is_empty()).cloned()
        {
            self.effect(Effect::EndOthers { user });
        }
    }

    /// Answers the connect with an error; the session accepts nothing after that.
    ///
    /// # Errors
    /// The disconnect that stands for the error, on a unidirectional connection.
    fn refuse_connect(
        &mut self,
        cx: &Context<'_>,
        stale_at: Instant,
        id: u32,
        error: ClientError,
    ) -> Result<(), Disconnect> {
        if self.direction == Direction::Unidirectional {
            return Err(cx.rules.connect.unidirectional_disconnect(&error));
        }
        self.reply(id, ReplyBody::Error(error));
        self.outputs.push_back(super::Output::Finish);
        self.state = State::Unusable { stale_at };
        Ok(())
    }
}

/// The granted subscriptions, the personal channel, and those the client asked for and may have.
fn wanted_subscriptions(
    cx: &Context<'_>,
    user: &str,
    granted: Vec<ServerSubscription>,
    requests: Requests,
) -> Result<Vec<Wanted>, Refusal> {
    let (requested, are_honoured) = match requests {
        Requests::Honoured(requested) => (requested, true),
        Requests::Positions(requested) => (requested, false),
    };
    let namespaces = &cx.rules.namespaces;
    let mut wanted: Vec<Wanted> = Vec::with_capacity(granted.len());
    for ServerSubscription { channel, grant } in granted {
        let options = namespaces.options(&channel).ok_or(ClientError::UNKNOWN_CHANNEL)?.clone();
        let channel = ChannelName::new(&channel);
        wanted.push(Wanted { channel, options, grant, since: None, delta: false });
    }
    if let Some(personal) = cx.rules.connect.personal_channel.as_ref().filter(|_| !user.is_empty()) {
        let channel = namespaces.personal_channel(&personal.namespace, user);
        if !wanted.iter().any(|w| *w.channel == *channel) {
            let options = namespaces.options(&channel).ok_or(Disconnect::SERVER_ERROR)?.clone();
            let channel = ChannelName::new(&channel);
            let grant = SubscriptionGrant::default();
            wanted.push(Wanted { channel, options, grant, since: None, delta: false });
        }
    }
    for Requested { channel, since, delta } in requested {
        if let Some(known) = wanted.iter_mut().find(|w| *w.channel == *channel) {
            (known.since, known.delta) = (since, delta);
            continue;
        }
        if !are_honoured {
            continue;
        }
        let options = namespaces.options(&channel).ok_or(Disconnect::BAD_REQUEST)?;
        let is_valid =
            channel.len() <= cx.rules.limits.channel_length_max && cx.rules.client_channel(&channel).is_ok();
        if is_valid && options.subscribe_hook.is_none() && cx.rules.may_subscribe(&channel, options, user) {
            let (channel, options) = (ChannelName::new(&channel), options.clone());
            wanted.push(Wanted { channel, options, grant: SubscriptionGrant::default(), since, delta });
        }
    }
    Ok(wanted)
}

/// `expires` and `ttl` for an expiry at that Unix time.
pub(super) fn expiry(expire_at: Option<i64>, now: &Now) -> Expiry {
    let Some(at) = expire_at else { return Expiry::default() };
    let left = (at - (now.unix_ms / 1000) as i64).clamp(0, EXPIRY_MAX.as_secs() as i64);
    Expiry { expires: true, ttl: left as u32 }
}
