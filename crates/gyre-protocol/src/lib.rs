//! Messages, codecs and code tables of the Centrifuge client protocol, version 2.
//!
//! Everything here is a pure function of bytes: no sockets, clocks, tasks or logging. Decoding borrows from its
//! input, encoding appends to a caller's buffer, and no length taken from the wire is used before it was bounded.
//!
//! * [`api`]: requests and answers of the server API.
//! * [`client`]: commands, replies and pushes.
//! * [`codec`]: JSON lines and length-delimited Protobuf for them.
//! * [`codes`]: the one table of error, unsubscribe and disconnect codes.

pub mod api;
pub mod client;
pub mod codec;
pub mod codes;

pub use client::*;
pub use codes::{ClientError, Disconnect, Unsubscribe};
