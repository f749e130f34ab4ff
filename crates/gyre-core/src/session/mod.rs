//! One client's protocol state: a plain struct driven by `handle_*` and drained by [`Session::poll_output`].
//!
//! Invariants: only `State::Live` knows a user and subscriptions; as many commands wait for the effects they need as
//! [`crate::limits::Limits::concurrency`] says, and while it can be no more ([`Session::is_busy`]) the caller hands in no
//! further command; the first reason to close wins. A session never reads a clock, waits, or touches a socket or the hub.
//!
//! Each command is a file of its own; this one holds state, dispatch and close.

mod busy;
mod connect;
mod effect;
mod history;
mod hooks;
mod identity;
mod map;
mod map_publish;
mod presence;
mod publish;
mod refresh;
mod rpc;
mod server;
mod shared_poll;
mod stream;
mod sub_refresh;
mod subscribe;
mod subscription;
mod timers;
mod unsubscribe;
mod view;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use gyre_protocol::{
    ClientError, ClientInfo, Command, Disconnect, Payload, Push, PushBody, Reply, ReplyBody, Request,
    codec::Encoding,
};

pub use effect::*;
pub use identity::ClientId;
pub use view::ChannelView;

use crate::{channel::ChannelName, hub::Direction, limits::Limits, rules::Context};
use busy::{Busy, BusyCommand};
use subscription::{Origin, Subscriptions};
use timers::Timers;

/// The protocol state of one connection.
#[derive(Debug)]
pub struct Session {
    client: ClientId,
    encoding: Encoding,
    pings: Pings,
    direction: Direction,
    jitter: u16,
    /// The command that is worked on.
    working_on: CommandKind,
    next_effect: u32,
    address: Option<Box<SessionAddress>>,
    state: State,
    outputs: VecDeque<Output>,
}

/// How the liveness of the peer is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pings {
    /// Empty replies, answered by empty commands.
    Protocol,
    /// Left to the transport (`cf_ws_frame_ping_pong`).
    Transport,
}

/// What a session is made from.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Identifies the connection; unique.
    pub client: ClientId,
    /// Encoding of the connection: tells whether received data is JSON.
    pub encoding: Encoding,
    /// How the peer's liveness is checked.
    pub pings: Pings,
    /// Spreads the first ping and tick of sessions that connect together; random.
    pub jitter: u16,
    /// User named by a trusted header (`client.user_id_http_header`).
    pub header_user: Option<Box<str>>,
    /// Unidirectional sessions take one connect and nothing else; what would be an error reply ends them.
    pub direction: Direction,
    /// Told to the client by the connect.
    pub address: Option<Box<SessionAddress>>,
}

/// Where commands for a session are sent that do not come by its own connection. Whoever knows it may send them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionAddress {
    /// A secret of the session.
    pub session: Box<str>,
    /// The node it lives on; empty where no command can come.
    pub node: Box<str>,
}

#[derive(Debug)]
enum State {
    /// Waiting for the connect command.
    Fresh { stale_at: Instant, header_user: Option<Box<str>> },
    /// The credentials are being looked at.
    Connecting { stale_at: Instant, pending: Box<connect::Connecting> },
    /// Connected, or subscribing to the server-side subscriptions of the connect.
    Live(Box<Live>),
    /// The connect was answered with an error; nothing else is accepted.
    Unusable { stale_at: Instant },
    /// Over.
    Closed,
}

#[derive(Debug)]
struct Live {
    user: Arc<str>,
    /// The connection as others see it; subscriptions without information of their own share it.
    info: Arc<ClientInfo>,
    subscriptions: Subscriptions,
    /// Channels the connection token named: a refresh must name the same.
    token_channels: Box<[Box<str>]>,
    /// The commands that wait for their effects, the last one first.
    busy: Option<Box<Busy>>,
    timers: Timers,
    /// What the application attached to the connection, for its hooks; few have any.
    meta: Option<Box<Payload>>,
    /// The question whether the connection may go on, while it is not answered.
    refreshing: Option<EffectId>,
}

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Answered with an error; the connection stays.
    Error(ClientError),
    /// The connection ends.
    Disconnect(Disconnect),
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self::Error(error)
    }
}

