//! Requests and their answers.
//!
//! Spec: RFC 9114 sections 4.1 and 7.2

use std::time::Instant;

use bytes::Bytes;

use super::{Connection, Drain, Handled, Stream, fatal};
use crate::{
    Event, Reading, StreamId, Transmit,
    error::{Code, ConnectionError},
    frame::{self, Piece, Plan, Reader},
    headers::{self, Refused, RequestHead, ResponseHead},
    session::Phase,
    varint::Partial,
};

/// What is read on a request's stream.
#[derive(Debug, Default)]
pub(super) struct RequestStream {
    reader: Reader,
    pub(super) phase: RequestPhase,
    content_length: Option<u64>,
    received: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RequestPhase {
    #[default]
    Head,
    Body,
    Trailers,
    /// The CONNECT stream of a session: DATA holds capsules.
    Session,
    /// Answered without a look at the rest. The peer may end the stream; if it goes on, it is stopped.
    Refused,
    /// The peer closed the session. All that may follow is the end of the stream.
    Closed,
    /// Nothing more is read.
    Done,
}

impl RequestPhase {
    fn is_over(self) -> bool {
        matches!(self, Self::Refused | Self::Closed | Self::Done)
    }
}

/// Why a frame of a request is not read.
enum Stopped {
    Connection(ConnectionError),
    /// Its field section is too long.
    TooLong,
}

impl From<ConnectionError> for Stopped {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl Connection {
    /// Answers a request; with `fin` that is all. Also refuses a session. Does nothing if the request is gone.
    pub fn respond(&mut self, now: Instant, stream: StreamId, head: &ResponseHead, fin: bool) {
        if !self.requests.contains(&stream) {
            return;
        }
        if let Some(at) = self.session_index(stream) {
            if !matches!(self.sessions[at].phase, Phase::Requested) {
                return;
            }
            self.sessions.remove(at);
            self.reject_early(stream, Code::WT_SESSION_GONE);
            self.set_request_phase(stream, RequestPhase::Refused);
        }
        let section = frame::whole(frame::HEADERS, &head.encode());
        self.transmits.push_back(Transmit::Write { stream, data: section.into(), fin });
        self.answered_if(fin, stream);
        self.settle(now);
    }

    /// Sends a part of a response's body. Does nothing if the request is gone.
    pub fn send_body(&mut self, now: Instant, stream: StreamId, data: &[u8], fin: bool) {
        if !self.requests.contains(&stream) {
            return;
        }
        let data = if data.is_empty() { Bytes::new() } else { frame::whole(frame::DATA, data).into() };
        self.transmits.push_back(Transmit::Write { stream, data, fin });
        self.answered_if(fin, stream);
        self.settle(now);
    }

    /// Gives up a response whose rest cannot be sent. Does nothing if the request is gone.
    pub fn abort_response(&mut self, now: Instant, stream: StreamId) {
        if !self.requests.contains(&stream) || self.session_index(stream).is_some() {
            return;
        }
        self.transmits.push_back(Transmit::Reset { stream, code: Code::H3_INTERNAL_ERROR });
        self.answered(stream);
        self.settle(now);
    }

    /// A bidirectional stream, before it is known what it is.
    pub(super) fn start(
        &mut self,
        now: Instant,
        id: StreamId,
        mut partial: Partial,
        mut data: Bytes,
        fin: bool,
    ) -> Handled<Reading> {
        let Some(first) = partial.take(&mut data) else {
            if !fin {
                return Ok(self.keep_stream(id, Stream::Start(partial)));
            }
            if !partial.is_empty() {
                return fatal(Code::H3_FRAME_ERROR, "a frame was cut");
            }
            self.transmits.push_back(Transmit::Reset { stream: id, code: Code::H3_REQUEST_INCOMPLETE });
            return Ok(Reading::Stop);
        };
        if first == frame::WT_STREAM && self.config.dialects.any() {
            return self.session_id(id, Partial::default(), data, fin);
        }
        self.requests.push(id);
        // What was read was the type of the first frame.
        let request = RequestStream { reader: Reader::after_kind(first), ..RequestStream::default() };
        self.request(now, id, Box::new(request), data, fin)
    }

