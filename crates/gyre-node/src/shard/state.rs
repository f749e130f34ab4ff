//! What one shard owns, and how inputs move through it: connections, hub, timers.
//!
//! Every entry point ends with the session's outputs drained and its deadline entered. Nothing here waits.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use gyre_core::{
    channel::ChannelName,
    delta::Patches,
    hub::{Hub, KeyedHub, Outbox, Place, Slot, WireForm},
    limits::Limits,
    ports::{Caller, ChannelEvent, ConnectionHeaders, DisconnectEvent, EmulatedHeaders},
    rules::{self, Now, Rules},
    session::{ClientId, Session, SessionAddress, SessionOptions},
};
use gyre_protocol::{Command, Disconnect, Push, PushBody, Request, codec::Encoding};
use hashbrown::HashMap;
use slab::Slab;

use super::{
    Commands, ConnectionId, ConnectionOptions, Counters, Fed, Flushed, Link, Queue, TransportKind,
    apps::{App, Apps},
    link::Frame,
    wheel::Wheel,
};
use crate::{
    clock,
    driver_stream::{StreamId, StreamLink},
    events,
    mailbox::Message,
    node::Node,
    sessions::SessionPlace,
    trace::UserTaps,
};

/// One shard's connections, hub and timers.
pub(crate) struct ShardState {
    pub(crate) node: Arc<Node>,
    pub(crate) index: usize,
    pub(crate) rules: Arc<Rules>,
    pub(crate) hub: Hub,
    pub(crate) keyed: KeyedHub,
    pub(crate) connections: Connections,
    /// Connected sessions by user, for operations that name a user.
    pub(crate) users: HashMap<Arc<str>, Vec<Slot>, foldhash::fast::RandomState>,
    pub(crate) counters: Counters,
    pub(crate) patches: Patches,
    /// Who looks on.
    pub(crate) taps: UserTaps,
    apps: Apps,
    /// Streams of the application that feed subscriptions; few have any.
    pub(crate) streams: HashMap<StreamId, StreamLink>,
    wheel: Wheel,
    timer_waker: Option<Waker>,
    generation: u32,
    is_shutting_down: bool,
}

/// The connections, and which of them have something to write or to be told.
#[derive(Default)]
pub(crate) struct Connections {
    slots: Slab<Connection>,
    dirty: VecDeque<Slot>,
    flusher: Option<Waker>,
    limits: Limits,
    /// Subscriptions that missed something, found while delivering.
    lost: Vec<(Slot, ChannelName)>,
    /// Connections to close, found while delivering.
    doomed: Vec<(Slot, Disconnect)>,
    messages_sent: u64,
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) session: Session,
    pub(crate) places: Vec<Place>,
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) transport: TransportKind,
    form: WireForm,
    is_dirty: bool,
    writing: Writing,
    announces_disconnect: bool,
    queue: Queue,
    link: Box<dyn Link>,
    /// The tick it is entered for in the wheel; `u64::MAX` for none.
    armed: u64,
    /// Waits for the session to take the next command.
    idle_waker: Option<Waker>,
    /// What hooks may see of its headers, if anything.
    pub(crate) headers: Option<Arc<ConnectionHeaders>>,
    /// What the client calls itself.
    pub(crate) app: Option<Arc<App>>,
    /// Unix time in milliseconds at which its user was known; 0 until then.
    pub(crate) connected_at_ms: u64,
    /// Unix time in milliseconds.
    opened_ms: u64,
}

/// Whether a peer takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Free,
    /// It takes no more. By then, if there is a limit, it must have taken something.
    Blocked(Option<Instant>),
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The session takes inputs.
    Open,
    /// The connect was refused; the peer is expected to leave.
    Refused,
    /// The session is over; the transport is closing.
    Closing,
}

/// Gauges and counters of one shard at one moment.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    /// Connected sessions.
    pub clients: usize,
    /// Subscriptions of them.
    pub subscriptions: usize,
    /// Channels with subscribers on this shard.
    pub channels: usize,
    /// Open connections by transport, in the order of [`TransportKind::ALL`].
    pub open: [u64; TransportKind::ALL.len()],
    /// What it has counted.
    pub counters: Counters,
    /// Replies, pushes and pings sent.
    pub messages_sent: u64,
}

