//! HTTP/3 on one QUIC connection: streams and datagrams to `gyre-h3`, and what it wants sent back to QUIC.
//!
//! There is no task here: the driver calls when something happened. A stream that turns out to be a session's is handed
//! over to the session's task.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet, VecDeque},
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use gyre_h3::{Code, Event, Reading, StreamId, Transmit};
use quinn_proto::{ConnectionError, Dir, StreamEvent, VarInt, WriteError};
use tokio::{sync::Notify, task::AbortHandle};

use super::{
    Handler,
    link::{Link, ReadError, RecvStream, SendStream},
    request, varint,
};
use crate::{http::Peer, webtransport};

/// Bytes read from a stream at a time.
const READ_BYTES: usize = 64 * 1024;

/// A connection: what the driver, requests and sessions share.
pub(super) struct Connection {
    pub(super) link: Rc<Link>,
    h3: RefCell<gyre_h3::Connection>,
    state: RefCell<State>,
    handler: Rc<dyn Handler>,
    pub(super) peer: Peer,
    /// What ended it, unless the server did.
    pub(super) reason: RefCell<Option<ConnectionError>>,
}

#[derive(Default)]
struct State {
    /// The control stream, once the peer lets the server open it, and what waits to be written on it.
    control: Option<quinn_proto::StreamId>,
    control_queue: VecDeque<Bytes>,
    writers: HashMap<StreamId, Rc<Writer>>,
    sessions: HashMap<StreamId, Rc<SessionState>>,
    bodies: HashMap<StreamId, Rc<request::BodyQueue>>,
    /// Streams of requests whose body has no room.
    paused: Vec<StreamId>,
    /// Streams that are left unread: they belong to a session that is yet to come, or to nobody.
    parked: HashSet<StreamId>,
    /// Tasks that answer requests.
    answers: HashMap<StreamId, AbortHandle>,
    had_session: bool,
}

/// What waits for a request's or session's own stream: of a response, its head and one piece of its body at most.
#[derive(Default)]
struct Writer {
    queue: RefCell<VecDeque<(Bytes, bool)>>,
    /// The queue became empty, or the stream is done with.
    changed: Notify,
}

/// What the connection and a session's task share.
#[derive(Default)]
struct SessionState {
    has_stream: Cell<bool>,
    /// How its stream will be served, until there is one.
    options: RefCell<Option<webtransport::Options>>,
    event: RefCell<Option<SessionEvent>>,
    changed: Notify,
}

/// A session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The peer closed it, or both sides are done.
    Ended {
        /// Code and reason the peer gave.
        close: Option<(u32, String)>,
    },
}

/// A WebTransport session as its transport sees it.
#[derive(Clone)]
pub struct Session {
    id: StreamId,
    connection: Rc<Connection>,
    state: Rc<SessionState>,
}

impl Session {
    /// Closes the session with code and reason. What the peer is to read must have been acknowledged before.
    pub fn close(&self, code: u32, reason: &str) {
        self.connection.h3.borrow_mut().close_session(Instant::now(), self.id, code, reason);
        self.connection.pump();
    }

    /// Ends a session whose peer has left already.
    pub fn end(&self) {
        self.connection.h3.borrow_mut().end_session_quietly(Instant::now(), self.id);
        self.connection.pump();
    }

    /// Opens the stream of a unidirectional session, and serves it.
    async fn serve_unidirectional(self, options: webtransport::Options) {
        match tokio::time::timeout(options.stream_open_timeout, self.open_stream()).await {
            Ok(Some(send)) => webtransport::serve(self, options, send, None, Bytes::new()).await,
            // The connection is gone.
            Ok(None) => {}
            // The client lets the server open no stream.
            Err(_) => {
                let stale = gyre_protocol::Disconnect::STALE;
                self.close(stale.code, &stale.reason);
            }
        }
    }

    async fn open_stream(&self) -> Option<SendStream> {
        let link = &self.connection.link;
        let stream = poll_fn(|cx| link.poll_open(cx)).await?;
        let mut send = SendStream::new(link.clone(), stream);
        let mut header = [Bytes::from(gyre_h3::Connection::unidirectional_header(self.id))];
        while !header[0].is_empty() {
            poll_fn(|cx| send.poll_write(cx, &mut header)).await.ok()?;
        }
        Some(send)
    }