    pub(super) fn request(
        &mut self,
        now: Instant,
        id: StreamId,
        mut request: Box<RequestStream>,
        mut data: Bytes,
        fin: bool,
    ) -> Handled<Reading> {
        while !request.phase.is_over() {
            match self.next_piece(now, &mut request, &mut data) {
                Ok(None) => break,
                Ok(Some(piece)) => self.request_piece(now, id, &mut request, piece)?,
                Err(Stopped::Connection(error)) => return Err(error),
                Err(Stopped::TooLong) => self.oversized(now, id, &mut request)?,
            }
        }
        if !data.is_empty() {
            self.stop_over(id, &mut request);
        }
        if request.phase == RequestPhase::Done {
            return Ok(Reading::Stop);
        }
        if fin {
            return self.request_ended(id, &request).map(|()| Reading::Stop);
        }
        Ok(self.keep_stream(id, Stream::Request(request)))
    }

    fn next_piece(
        &mut self,
        now: Instant,
        request: &mut RequestStream,
        data: &mut Bytes,
    ) -> Result<Option<Piece>, Stopped> {
        let (phase, max) = (request.phase, self.config.field_section_max as u64);
        let mut unknown = 0;
        let piece = request.reader.next(data, |kind, length| plan(phase, kind, length, max, &mut unknown));
        self.count_unknown(now, unknown)?;
        piece
    }

    fn request_piece(
        &mut self,
        now: Instant,
        id: StreamId,
        request: &mut RequestStream,
        piece: Piece,
    ) -> Handled {
        match piece {
            Piece::Whole(_, section) if request.phase == RequestPhase::Head => {
                self.head(now, id, request, &section)
            }
            Piece::Whole(_, section) => {
                request.phase = RequestPhase::Trailers;
                if headers::check_trailers(&section)?.is_err() {
                    self.malformed(id, request);
                }
                Ok(())
            }
            Piece::Part(data) if request.phase == RequestPhase::Session => self.capsules(id, request, data),
            Piece::Part(data) => {
                request.received = request.received.saturating_add(data.len() as u64);
                match request.content_length.is_some_and(|length| request.received > length) {
                    true => self.malformed(id, request),
                    false => self.events.push_back(Event::Body { stream: id, data }),
                }
                Ok(())
            }
        }
    }

    fn head(&mut self, now: Instant, id: StreamId, request: &mut RequestStream, section: &[u8]) -> Handled {
        if matches!(self.drain, Drain::Final(first) if id >= first) {
            self.refuse_request(id, request, Code::H3_REQUEST_REJECTED);
            return Ok(());
        }
        let decoded = RequestHead::decode(section, self.config.fields_max)?
            .and_then(|head| Ok((head.content_length()?, head)));
        match decoded {
            Err(Refused::TooManyFields) => return self.oversized(now, id, request),
            Err(Refused::Malformed) => self.malformed(id, request),
            Ok((_, head)) if head.protocol.is_some() && !self.is_websocket(&head) => {
                self.connect(now, id, request, Box::new(head))
            }
            Ok((content_length, head)) => {
                request.content_length = content_length;
                request.phase = RequestPhase::Body;
                self.events.push_back(Event::Request { stream: id, head: Box::new(head) });
            }
        }
        Ok(())
    }

    /// An extended CONNECT that is a request like others: its bodies are the two directions.
    ///
    /// Spec: RFC 9220 section 3
    fn is_websocket(&self, head: &RequestHead) -> bool {
        self.config.websocket && head.protocol.as_deref() == Some("websocket")
    }

    /// The stream ended where it may; is that the end of a request?
    fn request_ended(&mut self, id: StreamId, request: &RequestStream) -> Handled {
        if !request.phase.is_over() && !request.reader.is_at_boundary() {
            return fatal(Code::H3_FRAME_ERROR, "a frame was cut");
        }
        match request.phase {
            RequestPhase::Head => {
                self.transmits.push_back(Transmit::Reset { stream: id, code: Code::H3_REQUEST_INCOMPLETE });
                self.answered(id);
            }
            RequestPhase::Body | RequestPhase::Trailers => {
                if request.content_length.is_none_or(|length| length == request.received) {
                    self.events.push_back(Event::End { stream: id });
                } else {
                    self.refuse_stream(id, Code::H3_MESSAGE_ERROR);
                    self.events.push_back(Event::Cancelled { stream: id });
                    self.answered(id);
                }
            }
            RequestPhase::Session | RequestPhase::Closed => self.session_stream_ended(id),
            RequestPhase::Refused | RequestPhase::Done => {}
        }
        Ok(())
    }

    /// The peer reset the stream of a request.
    pub(super) fn request_given_up(&mut self, id: StreamId, request: &RequestStream) {
        match self.session_index(id) {
            Some(at) => self.reset_session(at),
            None if self.requests.contains(&id) => self.cancel(id, request.phase != RequestPhase::Head),
            None => {}
        }
    }

