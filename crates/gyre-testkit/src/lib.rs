//! Test client, port suites and transcripts for Gyre
//!
//! * [`suites`]: what every engine must do, run against each of them.

pub mod suites;
