//! The QUIC endpoint of a shard: one socket, one task, one timer and one send buffer for all its connections.
//!
//! A turn receives what is there, lets timers expire, then looks once at every connection that something happened to:
//! events go to HTTP/3, packets to the socket.

use std::{
    collections::{BTreeSet, HashMap},
    future::poll_fn,
    net::UdpSocket,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{
    ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig, Incoming, ServerConfig, Transmit,
};
use tokio::sync::{mpsc, watch};

use super::{
    Handler,
    connection::Connection,
    link::{Dirty, Link},
    server_config,
    socket::{Route, Sent, Socket},
    statistics::{self, Question, Sample},
};
use crate::http::{Peer, Shutdown};

/// Half-open handshakes of one shard beyond which clients have to prove their address first.
pub(super) const HANDSHAKES_BEFORE_RETRY: usize = 256;
/// Batches received in one turn, so that receiving alone cannot keep a turn from ending.
const BATCHES_PER_TURN: usize = 8;
/// Calls of the socket for one connection in one turn, so that a bulk transfer does not keep the others waiting.
const SENDS_PER_TURN: usize = 16;
/// Timers are not told apart more finely.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

/// A QUIC endpoint on a socket.
pub struct Driver {
    socket: Socket,
    endpoint: Endpoint,
    connections: HashMap<ConnectionHandle, Slot, foldhash::fast::RandomState>,
    deadlines: BTreeSet<(Instant, ConnectionHandle)>,
    dirty: Rc<Dirty>,
    /// Datagrams on their way to the socket.
    buffer: Vec<u8>,
    /// What the socket did not take, and whose it is.
    blocked: Option<(Transmit, Vec<u8>)>,
    handshakes: usize,
    is_stopping: bool,
    h3: Arc<gyre_h3::Config>,
    handler: Rc<dyn Handler>,
    questions: mpsc::Receiver<Question>,
    /// TLS settings; those that change count for the next connections.
    settings: watch::Receiver<Arc<rustls::ServerConfig>>,
}

/// A connection, and when it wants to be looked at.
struct Slot {
    connection: Rc<Connection>,
    armed: Option<Instant>,
    is_handshaking: bool,
    /// Kept a little, to repeat it to a peer that has not heard.
    is_closed: bool,
}

impl Driver {
    pub(super) fn new(
        socket: UdpSocket,
        config: ServerConfig,
        settings: watch::Receiver<Arc<rustls::ServerConfig>>,
        h3: Arc<gyre_h3::Config>,
        handler: Rc<dyn Handler>,
    ) -> std::io::Result<Self> {
        let socket = Socket::new(socket)?;
        let probes_mtu = !socket.may_fragment();
        let config = Some(Arc::new(config));
        let endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), config, probes_mtu, None);
        Ok(Self {
            socket,
            endpoint,
            connections: HashMap::default(),
            deadlines: BTreeSet::new(),
            dirty: Rc::default(),
            buffer: Vec::new(),
            blocked: None,
            handshakes: 0,
            is_stopping: false,
            h3,
            settings,
            questions: handler.statistics().register(),
            handler,
        })
    }

    /// Accepts connections until the server stops, then lets those that are open end what they are at.
    pub async fn serve(mut self, mut shutdown: Shutdown) {
        let mut timer = pin!(tokio::time::sleep_until(Instant::now().into()));
        let mut dirty = Vec::new();
        loop {
            let deadline = self.deadlines.first().map(|(at, _)| *at);
            if let Some(at) = deadline
                && timer.deadline() != at.into()
            {
                timer.as_mut().reset(at.into());
            }
            let is_blocked = self.blocked.is_some();
            let link = self.dirty.clone();
            tokio::select! {
                () = self.socket.readable() => {}
                () = poll_fn(|cx| link.poll(cx, &mut dirty)), if !is_blocked => {}
                () = self.socket.writable(), if is_blocked => {}
                () = timer.as_mut(), if deadline.is_some() => {}
                Some(question) = self.questions.recv() => self.answer_question(question),
                Ok(()) = self.settings.changed() => self.change_settings(),
                _ = shutdown.wait_for(|stop| *stop), if !self.is_stopping => self.stop(),
            }
            self.turn(&mut dirty);
            if self.is_stopping && self.is_done() {
                return;
            }
        }
    }

    fn change_settings(&mut self) {
        match server_config(self.settings.borrow_and_update().clone()) {
            Ok(config) => self.endpoint.set_server_config(Some(Arc::new(config))),
            Err(error) => tracing::error!(%error, "the new TLS settings cannot be used for QUIC"),
        }
    }

    /// Tells what QUIC has measured, on connections spread over all that are open.
    fn answer_question(&self, Question { max, answer }: Question) {
        let step = self.connections.len().div_ceil(max.max(1)).max(1);
        let looked_at = self.connections.values().step_by(step);
        let paths = looked_at.map(|slot| statistics::view(&slot.connection.link.quic.borrow())).collect();
        // Who asked may have given up.
        let open = self.connections.values().filter(|slot| !slot.is_closed).count();
        _ = answer.send(Sample { open, paths });
    }

    /// True if nobody is in the middle of something.
    fn is_done(&self) -> bool {
        let mut connections = self.connections.values();
        self.blocked.is_none() && connections.all(|slot| slot.is_closed || slot.connection.is_idle())
    }

    fn stop(&mut self) {
        self.is_stopping = true;
        self.connections.values().for_each(|slot| slot.connection.drain());
    }

    fn turn(&mut self, dirty: &mut Vec<ConnectionHandle>) {
        let now = Instant::now();
        for _ in 0..BATCHES_PER_TURN {
            if !self.receive(now) {
                break;
            }
        }
        self.expire(now);
        if !self.unblock() {
            return;
        }
        self.dirty.take(dirty);
        for handle in dirty.drain(..) {
            self.look_at(handle, now);
        }
    }

    /// Receives a batch; false if there was none.
    fn receive(&mut self, now: Instant) -> bool {
        // Taken apart, as the socket lends its buffer meanwhile.
        let Self { socket, endpoint, connections, buffer, .. } = self;
        let mut arrived = Vec::new();
        let mut answers = Vec::new();
        let received = socket.receive(|Route { remote, local, ecn }, datagram| {
            buffer.clear();
            let event = endpoint.handle(now, remote, local, ecn, BytesMut::from(datagram), buffer);
            match event {
                Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                    if let Some(slot) = connections.get(&handle) {
                        slot.connection.link.quic.borrow_mut().handle_event(event);
                        slot.connection.link.mark();
                    }
                }
                Some(DatagramEvent::NewConnection(incoming)) => arrived.push(incoming),
                Some(DatagramEvent::Response(transmit)) => answers.push((transmit, buffer.clone())),
                None => {}
            }
        });
        answers.iter().for_each(|(transmit, datagram)| self.answer(transmit, datagram));
        arrived.into_iter().for_each(|incoming| self.accept(incoming, now));
        received
    }

    fn accept(&mut self, incoming: Incoming, now: Instant) {
        self.buffer.clear();
        let statistics = self.handler.statistics();
        if self.is_stopping {
            let refusal = self.endpoint.refuse(incoming, &mut self.buffer);
            return self.answer(&refusal, &self.buffer);
        }
        if self.handshakes >= HANDSHAKES_BEFORE_RETRY && !incoming.remote_address_validated() {
            // Under a flood a client proves that it receives what is sent to its address.
            statistics.count(|counts| counts.retries += 1);
            let answer = match self.endpoint.retry(incoming, &mut self.buffer) {
                Ok(retry) => retry,
                Err(error) => self.endpoint.refuse(error.into_incoming(), &mut self.buffer),
            };
            return self.answer(&answer, &self.buffer);
        }
        statistics.count(|counts| counts.handshakes += 1);
        let peer = Peer { address: incoming.remote_address(), is_tls: true };
        match self.endpoint.accept(incoming, now, &mut self.buffer, None) {
            Ok((handle, quic)) => {
                let link = Rc::new(Link::new(handle, quic, self.dirty.clone()));
                link.mark();
                let connection = Connection::new(link, peer, self.h3.clone(), self.handler.clone());
                self.handshakes += 1;
                let slot = Slot { connection, armed: None, is_handshaking: true, is_closed: false };
                self.connections.insert(handle, slot);
            }
            Err(error) => {
                tracing::debug!(error = %error.cause, "QUIC connection refused");
                statistics.count(|counts| counts.handshakes_failed += 1);
                if let Some(response) = error.response {
                    self.answer(&response, &self.buffer);
                }
            }
        }
    }

    /// Sends what belongs to no connection. Lost if the socket takes nothing: the peer asks again.
    fn answer(&self, transmit: &Transmit, datagram: &[u8]) {
        let (Sent::Done | Sent::Blocked) = self.socket.send(transmit, datagram);
    }

    /// Tells connections whose time has come.
    fn expire(&mut self, now: Instant) {
        while let Some(&(at, handle)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            if let Some(slot) = self.connections.get_mut(&handle) {
                slot.armed = None;
                slot.connection.handle_timeout(now);
            }
        }
    }

    /// Sends what the socket did not take before; false if it still does not.
    fn unblock(&mut self) -> bool {
        if let Some((transmit, datagrams)) = self.blocked.take()
            && self.socket.send(&transmit, &datagrams) == Sent::Blocked
        {
            self.blocked = Some((transmit, datagrams));
        }
        self.blocked.is_none()
    }

    /// Everything a connection has to say, and has to be told.
    fn look_at(&mut self, handle: ConnectionHandle, now: Instant) {
        let Some(slot) = self.connections.get_mut(&handle) else { return };
        let connection = slot.connection.clone();
        connection.handle_events(now);
        if self.is_stopping {
            connection.close_if_idle();
        }
        // What its events led to is sent now, and no reason to look again.
        connection.link.unmark();
        let statistics = self.handler.statistics();
        let quic = connection.link.quic.borrow();
        if slot.is_handshaking && !quic.is_handshaking() {
            slot.is_handshaking = false;
            self.handshakes -= 1;
            match quic.is_closed() {
                true => statistics.count(|counts| counts.handshakes_failed += 1),
                false => statistics.count(|counts| counts.connections += 1),
            }
        }
        if !slot.is_closed && quic.is_closed() {
            slot.is_closed = true;
            statistics.closed(&quic, connection.reason.borrow().as_ref());
        }
        drop(quic);
        self.settle(&connection.link);
        self.transmit(&connection.link, now);
        // Closing may have ended it.
        self.settle(&connection.link);
        if connection.link.quic.borrow().is_drained() {
            self.forget(handle);
        } else {
            self.arm(&connection, now);
        }
    }

    /// Carries messages between connection and endpoint.
    fn settle(&mut self, link: &Link) {
        let mut quic = link.quic.borrow_mut();
        while let Some(event) = quic.poll_endpoint_events() {
            if let Some(answer) = self.endpoint.handle_event(link.handle, event) {
                quic.handle_event(answer);
            }
        }
    }

    fn transmit(&mut self, link: &Link, now: Instant) {
        let mut quic = link.quic.borrow_mut();
        let segments = self.socket.segments_max();
        for _ in 0..SENDS_PER_TURN {
            if self.blocked.is_some() {
                break;
            }
            self.buffer.clear();
            let Some(transmit) = quic.poll_transmit(now, segments, &mut self.buffer) else { return };
            if self.socket.send(&transmit, &self.buffer) == Sent::Blocked {
                self.blocked = Some((transmit, std::mem::take(&mut self.buffer)));
            }
        }
        link.mark();
    }

    /// Sets the connection's deadline. One that moved away stays where it is: when it comes, nothing happens, and the
    /// connection is armed anew.
    fn arm(&mut self, connection: &Connection, now: Instant) {
        let Some(deadline) = connection.poll_timeout() else { return };
        let deadline = deadline.max(now + TIMER_RESOLUTION);
        let handle = connection.link.handle;
        let Some(slot) = self.connections.get_mut(&handle) else { return };
        if slot.armed.is_none_or(|armed| deadline + TIMER_RESOLUTION < armed) {
            if let Some(armed) = slot.armed.replace(deadline) {
                self.deadlines.remove(&(armed, handle));
            }
            self.deadlines.insert((deadline, handle));
        }
    }

    fn forget(&mut self, handle: ConnectionHandle) {
        let Some(slot) = self.connections.remove(&handle) else { return };
        if let Some(armed) = slot.armed {
            self.deadlines.remove(&(armed, handle));
        }
        self.handshakes -= usize::from(slot.is_handshaking);
        slot.connection.end();
    }
}
