//! What tests of several crates share. Used from `tests/` folders only.
//!
//! * [`suites`]: what every engine must do, run against each of them.

pub mod suites;
