//! The server's half of the WebSocket framing.
//!
//! Reading is pulled from the caller's buffer: a frame that is all there is unmasked in place and handed out without a
//! copy; an incomplete one is kept aside, and only then does a connection hold a buffer of its own.
//!
//! Spec: RFC 6455 section 5

use bytes::Bytes;
use gyre_protocol::Disconnect;

/// Something a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A whole message, text or binary, at this range of the buffer.
    Message(std::ops::Range<usize>),
    /// A whole message that came in fragments.
    Assembled(Vec<u8>),
    /// A ping with this payload, which the pong repeats.
    Ping(std::ops::Range<usize>),
    /// A pong.
    Pong,
    /// The client ends the connection, with a code unless it gave none.
    Close(Option<u16>),
}

/// Bytes that are no WebSocket frames, or a message that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// The client broke the framing.
    #[error("{0}")]
    Protocol(&'static str),
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
            Self::TooLarge => 1009,
        }
    }
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Payload of a control frame at most.
const CONTROL_BYTES_MAX: u64 = 125;
/// Header of a masked frame at most.
const HEADER_BYTES_MAX: usize = 14;

/// Reads frames, and joins fragments.
#[derive(Debug)]
pub(super) struct Decoder {
    limit: usize,
    /// The beginning of a frame that is not all there.
    partial: Vec<u8>,
    /// The fragments of a message so far.
    fragments: Option<Vec<u8>>,
}

/// A frame's header, taken apart.
struct Header {
    is_final: bool,
    opcode: u8,
    mask: [u8; 4],
    start: usize,
    length: usize,
}

impl Decoder {
    /// A decoder for messages of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, partial: Vec::new(), fragments: None }
    }

    /// True if the bytes to come belong behind bytes kept from before.
    pub(super) fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The bytes kept from before with `bytes` behind them.
    pub(super) fn join(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        joined
    }

    /// Keeps the rest of a buffer, an incomplete frame, until more comes. The frame's length has been checked, so the
    /// limit bounds what is kept.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.partial = Vec::with_capacity(rest.len().min(self.limit + HEADER_BYTES_MAX));
        self.partial.extend_from_slice(rest);
    }

    /// Reads the next frame of `buffer` from `at` on, and moves `at` behind it. `None` if it is not all there.
    ///
    /// # Errors
    /// If the bytes are no frame a client may send now. The connection cannot go on after that.
    pub(super) fn next(&mut self, buffer: &mut [u8], at: &mut usize) -> Result<Option<Event>, FrameError> {
        loop {
            let Some(header) = self.header(&buffer[*at..])? else { return Ok(None) };
            let start = *at + header.start;
            let range = start..start + header.length;
            let Some(payload) = buffer.get_mut(range.clone()) else { return Ok(None) };
            unmask(payload, header.mask);
            *at = range.end;
            match header.opcode {
                PING => return Ok(Some(Event::Ping(range))),
                PONG => return Ok(Some(Event::Pong)),
                CLOSE => return close(payload).map(Some),
                TEXT | BINARY if header.is_final => return Ok(Some(Event::Message(range))),
                TEXT | BINARY => self.fragments = Some(payload.to_vec()),
                _ => {
                    let Some(fragments) = &mut self.fragments else { continue };
                    fragments.extend_from_slice(payload);
                    if header.is_final {
                        return Ok(self.fragments.take().map(Event::Assembled));
                    }
                }
            }
        }
    }

    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, FrameError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
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
        let assembled = self.fragments.as_ref().map_or(0, Vec::len);
        if opcode < CLOSE && length.saturating_add(assembled as u64) > self.limit as u64 {
            return Err(FrameError::TooLarge);
        }
        let Some(&[a, b, c, d]) = rest.get(extra..extra + 4) else { return Ok(None) };
        let start = 2 + extra + 4;
        Ok(Some(Header { is_final, opcode, mask: [a, b, c, d], start, length: length as usize }))
    }
}

/// Spec: RFC 6455 sections 5.5.1 and 7.4
fn close(payload: &[u8]) -> Result<Event, FrameError> {
    let code = match payload {
        [] => return Ok(Event::Close(None)),
        [_] => return Err(FrameError::Protocol("a close code of one byte")),
        [high, low, reason @ ..] => {
            std::str::from_utf8(reason)
                .map_err(|_| FrameError::Protocol("a close reason that is not UTF-8"))?;
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
    let mut frame = vec![0x80 | CLOSE, 2 + reason.len() as u8];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    frame.into()
}

/// A pong that repeats a ping's payload.
pub(super) fn pong_frame(payload: &[u8]) -> Bytes {
    let mut frame = vec![0x80 | PONG, payload.len() as u8];
    frame.extend_from_slice(payload);
    frame.into()
}

#[cfg(test)]
mod tests;
