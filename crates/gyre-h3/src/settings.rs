//! SETTINGS: which drafts of WebTransport are offered, and which one a peer speaks.

use crate::{
    Config,
    error::{Code, ConnectionError},
    varint,
};

/// A draft of WebTransport over HTTP/3, named by its first number of a series alike on the wire.
///
/// Spec: draft-ietf-webtrans-http3-02, -07, -13
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// Drafts 02 to 06: Chromium and Firefox.
    Draft02,
    /// Drafts 07 to 12: Safari.
    Draft07,
    /// Drafts 13 and 14: Safari 26.4 and later.
    Draft13,
}

/// The drafts that are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialects {
    /// Drafts 02 to 06.
    pub draft02: bool,
    /// Drafts 07 to 12.
    pub draft07: bool,
    /// Drafts 13 and 14.
    pub draft13: bool,
}

impl Dialects {
    /// All that are spoken.
    pub const ALL: Self = Self { draft02: true, draft07: true, draft13: true };
    /// HTTP/3 without WebTransport.
    pub const NONE: Self = Self { draft02: false, draft07: false, draft13: false };

    /// True if WebTransport is offered at all.
    pub fn any(self) -> bool {
        self.draft02 || self.draft07 || self.draft13
    }
}

/// Settings of the form `0x1f * n + 0x21` mean nothing, and peers must pass over them.
///
/// Spec: RFC 9114 section 7.2.4.1
const RESERVED_FIRST: u64 = 0x21;
const RESERVED_STEP: u64 = 0x1f;
const QPACK_MAX_TABLE_CAPACITY: u64 = 0x01;
const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
const QPACK_BLOCKED_STREAMS: u64 = 0x07;
const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
const H3_DATAGRAM: u64 = 0x33;
const WT_ENABLE_DRAFT02: u64 = 0x2b60_3742;
const WT_MAX_SESSIONS_DRAFT07: u64 = 0xc671_706a;
const WT_MAX_SESSIONS_DRAFT13: u64 = 0x14e9_cd29;
const WT_INITIAL_MAX_DATA: u64 = 0x2b61;
const WT_INITIAL_MAX_STREAMS_UNI: u64 = 0x2b64;
const WT_INITIAL_MAX_STREAMS_BIDI: u64 = 0x2b65;
/// The only session limits seen to work with Safari; one session a connection is bounded by QUIC's own.
const NO_SESSION_LIMIT: u64 = 1 << 60;

/// The payload of our SETTINGS frame.
///
/// Spec: RFC 9114 section 7.2.4; section 7.2.4.1 for the reserved ones
pub(crate) fn encode(config: &Config) -> Vec<u8> {
    let (dialects, sessions) = (config.dialects, config.sessions_max as u64);
    let mut out = Vec::with_capacity(96);
    let mut put = |id, value| {
        varint::put(&mut out, id);
        varint::put(&mut out, value);
    };
    put(QPACK_MAX_TABLE_CAPACITY, 0);
    put(MAX_FIELD_SECTION_SIZE, config.field_section_max as u64);
    put(QPACK_BLOCKED_STREAMS, 0);
    if dialects.any() || config.websocket {
        put(ENABLE_CONNECT_PROTOCOL, 1);
    }
    if dialects.any() {
        put(H3_DATAGRAM, 1);
    }
    if dialects.draft13 {
        put(WT_INITIAL_MAX_DATA, NO_SESSION_LIMIT);
        put(WT_INITIAL_MAX_STREAMS_UNI, NO_SESSION_LIMIT);
        put(WT_INITIAL_MAX_STREAMS_BIDI, NO_SESSION_LIMIT);
        put(WT_MAX_SESSIONS_DRAFT13, sessions);
    }
    if dialects.draft02 {
        put(WT_ENABLE_DRAFT02, 1);
    }
    if dialects.draft07 {
        put(WT_MAX_SESSIONS_DRAFT07, sessions);
    }
    put(RESERVED_STEP * (config.grease & 0xffff) + RESERVED_FIRST, 0);
    out
}

