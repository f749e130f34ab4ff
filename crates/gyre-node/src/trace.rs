//! Looking on: what happens in a channel, or what the connections of a user do, live, for an operator who looks.
//!
//! Costs nothing while nobody looks: a publication asks one counter, a command whether a list is empty. Whoever looks gets
//! a bounded queue; what does not fit is left out and counted, so that a slow reader holds nobody up.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use gyre_core::{
    channel::ChannelName,
    ports::{Answer, ChannelEvent, EngineError},
    session::{ClientId, CommandKind, Effect, Output, Session},
};
use gyre_protocol::{Command, Disconnect, Payload, Push, PushBody, Reply, ReplyBody, Request};
use hashbrown::HashMap;
use tokio::sync::mpsc;

use crate::{node::Node, ops::ApiError, shard::TransportKind};

/// Traces of a node at a time; more are refused.
pub const TRACES_MAX: usize = 16;
/// Events that wait for one reader; what comes while so many wait is left out and counted.
pub const TRACE_EVENTS_MAX: usize = 1024;
/// Bytes of a command's data that are shown; longer data is left out.
const DATA_BYTES_MAX: usize = 16 * 1024;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceSubject {
    /// Publications, joins and leaves of a channel.
    Channel(ChannelName),
    /// What the connections of a user do; the empty user is that of all anonymous connections.
    User(Arc<str>),
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum TraceEvent {
    /// In the channel.
    Channel(ChannelEvent),
    /// On a connection of the user.
    Connection {
        /// The client.
        client: ClientId,
        /// Its transport.
        transport: TransportKind,
        /// What it was.
        activity: Activity,
    },
}

/// What happened on a connection.
#[derive(Clone, Debug)]
pub enum Activity {
    /// Its connect succeeded.
    Connected,
    /// A command came.
    Command {
        /// Its kind.
        command: CommandKind,
        /// The channel or method it names; empty for none.
        subject: Box<str>,
        /// Its data, unless it is long.
        data: Payload,
    },
    /// A command was answered with an error.
    Refused {
        /// Its kind.
        command: CommandKind,
        /// The error's code.
        code: u32,
    },
    /// A subscription is in force.
    Subscribed {
        /// Its channel.
        channel: ChannelName,
    },
    /// A subscription has ended.
    Unsubscribed {
        /// Its channel.
        channel: ChannelName,
    },
    /// The server sent something of its own accord.
    Push(Push),
    /// The connection has ended.
    Disconnected(Disconnect),
}

/// Why nothing can be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceError {
    /// [`TRACES_MAX`] others look.
    TooMany,
    /// The channel cannot be had.
    Channel(ApiError),
}

/// One reader's view. Ends when the node stops; dropping it ends it as well.
pub struct Trace {
    node: Arc<Node>,
    number: u64,
    subject: TraceSubject,
    events: mpsc::Receiver<TraceEvent>,
    missed: Arc<AtomicU64>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Trace {
    /// The next event; `None` when the node stops.
    ///
    /// # Cancel safety
    /// No event is lost.
    pub async fn next(&mut self) -> Option<TraceEvent> {
        self.events.recv().await
    }

    /// Events left out since this was last asked, because too many waited.
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let number = self.number;
        match &self.subject {
            TraceSubject::Channel(channel) => {
                if self.node.directory.remove_tap(channel, number) {
                    self.node.leave_channel(channel);
                }
            }
            TraceSubject::User(_) => {
                for mailbox in self.node.directory.mailboxes() {
                    mailbox.run(Box::new(move |shard| shard.taps.0.retain(|(_, tap)| tap.number != number)));
                }
            }
        }
        self.node.traces.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    /// Looks at a channel or a user from now on.
    ///
    /// # Errors
    /// [`TraceError`].
    pub async fn trace(self: &Arc<Self>, subject: TraceSubject) -> Result<Trace, TraceError> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        if self.traces.fetch_add(1, Ordering::Relaxed) >= TRACES_MAX {
            self.traces.fetch_sub(1, Ordering::Relaxed);
            return Err(TraceError::TooMany);
        }
        let (sender, events) = mpsc::channel(TRACE_EVENTS_MAX);
        let missed = Arc::<AtomicU64>::default();
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let tap = Tap { number, sender, missed: missed.clone() };
        // From here on, dropping it undoes whatever of the following was done.
        let trace = Trace { node: self.clone(), number, subject: subject.clone(), events, missed };
        match subject {
            TraceSubject::Channel(channel) => {
                self.api_channel(&channel).map_err(TraceError::Channel)?;
                self.directory.add_tap(&channel, tap);
                let entered = self.enter_channel(&channel).wait().await;
                entered.map_err(|error| TraceError::Channel(error.into()))?;
            }
            TraceSubject::User(user) => {
                self.on_every_shard(move |shard| shard.taps.0.push((user.clone(), tap.clone()))).await;
            }
        }
        Ok(trace)
    }

    /// True if the channel's options make it a map.
    fn is_map(&self, channel: &str) -> bool {
        self.rules().namespaces.options(channel).is_some_and(|options| options.map.is_some())
    }

