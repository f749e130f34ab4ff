//! One HTTP/3 connection, server side: its state, its inputs and outputs, its timers.
//!
//! Streams by kind are in the modules below: `control` (unidirectional ones), `request` (requests and responses),
//! `webtransport` (sessions). Each input ends with [`Connection::settle`], which keeps the timers true.

mod control;
mod early;
mod request;
mod webtransport;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    Config, Event, Reading, StreamId, Transmit,
    arrivals::Arrivals,
    error::{Code, ConnectionError},
    frame::{self, Reader},
    qpack::{self, DecoderStream},
    rate::Rate,
    session::{Phase, Session},
    settings::{self, Dialect, PeerSettings},
    varint::Partial,
};
use control::{CriticalStreams, PeerIds};
use early::Early;
use request::{RequestPhase, RequestStream};

/// Events and transmits for which room is kept when all have been taken.
const QUEUE_KEPT: usize = 16;
/// What a connection may take by itself; an idle session adds its streams' states and itself.
const CONNECTION_BYTES_MAX: usize = 416;
const _: () = assert!(size_of::<Connection>() <= CONNECTION_BYTES_MAX);
const _: () = assert!(size_of::<(StreamId, Stream)>() <= 32);

/// One HTTP/3 connection, server side.
///
/// Hand in what QUIC reports with `handle_*`, then take all of [`Self::poll_event`] and [`Self::poll_transmit`], and
/// call [`Self::handle_timeout`] at [`Self::poll_timeout`]. After an error the connection is of no more use: close it
/// with the error's code.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    /// Streams that are read here: the critical ones, requests, sessions. A handful.
    streams: Vec<(StreamId, Stream)>,
    sessions: Vec<Session>,
    early: Early,
    peer: Option<PeerSettings>,
    peer_ids: PeerIds,
    critical: CriticalStreams,
    bidi: Arrivals,
    uni: Arrivals,
    /// Requests whose answer is not complete, and sessions that are not over.
    requests: Vec<StreamId>,
    unknown: Rate,
    given_up: Rate,
    oversized: u32,
    drain: Drain,
    takes_datagrams: bool,
    had_session: bool,
    is_closed: bool,
    probe_timeout: Duration,
    /// When the connection ends unless something begins.
    idle_at: Option<Instant>,
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
}

#[derive(Debug)]
enum Stream {
    /// A unidirectional stream whose type is not complete.
    UniType(Partial),
    /// A WebTransport stream whose session id is not complete.
    SessionId(Partial),
    Control(Box<Reader>),
    Encoder,
    Decoder(DecoderStream),
    /// A bidirectional stream whose first varint is not complete.
    Start(Partial),
    Request(Box<RequestStream>),
}

/// How far winding down has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    None,
    /// Sessions are rejected, and those that are open told to end.
    Announced,
    /// Requests from this id on are rejected too.
    Final(StreamId),
}

type Handled<T = ()> = Result<T, ConnectionError>;

const fn fatal<T>(code: Code, reason: &'static str) -> Handled<T> {
    Err(ConnectionError::new(code, reason))
}

fn is_uni(id: StreamId) -> bool {
    id & 2 != 0
}

impl Connection {
    /// A connection whose handshake is done, or that may send in 0.5 RTT. The first transmit is its SETTINGS.
    pub fn new(config: Arc<Config>, now: Instant) -> Self {
        let settings = settings::encode(&config);
        let mut control = vec![control::CONTROL as u8];
        control.extend(frame::whole(frame::SETTINGS, &settings));
        Self {
            config,
            streams: Vec::new(),
            sessions: Vec::new(),
            early: Early::default(),
            peer: None,
            peer_ids: PeerIds::default(),
            critical: CriticalStreams::default(),
            bidi: Arrivals::default(),
            uni: Arrivals::default(),
            requests: Vec::new(),
            unknown: Rate::new(now),
            given_up: Rate::new(now),
            oversized: 0,
            drain: Drain::None,
            takes_datagrams: true,
            had_session: false,
            is_closed: false,
            probe_timeout: Duration::ZERO,
            idle_at: None,
            events: VecDeque::new(),
            transmits: VecDeque::from([Transmit::OpenControl(control)]),
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        pop(&mut self.events)
    }

    /// The next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        pop(&mut self.transmits)
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sessions = self.sessions.iter().filter_map(|session| match session.phase {
            Phase::Held { until, .. } | Phase::Closing { until } => Some(until),
            Phase::Requested | Phase::Open => None,
        });
        sessions.chain(self.early.deadline()).chain(self.idle_at).min()
    }