/// What matters of the peer's SETTINGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerSettings {
    pub(crate) datagrams: bool,
    draft02: bool,
    draft13: bool,
}

impl PeerSettings {
    /// Reads the payload of the peer's SETTINGS frame.
    ///
    /// # Errors
    /// `H3_SETTINGS_ERROR` for a repeated or reserved setting or a value out of range, `H3_FRAME_ERROR` if it is cut.
    pub(crate) fn decode(mut payload: &[u8]) -> Result<Self, ConnectionError> {
        const BAD: ConnectionError =
            ConnectionError::new(Code::H3_SETTINGS_ERROR, "a setting that must not be");
        let mut settings = Self::default();
        let mut seen = Vec::new();
        while !payload.is_empty() {
            let (Some(id), Some(value)) = (varint::take(&mut payload), varint::take(&mut payload)) else {
                return Err(ConnectionError::new(Code::H3_FRAME_ERROR, "SETTINGS end inside a setting"));
            };
            if seen.contains(&id) || matches!(id, 0x00 | 0x02..=0x05) {
                return Err(BAD);
            }
            seen.push(id);
            match id {
                ENABLE_CONNECT_PROTOCOL | H3_DATAGRAM if value > 1 => return Err(BAD),
                H3_DATAGRAM => settings.datagrams = value == 1,
                WT_ENABLE_DRAFT02 => settings.draft02 = value == 1,
                WT_MAX_SESSIONS_DRAFT13 => settings.draft13 = value > 0,
                _ => {}
            }
        }
        Ok(settings)
    }

    /// The highest draft both sides speak; a peer that named none is taken for draft 07, where it need not.
    pub(crate) fn dialect(&self, offered: Dialects) -> Dialect {
        match self {
            Self { draft13: true, .. } if offered.draft13 => Dialect::Draft13,
            Self { draft02: true, .. } if offered.draft02 => Dialect::Draft02,
            _ => Dialect::Draft07,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The payload accepted by Chromium 156, byte for byte, followed by the reserved setting.
    #[test]
    fn payload_is_the_one_browsers_accept() {
        let mut expected = vec![0x01, 0x00, 0x06, 0x80, 0x00, 0x40, 0x00, 0x07, 0x00, 0x08, 0x01, 0x33, 0x01];
        for id in [[0x6b, 0x61], [0x6b, 0x64], [0x6b, 0x65]] {
            expected.extend(id);
            expected.extend([0xd0, 0, 0, 0, 0, 0, 0, 0]);
        }
        expected.extend([0x94, 0xe9, 0xcd, 0x29, 0x01, 0xab, 0x60, 0x37, 0x42, 0x01]);
        expected.extend([0xc0, 0, 0, 0, 0xc6, 0x71, 0x70, 0x6a, 0x01]);
        expected.extend([0x21, 0x00]);
        assert_eq!(encode(&Config::default()), expected);
    }

    /// What Chromium sends is understood; each rule on settings has its error.
    #[test]
    fn peers_settings_are_checked() {
        let chromium = [
            0x01, 0x80, 0x01, 0x00, 0x00, 0x06, 0x80, 0x00, 0x40, 0x00, 0x07, 0x40, 0x64, 0x33, 0x01, 0xab,
            0x60, 0x37, 0x42, 0x01,
        ];
        let settings = PeerSettings::decode(&chromium).unwrap();
        assert!(settings.datagrams);
        assert_eq!(settings.dialect(Dialects::ALL), Dialect::Draft02);
        let refused = |payload: &[u8]| PeerSettings::decode(payload).map_err(|error| error.code);
        assert_eq!(refused(&[0x06, 0x01, 0x06, 0x01]), Err(Code::H3_SETTINGS_ERROR), "repeated");
        assert_eq!(refused(&[0x02, 0x00]), Err(Code::H3_SETTINGS_ERROR), "reserved");
        assert_eq!(refused(&[0x33, 0x02]), Err(Code::H3_SETTINGS_ERROR), "out of range");
        assert_eq!(refused(&[0x06]), Err(Code::H3_FRAME_ERROR), "cut");
    }
}
