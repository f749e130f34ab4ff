//! One QUIC connection: streams and datagrams to `gyre-h3`, and what it wants sent back to QUIC.
//!
//! Each stream is read by a small task of its own, until it turns out to be a session's; then it is handed over.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gyre_h3::{Code, Event, Reading, StreamId, Transmit};
use quinn::{ReadError, RecvStream, SendStream};
use tokio::{sync::Notify, task::AbortHandle};

use super::{Handler, request, varint};
use crate::{
    http::{Peer, Shutdown},
    webtransport,
};

/// Bytes read from a stream at a time.
const READ_BYTES: usize = 64 * 1024;
/// How long a peer may take to acknowledge the end of a stream.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);

/// What tasks of one connection share.
pub(super) struct Shared {
    pub(super) quic: quinn::Connection,
    h3: RefCell<gyre_h3::Connection>,
    state: RefCell<State>,
    handler: Rc<dyn Handler>,
    pub(super) peer: Peer,
    /// The timer of `h3` may have changed, or there is something to send.
    changed: Notify,
}

#[derive(Default)]
struct State {
    control: Option<SendStream>,
    sends: HashMap<StreamId, SendStream>,
    receives: HashMap<StreamId, RecvStream>,
    writers: HashMap<StreamId, Rc<Writer>>,
    sessions: HashMap<StreamId, Rc<SessionState>>,
    bodies: HashMap<StreamId, Rc<request::BodyQueue>>,
    /// Tasks that answer requests.
    answers: HashMap<StreamId, AbortHandle>,
}

/// What waits for a request's or session's own stream: of a response, its head and one piece of its body at most.
#[derive(Default)]
struct Writer {
    queue: RefCell<VecDeque<(Bytes, bool)>>,
    /// The stream is to be reset, whatever waits.
    reset: Cell<Option<Code>>,
    /// Something was queued, or `reset` set.
    added: Notify,
    /// All that was queued is given to QUIC.
    is_idle: Cell<bool>,
    /// `is_idle` became true, or the stream is done with.
    changed: Notify,
}

enum WriteOp {
    Data(Bytes, bool),
    Reset(Code),
}

impl Writer {
    fn add(&self, op: WriteOp) {
        match op {
            WriteOp::Data(data, fin) => {
                self.is_idle.set(false);
                self.queue.borrow_mut().push_back((data, fin));
            }
            WriteOp::Reset(code) => self.reset.set(Some(code)),
        }
        self.added.notify_one();
    }

    /// Waits for the wish to reset the stream.
    async fn reset(&self) {
        while self.reset.get().is_none() {
            self.added.notified().await;
        }
    }
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
    shared: Rc<Shared>,
    state: Rc<SessionState>,
}

impl Session {
    /// Closes the session with code and reason. What the peer is to read must have been acknowledged before.
    pub fn close(&self, code: u32, reason: &str) {
        self.shared.h3.borrow_mut().close_session(Instant::now(), self.id, code, reason);
        self.shared.pump();
    }