    /// Does what is due.
    ///
    /// # Errors
    /// `H3_MISSING_SETTINGS` if the peer asked for a session and never sent its SETTINGS.
    pub fn handle_timeout(&mut self, now: Instant) -> Handled {
        self.sessions_timed_out(now)?;
        for early in self.early.expire(now) {
            self.refuse_stream(early.stream, Code::WT_BUFFERED_STREAM_REJECTED);
        }
        self.settle(now);
        if self.idle_at.is_some_and(|at| at <= now) {
            self.close(Code::H3_NO_ERROR);
        }
        Ok(())
    }

    /// Takes bytes of a stream the peer opened, and whether it ended behind them.
    ///
    /// # Errors
    /// The code to close the connection with.
    pub fn handle_stream(&mut self, now: Instant, id: StreamId, data: Bytes, fin: bool) -> Handled<Reading> {
        let reading = match self.stream(id) {
            Some(stream) => self.dispatch(now, id, stream, data, fin)?,
            None => {
                // The answer was complete, or the stream refused, while more was on the way.
                if !fin {
                    self.transmits.push_back(Transmit::Stop { stream: id, code: Code::H3_NO_ERROR });
                }
                Reading::Stop
            }
        };
        self.settle(now);
        Ok(reading)
    }

    /// The peer reset a stream it was sending on, and which this connection reads.
    ///
    /// # Errors
    /// If the stream is critical, or the peer gives up too many requests.
    pub fn handle_reset(&mut self, now: Instant, id: StreamId) -> Handled {
        match self.stream(id) {
            Some(Stream::Control(_) | Stream::Encoder | Stream::Decoder(_)) => {
                return fatal(Code::H3_CLOSED_CRITICAL_STREAM, "a critical stream was reset");
            }
            Some(Stream::Request(request)) => {
                self.count_given_up(now)?;
                self.request_given_up(id, &request);
            }
            Some(Stream::Start(_) | Stream::SessionId(_)) if !is_uni(id) => {
                self.count_given_up(now)?;
                // Nobody else knows that our side exists.
                self.transmits.push_back(Transmit::Reset { stream: id, code: Code::H3_REQUEST_CANCELLED });
                self.reject_early(id, Code::WT_SESSION_GONE);
            }
            _ => {}
        }
        self.settle(now);
        Ok(())
    }

    /// The peer wants nothing more on a stream we send on.
    pub fn handle_stop(&mut self, now: Instant, id: StreamId) {
        if !self.requests.contains(&id) {
            return;
        }
        if self.given_up.exceeds(now, 1, self.config.resets_max) {
            return self.close(Code::H3_EXCESSIVE_LOAD);
        }
        match self.session_index(id) {
            // Our close is on the way: the peer's end of the stream is still worth waiting for.
            Some(at) if matches!(self.sessions[at].phase, Phase::Closing { .. }) => {}
            Some(at) => self.abort_session(at, Code::H3_REQUEST_CANCELLED),
            None => {
                let has_head = !matches!(self.request_phase(id), Some(RequestPhase::Head));
                self.take_stream(id);
                self.cancel(id, has_head);
            }
        }
        self.settle(now);
    }

    /// QUIC says that the peer takes no datagrams (`max_datagram_frame_size` is 0): it cannot have sessions. To be
    /// told before anything is handled.
    pub fn without_datagrams(&mut self) {
        self.takes_datagrams = false;
    }