impl From<Disconnect> for Refusal {
    fn from(disconnect: Disconnect) -> Self {
        Self::Disconnect(disconnect)
    }
}

impl Session {
    /// A session that has received nothing yet; it must connect within `client.stale_close_delay`.
    pub fn new(cx: &Context<'_>, options: SessionOptions) -> Self {
        let stale_at = cx.now.instant + cx.rules.limits.stale_close_delay;
        Self {
            client: options.client,
            encoding: options.encoding,
            pings: options.pings,
            direction: options.direction,
            jitter: options.jitter,
            working_on: CommandKind::Connect,
            next_effect: 0,
            address: options.address,
            state: State::Fresh { stale_at, header_user: options.header_user },
            outputs: VecDeque::new(),
        }
    }

    /// Identifies the connection.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Where commands for this session are sent that do not come by its own connection, if anywhere.
    pub fn address(&self) -> Option<&SessionAddress> {
        self.address.as_deref()
    }

    /// User id, once connected; empty for anonymous.
    pub fn user(&self) -> Option<&Arc<str>> {
        match &self.state {
            State::Live(live) => Some(&live.user),
            _ => None,
        }
    }

    /// True once the connect was answered with success.
    pub fn is_connected(&self) -> bool {
        matches!(&self.state, State::Live(live) if !live.is_connecting())
    }

    /// True while commands wait for effects and no other may run beside them: the caller must hand in none until
    /// [`Session::handle_outcome`] was called.
    pub fn is_busy(&self, limits: &Limits) -> bool {
        match &self.state {
            State::Connecting { .. } => true,
            State::Live(live) => live.is_busy(limits),
            _ => false,
        }
    }

    /// How many channels the session is subscribed to or subscribing to.
    pub fn subscription_count(&self) -> usize {
        self.live().map_or(0, |live| live.subscriptions.len())
    }

    /// True if the session is subscribed to the channel.
    pub fn is_subscribed(&self, channel: &str) -> bool {
        self.live().is_some_and(|live| live.subscriptions.is_active(channel))
    }

