//! The server's half of the WebSocket framing.
//!
//! Reading is pulled from the caller's buffer: a frame that is all there is unmasked in place and handed out without a
//! copy. Only an incomplete frame or message is kept aside, in a buffer that grows with what was received (never with a
//! declared length) and leaves with the message, so that an idle connection holds none. Compressed messages are inflated
//! whole, to a limit of their own.
//!
//! Spec: RFC 6455 section 5

mod text;

use std::{borrow::Cow, num::NonZeroU32, ops::Range};

use bytes::Bytes;
use gyre_core::hub::websocket_frame;
use gyre_protocol::Disconnect;

use super::deflate::inflate;
use text::TextCheck;

/// Something a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A whole message of UTF-8.
    Text(Cow<'a, [u8]>),
    /// A whole message of any bytes.
    Binary(Cow<'a, [u8]>),
    /// A ping with this payload, which the pong repeats.
    Ping(Cow<'a, [u8]>),
    /// A pong.
    Pong,
    /// The client ends the connection, with a code unless it gave none.
    Close(Option<u16>),
}

/// Bytes that are no WebSocket frames, or a message that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// The client broke the framing.
    #[error("{0}")]
    Protocol(&'static str),
    /// A text that is not UTF-8.
    #[error("a text that is not UTF-8")]
    Text,
    /// A message exceeds the limit.
    #[error("the message exceeds the limit")]
    TooLarge,
}

impl FrameError {
    /// The close code for it.
    ///
    /// Spec: RFC 6455 section 7.4.1
    pub(super) fn close_code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::Text => 1007,
            Self::TooLarge => 1009,
        }
    }
}

const FIN: u8 = 0x80;
/// Marks a compressed message, in its first frame.
///
/// Spec: RFC 7692 section 6
const RSV1: u8 = 0x40;
const RESERVED: u8 = 0x30;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Payload of a control frame at most.
///
/// Spec: RFC 6455 section 5.5
const CONTROL_BYTES_MAX: u64 = 125;

/// Reads frames, and joins fragments.
#[derive(Debug)]
pub(super) struct Decoder {
    limit: usize,
    /// Bytes of an inflated message at most, if compression is agreed on.
    inflated_max: Option<NonZeroU32>,
    /// The beginning of a frame that is not all there.
    partial: Vec<u8>,
    /// So many bytes of its payload are unmasked, and checked if they are text.
    prepared: usize,
    /// The text of which a part has come.
    text: TextCheck,
    /// The message whose last fragment has not come.
    fragments: Option<Box<Fragments>>,
}

/// The fragments of a message so far.
#[derive(Debug)]
struct Fragments {
    bytes: Vec<u8>,
    is_text: bool,
    is_compressed: bool,
}

/// A frame's header, taken apart.
#[derive(Clone, Copy)]
struct Header {
    is_final: bool,
    is_compressed: bool,
    opcode: u8,
    mask: [u8; 4],
    start: usize,
    length: usize,
}

/// A whole frame, unmasked.
struct Frame {
    is_final: bool,
    is_compressed: bool,
    opcode: u8,
    payload: Payload,
}

impl Frame {
    /// True if its text was checked while it came.
    fn is_checked(&self) -> bool {
        matches!(self.payload, Payload::Own(_))
    }
}

/// Where a payload is: in the caller's buffer, or put together from pieces.
enum Payload {
    At(Range<usize>),
    Own(Vec<u8>),
}

impl Payload {
    fn in_buffer(self, buffer: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::At(range) => Cow::Borrowed(&buffer[range]),
            Self::Own(bytes) => Cow::Owned(bytes),
        }
    }
}

impl Decoder {
    /// A decoder for messages of at most `limit` bytes on the wire. With `inflated_max` they may be compressed, and have
    /// at most that many bytes inflated.
    pub(super) fn new(limit: usize, inflated_max: Option<NonZeroU32>) -> Self {
        Self {
            limit,
            inflated_max,
            partial: Vec::new(),
            prepared: 0,
            text: TextCheck::default(),
            fragments: None,
        }
    }

