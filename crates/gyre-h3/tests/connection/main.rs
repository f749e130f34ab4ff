//! A connection driven by a scripted peer: what it answers to good and bad input.
#![expect(clippy::disallowed_methods, reason = "a test is where time comes from")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unused_must_use, reason = "only some tests look at whether reading goes on")]

mod capsules;
mod closing;
mod control;
mod early;
mod peer;
mod properties;
mod requests;
mod sessions;
