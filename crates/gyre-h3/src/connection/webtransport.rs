//! WebTransport sessions: establishment, streams, datagrams, close and drain.
//!
//! A session's close, once decided here: capsule and FIN on CONNECT, then the peer's FIN or reset or a bound on it, and
//! only then [`Event::SessionEnded`], upon which the driver resets what is open of the session's streams. No stream of
//! the session is stopped or reset before: browsers would forget the close code.
//!
//! Spec: draft-ietf-webtrans-http3; RFC 9297

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Connection, Drain, Handled, Stream, fatal, is_uni};
use crate::{
    Event, Reading, StreamId, Transmit,
    capsule::{self, Capsule, CapsuleError, Capsules},
    error::Code,
    frame,
    headers::{RequestHead, ResponseHead},
    session::{Phase, Session},
    varint::{self, Partial},
};

use super::control::WEBTRANSPORT;
use super::request::{RequestPhase, RequestStream};

/// The largest quarter stream id.
///
/// Spec: RFC 9297 section 2.1
const QUARTER_ID_MAX: u64 = (1 << 60) - 1;

impl Connection {
    /// Takes a QUIC datagram.
    ///
    /// # Errors
    /// `H3_DATAGRAM_ERROR` without a whole id, `H3_ID_ERROR` if the id is too far ahead.
    pub fn handle_datagram(&mut self, mut data: Bytes) -> Handled {
        let Some(quarter) = varint::take(&mut data).filter(|&quarter| quarter <= QUARTER_ID_MAX) else {
            return fatal(Code::H3_DATAGRAM_ERROR, "a datagram without a stream id");
        };
        self.check_session_id(quarter * 4)?;
        self.session_datagram(quarter * 4, data);
        Ok(())
    }

    /// A datagram of a session, as QUIC takes it. `None` if the session is not open or the peer takes none.
    ///
    /// Spec: RFC 9297 section 2.1
    pub fn encode_datagram(&self, session: StreamId, data: &[u8]) -> Option<Bytes> {
        let at = self.session_index(session)?;
        if !matches!(self.sessions[at].phase, Phase::Open) || !self.peer_takes_datagrams() {
            return None;
        }
        let mut out = BytesMut::with_capacity(data.len() + 8);
        varint::put(&mut out, session / 4);
        out.put_slice(data);
        Some(out.freeze())
    }

    /// What a unidirectional stream opened for a session begins with. The driver opens it, for a session that is open.
    ///
    /// Spec: draft-ietf-webtrans-http3, "Unidirectional streams"
    pub fn unidirectional_header(session: StreamId) -> Vec<u8> {
        let mut header = Vec::with_capacity(10);
        varint::put(&mut header, WEBTRANSPORT);
        varint::put(&mut header, session);
        header
    }

    /// Accepts a session; `fields` join the answer. What was held for it is announced.
    pub fn accept_session(
        &mut self,
        session: StreamId,
        mut fields: Vec<(Vec<u8>, Vec<u8>)>,
        head: &RequestHead,
    ) {
        let Some(at) = self.session_index(session) else { return };
        if !matches!(self.sessions[at].phase, Phase::Requested) {
            return;
        }
        self.sessions[at].phase = Phase::Open;
        self.had_session = true;
        if head.field(b"sec-webtransport-http3-draft02").is_some() {
            fields.push((b"sec-webtransport-http3-draft".to_vec(), b"draft02".to_vec()));
        }
        let section = frame::whole(frame::HEADERS, &ResponseHead { status: 200, fields }.encode());
        self.transmits.push_back(Transmit::Write { stream: session, data: section.into(), fin: false });
        if self.drain != Drain::None {
            self.drain_session(session);
        }
        let (streams, datagrams) = self.early.take(session);
        for early in streams {
            let (stream, data, fin) = (early.stream, early.data, early.fin);
            self.events.push_back(Event::SessionStream { session, stream, data, fin });
        }
        let datagrams = datagrams.into_iter().map(|data| Event::SessionDatagram { session, data });
        self.events.extend(datagrams);
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
        let Some(at) = self.session_index(session) else { return };
        match self.sessions[at].phase {
            Phase::Open => {
                let until = now + self.config.close_timeout.max(self.probe_timeout * 3);
                self.sessions[at].phase = Phase::Closing { until };
                self.transmits.push_back(Transmit::Write { stream: session, data, fin: true });
            }
            Phase::Requested => self.abort_session(at, Code::H3_REQUEST_REJECTED),
            Phase::Held { .. } | Phase::Closing { .. } => {}
        }
        self.settle(now);
    }

    /// Tells the peer that no new session is taken, and every session to wind down.
    ///
    /// Spec: RFC 9114 section 5.2; draft-ietf-webtrans-http3, "Session Draining"
    pub fn drain(&mut self) {
        if self.drain != Drain::None {
            return;
        }
        self.drain = Drain::Announced;
        // The highest id of a request: none is refused by this.
        self.send_go_away(varint::MAX - 3);
        let is_open = |session: &&Session| matches!(session.phase, Phase::Open);
        let open: Vec<StreamId> = self.sessions.iter().filter(is_open).map(|session| session.id).collect();
        open.into_iter().for_each(|session| self.drain_session(session));
    }

