//! Sans-IO HTTP/3 (RFC 9114) with WebTransport, server side.
//!
//! A [`Connection`] takes what arrives on a QUIC connection (stream bytes, ends, resets, datagrams) and gives back
//! [`Event`]s for the application and [`Transmit`]s for QUIC. It reads no clock and no socket, and never allocates by a
//! length it was told: what it holds is bounded by [`Config`].
//!
//! The bytes of an accepted WebTransport stream are not framed: once a stream is announced
//! ([`Event::SessionStream`]), the driver reads and writes it directly, and this crate sees it no more.
//!
//! * No dynamic QPACK table in either direction, hence no blocked streams and no table memory.
//! * Several drafts of WebTransport at once, from one table of settings ([`Dialects`]).
//! * No flow control of sessions beyond QUIC's own; streams of the server's are opened by the driver.
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//! use gyre_h3::{Config, Connection, Transmit};
//!
//! let mut connection = Connection::new(Arc::new(Config::default()), Instant::now());
//! // The first thing to send is the control stream with its SETTINGS.
//! assert!(matches!(connection.poll_transmit(), Some(Transmit::OpenControl(_))));
//! ```

mod arrivals;
mod capsule;
mod config;
mod connection;
mod error;
mod event;
mod flow;
mod frame;
mod headers;
mod qpack;
mod rate;
mod session;
mod settings;
mod subprotocol;
mod varint;

pub use config::Config;
pub use connection::Connection;
pub use error::{Code, ConnectionError, application_error, from_application_error};
pub use event::{Event, Reading, StreamId, Transmit};
pub use headers::{RequestHead, ResponseHead};
pub use settings::{Dialect, Dialects};
pub use subprotocol::{Negotiated, negotiate_protocol};
