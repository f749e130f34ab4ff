//! Error codes, and how applications' codes travel.

use std::fmt;

/// An error code of HTTP/3, QPACK or WebTransport on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u64);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// RFC 9114 section 8.1, as all `H3_` codes.
    H3_NO_ERROR = 0x100;
    /// A violation no other code names.
    H3_GENERAL_PROTOCOL_ERROR = 0x101;
    /// The implementation failed.
    H3_INTERNAL_ERROR = 0x102;
    /// A stream that must not be opened.
    H3_STREAM_CREATION_ERROR = 0x103;
    /// A critical stream ended.
    H3_CLOSED_CRITICAL_STREAM = 0x104;
    /// A frame where it must not be.
    H3_FRAME_UNEXPECTED = 0x105;
    /// A frame that does not fill its length.
    H3_FRAME_ERROR = 0x106;
    /// The peer does too much of something.
    H3_EXCESSIVE_LOAD = 0x107;
    /// An id out of order or range.
    H3_ID_ERROR = 0x108;
    /// A setting that must not be.
    H3_SETTINGS_ERROR = 0x109;
    /// The control stream did not begin with SETTINGS.
    H3_MISSING_SETTINGS = 0x10a;
    /// A request that was not processed.
    H3_REQUEST_REJECTED = 0x10b;
    /// A request that is no longer wanted.
    H3_REQUEST_CANCELLED = 0x10c;
    /// A request that ended early.
    H3_REQUEST_INCOMPLETE = 0x10d;
    /// A malformed message.
    H3_MESSAGE_ERROR = 0x10e;
    /// RFC 9204 section 8.3, as all `QPACK_` codes.
    QPACK_DECOMPRESSION_FAILED = 0x200;
    /// A malformed encoder stream.
    QPACK_ENCODER_STREAM_ERROR = 0x201;
    /// A malformed decoder stream.
    QPACK_DECODER_STREAM_ERROR = 0x202;
    /// RFC 9297 section 5.2.
    H3_DATAGRAM_ERROR = 0x33;
    /// draft-ietf-webtrans-http3 section 9.5, as all `WT_` codes: too many streams before their session.
    WT_BUFFERED_STREAM_REJECTED = 0x3994_bd84;
    /// The session of a stream is over.
    WT_SESSION_GONE = 0x170d_7b68;
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why the whole QUIC connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct ConnectionError {
    /// The code to close with.
    pub code: Code,
    /// For logs and the peer.
    pub reason: &'static str,
}

impl ConnectionError {
    pub(crate) const fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

const APPLICATION_FIRST: u64 = 0x52e4_a40f_a8db;
const APPLICATION_LAST: u64 = 0x52e5_ac98_3162;

/// The code on the wire for an application's code, leaving out the codepoints reserved for grease.
///
/// Spec: draft-ietf-webtrans-http3, "Resetting Data Streams"
pub fn application_error(code: u32) -> Code {
    let code = u64::from(code);
    Code(APPLICATION_FIRST + code + code / 0x1e)
}

/// The application's code of a code on the wire; `None` if it is none of an application's.
pub fn from_application_error(code: Code) -> Option<u32> {
    let Code(value @ APPLICATION_FIRST..=APPLICATION_LAST) = code else { return None };
    if (value - 0x21) % 0x1f == 0 {
        return None;
    }
    let shifted = value - APPLICATION_FIRST;
    u32::try_from(shifted - shifted / 0x1f).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mapping's fixed points, both ways, and that no reserved codepoint is ever produced.
    #[test]
    fn application_codes_map_both_ways() {
        for (code, wire) in [
            (0, 0x52e4_a40f_a8db),
            (29, 0x52e4_a40f_a8f8),
            (30, 0x52e4_a40f_a8fa),
            (3501, 0x52e4_a40f_b6fc),
            (u32::MAX, 0x52e5_ac98_3162),
        ] {
            assert_eq!(application_error(code), Code(wire));
            assert_eq!(from_application_error(Code(wire)), Some(code));
        }
        assert_eq!(from_application_error(Code(0x52e4_a40f_a8f9)), None, "reserved");
        assert_eq!(from_application_error(Code::H3_NO_ERROR), None);
        for code in (0..1_000_000).step_by(7) {
            let wire = application_error(code);
            assert_ne!((wire.0 - 0x21) % 0x1f, 0);
            assert_eq!(from_application_error(wire), Some(code));
        }
    }
}
