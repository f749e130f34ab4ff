//! Commands, replies and pushes.
//!
//! Requests borrow from the received bytes; results and pushes own what they carry, because they outlive the turn
//! in which they were made (shared publications, queued frames).
//!
//! Spec: centrifugal/protocol `client.proto`.

mod command;
mod payload;
mod push;
mod reply;

pub use command::*;
pub use payload::*;
pub use push::*;
pub use reply::*;