    /// The peer wants no answer. The application is told if it knows of the request.
    pub(super) fn cancel(&mut self, stream: StreamId, is_known: bool) {
        if is_known {
            self.events.push_back(Event::Cancelled { stream });
        }
        self.refuse_stream(stream, Code::H3_REQUEST_CANCELLED);
        self.answered(stream);
    }

    pub(super) fn malformed(&mut self, stream: StreamId, request: &mut RequestStream) {
        if matches!(request.phase, RequestPhase::Body | RequestPhase::Trailers) {
            self.events.push_back(Event::Cancelled { stream });
        }
        self.refuse_request(stream, request, Code::H3_MESSAGE_ERROR);
    }

    pub(super) fn refuse_request(&mut self, stream: StreamId, request: &mut RequestStream, code: Code) {
        self.refuse_stream(stream, code);
        self.answered(stream);
        request.phase = RequestPhase::Done;
    }

    /// Answers by itself, without the application.
    pub(super) fn refuse_with(
        &mut self,
        now: Instant,
        stream: StreamId,
        request: &mut RequestStream,
        status: u16,
    ) {
        self.respond(now, stream, &ResponseHead::status(status), true);
        request.phase = RequestPhase::Refused;
    }

    /// A head, or trailers, beyond the limits.
    fn oversized(&mut self, now: Instant, stream: StreamId, request: &mut RequestStream) -> Handled {
        self.oversized = self.oversized.saturating_add(1);
        if self.oversized > self.config.oversized_max {
            return fatal(Code::H3_EXCESSIVE_LOAD, "too many field sections were too long");
        }
        match request.phase {
            RequestPhase::Head => self.refuse_with(now, stream, request, 431),
            // The application may be answering already.
            _ => self.malformed(stream, request),
        }
        Ok(())
    }

    /// More comes where only the end of the stream may.
    fn stop_over(&mut self, stream: StreamId, request: &mut RequestStream) {
        match request.phase {
            RequestPhase::Refused => {
                self.transmits.push_back(Transmit::Stop { stream, code: Code::H3_NO_ERROR });
            }
            RequestPhase::Closed => self.bytes_behind_close(stream),
            _ => {}
        }
        request.phase = RequestPhase::Done;
    }

    fn answered_if(&mut self, fin: bool, stream: StreamId) {
        if fin {
            self.answered(stream);
        }
    }

    /// A request is done with. The rest of its body, if there is one, has no reader any more.
    pub(super) fn answered(&mut self, stream: StreamId) {
        self.requests.retain(|known| *known != stream);
        let phase = self.request_phase(stream);
        if matches!(phase, Some(RequestPhase::Head | RequestPhase::Body | RequestPhase::Trailers)) {
            self.take_stream(stream);
            self.transmits.push_back(Transmit::Stop { stream, code: Code::H3_NO_ERROR });
        }
    }

    pub(super) fn request_phase(&self, id: StreamId) -> Option<RequestPhase> {
        self.streams.iter().find_map(|(known, stream)| match stream {
            Stream::Request(request) if *known == id => Some(request.phase),
            _ => None,
        })
    }

    /// Changes the phase of a request that is not being read right now.
    pub(super) fn set_request_phase(&mut self, id: StreamId, phase: RequestPhase) {
        let found = self.streams.iter_mut().find(|(known, _)| *known == id);
        if let Some((_, Stream::Request(request))) = found {
            request.phase = phase;
        }
    }
}

fn plan(phase: RequestPhase, kind: u64, length: u64, max: u64, unknown: &mut u32) -> Result<Plan, Stopped> {
    let unexpected = |reason| Err(ConnectionError::new(Code::H3_FRAME_UNEXPECTED, reason).into());
    match (kind, phase) {
        (frame::HEADERS, RequestPhase::Head | RequestPhase::Body) if length > max => Err(Stopped::TooLong),
        (frame::HEADERS, RequestPhase::Head | RequestPhase::Body) => Ok(Plan::Collect),
        (frame::DATA, RequestPhase::Body | RequestPhase::Session) => Ok(Plan::Stream),
        (frame::WT_STREAM, _) => {
            let reason = "a WebTransport stream inside another";
            Err(ConnectionError::new(Code::H3_FRAME_ERROR, reason).into())
        }
        (
            frame::HEADERS
            | frame::DATA
            | frame::SETTINGS
            | frame::GOAWAY
            | frame::PUSH_PROMISE
            | frame::CANCEL_PUSH
            | frame::MAX_PUSH_ID,
            _,
        ) => unexpected("a frame where it must not be"),
        (kind, _) if frame::is_http2_leftover(kind) => unexpected("a frame of HTTP/2"),
        _ => {
            *unknown += 1;
            Ok(Plan::Skip)
        }
    }
}