    /// True once the session is over.
    pub fn has_ended(&self) -> bool {
        self.state.event.borrow().is_some()
    }

    /// Waits until the session is over.
    pub async fn ended(&self) -> SessionEvent {
        loop {
            if let Some(event) = self.state.event.borrow().clone() {
                return event;
            }
            self.state.changed.notified().await;
        }
    }
}

impl Connection {
    pub(super) fn new(
        link: Rc<Link>,
        peer: Peer,
        h3: Arc<gyre_h3::Config>,
        handler: Rc<dyn Handler>,
    ) -> Rc<Self> {
        let h3 = RefCell::new(gyre_h3::Connection::new(h3, Instant::now()));
        Rc::new(Self { link, h3, state: RefCell::default(), handler, peer, reason: RefCell::default() })
    }

    /// When it wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (quic, h3) = (self.link.quic.borrow_mut().poll_timeout(), self.h3.borrow().poll_timeout());
        quic.into_iter().chain(h3).min()
    }

    /// Lets timers expire that are due.
    pub(super) fn handle_timeout(self: &Rc<Self>, now: Instant) {
        self.link.quic.borrow_mut().handle_timeout(now);
        if self.h3.borrow().poll_timeout().is_some_and(|at| at <= now) {
            let result = self.h3.borrow_mut().handle_timeout(now);
            self.settle(result);
        }
        self.link.mark();
    }

    /// The server is about to stop: no new requests, please.
    pub(super) fn drain(self: &Rc<Self>) {
        self.h3.borrow_mut().drain();
        self.pump();
    }

    /// True if nothing is going on on it: what was to be sent has been acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        state.sessions.is_empty() && state.answers.is_empty() && state.writers.is_empty()
    }

    /// Closes a connection that nothing is going on on. One that carried sessions is left to its peer: a browser that hears
    /// of the end of the connection forgets how its sessions ended.
    pub(super) fn close_if_idle(&self) {
        let is_left_alone = self.state.borrow().had_session || !self.is_idle();
        if !is_left_alone && !self.link.quic.borrow().is_closed() {
            self.link.close(varint(Code::H3_NO_ERROR), b"");
            self.end();
        }
    }

    /// Hands on what happened on the connection.
    pub(super) fn handle_events(self: &Rc<Self>, now: Instant) {
        loop {
            let Some(event) = self.link.quic.borrow_mut().poll() else { break };
            match event {
                // SETTINGS go out with the server's first flight, so that a session can be asked for one round trip
                // earlier.
                quinn_proto::Event::HandshakeDataReady | quinn_proto::Event::Connected => self.pump(),
                quinn_proto::Event::Stream(event) => self.handle_stream_event(event, now),
                quinn_proto::Event::DatagramReceived => self.read_datagrams(),
                quinn_proto::Event::DatagramsUnblocked => {}
                quinn_proto::Event::ConnectionLost { reason } => {
                    tracing::debug!(peer = %self.peer.address, %reason, "QUIC connection lost");
                    *self.reason.borrow_mut() = Some(reason);
                    self.end();
                }
            }
        }
        let paused = std::mem::take(&mut self.state.borrow_mut().paused);
        paused.into_iter().for_each(|stream| self.read(stream, now));
    }

    fn handle_stream_event(self: &Rc<Self>, event: StreamEvent, now: Instant) {
        match event {
            StreamEvent::Opened { dir } => loop {
                let Some(stream) = self.link.quic.borrow_mut().streams().accept(dir) else { break };
                self.read(stream.into(), now);
            },
            StreamEvent::Readable { id } => {
                if !self.link.wake_reader(id) {
                    self.read(id.into(), now);
                }
            }
            StreamEvent::Writable { id } => {
                if !self.link.wake_writer(id) {
                    self.write_on(id.into());
                }
            }
            StreamEvent::Finished { id } => {
                if !self.link.wake_writer(id) {
                    self.done_writing(id.into());
                }
            }
            StreamEvent::Stopped { id, .. } => {
                if !self.link.wake_writer(id) {
                    self.stopped(id.into());
                }
            }
            StreamEvent::Available { dir: Dir::Uni } => {
                self.write_control();
                self.link.opening();
            }
            StreamEvent::Available { dir: Dir::Bi } => {}
        }
    }

    fn read_datagrams(self: &Rc<Self>) {
        loop {
            let Some(datagram) = self.link.quic.borrow_mut().datagrams().recv() else { break };
            let result = self.h3.borrow_mut().handle_datagram(datagram);
            self.settle(result);
        }
    }

    /// The connection is gone: sessions and bodies are told.
    pub(super) fn end(&self) {
        self.link.lose();
        let state = std::mem::take(&mut *self.state.borrow_mut());
        for session in state.sessions.values() {
            session.event.borrow_mut().get_or_insert(SessionEvent::Ended { close: None });
            session.changed.notify_waiters();
        }
        for body in state.bodies.values() {
            body.cancel();
        }
        for answer in state.answers.values() {
            answer.abort();
        }
        for writer in state.writers.values() {
            writer.changed.notify_one();
        }
    }

    /// Reads a stream until nothing is there, it ends, or it belongs to a session.
    fn read(self: &Rc<Self>, stream: StreamId, now: Instant) {
        loop {
            {
                let mut state = self.state.borrow_mut();
                if state.parked.contains(&stream) {
                    return;
                }
                if state.bodies.get(&stream).is_some_and(|body| !body.has_room()) {
                    return state.paused.push(stream);
                }
            }
            let result = match self.link.read(number(stream), READ_BYTES) {
                Poll::Pending | Poll::Ready(Err(ReadError::Closed)) => return,
                Poll::Ready(Ok(Some(chunk))) => {
                    self.h3.borrow_mut().handle_stream(now, stream, chunk.bytes, false)
                }
                Poll::Ready(Ok(None)) => {
                    let result = self.h3.borrow_mut().handle_stream(now, stream, Bytes::new(), true);
                    return self.settle(result.map(|_| ()));
                }
                Poll::Ready(Err(ReadError::Reset)) => {
                    let result = self.h3.borrow_mut().handle_reset(now, stream);
                    return self.settle(result);
                }
            };
            if let Ok(Reading::Stop) = result {
                self.state.borrow_mut().parked.insert(stream);
                return self.settle(Ok(()));
            }
            self.settle(result.map(|_| ()));
        }
    }

    fn settle(self: &Rc<Self>, result: Result<(), gyre_h3::ConnectionError>) {
        self.pump();
        if let Err(error) = result {
            tracing::debug!(peer = %self.peer.address, %error, "HTTP/3 connection broken");
            self.link.close(varint(error.code), error.reason.as_bytes());
            self.end();
        }
    }

    /// Carries out what `h3` has to say, then what it wants sent.
    pub(super) fn pump(self: &Rc<Self>) {
        loop {
            let Some(event) = self.h3.borrow_mut().poll_event() else { break };
            self.handle_event(event);
        }
        loop {
            let Some(transmit) = self.h3.borrow_mut().poll_transmit() else { break };
            self.transmit(transmit);
        }
        self.link.mark();
    }

    fn handle_event(self: &Rc<Self>, event: Event) {
        match event {
            Event::Request { stream, head } => {
                let link = self.link.clone();
                let body = Rc::new(request::BodyQueue::new(Rc::new(move || link.mark())));
                self.state.borrow_mut().bodies.insert(stream, body.clone());
                let service = self.handler.service();
                let connection = self.clone();
                let answer = tokio::task::spawn_local(async move {
                    request::answer(connection.clone(), service, stream, head, body).await;
                    connection.state.borrow_mut().answers.remove(&stream);
                });
                self.state.borrow_mut().answers.insert(stream, answer.abort_handle());
            }
            Event::Body { stream, data } => {
                if let Some(body) = self.state.borrow().bodies.get(&stream) {
                    body.push(data);
                }
            }
            Event::End { stream } => {
                if let Some(body) = self.state.borrow_mut().bodies.remove(&stream) {
                    body.end();
                }
            }
            Event::Cancelled { stream } => {
                let (body, answer) = {
                    let mut state = self.state.borrow_mut();
                    (state.bodies.remove(&stream), state.answers.remove(&stream))
                };
                if let Some(body) = body {
                    body.cancel();
                }
                if let Some(answer) = answer {
                    answer.abort();
                }
            }
            Event::SessionRequest { session, head } => self.decide(session, &head),
            Event::SessionStream { session, stream, data, fin } => {
                self.session_stream(session, stream, data, fin)
            }
            // Nothing is defined on datagrams: they are counted by QUIC and dropped.
            Event::SessionDatagram { .. } | Event::GoAway => {}
            Event::SessionEnded { session, close } => {
                self.handler.statistics().session_ended(close.as_ref().map(|(code, _)| *code));
                if let Some(state) = self.state.borrow_mut().sessions.remove(&session) {
                    *state.event.borrow_mut() = Some(SessionEvent::Ended { close });
                    state.changed.notify_waiters();
                }
            }
        }
    }

    fn decide(self: &Rc<Self>, session: StreamId, head: &gyre_h3::RequestHead) {
        let options = match self.handler.session(head, self.peer) {
            Ok(options) => options,
            Err(status) => {
                self.handler.statistics().session_refused(status);
                let head = gyre_h3::ResponseHead::status(status);
                return self.h3.borrow_mut().respond(Instant::now(), session, &head, true);
            }
        };
        self.handler.statistics().count(|counts| counts.sessions += 1);
        let timeout = options.stream_open_timeout;
        let state = Rc::<SessionState>::default();
        {
            let mut all = self.state.borrow_mut();
            all.had_session = true;
            all.sessions.insert(session, state.clone());
        }
        self.h3.borrow_mut().accept_session(session, Vec::new(), head);
        let handle = Session { id: session, connection: self.clone(), state };
        if options.is_unidirectional() {
            // Streams of the client's are too many from now on.
            handle.state.has_stream.set(true);
            drop(tokio::task::spawn_local(handle.serve_unidirectional(options)));
            return;
        }
        *handle.state.options.borrow_mut() = Some(options);
        tokio::task::spawn_local(async move {
            let ended = tokio::time::timeout(timeout, handle.ended()).await;
            if ended.is_err() && !handle.state.has_stream.get() {
                let stale = gyre_protocol::Disconnect::STALE;
                handle.close(stale.code, &stale.reason);
            }
        });
    }

    /// The first bidirectional stream carries the protocol; others are refused without harm.
    fn session_stream(self: &Rc<Self>, session: StreamId, stream: StreamId, data: Bytes, fin: bool) {
        let state = {
            let mut state = self.state.borrow_mut();
            state.parked.remove(&stream);
            state.sessions.get(&session).cloned()
        };
        let id = number(stream);
        let is_bidirectional = id.dir() == Dir::Bi;
        match state {
            Some(state) if is_bidirectional && !state.has_stream.replace(true) => {
                let Some(options) = state.options.take() else { return };
                let handle = Session { id: session, connection: self.clone(), state };
                let send = SendStream::new(self.link.clone(), id);
                let receive = (!fin).then(|| RecvStream::new(self.link.clone(), id));
                tokio::task::spawn_local(webtransport::serve(handle, options, send, receive, data));
            }
            _ => {
                let code = varint(gyre_h3::application_error(0));
                // Both fail only if the stream had ended.
                if is_bidirectional {
                    _ = self.link.reset(id, code);
                }
                _ = self.link.stop(id, code);
            }
        }
    }

    fn transmit(self: &Rc<Self>, transmit: Transmit) {
        match transmit {
            Transmit::OpenControl(data) | Transmit::Control(data) => {
                self.state.borrow_mut().control_queue.push_back(data.into());
                self.write_control();
            }
            Transmit::Write { stream, data, fin } => self.write(stream, data, fin),
            Transmit::Reset { stream, code } => {
                // Fails only if the stream is finished or gone.
                _ = self.link.reset(number(stream), varint(code));
                self.done_writing(stream);
            }
            Transmit::Stop { stream, code } => {
                self.state.borrow_mut().parked.remove(&stream);
                // Fails only if the stream has ended by itself.
                _ = self.link.stop(number(stream), varint(code));
            }
            Transmit::Close { code } => {
                self.link.close(varint(code), b"");
                self.end();
            }
        }
    }

    /// Writes what waits for the control stream, as soon as there is one.
    fn write_control(&self) {
        let mut state = self.state.borrow_mut();
        let State { control, control_queue, .. } = &mut *state;
        if control_queue.is_empty() {
            return;
        }
        if control.is_none() {
            *control = self.link.open();
        }
        let Some(stream) = *control else { return };
        while let Some(data) = control_queue.front_mut()
            && let Ok(written) = self.link.write(stream, std::slice::from_mut(data))
        {
            if written == 1 {
                control_queue.pop_front();
            }
        }
    }

    fn write(self: &Rc<Self>, stream: StreamId, data: Bytes, fin: bool) {
        let writer = self.state.borrow_mut().writers.entry(stream).or_default().clone();
        writer.queue.borrow_mut().push_back((data, fin));
        self.write_on(stream);
    }

    /// Writes what waits for a stream, as much as QUIC takes.
    fn write_on(self: &Rc<Self>, stream: StreamId) {
        if self.state.borrow().control == Some(number(stream)) {
            return self.write_control();
        }
        let Some(writer) = self.writer(stream) else { return };
        loop {
            let mut queue = writer.queue.borrow_mut();
            let Some((data, fin)) = queue.front_mut() else { break };
            let fin = *fin;
            let written = match data.is_empty() {
                true => Ok(1),
                false => self.link.write(number(stream), std::slice::from_mut(data)),
            };
            match written {
                Ok(0) => {}
                Ok(_) => drop(queue.pop_front()),
                Err(WriteError::Blocked) => return,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    drop(queue);
                    return self.stopped(stream);
                }
            }
            if fin && queue.is_empty() && self.link.finish(number(stream)).is_err() {
                drop(queue);
                return self.stopped(stream);
            }
        }
        writer.changed.notify_one();
    }

    /// The peer wants no more of a stream.
    fn stopped(self: &Rc<Self>, stream: StreamId) {
        self.done_writing(stream);
        self.h3.borrow_mut().handle_stop(Instant::now(), stream);
        self.pump();
    }

    fn done_writing(&self, stream: StreamId) {
        if let Some(writer) = self.state.borrow_mut().writers.remove(&stream) {
            writer.changed.notify_one();
        }
    }

    /// Answers a request: its head; with `is_over` that is all.
    pub(super) fn respond(self: &Rc<Self>, stream: StreamId, head: &gyre_h3::ResponseHead, is_over: bool) {
        self.h3.borrow_mut().respond(Instant::now(), stream, head, is_over);
        self.pump();
    }

    /// Sends a piece of a response's body.
    pub(super) fn send_body(self: &Rc<Self>, stream: StreamId, data: &[u8], is_over: bool) {
        self.h3.borrow_mut().send_body(Instant::now(), stream, data, is_over);
        self.pump();
    }

    /// Gives up a response that cannot be completed.
    pub(super) fn abort_response(self: &Rc<Self>, stream: StreamId) {
        self.h3.borrow_mut().abort_response(Instant::now(), stream);
        self.pump();
    }

    /// Waits until QUIC has taken all that was sent on a stream, or the stream is done with.
    pub(super) async fn written(&self, stream: StreamId) {
        while let Some(writer) = self.writer(stream)
            && !writer.queue.borrow().is_empty()
        {
            writer.changed.notified().await;
        }
    }

    /// Waits until a stream is done with.
    pub(super) async fn finished(&self, stream: StreamId) {
        while let Some(writer) = self.writer(stream) {
            writer.changed.notified().await;
        }
    }

    fn writer(&self, stream: StreamId) -> Option<Rc<Writer>> {
        self.state.borrow().writers.get(&stream).cloned()
    }
}

/// A stream's number as QUIC has it. Those of `gyre-h3` come from there.
fn number(stream: StreamId) -> quinn_proto::StreamId {
    VarInt::from_u64(stream).unwrap_or(VarInt::MAX).into()
}
