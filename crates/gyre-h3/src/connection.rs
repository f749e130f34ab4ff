//! One HTTP/3 connection, server side.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    capsule::{self, Capsule, CapsuleError, Capsules},
    error::{Code, ConnectionError},
    frame::{self, Piece, Plan, Reader},
    headers::{Refused, RequestHead, ResponseHead},
    qpack::{self, DecoderStream},
    session::{Phase, Session},
    settings::{self, Dialect, Dialects, PeerSettings},
    varint,
};

/// Id of a QUIC stream; its two lowest bits tell who opened it and whether it is unidirectional.
///
/// Spec: RFC 9000 section 2.1
pub type StreamId = u64;

/// Limits and choices of a server's connections.
#[derive(Clone, Debug)]
pub struct Config {
    /// Drafts of WebTransport offered.
    pub dialects: Dialects,
    /// WebTransport sessions of one connection; further ones are rejected. Default 1.
    pub sessions_max: usize,
    /// Bytes of a field section; more is answered with 431. Default 16 KiB.
    pub field_section_max: usize,
    /// Field lines of a request; more is answered with 431. Default 100.
    pub fields_max: usize,
    /// Bytes of the peer's SETTINGS; more ends the connection. Default 4 KiB.
    pub settings_max: usize,
    /// Bytes of a capsule that is looked at; more resets its session. Default 8 KiB.
    pub capsule_max: usize,
    /// Bytes of unknown capsules passed over in a session; more ends the connection. Default 64 KiB.
    pub skipped_capsules_max: usize,
    /// Unknown frames and streams of a connection; more ends it. Default 1,000.
    pub unknown_max: u32,
    /// Requests the peer reset within [`Config::RESET_WINDOW`]; more ends the connection. Default 100.
    pub resets_max: u32,
    /// WebTransport streams held for a session that is not accepted yet; more are rejected. Default 16.
    pub early_streams_max: usize,
    /// How long requests for sessions wait for the peer's SETTINGS. Default 5 s.
    pub settings_timeout: Duration,
    /// How long the peer's FIN is waited for after our close. Default 1 s.
    pub close_timeout: Duration,
    /// Between the end of the last session and the end of the connection. Default 250 ms: browsers lose the close
    /// code when the connection ends right behind it.
    pub linger: Duration,
    /// Picks the reserved setting that keeps peers tolerant.
    pub grease: u64,
}

impl Config {
    /// Over what [`Config::resets_max`] is counted.
    pub const RESET_WINDOW: Duration = Duration::from_secs(10);
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dialects: Dialects::ALL,
            sessions_max: 1,
            field_section_max: 16 * 1024,
            fields_max: 100,
            settings_max: 4096,
            capsule_max: 8 * 1024,
            skipped_capsules_max: 64 * 1024,
            unknown_max: 1000,
            resets_max: 100,
            early_streams_max: 16,
            settings_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(1),
            linger: Duration::from_millis(250),
            grease: 0,
        }
    }
}

/// Something for the application.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A request; its body follows.
    Request {
        /// Answer here.
        stream: StreamId,
        /// What is asked.
        head: Box<RequestHead>,
    },
    /// A part of a request's body.
    Body {
        /// The request.
        stream: StreamId,
        /// Never empty.
        data: Bytes,
    },
    /// The request is complete.
    End {
        /// The request.
        stream: StreamId,
    },
    /// The peer no longer wants the answer, or cut the request short.
    Cancelled {
        /// The request.
        stream: StreamId,
    },
    /// A WebTransport session is asked for: [`Connection::accept_session`] or [`Connection::respond`] with a refusal.
    SessionRequest {
        /// Names the session.
        session: StreamId,
        /// What is asked.
        head: Box<RequestHead>,
    },
    /// A stream of an accepted session. From here on the driver reads and writes it by itself.
    SessionStream {
        /// The session.
        session: StreamId,
        /// The stream.
        stream: StreamId,
        /// What came behind its header.
        data: Bytes,
        /// The stream has ended already.
        fin: bool,
    },
    /// A datagram of an accepted session.
    SessionDatagram {
        /// The session.
        session: StreamId,
        /// Its payload.
        data: Bytes,
    },
    /// The session is over. Whatever is open of its streams has to be reset and stopped with
    /// [`Code::WT_SESSION_GONE`].
    SessionEnded {
        /// The session.
        session: StreamId,
        /// Code and reason, if the peer closed it and gave some; (0, "") if it only ended the stream.
        close: Option<(u32, String)>,
    },
    /// The peer goes away: it will begin nothing more.
    GoAway,
}

