//! Capsules of a WebTransport session.
//!
//! Spec: RFC 9297 section 3; draft-ietf-webtrans-http3, "Session Termination" and "Flow Control"

use bytes::{Buf, Bytes};

use crate::{
    error::{Code, ConnectionError},
    flow,
    frame::{self, Piece, Plan, Reader},
};

const DATAGRAM: u64 = 0x00;
const CLOSE_SESSION: u64 = 0x2843;
const DRAIN_SESSION: u64 = 0x78ae;
/// Text of a close at most.
///
/// Spec: draft-ietf-webtrans-http3, "Session Termination"
pub(crate) const CLOSE_TEXT_BYTES_MAX: usize = 1024;

/// A capsule that means something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Capsule {
    Close { code: u32, reason: String },
    Drain,
    Datagram(Bytes),
}

/// Why a session's capsules cannot be read on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CapsuleError {
    /// The CONNECT stream is reset with this code.
    Stream(Code),
    /// The whole connection ends.
    Connection(ConnectionError),
}

/// Reads the capsules of one session from the payloads of its DATA frames.
#[derive(Debug)]
pub(crate) struct Capsules {
    reader: Reader,
    /// Bytes of capsules passed over that are still tolerated.
    skippable: u64,
    capsule_max: u64,
}

const MALFORMED: CapsuleError = CapsuleError::Stream(Code::H3_MESSAGE_ERROR);

impl Capsules {
    pub(crate) fn new(capsule_max: usize, skippable: usize) -> Self {
        Self { reader: Reader::default(), skippable: skippable as u64, capsule_max: capsule_max as u64 }
    }

    /// Reads the next capsule that means something; others are passed over without being held.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Option<Capsule>, CapsuleError> {
        const TOO_MUCH: CapsuleError = CapsuleError::Connection(ConnectionError::new(
            Code::H3_EXCESSIVE_LOAD,
            "too many bytes of unknown capsules",
        ));
        let (skippable, capsule_max) = (&mut self.skippable, self.capsule_max);
        let piece = self.reader.next(input, |kind, length| match kind {
            CLOSE_SESSION if length > 4 + CLOSE_TEXT_BYTES_MAX as u64 => Err(MALFORMED),
            DRAIN_SESSION if length > 0 => Err(MALFORMED),
            DATAGRAM if length > capsule_max => Err(MALFORMED),
            CLOSE_SESSION | DRAIN_SESSION | DATAGRAM => Ok(Plan::Collect),
            _ if flow::is_capsule(kind, length) => Ok(Plan::Skip),
            _ => {
                // The header counts too, or empty capsules would be free.
                *skippable = skippable.checked_sub(length.saturating_add(2)).ok_or(TOO_MUCH)?;
                Ok(Plan::Skip)
            }
        })?;
        match piece {
            None => Ok(None),
            Some(Piece::Whole(CLOSE_SESSION, value)) => parse_close(&value).map(Some),
            Some(Piece::Whole(DATAGRAM, value)) => Ok(Some(Capsule::Datagram(value.into()))),
            Some(_) => Ok(Some(Capsule::Drain)),
        }
    }

    /// True between capsules.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.reader.is_at_boundary()
    }
}

fn parse_close(mut value: &[u8]) -> Result<Capsule, CapsuleError> {
    if value.len() < 4 {
        return Err(MALFORMED);
    }
    let code = value.get_u32();
    let reason = std::str::from_utf8(value).map_err(|_| MALFORMED)?;
    Ok(Capsule::Close { code, reason: reason.into() })
}

/// A close capsule in a DATA frame; the reason is cut to the protocol's limit at a character.
pub(crate) fn close(code: u32, reason: &str) -> Vec<u8> {
    let mut end = reason.len().min(CLOSE_TEXT_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut value = code.to_be_bytes().to_vec();
    value.extend_from_slice(&reason.as_bytes()[..end]);
    frame::whole(frame::DATA, &frame::whole(CLOSE_SESSION, &value))
}

/// A drain capsule in a DATA frame.
pub(crate) fn drain() -> Vec<u8> {
    frame::whole(frame::DATA, &frame::whole(DRAIN_SESSION, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes on the wire, as recorded from browsers.
    #[test]
    fn capsules_are_written_as_recorded() {
        let mut expected = vec![0x00, 0x0f, 0x68, 0x43, 0x0c, 0x00, 0x00, 0x0b, 0xb9];
        expected.extend_from_slice(b"shutdown");
        assert_eq!(close(3001, "shutdown"), expected);
        assert_eq!(drain(), [0x00, 0x05, 0x80, 0x00, 0x78, 0xae, 0x00]);
        assert_eq!(close(1, &"ä".repeat(600)).len(), 3 + 4 + 4 + 1024, "cut at a character");
    }

    /// A close behind an unknown capsule is found however the bytes are cut.
    #[test]
    fn any_cut_gives_the_same_capsules() {
        let mut bytes = vec![0xc0, 0, 0, 0, 0, 0, 0, 0x41, 0x03, 1, 2, 3];
        bytes.extend_from_slice(&[0x68, 0x43, 0x07, 0, 0, 0, 77, b'b', b'y', b'e']);
        for cut in 0..bytes.len() {
            let mut capsules = Capsules::new(100, 100);
            let mut found = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                let mut part = Bytes::copy_from_slice(part);
                while let Some(capsule) = capsules.next(&mut part).unwrap() {
                    found.push(capsule);
                }
            }
            assert_eq!(found, [Capsule::Close { code: 77, reason: "bye".into() }]);
        }
    }

    /// Malformed closes reset the stream; a flood of unknown capsules ends the connection, none is held.
    #[test]
    fn bad_capsules_have_their_errors() {
        let next = |bytes: &[u8]| Capsules::new(100, 1000).next(&mut Bytes::copy_from_slice(bytes));
        assert_eq!(next(&[0x68, 0x43, 0x03, 0, 0, 0]), Err(MALFORMED), "no code");
        assert_eq!(next(&[0x68, 0x43, 0x05, 0, 0, 0, 1, 0xff]), Err(MALFORMED), "not UTF-8");
        assert_eq!(next(&[0x68, 0x43, 0x44, 0x05]), Err(MALFORMED), "1025 bytes of text");
        assert_eq!(next(&[0x80, 0x00, 0x78, 0xae, 0x01]), Err(MALFORMED), "a drain with a value");
        assert_eq!(next(&[0x00, 0x40, 0x65]), Err(MALFORMED), "a datagram above the limit");
        assert!(
            matches!(next(&[0x21, 0x80, 0xff, 0xff, 0xff]), Err(CapsuleError::Connection(_))),
            "too much"
        );
    }
}