    /// The next thing to do; call until `None` after every `handle_*`.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            // Room for four outputs, the least there is, is 700 bytes: idle sessions must not keep it.
            self.outputs = VecDeque::new();
        }
        output
    }

    /// Handles one command.
    ///
    /// # Errors
    /// The disconnect to end the connection with. Errors that leave the connection alive are replies.
    pub fn handle_command(&mut self, cx: &Context<'_>, command: Command<'_>) -> Result<(), Disconnect> {
        match &self.state {
            State::Closed => Ok(()),
            State::Unusable { .. } => Err(Disconnect::BAD_REQUEST),
            State::Fresh { .. } => match command {
                Command { id: id @ 1.., request: Some(Request::Connect(request)) } => {
                    self.connect(cx, id, *request)
                }
                _ => Err(Disconnect::BAD_REQUEST),
            },
            State::Connecting { .. } => Err(Disconnect::SERVER_ERROR),
            State::Live(live) if live.is_busy(&cx.rules.limits) => Err(Disconnect::SERVER_ERROR),
            State::Live(_) => self.dispatch(cx, command),
        }
    }

    /// Spec: client protocol, "Command dispatch": an id of 0 without `send` is a pong, whatever else is in it.
    fn dispatch(&mut self, cx: &Context<'_>, command: Command<'_>) -> Result<(), Disconnect> {
        let Command { id, request } = command;
        if id == 0 && !matches!(request, Some(Request::Send(_))) {
            return self.pong(cx);
        }
        let Some(request) = request else { return Err(Disconnect::BAD_REQUEST) };
        self.working_on = CommandKind::of(&request);
        let outcome = match request {
            Request::Connect(_) => Err(Disconnect::BAD_REQUEST.into()),
            Request::Subscribe(request) => self.subscribe(cx, id, &request),
            Request::Unsubscribe(request) => self.unsubscribe(id, &request.channel),
            Request::Publish(request) => self.publish(cx, id, &request),
            Request::Presence(request) => self.presence(cx, id, &request.channel, presence::Wanted::Members),
            Request::PresenceStats(request) => {
                self.presence(cx, id, &request.channel, presence::Wanted::Stats)
            }
            Request::History(request) => self.history(cx, id, &request),
            Request::Refresh(request) => self.refresh(cx, id, &request.token),
            Request::SubRefresh(request) => self.sub_refresh(cx, id, &request),
            // Spec-deviation: the reference answers `ping` with disconnect 3501 by accident.
            Request::Ping => Err(ClientError::NOT_AVAILABLE.into()),
            Request::Rpc(request) => self.rpc(cx, id, &request),
            Request::Send(_) => Err(Disconnect::NOT_AVAILABLE.into()),
        };
        self.settle(id, outcome)
    }

    /// Answers a refused command; a refusal that ends the connection goes to the caller.
    fn settle(&mut self, id: u32, outcome: Result<(), Refusal>) -> Result<(), Disconnect> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Refusal::Error(error)) => {
                self.reply(id, ReplyBody::Error(error));
                Ok(())
            }
            Err(Refusal::Disconnect(disconnect)) => Err(disconnect),
        }
    }

    /// Handles the answer to an effect. Answers that come too late are ignored.
    ///
    /// # Errors
    /// The disconnect to end the connection with.
    pub fn handle_outcome(
        &mut self,
        cx: &Context<'_>,
        effect: EffectId,
        outcome: Outcome,
    ) -> Result<(), Disconnect> {
        if matches!(self.state, State::Connecting { .. }) {
            return self.connect_outcome(cx, effect, outcome);
        }
        let outcome = match outcome {
            // No command waits for these.
            Outcome::Subscribed { channel, result } => {
                self.working_on = CommandKind::Subscribe;
                self.subscribed(cx, effect, &channel, result)?;
                self.unsubscribe_held();
                return Ok(());
            }
            Outcome::StreamOpened(answer) => return self.stream_opened(cx, effect, answer),
            Outcome::RefreshAnswered(answer) => return self.refresh_answered(cx, effect, answer),
            Outcome::SubRefreshAnswered { channel, answer } => {
                return self.sub_refresh_answered(cx, effect, &channel, answer);
            }
            outcome => outcome,
        };
        let State::Live(live) = &mut self.state else { return Ok(()) };
        let Some(command) = live.take_busy(effect) else { return Ok(()) };
        self.working_on = command.kind();
        self.resume(cx, command, outcome)?;
        self.unsubscribe_held();
        Ok(())
    }

    /// Goes on with a command whose effect is answered.
    fn resume(&mut self, cx: &Context<'_>, command: BusyCommand, outcome: Outcome) -> Result<(), Disconnect> {
        match (command, outcome) {
            (BusyCommand::VerifySubscribe { id, intent }, Outcome::Verified(claims)) => {
                let outcome = self.subscribe_verified(cx, id, intent, claims);
                self.settle(id, outcome)
            }
            (BusyCommand::AskSubscribe { id, intent }, Outcome::SubscribeAnswered(answer)) => {
                let outcome = self.subscribe_answered(cx, id, intent, answer);
                self.settle(id, outcome)
            }
            (BusyCommand::AskPublish(asked), Outcome::PublishAnswered(answer)) => {
                let id = asked.id;
                let outcome = self.publish_answered(*asked, answer);
                self.settle(id, outcome)
            }
            (BusyCommand::Rpc { id }, Outcome::RpcAnswered(answer)) => {
                let outcome = answer.map(|data| self.reply(id, ReplyBody::Rpc(data)));
                self.settle(id, outcome.map_err(Refusal::from))
            }
            (BusyCommand::Publish { id }, Outcome::Published(result)) => {
                self.reply(id, result.map_or_else(internal_error, |()| ReplyBody::Publish));
                Ok(())
            }
            (BusyCommand::Map(command), Outcome::MapState(result)) => {
                self.map_state_read(cx, command, result);
                Ok(())
            }
            (BusyCommand::Map(command), Outcome::MapStream(result)) => {
                self.map_stream_read(command, result);
                Ok(())
            }
            (BusyCommand::Map(command), Outcome::MapFollowed(result)) => {
                self.map_live_read(cx, command, result)
            }
            (BusyCommand::MapHook(asked), Outcome::MapHookAnswered(answer)) => {
                let id = asked.id;
                let outcome = self.map_hook_answered(*asked, answer);
                self.settle(id, outcome)
            }
            (BusyCommand::JoinPoll { id, channel, data }, Outcome::PollJoined(epoch)) => {
                let result = gyre_protocol::SubscribeResult { epoch, data, ..Default::default() };
                self.poll_joined(cx, id, &channel, result);
                Ok(())
            }
            (BusyCommand::Track(command), Outcome::TrackVerified(expiries)) => {
                let id = command.id;
                let outcome = self.track_verified(cx, command, expiries);
                self.settle(id, outcome)
            }
            (BusyCommand::Presence { id }, Outcome::Presence(result)) => {
                self.reply(id, result.map_or_else(internal_error, ReplyBody::Presence));
                Ok(())
            }
            (BusyCommand::Presence { id }, Outcome::PresenceStats(result)) => {
                self.reply(id, result.map_or_else(internal_error, ReplyBody::PresenceStats));
                Ok(())
            }
            (BusyCommand::History { id }, Outcome::History(result)) => {
                self.reply(id, history::reply(result));
                Ok(())
            }
            (BusyCommand::Refresh { id }, Outcome::Authenticated(claims)) => {
                let outcome = self.refreshed(cx, id, claims);
                self.settle(id, outcome)
            }
            (BusyCommand::SubRefresh { id, channel }, Outcome::Verified(claims)) => {
                let outcome = self.sub_refreshed(cx, id, &channel, claims);
                self.settle(id, outcome)
            }
            _ => Err(Disconnect::SERVER_ERROR),
        }
    }

    /// Ends the session: everything it holds in hub and engine is given back as effects. Messages made before still
    /// go out; further inputs are ignored.
    pub fn close(&mut self) {
        let opening: Vec<EffectId> = self.live().into_iter().flat_map(Live::opening_streams).collect();
        let subscriptions = match &mut self.state {
            State::Live(live) => std::mem::take(&mut live.subscriptions),
            _ => Subscriptions::default(),
        };
        self.outputs.retain(|output| match output {
            Output::Reply(_)
            | Output::Push(_)
            | Output::Refused { .. }
            | Output::Effect(
                _,
                Effect::Unsubscribe { .. }
                | Effect::LeaveMap { .. }
                | Effect::Untrack { .. }
                | Effect::EndStream { .. },
            ) => true,
            Output::Effect(..) | Output::Ping | Output::Activate { .. } | Output::Finish => false,
        });
        for (channel, subscription) in subscriptions.into_iter() {
            self.give_back(channel, subscription);
        }
        for stream in opening {
            self.effect(Effect::EndStream { stream });
        }
        self.state = State::Closed;
    }

    fn live(&self) -> Option<&Live> {
        match &self.state {
            State::Live(live) => Some(live),
            _ => None,
        }
    }

    fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.state {
            State::Live(live) => Some(live),
            _ => None,
        }
    }

    fn reply(&mut self, id: u32, body: ReplyBody) {
        if let ReplyBody::Error(error) = &body {
            self.outputs.push_back(Output::Refused { command: self.working_on, code: error.code });
        }
        self.outputs.push_back(Output::Reply(Reply { id, body }));
    }

    fn push(&mut self, channel: Option<&ChannelName>, body: PushBody) {
        let channel = channel.map_or_else(Arc::default, |channel| channel.as_shared().clone());
        self.outputs.push_back(Output::Push(Push { channel, id: 0, body }));
    }

    fn effect(&mut self, effect: Effect) -> EffectId {
        let id = EffectId(self.next_effect);
        self.next_effect = self.next_effect.wrapping_add(1);
        self.outputs.push_back(Output::Effect(id, effect));
        id
    }
}

fn internal_error(error: crate::ports::EngineError) -> ReplyBody {
    ReplyBody::Error(match error {
        crate::ports::EngineError::LimitReached => ClientError::LIMIT_EXCEEDED,
        _ => ClientError::INTERNAL,
    })
}

/// Idle cost of a session; what a connected one holds besides is boxed.
const SESSION_BYTES_MAX: usize = 128;
const _: () = assert!(size_of::<Session>() <= SESSION_BYTES_MAX);

#[cfg(test)]
mod tests;