/// Something to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Open a unidirectional stream, write this, and keep it open.
    OpenControl(Vec<u8>),
    /// Write on the control stream.
    Control(Vec<u8>),
    /// Write on a request's or session's stream.
    Write {
        /// The stream.
        stream: StreamId,
        /// May be empty.
        data: Bytes,
        /// Finish the stream.
        fin: bool,
    },
    /// Reset a stream's sending side.
    Reset {
        /// The stream.
        stream: StreamId,
        /// With this code.
        code: Code,
    },
    /// Stop a stream's receiving side.
    Stop {
        /// The stream.
        stream: StreamId,
        /// With this code.
        code: Code,
    },
    /// Close the QUIC connection: there is nothing left to do on it.
    Close {
        /// With this code.
        code: Code,
    },
}

/// Whether the driver goes on reading a stream for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reading {
    /// Hand in what comes.
    Continue,
    /// Leave the rest unread: it belongs to [`Event::SessionStream`], or to nobody.
    Stop,
}

#[derive(Debug)]
enum Stream {
    /// A unidirectional stream whose type is not complete.
    UniType(Vec<u8>),
    /// A WebTransport stream whose session id is not complete.
    SessionId(Vec<u8>),
    Control(Reader),
    Encoder,
    Decoder(DecoderStream),
    /// A bidirectional stream whose first varint is not complete.
    Start(Vec<u8>),
    Request(Box<RequestStream>),
}

#[derive(Debug, Default)]
struct RequestStream {
    reader: Reader,
    phase: RequestPhase,
    content_length: Option<u64>,
    received: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RequestPhase {
    #[default]
    Head,
    Body,
    Trailers,
    /// The CONNECT stream of a session: DATA holds capsules.
    Session,
    /// Answered without looking at the rest.
    Refused,
}

/// A WebTransport stream whose session is not accepted yet.
#[derive(Debug)]
struct Early {
    session: StreamId,
    stream: StreamId,
    data: Bytes,
    fin: bool,
}

/// One HTTP/3 connection, server side.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    streams: HashMap<StreamId, Stream>,
    sessions: Vec<Session>,
    early: Vec<Early>,
    /// Requests for sessions that wait for the peer's SETTINGS.
    held: Vec<(StreamId, Box<RequestHead>)>,
    peer: Option<PeerSettings>,
    seen: SeenStreams,
    /// Requests that are not answered, sessions included.
    open: Vec<StreamId>,
    had_session: bool,
    unknown: u32,
    resets: (u32, Instant),
    last_goaway: Option<u64>,
    is_draining: bool,
    settings_by: Option<Instant>,
    /// When the connection ends unless something begins.
    idle_at: Option<Instant>,
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
}

/// Critical streams of the peer that were opened.
#[derive(Debug, Default)]
struct SeenStreams {
    control: bool,
    encoder: bool,
    decoder: bool,
}

type Handled<T = ()> = Result<T, ConnectionError>;

const fn fatal<T>(code: Code, reason: &'static str) -> Handled<T> {
    Err(ConnectionError::new(code, reason))
}

