//! Transports: bytes to commands and frames to bytes.
//!
//! * [`http`]: listeners, TLS, HTTP/1 and HTTP/2, and the one service all versions of HTTP are answered by.
//! * [`websocket`]: WebSocket connections.
//! * [`streaming`]: server-sent events, HTTP streaming, and requests that carry commands to such connections.
//! * [`quic`], [`webtransport`]: HTTP/3 and WebTransport sessions.
//!
//! A transport knows nothing of channels, tokens or recovery: it hands commands to its shard and writes the frames it
//! is given. Everything here runs on a shard's thread.

pub mod http;
mod pump;
pub mod quic;
pub mod socket;
pub mod streaming;
pub mod tls;
mod tunnel;
pub mod websocket;
pub mod webtransport;
