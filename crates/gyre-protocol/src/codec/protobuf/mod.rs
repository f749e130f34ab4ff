//! Protobuf messages, each after its length.
//!
//! Spec: centrifugal/protocol `client.proto`; protobuf.dev, "Encoding".

pub(crate) mod decode;
pub(crate) mod encode;
pub mod wire;

use super::DecodeError;

pub use decode::{decode_command, decode_connect_request, decode_emulation_request};
pub use encode::{encode_push, encode_reply};

/// Bytes of a varint at most.
pub const VARINT_BYTES_MAX: usize = 10;

/// Reads a length prefix: the length and its own size. `None` if it is incomplete.
///
/// # Errors
/// If it is longer than a varint can be.
pub fn read_length(bytes: &[u8]) -> Result<Option<(u64, usize)>, DecodeError> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return match i == VARINT_BYTES_MAX - 1 && *byte > 1 {
                true => Err(DecodeError::Protobuf { at: i, expected: "a varint of 64 bits" }),
                false => Ok(Some((value, i + 1))),
            };
        }
    }
    match bytes.len() < VARINT_BYTES_MAX {
        true => Ok(None),
        false => Err(DecodeError::Protobuf { at: VARINT_BYTES_MAX, expected: "the end of a varint" }),
    }
}

/// Splits the first command off a frame. No length is believed beyond what is there.
pub(super) fn split_delimited(frame: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    if frame.is_empty() {
        return Err(DecodeError::NoCommand);
    }
    let Some((length, header)) = read_length(frame)? else {
        return Err(DecodeError::Protobuf { at: frame.len(), expected: "the rest of a length" });
    };
    let rest = &frame[header..];
    if length > rest.len() as u64 {
        return Err(DecodeError::Protobuf { at: frame.len(), expected: "the rest of a message" });
    }
    Ok(rest.split_at(length as usize))
}