    /// Tells QUIC's probe timeout: the bound on waiting for the peer after a close is three of them, if that is longer
    /// than [`Config::close_timeout`]. Holds for closes from now on.
    ///
    /// Spec: RFC 9002 section 6.2.1
    pub fn set_probe_timeout(&mut self, probe_timeout: Duration) {
        self.probe_timeout = probe_timeout;
    }

    /// The draft the peer speaks, once its SETTINGS are known.
    pub fn dialect(&self) -> Option<Dialect> {
        self.peer.map(|peer| peer.dialect(self.config.dialects))
    }

    fn dispatch(
        &mut self,
        now: Instant,
        id: StreamId,
        stream: Stream,
        data: Bytes,
        fin: bool,
    ) -> Handled<Reading> {
        match stream {
            Stream::UniType(partial) => self.uni_type(now, id, partial, data, fin),
            Stream::SessionId(partial) => self.session_id(id, partial, data, fin),
            Stream::Start(partial) => self.start(now, id, partial, data, fin),
            Stream::Control(reader) => self.control(now, id, reader, data, fin),
            Stream::Encoder => {
                qpack::check_encoder_stream(&data)?;
                self.keep_critical(id, Stream::Encoder, fin)
            }
            Stream::Decoder(mut decoder) => {
                decoder.handle(&data)?;
                self.keep_critical(id, Stream::Decoder(decoder), fin)
            }
            Stream::Request(request) => self.request(now, id, request, data, fin),
        }
    }

    /// The state of a stream, taken out, or the first state of a new one. `None` if it is not read any more.
    fn stream(&mut self, id: StreamId) -> Option<Stream> {
        if id & 1 != 0 {
            // Ours, which the peer does not send on.
            return None;
        }
        if let Some(stream) = self.take_stream(id) {
            return Some(stream);
        }
        let (arrivals, first) = match is_uni(id) {
            true => (&mut self.uni, Stream::UniType(Partial::default())),
            false => (&mut self.bidi, Stream::Start(Partial::default())),
        };
        arrivals.arrive(id >> 2).then_some(first)
    }

    fn take_stream(&mut self, id: StreamId) -> Option<Stream> {
        let at = self.streams.iter().position(|(known, _)| *known == id)?;
        Some(self.streams.swap_remove(at).1)
    }

    fn keep_stream(&mut self, id: StreamId, stream: Stream) -> Reading {
        self.streams.push((id, stream));
        Reading::Continue
    }

    /// Ends a stream of the peer's in both directions.
    fn refuse_stream(&mut self, stream: StreamId, code: Code) {
        self.transmits.push_back(Transmit::Stop { stream, code });
        if !is_uni(stream) {
            self.transmits.push_back(Transmit::Reset { stream, code });
        }
    }

    fn count_unknown(&mut self, now: Instant, more: u32) -> Handled {
        match more > 0 && self.unknown.exceeds(now, more, self.config.unknown_max) {
            true => fatal(Code::H3_EXCESSIVE_LOAD, "too many unknown frames and streams"),
            false => Ok(()),
        }
    }

    fn count_given_up(&mut self, now: Instant) -> Handled {
        match self.given_up.exceeds(now, 1, self.config.resets_max) {
            true => fatal(Code::H3_EXCESSIVE_LOAD, "too many requests were given up"),
            false => Ok(()),
        }
    }

    /// Sets the timers by what an input changed. A connection that carried sessions and has nothing left to do ends
    /// soon: browsers leave theirs behind without a word.
    fn settle(&mut self, now: Instant) {
        self.early.limit(now + self.config.early_timeout);
        let is_idle = self.had_session && self.requests.is_empty() && !self.is_closed;
        self.idle_at = is_idle.then(|| self.idle_at.unwrap_or(now + self.config.linger));
    }

    fn close(&mut self, code: Code) {
        self.idle_at = None;
        if !std::mem::replace(&mut self.is_closed, true) {
            self.transmits.push_back(Transmit::Close { code });
        }
    }
}

/// Takes the next item; a queue that is empty gives back what a burst made it grow to.
fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let item = queue.pop_front();
    if queue.is_empty() && queue.capacity() > QUEUE_KEPT {
        *queue = VecDeque::new();
    }
    item
}