impl Connection {
    /// A connection whose handshake is done, or that may send in 0.5 RTT.
    pub fn new(config: Arc<Config>, now: Instant) -> Self {
        let settings = settings::encode(
            config.dialects,
            config.field_section_max as u64,
            config.sessions_max as u64,
            config.grease,
        );
        let mut control = vec![0x00];
        control.extend(frame::whole(frame::SETTINGS, &settings));
        Self {
            config,
            streams: HashMap::new(),
            sessions: Vec::new(),
            early: Vec::new(),
            held: Vec::new(),
            peer: None,
            seen: SeenStreams::default(),
            open: Vec::new(),
            had_session: false,
            unknown: 0,
            resets: (0, now),
            last_goaway: None,
            is_draining: false,
            settings_by: None,
            idle_at: None,
            events: VecDeque::new(),
            transmits: VecDeque::from([Transmit::OpenControl(control)]),
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let closing = self.sessions.iter().filter_map(|session| match session.phase {
            Phase::Closing { until } => Some(until),
            _ => None,
        });
        closing.chain(self.settings_by).chain(self.idle_at).min()
    }

    /// Does what is due.
    ///
    /// # Errors
    /// `H3_MISSING_SETTINGS` if the peer asked for a session and never sent its SETTINGS.
    pub fn handle_timeout(&mut self, now: Instant) -> Handled {
        if self.settings_by.is_some_and(|at| at <= now) {
            return fatal(Code::H3_MISSING_SETTINGS, "a session was asked for without SETTINGS");
        }
        let overdue: Vec<StreamId> = self
            .sessions
            .iter()
            .filter(|session| matches!(session.phase, Phase::Closing { until } if until <= now))
            .map(|session| session.id)
            .collect();
        for session in overdue {
            self.end_session(now, session, None);
        }
        if self.idle_at.is_some_and(|at| at <= now) {
            self.idle_at = None;
            self.transmits.push_back(Transmit::Close { code: Code::H3_NO_ERROR });
        }
        Ok(())
    }

    /// Takes bytes of a stream the peer opened, and whether it ended behind them.
    ///
    /// # Errors
    /// The code to close the connection with.
    pub fn handle_stream(&mut self, now: Instant, id: StreamId, data: Bytes, fin: bool) -> Handled<Reading> {
        let is_uni = id & 2 != 0;
        let stream = match self.streams.remove(&id) {
            Some(stream) => stream,
            None if is_uni => Stream::UniType(Vec::new()),
            None => {
                self.idle_at = None;
                Stream::Start(Vec::new())
            }
        };
        match stream {
            Stream::UniType(head) => self.uni_type(now, id, head, data, fin),
            Stream::SessionId(head) => self.session_id(id, head, data, fin),
            Stream::Start(head) => self.start(now, id, head, data, fin),
            Stream::Control(reader) => self.control(id, reader, data, fin),
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

    /// The peer reset a stream it was sending on.
    ///
    /// # Errors
    /// If the stream is critical, or the peer resets too many requests.
    pub fn handle_reset(&mut self, now: Instant, id: StreamId) -> Handled {
        match self.streams.remove(&id) {
            Some(Stream::Control(_) | Stream::Encoder | Stream::Decoder(_)) => {
                fatal(Code::H3_CLOSED_CRITICAL_STREAM, "a critical stream was reset")
            }
            Some(Stream::Request(request)) => {
                let (count, since) = &mut self.resets;
                if now.duration_since(*since) > Config::RESET_WINDOW {
                    (*count, *since) = (0, now);
                }
                *count += 1;
                if *count > self.config.resets_max {
                    return fatal(Code::H3_EXCESSIVE_LOAD, "too many requests were reset");
                }
                match request.phase {
                    RequestPhase::Session => self.end_session(now, id, None),
                    _ => self.cancel(now, id),
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The peer wants nothing more on a stream we send on.
    pub fn handle_stop(&mut self, now: Instant, id: StreamId) {
        if self.sessions.iter().any(|session| session.id == id) {
            return self.end_session(now, id, None);
        }
        if matches!(self.streams.get(&id), Some(Stream::Request(_))) {
            self.streams.remove(&id);
            self.cancel(now, id);
        }
    }

    /// Takes a QUIC datagram.
    ///
    /// # Errors
    /// `H3_DATAGRAM_ERROR` without a whole id.
    pub fn handle_datagram(&mut self, mut data: Bytes) -> Handled {
        let Some(quarter) = varint::take(&mut data).filter(|&quarter| quarter < 1 << 60) else {
            return fatal(Code::H3_DATAGRAM_ERROR, "a datagram without a stream id");
        };
        let session = quarter * 4;
        if self.sessions.iter().any(|known| known.id == session && known.phase == Phase::Open) {
            self.events.push_back(Event::SessionDatagram { session, data });
        }
        Ok(())
    }

    /// Answers a request; with `fin` that is all. Also refuses a session.
    pub fn respond(&mut self, now: Instant, stream: StreamId, head: &ResponseHead, fin: bool) {
        let section = frame::whole(frame::HEADERS, &head.encode());
        self.transmits.push_back(Transmit::Write { stream, data: section.into(), fin });
        if let Some(at) = self.sessions.iter().position(|session| session.id == stream) {
            self.sessions.remove(at);
            self.reject_early(stream, Code::WT_SESSION_GONE);
            self.streams.remove(&stream);
        }
        if fin {
            self.answered(now, stream);
        }
    }

    /// Sends a part of a response's body.
    pub fn send_body(&mut self, now: Instant, stream: StreamId, data: &[u8], fin: bool) {
        let data = if data.is_empty() { Bytes::new() } else { frame::whole(frame::DATA, data).into() };
        self.transmits.push_back(Transmit::Write { stream, data, fin });
        if fin {
            self.answered(now, stream);
        }
    }

    /// Accepts a session; `fields` join the answer. What was held for it is announced.
    pub fn accept_session(
        &mut self,
        session: StreamId,
        mut fields: Vec<(Vec<u8>, Vec<u8>)>,
        head: &RequestHead,
    ) {
        let Some(known) = self.sessions.iter_mut().find(|known| known.id == session) else { return };
        known.phase = Phase::Open;
        self.had_session = true;
        if head.field(b"sec-webtransport-http3-draft02").is_some() {
            fields.push((b"sec-webtransport-http3-draft".to_vec(), b"draft02".to_vec()));
        }
        let section = frame::whole(frame::HEADERS, &ResponseHead { status: 200, fields }.encode());
        self.transmits.push_back(Transmit::Write { stream: session, data: section.into(), fin: false });
        let (ours, others) =
            std::mem::take(&mut self.early).into_iter().partition(|early| early.session == session);
        self.early = others;
        for Early { session, stream, data, fin } in Vec::from_iter::<Vec<Early>>(ours) {
            self.events.push_back(Event::SessionStream { session, stream, data, fin });
        }
    }

    /// Closes a session with code and reason. Everything the peer is to read on its streams must have been
    /// acknowledged before: closing lets the peer forget unread data. [`Event::SessionEnded`] follows when the peer has
    /// answered or its time is up.
    pub fn close_session(&mut self, now: Instant, session: StreamId, code: u32, reason: &str) {
        self.finish_session(now, session, capsule::close(code, reason).into());
    }

    /// Ends a session whose peer is done with it already, without a word.
    pub fn end_session_quietly(&mut self, now: Instant, session: StreamId) {
        self.finish_session(now, session, Bytes::new());
    }

    fn finish_session(&mut self, now: Instant, session: StreamId, data: Bytes) {
        let until = now + self.config.close_timeout;
        let Some(known) = self.sessions.iter_mut().find(|known| known.id == session) else { return };
        if !matches!(known.phase, Phase::Closing { .. }) {
            known.phase = Phase::Closing { until };
            self.transmits.push_back(Transmit::Write { stream: session, data, fin: true });
        }
    }

    /// Tells the peer that nothing new is taken, and every session to wind down.
    ///
    /// Spec: RFC 9114 section 5.2; draft-ietf-webtrans-http3, "Session Draining"
    pub fn drain(&mut self) {
        if std::mem::replace(&mut self.is_draining, true) {
            return;
        }
        let mut id = Vec::new();
        varint::put(&mut id, varint::MAX - 3);
        self.transmits.push_back(Transmit::Control(frame::whole(frame::GOAWAY, &id)));
        for session in self.sessions.iter().filter(|session| session.phase == Phase::Open) {
            let data = capsule::drain().into();
            self.transmits.push_back(Transmit::Write { stream: session.id, data, fin: false });
        }
    }

    /// The draft the peer speaks, once its SETTINGS are known.
    pub fn dialect(&self) -> Option<Dialect> {
        self.peer.map(|peer| peer.dialect(self.config.dialects))
    }

    // Unidirectional streams.

    fn uni_type(
        &mut self,
        now: Instant,
        id: StreamId,
        mut head: Vec<u8>,
        mut data: Bytes,
        fin: bool,
    ) -> Handled<Reading> {
        let Some(kind) = read_varint(&mut head, &mut data) else {
            if !fin {
                self.streams.insert(id, Stream::UniType(head));
            }
            return Ok(Reading::Continue);
        };
        let seen = &mut self.seen;
        let (stream, is_second) = match kind {
            0x00 => (Stream::Control(Reader::default()), std::mem::replace(&mut seen.control, true)),
            0x02 => (Stream::Encoder, std::mem::replace(&mut seen.encoder, true)),
            0x03 => (Stream::Decoder(DecoderStream::default()), std::mem::replace(&mut seen.decoder, true)),
            0x54 => (Stream::SessionId(Vec::new()), false),
            0x01 => return fatal(Code::H3_STREAM_CREATION_ERROR, "a client cannot push"),
            _ => {
                self.count_unknown(1)?;
                self.transmits.push_back(Transmit::Stop { stream: id, code: Code::H3_STREAM_CREATION_ERROR });
                return Ok(Reading::Stop);
            }
        };
        if is_second {
            return fatal(Code::H3_STREAM_CREATION_ERROR, "a second stream of a kind of which there is one");
        }
        self.streams.insert(id, stream);
        self.handle_stream(now, id, data, fin)
    }

    fn keep_critical(&mut self, id: StreamId, stream: Stream, fin: bool) -> Handled<Reading> {
        if fin {
            return fatal(Code::H3_CLOSED_CRITICAL_STREAM, "a critical stream ended");
        }
        self.streams.insert(id, stream);
        Ok(Reading::Continue)
    }

    fn control(&mut self, id: StreamId, mut reader: Reader, mut data: Bytes, fin: bool) -> Handled<Reading> {
        loop {
            let (has_settings, settings_max) = (self.peer.is_some(), self.config.settings_max as u64);
            let mut unknown = 0;
            let piece = reader.next(&mut data, |kind, length| match kind {
                frame::SETTINGS if has_settings => fatal(Code::H3_FRAME_UNEXPECTED, "SETTINGS twice"),
                frame::SETTINGS if length > settings_max => {
                    fatal(Code::H3_EXCESSIVE_LOAD, "SETTINGS too long")
                }
                frame::SETTINGS => Ok(Plan::Collect),
                _ if !has_settings => fatal(Code::H3_MISSING_SETTINGS, "SETTINGS must come first"),
                frame::GOAWAY | frame::CANCEL_PUSH | frame::MAX_PUSH_ID if length > 8 => {
                    fatal(Code::H3_FRAME_ERROR, "an id that is too long")
                }
                frame::GOAWAY | frame::CANCEL_PUSH | frame::MAX_PUSH_ID => Ok(Plan::Collect),
                frame::DATA | frame::HEADERS | frame::PUSH_PROMISE => {
                    fatal(Code::H3_FRAME_UNEXPECTED, "a frame of requests on the control stream")
                }
                frame::WT_STREAM => fatal(Code::H3_FRAME_ERROR, "a WebTransport stream inside another"),
                kind if frame::is_http2_leftover(kind) => {
                    fatal(Code::H3_FRAME_UNEXPECTED, "a frame of HTTP/2")
                }
                _ => {
                    unknown += 1;
                    Ok(Plan::Skip)
                }
            })?;
            self.count_unknown(unknown)?;
            match piece {
                Some(Piece::Whole(kind, value)) => self.control_frame(kind, &value)?,
                Some(Piece::Part(_)) => {}
                None => return self.keep_critical(id, Stream::Control(reader), fin),
            }
        }
    }

    fn control_frame(&mut self, kind: u64, value: &[u8]) -> Handled {
        if kind == frame::SETTINGS {
            self.peer = Some(PeerSettings::decode(value)?);
            self.settings_by = None;
            for (stream, head) in std::mem::take(&mut self.held) {
                self.offer_session(stream, head);
            }
            return Ok(());
        }
        let Some((id, size)) = varint::peek(value) else {
            return fatal(Code::H3_FRAME_ERROR, "a frame without id");
        };
        if size != value.len() {
            return fatal(Code::H3_FRAME_ERROR, "bytes behind an id");
        }
        match kind {
            frame::GOAWAY => {
                if self.last_goaway.is_some_and(|last| id > last) {
                    return fatal(Code::H3_ID_ERROR, "the id of GOAWAY increased");
                }
                self.last_goaway = Some(id);
                self.events.push_back(Event::GoAway);
                Ok(())
            }
            frame::CANCEL_PUSH => fatal(Code::H3_ID_ERROR, "a push that was never promised"),
            _ => Ok(()),
        }
    }

    fn count_unknown(&mut self, more: u32) -> Handled {
        self.unknown = self.unknown.saturating_add(more);
        match self.unknown > self.config.unknown_max {
            true => fatal(Code::H3_EXCESSIVE_LOAD, "too many unknown frames and streams"),
            false => Ok(()),
        }
    }

    // WebTransport streams.

    fn session_id(
        &mut self,
        id: StreamId,
        mut head: Vec<u8>,
        mut data: Bytes,
        fin: bool,
    ) -> Handled<Reading> {
        let Some(session) = read_varint(&mut head, &mut data) else {
            if !fin {
                self.streams.insert(id, Stream::SessionId(head));
            }
            return Ok(Reading::Continue);
        };
        if session % 4 != 0 {
            return fatal(Code::H3_ID_ERROR, "a session id that is no request's");
        }
        match self.sessions.iter().find(|known| known.id == session).map(|known| &known.phase) {
            Some(Phase::Open) => {
                self.events.push_back(Event::SessionStream { session, stream: id, data, fin });
            }
            Some(Phase::Closing { .. }) => self.refuse_stream(id, Code::WT_SESSION_GONE),
            Some(Phase::Requested) => self.hold(Early { session, stream: id, data, fin }),
            // Its CONNECT may be on the way still.
            None if session > self.highest_request() => self.hold(Early { session, stream: id, data, fin }),
            None => self.refuse_stream(id, Code::WT_SESSION_GONE),
        }
        Ok(Reading::Stop)
    }

    /// The highest request stream that is known; streams for higher ones may be early.
    fn highest_request(&self) -> StreamId {
        let is_request = |stream: &&StreamId| *stream & 3 == 0;
        self.streams
            .keys()
            .chain(self.held.iter().map(|(id, _)| id))
            .filter(is_request)
            .max()
            .copied()
            .unwrap_or(0)
    }

    fn hold(&mut self, early: Early) {
        match self.early.len() < self.config.early_streams_max {
            true => self.early.push(early),
            false => self.refuse_stream(early.stream, Code::WT_BUFFERED_STREAM_REJECTED),
        }
    }

    fn reject_early(&mut self, session: StreamId, code: Code) {
        let (ours, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.early).into_iter().partition(|early| early.session == session);
        self.early = others;
        ours.into_iter().for_each(|early| self.refuse_stream(early.stream, code));
    }

    fn refuse_stream(&mut self, stream: StreamId, code: Code) {
        self.transmits.push_back(Transmit::Stop { stream, code });
        if stream & 2 == 0 {
            self.transmits.push_back(Transmit::Reset { stream, code });
        }
    }

    // Requests.

    fn start(
        &mut self,
        now: Instant,
        id: StreamId,
        mut head: Vec<u8>,
        mut data: Bytes,
        fin: bool,
    ) -> Handled<Reading> {
        let Some(first) = read_varint(&mut head, &mut data) else {
            if fin {
                return fatal_if_nothing(&head);
            }
            self.streams.insert(id, Stream::Start(head));
            return Ok(Reading::Continue);
        };
        if first == frame::WT_STREAM {
            return self.session_id(id, Vec::new(), data, fin);
        }
        self.open.push(id);
        let request = Box::<RequestStream>::default();
        // What was read was the type of the first frame: the reader gets it back.
        let mut kind = Vec::new();
        varint::put(&mut kind, first);
        let mut whole = bytes::BytesMut::from(&kind[..]);
        whole.extend_from_slice(&data);
        self.request(now, id, request, whole.freeze(), fin)
    }

    fn request(
        &mut self,
        now: Instant,
        id: StreamId,
        mut request: Box<RequestStream>,
        mut data: Bytes,
        fin: bool,
    ) -> Handled<Reading> {
        while request.phase != RequestPhase::Refused {
            let (phase, max) = (request.phase, self.config.field_section_max as u64);
            let (mut unknown, mut is_too_long) = (0, false);
            let piece = request.reader.next(&mut data, |kind, length| {
                request_plan(phase, kind, length, max, &mut unknown, &mut is_too_long)
            })?;
            self.count_unknown(unknown)?;
            if is_too_long {
                self.refuse_request(now, id, 431);
                request.phase = RequestPhase::Refused;
                break;
            }
            match piece {
                None => break,
                Some(Piece::Whole(_, section)) if request.phase == RequestPhase::Head => {
                    self.head(now, id, &mut request, &section)?;
                }
                Some(Piece::Whole(_, trailers)) => {
                    qpack::decode(&trailers, |_| {})?;
                    request.phase = RequestPhase::Trailers;
                }
                Some(Piece::Part(data)) if request.phase == RequestPhase::Session => {
                    if !self.capsules(now, id, data)? {
                        return Ok(Reading::Stop);
                    }
                }
                Some(Piece::Part(data)) => {
                    request.received += data.len() as u64;
                    self.events.push_back(Event::Body { stream: id, data });
                }
            }
        }
        if fin {
            return self.request_ended(now, id, &request).map(|()| Reading::Stop);
        }
        if request.phase == RequestPhase::Refused {
            return Ok(Reading::Stop);
        }
        self.streams.insert(id, Stream::Request(request));
        Ok(Reading::Continue)
    }

    fn request_ended(&mut self, now: Instant, id: StreamId, request: &RequestStream) -> Handled {
        match request.phase {
            RequestPhase::Refused => {}
            _ if !request.reader.is_at_boundary() => return fatal(Code::H3_FRAME_ERROR, "a frame was cut"),
            RequestPhase::Head => {
                self.transmits.push_back(Transmit::Reset { stream: id, code: Code::H3_REQUEST_INCOMPLETE });
                self.answered(now, id);
            }
            RequestPhase::Session => {
                let is_cut = self.sessions.iter().any(|s| s.id == id && !s.capsules.is_at_boundary());
                if is_cut {
                    self.transmits.push_back(Transmit::Reset { stream: id, code: Code::H3_MESSAGE_ERROR });
                }
                self.peer_ended_session(now, id, (0, String::new()));
            }
            RequestPhase::Body | RequestPhase::Trailers => {
                if request.content_length.is_some_and(|length| length != request.received) {
                    self.malformed(now, id);
                    self.events.push_back(Event::Cancelled { stream: id });
                } else {
                    self.events.push_back(Event::End { stream: id });
                }
            }
        }
        Ok(())
    }

    fn head(&mut self, now: Instant, id: StreamId, request: &mut RequestStream, section: &[u8]) -> Handled {
        let head = match RequestHead::decode(section, self.config.fields_max)? {
            Ok(head) => Box::new(head),
            Err(Refused::TooManyFields) => {
                self.refuse_request(now, id, 431);
                request.phase = RequestPhase::Refused;
                return Ok(());
            }
            Err(Refused::Malformed) => {
                self.malformed(now, id);
                request.phase = RequestPhase::Refused;
                return Ok(());
            }
        };
        if head.protocol.is_some() {
            request.phase = RequestPhase::Session;
            return self.connect(now, id, request, head);
        }
        if let Some(length) = head.field(b"content-length") {
            let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            if length.is_none() {
                self.malformed(now, id);
                request.phase = RequestPhase::Refused;
                return Ok(());
            }
            request.content_length = length;
        }
        request.phase = RequestPhase::Body;
        self.events.push_back(Event::Request { stream: id, head });
        Ok(())
    }

    /// An extended CONNECT.
    fn connect(
        &mut self,
        now: Instant,
        id: StreamId,
        request: &mut RequestStream,
        head: Box<RequestHead>,
    ) -> Handled {
        if head.protocol.as_deref() != Some("webtransport") || !self.config.dialects.any() {
            self.refuse_request(now, id, 501);
            request.phase = RequestPhase::Refused;
            return Ok(());
        }
        if head.scheme != "https" {
            self.malformed(now, id);
            request.phase = RequestPhase::Refused;
            return Ok(());
        }
        if self.sessions.len() >= self.config.sessions_max || self.is_draining {
            self.refuse_stream(id, Code::H3_REQUEST_REJECTED);
            self.reject_early(id, Code::WT_SESSION_GONE);
            self.answered(now, id);
            request.phase = RequestPhase::Refused;
            return Ok(());
        }
        let capsules = Capsules::new(self.config.capsule_max, self.config.skipped_capsules_max);
        self.sessions.push(Session { id, capsules, phase: Phase::Requested });
        match self.peer {
            Some(_) => self.offer_session(id, head),
            None => {
                self.held.push((id, head));
                self.settings_by.get_or_insert(now + self.config.settings_timeout);
            }
        }
        Ok(())
    }

    /// The peer's SETTINGS are known: the application decides, unless the peer cannot have sessions.
    fn offer_session(&mut self, session: StreamId, head: Box<RequestHead>) {
        if !self.peer.is_some_and(|peer| peer.datagrams) {
            self.sessions.retain(|known| known.id != session);
            self.streams.remove(&session);
            self.refuse_stream(session, Code::H3_MESSAGE_ERROR);
            self.open.retain(|known| *known != session);
            return;
        }
        self.events.push_back(Event::SessionRequest { session, head });
    }

    /// Reads capsules; false if the session is over.
    fn capsules(&mut self, now: Instant, id: StreamId, mut data: Bytes) -> Handled<bool> {
        loop {
            let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) else {
                // Bytes behind the end of a session.
                return Ok(false);
            };
            match session.capsules.next(&mut data) {
                Ok(None) => return Ok(true),
                Ok(Some(Capsule::Drain)) => {}
                Ok(Some(Capsule::Datagram(data))) => {
                    if session.phase == Phase::Open {
                        self.events.push_back(Event::SessionDatagram { session: id, data });
                    }
                }
                Ok(Some(Capsule::Close { code, reason })) => {
                    if !data.is_empty() {
                        self.transmits
                            .push_back(Transmit::Reset { stream: id, code: Code::H3_MESSAGE_ERROR });
                    }
                    self.peer_ended_session(now, id, (code, reason));
                    return Ok(false);
                }
                Err(CapsuleError::Connection(error)) => return Err(error),
                Err(CapsuleError::Stream(code)) => {
                    self.refuse_stream(id, code);
                    self.end_session(now, id, None);
                    return Ok(false);
                }
            }
        }
    }

    /// The peer closed or finished the CONNECT stream: we finish it too, unless we have.
    fn peer_ended_session(&mut self, now: Instant, session: StreamId, close: (u32, String)) {
        let Some(known) = self.sessions.iter().find(|known| known.id == session) else { return };
        match known.phase {
            Phase::Closing { .. } => self.end_session(now, session, None),
            _ => {
                self.transmits.push_back(Transmit::Write { stream: session, data: Bytes::new(), fin: true });
                self.end_session(now, session, Some(close));
            }
        }
    }

    fn end_session(&mut self, now: Instant, session: StreamId, close: Option<(u32, String)>) {
        let Some(at) = self.sessions.iter().position(|known| known.id == session) else { return };
        self.sessions.remove(at);
        self.held.retain(|(id, _)| *id != session);
        self.streams.remove(&session);
        self.reject_early(session, Code::WT_SESSION_GONE);
        self.events.push_back(Event::SessionEnded { session, close });
        self.answered(now, session);
    }

    fn refuse_request(&mut self, now: Instant, stream: StreamId, status: u16) {
        self.respond(now, stream, &ResponseHead::status(status), true);
        self.transmits.push_back(Transmit::Stop { stream, code: Code::H3_NO_ERROR });
    }

    fn malformed(&mut self, now: Instant, stream: StreamId) {
        self.refuse_stream(stream, Code::H3_MESSAGE_ERROR);
        self.answered(now, stream);
    }

    fn cancel(&mut self, now: Instant, stream: StreamId) {
        self.events.push_back(Event::Cancelled { stream });
        self.transmits.push_back(Transmit::Reset { stream, code: Code::H3_REQUEST_CANCELLED });
        self.answered(now, stream);
    }

    /// A request is done with. A connection that carried sessions and has nothing left ends soon: browsers leave
    /// theirs behind without a word.
    fn answered(&mut self, now: Instant, stream: StreamId) {
        self.open.retain(|known| *known != stream);
        if let Some(Stream::Request(request)) = self.streams.get(&stream)
            && request.phase != RequestPhase::Session
        {
            // The rest of the body, if there is one, has no reader any more.
            self.streams.remove(&stream);
            self.transmits.push_back(Transmit::Stop { stream, code: Code::H3_NO_ERROR });
        }
        if self.had_session && self.open.is_empty() {
            self.idle_at = Some(now + self.config.linger);
        }
    }
}

fn request_plan(
    phase: RequestPhase,
    kind: u64,
    length: u64,
    max: u64,
    unknown: &mut u32,
    is_too_long: &mut bool,
) -> Handled<Plan> {
    match (kind, phase) {
        (frame::HEADERS, RequestPhase::Head | RequestPhase::Body) if length > max => {
            *is_too_long = true;
            Ok(Plan::Skip)
        }
        (frame::HEADERS, RequestPhase::Head | RequestPhase::Body) => Ok(Plan::Collect),
        (frame::DATA, RequestPhase::Body | RequestPhase::Session) => Ok(Plan::Stream),
        (frame::WT_STREAM, _) => fatal(Code::H3_FRAME_ERROR, "a WebTransport stream inside another"),
        (
            frame::HEADERS
            | frame::DATA
            | frame::SETTINGS
            | frame::GOAWAY
            | frame::PUSH_PROMISE
            | frame::CANCEL_PUSH
            | frame::MAX_PUSH_ID,
            _,
        ) => fatal(Code::H3_FRAME_UNEXPECTED, "a frame where it must not be"),
        (kind, _) if frame::is_http2_leftover(kind) => fatal(Code::H3_FRAME_UNEXPECTED, "a frame of HTTP/2"),
        _ => {
            *unknown += 1;
            Ok(Plan::Skip)
        }
    }
}

/// A request stream that ended before its first byte asked for nothing.
fn fatal_if_nothing(head: &[u8]) -> Handled<Reading> {
    match head.is_empty() {
        true => Ok(Reading::Stop),
        false => fatal(Code::H3_FRAME_ERROR, "a frame was cut"),
    }
}

/// Reads a varint whose beginning may be in `head`; what is taken leaves `data`.
fn read_varint(head: &mut Vec<u8>, data: &mut Bytes) -> Option<u64> {
    while !data.is_empty() {
        head.push(data.split_to(1)[0]);
        if let Some((value, _)) = varint::peek(head) {
            return Some(value);
        }
    }
    None
}