impl ShardState {
    pub(crate) fn new(node: Arc<Node>, index: usize) -> Self {
        let rules = node.rules();
        let limits = rules.limits.clone();
        Self {
            node,
            index,
            rules,
            hub: Hub::default(),
            keyed: KeyedHub::default(),
            connections: Connections { limits, ..Connections::default() },
            users: HashMap::default(),
            counters: Counters::default(),
            patches: Patches::default(),
            taps: UserTaps::default(),
            apps: Apps::default(),
            streams: HashMap::new(),
            wheel: Wheel::new(Instant::now()),
            timer_waker: None,
            generation: 0,
            is_shutting_down: false,
        }
    }

    pub(crate) fn set_rules(&mut self, rules: Arc<Rules>) {
        self.connections.limits.clone_from(&rules.limits);
        self.rules = rules;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections.slots.is_empty()
    }

    pub(crate) fn open(&mut self, options: ConnectionOptions, link: Box<dyn Link>) -> ConnectionId {
        let now = clock::now();
        let session = Session::new(
            &rules::Context { now, rules: &self.rules, patches: &self.patches },
            SessionOptions {
                client: ClientId::from_random(rand::random()),
                encoding: options.form.encoding,
                pings: options.pings,
                jitter: rand::random(),
                header_user: options.opening.user,
                direction: options.form.direction,
                address: options.transport.has_session_address().then(|| self.new_address(options.transport)),
            },
        );
        self.generation = self.generation.wrapping_add(1);
        let slot = self.connections.slots.insert(Connection {
            session,
            places: Vec::new(),
            generation: self.generation,
            phase: Phase::Open,
            transport: options.transport,
            form: options.form,
            is_dirty: false,
            writing: Writing::Free,
            announces_disconnect: options.announces_disconnect,
            queue: Queue::default(),
            link,
            armed: u64::MAX,
            idle_waker: None,
            headers: options.opening.headers,
            app: None,
            connected_at_ms: 0,
            opened_ms: now.unix_ms,
        });
        self.counters.accepted[options.transport as usize] += 1;
        let slot = slot as Slot;
        let id = ConnectionId { slot, generation: self.generation };
        self.arm(slot);
        if options.transport.is_emulated()
            && let Some(address) = self.connections.slots[slot as usize].session.address()
        {
            self.node.sessions.enter(&address.session, SessionPlace { shard: self.index, id });
        }
        if self.is_shutting_down {
            self.close(slot, &Disconnect::SHUTDOWN, now);
        }
        id
    }

    /// An address nobody can guess.
    fn new_address(&self, transport: TransportKind) -> Box<SessionAddress> {
        Box::new(SessionAddress {
            session: ClientId::from_random(rand::random()).to_string().into(),
            node: if transport.is_emulated() { self.node.info.uid.clone() } else { Box::default() },
        })
    }

    /// Gives commands to the transport of the session they are for.
    pub(crate) fn receive(&mut self, id: ConnectionId, commands: Commands) {
        if let Some(connection) = self.connections.get_mut(id).filter(|c| c.phase == Phase::Open) {
            connection.link.receive(commands);
        }
    }

    pub(crate) fn command(&mut self, id: ConnectionId, command: Command<'_>) -> Fed {
        let now = clock::now();
        let Some(connection) = self.connections.get_mut(id).filter(|c| c.phase == Phase::Open) else {
            return Fed::Over;
        };
        self.counters.commands += 1;
        if !self.taps.is_empty() {
            self.taps.command(&connection.session, connection.transport, &command);
        }
        if let Some(Request::Connect(request)) = &command.request {
            connection.app = self.apps.share(&request.name, &request.version);
        }
        let cx = rules::Context { now, rules: &self.rules, patches: &self.patches };
        let outcome = connection.session.handle_command(&cx, command);
        self.settle(id.slot, outcome, now);
        self.fed(id)
    }

    pub(crate) fn disconnect(&mut self, id: ConnectionId, disconnect: &Disconnect) {
        if self.connections.get_mut(id).is_some_and(|c| c.phase != Phase::Closing) {
            self.close(id.slot, disconnect, clock::now());
        }
    }

