//! One JSON object a line.
//!
//! Spec: client protocol, "JSON encoding"; centrifugal/protocol `decode_stream.go`, `encode.go`.

mod decode;
pub(crate) mod encode;
pub(crate) mod parser;

use super::DecodeError;

pub use decode::{decode_command, decode_connect_request, decode_emulation_request};
pub use encode::{encode_push, encode_reply};

/// Splits the first line off a frame. A blank line is no command.
pub(super) fn split_line(frame: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (line, rest) = match memchr::memchr(b'\n', frame) {
        Some(end) => (&frame[..end], &frame[end + 1..]),
        None => (frame, &[][..]),
    };
    if line.trim_ascii().is_empty() {
        return Err(DecodeError::NoCommand);
    }
    Ok((line, rest))
}
