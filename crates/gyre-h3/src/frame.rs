//! Type-length-value: the shape of HTTP/3 frames and of capsules.
//!
//! Spec: RFC 9114 section 7.1, RFC 9297 section 3.2

use bytes::Bytes;

use crate::varint;

pub(crate) const DATA: u64 = 0x00;
pub(crate) const HEADERS: u64 = 0x01;
pub(crate) const CANCEL_PUSH: u64 = 0x03;
pub(crate) const SETTINGS: u64 = 0x04;
pub(crate) const PUSH_PROMISE: u64 = 0x05;
pub(crate) const GOAWAY: u64 = 0x07;
pub(crate) const MAX_PUSH_ID: u64 = 0x0d;
/// First bytes of a bidirectional WebTransport stream; anywhere else a frame error.
pub(crate) const WT_STREAM: u64 = 0x41;

/// True for types that HTTP/2 used and HTTP/3 forbids.
///
/// Spec: RFC 9114 section 7.2.8
pub(crate) fn is_http2_leftover(kind: u64) -> bool {
    matches!(kind, 0x02 | 0x06 | 0x08 | 0x09)
}

/// What to do with an item once its type and length are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Collect the value and hand it out whole. The plan has checked the length.
    Collect,
    /// Hand the value out as it comes.
    Stream,
    /// Pass over the value.
    Skip,
}

/// Something read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A whole item.
    Whole(u64, Vec<u8>),
    /// A part of a streamed item's value.
    Part(Bytes),
}

/// Reads items from chunks that end anywhere. Holds at most one header and one collected value.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The type of an item whose length is not complete.
    kind: Option<u64>,
    partial: varint::Partial,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Header,
    Collecting {
        kind: u64,
        left: u64,
        value: Vec<u8>,
    },
    Streaming {
        left: u64,
    },
    Skipping {
        left: u64,
    },
}

impl Reader {
    /// A reader of items, of whose first one the type has been read already.
    pub(crate) fn after_kind(kind: u64) -> Self {
        Self { kind: Some(kind), ..Self::default() }
    }

    /// Reads the next piece of `input`; `None` when it is used up. `plan` is asked once for every item, with its type
    /// and length.
    ///
    /// # Errors
    /// What `plan` answers.
    pub(crate) fn next<E>(
        &mut self,
        input: &mut Bytes,
        mut plan: impl FnMut(u64, u64) -> Result<Plan, E>,
    ) -> Result<Option<Piece>, E> {
        loop {
            match &mut self.state {
                State::Header => {
                    let Some((kind, length)) = self.take_header(input) else { return Ok(None) };
                    self.state = match plan(kind, length)? {
                        Plan::Collect => State::Collecting { kind, left: length, value: Vec::new() },
                        Plan::Stream => State::Streaming { left: length },
                        Plan::Skip => State::Skipping { left: length },
                    };
                }
                State::Collecting { kind, left, value } => {
                    let part = take(input, left);
                    value.extend_from_slice(&part);
                    if *left > 0 {
                        return Ok(None);
                    }
                    let piece = Piece::Whole(*kind, std::mem::take(value));
                    self.state = State::Header;
                    return Ok(Some(piece));
                }
                State::Streaming { left } => {
                    let part = take(input, left);
                    if *left == 0 {
                        self.state = State::Header;
                    }
                    if !part.is_empty() {
                        return Ok(Some(Piece::Part(part)));
                    }
                    if input.is_empty() {
                        return Ok(None);
                    }
                }
                State::Skipping { left } => {
                    take(input, left);
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
            }
        }
    }

    /// True between items: the only place where a stream may end.
    pub(crate) fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Header) && self.kind.is_none() && self.partial.is_empty()
    }

    /// Takes type and length once both are complete.
    fn take_header(&mut self, input: &mut Bytes) -> Option<(u64, u64)> {
        if self.kind.is_none() {
            self.kind = Some(self.partial.take(input)?);
        }
        let length = self.partial.take(input)?;
        Some((self.kind.take()?, length))
    }
}

/// Takes up to `left` bytes and counts them down.
fn take(input: &mut Bytes, left: &mut u64) -> Bytes {
    let size = (*left).min(input.len() as u64);
    *left -= size;
    input.split_to(size as usize)
}

/// Appends the header of an item.
pub(crate) fn put_header(out: &mut Vec<u8>, kind: u64, length: usize) {
    varint::put(out, kind);
    varint::put(out, length as u64);
}

/// A whole item.
pub(crate) fn whole(kind: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 16);
    put_header(&mut out, kind, value.len());
    out.extend_from_slice(value);
    out
}