    pub(crate) fn poll_idle(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<Fed> {
        match self.fed(id) {
            Fed::Busy => {
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.idle_waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            other => Poll::Ready(other),
        }
    }

    fn fed(&mut self, id: ConnectionId) -> Fed {
        match self.connections.get_mut(id) {
            Some(Connection { phase: Phase::Open, session, .. }) if session.is_busy(&self.rules.limits) => {
                Fed::Busy
            }
            Some(Connection { phase: Phase::Open, .. }) => Fed::Open,
            _ => Fed::Over,
        }
    }

    /// Applies up to `most` messages of other threads.
    pub(crate) fn apply(&mut self, batch: &mut VecDeque<Message>, most: usize) {
        for message in batch.drain(..most.min(batch.len())) {
            match message {
                Message::Event(channel, event) => self.deliver(&channel, event),
                Message::Task(task) => task(self),
            }
        }
    }

    pub(crate) fn deliver(&mut self, channel: &ChannelName, event: ChannelEvent) {
        if self.keyed.contains(channel) {
            return self.deliver_polled(channel, event);
        }
        self.hub.deliver(channel, event, &mut self.connections);
        self.settle_deliveries();
    }

    /// Tells sessions what was found out while delivering.
    pub(crate) fn settle_deliveries(&mut self) {
        if self.connections.lost.is_empty() && self.connections.doomed.is_empty() {
            return;
        }
        let now = clock::now();
        for (slot, channel) in std::mem::take(&mut self.connections.lost) {
            if let Some(connection) = self.connections.open_mut(slot) {
                let outcome = connection.session.handle_lost_position(&channel);
                self.settle(slot, outcome, now);
            }
        }
        for (slot, disconnect) in std::mem::take(&mut self.connections.doomed) {
            if self.connections.open_mut(slot).is_some() {
                self.close(slot, &disconnect, now);
            }
        }
    }

    /// Does something to a session, then drains it.
    pub(crate) fn with_session(
        &mut self,
        slot: Slot,
        input: impl FnOnce(&mut Session, &rules::Context<'_>) -> Result<(), Disconnect>,
    ) {
        let now = clock::now();
        let Some(connection) = self.connections.open_mut(slot) else { return };
        let outcome = input(
            &mut connection.session,
            &rules::Context { now, rules: &self.rules, patches: &self.patches },
        );
        self.settle(slot, outcome, now);
    }

    /// Carries out what a session wants after an input, and enters its next deadline.
    fn settle(&mut self, slot: Slot, outcome: Result<(), Disconnect>, now: Now) {
        match outcome.and_then(|()| self.drain(slot, now)) {
            Ok(()) => self.arm(slot),
            Err(disconnect) => self.close(slot, &disconnect, now),
        }
        self.settle_deliveries();
        if let Some(connection) = self.connections.slots.get_mut(slot as usize)
            && (connection.phase != Phase::Open || !connection.session.is_busy(&self.rules.limits))
            && let Some(waker) = connection.idle_waker.take()
        {
            waker.wake();
        }
    }

    /// Ends a session: its subscriptions are given back, its last messages queued, and its transport told.
    pub(crate) fn close(&mut self, slot: Slot, disconnect: &Disconnect, now: Now) {
        let Some(connection) = self.connections.slots.get_mut(slot as usize) else { return };
        if connection.phase == Phase::Closing {
            return;
        }
        connection.phase = Phase::Closing;
        *self.counters.disconnects.entry(disconnect.code).or_default() += 1;
        if disconnect.code != Disconnect::CONNECTION_CLOSED.code {
            *self.counters.closes.entry((connection.transport, disconnect.code)).or_default() += 1;
        }
        events::disconnected(&connection.session, connection.transport, disconnect);
        self.taps.ended(&connection.session, connection.transport, disconnect);
        self.tell_departure(slot, disconnect, now);
        self.forget_session(slot, now);
        let Some(connection) = self.connections.slots.get_mut(slot as usize) else { return };
        if [Disconnect::SLOW.code, Disconnect::WRITE_ERROR.code].contains(&disconnect.code) {
            connection.queue.clear_unstarted(connection.writing != Writing::Free);
        }
        if connection.announces_disconnect && disconnect.code != Disconnect::CONNECTION_CLOSED.code {
            let push =
                Push { channel: Arc::default(), id: 0, body: PushBody::Disconnect(disconnect.clone()) };
            if let Ok(frame) = connection.form.push(&push) {
                connection.queue.push(frame);
            }
        }
        connection.link.close(disconnect, &mut connection.queue);
        self.connections.mark_dirty(slot);
    }

    /// A client that was connected is so no longer: some applications want to know.
    fn tell_departure(&self, slot: Slot, disconnect: &Disconnect, now: Now) {
        let Some(hook) = &self.rules.hooks.disconnect else { return };
        let connection = self.connections.slots.get(slot as usize);
        let Some(connection) = connection.filter(|c| c.session.is_connected()) else { return };
        let caller = connection.known(connection.session.caller());
        let duration_ms = now.unix_ms.saturating_sub(connection.opened_ms);
        let disconnect = disconnect.clone();
        let event = DisconnectEvent { caller, disconnect, duration_ms, time_ms: now.unix_ms };
        self.node.departures.tell(hook.clone(), event, &self.node.control);
    }

    /// Gives back everything a session holds.
    fn forget_session(&mut self, slot: Slot, now: Now) {
        let Some(connection) = self.connections.slots.get_mut(slot as usize) else { return };
        if connection.transport.is_emulated()
            && let Some(address) = connection.session.address()
        {
            self.node.sessions.leave(&address.session);
        }
        if let Some(user) = connection.session.user().cloned() {
            self.detach(slot, &user);
        }
        if let Some(connection) = self.connections.slots.get_mut(slot as usize) {
            connection.session.close();
        }
        // A closed session makes no effects that could fail.
        if let Err(disconnect) = self.drain(slot, now) {
            tracing::debug!(code = disconnect.code, "a closed session asked for a disconnect");
        }
    }

    /// Takes the connection out of the table; false if it is not in it.
    pub(crate) fn release(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        if connection.phase != Phase::Closing {
            connection.phase = Phase::Closing;
            events::disconnected(&connection.session, connection.transport, &Disconnect::CONNECTION_CLOSED);
            self.taps.ended(&connection.session, connection.transport, &Disconnect::CONNECTION_CLOSED);
            *self.counters.disconnects.entry(Disconnect::CONNECTION_CLOSED.code).or_default() += 1;
            let now = clock::now();
            self.tell_departure(id.slot, &Disconnect::CONNECTION_CLOSED, now);
            self.forget_session(id.slot, now);
        }
        self.connections.slots.remove(id.slot as usize);
        true
    }

    pub(crate) fn begin_shutdown(&mut self) {
        self.is_shutting_down = true;
        // Whoever looks on is told by the end of it, so that the server need not wait.
        self.taps.clear();
        self.node.directory.clear_taps();
        let now = clock::now();
        let slots: Vec<Slot> = self.connections.slots.iter().map(|(slot, _)| slot as Slot).collect();
        for slot in slots {
            self.close(slot, &Disconnect::SHUTDOWN, now);
        }
    }

    /// The connect of a connection was refused with an error reply.
    pub(crate) fn refuse(&mut self, slot: Slot) {
        if let Some(connection) = self.connections.open_mut(slot) {
            connection.phase = Phase::Refused;
            connection.link.finish();
        }
    }

    fn arm(&mut self, slot: Slot) {
        let Some(connection) = self.connections.slots.get_mut(slot as usize) else { return };
        let Some(deadline) = connection.deadline() else { return };
        let tick = self.wheel.tick_of(deadline);
        if tick >= connection.armed {
            return;
        }
        connection.armed = tick;
        let is_first = self.wheel.next().is_none_or(|next| deadline < next);
        self.wheel.insert(tick, slot, connection.generation);
        if is_first && let Some(waker) = self.timer_waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Option<Instant> {
        self.timer_waker = Some(cx.waker().clone());
        self.wheel.next()
    }

    /// Handles what is due.
    pub(crate) fn handle_due(&mut self) {
        let now = clock::now();
        self.patches.expire(now.instant);
        while let Some((tick, entries)) = self.wheel.pop_due(now.instant) {
            for (slot, generation) in entries {
                self.handle_timeout(slot, generation, tick, now);
            }
        }
    }

    fn handle_timeout(&mut self, slot: Slot, generation: u32, tick: u64, now: Now) {
        let Some(connection) = self.connections.slots.get_mut(slot as usize) else { return };
        if connection.generation != generation || connection.armed != tick {
            return;
        }
        connection.armed = u64::MAX;
        if connection.phase == Phase::Closing {
            return;
        }
        if matches!(connection.writing, Writing::Blocked(Some(deadline)) if deadline <= now.instant) {
            return self.close(slot, &Disconnect::WRITE_ERROR, now);
        }
        let outcome = connection.session.handle_timeout(&rules::Context {
            now,
            rules: &self.rules,
            patches: &self.patches,
        });
        self.settle(slot, outcome, now);
    }

    pub(crate) fn flush(&mut self, id: ConnectionId) -> Flushed {
        let Some(connection) = self.connections.get_mut(id) else { return Flushed::Failed };
        let flushed = connection.flush(&self.rules.limits);
        match flushed {
            Flushed::Done => {}
            Flushed::Blocked => self.arm(id.slot),
            Flushed::Failed => self.disconnect(id, &Disconnect::CONNECTION_CLOSED),
        }
        flushed
    }

    pub(crate) fn enqueue_own(&mut self, id: ConnectionId, frame: Frame) -> bool {
        let is_there = self.connections.get_mut(id).is_some();
        if is_there {
            self.connections.enqueue(id.slot, frame);
            self.settle_deliveries();
        }
        is_there
    }

    /// Counts a close whose code is the transport's own.
    pub(crate) fn count_close(&mut self, id: ConnectionId, code: u32) {
        if let Some(connection) = self.connections.get_mut(id) {
            *self.counters.closes.entry((connection.transport, code)).or_default() += 1;
        }
    }

    pub(crate) fn discard_queue(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.queue.clear_unstarted(false);
        }
    }

    pub(crate) fn poll_dirty(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.connections.dirty.is_empty() {
            return Poll::Ready(());
        }
        self.connections.flusher = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Flushes up to `most` dirty connections. True if some are left.
    pub(crate) fn flush_dirty(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(slot) = self.connections.dirty.pop_front() else { return false };
            let Some(connection) = self.connections.slots.get_mut(slot as usize) else { continue };
            connection.is_dirty = false;
            let flushed = match connection.writing {
                Writing::Free => connection.flush(&self.rules.limits),
                Writing::Blocked(_) => Flushed::Blocked,
            };
            match flushed {
                Flushed::Done => {}
                Flushed::Blocked => self.arm(slot),
                Flushed::Failed => self.close(slot, &Disconnect::CONNECTION_CLOSED, clock::now()),
            }
        }
        !self.connections.dirty.is_empty()
    }

    pub(crate) fn snapshot(&self) -> ShardSnapshot {
        let mut snapshot = ShardSnapshot {
            channels: self.hub.channel_count(),
            counters: self.counters.clone(),
            messages_sent: self.connections.messages_sent,
            ..ShardSnapshot::default()
        };
        for (_, connection) in &self.connections.slots {
            snapshot.open[connection.transport as usize] += 1;
            snapshot.clients += usize::from(connection.session.is_connected());
            snapshot.subscriptions += connection.places.len();
        }
        snapshot
    }
}

impl Connection {
    /// Adds what hooks may know of a client that its session does not.
    pub(crate) fn known(&self, caller: Caller) -> Caller {
        Caller {
            transport: self.transport.name(),
            protocol: self.protocol(),
            headers: self.headers.clone(),
            ..caller
        }
    }

    /// The encoding's name in hook requests.
    pub(crate) fn protocol(&self) -> &'static str {
        match self.form.encoding {
            Encoding::Json => "json",
            Encoding::Protobuf => "protobuf",
        }
    }

    /// Bytes that wait to be written.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// Keeps what a connect command said instead of headers.
    pub(crate) fn keep_headers(&mut self, emulated: EmulatedHeaders) {
        Arc::make_mut(self.headers.get_or_insert_default()).emulated = emulated;
    }

    fn flush(&mut self, limits: &Limits) -> Flushed {
        if self.queue.is_empty() {
            self.writing = Writing::Free;
            return Flushed::Done;
        }
        let before = self.queue.bytes();
        let flushed = self.link.flush(&mut self.queue);
        self.writing = match (flushed, self.writing) {
            (Flushed::Blocked, Writing::Blocked(deadline)) if self.queue.bytes() == before => {
                Writing::Blocked(deadline)
            }
            (Flushed::Blocked, _) => {
                let timeout = self.transport.write_timeout(limits);
                Writing::Blocked(timeout.map(|timeout| clock::now().instant + timeout))
            }
            (Flushed::Done | Flushed::Failed, _) => Writing::Free,
        };
        flushed
    }

    /// When something is due: of the session, or because the peer takes nothing.
    fn deadline(&self) -> Option<Instant> {
        let writing = match self.writing {
            Writing::Blocked(deadline) if self.phase != Phase::Closing => deadline,
            Writing::Blocked(_) | Writing::Free => None,
        };
        [self.session.poll_timeout(), writing].into_iter().flatten().min()
    }
}

impl Connections {
    /// The connection of that id, if it is still the same one.
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot as usize).filter(|connection| connection.generation == id.generation)
    }