    /// Ends a session whose peer has left already.
    pub fn end(&self) {
        self.shared.h3.borrow_mut().end_session_quietly(Instant::now(), self.id);
        self.shared.pump();
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
        let mut send = self.shared.quic.open_uni().await.ok()?;
        let header = gyre_h3::Connection::unidirectional_header(self.id);
        send.write_all(&header).await.ok()?;
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

/// Does the handshake and serves the connection until it ends.
pub(super) async fn serve(
    incoming: quinn::Incoming,
    h3: Arc<gyre_h3::Config>,
    handler: Rc<dyn Handler>,
    shutdown: Shutdown,
) {
    let statistics = handler.statistics().clone();
    statistics.count(|counts| counts.handshakes += 1);
    let failed = |error: quinn::ConnectionError| {
        statistics.count(|counts| counts.handshakes_failed += 1);
        tracing::debug!(%error, "QUIC handshake failed");
    };
    let mut connecting = match incoming.accept() {
        Ok(connecting) => connecting,
        Err(error) => return failed(error),
    };
    // A ClientHello may come in several datagrams, and no stream can be opened before the transport parameters in it
    // are known: quinn would never wake a task that tried earlier, and SETTINGS would not be sent at all.
    if let Err(error) = connecting.handshake_data().await {
        return failed(error);
    }
    // SETTINGS go out with the server's first flight, so that a session can be asked for one round trip earlier.
    let quic = match connecting.into_0rtt() {
        Ok((quic, _)) => quic,
        Err(connecting) => match connecting.await {
            Ok(quic) => quic,
            Err(error) => return failed(error),
        },
    };
    let peer = Peer { address: quic.remote_address(), is_tls: true };
    let _observed = statistics.observe(quic.clone());
    let shared = Rc::new(Shared {
        h3: RefCell::new(gyre_h3::Connection::new(h3, Instant::now())),
        state: RefCell::default(),
        handler,
        peer,
        changed: Notify::new(),
        quic,
    });
    shared.clone().run(shutdown).await;
}

impl Shared {
    async fn run(self: Rc<Self>, mut shutdown: Shutdown) {
        self.pump();
        let mut is_draining = false;
        loop {
            let deadline = self.h3.borrow().poll_timeout();
            let mut timeout = pin!(async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            });
            tokio::select! {
                stream = self.quic.accept_uni() => match stream {
                    Ok(receive) => drop(tokio::task::spawn_local(self.clone().read(receive))),
                    Err(_) => break,
                },
                stream = self.quic.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        self.state.borrow_mut().sends.insert(receive.id().into(), send);
                        tokio::task::spawn_local(self.clone().read(receive));
                    }
                    Err(_) => break,
                },
                datagram = self.quic.read_datagram() => match datagram {
                    Ok(data) => {
                        let result = self.h3.borrow_mut().handle_datagram(data);
                        self.settle(result);
                    }
                    Err(_) => break,
                },
                () = timeout.as_mut() => {
                    let result = self.h3.borrow_mut().handle_timeout(Instant::now());
                    self.settle(result);
                }
                () = self.changed.notified() => {}
                _ = shutdown.wait_for(|stop| *stop), if !is_draining => {
                    is_draining = true;
                    self.h3.borrow_mut().drain();
                    self.pump();
                }
            }
        }
        self.end();
    }

    /// The connection is gone: sessions and bodies are told.
    fn end(&self) {
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
            writer.add(WriteOp::Reset(Code::H3_NO_ERROR));
        }
    }

    /// Reads a stream until it ends or belongs to a session.
    async fn read(self: Rc<Self>, mut receive: RecvStream) {
        let id: StreamId = receive.id().into();
        loop {
            let body = self.state.borrow().bodies.get(&id).cloned();
            if let Some(body) = body {
                body.room().await;
            }
            let result = match receive.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => self.h3.borrow_mut().handle_stream(Instant::now(), id, chunk.bytes, false),
                Ok(None) => {
                    let result = self.h3.borrow_mut().handle_stream(Instant::now(), id, Bytes::new(), true);
                    return self.settle(result.map(|_| ()));
                }
                Err(ReadError::Reset(_)) => {
                    let result = self.h3.borrow_mut().handle_reset(Instant::now(), id);
                    return self.settle(result);
                }
                Err(_) => return,
            };
            if let Ok(Reading::Stop) = result {
                self.state.borrow_mut().receives.insert(id, receive);
                return self.settle(Ok(()));
            }
            self.settle(result.map(|_| ()));
        }
    }

    fn settle(self: &Rc<Self>, result: Result<(), gyre_h3::ConnectionError>) {
        self.pump();
        if let Err(error) = result {
            tracing::debug!(peer = %self.peer.address, %error, "HTTP/3 connection broken");
            self.quic.close(varint(error.code), error.reason.as_bytes());
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
        self.changed.notify_one();
    }

    fn handle_event(self: &Rc<Self>, event: Event) {
        match event {
            Event::Request { stream, head } => {
                let body = Rc::new(request::BodyQueue::default());
                self.state.borrow_mut().bodies.insert(stream, body.clone());
                let service = self.handler.service();
                let shared = self.clone();
                let answer = tokio::task::spawn_local(async move {
                    request::answer(shared.clone(), service, stream, head, body).await;
                    shared.state.borrow_mut().answers.remove(&stream);
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
        self.state.borrow_mut().sessions.insert(session, state.clone());
        self.h3.borrow_mut().accept_session(session, Vec::new(), head);
        let handle = Session { id: session, shared: self.clone(), state };
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
        let (state, send, receive) = {
            let mut state = self.state.borrow_mut();
            let session = state.sessions.get(&session).cloned();
            (session, state.sends.remove(&stream), state.receives.remove(&stream))
        };
        match (state, send, receive) {
            (Some(state), Some(send), receive) if !state.has_stream.replace(true) => {
                let Some(options) = state.options.take() else { return };
                let handle = Session { id: session, shared: self.clone(), state };
                let receive = receive.filter(|_| !fin);
                tokio::task::spawn_local(webtransport::serve(handle, options, send, receive, data));
            }
            (_, send, receive) => {
                let code = varint(gyre_h3::application_error(0));
                if let Some(mut send) = send
                    && let Err(error) = send.reset(code)
                {
                    tracing::trace!(%error, "an extra stream had ended");
                }
                if let Some(mut receive) = receive
                    && let Err(error) = receive.stop(code)
                {
                    tracing::trace!(%error, "an extra stream had ended");
                }
            }
        }
    }

    fn transmit(self: &Rc<Self>, transmit: Transmit) {
        match transmit {
            Transmit::OpenControl(data) => drop(tokio::task::spawn_local(self.clone().open_control(data))),
            Transmit::Control(data) => drop(tokio::task::spawn_local(self.clone().write_control(data))),
            Transmit::Write { stream, data, fin } => self.write(stream, WriteOp::Data(data, fin)),
            Transmit::Reset { stream, code } => self.write(stream, WriteOp::Reset(code)),
            Transmit::Stop { stream, code } => {
                if let Some(mut receive) = self.state.borrow_mut().receives.remove(&stream) {
                    // Fails only if the stream has ended by itself.
                    drop(receive.stop(varint(code)));
                }
            }
            Transmit::Close { code } => self.quic.close(varint(code), b""),
        }
    }

    async fn open_control(self: Rc<Self>, data: Vec<u8>) {
        let Ok(mut send) = self.quic.open_uni().await else { return };
        if send.write_all(&data).await.is_ok() {
            self.state.borrow_mut().control = Some(send);
        }
    }

    async fn write_control(self: Rc<Self>, data: Vec<u8>) {
        let Some(mut send) = self.state.borrow_mut().control.take() else { return };
        if send.write_all(&data).await.is_ok() {
            self.state.borrow_mut().control = Some(send);
        }
    }

    fn write(self: &Rc<Self>, stream: StreamId, op: WriteOp) {
        let writer = {
            let mut state = self.state.borrow_mut();
            match state.writers.get(&stream) {
                Some(writer) => writer.clone(),
                None => {
                    let Some(send) = state.sends.remove(&stream) else { return };
                    let writer = Rc::<Writer>::default();
                    state.writers.insert(stream, writer.clone());
                    tokio::task::spawn_local(self.clone().write_stream(stream, send, writer.clone()));
                    writer
                }
            }
        };
        writer.add(op);
    }

    /// Writes a request's or session's stream until it is finished.
    async fn write_stream(self: Rc<Self>, stream: StreamId, mut send: SendStream, writer: Rc<Writer>) {
        loop {
            if let Some(code) = writer.reset.get() {
                // Fails only if the stream is finished or gone.
                drop(send.reset(varint(code)));
                break;
            }
            let next = writer.queue.borrow_mut().pop_front();
            let written = match next {
                Some((data, fin)) => {
                    let written = tokio::select! {
                        biased;
                        () = writer.reset() => continue,
                        written = send.write_chunk(data) => written,
                    };
                    if fin && written.is_ok() {
                        // Fails only if the peer has stopped the stream.
                        drop(send.finish());
                        // Acknowledged to its end, or not wanted any more.
                        drop(tokio::time::timeout(FINISH_TIMEOUT, send.stopped()).await);
                        break;
                    }
                    written
                }
                None => {
                    writer.is_idle.set(true);
                    writer.changed.notify_one();
                    tokio::select! {
                        () = writer.added.notified() => continue,
                        _ = send.stopped() => {
                            self.h3.borrow_mut().handle_stop(Instant::now(), stream);
                            self.pump();
                            break;
                        }
                    }
                }
            };
            if written.is_err() {
                self.h3.borrow_mut().handle_stop(Instant::now(), stream);
                self.pump();
                break;
            }
        }
        self.state.borrow_mut().writers.remove(&stream);
        writer.changed.notify_one();
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
            && !writer.is_idle.get()
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