    /// Reads `buffer` from `at` on up to the end of the next event, and moves `at` there. `None` if all was taken in.
    ///
    /// # Errors
    /// If the bytes are no frame a client may send now. The connection cannot go on after that.
    pub(super) fn next<'a>(
        &mut self,
        buffer: &'a mut [u8],
        at: &mut usize,
    ) -> Result<Option<Event<'a>>, FrameError> {
        loop {
            let Some(frame) = self.frame(buffer, at)? else { return Ok(None) };
            let is_fragment = frame.opcode == CONTINUATION || (frame.opcode < CLOSE && !frame.is_final);
            if is_fragment || frame.is_compressed {
                match self.join(frame, buffer)? {
                    Some(message) => return Ok(Some(message)),
                    None => continue,
                }
            }
            let (opcode, is_checked) = (frame.opcode, frame.is_checked());
            let payload = frame.payload.in_buffer(buffer);
            return match opcode {
                PING => Ok(Some(Event::Ping(payload))),
                PONG => Ok(Some(Event::Pong)),
                CLOSE => close(&payload).map(Some),
                TEXT if is_checked => self.text.finish().map(|()| Some(Event::Text(payload))),
                TEXT if std::str::from_utf8(&payload).is_err() => Err(FrameError::Text),
                TEXT => Ok(Some(Event::Text(payload))),
                _ => Ok(Some(Event::Binary(payload))),
            };
        }
    }

    /// Adds a fragment, of which a message that is compressed may be the only one; returns the message with the last
    /// one.
    fn join(&mut self, frame: Frame, buffer: &[u8]) -> Result<Option<Event<'static>>, FrameError> {
        let is_checked = frame.is_checked();
        let Frame { is_final, is_compressed, opcode, payload } = frame;
        let payload = payload.in_buffer(buffer);
        let mut fragments = self.fragments.take().unwrap_or_else(|| {
            Box::new(Fragments { bytes: Vec::new(), is_text: opcode == TEXT, is_compressed })
        });
        fragments.bytes.extend_from_slice(&payload);
        let is_plain_text = fragments.is_text && !fragments.is_compressed;
        if is_plain_text && !is_checked {
            self.text.push(&payload)?;
        }
        if !is_final {
            self.fragments = Some(fragments);
            return Ok(None);
        }
        if fragments.is_compressed {
            let inflated_max = self.inflated_max.map_or(0, |max| max.get() as usize);
            fragments.bytes = inflate(&fragments.bytes, inflated_max)?;
            if fragments.is_text && std::str::from_utf8(&fragments.bytes).is_err() {
                return Err(FrameError::Text);
            }
        }
        if is_plain_text {
            self.text.finish()?;
        }
        let message = Cow::Owned(fragments.bytes);
        Ok(Some(if fragments.is_text { Event::Text(message) } else { Event::Binary(message) }))
    }

    /// The next frame, if it is all there; else what is there is kept.
    fn frame(&mut self, buffer: &mut [u8], at: &mut usize) -> Result<Option<Frame>, FrameError> {
        if !self.partial.is_empty() {
            return self.complete(buffer, at);
        }
        let rest = &mut buffer[*at..];
        let header = self.header(rest)?;
        if let Some(Header { is_final, is_compressed, opcode, mask, start, length }) = header
            && let Some(payload) = rest.get_mut(start..start.saturating_add(length))
        {
            unmask(payload, mask);
            let start = *at + start;
            *at = start + length;
            return Ok(Some(Frame { is_final, is_compressed, opcode, payload: Payload::At(start..*at) }));
        }
        self.partial.extend_from_slice(rest);
        *at = buffer.len();
        match header {
            Some(header) => self.prepare(&header).map(|()| None),
            None => Ok(None),
        }
    }

    /// Goes on with the frame whose beginning was kept, taking no byte beyond its end. Each byte is copied once,
    /// however small the pieces are that it comes in.
    fn complete(&mut self, buffer: &[u8], at: &mut usize) -> Result<Option<Frame>, FrameError> {
        loop {
            let header = self.header(&self.partial)?;
            let wanted = match &header {
                None => self.partial.len() + 1,
                Some(header) => header.start.saturating_add(header.length),
            };
            let missing = wanted - self.partial.len();
            if let Some(header) = header {
                self.prepare(&header)?;
                if missing == 0 {
                    self.prepared = 0;
                    let mut payload = std::mem::take(&mut self.partial);
                    payload.drain(..header.start);
                    let Header { is_final, is_compressed, opcode, .. } = header;
                    return Ok(Some(Frame {
                        is_final,
                        is_compressed,
                        opcode,
                        payload: Payload::Own(payload),
                    }));
                }
            }
            let rest = &buffer[*at..];
            let taken = &rest[..missing.min(rest.len())];
            if taken.is_empty() {
                return Ok(None);
            }
            self.partial.extend_from_slice(taken);
            *at += taken.len();
        }
    }

    /// Unmasks what came of a payload, and refuses a text at the first byte that spoils it.
    fn prepare(&mut self, header: &Header) -> Result<(), FrameError> {
        let mut mask = header.mask;
        mask.rotate_left(self.prepared % 4);
        let new = &mut self.partial[header.start + self.prepared..];
        self.prepared += new.len();
        unmask(new, mask);
        let is_plain_text = match (header.opcode, &self.fragments) {
            (TEXT, _) => !header.is_compressed,
            (CONTINUATION, Some(fragments)) => fragments.is_text && !fragments.is_compressed,
            _ => false,
        };
        if is_plain_text { self.text.push(new) } else { Ok(()) }
    }

    /// Reads a header; `None` if it is not all there. Whatever can be refused is refused here, by the fewest bytes.
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let (is_final, opcode) = (first & FIN != 0, first & 0x0f);
        let is_compressed = first & RSV1 != 0;
        let may_be_compressed = self.inflated_max.is_some() && matches!(opcode, TEXT | BINARY);
        if first & RESERVED != 0 || (is_compressed && !may_be_compressed) {
            return Err(FrameError::Protocol("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(FrameError::Protocol("a client's frame is not masked"));
        }
        match opcode {
            CONTINUATION if self.fragments.is_none() => {
                return Err(FrameError::Protocol("a continuation of nothing"));
            }
            TEXT | BINARY if self.fragments.is_some() => {
                return Err(FrameError::Protocol("a new message inside a fragmented one"));
            }
            CONTINUATION | TEXT | BINARY => {}
            CLOSE | PING | PONG if !is_final => {
                return Err(FrameError::Protocol("a fragmented control frame"));
            }
            CLOSE | PING | PONG => {}
            _ => return Err(FrameError::Protocol("an unknown opcode")),
        }
        let (length, extra) = match (second & 0x7f, rest) {
            (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 2),
            (127, &[a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 8),
            (126 | 127, _) => return Ok(None),
            (short, _) => (u64::from(short), 0),
        };
        if opcode >= CLOSE && length > CONTROL_BYTES_MAX {
            return Err(FrameError::Protocol("a control frame is too long"));
        }
        // Decided by the header, before anything is kept.
        let assembled = self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.len());
        if opcode < CLOSE && length.saturating_add(assembled as u64) > self.limit as u64 {
            return Err(FrameError::TooLarge);
        }
        let Some(&[a, b, c, d]) = rest.get(extra..extra + 4) else { return Ok(None) };
        let start = 2 + extra + 4;
        Ok(Some(Header {
            is_final,
            is_compressed,
            opcode,
            mask: [a, b, c, d],
            start,
            length: length as usize,
        }))
    }
}

/// Spec: RFC 6455 sections 5.5.1 and 7.4
fn close(payload: &[u8]) -> Result<Event<'static>, FrameError> {
    let code = match payload {
        [] => return Ok(Event::Close(None)),
        [_] => return Err(FrameError::Protocol("a close code of one byte")),
        [high, low, reason @ ..] => {
            std::str::from_utf8(reason).map_err(|_| FrameError::Text)?;
            u16::from_be_bytes([*high, *low])
        }
    };
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(Event::Close(Some(code))),
        _ => Err(FrameError::Protocol("an invalid close code")),
    }
}

/// Undoes the client's mask, eight bytes at a time.
///
/// Spec: RFC 6455 section 5.3
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// A close frame; the reason is cut to what fits.
pub(super) fn close_frame(code: u16, reason: &str) -> Bytes {
    let disconnect = Disconnect { code: code.into(), reason: reason.to_owned().into() };
    let reason = disconnect.reason_within(Disconnect::REASON_BYTES_MAX);
    websocket_frame(FIN | CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat(), None)
}

/// A pong that repeats a ping's payload.
pub(super) fn pong_frame(payload: &[u8]) -> Bytes {
    websocket_frame(FIN | PONG, payload, None)
}

#[cfg(test)]
mod tests;