    /// True if half of what may wait for a peer does: whoever can should bring no more.
    pub(crate) fn is_behind(&self, id: ConnectionId) -> bool {
        let connection = self.slots.get(id.slot as usize).filter(|c| c.generation == id.generation);
        connection
            .is_some_and(|c| c.writing != Writing::Free && c.queue.bytes() > self.limits.queue_bytes_max / 2)
    }

    /// The connection in that slot, if its session takes inputs.
    pub(crate) fn open_mut(&mut self, slot: Slot) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize).filter(|connection| connection.phase == Phase::Open)
    }

    /// Slots there are, empty ones included: the highest number and one.
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.capacity()
    }

    /// The connection in that slot, whatever its phase, to be looked at.
    pub(crate) fn at(&self, slot: Slot) -> Option<&Connection> {
        self.slots.get(slot as usize)
    }

    /// The connection in that slot, whatever its phase.
    pub(crate) fn at_mut(&mut self, slot: Slot) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)
    }

    /// Appends a frame to a connection's queue.
    pub(crate) fn enqueue(&mut self, slot: Slot, frame: Frame) {
        let Some(connection) = self.slots.get_mut(slot as usize) else { return };
        self.messages_sent += 1;
        connection.queue.push(frame);
        if connection.queue.bytes() > self.limits.queue_bytes_max && connection.phase == Phase::Open {
            // What one turn produces may exceed the bound although the peer keeps up: only what it does not take counts.
            if connection.writing == Writing::Free {
                connection.flush(&self.limits);
            }
            if connection.queue.bytes() > self.limits.queue_bytes_max {
                self.doomed.push((slot, Disconnect::SLOW));
            }
        }
        self.mark_dirty(slot);
    }

    /// A message that the connection's encoding cannot carry was due.
    pub(crate) fn doom(&mut self, slot: Slot, disconnect: Disconnect) {
        self.doomed.push((slot, disconnect));
    }

    fn mark_dirty(&mut self, slot: Slot) {
        let Some(connection) = self.slots.get_mut(slot as usize) else { return };
        if connection.is_dirty {
            return;
        }
        connection.is_dirty = true;
        self.dirty.push_back(slot);
        if let Some(waker) = self.flusher.take() {
            waker.wake();
        }
    }

    /// The frame of a reply or push in the connection's form.
    pub(crate) fn form_of(&self, slot: Slot) -> Option<WireForm> {
        self.slots.get(slot as usize).map(|connection| connection.form)
    }
}

impl Outbox for Connections {
    fn form(&self, slot: Slot) -> WireForm {
        self.slots[slot as usize].form
    }

    fn send(&mut self, slot: Slot, frame: &Bytes) {
        self.enqueue(slot, frame.clone());
    }

    fn lost(&mut self, slot: Slot, channel: &ChannelName) {
        self.lost.push((slot, channel.clone()));
    }

    fn inappropriate(&mut self, slot: Slot) {
        self.doom(slot, Disconnect::INAPPROPRIATE_PROTOCOL);
    }
}