    /// Ends the acceptance of requests: those that have not been heard of are rejected. [`Self::drain`] comes before,
    /// and a round trip in between spares the peer rejected requests.
    ///
    /// Spec: RFC 9114 section 5.2
    pub fn go_away(&mut self) {
        if matches!(self.drain, Drain::Final(_)) {
            return;
        }
        let first = self.bidi.next() * 4;
        self.drain = Drain::Final(first);
        self.send_go_away(first);
    }

    fn send_go_away(&mut self, id: StreamId) {
        let mut value = Vec::new();
        varint::put(&mut value, id);
        self.transmits.push_back(Transmit::Control(frame::whole(frame::GOAWAY, &value)));
    }

    fn drain_session(&mut self, stream: StreamId) {
        self.transmits.push_back(Transmit::Write { stream, data: capsule::drain().into(), fin: false });
    }

    pub(super) fn session_index(&self, id: StreamId) -> Option<usize> {
        self.sessions.iter().position(|session| session.id == id)
    }

    /// The header of a WebTransport stream: what remains of it is its session's id.
    pub(super) fn session_id(
        &mut self,
        id: StreamId,
        mut partial: Partial,
        mut data: Bytes,
        fin: bool,
    ) -> Handled<Reading> {
        let Some(session) = partial.take(&mut data) else {
            if !fin {
                return Ok(self.keep_stream(id, Stream::SessionId(partial)));
            }
            if !is_uni(id) {
                self.transmits.push_back(Transmit::Reset { stream: id, code: Code::H3_REQUEST_INCOMPLETE });
            }
            return Ok(Reading::Stop);
        };
        if session % 4 != 0 {
            return fatal(Code::H3_ID_ERROR, "a session id that is no request's");
        }
        self.check_session_id(session)?;
        match self.session_index(session).map(|at| &self.sessions[at].phase) {
            Some(Phase::Open) => {
                self.events.push_back(Event::SessionStream { session, stream: id, data, fin });
            }
            None if !self.bidi.is_outstanding(session >> 2) => self.refuse_stream(id, Code::WT_SESSION_GONE),
            // Not accepted, or its CONNECT is on the way. Or closing: then nothing is reset before the end.
            _ => {
                if !self.early.hold_stream(&self.config, session, id, data, fin) {
                    self.refuse_stream(id, Code::WT_BUFFERED_STREAM_REJECTED);
                }
            }
        }
        Ok(Reading::Stop)
    }

    fn check_session_id(&self, session: StreamId) -> Handled {
        match session >> 2 >= self.bidi.next().saturating_add(self.config.ids_ahead_max) {
            true => fatal(Code::H3_ID_ERROR, "a session id beyond what QUIC allows"),
            false => Ok(()),
        }
    }

    fn session_datagram(&mut self, session: StreamId, data: Bytes) {
        match self.session_index(session).map(|at| &self.sessions[at].phase) {
            Some(Phase::Open) => self.events.push_back(Event::SessionDatagram { session, data }),
            Some(Phase::Closing { .. }) => {}
            None if !self.bidi.is_outstanding(session >> 2) => {}
            _ => self.early.hold_datagram(&self.config, session, &data),
        }
    }

    pub(super) fn reject_early(&mut self, session: StreamId, code: Code) {
        let (streams, _) = self.early.take(session);
        streams.into_iter().for_each(|early| self.refuse_stream(early.stream, code));
    }

