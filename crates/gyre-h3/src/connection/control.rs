//! Unidirectional streams: control, QPACK, and the beginnings of others.
//!
//! Spec: RFC 9114 sections 6.2 and 7.2, RFC 9204 section 4.2

use std::time::Instant;

use bytes::Bytes;

use super::{Connection, Handled, Stream, fatal};
use crate::{
    Event, Reading, StreamId, Transmit,
    error::Code,
    frame::{self, Piece, Plan, Reader},
    qpack::DecoderStream,
    session::Phase,
    settings::PeerSettings,
    varint::{self, Partial},
};

/// Types of unidirectional streams.
pub(super) const CONTROL: u64 = 0x00;
const PUSH: u64 = 0x01;
const QPACK_ENCODER: u64 = 0x02;
const QPACK_DECODER: u64 = 0x03;
pub(super) const WEBTRANSPORT: u64 = 0x54;
/// The value of a frame that holds an id at most.
const ID_BYTES_MAX: u64 = 8;

/// Streams of the peer that there must be one of, as far as they were opened.
#[derive(Debug, Default)]
pub(super) struct CriticalStreams {
    control: bool,
    encoder: bool,
    decoder: bool,
}

/// Ids the peer named that may only go one way.
#[derive(Debug, Default)]
pub(super) struct PeerIds {
    goaway: Option<u64>,
    max_push: Option<u64>,
}

impl Connection {
    pub(super) fn uni_type(
        &mut self,
        now: Instant,
        id: StreamId,
        mut partial: Partial,
        mut data: Bytes,
        fin: bool,
    ) -> Handled<Reading> {
        let Some(kind) = partial.take(&mut data) else {
            // One that ends before its type is complete is no error.
            return Ok(if fin { Reading::Stop } else { self.keep_stream(id, Stream::UniType(partial)) });
        };
        let critical = &mut self.critical;
        let (stream, is_second) = match kind {
            CONTROL => (Stream::Control(Box::default()), std::mem::replace(&mut critical.control, true)),
            QPACK_ENCODER => (Stream::Encoder, std::mem::replace(&mut critical.encoder, true)),
            QPACK_DECODER => {
                let is_second = std::mem::replace(&mut critical.decoder, true);
                (Stream::Decoder(DecoderStream::default()), is_second)
            }
            WEBTRANSPORT if self.config.dialects.any() => (Stream::SessionId(Partial::default()), false),
            PUSH => return fatal(Code::H3_STREAM_CREATION_ERROR, "a client cannot push"),
            _ => {
                self.count_unknown(now, 1)?;
                self.transmits.push_back(Transmit::Stop { stream: id, code: Code::H3_STREAM_CREATION_ERROR });
                return Ok(Reading::Stop);
            }
        };
        if is_second {
            return fatal(Code::H3_STREAM_CREATION_ERROR, "a second stream of a kind of which there is one");
        }
        self.dispatch(now, id, stream, data, fin)
    }

    pub(super) fn keep_critical(&mut self, id: StreamId, stream: Stream, fin: bool) -> Handled<Reading> {
        if fin {
            return fatal(Code::H3_CLOSED_CRITICAL_STREAM, "a critical stream ended");
        }
        Ok(self.keep_stream(id, stream))
    }

    pub(super) fn control(
        &mut self,
        now: Instant,
        id: StreamId,
        mut reader: Box<Reader>,
        mut data: Bytes,
        fin: bool,
    ) -> Handled<Reading> {
        loop {
            let (has_settings, settings_max) = (self.peer.is_some(), self.config.settings_max as u64);
            let mut unknown = 0;
            let piece = reader.next(&mut data, |kind, length| {
                plan(has_settings, settings_max, kind, length, &mut unknown)
            })?;
            self.count_unknown(now, unknown)?;
            match piece {
                Some(Piece::Whole(frame::SETTINGS, value)) => self.settings(&value)?,
                Some(Piece::Whole(kind, value)) => self.control_id(kind, &value)?,
                Some(Piece::Part(_)) => {}
                None => return self.keep_critical(id, Stream::Control(reader), fin),
            }
        }
    }

    /// The peer's SETTINGS, which sessions may have waited for.
    fn settings(&mut self, value: &[u8]) -> Handled {
        self.peer = Some(PeerSettings::decode(value)?);
        let held: Vec<_> = self
            .sessions
            .iter_mut()
            .filter_map(|session| match std::mem::replace(&mut session.phase, Phase::Requested) {
                Phase::Held { head, .. } => Some((session.id, head)),
                phase => {
                    session.phase = phase;
                    None
                }
            })
            .collect();
        held.into_iter().for_each(|(session, head)| self.offer_session(session, head));
        Ok(())
    }

    /// A frame that holds an id and nothing else.
    fn control_id(&mut self, kind: u64, value: &[u8]) -> Handled {
        let Some((id, _)) = varint::peek(value).filter(|&(_, size)| size == value.len()) else {
            return fatal(Code::H3_FRAME_ERROR, "a frame that is not one id");
        };
        match kind {
            frame::GOAWAY => {
                if self.peer_ids.goaway.replace(id).is_some_and(|last| id > last) {
                    return fatal(Code::H3_ID_ERROR, "the id of GOAWAY increased");
                }
                self.events.push_back(Event::GoAway);
                Ok(())
            }
            frame::MAX_PUSH_ID => match self.peer_ids.max_push.replace(id).is_some_and(|last| id < last) {
                true => fatal(Code::H3_ID_ERROR, "the id of MAX_PUSH_ID decreased"),
                false => Ok(()),
            },
            _ => fatal(Code::H3_ID_ERROR, "a push that was never promised"),
        }
    }
}

fn plan(has_settings: bool, settings_max: u64, kind: u64, length: u64, unknown: &mut u32) -> Handled<Plan> {
    match kind {
        frame::SETTINGS if has_settings => fatal(Code::H3_FRAME_UNEXPECTED, "SETTINGS twice"),
        frame::SETTINGS if length > settings_max => fatal(Code::H3_EXCESSIVE_LOAD, "SETTINGS too long"),
        frame::SETTINGS => Ok(Plan::Collect),
        _ if !has_settings => fatal(Code::H3_MISSING_SETTINGS, "SETTINGS must come first"),
        frame::GOAWAY | frame::CANCEL_PUSH | frame::MAX_PUSH_ID if length > ID_BYTES_MAX => {
            fatal(Code::H3_FRAME_ERROR, "an id that is too long")
        }
        frame::GOAWAY | frame::CANCEL_PUSH | frame::MAX_PUSH_ID => Ok(Plan::Collect),
        frame::DATA | frame::HEADERS | frame::PUSH_PROMISE => {
            fatal(Code::H3_FRAME_UNEXPECTED, "a frame of requests on the control stream")
        }
        frame::WT_STREAM => fatal(Code::H3_FRAME_ERROR, "a WebTransport stream inside another"),
        kind if frame::is_http2_leftover(kind) => fatal(Code::H3_FRAME_UNEXPECTED, "a frame of HTTP/2"),
        _ => {
            *unknown += 1;
            Ok(Plan::Skip)
        }
    }
}
