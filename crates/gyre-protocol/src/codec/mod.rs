//! JSON lines and length-delimited Protobuf.
//!
//! Decoding borrows from its input and bounds every length before it is used; encoding appends to a caller's buffer.
//! Framing beyond that (WebSocket headers, line feeds at the end of a stream's messages) is the caller's.

pub mod json;
pub mod protobuf;
mod stream;

use std::borrow::Cow;

use crate::client::{Command, EmulationRequest, Push, Reply};

pub use stream::StreamDecoder;

/// Of entries with equal keys keeps the last, at the place of the first. Takes no more than sorting them would: clients
/// send whole messages of tiny entries.
pub(crate) fn last_wins<T>(entries: &mut Vec<(Cow<'_, str>, T)>) {
    if entries.len() < 2 {
        return;
    }
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by(|a, b| entries[*a].0.cmp(&entries[*b].0));
    let mut is_kept = vec![true; entries.len()];
    let mut first = order[0];
    for at in order.into_iter().skip(1) {
        if entries[at].0 == entries[first].0 {
            // The order of equal keys is that in which they came: the last of them stays there.
            entries.swap(first, at);
            is_kept[at] = false;
        } else {
            first = at;
        }
    }
    let mut is_kept = is_kept.into_iter();
    entries.retain(|_| is_kept.next().unwrap_or(true));
}

/// How messages are written on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One JSON object a line.
    Json,
    /// Protobuf messages, each after its length.
    Protobuf,
}

/// Bytes that are no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or JSON of another shape.
    #[error("malformed JSON at byte {at}: expected {expected}")]
    Json {
        /// Offset in the message.
        at: usize,
        /// What should have been there.
        expected: &'static str,
    },
    /// Not Protobuf, or a field of another wire type.
    #[error("malformed Protobuf at byte {at}: expected {expected}")]
    Protobuf {
        /// Offset in the message.
        at: usize,
        /// What should have been there.
        expected: &'static str,
    },
    /// A frame without a command, or an empty line.
    #[error("no command where one was expected")]
    NoCommand,
    /// A command larger than the connection allows.
    #[error("a command exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

/// A message that the encoding cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The payload is not JSON, and the encoding is.
    #[error("the payload is not JSON")]
    NotJson,
}

/// How messages are written besides their encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EncodeOptions {
    /// JSON: escape every non-ASCII character, so that a reader may decode chunk by chunk.
    pub ascii: bool,
    /// Bare pushes instead of replies around them.
    pub unidirectional: bool,
    /// Delta was negotiated: JSON carries `data` of publications as a string.
    pub delta: bool,
}

/// Containers that may be open at once in received JSON, and nested messages in received Protobuf.
pub const DEPTH_MAX: usize = 64;

impl Encoding {
    /// Decodes one command: a line of JSON, or a Protobuf message without its length.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn decode_command(self, bytes: &[u8]) -> Result<Command<'_>, DecodeError> {
        match self {
            Self::Json => json::decode_command(bytes),
            Self::Protobuf => protobuf::decode_command(bytes),
        }
    }

    /// Decodes the body of an emulation request. The commands in it are in the encoding of their session.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn decode_emulation_request(self, bytes: &[u8]) -> Result<EmulationRequest<'_>, DecodeError> {
        match self {
            Self::Json => json::decode_emulation_request(bytes),
            Self::Protobuf => protobuf::decode_emulation_request(bytes),
        }
    }

    /// The commands of one frame (a WebSocket message), each as its bytes. A frame without a command is an error.
    pub fn split_frame(self, frame: &[u8]) -> FrameCommands<'_> {
        FrameCommands { encoding: self, rest: frame, is_first: true }
    }

    /// Appends a reply: a JSON object without line feed, or a Protobuf message without its length.
    ///
    /// # Errors
    /// If a payload cannot be carried; `out` then holds a part of the message.
    pub fn encode_reply(
        self,
        reply: &Reply,
        options: &EncodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Json => json::encode_reply(reply, options, out),
            Self::Protobuf => {
                protobuf::encode_reply(reply, out);
                Ok(())
            }
        }
    }

    /// Appends a push, inside a reply unless unidirectional.
    ///
    /// # Errors
    /// If a payload cannot be carried; `out` then holds a part of the message.
    pub fn encode_push(
        self,
        push: &Push,
        options: &EncodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Json => json::encode_push(push, options, out),
            Self::Protobuf => {
                protobuf::encode_push(push, options, out);
                Ok(())
            }
        }
    }
}

/// Iterates over the commands of a frame.
///
/// Spec: client protocol, "Batching": JSON commands are separated by one line feed, one may follow the last.
#[derive(Clone, Debug)]
pub struct FrameCommands<'a> {
    encoding: Encoding,
    rest: &'a [u8],
    is_first: bool,
}

impl<'a> FrameCommands<'a> {
    /// The part of the frame behind the commands already given.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for FrameCommands<'a> {
    type Item = Result<&'a [u8], DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() && !self.is_first {
            return None;
        }
        self.is_first = false;
        let split = match self.encoding {
            Encoding::Json => json::split_line(self.rest),
            Encoding::Protobuf => protobuf::split_delimited(self.rest),
        };
        match split {
            Ok((command, rest)) => {
                self.rest = rest;
                Some(Ok(command))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The same as putting each entry in the place of the one with its key: checked against just that.
        #[test]
        fn the_last_of_equal_keys_wins(keys in proptest::collection::vec("[a-d]{0,2}", 0..40)) {
            let mut entries: Vec<_> = keys.iter().map(|key| Cow::from(key.as_str())).zip(0..).collect();
            let mut expected: Vec<(Cow<'_, str>, i32)> = Vec::new();
            for (key, value) in entries.clone() {
                match expected.iter_mut().find(|(known, _)| *known == key) {
                    Some(known) => known.1 = value,
                    None => expected.push((key, value)),
                }
            }
            last_wins(&mut entries);
            prop_assert_eq!(entries, expected);
        }
    }
}