    /// An extended CONNECT.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        id: StreamId,
        request: &mut RequestStream,
        head: Box<RequestHead>,
    ) {
        if head.protocol.as_deref() != Some("webtransport") || !self.config.dialects.any() {
            self.reject_early(id, Code::WT_SESSION_GONE);
            return self.refuse_with(now, id, request, 501);
        }
        if head.scheme != "https" {
            self.reject_early(id, Code::WT_SESSION_GONE);
            return self.malformed(id, request);
        }
        if self.sessions.len() >= self.config.sessions_max || self.drain != Drain::None {
            self.reject_early(id, Code::WT_SESSION_GONE);
            return self.refuse_request(id, request, Code::H3_REQUEST_REJECTED);
        }
        request.phase = RequestPhase::Session;
        let capsules = Capsules::new(self.config.capsule_max, self.config.skipped_capsules_max);
        if self.peer.is_none() {
            let phase = Phase::Held { head, until: now + self.config.settings_timeout };
            return self.sessions.push(Session { id, capsules, phase });
        }
        self.sessions.push(Session { id, capsules, phase: Phase::Requested });
        self.offer_session(id, head);
        if self.session_index(id).is_none() {
            request.phase = RequestPhase::Done;
        }
    }

    /// The peer's SETTINGS are known: the application decides, unless the peer cannot have sessions.
    pub(super) fn offer_session(&mut self, session: StreamId, head: Box<RequestHead>) {
        if self.peer_takes_datagrams() {
            return self.events.push_back(Event::SessionRequest { session, head });
        }
        self.sessions.retain(|known| known.id != session);
        self.take_stream(session);
        self.refuse_stream(session, Code::H3_MESSAGE_ERROR);
        self.reject_early(session, Code::WT_SESSION_GONE);
        self.answered(session);
    }

    fn peer_takes_datagrams(&self) -> bool {
        self.takes_datagrams && self.peer.is_some_and(|peer| peer.datagrams)
    }

    /// Reads capsules from a part of a DATA frame.
    pub(super) fn capsules(&mut self, id: StreamId, request: &mut RequestStream, mut data: Bytes) -> Handled {
        loop {
            let Some(at) = self.session_index(id) else { return Ok(()) };
            match self.sessions[at].capsules.next(&mut data) {
                Ok(None) => return Ok(()),
                // Noted by nobody: the application's close is what ends a session.
                Ok(Some(Capsule::Drain)) => {}
                Ok(Some(Capsule::Datagram(data))) => self.session_datagram(id, data),
                Ok(Some(Capsule::Close { code, reason })) => {
                    request.phase = RequestPhase::Closed;
                    self.peer_closed(at, (code, reason));
                    if !data.is_empty() {
                        self.bytes_behind_close(id);
                        request.phase = RequestPhase::Done;
                    }
                    return Ok(());
                }
                Err(CapsuleError::Connection(error)) => return Err(error),
                Err(CapsuleError::Stream(code)) => {
                    self.abort_session(at, code);
                    request.phase = RequestPhase::Done;
                    return Ok(());
                }
            }
        }
    }

    /// The peer closed a session, by capsule or by ending CONNECT. An answer that has crossed ours needs none.
    fn peer_closed(&mut self, at: usize, close: (u32, String)) {
        let stream = self.sessions[at].id;
        match self.sessions[at].phase {
            // What is waited for is the end of the stream, which follows.
            Phase::Closing { .. } => {}
            Phase::Open => {
                self.transmits.push_back(Transmit::Write { stream, data: Bytes::new(), fin: true });
                self.end_session(at, Some(close));
            }
            Phase::Held { .. } | Phase::Requested => {
                let code = Code::H3_REQUEST_CANCELLED;
                self.transmits.push_back(Transmit::Reset { stream, code });
                self.end_session(at, Some(close));
            }
        }
    }

    /// The peer ended CONNECT.
    pub(super) fn session_stream_ended(&mut self, id: StreamId) {
        let Some(at) = self.session_index(id) else { return };
        match self.sessions[at].phase {
            Phase::Closing { .. } => self.end_session(at, None),
            _ if !self.sessions[at].capsules.is_at_boundary() => {
                self.abort_session(at, Code::H3_MESSAGE_ERROR)
            }
            _ => self.peer_closed(at, (0, String::new())),
        }
    }

    /// The peer reset CONNECT.
    pub(super) fn reset_session(&mut self, at: usize) {
        let (stream, code) = (self.sessions[at].id, Code::H3_REQUEST_CANCELLED);
        if !matches!(self.sessions[at].phase, Phase::Closing { .. }) {
            self.transmits.push_back(Transmit::Reset { stream, code });
        }
        self.end_session(at, None);
    }

    /// Ends a session at once, in both directions.
    pub(super) fn abort_session(&mut self, at: usize, code: Code) {
        let stream = self.sessions[at].id;
        self.take_stream(stream);
        self.refuse_stream(stream, code);
        self.end_session(at, None);
    }

    /// Bytes on CONNECT behind the peer's close.
    pub(super) fn bytes_behind_close(&mut self, stream: StreamId) {
        self.refuse_stream(stream, Code::H3_MESSAGE_ERROR);
        if let Some(at) = self.session_index(stream) {
            self.end_session(at, None);
        }
    }

    fn end_session(&mut self, at: usize, close: Option<(u32, String)>) {
        let Session { id: session, phase, .. } = self.sessions.remove(at);
        self.reject_early(session, Code::WT_SESSION_GONE);
        // The application has not heard of a session that was held.
        if !matches!(phase, Phase::Held { .. }) {
            self.events.push_back(Event::SessionEnded { session, close });
        }
        self.answered(session);
    }

    /// Sessions whose peer is late: with SETTINGS, or with its end of CONNECT.
    pub(super) fn sessions_timed_out(&mut self, now: Instant) -> Handled {
        while let Some(at) = self.sessions.iter().position(|session| match session.phase {
            Phase::Held { until, .. } | Phase::Closing { until } => until <= now,
            Phase::Requested | Phase::Open => false,
        }) {
            if matches!(self.sessions[at].phase, Phase::Held { .. }) {
                return fatal(Code::H3_MISSING_SETTINGS, "a session was asked for without SETTINGS");
            }
            let stream = self.sessions[at].id;
            self.take_stream(stream);
            self.transmits.push_back(Transmit::Stop { stream, code: Code::WT_SESSION_GONE });
            self.end_session(at, None);
        }
        Ok(())
    }
}
