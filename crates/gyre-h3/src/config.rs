//! Limits and choices.

use std::time::Duration;

use crate::{rate::Rate, settings::Dialects};

/// Limits and choices of a server's connections, shared by all of them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Drafts of WebTransport offered.
    pub dialects: Dialects,
    /// An extended CONNECT for `websocket` is a request like others, whose bodies are the two directions of a byte
    /// stream. Default false: it is answered with 501.
    pub websocket: bool,
    /// WebTransport sessions of one connection; further ones are rejected. Default 1.
    pub sessions_max: usize,
    /// Bytes of a field section; more is answered with 431. Default 16 KiB.
    pub field_section_max: usize,
    /// Field lines of a request, pseudo-fields included; more is answered with 431. Default 100.
    pub fields_max: usize,
    /// Requests with too large a field section that are answered; more end the connection. Default 8.
    pub oversized_max: u32,
    /// Bytes of the peer's SETTINGS; more ends the connection. Default 4 KiB.
    pub settings_max: usize,
    /// Bytes of a datagram in a capsule; more resets its session. Default 8 KiB.
    pub capsule_max: usize,
    /// Bytes of unknown capsules passed over in a session; more ends the connection. Default 64 KiB.
    pub skipped_capsules_max: usize,
    /// Unknown frames and streams within [`Config::RATE_WINDOW`]; more ends the connection. Default 1,000.
    pub unknown_max: u32,
    /// Requests the peer gave up within [`Config::RATE_WINDOW`]; more ends the connection. Default 100.
    pub resets_max: u32,
    /// WebTransport streams held for a session that is not accepted yet; more are rejected. Default 16.
    pub early_streams_max: usize,
    /// Datagrams held for a session that is not accepted yet; more are dropped. Default 16.
    pub early_datagrams_max: usize,
    /// Bytes of these datagrams; more are dropped. Default 16 KiB.
    pub early_datagram_bytes_max: usize,
    /// How long streams and datagrams are held for a session nobody asks for. Default 5 s.
    pub early_timeout: Duration,
    /// How far a session's id may be ahead of the streams heard of, counted in streams; a session further ahead ends
    /// the connection with `H3_ID_ERROR`. More than QUIC lets the peer have open. Default 256.
    pub ids_ahead_max: u64,
    /// How long requests for sessions wait for the peer's SETTINGS. Default 5 s.
    pub settings_timeout: Duration,
    /// How long the peer's FIN is waited for after our close, unless three probe timeouts are longer. Default 1 s.
    pub close_timeout: Duration,
    /// Between the end of the last session and the end of the connection. Default 250 ms: browsers lose the close
    /// code when the connection ends right behind it.
    pub linger: Duration,
    /// Picks the reserved setting that keeps peers tolerant.
    pub grease: u64,
}

impl Config {
    /// Over what [`Config::unknown_max`] and [`Config::resets_max`] are counted.
    pub const RATE_WINDOW: Duration = Rate::WINDOW;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dialects: Dialects::ALL,
            websocket: false,
            sessions_max: 1,
            field_section_max: 16 * 1024,
            fields_max: 100,
            oversized_max: 8,
            settings_max: 4096,
            capsule_max: 8 * 1024,
            skipped_capsules_max: 64 * 1024,
            unknown_max: 1000,
            resets_max: 100,
            early_streams_max: 16,
            early_datagrams_max: 16,
            early_datagram_bytes_max: 16 * 1024,
            early_timeout: Duration::from_secs(5),
            ids_ahead_max: 256,
            settings_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(1),
            linger: Duration::from_millis(250),
            grease: 0,
        }
    }
}
