//! The rules of Gyre without IO: sessions, channels, recovery, the hub, and the ports an engine fills.
//!
//! Nothing here opens a socket, reads a clock, spawns a task or draws a random number by itself: time comes in as
//! `now`, randomness as a generator, and work to be done goes out as values. Everything is owned by one shard and
//! touched by no other thread, except the immutable tables behind `Arc`.

pub mod channel;
pub mod delta;
pub mod filter;
pub mod hub;
pub mod limits;
pub mod ports;
pub mod rules;
pub mod session;
pub mod stream;