    fn enter_channel(&self, channel: &ChannelName) -> Answer<Result<(), EngineError>> {
        match self.is_map(channel) {
            true => self.ports.maps.subscribe(channel),
            false => self.ports.broker.subscribe(channel),
        }
    }

    fn leave_channel(&self, channel: &ChannelName) {
        let left = match self.is_map(channel) {
            true => self.ports.maps.unsubscribe(channel),
            false => self.ports.broker.unsubscribe(channel),
        };
        let report = |result: Result<(), EngineError>| {
            if let Err(error) = result {
                tracing::warn!(%error, "cannot unsubscribe from the engine");
            }
        };
        match left {
            Answer::Ready(result) => report(result),
            Answer::Later(later) => drop(self.control.spawn(async move { report(later.await) })),
        }
    }
}

/// Where the events of one trace go.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    number: u64,
    sender: mpsc::Sender<TraceEvent>,
    missed: Arc<AtomicU64>,
}

impl Tap {
    fn tell(&self, event: TraceEvent) {
        if self.sender.try_send(event).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Who looks at channels of a node.
#[derive(Debug, Default)]
pub(crate) struct ChannelTaps {
    count: AtomicUsize,
    taps: Mutex<HashMap<ChannelName, Vec<Tap>>>,
}

impl ChannelTaps {
    /// True if nobody looks at any channel. What was added before an event of the channel was published is seen: whoever
    /// adds waits for the engine afterwards.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn add(&self, channel: &ChannelName, tap: Tap) {
        self.lock().entry(channel.clone()).or_default().push(tap);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, channel: &ChannelName, number: u64) {
        let mut taps = self.lock();
        let Some(of_channel) = taps.get_mut(channel) else { return };
        let before = of_channel.len();
        of_channel.retain(|tap| tap.number != number);
        self.count.fetch_sub(before - of_channel.len(), Ordering::Relaxed);
        if of_channel.is_empty() {
            taps.remove(channel);
        }
    }

    pub(crate) fn contains(&self, channel: &ChannelName) -> bool {
        !self.is_empty() && self.lock().contains_key(channel)
    }

    /// Ends all of them.
    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.count.store(0, Ordering::Relaxed);
    }

    pub(crate) fn tell(&self, channel: &ChannelName, event: &ChannelEvent) {
        for tap in self.lock().get(channel).into_iter().flatten() {
            tap.tell(TraceEvent::Channel(event.clone()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, Vec<Tap>>> {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who looks at users, as each shard knows it.
#[derive(Debug, Default)]
pub(crate) struct UserTaps(Vec<(Arc<str>, Tap)>);

impl UserTaps {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends all of them.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// A command is about to be handed in.
    pub(crate) fn command(&self, session: &Session, transport: TransportKind, command: &Command<'_>) {
        let Some(request) = &command.request else { return };
        let none: &[u8] = &[];
        let (subject, data) = match request {
            Request::Subscribe(request) => (&*request.channel, none),
            Request::Unsubscribe(request) | Request::Presence(request) | Request::PresenceStats(request) => {
                (&*request.channel, none)
            }
            Request::Publish(request) => (&*request.channel, &*request.data),
            Request::History(request) => (&*request.channel, none),
            Request::Rpc(request) => (&*request.method, &*request.data),
            Request::Send(request) => ("", &*request.data),
            Request::SubRefresh(request) => (&*request.channel, none),
            Request::Connect(_) | Request::Refresh(_) | Request::Ping => ("", none),
        };
        self.tell(session, transport, || {
            let data = if data.len() <= DATA_BYTES_MAX { data } else { none };
            Activity::Command {
                command: CommandKind::of(request),
                subject: subject.into(),
                data: Payload::new(data.to_vec()),
            }
        });
    }

    /// A session wants something.
    pub(crate) fn output(&self, session: &Session, transport: TransportKind, output: &Output) {
        let activity = match output {
            Output::Reply(Reply { body: ReplyBody::Connect(_), .. })
            | Output::Push(Push { body: PushBody::Connect(_), .. }) => Activity::Connected,
            Output::Push(push) => Activity::Push(push.clone()),
            Output::Activate { channel, .. } => Activity::Subscribed { channel: channel.clone() },
            Output::Effect(_, Effect::Unsubscribe { channel, .. }) => {
                Activity::Unsubscribed { channel: channel.clone() }
            }
            Output::Refused { command, code } => Activity::Refused { command: *command, code: *code },
            Output::Reply(_) | Output::Ping | Output::Effect(..) | Output::Finish => return,
        };
        self.tell(session, transport, || activity);
    }

    /// A session has ended.
    pub(crate) fn ended(&self, session: &Session, transport: TransportKind, disconnect: &Disconnect) {
        self.tell(session, transport, || Activity::Disconnected(disconnect.clone()));
    }

    fn tell(&self, session: &Session, transport: TransportKind, activity: impl FnOnce() -> Activity) {
        let Some(user) = session.user() else { return };
        let is_meant = |(name, _): &&(Arc<str>, Tap)| name == user;
        if self.0.iter().find(is_meant).is_none() {
            return;
        }
        let event = TraceEvent::Connection { client: session.client(), transport, activity: activity() };
        for (_, tap) in self.0.iter().filter(is_meant) {
            tap.tell(event.clone());
        }
    }
}
